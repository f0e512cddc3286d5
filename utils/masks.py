"""From scores to masks, and masks held during training. Built in
lessons/03_weight_pruning.

A mask is a boolean tensor of the weight's shape, True = kept. Sparsity is the fraction
pruned, 0 <= sparsity < 1. Counts are exact: `round(sparsity * n)` of n weights are
pruned, also where scores are equal (of equal scores the ones that come first, by
parameter and position, are kept).

Two questions are asked here, each apart from what the scores are and from when they are
used (`utils.scores`, `utils.schedules`): how much of each layer goes (the *scope*, a
function in `SCOPES`), and which shapes of zeros are allowed (the *pattern*: single
weights, or `NM`). `utils.selection` finds the largest scores.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from utils.arguments import fraction, one_of
from utils.layers import copied, parameter, prunable, shared
from utils.selection import mark_largest, mark_largest_in_rows

# by bytes of one weight
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Masks = dict[str, Tensor]  # BoolTensors by parameter name


def masks_from_scores(  # noqa: PLR0913 - one call, by keywords
    scores: Mapping[str, Tensor],
    sparsity: float | Mapping[str, float],
    *,
    scope: str = "global",
    pattern: "Pattern | None" = None,
    exclude: Iterable[str] = (),
    allow_empty: bool = False,
) -> Masks:
    """Keep the highest scores. Built in lessons/03_weight_pruning (`magnitude_mask`).

    Args:
        scores: by parameter name; of the weight's shape, or `[units]`. Infinite ones
            are the largest and the smallest; whole ones are compared exactly.
        sparsity: fraction to prune, of the layers not excluded; or a fraction for each
            of them by name.
        scope: "global", one threshold for all; "layerwise", the same sparsity in each;
            "unit", the same in each unit, that is in each row of each weight;
            "erdos-renyi", small layers denser (`erdos_renyi`).
        pattern: None, each weight by itself; or `NM(2, 4)`, two of each four.
        exclude: names of layers that keep everything.
        allow_empty: let a layer lose all its weights; otherwise that is an error.
    Raises:
        ValueError: a sparsity outside [0, 1) or not that of the pattern, an unknown
            scope or name, scores that are NaN, complex or without values, scores of
            whole units where the weights of a unit compete, an emptied layer.

    >>> scores = {"a": torch.tensor([[1.0, 6.0, 3.0, 4.0]]), "b": torch.tensor([5.0])}
    >>> masks_from_scores(scores, 0.4)
    {'a': tensor([[False,  True, False,  True]]), 'b': tensor([True])}
    >>> masks_from_scores(scores, 0.5, pattern=NM(1, 2), exclude="b")["a"]
    tensor([[False,  True, False,  True]])
    """
    _check_scores(scores)
    groups = _groups(scores, sparsity, scope, exclude)
    return _masks(scores, groups, pattern, allow_empty, magnitude=False)


def magnitude_masks(  # noqa: PLR0913 - one call, by keywords
    model: nn.Module,
    sparsity: float | Mapping[str, float],
    *,
    scope: str = "global",
    pattern: "Pattern | None" = None,
    exclude: Iterable[str] = (),
    allow_empty: bool = False,
) -> Masks:
    """`masks_from_scores(magnitude(model), ...)` without a copy of the weights.
    Arguments and errors as there. Built in lessons/03_weight_pruning.

    >>> masks = magnitude_masks(nn.Linear(4, 2), 0.75)
    >>> masks["weight"].shape, masks["weight"].sum().item()
    (torch.Size([2, 4]), 2)
    """
    weights = {name: weight.detach() for name, weight in prunable(model).items()}
    groups = _groups(weights, sparsity, scope, exclude)
    return _masks(weights, groups, pattern, allow_empty, magnitude=True)


def nm_masks(
    model: nn.Module, n: int = 2, m: int = 4, *, exclude: Iterable[str] = ()
) -> Masks:
    """Of each `m` neighbouring inputs of a unit the `n` weights of largest magnitude
    stay: `magnitude_masks` with the pattern `NM(n, m)`; errors as there. Built in
    lessons/05_structured_pruning (`nm_mask`).

    >>> nm_masks(nn.Linear(8, 3), 2, 4)["weight"].view(3, 2, 4).sum(2)
    tensor([[2, 2],
            [2, 2],
            [2, 2]])
    """
    pattern = NM(n, m)
    return magnitude_masks(model, pattern.sparsity, pattern=pattern, exclude=exclude)


# ------------------------------------------------------- scope: how much of each layer


class Group(NamedTuple):
    """Layers whose weights compete with each other, and the fraction pruned of them;
    or, with `each_unit`, only the weights of one unit do."""

    names: list[str]
    sparsity: float
    each_unit: bool = False


# from the weights (only their shapes count) and a sparsity to who competes for what
Scope = Callable[[Mapping[str, Tensor], float], list[Group]]


def one_threshold(weights: Mapping[str, Tensor], sparsity: float) -> list[Group]:
    """All layers compete."""
    return [Group(list(weights), sparsity)]


def each_alike(weights: Mapping[str, Tensor], sparsity: float) -> list[Group]:
    """The same sparsity in each layer."""
    return [Group([name], sparsity) for name in weights]


def each_unit_alike(weights: Mapping[str, Tensor], sparsity: float) -> list[Group]:
    """The same sparsity in each unit of each layer: `round(sparsity * n)` of its `n`
    incoming weights go (Sun et al. 2024 compare them so)."""
    return [Group([name], sparsity, each_unit=True) for name in weights]


def small_ones_denser(weights: Mapping[str, Tensor], sparsity: float) -> list[Group]:
    """The sparsities of `erdos_renyi`."""
    shares = erdos_renyi(weights, sparsity)
    return [Group([name], share) for name, share in shares.items()]


SCOPES: dict[str, Scope] = {
    "global": one_threshold,
    "layerwise": each_alike,
    "unit": each_unit_alike,
    "erdos-renyi": small_ones_denser,
}


def erdos_renyi(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, float]:
    """The sparsity of each layer, by parameter name, such that all together have
    `sparsity` exactly (but for the one weight that each layer keeps at least).

    A layer's density is proportional to (sum of its weight's dimensions) / (their
    product), at most 1: small layers stay denser (Evci et al. 2020,
    "Erdos-Renyi-Kernel"; Mocanu et al. 2018).

    >>> shapes = {"large": torch.empty(100, 100), "small": torch.empty(10, 10)}
    >>> {name: round(share, 2) for name, share in erdos_renyi(shapes, 0.9).items()}
    {'large': 0.91, 'small': 0.09}
    """
    size = {name: weight.numel() for name, weight in weights.items() if weight.numel()}
    total = sum(size.values())
    budget = total - round(check_sparsity(sparsity) * total)
    kept: dict[str, int] = {}
    # layers that would be more than dense become dense, and the others share the rest
    while len(kept) < len(size):
        # density * size: the product of the dimensions falls out
        free = {n: sum(weights[n].shape) or 1 for n in size if n not in kept}
        scale = (budget - sum(kept.values())) / sum(free.values())
        full = {n: size[n] for n, share in free.items() if scale * share >= size[n]}
        kept |= full or {n: max(1, int(scale * share)) for n, share in free.items()}
    # what rounding left over goes to the largest layers, or is taken from them
    for name in sorted(size, key=lambda name: -size[name]):
        room = budget - sum(kept.values())
        kept[name] += min(max(room, 1 - kept[name]), size[name] - kept[name])
    return {
        name: 1 - kept[name] / size[name] if name in size else 0.0 for name in weights
    }


# --------------------------------------------------- pattern: which shapes of zeros


class Pattern(Protocol):
    """From the scores of layers that compete to their masks. With `magnitude` it is the
    scores' magnitude that counts."""

    def __call__(
        self, scores: Mapping[str, Tensor], sparsity: float, *, magnitude: bool
    ) -> Masks:
        """Masks of the scores' shapes that prune exactly `sparsity` of them."""
        ...


