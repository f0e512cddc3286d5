"""Deep Compression: a pruned network down to a real file (Han, Mao & Dally 2016). Built
in lessons/08_quantization.

Three steps, each counted in bytes that were really written: of a pruned weight tensor
only the non-zero weights are kept, with the gaps between them; they share a few values
(k-means), so that each is the number of a codebook entry; gaps and numbers get Huffman
codes.

The file, little-endian; a number in it is seven bits a byte, the lowest first, the top
bit set while more follow:

    magic, version, number of tensors
    for each tensor: name, dtype, kind, shape, and the numbers of its kind (FIELDS)
    for each tensor: its parts (`_sizes` says which and how long)
    CRC-32 of everything before it

It is read with every size checked before memory is taken for it; nothing in it is ever
executed.
"""

import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from utils.files import DamagedFileError, write_atomically
from utils.huffman import (
    CodeError,
    Stream,
    packed_bytes,
    read_stream,
    stream_bytes,
    write_stream,
)
from utils.layers import prunable

# ----------------------------------------------------------------------- shared weights


@dataclass
class SharedWeight:
    """A weight tensor whose non-zero weights take few values: `codebook` `[values]`
    float32, and `indices`, of the weight's shape: 0 where the weight is pruned, i where
    it is `codebook[i - 1]`; uint8, or int16 for 256 values."""

    codebook: Tensor
    indices: Tensor

    def dense(self) -> Tensor:
        """The weights, float32, of the weight's shape."""
        return torch.cat([torch.zeros(1), self.codebook])[self.indices.int()]


Shared = dict[str, SharedWeight]  # by parameter name


def share_weights(
    model: nn.Module, bits: int | Mapping[str, int], *, iterations: int = 300
) -> Shared:
    """Cluster the non-zero weights of each linear and convolutional layer around
    2**bits values (Han et al., sec. 3).

    k-means (Lloyd 1982) on the number line: the values start evenly spread from the
    smallest weight to the largest, which the paper found best (sec. 3.2), and each
    moves to the mean of the weights nearest to it, until nothing changes. Zero stays
    zero and takes no entry; a value that no weight takes is left out; where there are
    no more different weights than values, each is kept exactly. The model is not
    changed.

    Args:
        bits: 1 to 8, for every layer; or for each of them by parameter name.
        iterations: at most so many; 0 leaves the values evenly spread (linear
            quantisation).
    Raises:
        ValueError: bits outside 1..8, names that do not fit, a weight that is not
            finite in float32.
    """
    weights = prunable(model)
    if (
        isinstance(iterations, bool)
        or not isinstance(iterations, int)
        or iterations < 0
    ):
        raise ValueError(
            f"iterations={iterations!r} must be a whole number, 0 or more."
        )
    widths = bits if isinstance(bits, Mapping) else dict.fromkeys(weights, bits)
    _same_names("bits", weights, widths)
    for name, width in widths.items():
        if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= 8:
            raise ValueError(
                f"bits={width!r} for {name} must be a whole number from 1 to 8."
            )
    return {
        name: _share(name, weight, 2 ** widths[name], iterations)
        for name, weight in weights.items()
    }


def apply_shared(model: nn.Module, shared: Mapping[str, SharedWeight]) -> None:
    """Give each weight its shared value, in place.

    Raises:
        ValueError: `shared` does not fit the model; nothing is changed then.
    """
    for weight, each in _paired(model, shared):
        weight.detach().copy_(each.dense())


