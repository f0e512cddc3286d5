"""From scores to masks, and masks held during training. Built in
lessons/03_weight_pruning.

A mask is a boolean tensor of the weight's shape, True = kept. Sparsity is the fraction
pruned, 0 <= sparsity < 1.
Counts are exact: `round(sparsity * n)` of n weights are pruned, also where scores are
equal (of equal scores the ones that come first, by parameter and position, are kept).

Finding the threshold by sorting 25 million weights takes seconds. Here a sample tells
the threshold to within a narrow bracket; one pass over the weights settles all but the
few inside it (after Floyd & Rivest 1975), and those are sorted.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn

from utils.layers import prunable

# scores looked at to bracket the threshold; with fewer scores than that, all are
# candidates
SAMPLE = 1 << 17
# scores handled at once: 256 kB, so that a chunk stays in the processor's cache
CHUNK = 1 << 16
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of one weight

Masks = dict[str, Tensor]  # BoolTensors by parameter name


def masks_from_scores(
    scores: Mapping[str, Tensor],
    sparsity: float | Mapping[str, float],
    *,
    scope: str = "global",
    exclude: Iterable[str] = (),
    allow_empty: bool = False,
) -> Masks:
    """Keep the highest scores.

    Args:
        scores: by parameter name; of the weight's shape, or `[units]`.
        sparsity: fraction to prune, of the layers not excluded; or a fraction for each
            of them by name.
        scope: "global", one threshold for all; or "layerwise", the same sparsity in
            each.
        exclude: names of layers that keep everything.
        allow_empty: let a layer lose all its weights; otherwise that is an error.
    Raises:
        ValueError: a sparsity outside [0, 1), an unknown scope or name, NaN among the
            scores, an emptied layer.
    """
    return _masks(scores, sparsity, scope, exclude, allow_empty, magnitude=False)


def magnitude_masks(
    model: nn.Module,
    sparsity: float | Mapping[str, float],
    *,
    scope: str = "global",
    exclude: Iterable[str] = (),
    allow_empty: bool = False,
) -> Masks:
    """`masks_from_scores(magnitude(model), ...)` without a copy of the weights.
    Arguments and errors as there."""
    weights = {name: weight.detach() for name, weight in prunable(model).items()}
    return _masks(weights, sparsity, scope, exclude, allow_empty, magnitude=True)


def nm_masks(
    model: nn.Module, n: int = 2, m: int = 4, *, exclude: Iterable[str] = ()
) -> Masks:
    """Of each `m` neighbouring inputs of a unit the `n` weights of largest magnitude
    stay (Mishra et al. 2021, 2:4).

    Neighbours are inputs; in a convolution, input channels at one place of the kernel,
    as graphics processors want it.

    Raises:
        ValueError: not 1 <= n < m, an unknown layer in `exclude`, NaN, or a number of
            inputs that `m` does not divide.
    """
    if (
        not all(
            isinstance(value, int) and not isinstance(value, bool) for value in (n, m)
        )
        or not 1 <= n < m
    ):
        raise ValueError(
            f"n={n!r}, m={m!r}: of each m weights n stay; give whole numbers, 1 <= n"
            " < m."
        )
    weights = prunable(model)
    masks = {
        name: torch.ones_like(weight, dtype=torch.bool)
        for name, weight in weights.items()
    }
    for name in _included(weights, exclude):
        last = weights[name].detach().movedim(1, -1)  # [units, ..., inputs]
        if last.shape[-1] % m:
            raise ValueError(
                f"a unit of {name} has {last.shape[-1]} inputs, which m={m} does not"
                " divide; exclude it."
            )
        if last.isnan().any():
            raise ValueError(
                f"the weights of {name} contain NaN; they must be numbers."
            )
        largest = (
            last.reshape(-1, m)
            .abs()
            .argsort(dim=1, descending=True, stable=True)[:, :n]
        )
        mask = torch.zeros(
            len(largest), m, dtype=torch.bool, device=last.device
        ).scatter_(1, largest, True)
        masks[name] = mask.view(last.shape).movedim(-1, 1).contiguous()
    return masks


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set pruned weights to zero, in place. The tensors keep their shape: pruned, not
    removed.

    Raises:
        ValueError: a name or a shape that does not fit the model; nothing is changed
            then.
    """
    for weight, mask in _paired(model, masks):
        _zero_pruned(weight, mask)


def hold(model: nn.Module, masks: Mapping[str, Tensor]) -> Callable[[], None]:
    """A function that zeroes the pruned weights again: `fit(..., after_step=hold(model,
    masks))`.

    Masking the gradients is not enough: momentum and weight decay move a weight whose
        gradient is zero.

    Raises:
        ValueError: a name or a shape that does not fit the model.
    """
    pairs = _paired(model, masks)

    def zero_again() -> None:
        for weight, mask in pairs:
            _zero_pruned(weight, mask)

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
        """Fraction pruned, 0..1."""
        return 1 - self.kept / self.weights


