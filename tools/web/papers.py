"""The bibliography: the papers that the lessons' pages end with, and those that only
the package cites (site/papers.txt), each with where it is used."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.syllabus import folders

PAPER = re.compile(r"(?P<names>[^(]+?)\s*\((?P<year>\d{4})\)\. (?P<title>[^.?*]+)")


@dataclass(frozen=True)
class Paper:
    """line: as it is printed.  first: the first author's surname.  year: four digits.
    key: by which two lines about the same paper are known."""

    line: str
    first: str
    year: str
    key: str


def sources(page: str) -> list[str]:
    """The lines below the rule at the end of a lesson's page, each in one piece.

    >>> sources("text\\n\\n---\\nOne, A. (2001). A\\nb. *C*.\\nTwo, B. (2002). D. *E*.")
    ['One, A. (2001). A b. *C*.', 'Two, B. (2002). D. *E*.']
    """
    _, rule, tail = page.partition("\n---\n")
    lines: list[str] = []
    for line in tail.strip().splitlines() if rule else []:
        begins = PAPER.match(line) or re.match(r"[A-Z]\w+( \w+)?: ", line)
        if begins or not lines:
            lines.append(line.strip())
        else:
            lines[-1] += " " + line.strip()
    return lines


def paper(line: str) -> Paper | None:
    """What a line is about; None where it is no paper (a page of a manual)."""
    found = PAPER.match(line)
    if not found:
        return None
    first = found["names"].split(",")[0]
    title = re.sub(r"\W+", " ", found["title"]).strip().lower()
    return Paper(line, first, found["year"], f"{first} {found['year']} {title[:24]}")


def cites(text: str, cited: Paper) -> bool:
    """Whether a text names a paper by its first author and its year."""
    pattern = rf"\b{re.escape(cited.first)}\b(?:(?!\d{{4}})[^.;]|et al\.){{0,40}}"
    return bool(re.search(pattern + cited.year, " ".join(text.split())))


def lessons_of(cited: Paper, lessons: Path) -> Iterator[Path]:
    """The lessons that name a paper, on their page or in their labs."""
    for folder in folders(lessons):
        texts = [*folder.glob("*.py"), *folder.glob("*.md")]
        own = (paper(line) for line in sources(_read(folder / "README.md")))
        same = any(each and each.key == cited.key for each in own)
        if same or any(cites(_read(path), cited) for path in texts):
            yield folder


def entries(root: Path) -> Iterator[str]:
    """Markdown: a list item for each paper."""
    known: dict[str, Paper] = {}
    lines = _read(root / "site" / "papers.txt").splitlines()[1:]
    for folder in folders(root / "lessons"):
        lines += sources(_read(folder / "README.md"))
    for line in lines:
        one = paper(line)
        if one and len(line) >= len(known.get(one.key, one).line):
            known[one.key] = one
    for one in sorted(known.values(), key=lambda each: (each.first.lower(), each.year)):
        links = [
            f"[{folder.name[:2]}](lessons/{folder.name}/index.md)"
            for folder in lessons_of(one, root / "lessons")
        ]
        modules = [
            f"`{path.relative_to(root).as_posix()}`"
            for path in sorted((root / "utils").rglob("*.py"))
            if cites(_read(path), one)
        ]
        where = ", ".join([f"lesson {' '.join(links)}"] * bool(links) + modules)
        yield f"- {one.line} ({where})" if where else f"- {one.line}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
