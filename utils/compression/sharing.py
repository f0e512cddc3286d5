"""Weights that share a few values (Han, Mao & Dally 2016, sec. 3). Built in
lessons/08_quantization."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor, nn

from utils.arguments import whole
from utils.layers import parameter
from utils.quantization import quantizable


@dataclass
class SharedWeight:
    """A weight tensor whose non-zero weights take few values: `codebook` `[values]`
    float32, and `indices`, of the weight's shape: 0 where the weight is pruned, i where
    it is `codebook[i - 1]`; uint8, or int16 for 256 values.

    >>> SharedWeight(torch.tensor([0.5, -1.0]), torch.tensor([[0, 1], [2, 1]])).dense()
    tensor([[ 0.0000,  0.5000],
            [-1.0000,  0.5000]])
    """

    codebook: Tensor
    indices: Tensor

    def dense(self) -> Tensor:
        """The weights, float32, of the weight's shape."""
        return torch.cat([torch.zeros(1), self.codebook])[self.indices.int()]


Shared = dict[str, SharedWeight]  # by parameter name


def share_weights(
    model: nn.Module, bits: int | Mapping[str, int], *, iterations: int = 300
) -> Shared:
    """Cluster the non-zero weights of each linear and convolutional layer, and of each
    embedding, around 2**bits values (Han et al., sec. 3).

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
        ValueError: bits outside 1..8, names that do not fit, a weight that is complex
            or not finite in float32.

    >>> layer = nn.Linear(4, 1)
    >>> layer.weight.data = torch.tensor([[1.0, 0.0, 1.25, 3.0]])
    >>> each = share_weights(layer, bits=1)["weight"]
    >>> each.codebook.tolist(), each.indices.tolist()
    ([1.125, 3.0], [[1, 0, 1, 2]])
    """
    weights = _real_weights(model)
    whole("iterations", iterations)
    widths = _widths(bits, weights)
    return {
        name: _share(name, weight, 2 ** widths[name], iterations)
        for name, weight in weights.items()
    }


def apply_shared(model: nn.Module, shared: Mapping[str, SharedWeight]) -> None:
    """Give each weight its shared value, in place.

    Raises:
        ValueError: `shared` does not fit the model; nothing is changed then.

    >>> layer = nn.Linear(4, 1)
    >>> layer.weight.data = torch.tensor([[1.0, 0.0, 1.25, 3.0]])
    >>> apply_shared(layer, share_weights(layer, bits=1))
    >>> layer.weight.tolist()
    [[1.125, 0.0, 1.125, 3.0]]
    """
    for weight, each in paired(model, shared):
        weight.detach().copy_(each.dense())


def hold_shared(model: nn.Module, shared: Mapping[str, SharedWeight]) -> "HeldShared":
    """Fine-tune the shared values: `fit(..., after_step=hold_shared(model, shared))`
    (Han et al., sec. 3.3). Built in lessons/08_quantization, exercise 3.

    Applies the shared values now. Called after each optimizer step, it gives all
    weights of a cluster the mean of the values that the optimizer gave them, writes it
    to the codebook in `shared` too, and pruned weights become zero again. For SGD,
    momentum and weight decay included, that is training the values with the mean
    gradient of their weights. The paper takes the sum: the same with the learning rate
    times the number of weights in the cluster, where gradients mostly cancel; so give
    `fit` a rate ten times or more what suits single weights.

    Raises:
        ValueError: `shared` does not fit the model; nothing is changed then.

    >>> layer = nn.Linear(4, 1)
    >>> layer.weight.data = torch.tensor([[1.0, 0.0, 1.25, 3.0]])
    >>> share_again = hold_shared(layer, share_weights(layer, bits=1))
    >>> layer.weight.data += torch.tensor([[1.0, 1.0, 2.0, 1.0]])  # a step
    >>> share_again()
    >>> layer.weight.tolist()
    [[2.625, 0.0, 2.625, 4.0]]
    """
    return HeldShared(model, shared)


class HeldShared:
    """A call gives all weights of a cluster their mean; made by `hold_shared`.

    Each call looks the weights up by name, as `masks.Held` does. Its `repr` tells these
    clusters from others: a checkpoint of `fit` is recognised by it.
    """

    def __init__(self, model: nn.Module, shared: Mapping[str, SharedWeight]) -> None:
        apply_shared(model, shared)
        self.model = model
        self.clusters = {name: _Clusters(each) for name, each in shared.items()}

    def __call__(self) -> None:
        weights = {
            name: parameter(self.model, name, "shared") for name in self.clusters
        }
        for name, weight in weights.items():  # all are checked before one is changed
            _check_shared(name, self.clusters[name].each, weight)
        for name, weight in weights.items():
            self.clusters[name].share_again(weight)

    def __repr__(self) -> str:
        digest = sha256()
        for name, clusters in sorted(self.clusters.items()):
            digest.update(f"{name} {list(clusters.each.indices.shape)} ".encode())
            digest.update(clusters.each.indices.int().numpy().tobytes())
        return f"HeldShared(sha256={digest.hexdigest()[:16]!r})"


