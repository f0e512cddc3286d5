"""Take units out for real: the result is a plain, smaller network. Built in
lessons/04_neurons_and_filters.

Every function takes a model and an example of its input and leaves the model as it is.
`utils.channels` says what is tied to what.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from utils.channels import FIXED, Channels, follow, is_grouped
from utils.layers import eval_mode, prunable_layers, watching
from utils.masks import Masks, check_sparsity


def unit_masks(
    model: nn.Module,
    example: Tensor,
    scores: Mapping[str, Tensor],
    ratio: float | Mapping[str, float],
    *,
    scope: str = "layerwise",
    exclude: Iterable[str] = (),
    multiple: int = 1,
    least: int = 0,
) -> Masks:
    """Unit masks `[units]` by parameter name, True = kept, which agree wherever
    channels are tied.

    Tied units are judged together, by the mean of their scores.

    Args:
        example: one input of the shape the network takes, `[1, ...]`.
        scores: `[units]` by parameter name, as from `scores.score(..., units=True)`.
        ratio: fraction of the units to remove, or one by parameter name (layers not
            named keep all).
        scope: "layerwise", the same fraction of each set of tied layers; or "global",
            one ranking of all units, each score divided by its set's mean (sums over
            more weights would otherwise always win).
        exclude: layers (parameter names) that keep all their units.
        multiple: round the number of units kept in each set up to a multiple of this.
        least: units that each set keeps at least, however low they score.
    Raises:
        ValueError: a ratio outside [0, 1), an unknown scope or name, NaN among the
            scores, an emptied layer, or a network that cannot be followed.
    """
    return _choose(
        follow(model, example), scores, ratio, scope, exclude, multiple, least
    )


def remove_units(
    model: nn.Module, example: Tensor, masks: Mapping[str, Tensor]
) -> nn.Module:
    """A smaller copy of the network without the units whose mask is False, nor anything
    tied to them.

    Layers that eval mode does not reach (the auxiliary heads of GoogLeNet) stay as they
    are, and no longer fit.

    Args:
        example: one input of the shape the network takes, `[1, ...]`.
        masks: `[units]` by parameter name, True = kept; layers not named follow those
            that are.
    Raises:
        ValueError: an unknown name, a wrong shape, masks that disagree about tied
            units, a request that would touch the network's outputs or empty a layer, or
            a network that cannot be followed. Nothing is built then.
    """
    return _remove(follow(model, example), masks)


def shrink(
    model: nn.Module,
    example: Tensor,
    scores: Mapping[str, Tensor],
    ratio: float | Mapping[str, float],
    *,
    scope: str = "layerwise",
    exclude: Iterable[str] = (),
    multiple: int = 1,
    least: int = 0,
) -> nn.Module:
    """`remove_units` with the `unit_masks` of these arguments: a smaller copy without
    the units of lowest score."""
    channels = follow(model, example)
    return _remove(
        channels, _choose(channels, scores, ratio, scope, exclude, multiple, least)
    )


def zero_units(
    model: nn.Module, example: Tensor, masks: Mapping[str, Tensor]
) -> nn.Module:
    """A copy of the old size in which those units put out zero: weights, biases and
    BatchNorm's terms are zero.

    It answers as `remove_units` does where zero stays zero on its way to the next
    layer: through ReLU, SiLU and pooling, but not through a sigmoid, and not where a
        number is added.

    Raises:
        ValueError: as `remove_units`; or a BatchNorm without weight and bias, which
            turns zero into something else.
    """
    channels = follow(model, example)
    keep = _decide(channels, masks)
    for name, layer in channels.layers.items():
        if layer.inputs is None and layer.module.weight is None:
            raise ValueError(
                f"{name} has no weight and bias (affine=False), so its channels cannot"
                " be set to zero."
            )
    result = copy.deepcopy(model)
    with torch.no_grad():
        for name, layer in channels.layers.items():
            gone = torch.from_numpy(~keep[channels.root(layer.outputs)])
            for parameter in result.get_submodule(name).parameters(recurse=False):
                parameter[gone.to(parameter.device)] = 0.0
    return result


def remove_blocks(model: nn.Module, example: Tensor, names: Sequence[str]) -> nn.Module:
    """A copy in which the named modules do nothing (`nn.Identity`): a layer or a
    residual block leaves whole.

    Raises:
        ValueError: no such module, or one whose output has another shape than its
            input.
    """
    names = [names] if isinstance(names, str) else list(names)
    known = {name: module for name, module in model.named_modules() if name}
    for name in names:
        if name not in known:
            raise ValueError(
                f"names has {name!r}, which is no module of the network. It has:"
                f" {', '.join(known)}."
            )
    shapes: dict[str, tuple] = {}

    def note(name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        shapes[name] = (_shape(inputs), _shape(output))

    with (
        eval_mode(model),
        torch.no_grad(),
        watching({name: known[name] for name in names}, note),
    ):
        model(example)
    for name in names:
        if name not in shapes:
            raise ValueError(
                f"{name} takes no part in what the network does in eval mode, so it"
                " cannot leave."
            )
        before, after = shapes[name]
        if before != after or before is None:
            raise ValueError(
                f"{name} cannot leave: it turns {before} into {after}, and what follows"
                " needs that."
            )
    return copy.deepcopy(model, {id(known[name]): nn.Identity() for name in names})


def removable_blocks(model: nn.Module, example: Tensor) -> list[str]:
    """Names of the modules that `remove_blocks` can take out one by one: blocks of
    several layers (no `Sequential`); in a network without such blocks, single layers.
    All have weights and put out the shape that they get.
    """
    shapes: dict[str, tuple] = {}
    parts = {
        name: module
        for name, module in model.named_modules()
        if name and _has_layers(module)
    }

    def note(name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        shapes[name] = (_shape(inputs), _shape(output))

    with eval_mode(model), torch.no_grad(), watching(parts, note):
        model(example)
    fitting = [
        name
        for name, (before, after) in shapes.items()
        if before == after and before is not None
    ]
    blocks = [
        n
        for n in fitting
        if len(prunable_layers(parts[n])) > 1
        and not isinstance(parts[n], nn.Sequential)
    ]
    chosen = blocks or [name for name in fitting if not list(parts[name].children())]
    inside = {
        name for name in chosen for outer in chosen if name.startswith(f"{outer}.")
    }
    return [name for name in parts if name in chosen and name not in inside]


def block_losses(
    model: nn.Module, names: Sequence[str], batches: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """How much the mean loss on these batches rises when each of the modules leaves
    alone: the truth, one by one."""

    def loss(network: nn.Module) -> float:
        with eval_mode(network), torch.no_grad():
            return sum(
                F.cross_entropy(network(images), labels).item()
                for images, labels in batches
            ) / len(batches)

    dense = loss(model)
    return {
        name: loss(remove_blocks(model, batches[0][0][:1], [name])) - dense
        for name in names
    }


def _has_layers(module: nn.Module) -> bool:
    return bool(prunable_layers(module))


def _shape(values: Tensor | tuple) -> list[int] | None:
    """The shape of one tensor, without the batch; None where there is not exactly
    one."""
    values = values[0] if isinstance(values, tuple) and len(values) == 1 else values
    return list(values.shape[1:]) if isinstance(values, Tensor) else None


# ----------------------------------------------------------------------- choosing units


def _choose(
    channels: Channels,
    scores,
    ratio,
    scope: str,
    exclude: Iterable[str],
    multiple: int,
    least: int,
) -> Masks:
    everything = channels.sets()
    excluded = _homes(
        channels,
        everything,
        [exclude] if isinstance(exclude, str) else exclude,
        "exclude",
    )
    sets = {name: roots for name, roots in everything.items() if name not in excluded}
    if not sets:
        raise ValueError(
            "there is no unit to remove: every layer is excluded, or none is free to"
            " lose one."
        )
    if scope not in ("global", "layerwise"):
        raise ValueError(f"scope={scope!r} is not known. Known: global, layerwise.")
    if isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1:
        raise ValueError(f"multiple={multiple!r} must be a whole number, 1 or more.")
    if isinstance(least, bool) or not isinstance(least, int) or least < 0:
        raise ValueError(f"least={least!r} must be a whole number, 0 or more.")
    value = _values(channels, scores, everything)
    if isinstance(ratio, Mapping):
        ratios = _ratios_by_name(channels, ratio, sets)
    elif scope == "layerwise":
        ratios = dict.fromkeys(sets, check_sparsity(ratio, "ratio"))
    else:
        ratios = _global_ratios(value, sets, check_sparsity(ratio, "ratio"))
    keep = np.ones(len(channels.parent), dtype=bool)
    for name, roots in sets.items():
        kept = len(roots) - round(ratios.get(name, 0.0) * len(roots))
        kept = min(len(roots), max(least, -(-kept // multiple) * multiple))
        keep[roots[np.argsort(-value[roots], kind="stable")[kept:]]] = False
    _refuse_empty(channels, keep, f"ratio={ratio!r}")
    return {
        f"{name}.weight": torch.from_numpy(keep[channels.root(layer.outputs)])
        for name, layer in channels.layers.items()
        if layer.inputs is not None
    }


def _homes(
    channels: Channels,
    sets: Mapping[str, np.ndarray],
    names: Iterable[str],
    argument: str,
) -> set[str]:
    """Which of the sets these layers have units in."""
    wanted = [channels.root(channels.layer(name, argument).outputs) for name in names]
    return {
        home
        for home, roots in sets.items()
        if any(np.isin(roots, each).any() for each in wanted)
    }


def _values(
    channels: Channels, scores: Mapping[str, Tensor], sets: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Mean score of each root, `[numbers]`."""
    total, count = np.zeros(len(channels.parent)), np.zeros(len(channels.parent))
    unreached = prunable_layers(channels.model).keys() - channels.layers.keys()
    for name, score in scores.items():
        if name.removesuffix(".weight") in unreached:
            continue
        layer = channels.layer(name, "scores")
        values = score.detach().double().cpu().numpy()
        if values.shape != layer.outputs.shape:
            raise ValueError(
                f"scores of {name} have shape {list(values.shape)}; its units need"
                f" [{len(layer.outputs)}]."
            )
        if np.isnan(values).any():
            raise ValueError(f"the scores of {name} contain NaN; they must be numbers.")
        np.add.at(total, channels.root(layer.outputs), values)
        np.add.at(count, channels.root(layer.outputs), 1)
    free = np.concatenate(list(sets.values()))
    if not count[free].all():
        raise ValueError(
            "scores must give a value for every unit that can leave: pass those of all"
            " layers."
        )
    return total / np.maximum(count, 1)