def hold_shared(
    model: nn.Module, shared: Mapping[str, SharedWeight]
) -> Callable[[], None]:
    """Fine-tune the shared values: `fit(..., after_step=hold_shared(model, shared))`
    (Han et al., sec. 3.3).

    Applies the shared values now. Called after each optimizer step, it gives all
    weights of a cluster the mean of the values that the optimizer gave them, writes it
    to the codebook in `shared` too, and pruned weights become zero again. For SGD,
    momentum and weight decay included, that is training the values with the mean
    gradient of their
    weights. The paper takes the sum: the same with the learning rate times the number
    of weights in the cluster, where gradients mostly cancel; so give `fit` a rate ten
    times or more what suits single weights.

    Raises:
        ValueError: `shared` does not fit the model; nothing is changed then.
    """
    apply_shared(model, shared)
    clusters = []
    for weight, each in _paired(model, shared):
        places = np.flatnonzero(each.indices)
        members = each.indices.reshape(-1).numpy()[places].astype(np.intp) - 1
        clusters.append(
            (
                weight,
                each,
                places,
                members,
                np.bincount(members, minlength=len(each.codebook)),
            )
        )

    def share_again() -> None:
        for weight, each, places, members, sizes in clusters:
            sums = np.bincount(members, _flat(weight)[places], minlength=len(sizes))
            means = np.where(
                sizes > 0, sums / np.maximum(sizes, 1), each.codebook.numpy()
            )
            each.codebook.copy_(torch.from_numpy(means))
            weight.detach().copy_(each.dense())

    return share_again


def _share(name: str, weight: Tensor, most: int, iterations: int) -> SharedWeight:
    flat = _flat(weight)
    if not np.isfinite(flat).all():
        raise ValueError(
            f"the weights of {name} are not all finite numbers; only such can be"
            " shared."
        )
    places = np.flatnonzero(flat)
    values = np.sort(flat[places]).astype(np.float64)
    middle, numbers = _lloyd(values, most, iterations), np.zeros(0, dtype=np.intp)
    if len(places):
        numbers = np.searchsorted((middle[1:] + middle[:-1]) / 2, flat[places])
        used = np.bincount(numbers, minlength=len(middle)) > 0
        middle, numbers = middle[used], (np.cumsum(used) - 1)[numbers]
    indices = np.zeros(flat.size, dtype=np.uint8 if len(middle) < 256 else np.int16)
    indices[places] = numbers + 1
    return SharedWeight(
        torch.from_numpy(middle.astype(np.float32)),
        torch.from_numpy(indices).view(weight.shape),
    )


def _lloyd(values: np.ndarray, most: int, iterations: int) -> np.ndarray:
    """At most `most` centroids, in order, of sorted `values`; a value in the middle of
    two belongs to the lower one.

    Clusters are stretches of the sorted values, so an iteration needs only their ends
    and the cumulative sum.
    """
    distinct = values[np.flatnonzero(np.diff(values, prepend=-np.inf))]
    if len(distinct) <= most:
        return distinct
    centroids = np.linspace(values[0], values[-1], most)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.zeros(0, dtype=np.intp)
    for _ in range(iterations):
        inner = np.searchsorted(
            values, (centroids[1:] + centroids[:-1]) / 2, side="right"
        )
        before, ends = ends, np.concatenate([[0], inner, [len(values)]])
        if np.array_equal(before, ends):
            break
        # an empty cluster keeps its centroid: weights may come to it later
        full = np.flatnonzero(np.diff(ends))
        first, last = ends[full], ends[full + 1]
        means = (sums[last] - sums[first]) / (last - first)
        # rounding must not undo their order
        centroids[full] = np.clip(means, values[first], values[last - 1])
    return centroids


def _flat(weight: Tensor) -> np.ndarray:
    """The weights in order of their indices, whatever their layout: float32,
    `[weights]`."""
    return weight.detach().float().cpu().reshape(-1).numpy()


def _same_names(argument: str, weights: Mapping[str, Tensor], given: Mapping) -> None:
    if set(weights) != set(given):
        raise ValueError(
            f"{argument} must name exactly {', '.join(weights)}; it names"
            f" {', '.join(given)}."
        )


def _paired(
    model: nn.Module, shared: Mapping[str, SharedWeight]
) -> list[tuple[nn.Parameter, SharedWeight]]:
    weights = prunable(model)
    if not isinstance(shared, Mapping):
        raise ValueError(
            f"shared ({type(shared).__name__}) must be what share_weights gives: a"
            " SharedWeight by name."
        )
    _same_names("shared", weights, shared)
    for name, each in shared.items():
        _check_shared(name, each, weights[name])
    return [(weights[name], each) for name, each in shared.items()]


