"""What each Python of the course's environment does first, whoever starts it.

Installed as `pruning_course_startup.py`, with a .pth file that imports it; it stands
alone, since `utils` must not be imported yet.

1. Threads wait politely: torch's OpenMP reads this once, when it is loaded. Threads
   that spin while they wait make training several times slower as soon as the machine
   does anything else.
2. `utils` is the course's package, also beside a learner's own `utils.py`.
3. No check of the spelling of web addresses, which Jupyter does without: jsonschema
   would build its 38 grammars each time that a Jupyter server starts, which takes
   longer than anything else in that start.
"""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.modules["rfc3987_syntax"] = None  # pyright: ignore[reportArgumentType] - importing it fails


def nearby(folder: Path) -> bool:
    """Whether Python looks into a folder only because someone works there: it is the
    current one or the script's, and PYTHONPATH does not name it."""
    script = sys.argv[0] if sys.argv else ""
    asked = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if folder.resolve() in [Path(entry).resolve() for entry in asked if entry]:
        return False
    return folder.resolve() in (Path().resolve(), Path(script).resolve().parent)


def is_course(spec: importlib.machinery.ModuleSpec | None) -> bool:
    """Whether this is a copy of the course's package."""
    if spec is None or spec.origin is None:
        return False
    folder = Path(spec.origin).parent
    return all((folder / name).is_file() for name in ("__init__.py", "lab.py"))


class CourseFirst:
    """A finder that passes over a `utils` lying in the current folder, and says so."""

    @staticmethod
    def find_spec(name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """The course's `utils` where another one would be imported, else None: the
        usual finders go on."""
        if name != "utils":
            return None
        find = importlib.machinery.PathFinder.find_spec
        usual = find(name)
        if usual is None or usual.origin is None or is_course(usual):
            return None
        there = Path(usual.origin)
        if not nearby(
            there.parents[1] if there.name == "__init__.py" else there.parent
        ):
            return None
        ours = next(
            filter(is_course, (find(name, [entry]) for entry in sys.path)), None
        )
        if ours is None:
            return None
        print(
            f"{usual.origin} is not imported: `utils` is the course's package here, so"
            " give yours another name to use it.",
            file=sys.stderr,
        )
        return ours


sys.meta_path.insert(0, CourseFirst)  # pyright: ignore[reportArgumentType] - a class with a static method is a finder too
