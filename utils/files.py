"""Files that survive: verified when read, written to a temporary name and renamed."""

import hashlib
import os
import tempfile
from pathlib import Path


class DamagedFileError(RuntimeError):
    """A file of the course is missing or is not what was published; the message names
    the file and the repair."""


def data_folder() -> Path:
    """The folder with FashionMNIST/ and baselines/: `PRUNING_DATA` if set, else data/
    of the project."""
    return (
        Path(os.environ.get("PRUNING_DATA") or Path(__file__).parents[1] / "data")
        .expanduser()
        .resolve()
    )


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, expected: str, repair: str) -> None:
    """Check that `path` holds what was published.

    Raises:
        DamagedFileError: the file is missing, unreadable or its SHA-256 is not
            `expected`; says how to `repair` it.
    """
    if not path.is_file():
        raise DamagedFileError(f"{path} is missing. Repair: {repair}")
    try:
        found = sha256(path)
    except OSError as error:
        raise DamagedFileError(
            f"{path} cannot be read ({error.strerror}). Repair: {repair}"
        ) from error
    if found != expected:
        size = path.stat().st_size
        raise DamagedFileError(
            f"{path} is damaged ({size:,} bytes, sha256 {found[:12]}..., expected"
            f" {expected[:12]}...). Repair: {repair}"
        )


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader, or a crash, never sees half a file.
    Makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
