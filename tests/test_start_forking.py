"""Kernels of the explorer's page that are forked from one process: each as good as one
that starts by itself, and none of another's business."""

import contextlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from ipywidgets.widgets.widget import _instances

from tests.test_start_page import ask, served
from tools.start import forking
from utils.explorer import findings, visit
from utils.explorer.memory import Memory
from utils.explorer.state import Controls
from utils.explorer.subject import OWN, Subject
from utils.layers import copied

linux = pytest.mark.skipif(sys.platform != "linux", reason="forks of Linux alone")
LIGHT = """
import random
READ, DRAWN, said = bytearray(60_000_000), random.random(), 0

def warming():
    READ[::4096] = b"x" * len(READ[::4096])
    yield
"""
SAYS = """
import os, random, sys
import numpy, torch
import light

light.said += 1
drawn = random.random(), numpy.random.rand(), float(torch.rand(1))
forked = "ipykernel_launcher" not in sys.argv[0]
print("saw", dict(pid=os.getpid(), parent=os.getppid(), group=os.getpgid(0),
    said=light.said, read=light.READ[0], drawn=(light.DRAWN, *drawn), forked=forked,
    threads=torch.get_num_threads(), folder=os.environ["PRUNING_WORKSPACE"],
    asked=os.environ["QUERY_STRING"]), "end")
"""


@contextlib.contextmanager
def sharing(folder: Path, light: str = LIGHT, source: str = SAYS):
    """The page, with kernels that share what a light module has read."""
    folder.mkdir()
    (folder / "light.py").write_text(light)
    own = {"source": source, "warms": "light", "PYTHONPATH": str(folder)}
    with served(folder, "--preheat_kernel=False", **own) as url:
        yield url


def saw(url: str, more: str = "") -> dict:
    """What the kernel of a new visitor sees."""
    status, text, _ = ask(url + more)
    found = re.search(r"saw (\{.*?\}) end", text.replace("&#39;", "'"), re.DOTALL)
    assert status == 200 and found, text[-3000:]
    return eval(found[1], {})


def soon(holds, seconds: float = 30) -> bool:
    """Whether it holds within so many seconds."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.1)
    return holds()


@linux
def test_visitors_share_what_was_read_and_nothing_else(tmp_path):
    with sharing(tmp_path / "one") as url:
        first, other = saw(url, "&who=first"), saw(url, "&who=other")
        kernels = [psutil.Process(each["pid"]) for each in (first, other)]
        server = kernels[0].parent()
        [warm] = [each for each in server.children() if each not in kernels]
        for each in (first, other):
            assert each["forked"] and each["read"] == ord("x") and each["threads"] == 1
            assert each["said"] == 1  # what one does, the next does not see
            assert each["group"] == each["pid"] and each["parent"] == server.pid
            assert each["folder"] == str(tmp_path / "one")
        assert "who=first" in first["asked"] and "who=other" in other["asked"]
        assert first["drawn"][0] == other["drawn"][0]  # of the process they came from
        assert not set(first["drawn"][1:]) & set(other["drawn"][1:])
        memory = [each.memory_full_info() for each in (*kernels, warm)]
        assert max(each.uss for each in memory[:2]) < 60e6 < memory[2].pss
        # one crashes, then the process that they were forked of: no one else goes
        kernels[0].send_signal(signal.SIGSEGV)
        assert soon(lambda: kernels[0] not in server.children())
        warm.kill()
        # it may lie there dead until the server looks
        dead = psutil.STATUS_ZOMBIE
        assert soon(lambda: warm not in server.children() or warm.status() == dead)
        third = saw(url)
        assert third["forked"] and third["drawn"][0] != first["drawn"][0]
        assert kernels[1].status() != psutil.STATUS_ZOMBIE
        # whatever ends the server ends them all
        left = server.children(recursive=True)
        server.kill()
        assert {kernels[1], psutil.Process(third["pid"])} < set(left)
        assert not psutil.wait_procs(left, timeout=60)[1]


@linux
@pytest.mark.parametrize(
    "wrong",
    [
        "import no_such_module",
        "import os, sys\nif 'warm.py' in sys.argv[0]: os._exit(3)\n" + LIGHT,
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=[1e6], daemon=True).start()\n"
        + LIGHT,
    ],
    ids=["raises", "ends", "has a second thread"],
)
def test_where_no_kernel_can_be_forked_each_starts_by_itself(tmp_path, wrong):
    folder = tmp_path / "one"
    with sharing(folder, wrong) as url:
        if "no_such" in wrong:
            assert ask(url)[0] == 200  # the page says what went wrong in the cell
        else:
            seen = saw(url)
            assert not seen["forked"] and seen["read"] == 0
    said = (folder / "said").read_text()
    assert "the process that prepares light has ended" in said


@linux
def test_a_kernel_that_does_not_stop_holds_nobody_up(tmp_path):
    runaway = "import os\nwhile 'who=runaway' in os.environ['QUERY_STRING']: pass\n"
    with sharing(tmp_path / "one", source=runaway + SAYS) as url:
        with pytest.raises(TimeoutError):
            ask(url + "&who=runaway", seconds=10)
        assert saw(url)["forked"]


def test_a_fork_that_has_ended_gets_no_signal():
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    fork = forking.Fork(process.pid)
    assert soon(lambda: fork.poll() is not None) and fork.wait() == 7
    process.wait()
    fork.kill()  # its id may be another's by now
    fork.terminate()


# --------------------------------------------------------------------- what is prepared


@pytest.fixture
def light_memory(monkeypatch, small, noise):
    """What visitors' panels begin with, of a small network."""
    memory = Memory(Subject(OWN, small, noise))
    monkeypatch.setattr(visit, "found_out", lambda: memory)
    # the panel asks for one of the course's networks
    memory.networks, memory._subjects["lenet300"] = ["lenet300"], memory.subject(OWN)
    return memory


