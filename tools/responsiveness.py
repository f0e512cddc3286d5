"""How fast the explorer answers a key press, in a real browser; beside it the same
through `interact` + `plt.show`.

For `make bench explorer` and tests/browser.
"""

import contextlib
import random
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser

from tools import browser, course

EXPLORER = """
from utils.explorer import Explorer
Explorer({network!r}, score={score!r})
"""
INTERACT = """
import ipywidgets
from matplotlib import pyplot as plt
from utils.explorer import Controls, Explorer

panel = Explorer()
states = panel.curve(Controls())
memory, subject = panel.memory, panel.subject("lenet300")
stops = [state.controls.sparsity for state in states]

def show(stop):
    controls = Controls(stop)
    # anew each time, as the panel does for a stop that it has not seen
    state = subject.first_look(controls, memory.prune(controls))
    _, (curve, bars) = plt.subplots(1, 2, figsize=(8.8, 3.3))
    curve.plot(range(len(stops)), [each.accuracy for each in states], "o--")
    curve.plot(stops.index(stop), state.accuracy, "o", markersize=12)
    curve.set(xticks=range(len(stops)), xticklabels=stops, ylim=(0, 1))
    curve.set_title(f"{state.accuracy:.1%}")
    fractions = [state.weights, state.macs, state.saved]
    bars.barh(["weights", "MACs", "saved"], fractions)
    plt.show()

slider = ipywidgets.SelectionSlider(options=stops, description="Sparsity")
ipywidgets.interact(show, stop=slider);
"""
PID = "import os; from pathlib import Path; Path('pid').write_text(str(os.getpid()));"
NEW_IMAGE = """() => { window.shown = watched => {
    const image = watched.querySelector("img");
    if (!image || image.src === window.last) return false;
    window.last = image.src;
    return true;
}; window.last = document.querySelector(".widget-output img").src; }"""


@dataclass(frozen=True)
class Response:
    """Seconds. repaint: from each key press; settled: after keys held; full: until all
    pictures are in."""

    repaint: Sequence[float]
    settled: Sequence[float] = ()
    full: Sequence[float] = ()
    kernel_bytes: int | None = None  # that the kernel grew by over the moves
    page_bytes: int | None = None

    @property
    def p95(self) -> float:
        """95th percentile of the repaint."""
        return statistics.quantiles(self.repaint, n=20)[-1]


@contextlib.contextmanager
def opened(chromium: Browser, folder: Path, source: str) -> Iterator[browser.Lab]:
    """A notebook of one cell, run, in JupyterLab."""
    notebooks = folder / "notebooks"
    notebooks.mkdir(parents=True)
    cell = new_code_cell(PID + "\n" + source)
    cell["id"] = "panel"
    kernel = {
        "kernelspec": {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
    }
    nbformat.write(
        new_notebook(cells=[cell], metadata=kernel), notebooks / course.FIRST_NOTEBOOK
    )
    with browser.opened_lab(
        chromium, notebooks, folder / "workspace", "responsiveness"
    ) as lab:
        lab.run_all()
        lab.settle()
        yield lab


def to_and_fro(presses: int, stops: int = 13) -> list[str]:
    """Arrow keys that walk over all stops and back."""
    return [
        ("ArrowRight", "ArrowLeft")[(number // stops) % 2] for number in range(presses)
    ]


def explorer(
    chromium: Browser,
    folder: Path,
    network: str,
    score: str = "magnitude",
    presses: int = 60,
) -> Response:
    """Key presses at random moments (often in the middle of slow work), keys held, time
    until all pictures are in."""
    pauses = random.Random(0)
    with opened(chromium, folder, EXPLORER.format(network=network, score=score)) as lab:
        slider = lab.slider()
        lab.start_stopwatch()
        keys = to_and_fro(presses)
        repaint = lab.time_presses(
            slider, keys, [pauses.uniform(0.05, 0.9) for _ in keys]
        )
        settled = []
        for start, key in (("Home", "ArrowRight"), ("End", "ArrowLeft")) * 2:
            lab.page.keyboard.press(start)
            lab.settle()
            settled.append(lab.hold(slider, key, presses=12))
        lab.page.keyboard.press("Home")
        full = []
        for _ in range(4):
            lab.settle()
            full += [lab.time_until_full(slider, "ArrowRight")]
        if lab.error_badge():
            raise AssertionError(f"a callback failed: {lab.error_badge()}")
        repaint, settled, full = (
            [value / 1000 for value in values] for values in (repaint, settled, full)
        )
        return Response(repaint, settled, full)


def interact(chromium: Browser, folder: Path, presses: int = 60) -> Response:
    """The same key presses for `interact` and `plt.show`."""
    pauses = random.Random(0)
    with opened(chromium, folder, INTERACT) as lab:
        lab.start_stopwatch(".widget-output img", NEW_IMAGE)
        handle = lab.page.locator(".widget-slider .noUi-handle").first
        keys = to_and_fro(presses)
        repaint = lab.time_presses(
            handle, keys, [pauses.uniform(0.05, 0.9) for _ in keys]
        )
        return Response([value / 1000 for value in repaint])


def growth(chromium: Browser, folder: Path, moves: int = 1000) -> Response:
    """Memory of the kernel and of the page before and after so many moves."""
    with opened(
        chromium, folder, EXPLORER.format(network="lenet300", score="magnitude")
    ) as lab:
        slider = lab.slider()
        lab.start_stopwatch()
        pid = int((folder / "workspace" / "pid").read_text())
        lab.time_presses(slider, to_and_fro(104), [0.0] * 104)
        lab.settle()
        before = resident(pid), lab.heap()
        repaint = lab.time_presses(slider, to_and_fro(moves), [0.0] * moves)
        lab.settle()
        after = resident(pid), lab.heap()
        known = None not in (before[0], after[0])
        kernel = (after[0] or 0) - (before[0] or 0) if known else None
        return Response(
            [value / 1000 for value in repaint],
            kernel_bytes=kernel,
            page_bytes=after[1] - before[1],
        )


def resident(pid: int) -> int | None:
    """Bytes of memory that a process holds; None where the system does not say."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return 1024 * int(found[1]) if found else None
    return None
