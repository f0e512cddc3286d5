"""How fast and how large the start page is, in a real browser: bytes, the first pruned
picture on a slow line, a key press, all pictures, and its kernels.

For `make bench ARGS=site`.
"""

import contextlib
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from tools import browser
from tools.bench.explorer import Response, to_and_fro
from tools.bench.table import Row
from tools.web import start
from tools.web.served import served

LINE: Mapping[str, Any] = {"megabits": 10, "delay": 20}  # a second; ms there and back
VISITS = 5
WEIGHTS = 266_200  # of the network
LINK = "#sparsity=0.9&score={score}&scope=global&kind=weights"
# each of these changes leads to a setting that was not shown before
WALK = (
    *("score", "score", "scope", "score", "score", "kind"),
    *("score", "score", "scope", "score", "score"),
)
# From each key press to the first repaint with its estimate, and until all pictures are
# in; a message that is sent while a frame is drawn arrives when it is painted.
STOPWATCH = """() => {
    window.repaints = [];
    window.wholes = [];
    let pressed = null, counting = null;
    const press = () => { pressed = counting = performance.now(); };
    addEventListener("keydown", press, true);
    const mark = performance.mark.bind(performance);
    const painted = work => {
        const channel = new MessageChannel();
        channel.port1.onmessage = work;
        channel.port2.postMessage(0);
    };
    performance.mark = (name, options) => {
        const {detail} = options ?? {};
        if (name === "drawn" && detail.includes("state")) {
            const began = pressed, whole = counting;
            const all = !document.getElementById("accuracy-words")
                .textContent.includes("estimate");
            pressed = null;
            if (all) counting = null;
            painted(() => {
                if (began !== null) repaints.push(performance.now() - began);
                if (all && whole !== null) wholes.push(performance.now() - whole);
            });
        }
        return mark(name, options);
    };
}"""
# Seconds from the navigation to the first frame that shows a pruned network.
FIRST = """() => performance.getEntriesByName("drawn")
    .find(mark => mark.detail.includes("state")).startTime / 1000"""


@contextlib.contextmanager
def written(write: Callable[[Path], object]) -> Iterator[Path]:
    """A temporary folder into which a part of the site was written."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        write(Path(folder))
        yield Path(folder)


def answering(_threads: int) -> Iterator[Row]:
    """The start page in a Chromium."""
    with browser.chromium() as chromium:
        if chromium is None:
            return
        with written(start.write) as folder:
            with served(folder, **LINE) as slow:
                yield first_picture(chromium, slow)
            with served(folder) as address:
                for score in ("magnitude", "taylor"):
                    yield from keys(chromium, address, score)
                yield from unseen(chromium, address)
                yield from kernels(chromium, address)


def first_picture(chromium: Browser, address: str) -> Row:
    """Visits with an empty cache."""
    seconds, asked, size = [], [], 0
    for _ in range(VISITS):
        context = chromium.new_context()
        page = context.new_page()
        asked = []
        page.on("response", lambda answer, asked=asked: asked.append(answer))
        page.goto(address)
        rests(page)
        seconds.append(page.evaluate(FIRST))
        size = sum(int(answer.headers["content-length"]) for answer in asked)
        context.close()
    return Row(
        f"start page, first pruned picture, {LINE['megabits']} Mbit/s",
        seconds,
        goal="3 s, 1.5 MB",
        remarks=f"{size / 1e6:.2f} MB in {len(asked)} files",
    )


def keys(
    chromium: Browser, address: str, score: str, presses: int = 60
) -> Iterator[Row]:
    """Key presses at random moments, often in the middle of slow work."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address + LINK.format(score=score))
    rests(page)
    page.evaluate(STOPWATCH)
    page.get_by_role("slider", name="Sparsity").focus()
    pauses = random.Random(0)
    page.keyboard.press("Home")
    for key in to_and_fro(presses):
        page.wait_for_timeout(pauses.uniform(150, 900))
        page.keyboard.press(key)
    page.wait_for_timeout(1000)
    found = Response(_seconds(page, "repaints"))
    page.close()
    yield Row(
        f"start page, key press, {score}",
        found.repaint,
        goal="p95 50 ms",
        remarks=f"p95 {1000 * found.p95:.0f} ms",
    )


def unseen(chromium: Browser, address: str) -> Iterator[Row]:
    """Key presses that lead to what was not evaluated before: other scores, scopes and
    kinds."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address + LINK.format(score="magnitude"))
    rests(page)
    page.evaluate(STOPWATCH)
    for group in WALK:
        page.locator(f"#{group} input:checked").focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(2000)
    estimate, whole = (_seconds(page, name) for name in ("repaints", "wholes"))
    page.close()
    words = "start page, other score, scope or kind"
    remarks = f"on the first {start.AT_ONCE} pictures"
    yield Row(f"{words}: estimate", estimate, remarks=remarks)
    remarks = "from the key press; fetching the Taylor scores once is in it"
    name = f"{words}: all {start.PICTURES:,} pictures"
    yield Row(name, whole, goal="150 ms", remarks=remarks)


def kernels(chromium: Browser, address: str) -> Iterator[Row]:
    """What the page measures of its own kernels, at 90%: one picture, with its lower
    quartile, median and upper quartile."""
    page = chromium.new_page()
    page.goto(address + LINK.format(score="magnitude"))
    rests(page)
    times = page.evaluate('performance.getEntriesByName("timed").at(-1).detail')
    page.close()
    multiplied = dict.fromkeys(times, WEIGHTS) | {"sparse": WEIGHTS // 10}
    multiplied["removed"] = 30 * 784 + 10 * 30 + 10 * 10  # a tenth of each layer
    for name, found in times.items():
        seconds = [value / 1000 for value in found["time"]]
        yield Row(
            f"start page, one picture, {name}",
            seconds,
            "dense",
            [value / 1000 for value in times["dense"]["time"]],
            remarks=f"{multiplied[name] / seconds[1] / 1e9:.1f} GMAC/s; quartiles",
        )


def rests(page: Page) -> None:
    """Wait until all is known of the setting, the time last."""
    page.locator("#status").filter(has_text="Of the dense network's time").wait_for()


def _seconds(page: Page, name: str) -> Sequence[float]:
    return [value / 1000 for value in page.evaluate(name)]
