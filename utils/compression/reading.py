"""Read a compressed file: every size is checked before memory is taken for it, and
nothing in it is ever executed."""

import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from utils.arguments import whole
from utils.compression.format import (
    CHECKSUM,
    DECODING,
    DTYPES,
    FIELDS,
    HALF,
    MAGIC,
    MAX_DIMS,
    MAX_ELEMENTS,
    MAX_NAME,
    MAX_TENSORS,
    PARTS,
    RAW,
    SHARED,
    SPARSE,
    VERSION,
    Entry,
    check_storable,
    extent,
)
from utils.compression.huffman import CodeError, packed_bytes, read_stream
from utils.files import DamagedFileError, open_regular
from utils.layers import first_names


def load_compressed(path: Path | str, model: nn.Module) -> None:
    """Fill the model, in place, with what `save_compressed` wrote, when all of it has
    been checked.

    All tensors are decoded before the first is copied. While one is, it takes up to
    about 20 bytes a number: five times what it takes as float32, for its gaps and their
    sums are whole numbers of 8 bytes.

    Raises:
        DamagedFileError: the file is missing, damaged or of another network; the model
            is not changed then.
        ValueError: a tensor of the model cannot be filled (no dense numbers, not in
            memory yet, or expanded); the model is not changed then.

    >>> from tempfile import TemporaryDirectory
    >>> from utils.compression import save_compressed
    >>> layer, loaded = nn.Linear(4, 1), nn.Linear(4, 1)
    >>> layer.weight.data = torch.tensor([[0.0, 5.0, 0.0, 7.0]])
    >>> with TemporaryDirectory() as folder:
    ...     size = save_compressed(layer, f"{folder}/layer")
    ...     load_compressed(f"{folder}/layer", loaded)
    >>> loaded.weight.tolist()
    [[0.0, 5.0, 0.0, 7.0]]
    """
    state = model.state_dict()
    for name, tensor in state.items():
        _check_fillable(name, tensor)
    # a tied tensor is stored once, under its first name
    state = {kept: state[kept] for kept in first_names(state).values()}
    most = sum(extent(tensor.shape) for tensor in state.values())
    with _damage(path):
        content, entries = read_header(path, most, len(state))
        _check_fit(entries, state)
        tensors = _decode_all(content, entries)
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)


def read_compressed(
    path: Path | str, *, max_elements: int = MAX_ELEMENTS
) -> dict[str, Tensor]:
    """The tensors in a file of `save_compressed`, by name: for whoever has the file and
    no network to fill.

    Args:
        max_elements: a file with more numbers than that, in all tensors together, is
            refused before they are unfolded; a file of a few bytes may hold so many.
            Memory is as in `load_compressed`: up to 240 MB for the default, a ResNet-18
            (12 million).
    Raises:
        DamagedFileError: the file is missing or damaged, or holds more than
            `max_elements`; says how many it holds, and what they would take.
        ValueError: max_elements is no whole number.
    """
    whole("max_elements", max_elements)
    with _damage(path, MORE):
        return _decode_all(*read_header(path, max_elements, MAX_TENSORS))


def byte_bill(
    path: Path | str, *, max_elements: int = MAX_ELEMENTS
) -> dict[str, dict[str, int]]:
    """Bytes by part (PARTS) and tensor: `bill["gaps"]["fc1.weight"]`; their sum is the
    size of the file.

    The header has an entry "file" too, for magic, version and count; the checksum has
    only that.

    Raises:
        DamagedFileError: the file is missing or damaged, or holds more than
            `max_elements` numbers.
        ValueError: max_elements is no whole number.

    >>> from tempfile import TemporaryDirectory
    >>> from utils.compression import save_compressed
    >>> with TemporaryDirectory() as folder:
    ...     size = save_compressed(nn.Linear(4, 1), f"{folder}/layer")
    ...     bill = byte_bill(f"{folder}/layer")
    >>> bill["raw"], size == sum(sum(part.values()) for part in bill.values())
    ({'weight': 16, 'bias': 4}, True)
    """
    whole("max_elements", max_elements)
    with _damage(path, MORE):
        content, entries = read_header(path, max_elements, MAX_TENSORS)
    bill: dict[str, dict[str, int]] = {part: {} for part in PARTS}
    bill["header"] = {entry.name: entry.header for entry in entries}
    for entry in entries:
        for part, size in entry.sizes.items():
            bill[part][entry.name] = size
    bill["checksum"]["file"] = CHECKSUM
    bill["header"]["file"] = len(content) - sum(
        sum(part.values()) for part in bill.values()
    )
    return bill


def _check_fillable(name: str, tensor: object) -> None:
    filled = check_storable(name, tensor)
    sides = zip(filled.stride(), filled.shape, strict=True)
    if any(step == 0 and side > 1 for step, side in sides):
        raise ValueError(
            f"{name} is expanded: several of its numbers lie in one place, and cannot"
            " be filled; clone it."
        )


AGAIN = "save it anew."
MORE = "save it anew; or, if it is as large as it should be, give more max_elements."


