"""The pages that are read: lessons, notebooks, syllabus, glossary, bibliography.

They are laid into a temporary folder, as they lie in the repository, and Sphinx builds
them there; a warning is an error. Of a lesson's page the part below `SECOND` stands
behind the guesses of its lab, and the quiz follows it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tools import syllabus
from tools.notebooks import FURTHER, labs
from tools.prose import MARKER
from tools.web import ROOT, asked, live, papers
from tools.web.lighter import lighten

SITE = ROOT / "site"
LESSONS = ROOT / "lessons"
SECOND = "## What you will have found"
RULE = "\n---\n"
PAGE_LINE = re.compile(r"- \*\*Page:\*\* `lessons/[^`]*`[^\n]*(\n(?!\n|-)[^\n]*)*")
PANEL = "figures/explorer.png"
RAW = "```{raw} html\n%s\n```"
TOO_SLOW = 900  # seconds


def write(folder: Path) -> None:
    """Build the pages into a folder."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "source")
        lay(source)
        run_sphinx(source, folder, Path(name, "doctrees"))
    (folder / ".buildinfo").unlink(missing_ok=True)
    lighten(folder)


def run_sphinx(source: Path, folder: Path, doctrees: Path) -> None:
    """Build the pages of a folder into another.

    Raises:
        ValueError: Sphinx found something to warn of; it has said what.
    """
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"]
    command += ["-b", "html", "-c", str(SITE), "-d", str(doctrees)]
    command += ["-D", f"course_writes={int(bool(find_spec('tools.web.write')))}"]
    env = os.environ | {"COURSE_SITE": str(SITE), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(source), str(folder)], env=env, timeout=TOO_SLOW
    )
    if done.returncode:
        raise ValueError("Sphinx warns of the pages: see above.")


# ---------------------------------------------------------------------- laying them out


def lay(source: Path) -> None:
    """Lay all pages, with what they show, into a folder."""
    source.mkdir(parents=True)
    lessons = syllabus.read_all(LESSONS)
    for lesson in lessons:
        lay_lesson(lesson, source)
    text = (LESSONS / "README.md").read_text(encoding="utf-8")
    (source / "lessons" / "index.md").write_text(linked(text), encoding="utf-8")
    for name, fill in (
        ("course", {"lessons": lesson_list(lessons), "toctree": contents(lessons)}),
        ("teachers", {"lessons": teacher_list(lessons)}),
        ("bibliography", {"entries": "\n".join(papers.entries(ROOT))}),
        ("glossary", {}),
    ):
        text = (SITE / f"{name}.md").read_text(encoding="utf-8")
        for mark, content in fill.items():
            text = text.replace(f"<!-- {mark} -->", content)
        (source / f"{name}.md").write_text(text, encoding="utf-8")


def lay_lesson(lesson: syllabus.Lesson, source: Path) -> None:
    """Lay a lesson's page, its figures, its notebooks and its teacher's page."""
    home, folder = LESSONS / lesson.name, source / "lessons" / lesson.name
    folder.mkdir(parents=True)
    shutil.copytree(home / "figures", folder / "figures")
    page = lesson_page(lesson, (home / "README.md").read_text(encoding="utf-8"))
    (folder / "index.md").write_text(page, encoding="utf-8")
    text = linked((home / "teaching.md").read_text(encoding="utf-8"))
    back = f"The lesson: [{lesson.number} {lesson.title}](index.md)."
    (folder / "teaching.md").write_text(below_heading(text, back), encoding="utf-8")
    (source / "notebooks").mkdir(exist_ok=True)
    for lab in labs(lesson.name):
        path = ROOT / "notebooks" / f"{lab}.ipynb"
        text = notebook(path.read_text(encoding="utf-8"), lesson)
        (source / "notebooks" / path.name).write_text(text, encoding="utf-8")


def linked(text: str) -> str:
    """A page whose links to other pages lead to where they are on the site; the markers
    of `tools.prose` are taken out."""
    text = text.replace("|  | lesson |", "| number | lesson |")  # a head for a reader
    return re.sub(r"\bREADME\.md(?=[)#])", "index.md", MARKER.sub("", text))


