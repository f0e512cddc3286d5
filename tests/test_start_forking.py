"""Kernels of the explorer's page that are forked from one process: each as good as one
that starts by itself, and none of another's business."""

import contextlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import ipywidgets
import psutil
import pytest

from tests.test_start_page import ask, served
from tools.start import forking
from utils.explorer import findings, visit
from utils.explorer.state import Controls

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
        assert soon(lambda: warm not in server.children())
        third = saw(url)
        assert third["forked"] and third["drawn"][0] != first["drawn"][0]
        assert kernels[1].status() != psutil.STATUS_ZOMBIE
        # whatever ends the server ends them all
        left = server.children(recursive=True)
        server.kill()
        assert len(left) == 3 and not psutil.wait_procs(left, timeout=30)[1]


@linux
@pytest.mark.parametrize(
    "wrong",
    [
        "import no_such_module",
        "import os, sys\nif 'warm.py' in sys.argv[0]: os._exit(3)\n" + LIGHT,
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=[1e6], daemon=True).start()\n" + LIGHT,
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