def _check_shared(name: str, each: SharedWeight, weight: Tensor) -> None:
    if not isinstance(each, SharedWeight) or not all(
        isinstance(t, Tensor) for t in (each.codebook, each.indices)
    ):
        raise ValueError(
            f"shared[{name!r}] ({type(each).__name__}) must be a SharedWeight of two"
            " tensors."
        )
    codebook, indices = each.codebook, each.indices
    if indices.shape != weight.shape or indices.is_floating_point():
        there = (
            f"{list(indices.shape)} {indices.dtype}; it must be {list(weight.shape)},"
            " whole numbers"
        )
        raise ValueError(f"the shared indices of {name} are {there}.")
    if codebook.dim() != 1 or codebook.requires_grad:
        there = (
            f"has the shape {list(codebook.shape)},"
            f" requires_grad={codebook.requires_grad}"
        )
        raise ValueError(
            f"the codebook of {name} {there}; it must be `[values]`, without gradient."
        )
    if len(codebook) > 256 or not codebook.to(weight.dtype).isfinite().all():
        raise ValueError(
            f"the codebook of {name} must be at most 256 finite numbers, also as"
            f" {weight.dtype}."
        )
    if indices.numel() and not 0 <= indices.min() <= indices.max() <= len(codebook):
        raise ValueError(
            f"the shared indices of {name} must be 0..{len(codebook)}, as its codebook"
            " has it."
        )


# ----------------------------------------------------------------------------- the file

MAGIC, VERSION = b"\x89PRUNED", 1
# kinds: as it is; float16; gaps and float32 values; gaps and shared values
RAW, HALF, SPARSE, SHARED = range(4)
GAPS = ("weights", "gap symbols", "gap width", "gap table width", "gap bytes")
FIELDS = {
    RAW: (),
    HALF: (),
    SPARSE: GAPS,
    SHARED: (*GAPS, "codebook", "index table width", "index bytes"),
}
PARTS = (
    "header",
    "code tables",
    "gaps",
    "codebooks",
    "indices",
    "values",
    "raw",
    "checksum",
)
DTYPES = {  # and how NumPy stores them
    torch.float32: "<f4",
    torch.float64: "<f8",
    torch.float16: "<f2",
    torch.bfloat16: "<i2",
    torch.int64: "<i8",
    torch.int32: "<i4",
    torch.int16: "<i2",
    torch.int8: "i1",
    torch.uint8: "u1",
    torch.bool: "u1",
}
CHECKSUM = 4  # bytes
MAX_ELEMENTS = 30_000_000  # 120 MB of float32; a ResNet-50 has 26 million
MAX_TENSORS = 10_000
MAX_NAME = 1000  # bytes
MAX_DIMS = 16


def save_compressed(
    model: nn.Module,
    path: Path | str,
    *,
    bits: int | Mapping[str, int] = 5,
    shared: Mapping[str, SharedWeight] | None = None,
    other: str = "float32",
) -> int:
    """Write the model's tensors, weights shared and coded, to `path`; return the file's
    size in bytes.

    Each linear or convolutional weight is stored in the way that takes fewest bytes:
        Huffman-coded as in the paper,
    or, where that would be longer, as its values. What is read back is the same to the
    bit either way: what `apply_shared` gives. Integers, and with `other="float32"`
        biases and BatchNorm too, are stored as they are.

    Args:
        bits: as in `share_weights`; not used where `shared` is given.
        shared: the values to store, from `share_weights` or fine-tuned with
            `hold_shared`.
        other: "float32", or "float16" to halve the biases and the tensors of BatchNorm
            (rounded to 11 bits).
    Raises:
        ValueError: `bits` or `shared` does not fit the model, other weights are zero in
            `shared` than in the model, an unknown `other`, or a tensor that cannot be
            stored. No file is written then.
    """
    content = _content(model, _fitting(model, shared, bits), other)
    write_atomically(Path(path), content)
    return len(content)


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
    """
    state = model.state_dict()
    for name, tensor in state.items():
        _check_fillable(name, tensor)
    with _damage(path):
        content, entries = _read(
            path, sum(_extent(tensor.shape) for tensor in state.values()), len(state)
        )
        _check_fit(entries, state)
        tensors = _decode_all(content, entries)
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)


def read_compressed(
    path: Path | str, *, max_elements: int = MAX_ELEMENTS
) -> dict[str, Tensor]:
    """The tensors in a file of `save_compressed`, by name.

    Args:
        max_elements: a file with more numbers than that, in all tensors together, is
            refused before they are read. A file of a few bytes may hold so many, and
            decoding them takes memory as in `load_compressed`.
    Raises:
        DamagedFileError: the file is missing or damaged, or holds more than
            `max_elements`.
    """
    with _damage(path):
        return _decode_all(*_read(path, max_elements, MAX_TENSORS))


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
    """
    with _damage(path):
        content, entries = _read(path, max_elements, MAX_TENSORS)
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


