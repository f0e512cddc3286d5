"""What the tests of compression share: networks made of given weights, and slow, plain
ways to do the same."""

from collections import Counter
from pathlib import Path

import torch
from torch import nn

from utils.compression.format import Entry
from utils.compression.reading import read_header


class Weights(nn.Module):
    """Layers whose weights are these tensors, a bias, and a buffer of whole numbers."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for tensor in tensors:
            layer = (
                nn.Linear(1, 1, bias=False)
                if tensor.dim() == 2
                else nn.Conv2d(1, 1, 1, bias=False)
            )
            layer.weight = nn.Parameter(tensor.clone())
            self.layers.append(layer)
        self.bias = nn.Parameter(torch.tensor([0.1, -3.0, 1e-8]))
        self.register_buffer("steps", torch.tensor(2**40 + 1))


def sparse(*shape: int, density: float = 0.4, seed: int = 0) -> torch.Tensor:
    """Random weights, most of them zero."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * (
        torch.rand(shape, generator=generator) < density
    )


def same(a, b) -> bool:
    """Whether two states hold the same tensors, to the bit and in the same types."""
    """The same names, types, shapes and bits (0.0 and -0.0 alike)."""
    return set(a) == set(b) and all(
        a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a
    )


def entries_of(path: Path) -> dict[str, Entry]:
    """What the header of a file says, by name."""
    _, entries = read_header(path, max_elements=10**6, max_tensors=1000)
    return {entry.name: entry for entry in entries}


def slow_codes(lengths: list[int]) -> dict[str, int]:
    """RFC 1951, sec. 3.2.2, word for word: the code of each symbol, as text of 0 and
    1."""
    count = Counter(length for length in lengths if length)
    code, following = 0, {}
    for length in range(1, max(lengths) + 1):
        code = (code + count[length - 1]) << 1
        following[length] = code
    codes = {}
    for symbol, length in enumerate(lengths):
        if length:
            codes[f"{following[length]:0{length}b}"] = symbol
            following[length] += 1
    return codes


def slow_decode(data: bytes, lengths: list[int], count: int) -> list[int]:
    """Bit by bit."""
    codes, symbols, code = slow_codes(lengths), [], ""
    for bit in "".join(f"{byte:08b}" for byte in data):
        code += bit
        if len(symbols) < count and code in codes:
            symbols.append(codes[code])
            code = ""
    return symbols
