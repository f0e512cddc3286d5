"""Work that many processes share: Dask's workers, here or on other machines.

    with connected(workers=2) as client:
        for place, result in results_of(client, function, items):
            ...

By default the workers are processes of this machine. What goes to and fro are pickles,
so that whoever may speak to the scheduler may run anything: the processes here speak
TLS on the loopback, with keys that are in memory only; a scheduler elsewhere must speak
TLS too, unless its network is trusted (`check_address`).

A function and its items are pickled: both must come from a module that a worker can
import.
"""

import argparse
import contextlib
import hashlib
import ipaddress
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import dask.config
import torch
from distributed import Client, Future, KilledWorker, LocalCluster, Security, wait
from distributed.comm.core import CommClosedError
from distributed.utils import silence_logging_cmgr

from tools.start.files import ROOT, STOPPED, StartError
from utils import files

Item = TypeVar("Item")
Result = TypeVar("Result")

CODE = ("utils", "lessons", "tools")  # what a worker runs
READ = {"lab.py", "further.py"}  # in it: notebooks as text, which nothing imports
DATA = ("FashionMNIST", "austen", "baselines")  # what runs read
PATIENCE = 15  # seconds until a scheduler must have answered
GONE = (
    "The scheduler is gone. What was done is kept: the same command goes on from there."
)
CLOSING = 20.0  # seconds from Ctrl+C until it ends, closed or not
MOST = 1000  # workers, or threads of each
LOOK = 1.0  # seconds between two looks at who is there
SETTINGS = {
    # threads are set by `results_of`, in the thread that works
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.worker.profile.enabled": False,
    # not the machine's open ports: no routes, and `_local` binds it to the loopback
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.admin.large-graph-warning-threshold": "100MB",
}


class WorkError(StartError):
    """Some of the work could not be done; what could be is."""


# ------------------------------------------------------------------------- the workers


@contextlib.contextmanager
def connected(
    workers: int, scheduler: str = "", *, trusted: bool = False
) -> Iterator[Client]:
    """A client of as many new processes here, or of the scheduler at an address.

    The processes end with the client, however it ends.

    Args:
        workers: processes to start; not looked at where there is a scheduler.
        scheduler: `tls://host:port` or `tcp://host:port`; none: processes here.
        trusted: everybody on the scheduler's network may run anything as you.
    Raises:
        StartError: there is no such scheduler, it does not answer, or its line is open.
    """
    if scheduler:
        check_address(scheduler, trusted=trusted)
    with (
        dask.config.set(SETTINGS),
        _ended_by_ctrl_c(),
        silence_logging_cmgr(logging.CRITICAL),  # what matters is an error of ours
        _client_of(scheduler) if scheduler else _local(workers) as client,
    ):
        yield client


@contextlib.contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Meanwhile Ctrl+C ends this process in any case: Dask's closing, which waits for
    others, may never come to its end. The workers here end with it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal comes to it
        return

    def leave() -> None:
        print(STOPPED, file=sys.stderr, flush=True)
        os._exit(130)

    def interrupt(number: int, frame: FrameType | None) -> None:
        late = threading.Timer(CLOSING, leave)
        late.daemon = True
        late.start()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _local(workers: int) -> Iterator[Client]:
    """Processes of this machine. No limit on memory: Dask would stop a run for it."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,
            security=Security.temporary(),
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            preload=[__name__],  # Dask calls `dask_setup`
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def dask_setup(_worker: object) -> None:
    """In a worker of this machine, before its first item: a terminal's Ctrl+C goes to
    it too, and is the client's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _client_of(address: str) -> Client:
    try:
        return Client(address, timeout=PATIENCE, security=_keys(address))
    except (OSError, ValueError, RuntimeError) as error:
        raise StartError(
            f"SCHEDULER={address} does not answer ({error}): start it with `dask"
            " scheduler`, as CONTRIBUTING.md says."
        ) from None