def stages(
    model: nn.Module,
    bits: int | Mapping[str, int] = 5,
    *,
    shared: Mapping[str, SharedWeight] | None = None,
    other: str = "float32",
) -> dict[str, int]:
    """Bytes of the file after each step of the paper (its fig. 1), each counted from a
    file that was really made.

    "dense": every tensor as it is; "pruned": of each weight tensor the non-zero weights
    and the gaps between them; "shared": codebooks and the numbers of their entries, in
    fixed widths; "huffman": what `save_compressed` writes. Arguments and errors as
    there.
    """
    shared = _fitting(model, shared, bits)
    return {
        "dense": len(_content(model, None, other, kinds=(RAW,))),
        "pruned": len(_content(model, None, other, kinds=(RAW, SPARSE), huffman=False)),
        "shared": len(_content(model, shared, other, huffman=False)),
        "huffman": len(_content(model, shared, other)),
    }


# ------------------------------------------------------------------------------ writing


def _fitting(
    model: nn.Module, shared: Mapping[str, SharedWeight] | None, bits
) -> Mapping[str, SharedWeight]:
    for name, tensor in model.state_dict().items():
        _check_storable(name, tensor)
    if shared is None:
        return share_weights(model, bits)
    for name, (weight, each) in zip(shared, _paired(model, shared), strict=True):
        pruned, zero = each.indices.reshape(-1).numpy() == 0, _flat(weight) == 0
        # a shared value can be zero, in the weight's type
        lost = _flat(each.dense().to(weight.dtype)) == 0
        if (pruned & ~zero).any() or (zero & ~lost).any():
            raise ValueError(
                f"shared has other zeros in {name} than the model; make it anew with"
                " share_weights."
            )
    return shared


def _content(
    model: nn.Module,
    shared: Mapping[str, SharedWeight] | None,
    other: str,
    *,
    kinds: tuple[int, ...] = (RAW, SPARSE, SHARED),
    huffman: bool = True,
) -> bytes:
    """The whole file. Without `shared` the weights are stored as they are."""
    if other not in ("float32", "float16"):
        raise ValueError(f"other={other!r} is not known. Known: float32, float16.")
    own = {_place(weight): name for name, weight in prunable(model).items()}
    pieces = []
    for name, tensor in model.state_dict().items():
        weight = own.get(_place(tensor))  # a layer used twice has two names
        if weight is not None:
            ways = _ways(name, tensor, shared[weight] if shared else None, huffman)
            pieces.append(
                min(
                    (ways[kind] for kind in kinds if kind in ways),
                    key=lambda piece: sum(map(len, piece)),
                )
            )
        elif other == "float16" and tensor.dtype in (torch.float32, torch.float64):
            pieces.append(_piece(name, tensor, HALF, [], _half(name, tensor)))
        else:
            pieces.append(_piece(name, tensor, RAW, [], _to_bytes(tensor)))
    if len(pieces) > MAX_TENSORS:
        raise ValueError(
            f"model has {len(pieces):,} tensors; a file holds at most {MAX_TENSORS:,}."
        )
    heads, bodies = zip(*pieces, strict=True)
    content = b"".join([MAGIC, bytes([VERSION]), _number(len(pieces)), *heads, *bodies])
    return content + zlib.crc32(content).to_bytes(CHECKSUM, "little")


