"""Take in what learners hand in: `make collect ARGS="FOLDER"`, where FOLDER has a
folder for each learner: their workspaces on a hub, or what they sent.

Taken are the notebooks of the labs and of the assignments, and the records that the
labs keep. Data only: nothing is run, no link is followed, and a file that is odd is
named and left where it is. What was handed in before is kept in replaced/.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.classroom import walk
from tools.classroom.assignments import with_exercises
from tools.classroom.folder import (
    ENDING,
    ClassFolder,
    add_folder_option,
    chosen_folder,
    is_learner,
)
from tools.running import run
from tools.start.files import StartError
from utils import guesses, record
from utils.capstone.openings import SCORES
from utils.files import DamagedFileError, parse_json, read_regular, write_atomically

LARGEST = {".ipynb": 20_000_000, ".json": 1_000_000}  # bytes
RECORDS = (record.FILE, guesses.FILE)
AGAIN = "ask the learner for it again."


@dataclass(frozen=True)
class Taken:
    """A file of a learner and where it goes, below submitted/<learner>/."""

    path: Path
    to: Path


def destinations() -> dict[str, str]:
    """The lesson of each notebook that is taken, by its file name."""
    return {
        f"{lesson}{ending}.ipynb": lesson
        for lesson in with_exercises()
        for ending in ("", "_further", ENDING)
    }


def wanted(folder: Path, problem: Callable[[str, str], None]) -> Iterator[Taken]:
    """What is taken of a learner's folder. No link is followed, nothing hidden taken.

    problem: is called with a path and what is wrong there.
    """
    notebooks = destinations()
    for entry in walk.entries(folder, problem):
        path = Path(entry.path)
        if entry.name in notebooks:
            yield Taken(path, Path(notebooks[entry.name], entry.name))
        elif entry.name in RECORDS:
            inside = path.parent.name
            lesson = inside if inside in notebooks.values() else ""
            yield Taken(path, Path(lesson, entry.name))
        elif path.parts[-2:] == SCORES.parts:
            yield Taken(path, SCORES)


def take(one: Taken, learner: str, folder: ClassFolder) -> str:
    """Copy a file; a line where there is something to say.

    Raises:
        DamagedFileError: it is no plain file, is too large, or holds no JSON.
    """
    target = folder.submitted / learner / one.to
    if one.path.is_symlink():
        raise DamagedFileError(f"{one.path} is a link, which is not followed.")
    content = read_regular(one.path, AGAIN, LARGEST[one.path.suffix])
    try:
        parse_json(content)
    except ValueError as error:
        raise DamagedFileError(f"{one.path} is damaged ({error}).") from None
    when = one.path.stat(follow_symlinks=False)
    said = ""
    if target.exists():
        if target.read_bytes() == content:
            return ""
        if target.stat().st_mtime_ns >= when.st_mtime_ns:
            return f"{learner}/{one.to}: what is there is newer, so it stays."
        aside = _put_aside(target, folder, Path(learner, one.to))
        said = f"{learner}/{one.to}: newer; the one before is {aside}."
    write_atomically(target, content)
    os.utime(target, ns=(when.st_atime_ns, when.st_mtime_ns))
    return said


def _put_aside(target: Path, folder: ClassFolder, name: Path) -> Path:
    """Move what was handed in before to replaced/; where it is now."""
    place = folder.path / "replaced" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while (free := place.with_name(f"{place.stem}.{number}{place.suffix}")).exists():
        number += 1
    return target.rename(free)


def collect(source: Path, folder: ClassFolder) -> tuple[int, list[str]]:
    """Take in all learners' files; how many files were looked at, and what is to be
    said."""
    taken, lines = 0, []

    def problem(path: str, why: str) -> None:
        lines.append(f"{path}: {why}.")

    for place in sorted(source.iterdir()):
        if place.is_symlink() or not place.is_dir() or not is_learner(place.name):
            if not place.name.startswith("."):
                lines.append(f"{place.name}: no learner's folder, left out.")
            continue
        for one in wanted(place, problem):
            try:
                said = take(one, place.name, folder)
                taken += 1
            except (DamagedFileError, OSError) as error:
                said = f"left out: {error}"
            lines += [said] if said else []
    return taken, lines


def command(arguments: list[str] | None = None) -> None:
    """What the command does."""
    parser = argparse.ArgumentParser(prog="make collect", description=__doc__)
    parser.add_argument("source", type=Path, help="a folder with one for each learner")
    add_folder_option(parser)
    options = parser.parse_args(arguments)
    if not options.source.is_dir():
        raise StartError(f"{options.source} is no folder: name the one with learners'.")
    folder = chosen_folder(options)
    taken, lines = collect(options.source, folder)
    for line in lines:
        print(line)
    print(f"{taken} files are in {folder.submitted}.")


if __name__ == "__main__":
    run(command)