def _keys(address: str) -> Security | None:
    """The certificates that Dask's own settings name, where TLS is spoken."""
    return Security(require_encryption=True) if address.startswith("tls:") else None


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--workers` and `--trusted-network`, which each command takes whose work is
    shared."""
    parser.add_argument(
        "--workers",
        type=count,
        default=os.cpu_count(),
        help="processes of this machine; default: one a core. At a scheduler"
        " (SCHEDULER=tls://host:port) there are as many as there are",
    )
    parser.add_argument(
        "--trusted-network",
        action="store_true",
        help="SCHEDULER may be tcp:// on another machine: nobody else is on its"
        " network",
    )


def count(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a whole number from 1 to {MOST}"
        )
    return int(text)


def asked_scheduler() -> str:
    """The address in SCHEDULER; empty: processes of this machine."""
    return os.environ.get("SCHEDULER", "").strip()


def check_address(address: str, *, trusted: bool = False) -> None:
    """Refuse an address that is none, or a line that others can speak on.

    Raises:
        StartError: says what would be right.
    """
    try:
        parts = urlsplit(address)
        complete = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
    except ValueError:  # a port that is no number
        complete = False
        parts = urlsplit("")
    if not complete:
        raise StartError(
            f"SCHEDULER={address} is no address of a scheduler: give"
            " tls://host:port, or tcp://127.0.0.1:port."
        )
    if parts.scheme == "tcp" and not trusted and not _is_loopback(parts.hostname or ""):
        raise StartError(
            f"SCHEDULER={address} is open: whoever reaches that port can run anything"
            " as you. Use tls:// with certificates, or say --trusted-network if"
            " nobody else is on that network."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ----------------------------------------------------------------------- the handshake


def fingerprint() -> dict[str, str]:
    """What must be the same everywhere for the same numbers: hashes of the code and of
    the data, and the versions of Python and PyTorch."""
    return {
        "code": _hash_of(ROOT, [ROOT / part for part in CODE], "*.py"),
        "data": _hash_of(files.data_folder(), [files.data_folder()], "*"),
        "Python": ".".join(map(str, sys.version_info[:2])),
        "PyTorch": torch.__version__,
    }


def _hash_of(root: Path, folders: Iterable[Path], pattern: str) -> str:
    """Of the names and contents of all files there."""
    found = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob(pattern)):
            name = path.relative_to(root)
            if path.name in READ or not path.is_file() or _is_hidden(name):
                continue
            if pattern == "*" and name.parts[0] not in DATA:
                continue
            found.update(f"{name.as_posix()} {files.sha256(path)}\n".encode())
    return found.hexdigest()[:16]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@cache
def own_fingerprint() -> dict[str, str]:
    """That of this process, as it was when it was first asked for."""
    return fingerprint()


class OtherWorkerError(Exception):
    """This worker has other code or other data than the client."""


def checked(
    expected: Mapping[str, str], threads: int, function: Callable, item: object
) -> Any:
    """In a worker: `function(item)`, if this is a worker of the client's kind.

    Raises:
        OtherWorkerError: it is not; says in what.
    """
    if problem := difference(expected, own_fingerprint()):
        raise OtherWorkerError(problem)
    torch.set_num_threads(threads)
    return function(item)


def difference(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What a worker has otherwise, in words; empty when nothing."""
    return ", ".join(
        f"{name} {found.get(name, 'none')} instead of {value}"
        for name, value in expected.items()
        if found.get(name) != value
    )


# ---------------------------------------------------------------------------- the work

# an item that waits or goes on, with its place
Job = tuple[int, Any]


def results_of(
    client: Client,
    function: Callable[[Item], Result],
    items: Iterable[Item] | Callable[[str], tuple[int, Item] | None],
    *,
    threads: int = 1,
    retries: int = 2,
) -> Iterator[tuple[int, Result]]:
    """Each item's place and what `function(item)` gives, as soon as it is there.

    A worker has one item at a time, and the next one is asked of `items` when a worker
    is free: items may depend on the results before. What a worker had in hand when it
    died is done by another one.

    Args:
        items: them, or a function that gives the worker at an address its next one,
            with its place; None: there are no more.
        threads: of PyTorch, in each worker.
        retries: how often an item that failed is tried again.
    Raises:
        WorkError: after all others are done: some items failed; a sentence for each.
        StartError: no worker is like this client, or the scheduler is gone.
    """
    hand_out = items if callable(items) else _in_turn(items)
    task = partial(checked, own_fingerprint(), threads, function)
    crew, failed = _Crew(client, hand_out, task, retries), []
    try:
        while crew.goes_on():
            for (place, item), future in crew.done():
                if error := error_of(future):
                    failed.append(_sentence(item, error))
                else:
                    yield place, future.result()
    except (CancelledError, CommClosedError):
        raise StartError(GONE) from None
    finally:
        crew.stop()
    if failed:
        raise WorkError("\n".join(failed))


def _in_turn(items: Iterable[Item]) -> Callable[[str], tuple[int, Item] | None]:
    pairs = iter(enumerate(items))
    return lambda _: next(pairs, None)


def error_of(future: Future) -> BaseException | None:
    """What a finished one raised."""
    return cast(BaseException | None, future.exception())


def _sentence(item: object, error: BaseException) -> str:
    what = f"{str(item)[:200]} could not be done"
    if isinstance(error, KilledWorker):
        return f"{what}: each worker that tried it died, perhaps for want of memory."
    return f"{what}: {type(error).__name__}: {error}"


@dataclass
class _Crew:
    """The workers, and what they have in hand."""

    client: Client
    hand_out: Callable[[str], Job | None]
    task: Callable
    retries: int
    running: dict[Future, tuple[str, Job]] = field(default_factory=dict)
    again: list[Job] = field(default_factory=list)
    fit: set[str] = field(default_factory=set)  # addresses
    refused: set[str] = field(default_factory=set)
    more: bool = True
    told: bool = False

    def goes_on(self) -> bool:
        """Give each idle worker an item; False when all are done."""
        self._meet()
        for worker in sorted(
            self.fit - {worker for worker, _ in self.running.values()}
        ):
            job = self.again.pop() if self.again else self.hand_out(worker)
            if job is None:
                self.more = False
                break
            self._submit(worker, job)
        return bool(self.running or self.again or self.more)

    def _submit(self, worker: str, job: Job) -> None:
        future = self.client.submit(
            self.task,
            job[1],
            pure=False,
            retries=self.retries,
            workers=[worker],
            allow_other_workers=True,  # where this one dies
        )
        self.running[future] = worker, job

    def done(self) -> Iterator[tuple[Job, Future]]:
        """What is there, after LOOK seconds at most."""
        if not self.running:
            time.sleep(LOOK)  # no worker is there yet
        with contextlib.suppress(TimeoutError):
            wait(list(self.running), timeout=LOOK, return_when="FIRST_COMPLETED")
        for future in [each for each in self.running if each.done()]:
            _, job = self.running.pop(future)
            if future.cancelled():
                raise CancelledError
            if isinstance(error_of(future), OtherWorkerError):
                self.again.append(job)
            else:
                yield job, future

    def _meet(self) -> None:
        """Ask each new worker who it is; say once of each that is refused why."""
        there = cast(dict[str, int], self.client.nthreads())
        self.fit &= there.keys()
        new = [each for each in there if each not in self.fit | self.refused]
        for address, answer in self._answers(new).items():
            if problem := _problem(there[address], answer):
                self.refused.add(address)
                print(f"The worker {address} gets no work: {problem}.", file=sys.stderr)
            else:
                self.fit.add(address)
        if not self.fit:
            self._nobody(there.keys() & self.refused)

    def _answers(self, addresses: list[str]) -> dict[str, object]:
        if not addresses:
            return {}  # which Dask would take for all
        asked = self.client.run(own_fingerprint, workers=addresses, on_error="return")
        return cast(dict[str, object], asked)

    def _nobody(self, refused: set[str]) -> None:
        if refused:
            raise StartError(
                "No worker is like this client: give all of them the same code and"
                " data, as CONTRIBUTING.md says."
            )
        if not self.told:
            print("No worker is there yet: waiting for one.", file=sys.stderr)
            self.told = True

    def stop(self) -> None:
        """Nothing goes on, whatever it was."""
        with contextlib.suppress(Exception):  # it may be gone
            self.client.cancel(list(self.running), force=True)


def _problem(threads: int, answer: object) -> str:
    """Why a worker is refused; empty when it is not."""
    if isinstance(answer, ImportError):
        return f"it does not have the code of the course ({answer})"
    if not isinstance(answer, dict):
        return f"it does not say what it has ({answer!r})"
    if threads != 1:
        return f"it would do {threads} things at once: start it with --nthreads 1"
    return difference(own_fingerprint(), answer)
