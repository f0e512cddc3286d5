"""How fast the page is on which a pruned network writes: in a real browser, from a key
press until the text that it asked for is painted."""

import statistics
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page

from tools import browser
from tools.bench.site import written
from tools.bench.table import Row
from tools.web import write
from tools.web.served import served

SETTINGS = (
    ("magnitude", "global"),
    ("magnitude", "layerwise"),
    ("activation", "unit"),
    ("taylor", "global"),
    ("random", "global"),
    ("magnitude", "n of 4"),
)
PRESSES = 40  # of each setting
PATIENCE = 120_000  # ms
CODE = {".js", ".css", ".wasm", ".svg"}
LINE = 10e6 / 8  # bytes a second of the line that a download is told for

# from a key press until the frame after the text was written in full
STOPWATCH = """() => {
    window.times = [];
    let pressed = null;
    const live = document.getElementById("live");
    addEventListener("keydown", () => { pressed ??= performance.now(); }, true);
    new MutationObserver(() => {
        if (live.dataset.state === "asked" || pressed === null) return;
        const started = pressed;
        pressed = null;
        requestAnimationFrame(() => {
            const channel = new MessageChannel();
            channel.port1.onmessage = () =>
                window.times.push(performance.now() - started);
            channel.port2.postMessage(0);
        });
    }).observe(live, {attributes: true, attributeFilter: ["data-state"]});
}"""


def answering(_threads: int) -> Iterator[Row]:
    """The page in a Chromium."""
    with browser.chromium() as chromium:
        if chromium is None:
            return
        with written(write.write) as folder, served(folder) as address:
            yield from writing_page(chromium, address, folder)


def writing_page(chromium: Browser, address: str, folder: Path) -> Iterator[Row]:
    """Rows for the page at an address, which is served from `folder`."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    try:
        yield _opened(page, address, folder)
        page.evaluate(STOPWATCH)
        for score, scope in SETTINGS:
            yield _pressed(page, score, scope)
        yield _rested(page)
    finally:
        page.close()


def _opened(page: Page, address: str, folder: Path) -> Row:
    """Seconds from the address to the first pruned text, from this machine."""
    page.goto(address)
    page.wait_for_selector('#live[data-state="written"], #live[data-state="finished"]')
    seconds = page.evaluate("() => performance.now()") / 1000
    read = {"weights.bin", "windows.bin", "facts.json", "index.html"}
    used = [p for p in folder.iterdir() if p.name in read or p.suffix in CODE]
    size = sum(path.stat().st_size for path in used)
    told = f"{size / 1e6:.2f} MB, {size / LINE:.1f} s of a line of 10 Mbit/s"
    return Row("write: opened, first pruned text", [seconds], remarks=told)


def _pressed(page: Page, score: str, scope: str) -> Row:
    """Seconds from a key to the text, up and down the slider."""
    page.get_by_role("combobox", name="Score").select_option(score)
    page.get_by_role("combobox", name="Scope").select_option(scope)
    page.wait_for_selector('#live:not([data-state="asked"])')
    slider = page.get_by_role("slider", name="Sparsity")
    slider.focus()
    last = int(slider.get_attribute("max") or 0)
    page.keyboard.press("Home")
    page.wait_for_selector('#live:not([data-state="asked"])')
    walk = ["ArrowRight"] * last + ["ArrowLeft"] * last
    page.evaluate("() => { window.times = []; }")
    for number in range(PRESSES):
        page.keyboard.press(walk[number % len(walk)])
        page.wait_for_function("count => window.times.length >= count", arg=number + 1)
        page.wait_for_timeout(100 + 37 * (number % 9))
    seconds = [each / 1000 for each in page.evaluate("() => window.times")]
    p95 = 1000 * statistics.quantiles(seconds, n=20)[-1]
    return Row(
        f"write: key to text, {score}, {scope}",
        seconds,
        goal="p95 150 ms",
        remarks=f"p95 {p95:.0f} ms",
    )


def _rested(page: Page) -> Row:
    """Seconds from a key until the loss on all windows and the speed are there."""
    page.get_by_role("slider", name="Sparsity").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    started = page.evaluate("() => performance.now()")
    page.wait_for_selector('#live[data-state="finished"]')
    seconds = (page.evaluate("() => performance.now()") - started) / 1000
    rate = page.locator("#numbers tbody tr").last.inner_text()
    return Row("write: loss and speed known", [seconds], remarks=" ".join(rate.split()))
