"""How often the test set was opened, and what came of it: a file beside the learner's
notebook."""

import json
from itertools import count
from pathlib import Path

from filelock import BaseFileLock, FileLock

from utils.files import write_atomically

SCORES = Path("my_capstone") / "scores.json"  # beside the learner's notebook


LARGEST = 10_000_000  # bytes of scores that are read
PATIENCE = 60  # seconds to wait for another process that keeps a score


def rehearse(kept: Path) -> None:
    """Write as much as a score needs, and take it away again: what is found out must
    not be lost afterwards.

    Raises:
        ValueError: the scores cannot be kept there.
    """
    trial = kept.with_name(f".{kept.name}.trial")
    try:
        with _alone(kept):
            entries = [*_history(kept), {"trial": "x" * 1000}]
            try:
                write_atomically(trial, _as_bytes(entries))
            finally:
                trial.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"kept={str(kept)!r} cannot be written ({error.strerror or error}); it must"
            f" be a file in a folder of yours, such as {str(SCORES)!r}."
        ) from error


def keep(kept: Path, entry: dict) -> int:
    """Add an entry to the file of scores; how many it then has.

    One process at a time: the lock is the system's, and goes with who held it. Its
    file, hidden beside the scores, stays.

    Raises:
        OSError: it cannot be written.
    """
    with _alone(kept):
        history = [*_history(kept), entry]
        write_atomically(kept, _as_bytes(history))
    return len(history)


def _alone(kept: Path) -> BaseFileLock:
    kept.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(kept.with_name(f".{kept.name}.lock"), timeout=PATIENCE)


def _as_bytes(history: list[dict]) -> bytes:
    return (json.dumps(history, indent=1) + "\n").encode()


def _history(kept: Path) -> list[dict]:
    """Earlier scores; a damaged file of them is laid aside under a free name, not
    overwritten. So is one too large to be scores."""
    if not kept.is_file():
        return []
    try:
        if kept.stat().st_size > LARGEST:
            raise ValueError("too large")
        return [dict(entry) for entry in json.loads(kept.read_text("utf-8"))]
    # brackets within brackets, thousands deep, are a RecursionError
    except (ValueError, TypeError, RecursionError):
        names = (kept.with_suffix(f".damaged{number or ''}") for number in count())
        kept.replace(next(name for name in names if not name.exists()))
        return []