@contextmanager
def _damage(path: Path | str, repair: str = AGAIN) -> Iterator[None]:
    """Whatever is wrong with the file becomes a DamagedFileError that names it.
    `repair`: of one that is too large."""
    try:
        yield
    except CodeError as error:
        raise DamagedFileError(
            f"{path} is damaged, or not what it should be: {error}. Repair:"
            f" {repair if isinstance(error, _TooLargeError) else AGAIN}"
        ) from None
    except FileNotFoundError:
        raise DamagedFileError(
            f"{path} is missing. Repair: write it with save_compressed."
        ) from None
    except OSError as error:
        raise DamagedFileError(
            f"{path} cannot be read ({error.strerror}). Repair: {AGAIN}"
        ) from error


class _TooLargeError(CodeError):
    """More than the reader may take."""


class _Reader:
    """Bytes from front to back; never more than there are."""

    def __init__(self, content: bytes, place: int, end: int) -> None:
        self.content, self.place, self.end = content, place, end

    def take(self, count: int) -> bytes:
        """So many bytes more."""
        if count > self.end - self.place:
            raise CodeError("it ends in the middle of its header")
        self.place += count
        return self.content[self.place - count : self.place]

    def number(self) -> int:
        """A number: seven bits a byte, the lowest first."""
        value = 0
        for shift in range(0, 63, 7):
            digit = self.take(1)[0]
            value |= (digit & 127) << shift
            if digit < 128:
                return value
        raise CodeError("a number in its header is too long")


def read_header(
    path: Path | str, max_elements: int, max_tensors: int
) -> tuple[bytes, list[Entry]]:
    """The file and its header, checked: all sizes add up, and no more elements or
    tensors than allowed."""
    # bytes that so much can take
    content = _sound(path, 8 * max_elements + 2 * MAX_NAME * max_tensors + 100)
    end = len(content) - CHECKSUM
    reader = _Reader(content, len(MAGIC) + 1, end)
    entries = _entries(reader, max_tensors)
    _check_size(entries, max_elements)
    promised = sum(sum(entry.sizes.values()) for entry in entries)
    there = end - reader.place
    if promised != there:
        raise CodeError(
            f"its header promises {promised:,} bytes of content, and {there:,} follow"
        )
    return content, entries


def _sound(path: Path | str, most: int) -> bytes:
    """The file as it is, if it begins as one, is not too large, and its checksum
    matches."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(len(MAGIC) + 1)
        _check_start(start)
        if size > most:
            raise _TooLargeError(
                f"it has {size:,} bytes; so large a network takes {most:,} at most"
            )
        content = start + file.read(size)
    end = max(len(content) - CHECKSUM, 0)
    if zlib.crc32(content[:end]).to_bytes(CHECKSUM, "little") != content[end:]:
        raise CodeError(
            "its checksum does not match its content: bytes are missing, added or"
            " changed"
        )
    return content


def _check_start(start: bytes) -> None:
    magic, version = start[: len(MAGIC)], start[len(MAGIC) :]
    if magic != MAGIC:
        raise CodeError("it does not begin as one")
    if version != bytes([VERSION]):
        raise CodeError(
            f"its version is {version.hex() or 'missing'}; this program reads"
            f" {VERSION:02x}"
        )


def _check_size(entries: list[Entry], most: int) -> None:
    """Before anything is unfolded."""
    total = 0
    for entry in entries:
        total += extent(entry.shape)
        if total > most:
            everything = sum(extent(each.shape) for each in entries)
            raise _TooLargeError(
                f"{entry.name!r} claims the shape {list(entry.shape)}: more elements"
                f" than are allowed; the file holds {everything:,}, which may take"
                f" {DECODING * everything / 1e6:,.0f} MB, and {most:,} are allowed,"
                f" {DECODING * most / 1e6:,.0f} MB"
            )


def _entries(reader: _Reader, max_tensors: int) -> list[Entry]:
    count = reader.number()
    if count > max_tensors:
        raise CodeError(
            f"it claims {count:,} tensors; at most {max_tensors:,} are allowed"
        )
    entries = [_read_entry(reader) for _ in range(count)]
    if len({entry.name for entry in entries}) < count:
        raise CodeError("it holds two tensors of one name")
    return entries


def _read_entry(reader: _Reader) -> Entry:
    start, name = reader.place, _read_name(reader)
    code, kind, dims = reader.take(3)
    if code >= len(DTYPES) or kind not in FIELDS or dims > MAX_DIMS:
        raise CodeError(
            f"{name!r} has an unknown type ({code}), kind ({kind}) or number of"
            f" dimensions ({dims})"
        )
    shape = tuple(reader.number() for _ in range(dims))
    numbers = {key: reader.number() for key in FIELDS[kind]}
    dtype = list(DTYPES)[code]
    _check_numbers(name, dtype, kind, math.prod(shape), numbers)
    return Entry(name, dtype, kind, shape, numbers, reader.place - start)


def _read_name(reader: _Reader) -> str:
    length = reader.number()
    if not 0 < length <= MAX_NAME:
        raise CodeError(f"a name in its header is {length:,} bytes long")
    try:
        return reader.take(length).decode()
    except UnicodeDecodeError:
        raise CodeError("a name in its header is no text") from None


def _check_numbers(
    name: str, dtype: torch.dtype, kind: int, elements: int, numbers: dict[str, int]
) -> None:
    """No number in an entry may be larger than what the tensor's shape allows."""
    if kind != RAW and not dtype.is_floating_point:
        raise CodeError(f"{name!r} is {dtype}, which is only stored as it is")
    if kind in (RAW, HALF):
        return
    if not numbers["weights"] <= numbers["gap symbols"] <= elements:
        raise CodeError(
            f"{name!r} claims more weights or gaps than its {elements:,} elements"
        )
    if not 1 <= numbers["gap width"] <= 8 or numbers.get("codebook", 0) > 256:
        raise CodeError(
            f"{name!r} claims gaps of more than 8 bits, or of none, or more than 256"
            " shared values"
        )
    if max(numbers["gap table width"], numbers.get("index table width", 0)) > 6:
        raise CodeError(f"{name!r} claims code lengths of more than 6 bits each")


