"""The layout of a compressed file, which `writing` and `reading` share.

Little-endian; a number is seven bits a byte, the lowest first, the top bit set while
more follow:

    magic, version, number of tensors
    for each tensor: name, dtype, kind, shape, and the numbers of its kind (FIELDS)
    for each tensor: its parts (`Entry.sizes` says which and how long)
    CRC-32 of everything before it
"""

import math
from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from utils.compression.huffman import packed_bytes

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
MAX_ELEMENTS = 12_000_000  # a ResNet-18
DECODING = 20  # bytes that a number takes while it is decoded, about, at most
MAX_TENSORS = 10_000
MAX_NAME = 1000  # bytes
MAX_DIMS = 16


@dataclass
class Entry:
    """What the header says about one tensor. `header`: bytes of that itself."""

    name: str
    dtype: torch.dtype
    kind: int
    shape: tuple[int, ...]
    numbers: dict[str, int]  # FIELDS
    header: int
    # bytes of each part, in the order in which they lie in the file
    sizes: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = _sizes(self.kind, self.dtype, self.elements, self.numbers)

    @property
    def elements(self) -> int:
        """How many numbers the tensor has."""
        return math.prod(self.shape)


def _sizes(
    kind: int, dtype: torch.dtype, elements: int, numbers: dict[str, int]
) -> dict[str, int]:
    if kind == HALF:
        return {"raw": 2 * elements}
    if kind == RAW:
        return {"raw": np.dtype(DTYPES[dtype]).itemsize * elements}
    table = packed_bytes(2 ** numbers["gap width"], numbers["gap table width"])
    gaps = numbers["gap bytes"]
    if kind == SPARSE:
        values = 4 * numbers["weights"]
        return {"code tables": table, "gaps": gaps, "values": values}
    index_table = packed_bytes(numbers["codebook"], numbers["index table width"])
    return {
        "code tables": table + index_table,
        "gaps": gaps,
        "codebooks": 4 * numbers["codebook"],
        "indices": numbers["index bytes"],
    }


def extent(shape: tuple[int, ...]) -> int:
    """Elements, where a tensor without any counts as if each empty dimension had
    one."""
    return math.prod(max(side, 1) for side in shape)


def check_storable(name: str, tensor: object) -> Tensor:
    """The tensor, if a file can hold it.

    Raises:
        ValueError: no dense numbers, not in memory, or a name that is too long.
    """
    if not _is_storable(tensor):
        kind = type(tensor).__name__
        if isinstance(tensor, Tensor) and not is_lazy(tensor):
            kind = f"{tensor.dtype}, {tensor.device}"
        raise ValueError(
            f"{name} ({kind}) cannot be stored or filled; only dense tensors of numbers"
            " in memory can."
        )
    if not 0 < len(name.encode()) <= MAX_NAME:
        raise ValueError(
            f"the name {name[:50]!r}... is longer than {MAX_NAME} bytes, or empty; it"
            " cannot be stored."
        )
    return tensor


def _is_storable(tensor: object) -> TypeGuard[Tensor]:
    return (
        isinstance(tensor, Tensor)
        and not is_lazy(tensor)
        and not tensor.is_meta
        and tensor.layout == torch.strided
        and tensor.dtype in DTYPES
        and tensor.dim() <= MAX_DIMS
    )
