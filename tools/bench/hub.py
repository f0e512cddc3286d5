"""Learners who come to the hub all at once, open lab 00 and move its slider: what
fails, what waits, what each takes. One of them is a real Chromium, the others speak as
one does (tools/classroom/client.py).

LEARNERS=30 by default; with 30 or more, or RECORD=1, what each takes goes to
deploy/measured.json, and from there into what is deployed (tools/classroom/sizing.py).
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from tools import browser
from tools.bench.table import Row
from tools.classroom import sizing
from tools.classroom.client import Learner
from tools.kernels import Kernel, Panel
from tools.start.files import ROOT
from tools.start.serving import FIRST_NOTEBOOK

LEARNERS = int(os.environ.get("LEARNERS", "30"))
RECORD = LEARNERS >= 30 or os.environ.get("RECORD") == "1"
OPENED_IN = 270  # seconds after which whoever has no panel is counted as waiting
MOVES = 15
PAUSES = (0.5, 2.0)  # seconds between two moves
TRAINING = 6  # seconds
AT_ONCE = 10  # who train

# argv: how many, seconds. They are copies of one process, which has read torch once.
TRAINER = """
import os, sys, time, torch
from torch import nn
count, seconds = int(sys.argv[1]), float(sys.argv[2])
def steps_until(start, end):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100),
                        nn.ReLU(), nn.Linear(100, 10))
    step, steps = torch.optim.SGD(net.parameters(), 0.1), 0
    x, y = torch.randn(256, 784), torch.randint(10, (256,))
    while (now := time.time()) < end:
        step.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        step.step()
        steps += now > start
    return steps
torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)  # imports half of torch
start = time.time() + 3
ours, theirs = os.pipe()
for _ in range(count):
    if os.fork() == 0:
        os.write(theirs, b"%d " % steps_until(start, start + seconds))
        os._exit(0)
for _ in range(count):
    os.wait()
print(sum(map(int, os.read(ours, 10_000).split())))
"""


@dataclass
class Visit:
    """What one learner saw: seconds from coming to each thing, and of each move."""

    name: str
    steps: dict[str, float] = field(default_factory=dict)
    moves: list[float] = field(default_factory=list)
    failed: str = ""


@dataclass
class Takes:
    """Bytes (proportional: what is shared is shared out) and seconds of the processor
    of one learner."""

    server: int = 0
    kernel: int = 0
    seconds: float = 0.0


# ------------------------------------------------------------------------------- a hub


@contextlib.contextmanager
def running(folder: Path, learners: int) -> Iterator[dict]:
    """A hub for so many; gives what it wrote down. Ended however this ends."""
    command = ["-m", "tools.classroom.hub", f"--count={learners}", "--debug"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "--folder", str(folder / "hub")],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    plan, end = folder / "hub" / "hub.json", time.monotonic() + 60
    try:
        while not plan.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        if not plan.exists():
            raise AssertionError((folder / "log").read_text()[-2000:])
        yield json.loads(plan.read_text()) | {"pid": process.pid}
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            for each in belonging(folder):
                with contextlib.suppress(psutil.Error):
                    each.kill()


def belonging(folder: Path) -> list[psutil.Process]:
    """The processes of learners of the hub in this folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("HOME", "").startswith(str(folder)):
                found.append(process)
    return found


def taken(folder: Path) -> dict[str, Takes]:
    """What each learner's processes take now."""
    found: dict[str, Takes] = {}
    for process in belonging(folder):
        with contextlib.suppress(psutil.Error, OSError):
            takes = found.setdefault(process.environ()["USER"], Takes())
            memory = process.memory_full_info().pss
            if any("ipykernel" in word for word in process.cmdline()):
                takes.kernel += memory
            else:
                takes.server += memory
            times = process.cpu_times()
            takes.seconds += times.user + times.system
    return found


# --------------------------------------------------------------------------- a learner


