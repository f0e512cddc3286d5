"""A process in which somebody else's function can do no harm: Linux only.

It is a fork of one that trusts nobody: it holds what that one holds, and gives back
JSON through a pipe. Before the function runs it has given up, by the kernel's word:

- all system calls but those on a list (seccomp): no other process or signal to one, no
  socket, no other program, no change of another file's rights or times;
- all files (Landlock) but Python, the packages, the course and its data to read, and
  an empty folder of its own to write;
- what root may do, where root runs it; memory, time, files and open files without end.

What it can still do: use up its seconds and its memory, and return anything at all.
"""

import contextlib
import ctypes
import json
import os
import platform
import resource
import select
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils import files
from utils.capstone.process import address_space

ROOT = Path(__file__).parents[2]
MOST_SENT = 30_000_000  # bytes of what comes back
CHUNK = 1 << 20
MOMENT = 0.5  # seconds to end after the last word
NOT_HERE = (
    "learners' code is run where it can harm nothing, which needs Linux with Landlock"
    " and seccomp (a kernel from 6.2 on; also in WSL 2 and in most containers), and"
    " here {what}. With --trusted it runs without that, as the user who grades, and"
    " can read, write and send what that user can."
)


@dataclass(frozen=True)
class Limits:
    """What a caged function may use: seconds by the clock, bytes of memory besides
    what the process has, bytes of a file. trusted: no cage, only these."""

    seconds: float
    memory: int = 3_000_000_000
    file: int = 50_000_000
    trusted: bool = False


class Escaped(Exception):  # noqa: N818 - says of a process how it ended
    """The caged process gave nothing back; the message says why, as `endless` in words
    or as how it ended."""

    def __init__(self, message: str, endless: bool = False) -> None:
        super().__init__(message)
        self.endless = endless


# --------------------------------------------------------------------------- the kernel

LIBC = ctypes.CDLL(None, use_errno=True)
MACHINES = {  # by machine: audit number, then the calls allowed
    "x86_64": (
        0xC000003E,
        "0-28 32 33 35 37-40 60 63 73-77 79 80 82-84 87 89 95-100 102 104 107 108 110"
        " 111 121 128 131 137 138 140 158 186 201 202 204 217-219 228-233 257 258"
        " 262-264 267 269-271 273 281 285 290-293 309 316 318 319 324 326 332 334 439",
    ),
    "aarch64": (
        0xC00000B7,
        "17 19-24 32 34 35 38 43-44 46-49 56 57 59 61-68 71-73 78-80 82 83 93 94 96 98"
        " 99 101 103 113-115 123 124 128 132 134 135 137 139 141 153 155 160 163 165"
        " 166 168 169 172-179 214-216 222 226 227 232 233 276 278 279 283 285 291 293"
        " 439",
    ),
}
NOT_EVEN = {"x86_64": {16, 76}, "aarch64": {29}}  # ioctl, truncate
CALLS = {  # by machine: clone, clone3, prlimit64, fcntl
    "x86_64": (56, 435, 302, 72),
    "aarch64": (220, 435, 261, 25),
}
THREAD = 0x10000  # of clone: one more thread of this process
FCNTL = (0, 1, 2, 3, 4, 1030)  # nothing that has signals sent
LANDLOCK = (444, 445, 446)  # create a ruleset, add a rule, restrict; on all machines
OLDEST = 3  # Landlock that guards truncation
READ = 0b1100  # files and folders


def numbers(text: str) -> list[int]:
    """The numbers that a list with ranges names.

    >>> numbers("1 3-5")
    [1, 3, 4, 5]
    """
    pairs = [part.partition("-") for part in text.split()]
    return [n for a, _, b in pairs for n in range(int(a), int(b or a) + 1)]


def missing() -> str:
    """What of the cage this system has not; empty when it has all."""
    if sys.platform != "linux":
        return f"is {platform.system() or sys.platform}"
    if platform.machine() not in MACHINES:
        return f"the processor is {platform.machine()}"
    version = LIBC.syscall(LANDLOCK[0], None, 0, 1)
    if version < OLDEST:
        return f"Landlock is {'off' if version < 0 else f'version {version}'}"
    return ""