def below_heading(page: str, text: str) -> str:
    """A page with a paragraph below its heading."""
    heading, _, rest = page.partition("\n")
    return f"{heading}\n\n{text}\n{rest}"


def lesson_page(lesson: syllabus.Lesson, text: str) -> str:
    """The page of a lesson: its first part, the guesses, its second part, the quiz, the
    sources.

    Raises:
        ValueError: it has no second part, or two.
    """
    if text.count(f"\n{SECOND}\n") != 1:
        raise ValueError(f"lessons/{lesson.name}/README.md must say {SECOND!r} once.")
    first, second = linked(text).split(f"\n{SECOND}\n")
    second, rule, tail = second.partition(RULE)
    second = with_live(second, lesson.name)
    parts = [first, SECOND, RAW % asked.gate(lesson.name), second]
    parts.append("## Quiz\n\n" + RAW % asked.quiz(lesson.name))
    if rule:
        parts.append("## Sources\n\n" + "\n\n".join(papers.sources(rule + tail)))
    menu = [f"{title} <../../notebooks/{lab}>" for lab, title in titled(lesson)]
    menu.append("For the teacher <teaching>")
    return "\n\n".join([*parts, toctree("", menu), ""])


def with_live(text: str, lesson: str) -> str:
    """A page with a way to the live panel below the picture of one."""
    place = next(live.shown(lesson), "")
    picture = re.compile(rf"^!\[[^\]]*\]\({re.escape(PANEL)}\)$", re.MULTILINE)
    if not place:
        return text
    element = RAW % live.element(place, "../../")
    return picture.sub(lambda found: f"{found[0]}\n\n{element}", text)


def notebook(text: str, lesson: syllabus.Lesson) -> str:
    """A notebook whose first cell leads to the lesson's page."""
    content = json.loads(text)
    first = content["cells"][0]
    said = "".join(first["source"])
    link = (
        f"[{lesson.number} {lesson.title}](../lessons/{lesson.name}/index.md) has the"
        " idea in pictures.\n\nThis is the notebook as it ran when it was built, with"
        " all results. To guess before you see, start at the page, or run it yourself."
    )
    said, count = PAGE_LINE.subn(f"- **Page:** {link}", said)
    first["source"] = said if count else f"{said}\n\nThe lesson's page: {link}"
    return json.dumps(content)


# ---------------------------------------------------------------------- lists and menus


def toctree(caption: str, pages: list[str]) -> str:
    """A menu, which is shown at the side."""
    head = f":caption: {caption}\n" if caption else ""
    return "\n".join(["```{toctree}", f"{head}:hidden:", "", *pages, "```"])


def contents(lessons: list[syllabus.Lesson]) -> str:
    """The menus of the whole."""
    pages = [f"lessons/{lesson.name}/index" for lesson in lessons]
    rest = ["Syllabus <lessons/index>", "glossary", "bibliography", "teachers"]
    return toctree("Lessons", pages) + "\n\n" + toctree("To look up", rest)


def lesson_list(lessons: list[syllabus.Lesson]) -> str:
    """Each lesson with its question, and links to its page and its notebooks."""
    items = []
    for lesson in lessons:
        page = f"[{lesson.number} {lesson.title}](lessons/{lesson.name}/index.md)"
        runs = (f"[{title}](notebooks/{lab}.ipynb)" for lab, title in titled(lesson))
        items.append(f"{page}\n: {lesson.question} {lesson.time.capitalize()}.")
        items[-1] += f" {', '.join(runs)}."
    return "\n\n".join(items)


def titled(lesson: syllabus.Lesson) -> Iterator[tuple[str, str]]:
    """(name, what it is called in menus) of each notebook of a lesson."""
    for lab in labs(lesson.name):
        yield lab, "Going further" if lab.endswith(FURTHER) else "The lab"


def teacher_list(lessons: list[syllabus.Lesson]) -> str:
    """A link to each teacher's page."""
    return "\n".join(
        f"- [{lesson.number} {lesson.title}](lessons/{lesson.name}/teaching.md)"
        for lesson in lessons
    )
