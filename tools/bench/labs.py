"""What each notebook takes: seconds, and memory at its most, kernel and all that it
starts. The largest goes to deploy/measured.json: a learner's limit must leave room for
it (tools/classroom/sizing.py).
"""

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import nbclient
import nbformat
import psutil

from tools.bench.table import Row
from tools.classroom import sizing
from tools.start.files import ROOT

LOOK = 0.05  # seconds between two looks
PATIENCE = 900  # seconds for one cell


def taken() -> int:
    """Bytes that the processes which this one has started hold for themselves now, or
    have in files of which they have changed a copy."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            memory = process.memory_info()
            total += memory.rss - memory.shared
    return total


@contextlib.contextmanager
def watched() -> Iterator[list[int]]:
    """What `taken` gives meanwhile, again and again."""
    seen, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(LOOK):
            seen.append(taken())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def run(notebook: Path) -> tuple[float, int]:
    """Run a notebook in a folder of its own; its seconds, and its bytes at their most.

    Raises:
        CellExecutionError: a cell fails.
    """
    book = nbformat.read(notebook, 4)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        client = nbclient.NotebookClient(
            book, timeout=PATIENCE, resources={"metadata": {"path": folder}}
        )
        started = monotonic()
        with watched() as seen:
            client.execute()
        return monotonic() - started, max(seen)


def running(_threads: int) -> Iterator[Row]:
    """All notebooks, one after the other."""
    largest = 0
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        seconds, most = run(notebook)
        largest = max(largest, most)
        yield Row(notebook.stem, [seconds], remarks=f"at most {most / 1e6:.0f} MB")
    found = replace(sizing.read(), largest_mb=round(largest / 1e6))
    sizing.record(found)
    yield Row("the largest", [], remarks=sizing.said(found))
