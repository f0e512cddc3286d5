"""Counted, so exact: parameters, zeros, multiply-accumulates (MACs) and bytes of a
network. Built in lessons/01_baseline."""

import zlib
from collections.abc import Iterator

from torch import Tensor, nn

from utils.baselines import State, to_bytes
from utils.layers import check_not_lazy, prunable
from utils.measure.products import products

ZIPPED_AT_ONCE = 2**17  # bytes: a few milliseconds


def parameters(model: nn.Module) -> int:
    """Number of trainable numbers in the model: not those of frozen parameters
    (`requires_grad=False`), and those that layers share once.

    Raises:
        ValueError: a parameter is not made yet (lazy layers).

    >>> parameters(nn.Linear(784, 10))
    7850
    """
    check_not_lazy(model)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def sparsity(model: nn.Module) -> float:
    """Fraction of the prunable weights (linear and convolutional, no biases) that are
    zero, 0..1. Those that layers share count once.

    Raises:
        ValueError: as `layers.prunable`.

    >>> import torch
    >>> layer = nn.Linear(4, 1)
    >>> layer.weight.data = torch.tensor([[0.0, 0.0, 0.0, 2.0]])
    >>> sparsity(layer)
    0.75
    """
    tensors = prunable(model).values()
    kept = sum(int(tensor.count_nonzero()) for tensor in tensors)
    whole = sum(tensor.numel() for tensor in tensors)
    return 1 - kept / whole if whole else 0.0


def layer_macs(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Multiply-accumulates for *one* input, by the name of the module that multiplies.

    Counted are the matrix products and convolutions that run, whoever asks for them:
    recurrent layers, both products of an attention, `F.linear` and `@` in a `forward`
    (which count for the module whose `forward` it is, "" being the network itself). A
    layer that runs twice counts twice, one that does not run is not there. Elementwise
    work, sums, averages and lookups count nothing; masked scores of an attention count.

    Args:
        example: one input, `[1, ...]`: the whole call is counted. Of more, the count
            is for one of them: of the rows of axis 0, or, where a recurrent layer or an
            attention takes the example time first (`[time, batch, ...]`), of axis 1.
    Raises:
        ValueError: the network cannot take the example, or its rows are no inputs of
            their own; it multiplies nothing, or in an operator that cannot be counted
            (which is named).

    >>> import torch
    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    >>> layer_macs(network, torch.zeros(1, 1, 8, 8))  # the outputs are [1, 4, 6, 6]
    {'0': 1296, '2': 1440}
    """
    counts: dict[str, int] = {}
    for each in products(model, example)[0]:
        counts[each.layer] = counts.get(each.layer, 0) + each.macs
    return counts


def macs(model: nn.Module, example: Tensor, *, nonzero: bool = False) -> int:
    """Multiply-accumulates for one input, as `layer_macs` counts them. With `nonzero`,
    only those whose weight is not zero.

    A weight is what does not depend on the example, computed or not. Each of its
    numbers takes part equally often, so both counts are exact. Products of two tensors
    that do depend on it, as in an attention, count in full.

    >>> import torch
    >>> macs(nn.Conv2d(1, 4, 3), torch.zeros(1, 1, 8, 8))  # 36 weights, 36 positions
    1296
    """
    found, _ = products(model, example)
    return sum(each.nonzero() if nonzero else each.macs for each in found)


def file_bytes(state: State) -> int:
    """Bytes of the model (or of a dict of tensors) saved as a safetensors file. 1 MB =
    1e6 bytes.

    >>> import torch
    >>> file_bytes({"weight": torch.zeros(1000)})  # 4,000, and a header of 80
    4080
    """
    return len(to_bytes(state))


def zipped_bytes(state: State, level: int = 6) -> int:
    """Bytes of that file after zlib, the compression inside gzip and zip. `level`: 1
    fast .. 9 small.

    >>> import torch
    >>> zipped_bytes({"weight": torch.zeros(1000)}) < 100  # zeros take hardly any place
    True
    """
    *_, size = zipping(state, level)
    return size


def zipping(state: State, level: int) -> Iterator[int]:
    """Bytes of that file so far, a slice of it at a time, for where something else may
    want to come between; the last are those of all."""
    content, packer, size = memoryview(to_bytes(state)), zlib.compressobj(level), 0
    for start in range(0, len(content), ZIPPED_AT_ONCE):
        size += len(packer.compress(content[start : start + ZIPPED_AT_ONCE]))
        yield size
    yield size + len(packer.flush())