def cells_of(notebook: Path) -> list[str]:
    """The code cells of a notebook."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


async def visit(hub: dict, name: str, panels: "Panels") -> Visit:
    """Log in, open lab 00, run it as far as its panel, wait for the others (or for as
    long as is waited for them), then move the slider."""
    seen, started = Visit(name), time.monotonic()

    def note(step: str) -> None:
        seen.steps[step] = time.monotonic() - started

    base = f"http://127.0.0.1:{hub['port']}"
    password = hub["learners"][name]["password"]
    try:
        async with Learner(base, name, password) as learner:
            async with asyncio.timeout(OPENED_IN):
                assert await learner.login(), "not let in"
                note("login")
                await learner.server()
                note("lab")
                kernel = await learner.kernel()
                note("kernel")
                panel = await open_panel(kernel)
                note("panel")
            await panels.wait()
            seen.moves = await slide(panel)
            await panels.wait_for_the_measuring()
            await kernel.close()
    except TimeoutError:
        seen.failed = f"no panel after {OPENED_IN} s"
    except Exception as error:  # noqa: BLE001 - what fails is what is measured
        seen.failed = f"{type(error).__name__}: {error}"[:80]
    return seen


async def open_panel(kernel: Kernel) -> Panel:
    """Run the lab's cells until one shows the panel."""
    panel = Panel(kernel)
    for code in cells_of(ROOT / "notebooks" / FIRST_NOTEBOOK):
        outcome = await kernel.run(code)
        assert not outcome.error, outcome.error
        if panel.is_there:
            return panel
    raise AssertionError("no panel in the lab")


async def slide(panel: Panel) -> list[float]:
    """Move the slider to and fro; seconds of each move until its picture is there."""
    chance, moves = random.Random(panel.kernel.number), []
    for _ in range(MOVES):
        now, stops = panel.slider["index"], range(len(panel.slider["names"]))
        await asyncio.sleep(chance.uniform(*PAUSES))
        moves.append(await panel.move(chance.choice([s for s in stops if s != now])))
    return moves


class Panels:
    """Where learners wait for each other: all have a panel, or the time is up."""

    def __init__(self, learners: int) -> None:
        self.missing = learners
        self.opened, self.measured = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        """Until all have one."""
        self.missing -= 1
        if self.missing == 0:
            self.opened.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.opened.wait(), OPENED_IN)

    async def wait_for_the_measuring(self) -> None:
        """Until the memory has been measured."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.measured.wait(), 60)


async def all_at_once(
    hub: dict, names: list[str], folder: Path
) -> tuple[list[Visit], dict[str, Takes], dict[str, Takes]]:
    """Everybody comes in the same second. Gives also what each took when the panels
    were there, and after the slider was moved."""
    panels = Panels(len(names))
    tasks = [asyncio.create_task(visit(hub, name, panels)) for name in names]
    end = time.monotonic() + OPENED_IN + 5
    while not panels.opened.is_set() and time.monotonic() < end:
        await asyncio.sleep(0.5)
        if all(task.done() for task in tasks):
            break
    panels.opened.set()
    before = await asyncio.to_thread(taken, folder)
    await asyncio.sleep(MOVES * PAUSES[1])
    after = await asyncio.to_thread(taken, folder)
    panels.measured.set()
    return list(await asyncio.gather(*tasks)), before, after


def in_a_browser(hub: dict, name: str, seen: Visit) -> None:
    """The learner who sits at a Chromium: when something is painted, when the notebook,
    and from a key press to the repaint while all others move theirs."""
    try:
        with browser.chromium() as chromium:
            assert chromium, "no Chromium"
            page = chromium.new_page(viewport={"width": 1280, "height": 1000})
            page.set_default_timeout(1000 * OPENED_IN)
            started = time.monotonic()
            page.goto(f"http://127.0.0.1:{hub['port']}/hub/login")
            page.fill("#username_input", name)
            page.fill("#password_input", hub["learners"][name]["password"])
            seen.steps["login page"] = time.monotonic() - started
            page.click("#login_submit")
            page.wait_for_selector("#jupyterlab-splash, .jp-LabShell")
            seen.steps["JupyterLab's first paint"] = time.monotonic() - started
            page.wait_for_selector(".jp-Notebook .jp-Cell")
            seen.steps["notebook"] = time.monotonic() - started
            lab = browser.Lab(page, "hub")
            lab.run_all()
            seen.steps["all cells run"] = time.monotonic() - started
            slider = lab.slider()
            slider.focus()
            page.keyboard.press("Home")
            lab.settle()
            lab.start_stopwatch()
            keys = [("ArrowRight", "ArrowLeft")[n // 10 % 2] for n in range(20)]
            times = lab.time_presses(slider, keys, [0.5] * len(keys))
            seen.moves = [each / 1000 for each in times]
            lab.screenshot("full_house")
    except Exception as error:  # noqa: BLE001 - as above
        seen.failed = f"{type(error).__name__}: {error}"[:120]


# ----------------------------------------------------------------------------- training


def trained(learners: int, threads: int, waiting: str) -> float:
    """Steps a second, all together, of so many who train a LeNet at once."""
    variables = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": waiting,
    }
    answer = subprocess.run(
        [sys.executable, "-c", TRAINER, str(learners), str(TRAINING)],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(answer.stdout) / TRAINING


def training() -> Iterator[Row]:
    """Ten at once against one alone, by threads and how they wait."""
    cores = os.cpu_count() or 1
    alone = trained(1, cores, "PASSIVE")
    yield Row(
        f"one trains, {cores} threads", [1 / alone], remarks=f"{alone:,.0f} steps/s"
    )
    for threads, waiting in [(1, "PASSIVE"), (cores, "PASSIVE"), (cores, "ACTIVE")]:
        rate = trained(AT_ONCE, threads, waiting)
        yield Row(
            f"{AT_ONCE} train, {threads} thread(s) each, {waiting.lower()}",
            [1 / rate],
            "one alone",
            [1 / alone],
            remarks=f"{rate:,.0f} steps/s all together, seconds are for one step",
        )


# ---------------------------------------------------------------------------- the table


def classroom(_threads: int) -> Iterator[Row]:
    """All of it, within ten minutes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with running(folder, LEARNERS) as hub:
            names = list(hub["learners"])
            seen = Visit(names[-1])
            guest = threading.Thread(
                target=in_a_browser, args=(hub, names[-1], seen), daemon=True
            )
            asyncio.run(ready(hub))
            guest.start()
            visits, before, after = asyncio.run(all_at_once(hub, names[:-1], folder))
            guest.join(60)
            common = shared(hub["pid"])
    yield from rows(visits, seen)
    yield from sizes(before, after, visits, common)
    yield from training()


