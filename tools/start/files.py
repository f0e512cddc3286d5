"""Files, locks and problems of the launcher. Standard library only."""

import contextlib
import errno
import json
import os
import sys
import time
from pathlib import Path

from utils import files
from utils.files import DamagedFileError, write_atomically

ROOT = Path(__file__).resolve().parents[2]
DISK_FULL = (
    "The disk is full: free about 3 GB (the folder for temporary files counts too),"
    " then start again."
)


class StartError(Exception):
    """Something the reader can put right; the message is one sentence that says how."""


def write_json(path: Path, content: dict) -> None:
    """Write `content` as JSON, atomically."""
    write_atomically(
        path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
    )


def read_json(path: Path) -> dict:
    """The dict in a JSON file; empty when the file is missing, damaged or holds
    something else."""
    try:
        found = files.read_json(path, "delete it.")
    except DamagedFileError:
        return {}
    return found if isinstance(found, dict) else {}


def try_lock(file) -> bool:
    """Lock an open file for this process, without waiting. True when it is ours, or
    when the disk knows no locks."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
    return True


@contextlib.contextmanager
def locked(path: Path):
    """Hold `path`; a second process waits. The system lets go of it when the process
    ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if not try_lock(file):
            print(
                f"Another start of the course is at work in {path.parent}: waiting"
                " for it.",
                flush=True,
            )
            while not try_lock(file):
                time.sleep(0.2)
        yield


STOPPED = "\nStopped. The same command goes on from here."


def ready_streams() -> None:
    """Let the launcher speak wherever it is started: a letter that the terminal cannot
    show is spelled out, and a stream that was closed says nothing."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_WRONLY)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            # for the programs that are started from here too
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
        with contextlib.suppress(AttributeError):  # a stand-in need not have it
            getattr(sys, name).reconfigure(errors="backslashreplace")


def os_problem(error: OSError) -> str:
    """One sentence for an error of the operating system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{error.filename or ROOT} cannot be written: give yourself the right to, "
            "or name a folder of your own for the notebooks in PRUNING_WORKSPACE."
        )
    return (
        f"{error.filename or 'The system'}:"
        f" {os.strerror(error.errno) if error.errno else error}; put that right, then"
        " start again."
    )
