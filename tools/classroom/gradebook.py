"""Points from nbgrader's gradebook, for the class's page. It is only read: from a copy,
since nbgrader's own code writes into what it opens. grades.py writes."""

import contextlib
import math
import re
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from tools.classroom.folder import GRADEBOOK

LARGEST = 1_000_000_000  # bytes
Points = dict[tuple[str, str], tuple[float, float]]  # learner, lesson: points, of most


class GradebookError(Exception):
    """The gradebook cannot be read; the message says why."""


def points(path: Path, lessons: list[str]) -> Points:
    """What each learner has of each lesson's points. An assignment belongs to the
    lesson whose number its name begins with: `03_weight_pruning`, `03-further`.

    Raises:
        GradebookError: it is no gradebook, or is damaged.
    """
    found: Points = {}
    with _copied(path) as copy:
        for assignment, learner, score, most in _submissions(copy):
            lesson = lesson_of(assignment, lessons)
            if lesson and math.isfinite(score) and math.isfinite(most) and most > 0:
                before = found.get((learner, lesson), (0.0, 0.0))
                found[learner, lesson] = before[0] + score, before[1] + most
    return found


def lesson_of(assignment: str, lessons: list[str]) -> str:
    """The lesson of an assignment; empty when it is none's.

    >>> lesson_of("03-further", ["02_scores", "03_weight_pruning"])
    '03_weight_pruning'
    """
    number = re.match(r"\d\d(?!\d)", assignment)
    same = [name for name in lessons if number and name.startswith(number[0])]
    return same[0] if same else ""


@contextlib.contextmanager
def _copied(path: Path) -> Iterator[Path]:
    """A copy of the database as it is at this moment; it is only read."""
    if path.stat().st_size > LARGEST:
        raise GradebookError(f"it is larger than {LARGEST:,} bytes")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / GRADEBOOK
        try:
            with (
                contextlib.closing(
                    sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
                ) as original,
                contextlib.closing(sqlite3.connect(copy)) as target,
            ):
                original.backup(target)
                target.execute("select * from submitted_assignment limit 1")
        except sqlite3.Error as error:
            raise GradebookError(str(error)) from None
        yield copy


def _submissions(copy: Path) -> list[tuple[str, str, float, float]]:
    """(assignment, learner, points, most) of each submission."""
    # takes seconds to import, and is needed only where there is a gradebook
    from nbgrader.api import Gradebook
    from sqlalchemy.exc import SQLAlchemyError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nbgrader's own
        try:
            with Gradebook(f"sqlite:///{copy}") as book:
                return [
                    (
                        str(each.name),
                        str(one.student_id),
                        _number(one.score),
                        _number(one.max_score),
                    )
                    for each in book.assignments
                    for one in book.assignment_submissions(each.name)
                ]
        except (SQLAlchemyError, TypeError) as error:
            first = str(error).partition("\n")[0]
            raise GradebookError(first) from None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