class _Clusters:
    """Which weights of a tensor share a value, worked out once."""

    def __init__(self, each: SharedWeight) -> None:
        self.each = each
        indices = each.indices.reshape(-1).numpy()  # [weights]
        self.places = np.flatnonzero(indices)  # [kept]
        self.members = (
            indices[self.places].astype(np.intp) - 1
        )  # [kept]: codebook entry
        self.sizes = np.bincount(self.members, minlength=len(each.codebook))  # [values]

    def share_again(self, weight: Tensor) -> None:
        kept, codebook = flat(weight)[self.places], self.each.codebook
        sums = np.bincount(self.members, kept, minlength=len(self.sizes))  # [values]
        means = sums / np.maximum(self.sizes, 1)
        # a value that no weight takes stays
        means = np.where(self.sizes > 0, means, codebook.numpy())
        codebook.copy_(torch.from_numpy(means))
        weight.detach().copy_(self.each.dense())


def _widths(
    bits: int | Mapping[str, int], weights: Mapping[str, Tensor]
) -> Mapping[str, int]:
    """Bits by parameter name, checked."""
    if not isinstance(bits, Mapping):
        return dict.fromkeys(weights, whole("bits", bits, 1, 8))
    _check_names("bits", weights, bits)
    return {name: whole(f"bits[{name!r}]", width, 1, 8) for name, width in bits.items()}


def _share(name: str, weight: Tensor, most: int, iterations: int) -> SharedWeight:
    weights = flat(weight)
    if not np.isfinite(weights).all():
        raise ValueError(
            f"the weights of {name} are not all finite numbers; only such can be"
            " shared."
        )
    places = np.flatnonzero(weights)  # [kept]
    values = np.sort(weights[places]).astype(np.float64)
    codebook = _lloyd(values, most, iterations)  # [values]
    borders = (codebook[1:] + codebook[:-1]) / 2
    members = np.searchsorted(borders, weights[places])  # [kept]: entry of the codebook
    used = np.bincount(members, minlength=len(codebook)) > 0
    codebook, members = codebook[used], (np.cumsum(used) - 1)[members]
    dtype = np.uint8 if len(codebook) < 256 else np.int16
    indices = np.zeros(weights.size, dtype=dtype)
    indices[places] = members + 1  # 0 is what is pruned
    return SharedWeight(
        torch.from_numpy(codebook.astype(np.float32)),
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
    sums = np.concatenate([[0.0], np.cumsum(values)])  # of values[:i]
    # cluster i is values[ends[i]:ends[i + 1]]
    ends = np.zeros(0, dtype=np.intp)
    for _ in range(iterations):
        borders = (centroids[1:] + centroids[:-1]) / 2
        inner = np.searchsorted(values, borders, side="right")
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


def flat(weight: Tensor) -> np.ndarray:
    """The weights in order of their indices, whatever their layout: float32,
    `[weights]`."""
    return weight.detach().float().cpu().reshape(-1).numpy()


def paired(
    model: nn.Module, shared: Mapping[str, SharedWeight]
) -> list[tuple[nn.Parameter, SharedWeight]]:
    """Each weight of the model and what it shares, checked.

    Raises:
        ValueError: `shared` does not fit the model.
    """
    weights = _real_weights(model)
    if not isinstance(shared, Mapping):
        raise ValueError(
            f"shared ({type(shared).__name__}) must be what share_weights gives: a"
            " SharedWeight by name."
        )
    _check_names("shared", weights, shared)
    for name, each in shared.items():
        _check_shared(name, each, weights[name])
    return [(weights[name], each) for name, each in shared.items()]


def _real_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    weights = quantizable(model)
    for name, weight in weights.items():
        if weight.is_complex():
            raise ValueError(
                f"{name} is {weight.dtype}; only real numbers lie on a line and can be"
                " shared."
            )
    return weights


def _check_names(argument: str, weights: Mapping[str, Tensor], given: Mapping) -> None:
    if set(weights) != set(given):
        raise ValueError(
            f"{argument} must name exactly {', '.join(weights)}; it names"
            f" {', '.join(given)}."
        )


def _check_shared(name: str, each: SharedWeight, weight: Tensor) -> None:
    if not isinstance(each, SharedWeight) or not all(
        isinstance(t, Tensor) for t in (each.codebook, each.indices)
    ):
        raise ValueError(
            f"shared[{name!r}] ({type(each).__name__}) must be a SharedWeight of two"
            " tensors."
        )
    _check_codebook(name, each.codebook, weight.dtype)
    _check_indices(name, each.indices, weight, len(each.codebook))


def _check_codebook(name: str, codebook: Tensor, dtype: torch.dtype) -> None:
    if codebook.dim() != 1 or codebook.requires_grad:
        there = (
            f"has the shape {list(codebook.shape)},"
            f" requires_grad={codebook.requires_grad}"
        )
        raise ValueError(
            f"the codebook of {name} {there}; it must be `[values]`, without gradient."
        )
    if len(codebook) > 256 or not codebook.to(dtype).isfinite().all():
        raise ValueError(
            f"the codebook of {name} must be at most 256 finite numbers, also as"
            f" {dtype}."
        )


def _check_indices(name: str, indices: Tensor, weight: Tensor, values: int) -> None:
    if indices.shape != weight.shape or indices.is_floating_point():
        there = (
            f"{list(indices.shape)} {indices.dtype}; it must be {list(weight.shape)},"
            " whole numbers"
        )
        raise ValueError(f"the shared indices of {name} are {there}.")
    if indices.numel() and not 0 <= indices.min() <= indices.max() <= values:
        raise ValueError(
            f"the shared indices of {name} must be 0..{values}, as its codebook has it."
        )