def test_what_is_prepared_is_what_the_page_shows_and_holds_no_widget(light_memory):
    before = set(_instances)
    work = visit.warming()
    next(work)
    begin = Controls(0.0, "magnitude", "global", "weights", "lenet300")
    assert all(place in light_memory.states for place in light_memory.places(begin))
    assert sum(1 for _ in work) > 50
    # in each kernel there would be one more panel, which answers nobody
    assert set(_instances) == before
    looked = set(light_memory.states)
    panel = visit.Visit()
    panel.refresh()
    assert panel.shown.zipped is not None and panel.shown.pictures == 60
    for kind in light_memory.kinds("lenet300"):
        assert {each.kind for each in looked} >= {kind}
    panel.close()


def test_a_fine_tuning_with_prepared_pictures_is_the_same(light_memory):
    subject = light_memory.subject("lenet300")
    kept, drawn = ({}, {})
    for found, prepare in ((drawn, False), (kept, True)):
        if prepare:
            subject.keep_drawn(0)
        for run in (0, 7):
            model = copied(subject.dense)
            list(subject.tune(model, run=run, zeros=False))
            found[run] = model.state_dict()
    for run in (0, 7):
        assert all(torch.equal(kept[run][name], drawn[run][name]) for name in kept[run])
    assert not torch.equal(kept[0]["0.weight"], kept[7]["0.weight"])


def test_a_visitor_keeps_a_file_of_their_own_and_sees_no_one_elses(
    light_memory, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    findings.append(Path(findings.FILE), [dict.fromkeys(findings.COLUMNS, "1")])
    one, other = visit.Visit(), visit.Visit()
    assert not Path(visit.FOLDER).exists()  # nothing is left by those who keep nothing
    one.find.click()
    other.find.click()
    assert one.problems == other.problems == []
    assert len(one.findings) == len(other.findings) == 1
    assert one.path != other.path and one.path.parent == Path(visit.FOLDER)
    assert findings.read(one.path) == one.findings
    assert str(one.path) in one.found.value and str(other.path) not in one.found.value


def test_the_page_comes_before_everything_is_measured(light_memory, monkeypatch):
    shown = []
    monkeypatch.setattr(visit, "display", shown.append)
    panel = visit.Visit()
    panel._ipython_display_()
    assert shown == [panel.panel] and "<svg" in panel.picture.value
    assert panel.shown.time is None and panel.slow_work.busy
    panel.settle()
    assert panel.shown.time is not None and panel.problems == []
