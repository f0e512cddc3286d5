"""What a lesson says of itself, `lesson.toml`, and what is made of it: the tables of
README.md and lessons/README.md, and the head of each notebook.

Nothing lists the lessons: they are the folders `lessons/NN_name`. `make notebooks` and
`make lesson` write the tables anew.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.files import write_atomically

HOURS = {  # that a lesson may take, in words
    0.2: "ten minutes",
    0.5: "half an hour",
    1: "one hour",
    1.5: "an hour and a half",
    2: "two hours",
    2.5: "two hours and a half",
    3: "three hours",
}
KINDS = {"title": str, "question": str, "hours": (int, float), "needs": list}
LAB_BUDGET, CELL_BUDGET = 90, 30  # seconds on two cores
TIMES = {"lab": "times.json", "further": "times_further.json"}
HEAD = """\
**The question:** {question}

- **Time:** {time}. The cells run in less than a minute and a half on two processor \
cores.
- **Needs:** {needs}.
- **Page:** `lessons/{name}/README.md` (double-click it in the file browser on the \
left) has the idea in pictures."""
FURTHER_HEAD = """\
This goes on from [lab {number}]({name}.ipynb), for a second sitting: what did not fit \
into its one idea. Nothing later needs it."""


@dataclass(frozen=True)
class Lesson:
    """The facts of one lesson.

    name: of its folder.  title, question: one line each.  hours: for a learner, with
    the page and the quiz.  needs: numbers of the lessons before it.  seconds: of each
    code cell, when the notebook was last built; empty before.  further: the same of its
    second notebook.  points: by exercise, where an assignment gives others than usual.
    """

    name: str
    title: str
    question: str
    hours: float
    needs: tuple[int, ...]
    seconds: tuple[float, ...] = ()
    further: tuple[float, ...] = ()
    points: Mapping[str, float] = field(default_factory=dict)

    @property
    def number(self) -> str:
        """Two digits: `"07"`."""
        return self.name[:2]

    @property
    def heading(self) -> str:
        """What its page and its lab begin with."""
        return f"# {self.number} {self.title}"

    @property
    def time(self) -> str:
        """The hours in words."""
        return HOURS[self.hours]

    def needed(self) -> list[str]:
        """The numbers of the lessons it needs, two digits each."""
        return [f"{number:02}" for number in self.needs]


def folders(lessons: Path) -> list[Path]:
    """The folders of the lessons, in order."""
    return sorted(path for path in lessons.glob("[0-9]*") if path.is_dir())


def read(folder: Path) -> Lesson:
    """The facts of the lesson in a folder.

    Raises:
        ValueError: lesson.toml is missing, or something in it makes no sense; says
            which file, and what would be right.
    """
    path = folder / "lesson.toml"
    if not path.is_file():
        raise ValueError(f"{path} is missing: it says {', '.join(KINDS)}.")
    facts = tomllib.loads(path.read_text(encoding="utf-8"))
    problem = what_is_wrong(facts, int(folder.name[:2]))
    if problem:
        raise ValueError(f"{path}: {problem}.")
    lab, further = (read_times(folder / name) for name in TIMES.values())
    needs = tuple(facts.pop("needs"))
    return Lesson(folder.name, needs=needs, seconds=lab, further=further, **facts)


def read_times(path: Path) -> tuple[float, ...]:
    """The seconds of each code cell; none where the notebook was never built."""
    return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else ()


def what_is_wrong(facts: dict, number: int) -> str:
    """Half a sentence about the facts of lesson `number`; empty when they are right."""
    if set(facts) - {"points"} != set(KINDS):
        return f"it has {', '.join(facts) or 'nothing'}; it must say {', '.join(KINDS)}"
    for key, kind in KINDS.items():
        if not isinstance(facts[key], kind):
            return f"{key} = {facts[key]!r} is of the wrong type"
    for key in ("title", "question"):
        if not facts[key].strip() or set(facts[key]) & {"\n", "|"}:
            return f"{key} = {facts[key]!r} must be one line of text without |"
    if facts["hours"] not in HOURS:
        return f"hours = {facts['hours']!r} must be one of {', '.join(map(str, HOURS))}"
    points = facts.get("points", {})
    if not isinstance(points, dict) or not all(
        isinstance(value, (int, float)) and 0 < value <= 100
        for value in points.values()
    ):
        return f"points = {points!r} must be numbers above 0, at most 100, by exercise"
    if not set(facts["needs"]) <= set(range(number)):
        return f"needs = {facts['needs']!r} must be numbers of earlier lessons"
    return ""


def read_all(lessons: Path) -> list[Lesson]:
    """The facts of all lessons, in order."""
    return [read(folder) for folder in folders(lessons)]


# ------------------------------------------------------------------------- what is made


def head(lesson: Lesson) -> str:
    """Markdown below the heading of a lab: the question, the time, what is needed."""
    needs = " and ".join(lesson.needed()).replace(" and ", ", ", len(lesson.needs) - 2)
    return HEAD.format(
        question=lesson.question,
        time=lesson.time,
        needs=needs or "nothing",
        name=lesson.name,
    )


def further_head(lesson: Lesson) -> str:
    """Markdown below the heading of a second notebook."""
    return FURTHER_HEAD.format(number=lesson.number, name=lesson.name)


def table(*rows: Sequence[str]) -> list[str]:
    """Lines of a Markdown table; the first row is its head."""
    first, *others = ["| " + " | ".join(row) + " |" for row in rows]
    return [first, "|---" * len(rows[0]) + "|", *others]


def table_of_lessons(lessons: list[Lesson], pages: str) -> list[str]:
    """For the front page. pages: where the folders are, seen from there."""
    rows = ([*cells(lesson, pages), in_seconds(lesson.seconds)] for lesson in lessons)
    return table([*CELLS, "cells run in"], *rows)


def table_of_needs(lessons: list[Lesson], pages: str) -> list[str]:
    """The syllabus."""
    rows = ([*cells(one, pages), ", ".join(one.needed()) or "-"] for one in lessons)
    return table([*CELLS, "needs"], *rows)


CELLS = ("", "lesson", "the question it answers", "hours")


def cells(lesson: Lesson, pages: str) -> list[str]:
    """What both tables say of a lesson, under `CELLS`."""
    link = f"[{lesson.title}]({pages}{lesson.name}/README.md)"
    return [lesson.number, link, lesson.question, f"{lesson.hours:g}"]


def table_of_times(lessons: list[Lesson]) -> list[str]:
    """How long the cells of each lab ran."""
    names = ["lab", "code cells", "whole lab", "slowest cell"]
    rows = []
    for lesson in lessons:
        rows.append(times(lesson.name, lesson.seconds))
        if lesson.further:
            rows.append(times(f"{lesson.name}, going further", lesson.further))
    return table(names, *rows)


def times(name: str, seconds: tuple[float, ...]) -> list[str]:
    """A row of the table of times; dashes for a lab that was never built."""
    slowest = seconds and (max(seconds),)
    return [name, str(len(seconds) or "-"), in_seconds(seconds), in_seconds(slowest)]


def in_seconds(seconds: tuple[float, ...]) -> str:
    """Their sum, `12 s`; a dash when there are none."""
    return f"{sum(seconds):.0f} s" if seconds else "-"


# ---------------------------------------------------------------------------- the pages


def filled(page: str, name: str, rows: list[str]) -> str:
    """The text of a page with the rows between the markers of a table.

    Raises:
        ValueError: the page has no such markers.
    """
    begin = f"<!-- {name}: written by `make notebooks` -->"
    end = f"<!-- end of {name} -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"A page must have {begin} and {end} once, around its table.")
    before, rest = page.split(begin)
    return "\n\n".join([before + begin, "\n".join(rows), end + rest.split(end)[1]])


def pages(root: Path) -> dict[Path, str]:
    """What the two pages with tables must hold, from the folders of the lessons."""
    lessons = read_all(root / "lessons")
    front, syllabus = root / "README.md", root / "lessons" / "README.md"
    text = syllabus.read_text(encoding="utf-8")
    text = filled(text, "syllabus", table_of_needs(lessons, ""))
    return {
        front: filled(
            front.read_text(encoding="utf-8"),
            "lessons",
            table_of_lessons(lessons, "lessons/"),
        ),
        syllabus: filled(text, "times", table_of_times(lessons)),
    }


def write(root: Path) -> None:
    """Write the tables of both pages anew, where they changed."""
    for path, text in pages(root).items():
        if path.read_text(encoding="utf-8") != text:
            write_atomically(path, text.encode())
