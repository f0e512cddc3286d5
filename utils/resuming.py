"""The file that keeps a run, and whether it may be believed.

A file of tensors and numbers: nothing in it is executed. It is read as a whole, and
checked, before anything is loaded from it.
"""

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils.files import DamagedFileError, write_atomically

VERSION = 2

# ------------------------------------------------------------------ which run it is of


def digest(tensors: Mapping[str, Tensor]) -> str:
    """What tells these tensors from others: their names, types, shapes and values.

    >>> one, other = torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])
    >>> digest({"x": one}) == digest({"x": other})
    False
    """
    total = sha256()
    for name, tensor in tensors.items():
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


def parts(content: Any, where: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dictionaries and lists, with the place where it is; all
    else in words.

    >>> [place for place, _ in parts({"a": [torch.zeros(2)], "step": 3})]
    ['.a.0', '.step=3']
    """
    if isinstance(content, Tensor):
        yield where, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from parts(value, f"{where}.{key}")
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from parts(value, f"{where}.{number}")
    else:
        yield f"{where}={content!r}", torch.zeros(0)


def network(model: nn.Module) -> str:
    """What tells this network from others: its layers, its parameters and buffers, and
    which are frozen."""
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    layers = sha256(f"{_words(model)} {frozen}".encode()).hexdigest()[:16]
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return f"{layers} {digest(tensors)}"


def described(thing: object) -> str:
    """A loss or a function in words that are the same in another process: its `repr`,
    or else its name, and a digest of the tensors and networks that it has."""
    name = getattr(thing, "__qualname__", None)
    if name is not None:  # a function
        return f"{getattr(thing, '__module__', '')}.{name}"
    own = type(thing).__repr__ is not object.__repr__
    words = _words(thing) if own else type(thing).__qualname__
    tensors = {str(number): each for number, each in enumerate(_tensors(thing))}
    return f"{words} {digest(tensors)}" if tensors else words


def _words(thing: object) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", repr(thing))


def _tensors(thing: object, depth: int = 2) -> Iterator[Tensor]:
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, nn.Module):
        yield from (each for _, each in thing.named_parameters())
        yield from (each for _, each in thing.named_buffers())
    elif depth and hasattr(thing, "__dict__"):
        for value in vars(thing).values():
            yield from _tensors(value, depth - 1)


# ------------------------------------------------------------------------------- files


def place(checkpoint: Path | str) -> Path:
    """Where a run is kept.

    Raises:
        ValueError: something else than a file is there, or none can be written.
    """
    if not isinstance(checkpoint, str | PathLike):
        raise ValueError(f"checkpoint={checkpoint!r} must be the path of a file.")
    path = Path(checkpoint)
    if path.exists() and not path.is_file():
        raise ValueError(f"checkpoint={path} is no file; give the path of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"checkpoint={path} cannot be written: {error.strerror}."
        ) from error
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"checkpoint={path} cannot be written: its folder is locked.")
    return path


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write the tensors and numbers of a run to a file, all or nothing."""
    buffer = BytesIO()
    sealed = {"version": VERSION, **content, "digest": digest(dict(parts(content)))}
    torch.save(sealed, buffer)
    write_atomically(path, buffer.getvalue())


def read(path: Path, largest: int) -> dict[str, Any]:
    """What `write` wrote. Nothing in the file is executed.

    Args:
        largest: bytes that a file of this run may have.
    Raises:
        DamagedFileError: something else, or of another version.
    """
    with damaged(path):
        if path.stat().st_size > largest:
            raise UnfitError(f"it has over {largest:,} bytes")
        stored = BytesIO(path.read_bytes())
        # torch unpacks what is packed, to whatever size; what we wrote is not
        with zipfile.ZipFile(stored) as archive:
            if any(each.compress_type for each in archive.infolist()):
                raise UnfitError("something in it is packed")
        stored.seek(0)
        content = torch.load(stored, weights_only=True)
        if content["version"] != VERSION:
            raise UnfitError("another version of the course wrote it")
        written = {k: v for k, v in content.items() if k not in ("version", "digest")}
        if content["digest"] != digest(dict(parts(written))):
            raise UnfitError("it was changed after it was written")
        return written


class UnfitError(Exception):
    """What a file holds is not what this run can have written."""


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Whatever goes wrong meanwhile is the fault of this file."""
    try:
        yield
    # any damage; what torch says of it would advise to execute the file
    except Exception as error:  # noqa: BLE001
        why = f" ({error})" if isinstance(error, UnfitError) else ""
        raise DamagedFileError(
            f"{path} is damaged, or no checkpoint of this course{why}. Repair: delete"
            " it; the run starts anew."
        ) from None
