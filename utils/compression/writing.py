"""Write a compressed file: the gaps between the weights, the values they share, and
Huffman codes for both. Built in lessons/08_quantization."""

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from utils.arguments import one_of
from utils.compression.format import (
    CHECKSUM,
    DTYPES,
    HALF,
    MAGIC,
    MAX_TENSORS,
    RAW,
    SHARED,
    SPARSE,
    VERSION,
    check_storable,
)
from utils.compression.huffman import Stream, stream_bytes, write_stream
from utils.compression.sharing import SharedWeight, flat, paired, share_weights
from utils.files import write_atomically
from utils.layers import first_names
from utils.quantization import quantizable


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

    Each weight of a linear or convolutional layer, and each table of an embedding, is
    stored in the way that takes fewest bytes: Huffman-coded as in the paper, or, where
    that would be longer, as its values. What is read back is the same to the bit either
    way: what `apply_shared` gives. Integers,
    and with `other="float32"` biases and BatchNorm too, are stored as they are; tied
    tensors once, under their first name.

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

    >>> from tempfile import TemporaryDirectory
    >>> layer = nn.Linear(300, 100, bias=False)
    >>> layer.weight.data[10:] = 0  # nine of ten are zero
    >>> with TemporaryDirectory() as folder:
    ...     size = save_compressed(layer, f"{folder}/layer")
    >>> 4 * 300 * 100 // size  # times smaller than in float32
    58
    """
    written = content(model, _fitting(model, shared, bits), other)
    write_atomically(Path(path), written)
    return len(written)


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

    >>> layer = nn.Linear(100, 10, bias=False)
    >>> layer.weight.data = torch.eye(10, 100)
    >>> stages(layer)
    {'dense': 4025, 'pruned': 79, 'shared': 46, 'huffman': 46}
    """
    shared = _fitting(model, shared, bits)
    return {
        "dense": len(content(model, None, other, kinds=(RAW,))),
        "pruned": len(content(model, None, other, kinds=(RAW, SPARSE), huffman=False)),
        "shared": len(content(model, shared, other, huffman=False)),
        "huffman": len(content(model, shared, other)),
    }


def _fitting(
    model: nn.Module,
    shared: Mapping[str, SharedWeight] | None,
    bits: int | Mapping[str, int],
) -> Mapping[str, SharedWeight]:
    """The values to store: `shared`, checked, or new ones."""
    for name, tensor in model.state_dict().items():
        check_storable(name, tensor)
    if shared is None:
        return share_weights(model, bits)
    for name, (weight, each) in zip(shared, paired(model, shared), strict=True):
        pruned, zero = each.indices.reshape(-1).numpy() == 0, flat(weight) == 0
        # a shared value can be zero, in the weight's type
        lost = flat(each.dense().to(weight.dtype)) == 0
        if (pruned & ~zero).any() or (zero & ~lost).any():
            raise ValueError(
                f"shared has other zeros in {name} than the model; make it anew with"
                " share_weights."
            )
    return shared


def content(
    model: nn.Module,
    shared: Mapping[str, SharedWeight] | None,
    other: str,
    *,
    kinds: tuple[int, ...] = (RAW, SPARSE, SHARED),
    huffman: bool = True,
) -> bytes:
    """The whole file. Without `shared` the weights are stored as they are."""
    one_of("other", other, ("float32", "float16"))
    own, state = quantizable(model), model.state_dict()
    pieces = []
    for name, first in first_names(state).items():
        tensor = state[name]
        if name != first:
            continue  # tied to one that is written
        if name in own:
            each = shared[name] if shared else None
            ways = _ways(name, tensor, each, huffman)
            pieces.append(min((ways[k] for k in kinds if k in ways), key=_size))
        elif other == "float16" and tensor.dtype in (torch.float32, torch.float64):
            pieces.append(_piece(name, tensor, HALF, [], _half(name, tensor)))
        else:
            pieces.append(_piece(name, tensor, RAW, [], _to_bytes(tensor)))
    return _sealed(pieces)