def _place(tensor: Tensor) -> tuple:
    """Where its numbers lie, and how: equal for two names of one tensor, and not for a
    matrix and its transpose."""
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _ways(
    name: str, tensor: Tensor, each: SharedWeight | None, huffman: bool
) -> dict[int, tuple[bytes, bytes]]:
    """The ways to store a weight, by kind: its entry in the header and its parts."""
    dense = _flat(tensor if each is None else each.dense())
    if not np.isfinite(dense).all():
        raise ValueError(
            f"the weights of {name} are not all finite numbers; only such can be"
            " stored."
        )
    places = np.flatnonzero(dense if each is None else each.indices)
    symbols, width = _gap_symbols(places, huffman)
    gaps = write_stream(symbols, 2**width, huffman=huffman)
    numbers = [len(places), len(symbols), width, gaps.table_width, len(gaps.codes)]
    raw = torch.from_numpy(dense).view(tensor.shape).to(tensor.dtype)
    values = dense[places].astype("<f4").tobytes()
    ways = {
        RAW: _piece(name, tensor, RAW, [], _to_bytes(raw)),
        SPARSE: _piece(name, tensor, SPARSE, numbers, gaps.table, gaps.codes, values),
    }
    if each is not None:
        indices = _index_stream(each, places, huffman)
        numbers += [len(each.codebook), indices.table_width, len(indices.codes)]
        parts = (
            gaps.table + indices.table,
            gaps.codes,
            each.codebook.numpy().astype("<f4").tobytes(),
            indices.codes,
        )
        ways[SHARED] = _piece(name, tensor, SHARED, numbers, *parts)
    return ways


def _index_stream(each: SharedWeight, places: np.ndarray, huffman: bool) -> Stream:
    return write_stream(
        each.indices.reshape(-1).numpy()[places] - 1,
        len(each.codebook),
        huffman=huffman,
    )


