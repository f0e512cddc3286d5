"""How fast the explorer answers a key press, in a real browser; beside it the same
through `interact` + `plt.show`.

For `make bench explorer` and tests/browser.
"""

import contextlib
import random
import re
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Locator

from tools import browser
from tools.bench.table import Row, spread
from tools.start import serving

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
    bars.barh(["weights", "MACs", "saved"], [state.weights, state.macs, state.saved])
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
# milliseconds from a key press to the repaint
GOALS = {"lenet300": "75 ms, p95 100 ms", "resnet": "150 ms", "vgg": "150 ms"}


@dataclass(frozen=True)
class Response:
    """Seconds. repaint: from each key press; settled: after keys held; full: until all
    pictures are in."""

    repaint: Sequence[float]
    settled: Sequence[float] = ()
    full: Sequence[float] = ()

    @property
    def p95(self) -> float:
        """95th percentile of the repaint."""
        return statistics.quantiles(self.repaint, n=20)[-1]


@dataclass(frozen=True)
class Growth:
    """Seconds from each key press to its repaint, and bytes that the kernel (None where
    the system does not say) and the page grew by meanwhile."""

    repaint: Sequence[float]
    kernel: int | None
    page: int


def answering(_threads: int) -> Iterator[Row]:
    """Key press to repaint in JupyterLab in a Chromium; the explorer beside `interact`
    with `plt.show`."""
    with (
        browser.chromium() as chromium,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        if chromium is None:
            return
        folders = (Path(folder) / str(number) for number in count())
        plain = interact(chromium, next(folders))
        for network, goal in GOALS.items():
            for score in ("magnitude", "taylor"):
                found = explorer(chromium, next(folders), network, score)
                yield Row(
                    f"key press, {network}, {score}",
                    found.repaint,
                    "interact",
                    plain.repaint,
                    goal,
                    remarks=_remarks(found, plain),
                )
        yield _growth_row(growth(chromium, next(folders)))


def _remarks(found: Response, plain: Response) -> str:
    return (
        f"p95 {1000 * found.p95:.0f} ms (interact {1000 * plain.p95:.0f}); key held:"
        f" settles in {spread([1000 * s for s in found.settled])} ms; all 5,000"
        f" pictures in {spread(found.full)} s"
    )


def _growth_row(grown: Growth) -> Row:
    kernel = "not known" if grown.kernel is None else f"{grown.kernel / 1e6:+.1f} MB"
    page = f"{grown.page / 1e6:+.1f} MB"
    return Row(
        "1,000 moves without a pause",
        grown.repaint,
        goal="no growth",
        remarks=f"memory after 1,000 moves: kernel {kernel}, page {page}",
    )


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
        new_notebook(cells=[cell], metadata=kernel), notebooks / serving.FIRST_NOTEBOOK
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
    with opened(chromium, folder, EXPLORER.format(network=network, score=score)) as lab:
        slider = lab.slider()
        lab.start_stopwatch()
        repaint = _presses(lab, slider, presses)
        settled = []
        for start, key in (("Home", "ArrowRight"), ("End", "ArrowLeft")) * 2:
            lab.page.keyboard.press(start)
            lab.settle()
            settled.append(lab.hold(slider, key, presses=12))
        lab.page.keyboard.press("Home")
        full = []
        for _ in range(4):
            lab.settle()
            full.append(lab.time_until_full(slider, "ArrowRight"))
        if lab.error_badge():
            raise AssertionError(f"a callback failed: {lab.error_badge()}")
        return Response(repaint, _seconds(settled), _seconds(full))


def interact(chromium: Browser, folder: Path, presses: int = 60) -> Response:
    """The same key presses for `interact` and `plt.show`."""
    with opened(chromium, folder, INTERACT) as lab:
        lab.start_stopwatch(".widget-output img", NEW_IMAGE)
        handle = lab.page.locator(".widget-slider .noUi-handle").first
        return Response(_presses(lab, handle, presses))


def _presses(lab: browser.Lab, slider: Locator, presses: int) -> list[float]:
    """Seconds to repaint of key presses at random moments."""
    pauses, keys = random.Random(0), to_and_fro(presses)
    waits = [pauses.uniform(0.05, 0.9) for _ in keys]
    return _seconds(lab.time_presses(slider, keys, waits))


def _seconds(milliseconds: Sequence[float]) -> list[float]:
    return [value / 1000 for value in milliseconds]


def growth(chromium: Browser, folder: Path, moves: int = 1000) -> Growth:
    """Memory of the kernel and of the page before and after so many moves."""
    with opened(
        chromium, folder, EXPLORER.format(network="lenet300", score="magnitude")
    ) as lab:
        slider = lab.slider()
        lab.start_stopwatch()
        pid = int((folder / "workspace" / "pid").read_text())
        lab.time_presses(slider, to_and_fro(104), [0.0] * 104)
        lab.settle()
        kernel, page = resident(pid), lab.heap()
        repaint = _seconds(lab.time_presses(slider, to_and_fro(moves), [0.0] * moves))
        lab.settle()
        after = resident(pid)
        grown = None if kernel is None or after is None else after - kernel
        return Growth(repaint, grown, lab.heap() - page)


def resident(pid: int) -> int | None:
    """Bytes of memory that a process holds; None where the system does not say."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return 1024 * int(found[1]) if found else None
    return None