async def ready(hub: dict) -> None:
    """Wait until the hub answers."""
    async with Learner(f"http://127.0.0.1:{hub['port']}", "", "") as nobody:
        await nobody.hub()


def shared(pid: int) -> int:
    """Bytes of the hub and its proxy."""
    hub = psutil.Process(pid)
    proxies = [
        each
        for each in hub.children()
        if any("tools.classroom.proxy" in word for word in each.cmdline())
    ]
    return sum(each.memory_full_info().pss for each in [hub, *proxies])


def rows(visits: list[Visit], seen: Visit) -> Iterator[Row]:
    """What the learners saw."""
    reasons = Counter(visit.failed for visit in [*visits, seen] if visit.failed)
    said = "; ".join(f"{count} x {why}" for why, count in reasons.items())
    for step in ("login", "lab", "kernel", "panel"):
        times = [v.steps[step] for v in visits if step in v.steps]
        yield Row(
            f"{LEARNERS} at once: until {step}",
            times or [float("nan")],
            remarks=f"{len(times)} of {len(visits)}; failed: {said or 'none'}",
        )
    moves = [move for visit in visits for move in visit.moves]
    if len(moves) > 1:
        p95 = statistics.quantiles(moves, n=20)[-1]
        yield Row(
            "slider: message to new picture",
            moves,
            remarks=f"p95 {1000 * p95:.0f} ms of {len(moves)} moves, all at once",
        )
    for step, seconds in seen.steps.items():
        yield Row(f"Chromium among them: {step}", [seconds])
    if len(seen.moves) > 1:
        p95 = statistics.quantiles(seen.moves, n=20)[-1]
        yield Row(
            "Chromium: key to repaint", seen.moves, remarks=f"p95 {1000 * p95:.0f} ms"
        )


def sizes(
    before: dict[str, Takes], after: dict[str, Takes], visits: list[Visit], common: int
) -> Iterator[Row]:
    """What each took, and what a class needs by that."""
    whole = [t for t in after.values() if t.kernel]
    done = [v.name for v in visits if v.moves]
    if not whole or not done:
        return
    opening = [before[name].seconds for name in done if name in before]
    moving = [
        (after[name].seconds - before[name].seconds) / len(visit.moves)
        for visit in visits
        if visit.moves
        for name in [visit.name]
        if name in before and name in after
    ]
    found = replace(
        sizing.read(),
        learners=LEARNERS,
        server_mb=round(statistics.median(t.server for t in whole) / 1e6),
        kernel_mb=round(statistics.median(t.kernel for t in whole) / 1e6),
        most_mb=round(max(t.server + t.kernel for t in whole) / 1e6),
        hub_mb=round(common / 1e6),
        open_cpu_s=round(statistics.median(opening), 1),
        move_cpu_ms=round(1000 * statistics.median(moving)),
    )
    remarks = (
        f"memory: {found.server_mb} MB server + {found.kernel_mb} MB kernel a learner"
        f" (at most {found.most_mb} together), {found.hub_mb} MB hub and proxy"
    )
    yield Row("processor until the panel, a learner", opening, remarks=remarks)
    yield Row("processor for one move, a learner", moving, remarks=sizing.said(found))
    if RECORD:
        sizing.record(found)
