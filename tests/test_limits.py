"""Somebody else's function ends, whatever it does."""

import contextlib
import contextvars
import threading

import pytest
import torch

from utils import limits
from utils.limits import Unending, within


def spin() -> None:
    while True:
        pass


def catch_for_ever() -> None:
    try:
        catch_for_ever()
    except RecursionError:
        spin()


def other_threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name == "within limits"}


@pytest.mark.parametrize("endless", [spin, catch_for_ever])
def test_what_never_ends_is_stopped(endless):
    with pytest.raises(Unending, match=r"it has not ended after 0\.3 s$"):
        within(0.3, endless)
    assert not other_threads()


def test_what_catches_everything_is_reported_in_time(monkeypatch):
    monkeypatch.setattr(limits, "GRACE", 0.5)
    enough = threading.Event()

    def spin_and_catch_all() -> None:
        while not enough.is_set():
            with contextlib.suppress(BaseException):
                while not enough.is_set():
                    pass

    with pytest.raises(Unending, match="goes on behind: restart the kernel"):
        within(0.3, spin_and_catch_all)
    enough.set()
    for thread in other_threads():
        thread.join(10)


def test_in_a_thread_that_is_not_the_main_one_too():
    said = []

    def ask() -> None:
        with pytest.raises(Unending) as caught:
            within(0.3, spin)
        said.append(str(caught.value))

    asks = threading.Thread(target=ask)
    asks.start()
    asks.join(30)
    assert said == ["it has not ended after 0.3 s"]


def test_what_sleeps_is_left_behind_and_that_is_said(monkeypatch):
    monkeypatch.setattr(limits, "GRACE", 0.2)
    wake = threading.Event()  # however busy the machine, it sleeps until this is set
    try:
        with pytest.raises(Unending, match="goes on behind: restart the kernel"):
            within(0.3, wake.wait)
    finally:
        wake.set()
    for thread in other_threads():  # stopped as soon as it is awake
        thread.join(10)
    assert not other_threads()


def test_a_sleeper_holds_up_nothing_where_functions_are_traced(start_python):
    """Coverage and debuggers trace; this hung for ever in Python 3.11."""
    code = """
import sys, threading
from utils import limits
limits.GRACE = 0.3
trace = lambda *_: trace
threading.settrace(trace)
sys.settrace(trace)
wake = threading.Event()
try:
    limits.within(0.2, wake.wait)
except limits.Unending as problem:
    print(problem)
wake.set()
"""
    output, errors = start_python(code).communicate(timeout=60)
    assert output.strip().endswith("goes on behind: restart the kernel"), errors
    assert errors == ""


def test_what_takes_ever_more_memory_is_stopped(monkeypatch):
    monkeypatch.setattr(limits, "GROWTH", 0.2e9)

    def hoard() -> None:
        kept = []
        while True:
            kept.append(torch.ones(1_000_000))

    with pytest.raises(Unending, match=r"it has taken \d+\.\d GB of memory"):
        within(60, hoard)
    assert not other_threads()


def test_results_and_errors_come_through():
    assert within(5, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError) as caught:
        within(5, divmod, 7, 0)
    assert caught.traceback
    with pytest.raises(SystemExit):
        within(5, exit)


def test_the_settings_of_the_asking_thread_hold():
    setting = contextvars.ContextVar("setting")
    setting.set("mine")
    with torch.no_grad():
        assert within(5, lambda: (setting.get(), torch.is_grad_enabled())) == (
            "mine",
            False,
        )
    assert within(5, torch.is_grad_enabled)
    assert within(5, torch.get_num_threads) == torch.get_num_threads()
    torch.manual_seed(0)
    first = within(5, torch.rand, 3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), first)


def test_who_stops_the_cell_stops_the_function(monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    began = []
    monkeypatch.setattr(limits.psutil, "virtual_memory", interrupted)
    with pytest.raises(KeyboardInterrupt):
        within(60, lambda: [began.append(1), spin()])
    assert began and not other_threads()
