"""The explorer's page with many visitors at once: when each sees the panel, who does
not, what they cost, and how fast one's panel answers among them.

For `make bench ARGS=visitors`. The visitors have no browser (visitor.py): theirs run on
machines of their own. One more, in a Chromium here, is timed from key press to repaint.
Beside it, for few visitors, kernels that share nothing. Linux only: elsewhere they
always share nothing, and the system does not say what is shared.
"""

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab

from tools import browser
from tools.bench.explorer import to_and_fro
from tools.bench.table import Row
from tools.bench.visitor import Visitor

CROWDS = (1, 10, 20, 30)
ALONE = (1, 10)  # crowds without anything shared: more take minutes
STOPS = (3, 6, 9)  # of the slider, that each visits with each network
NETWORKS = ("vgg", "resnet", "lenet300")
QUIET = 4.0  # seconds without work after which all is prepared
PRESSES = 30
TUNING = 15  # seconds in which all fine-tune
FILES_OF_A_PAGE = "performance.getEntriesByType('resource').map(each => each.name)"


@dataclass(frozen=True)
class Cost:
    """Of the page's processes: memory in bytes, in all and of each kernel, without what
    others share, and seconds of a core so far."""

    memory: float
    kernels: Sequence[float]
    seconds: float

    def __str__(self) -> str:
        each = statistics.median(self.kernels or [0.0])
        return f"memory {self.memory / 1e9:.2f} GB in all, {each / 1e6:.0f} MB a kernel"


class Page:
    """A running page and its processes."""

    def __init__(self, address: str, server: psutil.Process, *, shares: bool) -> None:
        self.address, self.server, self.shares = address, server, shares
        self.files: list[str] = []

    def cost(self) -> Cost:
        """What its processes hold and have used. The first child is the one that
        kernels come from, if they share anything."""
        memory, kernels, seconds = 0.0, [], 0.0
        for process in (self.server, *sorted(self.server.children(), key=_age)):
            with contextlib.suppress(psutil.NoSuchProcess):
                used = process.memory_full_info()
                memory += used.pss
                kernels.append(float(used.uss))
                seconds += sum(process.cpu_times()[:2])
        return Cost(memory, kernels[2 if self.shares else 1 :], seconds)

    def settle(self) -> None:
        """Wait until it has had nothing to do for a while, at most two minutes."""
        end, used = time.monotonic() + 120, -1.0
        while time.monotonic() < end and (now := self.cost().seconds) - used > 0.1:
            used = now
            time.sleep(QUIET)


def _age(process: psutil.Process) -> tuple[float, int]:
    return process.create_time(), process.pid


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[Page]:
    """The page, when all is prepared."""
    before = set(psutil.Process().children(recursive=True))
    with browser.running(
        "explorer", folder, "--ExplorerPage.visitors=99", *options
    ) as (address):
        new = set(psutil.Process().children(recursive=True)) - before
        shares = not any("warms=" in option for option in options)
        page = Page(address, min(new, key=_age), shares=shares)
        page.settle()
        yield page


async def crowd(page: Page, size: int) -> tuple[list[Visitor], list[float], int]:
    """So many who come at once; those who see the panel, the seconds until each does,
    and how many do not."""
    coming = [Visitor(page.address) for _ in range(size)]
    came = await asyncio.gather(
        *(each.open(page.files) for each in coming), return_exceptions=True
    )
    inside = [v for v, e in zip(coming, came, strict=True) if e is None]
    for error in (each for each in came if each is not None):
        print(f"failed: {error}", file=sys.stderr)
    return inside, [each.waited for each in inside], size - len(inside)


async def leave(inside: Sequence[Visitor]) -> None:
    """All go."""
    await asyncio.gather(*(each.leave() for each in inside))


async def arriving(page: Page, size: int) -> tuple[list[float], str]:
    """The seconds until each of so many sees the panel, and what it cost."""
    before = page.cost().seconds
    inside, waited, failed = await crowd(page, size)
    used = page.cost().seconds - before
    page.settle()
    remarks = f"{failed} failed; {used / size:.1f} CPU s each; {page.cost()}"
    await leave(inside)
    return waited, remarks


