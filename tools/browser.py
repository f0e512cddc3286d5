"""The course in a real Chromium: start it, open a notebook or the explorer, press keys,
and see what happens.

Used by tests/browser and by `make bench`.
"""

import contextlib
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, TimeoutError, sync_playwright

from tools.start import checking, serving

ROOT = Path(__file__).parents[1]
ARTEFACTS = ROOT / "artefacts"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_SECONDS = 120  # a busy machine starts JupyterLab and a kernel slowly
RUN_SECONDS = 180

# The kernel is there and has nothing to do; before that JupyterLab says idle too, and a
# run-all is lost.
KERNEL_READY = """async () => {
    const context = jupyterapp.shell.currentWidget?.sessionContext;
    if (!context) return false;
    await context.ready;
    await context.session.kernel.info;
    return context.session.kernel.status === "idle";
}"""
KERNEL_STATUS = (
    "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status"
)
FIGURE = ".widget-html svg"
FIGURE_CHANGED = f"old => document.querySelector('{FIGURE}')?.outerHTML !== old"
# Read from the notebook's model: cells out of sight may not be in the page.
CELLS = """() => jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === "code" && cell.model.sharedModel.source.trim())
    .map(cell => ({
        count: cell.model.executionCount,
        source: cell.model.sharedModel.source,
        errors: cell.model.outputs.toJSON()
            .filter(output => output.output_type === "error"),
    }))"""
RUN_ENDED = f"""() => {{
    const cells = ({CELLS})();
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const failed = cells.some(cell => cell.errors.length);
    const ran = cells.every(cell => cell.count !== null);
    return failed || (kernel.status === "idle" && ran);
}}"""


# From a key press to the moment after the frame that shows its result.
# `window.shown(picture)` says when it does.
STOPWATCH = """figure => {
    window.times = [];
    let pressed = null;
    const press = () => { pressed ??= performance.now(); };
    document.addEventListener("keydown", press, true);
    const watched = document.querySelector(figure)
        .closest(".widget-html, .widget-output");
    new MutationObserver(() => {
        if (pressed === null || !window.shown(watched)) return;
        const started = pressed;
        pressed = null;
        requestAnimationFrame(() => {
            const channel = new MessageChannel();
            const done = () => window.times.push(performance.now() - started);
            channel.port1.onmessage = done;
            channel.port2.postMessage(0);
        });
    }).observe(watched, {childList: true, subtree: true, attributes: true});
}"""
SLIDER_SAYS = (
    "document.querySelector('.stop-slider input').getAttribute('aria-valuetext')"
)
SHOWN = (
    "() => { window.shown = watched => watched.textContent.includes(`at"
    f" ${{{SLIDER_SAYS}}} (`); }}"
)


# Text that runs out of its picture, by what it says.
CLIPPED = """() => {
    const texts = [...document.querySelectorAll(".widget-html svg text")];
    return texts.filter(text => {
        const box = text.getBoundingClientRect();
        const picture = text.ownerSVGElement.getBoundingClientRect();
        return box.left < picture.left - 1 || box.right > picture.right + 1
            || box.bottom > picture.bottom + 1;
    }).map(text => text.textContent);
}"""
# cards of a panel's picture that one would have to scroll sideways for
CUT = """() => {
    const cards = [...document.querySelectorAll(".explorer-card")];
    return cards.filter(card => {
        const right = card.getBoundingClientRect().right;
        for (let box = card.parentElement; box; box = box.parentElement)
            if (getComputedStyle(box).overflowX !== "visible"
                && right > box.getBoundingClientRect().right + 1) return true;
        return false;
    }).map(card => card.querySelector("svg").getAttribute("aria-label"));
}"""


