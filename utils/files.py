"""Files that survive: read with limits, verified when the course made them, written to
a temporary name and renamed.

Standard library only: the launcher reads its files with this too.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from io import BufferedReader
from itertools import count
from pathlib import Path
from typing import Any

LARGEST = 100_000_000  # bytes of a file that is read whole
LARGEST_JSON = 20_000_000  # bytes
DEEPEST_JSON = 50  # lists and dicts in each other
PATIENCE = 60  # seconds to wait for another process that writes the same file
SEAL = "sha256"  # the entry of a JSON file that holds the checksum of all others

ADVICE = {
    errno.ENOSPC: "free some space on the disk, then do it again",
    errno.EDQUOT: "free some of the space that you may use, then do it again",
    errno.EACCES: "give yourself the right to, or work in a folder of your own",
    errno.EPERM: "give yourself the right to, or work in a folder of your own",
    errno.EROFS: "work in a folder of your own",
}


class DamagedFileError(RuntimeError):
    """A file of the course is missing or is not what was published; the message names
    the file and the repair."""


class MissingFileError(DamagedFileError):
    """There is no such file."""


# -------------------------------------------------------------------------------- where


def data_folder() -> Path:
    """The folder with FashionMNIST/ and baselines/: `PRUNING_DATA` if set, else data/
    of the project.

    Raises:
        ValueError: `PRUNING_DATA` leads nowhere.
    """
    named = os.environ.get("PRUNING_DATA")
    return folder_named("PRUNING_DATA", named or Path(__file__).parents[1] / "data")


def folder_named(name: str, value: Path | str) -> Path:
    """The absolute path that the setting `name` gives, with `~` and links followed;
    nothing need be there.

    Raises:
        ValueError: there is no such home, or the links go in a circle.
    """
    try:
        path = Path(value).expanduser().resolve()
        os.path.lexists(path)  # refuses what cannot be a path at all
        return path
    # pathlib: RuntimeError without a home and, until Python 3.12, in a circle of links
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(
            f"{name}={str(value)!r} leads nowhere ({error}); give the path of a folder."
        ) from None


# -------------------------------------------------------------------------------- read


def open_regular(path: Path | str) -> BufferedReader:
    """A plain file, open for reading. A pipe, a device, a folder or a socket is refused
    at once, and does not keep its reader waiting.

    Raises:
        OSError: it is no plain file, is missing, or cannot be opened.
    """
    # on a pipe that nobody writes to, opening alone would wait
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:  # a path with a zero byte, or one that has no bytes
        raise OSError(errno.EINVAL, f"no path: {error}", str(path)) from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no plain file", str(path))


def read_regular(path: Path | str, repair: str, limit: int = LARGEST) -> bytes:
    """The bytes of a plain file.

    Args:
        repair: what to do about a file that cannot be had; ends the message.
        limit: bytes; a larger file is refused before it is read.
    Raises:
        MissingFileError: there is none.
        DamagedFileError: it is no plain file, cannot be read, is too large, or changes
            while it is read.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise DamagedFileError(
                    f"{path} is too large to be read ({size:,} bytes; at most"
                    f" {limit:,}). Repair: {repair}"
                )
            content = file.read(size + 1)
    except FileNotFoundError:
        raise MissingFileError(f"{path} is missing. Repair: {repair}") from None
    except OSError as error:
        raise DamagedFileError(
            f"{path} cannot be read ({error.strerror}). Repair: {repair}"
        ) from None
    if len(content) != size:
        raise DamagedFileError(
            f"{path} cannot be read (it changes meanwhile). Repair: {repair}"
        )
    return content