def _gap_symbols(places: np.ndarray, huffman: bool) -> tuple[np.ndarray, int]:
    """Where the non-zero weights are, as symbols of `width` bits; and the width, 1 to
    8, that takes fewest bytes.

    A symbol is the number of zeros before a weight (Han et al., fig. 2). The largest
    one, all bits set, is a filler: so many zeros, and no weight after them. (The
    paper's filler is followed by a weight that is zero and takes a place among the
    values; ours takes none.) With width 1 this is a bitmap: 0 = a weight, 1 = a zero.
    """
    gaps = np.diff(places, prepend=-1) - 1

    def size(width: int) -> int:
        filler = 2**width - 1
        counts = np.bincount(gaps % filler, minlength=2**width)
        counts[filler] = (gaps // filler).sum()
        return stream_bytes(counts, huffman=huffman)

    width = min(range(1, 9), key=size)
    filler = 2**width - 1
    last = np.cumsum(gaps // filler + 1)
    symbols = np.full(last[-1] if len(last) else 0, filler, dtype=np.uint8)
    symbols[last - 1] = gaps % filler
    return symbols, width


def _piece(
    name: str, tensor: Tensor, kind: int, numbers: list[int], *parts: bytes
) -> tuple[bytes, bytes]:
    """An entry of the header, and the parts it speaks of."""
    text = name.encode()
    head = [
        _number(len(text)),
        text,
        bytes([list(DTYPES).index(tensor.dtype), kind, tensor.dim()]),
    ]
    return b"".join([*head, *map(_number, [*tensor.shape, *numbers])]), b"".join(parts)


def _number(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _to_bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().reshape(-1)
    flat = flat.view(torch.int16) if tensor.dtype == torch.bfloat16 else flat
    return flat.numpy().astype(DTYPES[tensor.dtype], copy=False).tobytes()


def _half(name: str, tensor: Tensor) -> bytes:
    half = tensor.detach().to(torch.float16)
    if not torch.equal(half.isfinite(), tensor.isfinite()):
        raise ValueError(
            f"{name} holds numbers too large for float16 (65,504 at most); use"
            " other='float32'."
        )
    return _to_bytes(half)


def _check_storable(name: str, tensor: object) -> None:
    known = isinstance(tensor, Tensor) and not is_lazy(tensor)
    there = known and tensor.layout == torch.strided and not tensor.is_meta
    if not there or tensor.dtype not in DTYPES or tensor.dim() > MAX_DIMS:
        kind = f"{tensor.dtype}, {tensor.device}" if known else type(tensor).__name__
        raise ValueError(
            f"{name} ({kind}) cannot be stored or filled; only dense tensors of numbers"
            " in memory can."
        )
    if not 0 < len(name.encode()) <= MAX_NAME:
        raise ValueError(
            f"the name {name[:50]!r}... is longer than {MAX_NAME} bytes, or empty; it"
            " cannot be stored."
        )


def _check_fillable(name: str, tensor: object) -> None:
    _check_storable(name, tensor)
    if any(
        step == 0 and side > 1
        for step, side in zip(tensor.stride(), tensor.shape, strict=True)
    ):
        raise ValueError(
            f"{name} is expanded: several of its numbers lie in one place, and cannot"
            " be filled; clone it."
        )


# ------------------------------------------------------------------------------ reading


@dataclass
class _Entry:
    """What the header says about one tensor. `header`: bytes of that itself."""

    name: str
    dtype: torch.dtype
    kind: int
    shape: tuple[int, ...]
    numbers: dict[str, int]
    header: int
    # bytes of each part, in the order in which they lie in the file
    sizes: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = _sizes(self)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def _sizes(entry: _Entry) -> dict[str, int]:
    numbers = entry.numbers
    if entry.kind in (RAW, HALF):
        return {
            "raw": (
                entry.elements
                * (2 if entry.kind == HALF else np.dtype(DTYPES[entry.dtype]).itemsize)
            )
        }
    table = packed_bytes(2 ** numbers["gap width"], numbers["gap table width"])
    gaps = {"code tables": table, "gaps": numbers["gap bytes"]}
    if entry.kind == SPARSE:
        return gaps | {"values": 4 * numbers["weights"]}
    gaps["code tables"] += packed_bytes(
        numbers["codebook"], numbers["index table width"]
    )
    return gaps | {
        "codebooks": 4 * numbers["codebook"],
        "indices": numbers["index bytes"],
    }


class _Reader:
    """Bytes from front to back; never more than there are."""

    def __init__(self, content: bytes, place: int, end: int) -> None:
        self.content, self.place, self.end = content, place, end

    def take(self, count: int) -> bytes:
        if count > self.end - self.place:
            raise CodeError("it ends in the middle of its header")
        self.place += count
        return self.content[self.place - count : self.place]

    def number(self) -> int:
        value = 0
        for shift in range(0, 63, 7):
            digit = self.take(1)[0]
            value |= (digit & 127) << shift
            if digit < 128:
                return value
        raise CodeError("a number in its header is too long")


@contextmanager
def _damage(path: Path | str) -> Iterator[None]:
    """Whatever is wrong with the file becomes a DamagedFileError that names it."""
    try:
        yield
    except CodeError as error:
        raise DamagedFileError(
            f"{path} is damaged, or not what it should be: {error}. Repair: save it"
            " anew."
        ) from None
    except FileNotFoundError:
        raise DamagedFileError(
            f"{path} is missing. Repair: write it with save_compressed."
        ) from None
    except OSError as error:
        raise DamagedFileError(
            f"{path} cannot be read ({error.strerror}). Repair: save it anew."
        ) from error


def _read(
    path: Path | str, max_elements: int, max_tensors: int
) -> tuple[bytes, list[_Entry]]:
    """The file and its header, checked: all sizes add up, and no more elements or
    tensors than allowed."""
    # bytes that so much can take
    most = 8 * max_elements + 2 * MAX_NAME * max_tensors + 100
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(len(MAGIC) + 1)
        if content[: len(MAGIC)] != MAGIC:
            raise CodeError("it does not begin as one")
        if content[len(MAGIC) :] != bytes([VERSION]):
            raise CodeError(
                f"its version is {content[len(MAGIC) :].hex() or 'missing'}; this"
                f" program reads {VERSION:02x}"
            )
        if size > most:
            raise CodeError(
                f"it has {size:,} bytes; so large a network takes {most:,} at most"
            )
        content += file.read(size)
    end = len(content) - CHECKSUM
    if (
        zlib.crc32(content[: max(end, 0)]).to_bytes(CHECKSUM, "little")
        != content[max(end, 0) :]
    ):
        raise CodeError(
            "its checksum does not match its content: bytes are missing, added or"
            " changed"
        )
    reader = _Reader(content, len(MAGIC) + 1, end)
    count = reader.number()
    if count > max_tensors:
        raise CodeError(
            f"it claims {count:,} tensors; at most {max_tensors:,} are allowed"
        )
    entries: list[_Entry] = []
    for _ in range(count):
        entries.append(_read_entry(reader, max_elements))
        max_elements -= _extent(entries[-1].shape)
    if len({entry.name for entry in entries}) < count:
        raise CodeError("it holds two tensors of one name")
    promised, there = (
        sum(sum(entry.sizes.values()) for entry in entries),
        end - reader.place,
    )
    if promised != there:
        raise CodeError(
            f"its header promises {promised:,} bytes of content, and {there:,} follow"
        )
    return content, entries


def _read_entry(reader: _Reader, max_elements: int) -> _Entry:
    start, length = reader.place, reader.number()
    if not 0 < length <= MAX_NAME:
        raise CodeError(f"a name in its header is {length:,} bytes long")
    try:
        name = reader.take(length).decode()
    except UnicodeDecodeError:
        raise CodeError("a name in its header is no text") from None
    dtype, kind, dims = reader.take(3)
    if dtype >= len(DTYPES) or kind not in FIELDS or dims > MAX_DIMS:
        raise CodeError(
            f"{name!r} has an unknown type ({dtype}), kind ({kind}) or number of"
            f" dimensions ({dims})"
        )
    shape = tuple(reader.number() for _ in range(dims))
    if _extent(shape) > max_elements:
        raise CodeError(
            f"{name!r} claims the shape {list(shape)}: more elements than are allowed"
        )
    numbers = {key: reader.number() for key in FIELDS[kind]}
    dtype = list(DTYPES)[dtype]
    _check_numbers(name, dtype, kind, math.prod(shape), numbers)
    return _Entry(name, dtype, kind, shape, numbers, reader.place - start)


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


def _extent(shape: tuple[int, ...]) -> int:
    """Elements, where a tensor without any counts as if each empty dimension had
    one."""
    return math.prod(max(side, 1) for side in shape)


def _check_fit(entries: list[_Entry], state: Mapping[str, Tensor]) -> None:
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


def _decode_all(content: bytes, entries: list[_Entry]) -> dict[str, Tensor]:
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


def _decode(entry: _Entry, parts: dict[str, bytes]) -> Tensor:
    if entry.kind in (RAW, HALF):
        return _from_bytes(
            parts["raw"], torch.float16 if entry.kind == HALF else entry.dtype, entry
        )
    numbers = entry.numbers
    table = packed_bytes(2 ** numbers["gap width"], numbers["gap table width"])
    places = _places(entry, parts["code tables"][:table], parts["gaps"])
    values = np.frombuffer(
        parts["values" if entry.kind == SPARSE else "codebooks"], "<f4"
    )
    if not torch.from_numpy(values.astype(np.float32)).to(entry.dtype).isfinite().all():
        raise CodeError(f"a value is no finite number as {entry.dtype}")
    if entry.kind == SHARED:
        coded = (
            numbers["index table width"],
            parts["code tables"][table:],
            parts["indices"],
        )
        values = values[read_stream(*coded, len(values), numbers["weights"])]
    dense = np.zeros(entry.elements, dtype=np.float32)
    dense[places] = values
    return torch.from_numpy(dense).view(entry.shape).to(entry.dtype)


def _places(entry: _Entry, table: bytes, codes: bytes) -> np.ndarray:
    """Where the weights are: `_gap_symbols` backwards."""
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
    after = np.cumsum(symbols.astype(np.int64) + weights)
    if len(after) and after[-1] > entry.elements:
        raise CodeError(
            f"a gap leads to element {after[-1] - 1:,}, outside the tensor of"
            f" {entry.elements:,}"
        )
    return after[weights] - 1


def _from_bytes(data: bytes, dtype: torch.dtype, entry: _Entry) -> Tensor:
    stored = np.dtype(DTYPES[dtype])
    tensor = torch.from_numpy(
        np.frombuffer(data, stored).astype(stored.newbyteorder("="))
    )
    if dtype == torch.bfloat16:
        tensor = tensor.view(dtype)
    return tensor.view(entry.shape).to(entry.dtype)
