"""How often the test set was opened, and what came of it: a file beside the learner's
notebook."""

import json
from pathlib import Path

from utils.files import (
    DamagedFileError,
    MissingFileError,
    alone,
    put_aside,
    read_json,
    write_atomically,
)

SCORES = Path("my_capstone") / "scores.json"  # beside the learner's notebook
LARGEST = 10_000_000  # bytes of scores that are read


def rehearse(kept: Path) -> None:
    """Write as much as a score needs, and take it away again: what is found out must
    not be lost afterwards.

    Raises:
        ValueError: the scores cannot be kept there.
    """
    trial = kept.with_name(f".{kept.name}.trial")
    try:
        with alone(kept):
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
    with alone(kept):
        history = [*_history(kept), entry]
        write_atomically(kept, _as_bytes(history))
    return len(history)


def _as_bytes(history: list[dict]) -> bytes:
    return (json.dumps(history, indent=1) + "\n").encode()


def _history(kept: Path) -> list[dict]:
    """Earlier scores; a damaged file of them is laid aside under a free name, not
    overwritten. So is one too large to be scores."""
    try:
        return [dict(entry) for entry in read_json(kept, "", LARGEST)]
    except MissingFileError:
        return []
    except (DamagedFileError, ValueError, TypeError):
        put_aside(kept)
        return []
