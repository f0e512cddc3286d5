"""What lies in a learner's folder, within limits."""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

DEEPEST = 5  # folders below the learner's own
MOST = 20_000  # entries that are looked at


def entries(
    folder: Path, problem: Callable[[str, str], None]
) -> list[os.DirEntry[str]]:
    """All that is not hidden, by path; no link is followed.

    Args:
        problem: is called with a path and what is wrong there.
    """
    seen = list(islice(_below(str(folder), 0, problem), MOST + 1))
    if len(seen) > MOST:
        problem(str(folder), f"only {MOST:,} of its entries were read")
    return sorted(seen[:MOST], key=lambda entry: entry.path)


def _below(
    folder: str, depth: int, problem: Callable[[str, str], None]
) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.startswith("."):
                    continue
                yield entry
                if depth < DEEPEST and entry.is_dir(follow_symlinks=False):
                    yield from _below(entry.path, depth + 1, problem)
    except OSError as error:
        problem(folder, f"it cannot be read ({error.strerror})")
