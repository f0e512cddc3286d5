"""The teacher's folder, which is nbgrader's course folder: source/, release/,
submitted/, autograded/, feedback/, gradebook.db, nbgrader_config.py."""

import argparse
import os
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.start.files import ROOT, StartError
from utils.files import folder_named, read_regular, write_atomically

# as systems of schools name them, but for commas: nbgrader's export does not quote them
LEARNER = re.compile(r"[^\W_][\w .@'()+-]{0,79}")
GRADEBOOK = "gradebook.db"
ENDING = "_assignment"  # of the name of an assignment's notebook
CONFIG = '''\
"""nbgrader's settings for this class; it is the teacher's from here on."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "pruning"
c.ClearSolutions.code_stub = {"python": "..."}
'''


@dataclass(frozen=True)
class ClassFolder:
    """Where a class is kept."""

    path: Path

    @property
    def gradebook(self) -> Path:
        """nbgrader's gradebook."""
        return self.path / GRADEBOOK

    @property
    def submitted(self) -> Path:
        """What learners handed in: submitted/<learner>/<lesson>/."""
        return self.path / "submitted"

    def seed(self) -> str:
        """What the numbers of the hidden tests are drawn from; made once, and kept
        from learners."""
        kept = self.path / "hidden_seed.txt"
        if not kept.exists():
            write_atomically(kept, f"{secrets.token_hex(8)}\n".encode())
            kept.chmod(0o600)
        return read_regular(kept, "fetch it from a copy.", 1000).decode().strip()

    def lay_config(self) -> None:
        """Write nbgrader's settings, where there are none."""
        config = self.path / "nbgrader_config.py"
        if not config.exists():
            write_atomically(config, CONFIG.encode())


def notebook_name(lesson: str) -> str:
    """The name of an assignment's notebook, without `.ipynb`."""
    return lesson + ENDING


def is_learner(name: str) -> bool:
    """Whether a folder's name can be a learner's.

    >>> is_learner("Anna Berg (12)"), is_learner("Berg, Anna"), is_learner("a/b")
    (True, False, False)
    """
    return LEARNER.fullmatch(name) is not None


def add_folder_option(parser: argparse.ArgumentParser) -> None:
    """`--folder`, which every command of a class takes."""
    parser.add_argument(
        "--folder",
        default=os.environ.get("CLASS") or str(ROOT / "class"),
        help="the class's folder (also: CLASS); default: class/ of the course",
    )


def chosen_folder(options: argparse.Namespace) -> ClassFolder:
    """The folder that was asked for; nothing need be there yet.

    Raises:
        StartError: there can be none.
    """
    try:
        return ClassFolder(folder_named("--folder", options.folder))
    except ValueError as error:
        raise StartError(str(error)) from None


def chosen_lessons(wanted: list[str], known: list[str]) -> list[str]:
    """The lessons that were asked for; all by default.

    Raises:
        StartError: there is no such lesson.
    """
    if unknown := [name for name in wanted if name not in known]:
        raise StartError(
            f"no lesson {', '.join(unknown)} with exercises. Lessons:"
            f" {', '.join(known)}."
        )
    return wanted or known


def find_own_programs() -> None:
    """Have this environment's programs found: nbgrader calls one by its name."""
    own = str(Path(sys.executable).parent)
    others = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if own not in others:
        os.environ["PATH"] = os.pathsep.join([own, *others])