def _ratios_by_name(
    channels: Channels, ratio: Mapping[str, float], sets: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """The ratio of each set, from ratios by parameter name."""
    ratios: dict[str, float] = {}
    for name, value in ratio.items():
        value = check_sparsity(value, f"ratio[{name!r}]")
        homes = _homes(channels, sets, [name], "ratio")
        if not homes:
            raise ValueError(
                f"ratio names {name}, whose units cannot leave or are excluded."
            )
        for home in homes:
            if ratios.setdefault(home, value) != value:
                raise ValueError(
                    f"ratio[{name!r}]={value}, but {home}, tied to it, has"
                    f" {ratios[home]}."
                )
    return ratios


def _global_ratios(
    value: np.ndarray, sets: Mapping[str, np.ndarray], ratio: float
) -> dict[str, float]:
    """The ratio of each set when all units are ranked together, each score divided by
    its set's mean."""
    relative = [
        value[roots] / (np.abs(value[roots]).mean() or 1.0) for roots in sets.values()
    ]
    sizes = [len(roots) for roots in sets.values()]
    lowest = np.argsort(np.concatenate(relative), kind="stable")[
        : round(ratio * sum(sizes))
    ]
    gone = np.bincount(
        np.repeat(np.arange(len(sets)), sizes)[lowest], minlength=len(sets)
    )
    return {
        name: count / size for name, count, size in zip(sets, gone, sizes, strict=True)
    }


# ------------------------------------------------------------------------------ cutting


def _remove(channels: Channels, masks: Mapping[str, Tensor]) -> nn.Module:
    keep = _decide(channels, masks)
    # id of a part of the old network -> what takes its place in the copy
    smaller = _no_hooks(channels.model)
    for layer in channels.layers.values():
        outputs = _places(keep[channels.root(layer.outputs)])
        inputs = (
            None if layer.inputs is None else _places(keep[channels.root(layer.inputs)])
        )
        if is_grouped(layer.module):
            inputs = None  # whole groups leave: each filter still sees as many inputs
        for tensor in _tensors(layer.module):
            smaller[id(tensor)] = _cut(
                tensor, outputs, inputs if tensor.dim() > 1 else None
            )
    result = copy.deepcopy(channels.model, smaller)
    for name in channels.layers:
        _resize(result.get_submodule(name))
    return result


def _decide(channels: Channels, masks: Mapping[str, Tensor]) -> np.ndarray:
    """Which roots are kept, `[numbers]`; refuses what cannot be done."""
    kept, removed = (np.zeros(len(channels.parent), dtype=bool) for _ in range(2))
    for name, mask in masks.items():
        roots = channels.root(channels.layer(name, "masks").outputs)
        if mask.dtype != torch.bool or mask.shape != roots.shape:
            raise ValueError(
                f"the mask of {name} is {mask.dtype} {list(mask.shape)}; it must be"
                f" torch.bool {list(roots.shape)}."
            )
        stays = mask.cpu().numpy()
        kept[roots[stays]] = True
        removed[roots[~stays]] = True
        if removed[FIXED]:
            raise ValueError(
                f"masks would remove a unit of {name} that cannot leave: it is tied to"
                " the outputs of the network (or to its input)."
            )
        if (both := np.flatnonzero(kept & removed)).size:
            raise ValueError(
                _disagreement(channels, name, int(np.flatnonzero(roots == both[0])[0]))
            )
    _refuse_empty(channels, ~removed, "masks")
    return ~removed


def _refuse_empty(channels: Channels, keep: np.ndarray, argument: str) -> None:
    for name, layer in channels.layers.items():
        if not keep[channels.root(layer.outputs)].any():
            raise ValueError(
                f"{argument} would remove every unit of {name}: no signal could pass."
                " Keep at least one."
            )


def _disagreement(channels: Channels, name: str, unit: int) -> str:
    tied = [
        key
        for key in channels.takes(name.removesuffix(".weight"), unit)
        if key.endswith("outputs")
    ]
    return (
        f"the masks disagree about unit {unit} of {name}: it is tied to"
        f" {', '.join(tied)} (by an addition, or by groups), and all of these must keep"
        " it or lose it together."
    )


def _tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers of a layer that have an entry a unit."""
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return [tensor for tensor in own if tensor.dim()]


def _no_hooks(model: nn.Module) -> dict[int, object]:
    """New empty dicts for the dozen empty ones that each module keeps for hooks;
    deepcopy is slow at those."""
    dicts = (
        value
        for module in model.modules()
        for value in vars(module).values()
        if type(value) is OrderedDict
    )
    return {id(each): OrderedDict() for each in dicts if not each}


def _places(keep: np.ndarray) -> Tensor | None:
    """The positions that stay; None when all do."""
    return None if keep.all() else torch.from_numpy(np.flatnonzero(keep))


def _cut(tensor: Tensor, outputs: Tensor | None, inputs: Tensor | None) -> Tensor:
    """The rows (and columns) that stay, as a new tensor of the same kind."""
    result = tensor.detach()
    for axis, places in enumerate((outputs, inputs)):
        if places is not None:
            result = result.index_select(axis, places.to(tensor.device))
    result = result.clone() if outputs is None and inputs is None else result
    return (
        nn.Parameter(result, requires_grad=tensor.requires_grad)
        if isinstance(tensor, nn.Parameter)
        else result
    )


def _resize(module: nn.Module) -> None:
    """Set the sizes that a layer keeps beside its tensors."""
    if isinstance(module, _BatchNorm):
        module.num_features = next(
            (len(tensor) for tensor in _tensors(module)), module.num_features
        )
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    else:
        per_group = module.out_channels // module.groups
        module.out_channels = module.weight.shape[0]
        if is_grouped(module):
            module.groups = module.out_channels // per_group
        module.in_channels = module.weight.shape[1] * module.groups
