"""Counted, so exact: parameters, zeros, multiply-accumulates (MACs) and bytes of a
network. Built in lessons/01_baseline."""

import zlib

import torch
from torch import Tensor, nn

from utils.baselines import State, to_bytes
from utils.layers import eval_mode, prunable, prunable_layers, watching, weights


def parameters(model: nn.Module) -> int:
    """Number of trainable numbers in the model.

    >>> parameters(nn.Linear(784, 10))
    7850
    """
    return sum(p.numel() for p in model.parameters())


def sparsity(model: nn.Module) -> float:
    """Fraction of the prunable weights (linear and convolutional, no biases) that are
    zero, 0..1.

    >>> layer = nn.Linear(4, 1)
    >>> layer.weight.data = torch.tensor([[0.0, 0.0, 0.0, 2.0]])
    >>> sparsity(layer)
    0.75
    """
    tensors = prunable(model).values()
    kept = sum(int(tensor.count_nonzero()) for tensor in tensors)
    return 1 - kept / sum(tensor.numel() for tensor in tensors)


@torch.no_grad()
def layer_macs(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Multiply-accumulates of each linear and convolutional layer for *one* input, by
    module name.

    Args:
        example: one input, `[1, ...]`; of more, the count is divided by their number.
    Raises:
        ValueError: the model has no such layer.

    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    >>> layer_macs(network, torch.zeros(1, 1, 8, 8))  # the outputs are [1, 4, 6, 6]
    {'0': 1296, '2': 1440}
    """
    by_layer = _weights(model)
    counts: dict[str, int] = {}

    def count(name: str, layer: nn.Module, _: tuple, output: Tensor) -> None:
        # [n, ..., units] or [n, units, ...]: how often the whole weight is applied
        units = output.shape[-1 if isinstance(layer, nn.Linear) else 1]
        positions = output.numel() // units // len(example)
        counts[name] = counts.get(name, 0) + positions * by_layer[name].numel()

    with eval_mode(model), watching(prunable_layers(model), count):
        model(example)
    return counts


def macs(model: nn.Module, example: Tensor, *, nonzero: bool = False) -> int:
    """Multiply-accumulates for one input. With `nonzero`, only those whose weight is
    not zero.

    In a linear layer and in a convolution every weight takes part equally often, so
    both counts are exact.

    >>> macs(nn.Conv2d(1, 4, 3), torch.zeros(1, 1, 8, 8))  # 36 weights, 36 positions
    1296
    """
    counts = layer_macs(model, example)
    if not nonzero:
        return sum(counts.values())
    by_layer = _weights(model)
    return sum(
        count * int(by_layer[name].count_nonzero()) // by_layer[name].numel()
        for name, count in counts.items()
    )


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights by the name of their module."""
    return {n: w.tensor for w in weights(model).values() for n in w.layers}


def file_bytes(state: State) -> int:
    """Bytes of the model (or of a dict of tensors) saved as a safetensors file. 1 MB =
    1e6 bytes.

    >>> file_bytes({"weight": torch.zeros(1000)})  # 4,000, and a header of 80
    4080
    """
    return len(to_bytes(state))


def zipped_bytes(state: State, level: int = 6) -> int:
    """Bytes of that file after zlib, the compression inside gzip and zip. `level`: 1
    fast .. 9 small.

    >>> zipped_bytes({"weight": torch.zeros(1000)}) < 100  # zeros take hardly any place
    True
    """
    return len(zlib.compress(to_bytes(state), level))
