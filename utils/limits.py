"""Somebody else's function, within limits of time and memory, in this process."""

import contextvars
import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

LOOK = 0.1  # seconds between two looks at the memory
GRACE = 2.0  # seconds for it to end once it was told to
GROWTH = 3e9  # bytes that it may take
KEPT_FREE = 0.3e9  # bytes of the machine's memory that it must leave


class Unending(Exception):  # noqa: N818 - says of somebody's function how it is
    """The function did not end, or took too much memory; the message says which."""


class _Stop(BaseException):
    """Raised inside the function. No Exception, which its `except` might catch."""


class _Run(threading.Thread):
    """A function in a thread of its own, with the settings of the thread that asks."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(name="within limits", daemon=True)
        self.result: Any = None
        self.error: BaseException | None = None
        self.running = threading.Lock()  # held until the function has ended
        context, gradients = contextvars.copy_context(), torch.is_grad_enabled()

        def call() -> Any:
            with torch.set_grad_enabled(gradients):
                return function()

        self.call = lambda: context.run(call)
        self.running.acquire()

    def run(self) -> None:
        try:
            self.result = self.call()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            self.error = error
        finally:
            self.running.release()

    def stop(self) -> bool:
        """Raise _Stop in it until it has ended, for GRACE seconds; whether it has. One
        that is asleep, or in a library's own code, notices when it is back."""
        end = time.monotonic() + GRACE
        while self.running.locked() and self.is_alive() and time.monotonic() < end:
            _raise_in(self.ident or 0, self.running)
        if not self.running.locked():
            self.join()
        return not self.is_alive()


def _raise_in(thread: int, running: threading.Lock) -> None:
    """Raise _Stop in a thread, and wait up to LOOK seconds until `running` is free.

    Python 3.11 keeps a flag set for all threads until the one that is meant notices it;
    while it is set, a function that is traced (by coverage, by a debugger) is entered
    for ever. So nothing that is written in Python is called meanwhile, and the flag is
    taken back by an exception of our own.
    """
    raise_in, stop = ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.py_object(_Stop)
    there, here = ctypes.c_ulong(thread), ctypes.c_ulong(threading.get_ident())
    try:
        raise_in(there, stop)
        if running.acquire(timeout=LOOK):
            running.release()
        raise_in(here, stop)
        for _ in range(1000):  # it comes at one of these
            pass
    except _Stop:
        pass


def within(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function(*arguments)` returns or raises, if it ends in time.

    It runs in a thread of its own. What goes on in Python is stopped, on every system,
    also a bare `except` in a loop. Two things cannot be stopped in one process: what
    sleeps, or waits in a library, is left behind until it is back in Python; and one
    operation that never lets another thread run, as 10 ** 10 ** 10, holds up
    everything.

    Args:
        seconds: how long it may take, by the clock.

    Raises:
        Unending: it took longer, or more than 3 GB of memory.

    >>> within(5, sorted, [2, 1])
    [1, 2]
    """
    run = _Run(lambda: function(*arguments))
    process, began = psutil.Process(), time.monotonic()
    memory = process.memory_info().rss
    run.start()
    problem = ""
    try:
        run.join(LOOK)
        while run.is_alive() and not problem:
            grown = process.memory_info().rss - memory
            free = psutil.virtual_memory().available
            if grown > GROWTH or (free < KEPT_FREE and grown > KEPT_FREE):
                problem = f"it has taken {grown / 1e9:.1f} GB of memory, and wants more"
            elif time.monotonic() - began > seconds:
                problem = f"it has not ended after {seconds:g} s"
            else:
                run.join(LOOK)
    finally:  # also when the learner stops the cell
        ended = run.stop()
    if problem and (not ended or isinstance(run.error, _Stop)):
        run.error = None  # it holds on to what filled the memory
        left = "" if ended else ", and goes on behind: restart the kernel"
        raise Unending(f"{problem}{left}")
    if run.error is not None:
        raise run.error
    return run.result
