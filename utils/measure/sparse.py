"""Weights without their zeros: compressed sparse rows (CSR), as a file holds them and
as layers that multiply by them. Built in lessons/03_weight_pruning.
"""

import copy
import warnings
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.layers import prunable, prunable_layers


def csr_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors with each prunable weight in compressed sparse rows: values,
    column numbers, row starts.

    Convolution weights are laid out as `[filters, inputs * height * width]`. Indices
    are int32.

    >>> layer = nn.Linear(3, 2, bias=False)
    >>> layer.weight.data = torch.tensor([[0.0, 5.0, 0.0], [7.0, 0.0, 8.0]])
    >>> state = csr_state(layer)
    >>> [state[f"weight.{part}"].tolist() for part in ("values", "columns", "rows")]
    [[5.0, 7.0, 8.0], [1, 0, 2], [0, 1, 3]]
    """
    tensors = dict(model.state_dict())
    for name in prunable(model):
        dense = tensors.pop(name).detach().flatten(1)  # [units, inputs]
        kept = dense != 0
        tensors[f"{name}.values"] = dense[kept]  # [weights], row by row
        tensors[f"{name}.columns"] = kept.nonzero()[:, 1].int()
        # [units + 1]: row i is what lies from rows[i] to rows[i + 1]
        tensors[f"{name}.rows"] = F.pad(kept.sum(1).cumsum(0), (1, 0)).int()
    return tensors


class SparseLayer(nn.Module):
    """A linear or convolutional layer that multiplies by its weight in compressed
    sparse rows: it skips zeros.

    A convolution is unfolded: each place of the picture becomes a column. Same outputs
    as the dense layer's, but for rounding.

    >>> layer = nn.Conv2d(3, 8, 3, padding=1)
    >>> SparseLayer(layer)(torch.zeros(2, 3, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        units = len(layer.weight)
        self.start = (  # what the products are added to, [units, 1]
            torch.zeros(units, 1)
            if layer.bias is None
            else layer.bias.detach().view(units, 1)
        )
        self.matrix = _csr(layer.weight.detach().flatten(1))  # [units, inputs]

    @property
    def weight(self) -> Tensor:
        """The dense weight, for modules that read it without calling the layer."""
        return self.layer.weight

    @property
    def bias(self) -> Tensor | None:
        """The dense layer's bias."""
        return self.layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """`[n, ...]` -> `[n, ...]`, as the dense layer."""
        if isinstance(self.layer, nn.Conv2d):
            return self._convolve(self.layer, x)
        columns = x.reshape(-1, x.shape[-1]).T  # [inputs, n]
        product = torch.addmm(self.start, self.matrix, columns)  # [units, n]
        return product.T.reshape(*x.shape[:-1], -1)  # [..., units]

    def _convolve(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        options = layer.kernel_size, layer.dilation, _padding(layer), layer.stride
        columns = F.unfold(x, *options)  # [n, inputs, places]
        columns = columns.transpose(0, 1).flatten(1)  # [inputs, n * places]
        product = torch.addmm(self.start, self.matrix, columns)  # [units, n * places]
        size = [
            (side + 2 * pad - dilation * (kernel - 1) - 1) // step + 1
            for side, kernel, dilation, pad, step in zip(
                x.shape[2:], *options, strict=True
            )
        ]
        # [units, n, height, width] -> [n, units, height, width]
        return product.unflatten(1, (len(x), *size)).transpose(0, 1)


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
    if isinstance(layer.padding, str):
        raise ValueError(
            f"layer has padding={layer.padding!r}; only padding in numbers can be"
            " unfolded."
        )
    return layer.padding


def with_sparse_layers(model: nn.Module) -> nn.Module:
    """A copy whose linear and plain convolutional layers skip zeros (`SparseLayer`);
    grouped ones, convolutions with another padding than zeros and layers of derived
    classes stay dense.

    >>> [type(layer).__name__ for layer in with_sparse_layers(
    ...     nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.Flatten(), nn.Linear(8, 2))
    ... )]
    ['Conv2d', 'Flatten', 'SparseLayer']
    """
    result = copy.deepcopy(model)
    for name, layer in prunable_layers(result).items():
        if not _is_plain(layer):
            continue
        if not name:
            return SparseLayer(layer)
        result.set_submodule(name, SparseLayer(layer))
    return result


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Whether `SparseLayer` computes the same as this layer."""
    if type(layer) is nn.Linear:
        return True
    return (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )
