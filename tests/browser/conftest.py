"""JupyterLab, started by the course's own launcher, in a real Chromium."""

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
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, TimeoutError, sync_playwright

from tools import course

ROOT = Path(__file__).parents[2]
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

# The kernel is there and has nothing to do; before that JupyterLab says idle too, and a run-all is lost.
KERNEL_READY = """async () => {
    const context = jupyterapp.shell.currentWidget?.sessionContext;
    if (!context) return false;
    await context.ready;
    await context.session.kernel.info;
    return context.session.kernel.status === "idle";
}"""
KERNEL_STATUS = "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status"
FIGURE = ".jp-OutputArea .widget-html svg"
FIGURE_CHANGED = f"old => document.querySelector('{FIGURE}')?.outerHTML !== old"
# Read from the notebook's model: cells out of sight may not be in the page.
CELLS = """() => jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === "code" && cell.model.sharedModel.source.trim())
    .map(cell => ({count: cell.model.executionCount, source: cell.model.sharedModel.source,
                   errors: cell.model.outputs.toJSON().filter(output => output.output_type === "error")}))"""
RUN_ENDED = f"""() => {{
    const cells = ({CELLS})(), kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const failed = cells.some(cell => cell.errors.length);
    return failed || (kernel.status === "idle" && cells.every(cell => cell.count !== null));
}}"""


class Lab:
    """One notebook open in JupyterLab: run it, find its panel, see what went wrong."""

    def __init__(self, page: Page, name: str):
        """`name` begins the names of the screenshots."""
        self.page, self.name = page, name

    def run_all(self) -> None:
        """Run every cell and wait for the end. Raises AssertionError with the traceback of a cell that failed."""
        self.page.wait_for_function(KERNEL_READY, timeout=START_SECONDS * 1000)
        self.page.evaluate("""() => {
            for (const cell of jupyterapp.shell.currentWidget.content.widgets)
                if (cell.model.type === "code") cell.model.clearExecution();
            jupyterapp.commands.execute("notebook:run-all-cells");
        }""")
        self.page.wait_for_function(RUN_ENDED, timeout=RUN_SECONDS * 1000)
        assert self.cell_errors() == []

    def cell_errors(self) -> list[str]:
        """`NameError: ... in: first line of the cell` for each cell whose output is an error."""
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
        assert quiet == 10, "the kernel does not come to rest"

    def error_badge(self) -> str:
        """What the status bar says of log entries; empty when there are none. A failed callback shows only there."""
        self.settle()
        badge = self.page.locator('#jp-main-statusbar [title*="log entr"]')
        return " ".join(badge.nth(i).get_attribute("title") or "" for i in range(badge.count()))

    def slider(self, label: str = "") -> Locator:
        """The handle of the first slider, or of the one with this label."""
        sliders = self.page.locator(".jp-OutputArea .widget-slider")
        if label:
            sliders = sliders.filter(has_text=re.compile(label, re.IGNORECASE))
        return sliders.first.locator(".noUi-handle").first

    def figure(self) -> str:
        """The SVG of the first panel, as text."""
        return self.page.locator(FIGURE).first.evaluate("figure => figure.outerHTML")

    def press(self, handle: Locator, key: str, times: int) -> list[str]:
        """Press a key on a slider's handle; the figure after each press, which has 5 s to change."""
        handle.scroll_into_view_if_needed()
        handle.focus()
        figures = [self.figure()]
        for _ in range(times):
            self.page.keyboard.press(key)
            with contextlib.suppress(TimeoutError):
                self.page.wait_for_function(FIGURE_CHANGED, arg=figures[-1], timeout=5000)
            figures.append(self.figure())
        return figures[1:]

    def screenshot(self, label: str) -> Path:
        """Save what is on the screen in artefacts/."""
        ARTEFACTS.mkdir(exist_ok=True)
        path = ARTEFACTS / f"{self.name}_{label}.png"
        self.page.screenshot(path=path)
        return path


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read_address(server: subprocess.Popen, port: int) -> str:
    """Wait for the address with the token in what the server prints. Raises AssertionError with all of it otherwise."""
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in server.stdout], daemon=True).start()
    said, end = [], time.monotonic() + START_SECONDS
    while time.monotonic() < end and (server.poll() is None or not lines.empty()):
        with contextlib.suppress(queue.Empty):
            said.append(lines.get(timeout=0.5))
            if found := re.search(rf"http://127\.0\.0\.1:{port}/lab\S*\?token=\w+", said[-1]):
                return found[0]
    raise AssertionError("JupyterLab did not start:\n" + "".join(said))


@contextlib.contextmanager
def running_lab(workspace: Path, notebooks: Path) -> Iterator[str]:
    """`make lab` without a browser; gives the address of the first notebook, token included."""
    port = free_port()
    command = [sys.executable, str(ROOT / "tools" / "course.py"), "lab", "--no-browser", "--port", str(port)]
    command += ["--notebooks", str(notebooks), "--expose-app-in-browser"]
    server = subprocess.Popen(
        command,
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
        server.stdout.close()


@pytest.fixture(scope="session")
def chromium():
    """A Chromium, shared by all browser tests."""
    path = course.find_chromium()
    if not path:
        pytest.skip(f"none of {', '.join(course.CHROMIUM)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_lab(chromium, tmp_path, request) -> Iterator[Callable[[Path], Lab]]:
    """Start the course on a folder of notebooks and open its first one: `lab = open_lab(ROOT / "notebooks")`."""
    with contextlib.ExitStack() as stack:

        def start(notebooks: Path) -> Lab:
            address = stack.enter_context(running_lab(tmp_path / "workspace", notebooks))
            page = chromium.new_page(viewport={"width": 1280, "height": 1000})
            stack.callback(page.close)
            page.goto(f"{address}&reset", timeout=START_SECONDS * 1000)
            page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=START_SECONDS * 1000)
            lab = Lab(page, request.node.name.removeprefix("test_"))
            stack.callback(lab.screenshot, "end")
            return lab

        yield start
