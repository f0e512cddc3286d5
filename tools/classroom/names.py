"""Who is called what on the page: `names.csv` in the folder of the class, which the
teacher edits."""

import csv
import io
import random
import secrets
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from tools.start.files import StartError
from utils.files import (
    DamagedFileError,
    MissingFileError,
    read_regular,
    write_atomically,
)

FILE = "names.csv"
HEAD = ["learner", "pseudonym"]
LARGEST = 1_000_000  # bytes
LONGEST = 40  # letters of a pseudonym
# trees: none is a judgement, or somebody's name
TREES = (
    "Acacia Alder Apple Ash Aspen Baobab Beech Birch Boxwood Cacao Cedar Cherry "
    "Chestnut Coconut Cork Cypress Dogwood Ebony Elder Elm Eucalyptus Fig Fir "
    "Ginkgo Hawthorn Hickory Holly Hornbeam Juniper Larch Lemon Lime Magnolia "
    "Mahogany Mango Maple Mulberry Oak Palm Papaya Pear Pine Plane Plum Poplar "
    "Quince Rosewood Rowan Sandalwood Sequoia Spruce Sycamore Teak Walnut Willow "
    "Yew"
)


def read(folder: Path) -> dict[str, str] | None:
    """Each learner's pseudonym, empty where the teacher left it empty; None where there
    is no file yet.

    Raises:
        StartError: the file is not what it must be; says in which line.
    """
    path = folder / FILE
    repair = "put it right, or delete it and new ones are drawn."
    try:
        text = read_regular(path, repair, LARGEST).decode("utf-8-sig")
    except MissingFileError:
        return None
    except DamagedFileError as error:
        raise StartError(str(error)) from None
    except UnicodeDecodeError:
        raise StartError(f"{path} is not UTF-8: save it as “CSV UTF-8”.") from None
    # some spreadsheets write semicolons
    mark = ";" if text.startswith(";".join(HEAD)) else ","
    try:
        lines = list(csv.reader(io.StringIO(text), delimiter=mark))
    except csv.Error as error:
        raise StartError(f"{path} is damaged ({error}): {repair}") from None
    return _checked(path, lines)


def _checked(path: Path, lines: list[list[str]]) -> dict[str, str]:
    """The pseudonyms in the lines of the file."""
    if not lines or [cell.strip() for cell in lines[0][:2]] != HEAD:
        raise StartError(f"{path}: its first line must be “{','.join(HEAD)}”.")
    names: dict[str, str] = {}
    for number, line in enumerate(lines[1:], 2):
        if not any(cell.strip() for cell in line):
            continue
        learner, pseudonym = (cell.strip() for cell in [*line, ""][:2])
        if learner in names:
            raise StartError(f"{path}, line {number}: {learner} stands there twice.")
        if pseudonym and pseudonym in names.values():
            raise StartError(f"{path}, line {number}: {pseudonym} is given twice.")
        if len(pseudonym) > LONGEST or not pseudonym.isprintable():
            raise StartError(
                f"{path}, line {number}: a pseudonym must be one line of at most"
                f" {LONGEST} letters."
            )
        names[learner] = pseudonym
    return names


def write(folder: Path, names: dict[str, str]) -> None:
    """Write the file.

    Raises:
        OSError: it cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEAD, *names.items()])
    write_atomically(folder / FILE, text.getvalue().encode())


def drawn(
    learners: Sequence[str],
    taken: Sequence[str] = (),
    lot: random.Random | None = None,
) -> dict[str, str]:
    """A tree for each learner, by lot, so that the order of the trees tells nothing of
    the names; none that is taken. With more learners than trees: “Oak 2”.

    >>> sorted(drawn(["anna", "bob"], taken=TREES.split()[2:]).values())
    ['Acacia', 'Alder']
    """
    lot = lot or secrets.SystemRandom()
    rounds = (
        [name for name in _trees(number) if name not in taken] for number in count(1)
    )
    free: list[str] = []
    while len(free) < len(learners):
        more = next(rounds)
        free += lot.sample(more, min(len(more), len(learners) - len(free)))
    lot.shuffle(free)
    return dict(zip(learners, free, strict=True))


def _trees(number: int) -> list[str]:
    return [tree if number == 1 else f"{tree} {number}" for tree in TREES.split()]


def of_class(folder: Path, learners: Sequence[str], *, more: bool) -> dict[str, str]:
    """The pseudonyms of a class. Written at the first run, for all; from then on the
    file is the teacher's, and learners without a line have none, unless `more` are
    asked for.

    Raises:
        StartError: the file is not what it must be.
        OSError: it cannot be written.
    """
    found = read(folder)
    names = found or {}
    new = [name for name in learners if name not in names]
    if new and (found is None or more):
        names = names | drawn(new, list(names.values()))
        write(folder, names)
    return names