def report(masks: Mapping[str, Tensor]) -> list[LayerSparsity]:
    """One row a layer and, last, one named "all"."""
    rows = [
        LayerSparsity(name, mask.numel(), int(mask.count_nonzero()))
        for name, mask in masks.items()
    ]
    return [
        *rows,
        LayerSparsity("all", sum(r.weights for r in rows), sum(r.kept for r in rows)),
    ]


def erdos_renyi(model: nn.Module, sparsity: float) -> dict[str, float]:
    """The sparsity of each layer, by parameter name, such that all together have
    `sparsity` exactly.

    A layer's density is proportional to (sum of its weight's dimensions) / (their
    product), at most 1: small layers stay denser (Evci et al. 2020,
    "Erdos-Renyi-Kernel"; Mocanu et al. 2018).
    """
    weights = prunable(model)
    total = sum(weight.numel() for weight in weights.values())
    budget = total - round(check_sparsity(sparsity) * total)
    raw = {name: sum(weight.shape) / weight.numel() for name, weight in weights.items()}
    kept: dict[str, int] = {}
    # layers that would be more than dense become dense, and the others share the rest
    while len(kept) < len(weights):
        free = {
            name: raw[name] * weights[name].numel()
            for name in weights
            if name not in kept
        }
        scale = (budget - sum(kept.values())) / sum(free.values())
        full = {name: weights[name].numel() for name in free if scale * raw[name] >= 1}
        kept |= full or {
            name: max(1, int(scale * share)) for name, share in free.items()
        }
    # what rounding left over
    for name in sorted(weights, key=lambda name: -weights[name].numel()):
        room = min(
            max(budget - sum(kept.values()), 1 - kept[name]),
            weights[name].numel() - kept[name],
        )
        kept[name] += room
    return {name: 1 - kept[name] / weights[name].numel() for name in weights}


def check_sparsity(sparsity: float, name: str = "sparsity") -> float:
    """Return `sparsity` if it is a fraction in [0, 1).

    Raises:
        ValueError: names the argument, the value and what would be right.
    """
    if (
        isinstance(sparsity, bool)
        or not isinstance(sparsity, Real)
        or not 0 <= sparsity < 1
    ):
        raise ValueError(
            f"{name}={sparsity!r} must be a fraction, 0 <= sparsity < 1 (0.9 = nine of"
            " ten pruned)."
        )
    return float(sparsity)


# ----------------------------------------------------------------------- how it is done


def _masks(scores, sparsity, scope, exclude, allow_empty, *, magnitude: bool) -> Masks:
    names = _included(scores, exclude)
    if scope not in ("global", "layerwise"):
        raise ValueError(f"scope={scope!r} is not known. Known: global, layerwise.")
    if isinstance(sparsity, Mapping):
        groups = [
            ([name], check_sparsity(sparsity[name], f"sparsity[{name!r}]"))
            for name in _same(names, sparsity)
        ]
    elif scope == "global":
        groups = [(names, check_sparsity(sparsity))]
    else:
        groups = [([name], check_sparsity(sparsity)) for name in names]
    masks = {
        name: torch.from_numpy(np.ones(tuple(score.shape), dtype=bool))
        for name, score in scores.items()
    }
    for members, fraction in groups:
        arrays = [_array(scores[name]) for name in members]
        count = sum(array.size for array in arrays)
        outputs = [masks[name].view(-1).numpy() for name in members]
        _keep_largest(
            arrays, outputs, count - round(fraction * count), magnitude, members
        )
    if not allow_empty:
        _refuse_empty(masks)
    return {name: mask.to(scores[name].device) for name, mask in masks.items()}


def _included(scores: Mapping[str, Tensor], exclude: Iterable[str]) -> list[str]:
    exclude = [exclude] if isinstance(exclude, str) else list(exclude)
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


def _same(names: list[str], sparsity: Mapping[str, float]) -> list[str]:
    if set(names) != set(sparsity):
        raise ValueError(
            f"sparsity by layer must name exactly {', '.join(names)}; it names"
            f" {', '.join(sparsity)}."
        )
    return names


def _array(score: Tensor) -> np.ndarray:
    score = score.detach().cpu()
    if score.dtype not in (torch.float32, torch.float64):
        score = score.float()
    return score.reshape(-1).numpy()


def _refuse_empty(masks: Masks) -> None:
    empty = [
        name for name, mask in masks.items() if mask.numel() and not mask.numpy().any()
    ]
    if empty:
        raise ValueError(
            f"the masks would empty {', '.join(empty)}: no signal could pass. Lower the"
            " sparsity, use another scope or exclude the layer (allow_empty=True lets"
            " it happen)."
        )