Piece = tuple[bytes, bytes]  # an entry of the header, and the parts it speaks of


def _size(piece: Piece) -> int:
    head, body = piece
    return len(head) + len(body)


def _sealed(pieces: list[Piece]) -> bytes:
    """The file made of these pieces."""
    if len(pieces) > MAX_TENSORS:
        raise ValueError(
            f"model has {len(pieces):,} tensors; a file holds at most {MAX_TENSORS:,}."
        )
    heads, bodies = zip(*pieces, strict=True)
    whole = b"".join([MAGIC, bytes([VERSION]), _number(len(pieces)), *heads, *bodies])
    return whole + zlib.crc32(whole).to_bytes(CHECKSUM, "little")


def _ways(
    name: str, tensor: Tensor, each: SharedWeight | None, huffman: bool
) -> dict[int, Piece]:
    """The ways to store a weight, by kind."""
    dense = flat(tensor if each is None else each.dense())  # [weights]
    if not np.isfinite(dense).all():
        raise ValueError(
            f"the weights of {name} are not all finite numbers; only such can be"
            " stored."
        )
    places = np.flatnonzero(dense if each is None else each.indices)  # [kept]
    gaps, gap_numbers = _gaps(places, huffman)
    raw = torch.from_numpy(dense).view(tensor.shape).to(tensor.dtype)
    values = dense[places].astype("<f4").tobytes()
    sparse = gaps.table, gaps.codes, values
    ways = {
        RAW: _piece(name, tensor, RAW, [], _to_bytes(raw)),
        SPARSE: _piece(name, tensor, SPARSE, gap_numbers, *sparse),
    }
    if each is None:
        return ways
    indices = _index_stream(each, places, huffman)
    numbers = [len(each.codebook), indices.table_width, len(indices.codes)]
    codebook = each.codebook.numpy().astype("<f4").tobytes()
    parts = gaps.table + indices.table, gaps.codes, codebook, indices.codes
    shared = _piece(name, tensor, SHARED, [*gap_numbers, *numbers], *parts)
    return ways | {SHARED: shared}


def _gaps(places: np.ndarray, huffman: bool) -> tuple[Stream, list[int]]:
    """The gaps before the weights at these places, coded, and the numbers that GAPS
    names."""
    symbols, width = gap_symbols(places, huffman)
    gaps = write_stream(symbols, 2**width, huffman=huffman)
    return gaps, [
        len(places),
        len(symbols),
        width,
        gaps.table_width,
        len(gaps.codes),
    ]


def _index_stream(each: SharedWeight, places: np.ndarray, huffman: bool) -> Stream:
    """The codebook entries of the weights at these places, coded."""
    entries = each.indices.reshape(-1).numpy()[places] - 1  # [kept]
    return write_stream(entries, len(each.codebook), huffman=huffman)


def gap_symbols(places: np.ndarray, huffman: bool) -> tuple[np.ndarray, int]:
    """Where the non-zero weights are, as symbols of `width` bits; and the width, 1 to
    8, that takes fewest bytes.

    A symbol is the number of zeros before a weight (Han et al., fig. 2). The largest
    one, all bits set, is a filler: so many zeros, and no weight after them. (The
    paper's filler is followed by a weight that is zero and takes a place among the
    values; ours takes none.) With width 1 this is a bitmap: 0 = a weight, 1 = a zero.

    >>> symbols, width = gap_symbols(np.array([9, 12, 25]), huffman=False)
    >>> symbols.tolist(), width  # 9, 2 and 12 zeros; 7 is the filler
    ([7, 2, 2, 7, 5], 3)
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
) -> Piece:
    """`numbers`: those that FIELDS names for the kind."""
    text = name.encode()
    head = [
        _number(len(text)),
        text,
        bytes([list(DTYPES).index(tensor.dtype), kind, tensor.dim()]),
    ]
    return b"".join([*head, *map(_number, [*tensor.shape, *numbers])]), b"".join(parts)


def _number(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
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