def sha256(path: Path | str) -> str:
    """SHA-256 of a file's content, in hex.

    Raises:
        OSError: it is no plain file, is missing, or cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_verified(path: Path | str, expected: str, repair: str) -> bytes:
    """The bytes of a file that was published; what is checked is what is returned.

    Raises:
        DamagedFileError: the file is missing, unreadable or its SHA-256 is not
            `expected`; says how to `repair` it.
    """
    content = read_regular(path, repair)
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DamagedFileError(
            f"{path} is damaged ({len(content):,} bytes, sha256 {found[:12]}...,"
            f" expected {expected[:12]}...). Repair: {repair}"
        )
    return content


def read_json(path: Path | str, repair: str, limit: int = LARGEST_JSON) -> Any:
    """What a JSON file holds.

    Raises:
        DamagedFileError: as `read_regular`, or it is no JSON, or lists and dicts in it
            lie deeper than DEEPEST_JSON in each other.
    """
    content = read_regular(path, repair, limit)
    try:
        return parse_json(content)
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged ({error}). Repair: {repair}") from (
            None
        )


def parse_json(content: bytes) -> Any:
    """What JSON holds.

    Raises:
        ValueError: it is no JSON, or too deep.

    >>> parse_json(b'{"seed": [0, 1]}')
    {'seed': [0, 1]}
    """
    try:
        found = json.loads(content)
    except RecursionError:
        found, layer = None, [None]
    else:
        layer = [found]
        for _ in range(DEEPEST_JSON):
            layer = [inner for outer in layer for inner in _inside(outer)]
    if layer:
        raise ValueError(f"its lists and dicts are deeper than {DEEPEST_JSON}")
    return found


def _inside(value: object) -> list:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def put_aside(path: Path) -> Path:
    """Rename a damaged file, so that a new one can take its place and nothing is lost;
    its new name: `scores.damaged` for `scores.json`, or the next free one."""
    names = (path.with_suffix(f".damaged{number or ''}") for number in count())
    free = next(name for name in names if not os.path.lexists(name))
    return path.rename(free)


# ------------------------------------------------------------------------ sealed facts


def sealed(name: str, content: dict) -> bytes:
    """JSON of facts that `read_sealed` verifies, with a checksum of them and of the
    file's name.

    >>> sealed("a.json", {"x": 1})[:30].decode()
    '{\\n "x": 1,\\n "sha256": "9767c7d'
    """
    content = json.loads(json.dumps(content))  # as it will be read
    text = json.dumps(content | {SEAL: _checksum(name, content)}, indent=1)
    return f"{text}\n".encode()


def read_sealed(path: Path, repair: str) -> dict:
    """The facts in a file that was written with `sealed`, without their checksum.

    Raises:
        DamagedFileError: as `read_json`, or a fact is another than was written, or the
            file has another name.
    """
    content = read_json(path, repair)
    found = content.pop(SEAL, None) if isinstance(content, dict) else None
    if found is None or found != _checksum(path.name, content):
        raise DamagedFileError(
            f"{path} is damaged (its facts do not fit its {SEAL}). Repair: {repair}"
        )
    return content


def _checksum(name: str, content: dict) -> str:
    # of what is read, not of its bytes: spaces and the order of entries do not count
    text = json.dumps([name, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# ------------------------------------------------------------------------------- write


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader, a crash or a power cut leaves the old
    file or the new one, never half of one. Makes the folder.

    A file that is there keeps its mode; a new one gets what the umask allows.

    Raises:
        OSError: it cannot be written; says what to do. The old file is as it was.
    """
    path = Path(path)
    # short: the name itself may be as long as names can be
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_through(temporary, content)
        if path.is_file():
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, (OSError, ValueError)):
            raise _cannot_write(path, error) from error
        raise


def _write_through(path: Path, content: bytes) -> None:
    """Write a file that is not there yet, down to the disk."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _cannot_write(path: Path, error: OSError | ValueError) -> OSError:
    """The same error, with what to do about it, of the file that was to be written."""
    # ValueError: no path at all, as of a zero byte in it
    number = getattr(error, "errno", None) or errno.EINVAL
    advice = ADVICE.get(number, "put that right, then do it again")
    words = f"{getattr(error, 'strerror', None) or error}; it cannot be written"
    return OSError(number, f"{words}: {advice}", str(path))


@contextlib.contextmanager
def alone(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold `path` while it is read and written anew: others that do so wait. Makes the
    folder.

    The lock is the system's, and goes with the process that holds it. Its file, hidden
    beside `path`, stays.

    Args:
        patience: seconds to wait at most.
    Raises:
        OSError: the lock cannot be had; says what to do.
    """
    from filelock import FileLock, Timeout  # not there when the launcher starts

    path = Path(path)
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=patience)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise TimeoutError(
            errno.ETIMEDOUT,
            f"another program has held it for {patience:g} s: close that one, then do"
            " it again",
            str(path),
        ) from None
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield
    finally:
        lock.release()