async def using(page: Page, size: int) -> Iterator[Row]:
    """Key presses of one while the others are there; then what all cost when each has
    tried every network, and when all fine-tune at once."""
    inside, _, _ = await crowd(page, size)
    rows = [
        Row(
            f"key press to picture, {size} there",
            [await inside[0].panel.move(1 + number % 12) for number in range(PRESSES)],
        )
    ]
    for each in inside:
        await tried(each)
    page.settle()
    used = page.cost()
    begun = time.monotonic()
    for each in inside:
        await each.panel.press("Fine-tune")
    costs = []
    while time.monotonic() - begun < TUNING:
        await asyncio.sleep(1)
        costs.append(page.cost())
    most = max(costs, key=lambda each: each.memory)
    remarks = f"all networks tried: {used}; most while all fine-tune: {most}"
    rows.append(Row(f"memory, {size} there", [], remarks=remarks))
    await leave(inside)
    return iter(rows)


async def tried(visitor: Visitor) -> None:
    """Each network at some stops."""
    for network in NETWORKS:
        await visitor.panel.choose("Network", network)
        for stop in STOPS:
            await visitor.panel.move(stop)


def opened(chromium: Browser, page: Page) -> Tab:
    """The page in a tab, with its panel."""
    tab, wait = chromium.new_page(), 1000 * browser.START_SECONDS
    tab.goto(page.address, timeout=wait)
    tab.wait_for_selector(browser.FIGURE, timeout=wait)
    return tab


def in_chromium(page: Page) -> list[str]:
    """The files that a browser asks for, of one visit; none without a Chromium."""
    with browser.chromium() as chromium:
        if chromium is None:
            return []
        tab = opened(chromium, page)
        found = tab.evaluate(FILES_OF_A_PAGE)
        tab.close()
        return [url for url in found if "/voila/" in url]


def repainting(page: Page) -> list[float]:
    """Seconds from a key press to the repaint, in a Chromium."""
    with browser.chromium() as chromium:
        if chromium is None:
            return []
        tab = opened(chromium, page)
        panel = browser.Panel(tab, "visitors")
        panel.start_stopwatch()
        times = panel.time_presses(panel.slider(), to_and_fro(PRESSES), [0.3] * PRESSES)
        tab.close()
        return [each / 1000 for each in times]


def repaint_row(page: Page, size: int) -> Row:
    """The repaint of one more visitor, while so many have the page open."""

    async def come() -> list[Visitor]:
        return (await crowd(page, size))[0]

    with asyncio.Runner() as runner:
        inside = runner.run(come())
        row = Row(f"key press to repaint, {size} others there", repainting(page))
        runner.run(leave(inside))
    return row


def visiting(_threads: int) -> Iterator[Row]:
    """Visitors of the page at once, 1 to 30, with shared memory and without."""
    if sys.platform != "linux":
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        alone = dict(_alone(Path(folder, "alone")))
        with served(Path(folder, "shared")) as page:
            page.files = in_chromium(page)
            for size in CROWDS:
                waited, remarks = asyncio.run(arriving(page, size))
                other, said = alone.get(size, ([], ""))
                same = len(other) == len(waited)
                yield Row(
                    f"page, {size} at once",
                    waited,
                    "nothing shared" if same else "",
                    other if same else [],
                    goal="seconds; none fails; 30 in 8 GB",
                    remarks=remarks + (f"; nothing shared: {said}" if said else ""),
                )
            yield from asyncio.run(using(page, CROWDS[-1]))
            page.settle()
            yield repaint_row(page, CROWDS[-1])


def _alone(folder: Path) -> Iterator[tuple[int, tuple[list[float], str]]]:
    with served(folder, "--ExplorerPage.warms=") as page:
        for size in ALONE:
            yield size, asyncio.run(arriving(page, size))