def _check_fit(entries: list[Entry], state: Mapping[str, Tensor]) -> None:
    names = {entry.name for entry in entries}
    if names != set(state):
        different = sorted(names ^ set(state))
        raise CodeError(
            f"it is of another network than the model: {', '.join(different[:5])} is in"
            " one of them only"
        )
    for entry in entries:
        wanted = state[entry.name]
        if (entry.shape, entry.dtype) != (tuple(wanted.shape), wanted.dtype):
            there = (
                f"{entry.dtype} {list(entry.shape)}, in the model {wanted.dtype}"
                f" {list(wanted.shape)}"
            )
            raise CodeError(
                f"it is of another network than the model: {entry.name} is {there}"
            )


def _decode_all(content: bytes, entries: list[Entry]) -> dict[str, Tensor]:
    place = (
        len(content) - CHECKSUM - sum(sum(entry.sizes.values()) for entry in entries)
    )
    tensors = {}
    for entry in entries:
        parts = {}
        for part, size in entry.sizes.items():
            parts[part] = content[place : place + size]
            place += size
        try:
            tensors[entry.name] = _decode(entry, parts)
        except CodeError as error:
            raise CodeError(f"{entry.name!r}: {error}") from None
    return tensors


def _decode(entry: Entry, parts: dict[str, bytes]) -> Tensor:
    if entry.kind == RAW:
        return _from_bytes(parts["raw"], entry.dtype, entry)
    if entry.kind == HALF:
        return _from_bytes(parts["raw"], torch.float16, entry)
    numbers = entry.numbers
    table = packed_bytes(2 ** numbers["gap width"], numbers["gap table width"])
    gap_table, index_table = parts["code tables"][:table], parts["code tables"][table:]
    places = _places(entry, gap_table, parts["gaps"])  # [kept]
    values = _values(parts["values" if entry.kind == SPARSE else "codebooks"], entry)
    if entry.kind == SHARED:
        width, codes = numbers["index table width"], parts["indices"]
        count = numbers["weights"]
        values = values[read_stream(width, index_table, codes, len(values), count)]
    dense = np.zeros(entry.elements, dtype=np.float32)
    dense[places] = values
    return torch.from_numpy(dense).view(entry.shape).to(entry.dtype)


def _values(data: bytes, entry: Entry) -> np.ndarray:
    values = np.frombuffer(data, "<f4").astype(np.float32)
    if not torch.from_numpy(values).to(entry.dtype).isfinite().all():
        raise CodeError(f"a value is no finite number as {entry.dtype}")
    return values


def _places(entry: Entry, table: bytes, codes: bytes) -> np.ndarray:
    """Where the weights are, `[kept]`: `gap_symbols` of the writer, backwards."""
    numbers = entry.numbers
    filler = 2 ** numbers["gap width"] - 1
    symbols = read_stream(
        numbers["gap table width"], table, codes, filler + 1, numbers["gap symbols"]
    )
    weights = symbols != filler
    if np.count_nonzero(weights) != numbers["weights"] or (
        len(weights) and not weights[-1]
    ):
        raise CodeError(
            "its gaps lead to another number of weights than its header says"
        )
    # [symbols]: elements so far; a filler stands for zeros only
    after = np.cumsum(symbols.astype(np.int64) + weights)
    if len(after) and after[-1] > entry.elements:
        raise CodeError(
            f"a gap leads to element {after[-1] - 1:,}, outside the tensor of"
            f" {entry.elements:,}"
        )
    return after[weights] - 1


def _from_bytes(data: bytes, dtype: torch.dtype, entry: Entry) -> Tensor:
    stored = np.dtype(DTYPES[dtype])
    tensor = torch.from_numpy(
        np.frombuffer(data, stored).astype(stored.newbyteorder("="))
    )
    if dtype == torch.bfloat16:
        tensor = tensor.view(dtype)
    return tensor.view(entry.shape).to(entry.dtype)
