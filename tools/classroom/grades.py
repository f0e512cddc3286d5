"""Grades, written into nbgrader's own gradebook: its export, its formgrader go on with
them. gradebook.py reads."""

import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from nbgrader.api import Gradebook, MissingEntry

from tools.classroom.feedback import Graded
from tools.classroom.folder import find_own_programs, notebook_name
from tools.start.files import StartError


class Grades:
    """The gradebook of a class, open."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise StartError(
                f"{path} is missing: `make assignments` makes it, with what is asked."
            )
        find_own_programs()
        self.book: Any = Gradebook(f"sqlite:///{path}")

    def __enter__(self) -> "Grades":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.book.close()

    def keep(self, graded: Graded, when: datetime) -> None:
        """Enter the points of a submission, all or none; what a person has given by
        hand stays.

        Raises:
            StartError: the lesson's assignment is not the one that is graded.
        """
        book, lesson, learner = self.book, graded.lesson, graded.learner
        try:
            book.find_assignment(lesson)
            book.update_or_create_student(learner)
            with warnings.catch_warnings():  # SQLAlchemy's, of nbgrader's own code
                warnings.simplefilter("ignore")
                book.update_or_create_submission(lesson, learner, timestamp=str(when))
            for part in graded.parts:
                grade = book.find_grade(
                    f"test_{part['name']}", notebook_name(lesson), lesson, learner
                )
                grade.auto_score = part["points"]
                grade.needs_manual_grade = False
        except MissingEntry as error:
            book.db.rollback()
            raise StartError(
                f"the gradebook does not know {lesson} as it is now ({error}):"
                f" `make assignments ARGS={lesson}` enters it."
            ) from None
        book.db.commit()

    def scores(self, learners: Sequence[str], lesson: str) -> dict[str, float]:
        """The points of each learner, as the gradebook has them."""
        return {
            learner: self.book.find_submission(lesson, learner).score
            for learner in learners
        }