def single(
    scores: Mapping[str, Tensor], sparsity: float, *, magnitude: bool = False
) -> Masks:
    """Each weight by itself: the largest of all these layers stay."""
    arrays = {
        name: _array(score.abs() if magnitude and score.is_complex() else score)
        for name, score in scores.items()
    }
    count = sum(len(array) for array in arrays.values())
    kept = count - round(sparsity * count)
    marks = mark_largest(arrays, kept, magnitude=magnitude)
    return {
        name: torch.from_numpy(marks[name]).view(score.shape).to(score.device)
        for name, score in scores.items()
    }


def in_each_unit(
    scores: Mapping[str, Tensor], sparsity: float, *, magnitude: bool = False
) -> Masks:
    """Each weight by itself: the largest of each unit stay, as many in each."""
    result = Masks()
    for name, score in scores.items():
        if score.dim() < 2:
            raise ValueError(
                f"the scores of {name} have shape {list(score.shape)}; where the"
                " weights of a unit compete (scope='unit') there must be one for each"
                " weight, [units, inputs, ...]."
            )
        score = score.abs() if magnitude and score.is_complex() else score
        inputs = math.prod(score.shape[1:])
        rows = _array(score).reshape(len(score), inputs)
        kept = inputs - round(sparsity * inputs)
        marks = mark_largest_in_rows(name, rows, kept, magnitude=magnitude)
        result[name] = torch.from_numpy(marks).view(score.shape).to(score.device)
    return result


