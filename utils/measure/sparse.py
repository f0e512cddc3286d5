"""Weights without their zeros: compressed sparse rows (CSR), as a file holds them and
as layers that multiply by them. Built in lessons/03_weight_pruning.
"""

import warnings
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.layers import COMPUTED, LAZY, copied, prunable, prunable_layers, weights


def csr_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors with each prunable weight in compressed sparse rows: values,
    column numbers, row starts.

    Convolution weights are laid out as `[filters, inputs * height * width]`. Indices
    are int32. A weight that layers share has the same three tensors under each of its
    names, so that a file holds them once.

    Raises:
        ValueError: as `layers.prunable`.

    >>> layer = nn.Linear(3, 2, bias=False)
    >>> layer.weight.data = torch.tensor([[0.0, 5.0, 0.0], [7.0, 0.0, 8.0]])
    >>> state = csr_state(layer)
    >>> [state[f"weight.{part}"].tolist() for part in ("values", "columns", "rows")]
    [[5.0, 7.0, 8.0], [1, 0, 2], [0, 1, 3]]
    """
    tensors, names = dict(model.state_dict()), weights(model)
    for name, weight in prunable(model).items():
        dense = weight.detach().flatten(1)  # [units, inputs]
        kept = dense != 0
        parts = {
            "values": dense[kept],  # [weights], row by row
            "columns": kept.nonzero()[:, 1].int(),
            # [units + 1]: row i is what lies from rows[i] to rows[i + 1]
            "rows": F.pad(kept.sum(1).cumsum(0), (1, 0)).int(),
        }
        for each in names[name].names:
            del tensors[each]
            tensors |= {f"{each}.{part}": value for part, value in parts.items()}
    return tensors


class SparseLayer(nn.Module):
    """A linear or convolutional layer that multiplies by its weight in compressed
    sparse rows: it skips zeros.

    A convolution is unfolded: each place of the picture becomes a column. Same outputs
    as the dense layer's, but for rounding. Changes of the weight are followed: when it
    is loaded, masked, moved or trained, its rows are made anew at the next call; only
    one written to `weight.data` in place leaves no trace. Where PyTorch cannot multiply
    so, the dense layer computes: while gradients are recorded for the weight, in half
    precision, without values.

    Raises:
        ValueError: the layer is no plain linear or convolutional one.

    >>> layer = nn.Conv2d(3, 8, 3, padding=1)
    >>> SparseLayer(layer)(torch.zeros(2, 3, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        if not _is_plain(layer):
            raise ValueError(
                f"layer={layer!r} cannot skip zeros: only a Linear or Conv2d without"
                " groups and hooks, padded with zeros in numbers."
            )
        self.layer = layer
        self._made: _Rows | None = None

    def __getstate__(self) -> dict:
        """Without the rows: a copy makes its own."""
        return {**super().__getstate__(), "_made": None}

    @property
    def matrix(self) -> Tensor:
        """The weight as it is now in compressed sparse rows, `[units, inputs]`."""
        weight = self.layer.weight
        if self._made is None or not self._made.fit(weight):
            self._made = _Rows(weight)
        return self._made.matrix

    @property
    def weight(self) -> Tensor:
        """The dense weight, for modules that read it without calling the layer."""
        return self.layer.weight

    @property
    def bias(self) -> Tensor | None:
        """The dense layer's bias."""
        return self.layer.bias

    def forward(self, input: Tensor) -> Tensor:
        """`[n, ...]` -> `[n, ...]`, as the dense layer."""
        if not _can_multiply(self.layer.weight):
            return self.layer(input)
        if isinstance(self.layer, nn.Conv2d):
            return self._convolve(self.layer, input)
        columns = input.reshape(-1, input.shape[-1]).T  # [inputs, n]
        product = self._multiply(columns)  # [units, n]
        return product.T.reshape(*input.shape[:-1], len(product))  # [..., units]

    def _multiply(self, columns: Tensor) -> Tensor:
        """`[inputs, n]` -> `[units, n]`"""
        if self.bias is None:
            return self.matrix @ columns
        return torch.addmm(self.bias.view(-1, 1), self.matrix, columns)

    def _convolve(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        if x.dim() == 3:
            return self._convolve(layer, x[None])[0]
        options = layer.kernel_size, layer.dilation, _padding(layer), layer.stride
        columns = F.unfold(x, *options)  # [n, inputs, places]
        columns = columns.transpose(0, 1).flatten(1)  # [inputs, n * places]
        product = self._multiply(columns)  # [units, n * places]
        size = [
            (side + 2 * pad - dilation * (kernel - 1) - 1) // step + 1
            for side, kernel, dilation, pad, step in zip(
                x.shape[2:], *options, strict=True
            )
        ]
        # [units, n, height, width] -> [n, units, height, width]
        return product.unflatten(1, (len(x), *size)).transpose(0, 1)


class _Rows:
    """A weight in compressed sparse rows, and what is needed to see that it has
    changed since."""

    def __init__(self, weight: Tensor) -> None:
        self.matrix = _csr(weight.detach().flatten(1))
        # a view keeps the place in memory from being used again
        self.weight, self.seen, self.version = weight, weight.detach(), _version(weight)

    def fit(self, weight: Tensor) -> bool:
        """Whether this is the same weight still."""
        return (
            weight is self.weight
            and _version(weight) == self.version is not None
            and weight.data_ptr() == self.seen.data_ptr()
            and (weight.dtype, weight.shape) == (self.seen.dtype, self.seen.shape)
        )


def _version(tensor: Tensor) -> int | None:
    """How often it was written to; None where that is not known."""
    return None if tensor.is_inference() else tensor._version


def _can_multiply(weight: Tensor) -> bool:
    """Whether PyTorch multiplies by such a weight in compressed sparse rows."""
    return (
        weight.dtype in (torch.float32, torch.float64)
        and weight.numel() > 0
        and not weight.is_meta
        and not (weight.requires_grad and torch.is_grad_enabled())
        and not torch.is_autocast_enabled(weight.device.type)
    )


def _csr(dense: Tensor) -> Tensor:
    """The matrix in compressed sparse rows, with indices of 32 bits: they are
    faster."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse CSR tensor support is in beta"
        )
        matrix = dense.to_sparse_csr()
        rows, columns = matrix.crow_indices().int(), matrix.col_indices().int()
        return torch.sparse_csr_tensor(
            rows, columns, matrix.values(), matrix.shape, check_invariants=False
        )


def _padding(layer: nn.Conv2d) -> tuple[int, ...]:
    assert not isinstance(layer.padding, str)  # such layers are refused
    return layer.padding


def with_sparse_layers(model: nn.Module) -> nn.Module:
    """A copy whose linear and plain convolutional layers skip zeros (`SparseLayer`);
    grouped ones, convolutions with another padding than zeros, layers of derived
    classes or with hooks, and those inside an `nn.MultiheadAttention` stay dense. Tied
    weights stay tied.

    Raises:
        ValueError: a weight is computed, or not made yet; the model cannot be copied.

    >>> [type(layer).__name__ for layer in with_sparse_layers(
    ...     nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.Flatten(), nn.Linear(8, 2))
    ... )]
    ['Conv2d', 'Flatten', 'SparseLayer']
    """
    for weight in weights(model).values():
        if weight.why_not in (COMPUTED, LAZY):
            raise ValueError(f"{weight.name} {weight.why_not}.")
    result = copied(model)
    sparse: dict[nn.Module, SparseLayer] = {
        layer: SparseLayer(layer)
        for layer in prunable_layers(result).values()
        if _is_plain(layer)
    }
    # a layer under two names stays one
    for name, layer in list(result.named_modules(remove_duplicate=False)):
        if layer in sparse and not name:
            return sparse[layer]
        if layer in sparse:
            result.set_submodule(name, sparse[layer])
    return result


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Whether `SparseLayer` computes the same as this layer."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False  # it would not call them
    if type(layer) is nn.Linear:
        return True
    return (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )
