"""How often the test set was opened, and what came of it: a file beside the learner's
notebook."""

import json
from itertools import count
from pathlib import Path

from filelock import FileLock

from utils.files import write_atomically

SCORES = Path("my_capstone") / "scores.json"  # beside the learner's notebook


def keep(kept: Path, entry: dict) -> int:
    """Add an entry to the file of scores; how many it then has.

    One process at a time: the lock is the system's, and goes with who held it. Its
    file, hidden beside the scores, stays.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_name(f".{kept.name}.lock")):
        history = [*_history(kept), entry]
        write_atomically(kept, (json.dumps(history, indent=1) + "\n").encode())
    return len(history)


def _history(kept: Path) -> list[dict]:
    """Earlier scores; a damaged file of them is laid aside under a free name, not
    overwritten."""
    if not kept.is_file():
        return []
    try:
        return [dict(entry) for entry in json.loads(kept.read_text())]
    except (ValueError, TypeError):
        names = (kept.with_suffix(f".damaged{number or ''}") for number in count())
        kept.replace(next(name for name in names if not name.exists()))
        return []