@dataclass(frozen=True)
class NM:
    """Of each `m` neighbouring inputs of a unit, `n` stay (Mishra et al. 2021, 2:4).
    Built in lessons/05_structured_pruning (`nm_mask`).

    Neighbours are inputs; in a convolution, input channels at one place of the kernel,
    as graphics processors want it.

    Raises:
        ValueError: not 1 <= n < m; and when it is used: another sparsity than 1 - n/m,
            scores of units, NaN, or a number of inputs that `m` does not divide.

    >>> NM(2, 4).sparsity
    0.5
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        whole = all(type(value) is int for value in (self.n, self.m))
        if not whole or not 1 <= self.n < self.m:
            raise ValueError(
                f"n={self.n!r}, m={self.m!r}: of each m weights n stay; give whole"
                " numbers, 1 <= n < m."
            )

    @property
    def sparsity(self) -> float:
        """The fraction it prunes, of every layer."""
        return 1 - self.n / self.m

    def __call__(
        self, scores: Mapping[str, Tensor], sparsity: float, *, magnitude: bool = False
    ) -> Masks:
        if not math.isclose(sparsity, self.sparsity):
            raise ValueError(
                f"sparsity={sparsity!r} of {', '.join(scores)} does not go with {self},"
                f" which prunes {self.sparsity:.4g} of every layer."
            )
        return {
            name: self._mask(name, _magnitude(score) if magnitude else score)
            for name, score in scores.items()
        }

    def _mask(self, name: str, score: Tensor) -> Tensor:
        if score.dim() < 2:
            raise ValueError(
                f"the scores of {name} have shape {list(score.shape)}; {self} needs one"
                " for each weight, [units, inputs, ...]."
            )
        last = score.detach().movedim(1, -1)  # [units, ..., inputs]
        if last.is_floating_point() and last.itemsize < 4:
            last = last.float()  # holds every number of the smaller types
        if last.shape[-1] % self.m:
            raise ValueError(
                f"a unit of {name} has {last.shape[-1]} inputs, which m={self.m} does"
                " not divide; exclude it."
            )
        if last.isnan().any():
            raise ValueError(f"the scores of {name} contain NaN; they must be numbers.")
        rows = last.reshape(-1, self.m)  # each row: m neighbours, which compete
        mask = (_beaten_by(rows) < self.n).contiguous()
        # back to [units, inputs, ...]
        return mask.view(last.shape).movedim(-1, 1).contiguous()


# ---------------------------------------------------------------------- masks in use


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set pruned weights to zero, in place. The tensors keep their shape: pruned, not
    removed.

    Raises:
        ValueError: a name or a shape that does not fit the model, or a weight that is
            computed from others; nothing is changed then.

    >>> layer = nn.Linear(4, 2)
    >>> apply_masks(layer, magnitude_masks(layer, 0.75))
    >>> layer.weight.shape, layer.weight.count_nonzero().item()
    (torch.Size([2, 4]), 2)
    """
    for weight, mask in _paired(model, masks):
        _zero_pruned(weight, mask)