def _must(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def allow_files(readable: Sequence[Path], writable: Path) -> None:
    """From here on this process opens only these, and what lies in them."""
    create, add, restrict = LANDLOCK
    version = LIBC.syscall(create, None, 0, 1)
    # later versions guard devices, TCP, and signals to others
    every = (1 << (16 if version >= 5 else 15)) - 1
    handled = [every, 3 if version >= 4 else 0, 3 if version >= 6 else 0]
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = struct.pack("QQQ", *handled)[:size]
    rules = _must(LIBC.syscall(create, ruleset, size, 0), "Landlock")
    for path in [*readable, writable]:
        allowed = every if path is writable else READ if path.is_dir() else 4
        with contextlib.suppress(FileNotFoundError):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", allowed, place)
            _must(LIBC.syscall(add, rules, 1, rule, 0), f"Landlock of {path}")
            os.close(place)
    _must(LIBC.syscall(restrict, rules, 0), "Landlock")
    os.close(rules)


def _filter() -> bytes:
    """The program that the kernel runs at each system call."""
    machine = platform.machine()
    audit, allowed = MACHINES[machine]
    clone, clone3, limit, fcntl = CALLS[machine]
    load, equal, above, set_, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, deny, unknown = 0x7FFF0000, 0x00050001, 0x00050026  # EPERM, ENOSYS

    def first_argument_of(call: int, *checks: tuple, place: int = 16) -> list[tuple]:
        body = [(load, 0, 0, place), *checks, (give, 0, 0, deny)]
        return [(equal, 0, len(body), call), *body]

    commands = [pair for n in FCNTL for pair in ((equal, 0, 1, n), (give, 0, 0, allow))]
    steps = [(load, 0, 0, 4), (equal, 1, 0, audit), (give, 0, 0, deny)]
    steps += [(load, 0, 0, 0), (above, 0, 1, 0x40000000), (give, 0, 0, deny)]
    steps += first_argument_of(clone, (set_, 0, 1, THREAD), (give, 0, 0, allow))
    steps += [(equal, 0, 1, clone3), (give, 0, 0, unknown)]
    steps += first_argument_of(limit, (equal, 0, 1, 0), (give, 0, 0, allow))
    steps += first_argument_of(fcntl, *commands, place=24)
    for number in sorted({*numbers(allowed)} - NOT_EVEN[machine]):
        steps += [(equal, 0, 1, number), (give, 0, 0, allow)]
    steps += [(give, 0, 0, deny)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def allow_calls() -> None:
    """From here on this process, with all its threads, makes only the system calls on
    the list."""
    program = _filter()
    kept = ctypes.create_string_buffer(program)
    counted = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(kept))
    _must(LIBC.prctl(22, 2, counted, 0, 0), "seccomp")


def drop_rights() -> None:
    """Give up what root may do; root's files stay its own."""
    header = struct.pack("Ii", 0x20080522, 0)
    _must(LIBC.capset(header, bytes(24)), "capset")
    _must(LIBC.prctl(38, 1, 0, 0, 0), "no_new_privs")


def readable() -> list[Path]:
    """What a caged function may read: Python, its packages, the course and its data.
    Nothing of a class."""
    system = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null"]
    system += ["/dev/urandom", "/sys/devices/system/cpu"]
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix}
    course = [ROOT / "utils", ROOT / "lessons", files.data_folder()]
    return [*map(Path, [*system, *sorted(python)]), *course]


# ---------------------------------------------------------------------------- to run it


def run(work: Callable[[], Any], limits: Limits, folder: Path | None = None) -> Any:
    """What `work()` gives, as JSON, from a fork of this process in a cage.

    folder: where it may write, and is; an empty one by default.

    Raises:
        Escaped: it gave nothing that is JSON back, in time.
    """
    with contextlib.ExitStack() as stack:
        place = folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="cage-"))
        )
        outcome, end = os.pipe()
        child = os.fork()
        if child == 0:
            _inside(work, limits, place, end)
        os.close(end)
        stack.callback(os.close, outcome)
        content, late = b"", True
        try:
            content, late = _hear(outcome, limits.seconds)
        finally:
            status = _end(child, late)
    if late:
        raise Escaped(f"it has not ended after {limits.seconds:g} s", endless=True)
    try:
        return files.parse_json(content)
    except ValueError:
        raise Escaped(_how_it_ended(status, content)) from None


def _end(child: int, late: bool) -> int:
    """Kill the process and, without a cage, its own; how it ended. One that has closed
    its end is given a moment, to say how."""
    until = time.monotonic() + (0 if late else MOMENT)
    while time.monotonic() < until:
        # left as it is until the end, so that nobody else gets its number
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.001)
    for kill, number in ((os.killpg, child), (os.kill, child)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(number, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _hear(outcome: int, seconds: float) -> tuple[bytes, bool]:
    """What the process sends until it closes its end, and whether it was too late."""
    content, until = bytearray(), time.monotonic() + seconds
    while len(content) <= MOST_SENT:
        left = until - time.monotonic()
        if left <= 0 or not select.select([outcome], [], [], left)[0]:
            return bytes(content), True
        if not (part := os.read(outcome, CHUNK)):
            break
        content += part
    return bytes(content), False


def _how_it_ended(status: int, content: bytes) -> str:
    if len(content) > MOST_SENT:
        return f"it gave back more than {MOST_SENT // 1_000_000} MB"
    if status == -signal.SIGXCPU:
        return "it took too much time of the processor"
    if status in (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV):
        name = signal.Signals(-status).name
        return f"its process ended at once ({name}), as of memory that is not there"
    return f"its process ended at once (code {status}) and gave nothing back"


def _inside(work: Callable[[], Any], limits: Limits, place: Path, end: int) -> None:
    """All of the child's life. It never returns."""
    try:
        _shut(end, place)
        _limit(limits)
        if not limits.trusted:
            drop_rights()
            allow_files(readable(), place)
            allow_calls()
        content = json.dumps(work()).encode()
        for part in _parts(content):
            os.write(end, part)
    except MemoryError:
        os.write(end, b'{"stopped": ["MemoryError", "it needs too much memory"]}')
    finally:
        os._exit(0)


def _parts(content: bytes) -> Iterator[bytes]:
    # a pipe takes 64 kB at a time, and a write may be of less than all
    for begin in range(0, len(content), 1 << 14):
        yield content[begin : begin + (1 << 14)]


def _shut(end: int, place: Path) -> None:
    """A session of its own, in its folder, without what the parent has open."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.closerange(3, end)
    os.closerange(end + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    for name, way, stream in (
        ("stdin", "r", 0),
        ("stdout", "w", 1),
        ("stderr", "w", 2),
    ):
        setattr(sys, name, open(stream, way, closefd=False))  # noqa: SIM115 - for good
    os.chdir(place)
    tempfile.tempdir = str(place)


def _limit(limits: Limits) -> None:
    memory, seconds = address_space() + limits.memory, int(limits.seconds) + 1
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, 4 * seconds),  # of all threads
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
