"""What Lighthouse says of the site on a phone: the start page and some lessons.

For `make bench ARGS=lighthouse`. Lighthouse comes from the npm registry when it is run,
at one version.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools import browser, web
from tools.bench.site import written
from tools.bench.table import Row
from tools.npm import npm
from tools.start import checking
from tools.web.served import served

VERSION = "13.5.0"
PAGES = (
    "index.html",
    "lessons/00_start_here/index.html",
    "lessons/03_weight_pruning/index.html",
    "lessons/11_generalization/index.html",
)
CATEGORIES = ("performance", "accessibility", "best-practices")
PAINT = "largest-contentful-paint"


def judged(_threads: int) -> Iterator[Row]:
    """A row a page, after the site was built; where there is no Chromium, or npm gives
    no Lighthouse, it says so, and there are none."""
    chromium = checking.find_chromium()
    known = npm("view", f"lighthouse@{VERSION}", "version")
    if not chromium or known.stdout.strip() != VERSION:
        reason = "npm does not give it" if chromium else "there is no Chromium"
        print(f"Lighthouse {VERSION} is left out: {reason}.", file=sys.stderr)
        return
    with written(web.build) as folder, served(folder, packed=True) as address:
        for page in PAGES:
            yield row(page, report(address + page, chromium))


def report(address: str, chromium: str) -> dict:
    """What Lighthouse finds on a page, as its own JSON says it.

    Raises:
        RuntimeError: it failed; its words.
    """
    flags = " ".join(["--headless=new", *browser.CHROMIUM_FLAGS])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.json")
        command = ["exec", "--yes", f"--package=lighthouse@{VERSION}", "--"]
        command += ["lighthouse", address, "--quiet", "--output=json"]
        command += [f"--output-path={path}", f"--chrome-flags={flags}"]
        command += [f"--only-categories={','.join(CATEGORIES)}"]
        done = npm(*command, settings={"CHROME_PATH": chromium})
        if not path.is_file():
            raise RuntimeError(f"Lighthouse failed on {address}: {done.stderr}")
        return json.loads(path.read_text("utf-8"))


def row(page: str, found: dict) -> Row:
    """Seconds until the largest part is painted, as Lighthouse computes them for a
    slow phone, and its points."""
    points = (
        f"{name} {100 * found['categories'][name]['score']:.0f}" for name in CATEGORIES
    )
    seconds = found["audits"][PAINT]["numericValue"] / 1000
    blocked = found["audits"]["total-blocking-time"]["numericValue"]
    return Row(
        f"lighthouse, phone, {page}",
        [seconds],
        goal="95 points",
        remarks=f"{', '.join(points)}; blocked for {blocked:.0f} ms",
    )