def masked(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the network with the pruned weights at zero; the network stays.

    Raises:
        ValueError: as `apply_masks`, or a network that cannot be copied.

    >>> dense = nn.Linear(4, 2)
    >>> masked(dense, magnitude_masks(dense, 0.75)).weight.count_nonzero().item()
    2
    """
    _paired(model, masks)
    result = copied(model)
    apply_masks(result, masks)
    return result


class Held:
    """A call sets the pruned weights of a network to zero again; made by `hold`.

    Each call looks the weights up by name, so that it acts on those that the network
    has now: after `load_state_dict(assign=True)`, `model.to(...)`, or with a layer
    replaced by one of the same shape. Weights that were tied when it was made are each
    held, also where they are tied no more.

    Its `repr` tells these masks from others: a checkpoint of `fit` is recognised by it.
    """

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        _paired(model, masks)
        self.model, self.masks = model, dict(masks)
        self.tied = {
            other: name
            for names in shared(model)
            for name in names
            if name in self.masks
            for other in names
        }

    def __call__(self) -> None:
        tied = {other: self.masks[name] for other, name in self.tied.items()}
        apply_masks(self.model, self.masks | tied)

    def __repr__(self) -> str:
        digest = sha256()
        for name, mask in sorted(self.masks.items()):
            digest.update(f"{name} {list(mask.shape)} ".encode())
            digest.update(np.packbits(mask.cpu().numpy()).tobytes())
        total = report(self.masks)[-1]
        return (
            f"Held({total.kept:,} of {total.weights:,} weights stay,"
            f" sha256={digest.hexdigest()[:16]!r})"
        )


def hold(model: nn.Module, masks: Mapping[str, Tensor]) -> Held:
    """A function that zeroes the pruned weights again: `fit(..., after_step=hold(model,
    masks))`. Built in lessons/03_weight_pruning (`held_step`).

    Masking the gradients is not enough: momentum and weight decay move a weight whose
    gradient is zero.

    Raises:
        ValueError: as `apply_masks`; so does each call, where the network has changed
            so that the masks no longer fit.

    >>> layer = nn.Linear(4, 2)
    >>> zero_again = hold(layer, magnitude_masks(layer, 0.75))
    >>> _ = nn.init.ones_(layer.weight)  # as an optimizer would move them
    >>> zero_again()
    >>> layer.weight.sum().item()
    2.0
    """
    zero_again = Held(model, masks)
    zero_again()
    return zero_again


@dataclass(frozen=True)
class LayerSparsity:
    """How much of one layer a mask keeps."""

    name: str
    weights: int
    kept: int

    @property
    def sparsity(self) -> float:
        """Fraction pruned, 0..1; of no weights 0."""
        return 1 - self.kept / self.weights if self.weights else 0.0


def report(masks: Mapping[str, Tensor]) -> list[LayerSparsity]:
    """One row a layer and, last, one named "all".

    Raises:
        ValueError: something that is no mask.

    >>> report(magnitude_masks(nn.Linear(4, 2), 0.75))[-1]
    LayerSparsity(name='all', weights=8, kept=2)
    """
    _check_mapping("masks", masks)
    for name, mask in masks.items():
        _check_mask(name, mask)
    rows = [
        LayerSparsity(name, mask.numel(), int(mask.count_nonzero()))
        for name, mask in masks.items()
    ]
    return [
        *rows,
        LayerSparsity("all", sum(r.weights for r in rows), sum(r.kept for r in rows)),
    ]


def check_sparsity(sparsity: float, name: str = "sparsity") -> float:
    """Return `sparsity` if it is a fraction in [0, 1).

    Raises:
        ValueError: names the argument, the value and what would be right.
    """
    return fraction(name, sparsity, end=False, example="0.9 = nine of ten pruned")


# ----------------------------------------------------------------------- how it is done


def _groups(
    scores: Mapping[str, Tensor],
    sparsity: float | Mapping[str, float],
    scope: str,
    exclude: Iterable[str],
) -> list[Group]:
    names = _included(scores, exclude)
    share_out = SCOPES[one_of("scope", scope, SCOPES)]
    if not isinstance(sparsity, Mapping):
        groups = share_out({n: scores[n] for n in names}, check_sparsity(sparsity))
        grouped = [name for group in groups for name in group.names]
        if len(set(grouped)) < len(grouped) or not set(grouped) <= set(names):
            raise ValueError(
                f"scope={scope!r} gives groups of {', '.join(map(str, grouped))}; each"
                f" of {', '.join(names)} can be in one."
            )
        return groups
    if set(names) != set(sparsity):
        raise ValueError(
            f"sparsity by layer must name exactly {', '.join(names)}; it names"
            f" {', '.join(sparsity)}."
        )
    shares = {n: check_sparsity(sparsity[n], f"sparsity[{n!r}]") for n in names}
    each_unit = share_out is each_unit_alike
    return [Group([name], share, each_unit) for name, share in shares.items()]


def as_names(argument: str, names: Iterable[str]) -> list[str]:
    """One name, or several, as a list.

    Raises:
        ValueError: something else.

    >>> as_names("exclude", "fc1.weight")
    ['fc1.weight']
    """
    if isinstance(names, str):
        return [names]
    listed = list(names) if isinstance(names, Iterable) else None
    if listed is None or not all(isinstance(name, str) for name in listed):
        raise ValueError(f"{argument}={names!r} must be names of layers.")
    return listed


def _check_mapping(what: str, tensors: object) -> None:
    if not isinstance(tensors, Mapping):
        raise ValueError(
            f"{what} is a {type(tensors).__name__}; it must hold tensors by parameter"
            " name."
        )


def _check_scores(scores: Mapping[str, Tensor]) -> None:
    _check_mapping("scores", scores)
    for name, score in scores.items():
        if not isinstance(score, Tensor):
            raise ValueError(
                f"the scores of {name} are a {type(score).__name__}, not a tensor."
            )
        if score.is_complex():
            raise ValueError(
                f"the scores of {name} are complex, which have no order; give their"
                " magnitudes, scores.abs()."
            )
        _check_values(f"the scores of {name}", score)


def _check_values(what: str, tensor: Tensor) -> None:
    """Refuse a tensor of which there is no number at each place."""
    if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError(
            f"{what} are {tensor.layout} on {tensor.device}; they must be a plain"
            " tensor with its values in memory."
        )


def _included(scores: Mapping[str, Tensor], exclude: Iterable[str]) -> list[str]:
    exclude = as_names("exclude", exclude)
    for name in exclude:
        if name not in scores:
            raise ValueError(
                f"exclude names {name!r}, which is no layer here. Layers:"
                f" {', '.join(scores)}."
            )
    names = [name for name in scores if name not in exclude and scores[name].numel()]
    if not names:
        raise ValueError(
            "there is nothing to prune: no layer, or every layer is excluded."
        )
    return names


def _masks(
    scores: Mapping[str, Tensor],
    groups: list[Group],
    pattern: Pattern | None,
    allow_empty: bool,
    *,
    magnitude: bool,
) -> Masks:
    if pattern is not None and not callable(pattern):
        raise ValueError(f"pattern={pattern!r} is none; give NM(2, 4), or None.")
    chosen = Masks()
    for names, sparsity, each_unit in groups:
        competing = {name: scores[name] for name in names}
        choose = pattern or (in_each_unit if each_unit else single)
        found = choose(competing, sparsity, magnitude=magnitude)
        _check_mapping("what the pattern gives", found)
        for name in names:
            _check_mask(name, found.get(name), scores[name].shape)
        chosen |= found
    masks = {
        # what is in no group is excluded, and keeps everything
        name: chosen[name]
        if name in chosen
        else torch.ones(score.shape, dtype=torch.bool, device=score.device)
        for name, score in scores.items()
    }
    if not allow_empty:
        _refuse_empty(masks)
    return masks


def _beaten_by(rows: Tensor) -> Tensor:
    """How many of its row beat a number: larger ones, and equal ones before it.

    A few columns are compared pair by pair, in half the time of sorting them.
    """
    if rows.shape[1] > 16:
        order = rows.argsort(dim=1, descending=True, stable=True)
        return order.argsort(dim=1)
    columns = rows.T.contiguous()
    beaten = torch.zeros(columns.shape, dtype=torch.uint8, device=rows.device)
    for first, later in itertools.combinations(range(len(columns)), 2):
        wins = columns[first] >= columns[later]
        beaten[later] += wins
        beaten[first] += ~wins
    return beaten.T


def _array(score: Tensor) -> np.ndarray:
    """`[n]`, a view of the score where NumPy can have one."""
    score = score.detach().cpu()
    if score.is_floating_point() and score.dtype != torch.float64:
        score = score.float()  # holds every number of the smaller types
    return score.reshape(-1).numpy()


def _magnitude(score: Tensor) -> Tensor:
    """`|x|`; the smallest whole number has one too."""
    whole = not score.is_floating_point() and not score.is_complex()
    return (score.double() if whole else score).abs()


def _refuse_empty(masks: Masks) -> None:
    empty = [  # NumPy stops at the first kept weight, torch looks at all
        name
        for name, mask in masks.items()
        if mask.numel() and not mask.cpu().numpy().any()
    ]
    if empty:
        raise ValueError(
            f"the masks would empty {', '.join(empty)}: no signal could pass. Lower the"
            " sparsity, use another scope or exclude the layer (allow_empty=True lets"
            " it happen)."
        )


def _zero_pruned(weight: nn.Parameter, mask: Tensor) -> None:
    """Zero, in place, where `mask` is False, whatever was there (NaN and infinity too).

    The *bits* are multiplied by 0 or 1: a fifth of the time of `masked_fill_`, no
    inverted mask in memory, no -0.0.
    """
    # anew each time: `model.to(memory_format=...)`, as in `fit`, replaces what a weight
    # holds
    values = weight.detach()
    kind = INTEGERS.get(values.element_size())
    mask = mask.to(values.device)
    lazy = values.is_conj() or values.is_neg()  # not the bits that they seem
    if values.is_cpu and kind is not None and not lazy:
        bits = values.view(kind).numpy()
        np.multiply(bits, mask.numpy(), out=bits)
        # torch has not seen it: a gradient that needs the old values must be refused,
        # and a sparse layer asks
        torch.autograd.graph.increment_version(weight)
    else:
        values.masked_fill_(~mask, 0.0)


def _paired(
    model: nn.Module, masks: Mapping[str, Tensor]
) -> list[tuple[nn.Parameter, Tensor]]:
    """Each mask with the weight that has its name now, all checked."""
    _check_mapping("masks", masks)
    pairs = [(parameter(model, name), mask) for name, mask in masks.items()]
    first: dict[tuple[int, torch.Size], str] = {}
    for name, (weight, mask) in zip(masks, pairs, strict=True):
        _check_values(f"the weights {name}", weight)
        _check_mask(name, mask, weight.shape)
        other = first.setdefault((weight.data_ptr(), weight.shape), name)
        if weight.numel() and not (mask is masks[other] or mask.equal(masks[other])):
            raise ValueError(
                f"{other} and {name} are one tensor (tied weights) and have two masks;"
                " give one."
            )
        if any(step == 0 for step, size in _steps(weight) if size > 1):
            raise ValueError(
                f"{name} has one number in memory for several weights (expand); give"
                " each its own, with clone()."
            )
    return pairs


def _steps(weight: Tensor) -> Iterator[tuple[int, int]]:
    return zip(weight.stride(), weight.shape, strict=True)


def _check_mask(name: str, mask: object, shape: torch.Size | None = None) -> None:
    """Refuse what is no mask, or none of this shape."""
    if not isinstance(mask, Tensor):
        raise ValueError(f"the mask of {name} is {mask!r}; it must be a tensor.")
    shape = mask.shape if shape is None else shape
    if mask.dtype != torch.bool or mask.shape != shape:
        raise ValueError(
            f"the mask of {name} is {mask.dtype} {list(mask.shape)}; it must be"
            f" torch.bool {list(shape)}."
        )
    _check_values(f"the masks of {name}", mask)
