"""The files of a class, read: each learner's record, guesses and scores.

They come from learners: data with limits, and nothing else. A link is not followed, and
what is no sound file is named and left out.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tools.classroom import walk
from tools.classroom.folder import is_learner
from tools.start.files import StartError
from utils import guesses, record
from utils.capstone import openings
from utils.files import DamagedFileError, read_json

MOST_LEARNERS = 1000
MOST_FILES = 60  # of one learner and one kind that are read
MOST_NAMES = 1000  # claims, questions ... of one kind in one lesson
NEVER = 0.0
Found = TypeVar("Found")


@dataclass(frozen=True)
class Skipped:
    """A file or a folder that is not on the page: whose, where below the folder of the
    class, and why."""

    learner: str  # empty: nobody's
    path: str
    why: str


@dataclass(frozen=True)
class Learner:
    """What the files of one learner hold, several put together.

    scores: entries of the capstone's file.  changed: when the newest of the files was
    written, as the disk says, in seconds since 1970; 0 when there is none.
    """

    name: str
    kept: dict[str, record.Lesson] = field(default_factory=dict)
    guesses: dict[str, dict] = field(default_factory=dict)
    scores: list[dict] = field(default_factory=list)
    changed: float = NEVER


def read_class(folder: Path) -> tuple[list[Learner], list[Skipped]]:
    """All learners of a folder with one folder for each, by name; and what was skipped.

    Raises:
        StartError: the folder is missing or cannot be read.
    """
    learners, skipped = [], []
    for entry in _listed(folder):
        problem = _no_learner(entry)
        if problem:
            skipped.append(Skipped("", shown(entry.name), problem))
        else:
            learner, left_out = read_learner(Path(entry.path))
            learners.append(learner)
            skipped += left_out
    return learners, skipped


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """The folders of the class, in order; not what is hidden, and no files."""
    try:
        with os.scandir(folder) as entries:
            seen = list(islice(entries, MOST_LEARNERS + 1))
    except OSError as error:
        raise StartError(
            f"{folder} cannot be read ({error.strerror}): it must be a folder with one"
            " folder for each learner."
        ) from None
    if len(seen) > MOST_LEARNERS:
        raise StartError(
            f"{folder} holds more than {MOST_LEARNERS} entries: name the folder of one"
            " class."
        )
    folders = [one for one in seen if one.is_symlink() or one.is_dir()]
    shown_ones = [one for one in folders if not one.name.startswith(".")]
    return sorted(shown_ones, key=lambda entry: entry.name)


def _no_learner(entry: os.DirEntry[str]) -> str:
    """Why a folder is not taken for a learner's; empty when it is."""
    if entry.is_symlink():
        return "it is a link, and links are not followed"
    if not is_learner(entry.name):
        return "no learner's name: up to 80 letters, digits, spaces or .@'()+-"
    return ""


def shown(text: str) -> str:
    """A name from the disk as one short line that any file can hold."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    return line if len(line) <= 120 else f"{line[:120]}..."


# ------------------------------------------------------------------------- one learner


def read_learner(folder: Path) -> tuple[Learner, list[Skipped]]:
    """What the files in a learner's folder hold, and which of them were skipped."""
    whose = _Reader(folder)
    records = whose.read(Path(record.FILE).name, _record)
    guessed = whose.read(Path(guesses.FILE).name, guesses.read)
    scores = whose.read(openings.SCORES.name, _scores)
    learner = Learner(
        folder.name,
        record.merged(records),
        guesses.merged(guessed),
        _distinct(scores),
        whose.changed,
    )
    return learner, whose.skipped


class _Reader:
    """The files of one learner: found once, read by kind."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.changed = folder, NEVER
        self.skipped: list[Skipped] = []
        self.found: dict[str, list[os.DirEntry[str]]] = {}
        for entry in walk.entries(folder, self._skip):
            self.found.setdefault(entry.name, []).append(entry)

    def read(self, name: str, one: Callable[[str], Found]) -> list[Found]:
        """What the files of that name hold, the oldest first."""
        entries = self.found.get(name, [])
        if name == openings.SCORES.name:
            beside = openings.SCORES.parent.name
            entries = [
                each for each in entries if Path(each.path).parent.name == beside
            ]
        for entry in entries[MOST_FILES:]:
            self._skip(entry.path, f"more than {MOST_FILES} files of this name")
        dated = []
        for entry in entries[:MOST_FILES]:
            try:
                if entry.is_symlink() or not entry.is_file(follow_symlinks=False):
                    raise DamagedFileError("it is a link or no plain file")
                when = entry.stat(follow_symlinks=False).st_mtime
                dated.append((when, one(entry.path)))
                self.changed = max(self.changed, when)
            except (DamagedFileError, OSError) as error:
                self._skip(entry.path, reason(error, entry.path))
        return [content for _, content in sorted(dated, key=lambda pair: pair[0])]

    def _skip(self, path: str, why: str) -> None:
        place = shown(str(Path(path).relative_to(self.folder.parent)))
        self.skipped.append(Skipped(self.folder.name, place, why))


def reason(error: Exception, path: str) -> str:
    """Why a file was skipped, without its path and the repair."""
    said = str(error).partition(" Repair:")[0].removeprefix(f"{path} ")
    return shown(said.rstrip("."))


def _record(path: str) -> dict[str, record.Lesson]:
    """As `record.read`, and of a size that a course can have."""
    found = record.read(path)
    for kinds in found.values():
        for kind, named in kinds.items():
            if len(named) > MOST_NAMES:
                raise DamagedFileError(f"it holds more than {MOST_NAMES} {kind}")
    return found


def _scores(path: str) -> list[dict]:
    """The entries of a file of the capstone's scores."""
    found = read_json(path, "delete it.", openings.LARGEST)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DamagedFileError("it is no list of scores")
    if len(found) > MOST_NAMES:
        raise DamagedFileError(f"it holds more than {MOST_NAMES} scores")
    return found


def _distinct(files: list[list[dict]]) -> list[dict]:
    """The entries of several files of one learner, each once: a file that was handed in
    twice counts once."""
    entries: list[Any] = []
    seen = set()
    for entry in (entry for file in files for entry in file):
        if (key := repr(sorted(entry.items(), key=repr))) not in seen:
            seen.add(key)
            entries.append(entry)
    return entries