class Panel:
    """A page with an explorer on it: find its controls by their accessible names, press
    keys, take times."""

    def __init__(self, page: Page, name: str) -> None:
        """`name` begins the names of the screenshots."""
        self.page, self.name = page, name

    def slider(self, label: str = "Sparsity") -> Locator:
        """The first slider with this accessible name."""
        return self.page.get_by_role("slider", name=label).first

    def choice(self, label: str) -> Locator:
        """The first selection with this accessible name."""
        return self.page.get_by_role("combobox", name=label).first

    def figure(self) -> str:
        """The first SVG of the first panel, as text."""
        return self.page.locator(FIGURE).first.evaluate("figure => figure.outerHTML")

    def press(self, handle: Locator, key: str, times: int) -> list[str]:
        """Press a key on a slider's handle; the figure after each press, which has 5 s
        to change."""
        handle.scroll_into_view_if_needed()
        handle.focus()
        figures = [self.figure()]
        for _ in range(times):
            self.page.keyboard.press(key)
            with contextlib.suppress(TimeoutError):
                self.page.wait_for_function(
                    FIGURE_CHANGED, arg=figures[-1], timeout=5000
                )
            figures.append(self.figure())
        return figures[1:]

    def start_stopwatch(self, figure: str = FIGURE, shown: str = SHOWN) -> None:
        """From now on, each key press is timed until what it asked for is painted."""
        self.page.evaluate(shown)
        self.page.evaluate(STOPWATCH, figure)

    def time_presses(
        self, handle: Locator, keys: Sequence[str], waits: Sequence[float]
    ) -> list[float]:
        """Milliseconds from each key press to the repaint; after each, wait so many
        seconds."""
        handle.scroll_into_view_if_needed()
        handle.focus()
        before = self.page.evaluate("window.times.length")
        for number, (key, wait) in enumerate(zip(keys, waits, strict=True), before + 1):
            self.page.keyboard.press(key)
            self.page.wait_for_function(
                f"window.times.length >= {number}", timeout=20_000
            )
            self.page.wait_for_timeout(1000 * wait)
        return self.page.evaluate(f"window.times.slice({before})")

    def hold(self, handle: Locator, key: str, presses: int) -> float:
        """Hold a key (30 presses a second); milliseconds from the last press until its
        result is painted."""
        handle.focus()
        for _ in range(presses):
            self.page.keyboard.down(key)
            self.page.wait_for_timeout(33)
        last = time.monotonic()
        self.page.keyboard.up(key)
        self.page.wait_for_function(
            f"window.shown(document.querySelector('{FIGURE}').closest('.widget-html'))"
        )
        return 1000 * (time.monotonic() - last) + 33

    def time_until_full(self, handle: Locator, key: str) -> float:
        """Milliseconds from a key press until the accuracy rests on all pictures."""
        handle.focus()
        started = time.monotonic()
        self.page.keyboard.press(key)
        full = (
            f"window.shown(document.querySelector('{FIGURE}').closest('.widget-html'))"
        )
        self.page.wait_for_function(
            f"{full} && !document.querySelector('{FIGURE}').textContent.includes('first"
            " estimate, ')",
            timeout=60_000,
        )
        return 1000 * (time.monotonic() - started)

    def heap(self) -> int:
        """Bytes that the page's scripts hold, after collecting garbage."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("HeapProfiler.collectGarbage")
        return session.send("Runtime.getHeapUsage")["usedSize"]

    def clipped(self) -> list[str]:
        """Text that runs out of its picture, by what it says; and parts of the picture
        that do not fit beside each other."""
        return [*self.page.evaluate(CLIPPED), *self.page.evaluate(CUT)]

    def screenshot(self, label: str, *, whole: bool = False) -> Path:
        """Save what is on the screen (or the `whole` page) in artefacts/."""
        ARTEFACTS.mkdir(exist_ok=True)
        path = ARTEFACTS / f"{self.name}_{label}.png"
        self.page.screenshot(path=path, full_page=whole)
        return path


class Lab(Panel):
    """One notebook open in JupyterLab: run it, find its panel, see what went wrong."""

    def run_all(self) -> None:
        """Run every cell and wait for the end. Raises AssertionError with the traceback
        of a cell that failed."""
        self.page.wait_for_function(KERNEL_READY, timeout=START_SECONDS * 1000)
        self.page.evaluate("""() => {
            for (const cell of jupyterapp.shell.currentWidget.content.widgets)
                if (cell.model.type === "code") cell.model.clearExecution();
            jupyterapp.commands.execute("notebook:run-all-cells");
        }""")
        self.page.wait_for_function(RUN_ENDED, timeout=RUN_SECONDS * 1000)
        if errors := self.cell_errors():
            raise AssertionError("\n".join(errors))

    def cell_errors(self) -> list[str]:
        """`NameError: ... in: first line of the cell` for each cell whose output is an
        error."""
        return [
            f"{error['ename']}: {error['evalue']} in: {cell['source'].splitlines()[0]}"
            for cell in self.page.evaluate(CELLS)
            for error in cell["errors"]
        ]

    def settle(self) -> None:
        """Wait until the kernel has had nothing to do for a second."""
        quiet, end = 0, time.monotonic() + RUN_SECONDS
        while quiet < 10 and time.monotonic() < end:
            self.page.wait_for_timeout(100)
            quiet = quiet + 1 if self.page.evaluate(KERNEL_STATUS) == "idle" else 0
        if quiet < 10:
            raise AssertionError("the kernel does not come to rest")

    def error_badge(self) -> str:
        """What the status bar says of log entries; empty when there are none. A failed
        callback shows only there."""
        self.settle()
        badge = self.page.locator('#jp-main-statusbar [title*="log entr"]')
        return " ".join(
            badge.nth(i).get_attribute("title") or "" for i in range(badge.count())
        )


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read_address(server: subprocess.Popen, port: int) -> str:
    """Wait for the address with the token in what the server prints. Raises
    AssertionError with all of it otherwise."""
    lines: queue.Queue[str] = queue.Queue()
    assert server.stdout is not None, "start it with stdout=PIPE"
    output = server.stdout

    def hear() -> None:
        with contextlib.suppress(ValueError):  # closed when the server is stopped
            for line in output:
                lines.put(line)

    threading.Thread(target=hear, daemon=True).start()
    said, end = [], time.monotonic() + START_SECONDS
    while time.monotonic() < end and (server.poll() is None or not lines.empty()):
        with contextlib.suppress(queue.Empty):
            said.append(lines.get(timeout=0.5))
            if found := re.search(
                rf"http://127\.0\.0\.1:{port}/\S*\?token=\w+", said[-1]
            ):
                return found[0]
    raise AssertionError("The server did not start:\n" + "".join(said))


@contextlib.contextmanager
def running(command: str, workspace: Path, *options: str) -> Iterator[str]:
    """`make lab` or `make explorer` without a browser of its own; gives the address,
    token included."""
    port = free_port()
    server = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "tools" / "course.py"),
            command,
            "--no-browser",
            "--port",
            str(port),
            *options,
        ],
        env={**os.environ, "PRUNING_WORKSPACE": str(workspace)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield read_address(server, port)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)
        if server.stdout is not None:
            server.stdout.close()


@contextlib.contextmanager
def chromium() -> Iterator[Browser | None]:
    """A Chromium without a window; None where none is installed."""
    path = checking.find_chromium()
    if not path:
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened_lab(  # noqa: PLR0913 - each says what the page is opened with
    browser: Browser,
    notebooks: Path,
    workspace: Path,
    name: str,
    *,
    notebook: str = serving.FIRST_NOTEBOOK,
    width: int = 1280,
) -> Iterator[Lab]:
    """The course on a folder of notebooks, one of them open."""
    with running(
        "lab", workspace, "--notebooks", str(notebooks), "--expose-app-in-browser"
    ) as address:
        page = browser.new_page(viewport={"width": width, "height": 1000})
        page.goto(
            f"{address.replace(serving.FIRST_NOTEBOOK, notebook)}&reset",
            timeout=START_SECONDS * 1000,
        )
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=START_SECONDS * 1000)
        lab = Lab(page, name)
        try:
            yield lab
        finally:
            lab.screenshot("end")
            page.close()


@contextlib.contextmanager
def opened_app(
    browser: Browser, workspace: Path, name: str, *, width: int = 1280
) -> Iterator[Panel]:
    """The explorer by itself, as `make explorer` serves it."""
    with running("explorer", workspace) as address:
        page = browser.new_page(viewport={"width": width, "height": 1000})
        page.goto(address, timeout=START_SECONDS * 1000)
        page.wait_for_selector(FIGURE, timeout=START_SECONDS * 1000)
        panel = Panel(page, name)
        try:
            yield panel
        finally:
            panel.screenshot("end")
            page.close()
