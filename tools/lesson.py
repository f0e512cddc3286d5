"""Lay out a lesson that is complete and green, to be written over:
`make lesson NAME=13_my_idea`.

It is tools/template, which is lesson 99_my_idea, in the name of the new one.
"""

import argparse
import re
import sys

from tools import drawings, notebooks, syllabus
from tools.notebooks import LESSONS, ROOT
from utils.files import write_atomically

TEMPLATE = ROOT / "tools" / "template"
NAME = re.compile(r"\d\d(_[a-z0-9]+)+")  # of a lesson's folder


def name_problem(name: str, taken: list[str]) -> str:
    """Why no lesson can be laid out under this name, beside those there are; empty when
    it can."""
    if not NAME.fullmatch(name):
        return (
            f"{name!r} is no name for a lesson: two digits, then words in small"
            " letters, as in 13_my_idea."
        )
    if name in taken:
        return f"lessons/{name} is there already: edit it, or take another name."
    for other in taken:
        if other[:2] == name[:2]:
            free = next(n for n in range(100) if all(f"{n:02}" != t[:2] for t in taken))
            return f"{name[:2]} is taken by {other}: take a free number, as {free:02}."
    return ""


def lay_out(name: str) -> None:
    """Write the folder of a new lesson, and list it in the tables.

    Raises:
        ValueError: a name that will not do; nothing is written then.
    """
    if problem := name_problem(name, notebooks.lessons()):
        raise ValueError(problem)
    for path in sorted(TEMPLATE.glob("*.*")):
        text = in_its_name(path.read_text(encoding="utf-8"), name)
        write_atomically(LESSONS / name / path.name, text.encode())
    drawings.write(LESSONS / name)
    syllabus.write(ROOT)


def in_its_name(text: str, name: str) -> str:
    """A file of the template for a lesson of this name."""
    number, _, words = name.partition("_")
    title = words.replace("_", " ").capitalize()
    text = text.replace("99", number).replace(f"{number}_my_idea", name)
    return text.replace("My idea", title)


def main() -> int:
    """Lay out the lesson that the command line names."""
    parser = argparse.ArgumentParser(
        prog="make lesson", usage="make lesson NAME=13_my_idea", description=__doc__
    )
    parser.add_argument("name", help="of its folder: 13_my_idea")
    name = parser.parse_args().name
    try:
        lay_out(name)
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 1
    print(
        f"lessons/{name} is laid out: write over what it says, then run"
        f" make check-lesson NAME={name}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
