"""Work that a panel does while nobody presses a key: a slice at a time, between the
kernel's messages.

A generator yields after each slice (some hundredths of a second), and the kernel's own
event loop runs the next one when it has no cell to run. So a cell's measurements are
not disturbed, and no thread is left behind when the kernel goes. Without an event loop
(plain Python) `finish` does the work.

JupyterLab hands widget messages to a thread of their own (a subshell), so a callback
may come in the middle of a
slice: whoever touches the panel holds its `lock`.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator

# seconds between slices, in which the lock is free and a message is noticed
PAUSE = 0.001
Work = Generator[None, None, None]


class Background:
    """One piece of work at a time; a new one takes the place of the old.

    Args:
        lock: of the panel.  failed: gets an exception that the work raised.
    """

    def __init__(
        self, lock: threading.RLock, failed: Callable[[Exception], None]
    ) -> None:
        self.lock, self.failed = lock, failed
        self._work: Work | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()  # of the cell that makes the panel

    @property
    def busy(self) -> bool:
        """Whether there is work that has not come to its end."""
        return self._work is not None

    def start(self, work: Work, rest: float = 0.0) -> None:
        """Begin after `rest` seconds without another `start`."""
        with self.lock:
            self.stop()
            self._work = work
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._drive(work, rest), self._loop)

    def stop(self) -> None:
        """Drop the work, wherever it is."""
        with self.lock:
            work, self._work = self._work, None
            if work is not None:
                work.close()

    def step(self) -> None:
        """Do the next slice of the work now, if there is one."""
        with self.lock:
            if self._work is not None:
                self._slice(self._work)

    def finish(self) -> None:
        """Do what is left of the work now."""
        with self.lock:
            while self.busy:
                self.step()

    async def _drive(self, work: Work, rest: float) -> None:
        await asyncio.sleep(rest)
        while True:
            with self.lock:
                if self._work is not work:
                    return
                self._slice(work)
            await asyncio.sleep(PAUSE)

    def _slice(self, work: Work) -> None:
        try:
            next(work)
        except StopIteration:
            self._done(work)
        except Exception as error:  # noqa: BLE001 - handed on, to be shown
            self._done(work)
            self.failed(error)

    def _done(self, work: Work) -> None:
        if self._work is work:
            self._work = None