def _keep_largest(
    arrays: list[np.ndarray],
    outputs: list[np.ndarray],
    kept: int,
    magnitude: bool,
    names: list[str],
) -> None:
    """Write into the boolean `outputs` which `kept` elements of all `arrays` together
    are the largest."""
    for low, high in (_bracket(arrays, kept, magnitude), (-np.inf, np.inf)):
        certain, values, places = _compare(arrays, outputs, low, high, magnitude, names)
        needed = kept - certain
        if 0 <= needed <= sum(map(len, values)):
            # the threshold lies inside the bracket; if not, the sample misled us and
            # everything is a candidate
            break
    chosen = _largest(np.concatenate(values), needed)
    start = 0
    for output, place in places:
        output[place] = chosen[start : start + len(place)]
        start += len(place)


def _bracket(
    arrays: list[np.ndarray], kept: int, magnitude: bool
) -> tuple[float, float]:
    """Two values between which the smallest kept element almost surely lies."""
    count = sum(array.size for array in arrays)
    if count <= SAMPLE:
        return -np.inf, np.inf
    sample = np.concatenate([array[:: count // SAMPLE] for array in arrays])
    sample = np.sort(np.abs(sample) if magnitude else sample)
    middle = (1 - kept / count) * len(sample)
    # five standard deviations of a sampled rank
    margin = 5 * np.sqrt(len(sample)) / 2 + 2
    low, high = int(middle - margin), int(middle + margin)
    return (sample[low] if low >= 0 else -np.inf), (
        sample[high] if high < len(sample) else np.inf
    )


def _compare(arrays, outputs, low, high, magnitude, names):
    """Mark what is above `high`; return how many those are, and values and places of
    what lies inside the bracket."""
    pieces = [
        (array[start : start + CHUNK], output[start : start + CHUNK], name)
        for array, output, name in zip(arrays, outputs, names, strict=True)
        for start in range(0, array.size, CHUNK)
    ]

    def work(share):
        # one a thread: allocating one a chunk costs more
        buffer = np.empty(CHUNK, dtype=np.result_type(*arrays))
        return [one(*piece, buffer) for piece in share]

    def one(chunk, above, name, buffer):
        chunk = np.abs(chunk, out=buffer[: len(chunk)]) if magnitude else chunk
        if np.isnan(chunk.min()):
            raise ValueError(f"the scores of {name} contain NaN; they must be numbers.")
        np.greater(chunk, high, out=above)
        place = np.flatnonzero(np.greater_equal(chunk, low) ^ above).astype(np.uint16)
        return int(np.count_nonzero(above)), chunk[place], (above, place)

    threads = min(torch.get_num_threads(), len(pieces))
    if threads == 1:
        results = work(pieces)
    else:
        size = -(-len(pieces) // threads)
        shares = [pieces[start : start + size] for start in range(0, len(pieces), size)]
        # NumPy leaves the interpreter's lock meanwhile
        with ThreadPoolExecutor(threads) as pool:
            results = [result for share in pool.map(work, shares) for result in share]
    certain, values, places = zip(*results, strict=True)
    return sum(certain), values, places


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Boolean array: the `count` largest of `values`; of equal ones the first."""
    if count == 0:
        return np.zeros(len(values), dtype=bool)
    threshold = np.partition(values, len(values) - count)[len(values) - count]
    chosen = values > threshold
    equal = np.flatnonzero(values == threshold)
    chosen[equal[: count - np.count_nonzero(chosen)]] = True
    return chosen


def _zero_pruned(weight: nn.Parameter, mask: Tensor) -> None:
    """Zero, in place, where `mask` is False, whatever was there (NaN and infinity too).

    The *bits* are multiplied by 0 or 1: a fifth of the time of `masked_fill_`, no
    inverted mask in memory, no -0.0.
    """
    # anew each time: `model.to(memory_format=...)`, as in `fit`, replaces what a weight
    # holds
    values = weight.detach()
    if values.is_cpu:
        bits = values.view(INTEGERS[values.element_size()]).numpy()
        np.multiply(bits, mask.numpy(), out=bits)
    else:
        values.masked_fill_(~mask, 0.0)


def _paired(
    model: nn.Module, masks: Mapping[str, Tensor]
) -> list[tuple[nn.Parameter, Tensor]]:
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in parameters:
            raise ValueError(
                f"masks name {name!r}, which the model does not have. It has:"
                f" {', '.join(parameters)}."
            )
        if mask.dtype != torch.bool or mask.shape != parameters[name].shape:
            raise ValueError(
                f"the mask of {name} is {mask.dtype} {list(mask.shape)}; "
                f"it must be torch.bool {list(parameters[name].shape)}."
            )
    return [(parameters[name], mask) for name, mask in masks.items()]
