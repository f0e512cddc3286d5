"""Take units out for real: the result is a plain, smaller network. Built in
lessons/04_neurons_and_filters.

Every function takes a model and an example of its input and leaves the model as it is.
`utils.channels` says what is tied to what.

Of a text network, whose example is a window `[1, t]`, a unit of
`blocks.0.mlp.up.weight` is a neuron; a head is the `head_width` units of
`blocks.0.attention.query.weight` that leave together (`head_masks`); a unit of
`embedding.weight` is a column of it, one channel of the residual stream.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from utils.arguments import one_of, whole
from utils.channels import (
    BY_UNIT,
    CONVOLUTIONS,
    FIXED,
    NORMS,
    READING,
    Channels,
    Nothing,
    check_plain,
    follow,
    is_grouped,
    operation,
    own_code,
)
from utils.layers import answer, copied, eval_mode, prunable_layers, watching
from utils.masks import Masks, check_sparsity
from utils.preflight import in_rows
from utils.scores import attentions, gates

# around a module that adds to a residual stream: what its input may have gone through,
# and its output
NORMALISING = (*NORMS, nn.LayerNorm, nn.RMSNorm)
KEEPING_ZERO = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity)
ADDING, SCALING = ("add", "iadd"), ("mul", "imul")


@dataclass(frozen=True)
class Choice:
    """How units are chosen by their scores.

    scope: "layerwise", the same fraction of each set of tied layers; or "global", one
        ranking of all units, each score divided by its set's mean (sums over more
        weights would otherwise always win). The heads of an attention are a set.
    exclude: layers (parameter names) that keep all their units.
    multiple: round the number of units kept in each set up to a multiple of this.
    least: units that each set keeps at least, however low they score.

    Raises:
        ValueError: a value that makes no sense.
    """

    scope: str = "layerwise"
    exclude: Iterable[str] = ()
    multiple: int = 1
    least: int = 0

    def __post_init__(self) -> None:
        one_of("scope", self.scope, ("global", "layerwise"))
        whole("multiple", self.multiple, low=1)
        whole("least", self.least)
        object.__setattr__(self, "exclude", _names("exclude", self.exclude))


def unit_masks(
    model: nn.Module,
    example: Tensor,
    scores: Mapping[str, Tensor],
    ratio: float | Mapping[str, float],
    **choice: Any,
) -> Masks:
    """Unit masks `[units]` by parameter name, True = kept, which agree wherever
    channels are tied.

    Tied units are judged together, by the mean of their scores.

    Args:
        example: one input of the shape the network takes, `[1, ...]`.
        scores: `[units]` by parameter name, as from `scores.score(..., units=True)`. A
            unit with the score inf leaves after all others, one with -inf before.
        ratio: fraction of the units to remove, or one by parameter name (layers not
            named keep all). Channels that a LayerNorm sees keep all, too, unless a
            ratio names a layer of theirs or the scores name the embedding that brings
            them in: what is left of them is normalised by another mean and variance.
        choice: `scope`, `exclude`, `multiple` and `least`, as in `Choice`.
    Raises:
        ValueError: a ratio outside [0, 1), an unknown scope or name, NaN among the
            scores, an emptied layer, or a network that cannot be followed
            (`channels.follow`).

    >>> network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> scores = {"0.weight": torch.tensor([4.0, 1, 3, 2]), "2.weight": torch.ones(2)}
    >>> unit_masks(network, torch.zeros(1, 6), scores, 0.5)["0.weight"]
    tensor([ True, False,  True, False])
    """
    return _choose(follow(model, example), scores, ratio, Choice(**choice))


def remove_units(
    model: nn.Module, example: Tensor, masks: Mapping[str, Tensor]
) -> nn.Module:
    """A smaller copy of the network without the units whose mask is False, nor anything
    tied to them. Built in lessons/04_neurons_and_filters (`remove_neurons`).

    Layers that eval mode does not reach (the auxiliary heads of GoogLeNet) stay as they
    are, and no longer fit.

    Where a LayerNorm sees channels that leave (those of a residual stream), the mean
    and the variance by which it normalises are of those that stay: the smaller network
    computes what the old one would on the kept channels, and that is something else
    than the old one with zeros in their place (`zero_units` refuses). A head tied to
    the embedding stays tied.

    Args:
        example: one input of the shape the network takes, `[1, ...]`.
        masks: `[units]` by parameter name, True = kept; layers not named follow those
            that are.
    Raises:
        ValueError: an unknown name, a wrong shape, masks that disagree about tied
            units, a request that would touch the network's outputs or empty a layer, a
            network that cannot be followed (`channels.follow`) or that would not run
            with fewer units. Nothing is built then.

    >>> network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> masks = {"0.weight": torch.tensor([True, False, True, True])}
    >>> remove_units(network, torch.zeros(1, 6), masks)
    Sequential(
      (0): Linear(in_features=6, out_features=3, bias=True)
      (1): ReLU()
      (2): Linear(in_features=3, out_features=2, bias=True)
    )
    """
    return _remove(follow(model, example), masks)


def shrink(
    model: nn.Module,
    example: Tensor,
    scores: Mapping[str, Tensor],
    ratio: float | Mapping[str, float],
    **choice: Any,
) -> nn.Module:
    """`remove_units` with the `unit_masks` of these arguments: a smaller copy without
    the units of lowest score. Built in lessons/04_neurons_and_filters.

    >>> network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    >>> scores = {"0.weight": torch.arange(8.0), "2.weight": torch.ones(4)}
    >>> small = shrink(network, torch.zeros(1, 1, 9, 9), scores, 0.5)
    >>> {name: list(p.shape) for name, p in small.named_parameters() if p.dim() > 1}
    {'0.weight': [4, 1, 3, 3], '2.weight': [4, 4, 3, 3]}
    """
    channels = follow(model, example)
    return _remove(channels, _choose(channels, scores, ratio, Choice(**choice)))


def zero_units(
    model: nn.Module, example: Tensor, masks: Mapping[str, Tensor]
) -> nn.Module:
    """A copy of the old size in which those units put out zero: weights, biases and
    BatchNorm's terms are zero.

    It answers as `remove_units` does where zero stays zero on its way to the next
    layer: through ReLU, SiLU, pooling and attention, but not through a sigmoid, and not
    where a number is added.

    Raises:
        ValueError: as `remove_units`; or a BatchNorm without weight and bias, which
            turns zero into something else, or a LayerNorm, whose mean and variance
            would still be of all channels.
    """
    channels = follow(model, example)
    keep = _decide(channels, masks)
    _refuse_unzeroable(channels, keep)
    # id of a tensor of the old network -> what takes its place in the copy
    zeroed = {}
    for layer in channels.layers.values():
        gone = torch.from_numpy(~keep[layer.outputs])  # [units]
        if isinstance(layer.module, nn.Embedding):
            continue  # its columns stay, or were refused
        for tensor in _tensors(layer.module):
            if isinstance(tensor, nn.Parameter):
                where = gone.to(tensor.device).view(-1, *[1] * (tensor.dim() - 1))
                zero = tensor.detach().masked_fill(where, 0)
                zeroed[id(tensor)] = _like(tensor, zero)
    return copied(model, zeroed)


def _refuse_unzeroable(channels: Channels, keep: np.ndarray) -> None:
    """Refuse what would not stay zero."""
    every = channels.layers.items()
    changed = {name: each for name, each in every if not keep[each.outputs].all()}
    for name, layer in changed.items():
        if isinstance(layer.module, nn.LayerNorm):
            raise ValueError(
                f"masks would set channels to zero that {name}, a LayerNorm, sees: its"
                " mean and variance would still be of all of them, so that zeroing is"
                " not the same as removing; use remove_units."
            )
    for name, layer in changed.items():
        if isinstance(layer.module, nn.Embedding):
            raise ValueError(
                f"masks would set columns of {name} to zero, an Embedding; use"
                " remove_units."
            )
    for name, layer in every:
        if isinstance(layer.module, NORMS) and layer.module.weight is None:
            raise ValueError(
                f"{name} has no weight and bias (affine=False), so its channels cannot"
                " be set to zero."
            )


# -------------------------------------------------------------------------------- heads


def head_masks(model: nn.Module, keep: Mapping[str, Tensor]) -> Masks:
    """Unit masks for `remove_units` from masks of heads: True for each of the
    `head_width` rows of a head that stays. Built in lessons/14_heads_and_blocks.

    Args:
        keep: `[heads]` bool by the name of the attention.
    Raises:
        ValueError: a name that is no attention, a mask of another shape or type, or one
            that keeps no head.

    >>> from utils import models
    >>> keep = {"blocks.0.attention": torch.tensor([True, False])}
    >>> network = models.gpt(blocks=1, heads=2, head_width=3)
    >>> head_masks(network, keep)
    {'blocks.0.attention.query.weight': tensor([ True,  True,  True, False, False, \
False])}
    """
    known = attentions(model)
    _mapping("keep", keep)
    masks = {}
    for name, mask in keep.items():
        if name not in known:
            raise ValueError(
                f"keep names {name!r}, which is no attention of the network. It has:"
                f" {', '.join(known)}."
            )
        _check_heads(name, mask, known[name].heads)
        each = mask.repeat_interleave(known[name].head_width)
        masks[f"{name}.{READING[0]}.weight"] = each
    return masks


def _check_heads(name: str, mask: object, heads: int) -> None:
    if not isinstance(mask, Tensor) or mask.is_meta:
        raise ValueError(
            f"keep[{name!r}] is {mask!r}; it must be a tensor, torch.bool [{heads}]."
        )
    if mask.dtype != torch.bool or mask.shape != (heads,):
        raise ValueError(
            f"keep[{name!r}] is {mask.dtype} {list(mask.shape)}; it must be torch.bool"
            f" [{heads}], a value for each head."
        )
    if not mask.any():
        raise ValueError(
            f"keep[{name!r}] keeps no head; take the whole attention out with"
            " remove_blocks."
        )


def head_losses(
    model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """How much the mean loss over these batches rises when each head leaves alone, by
    the name of its attention, `[heads]` float64: the truth, one by one. No network is
    built: what the head puts out is multiplied by zero.

    Raises:
        ValueError: a network without `models.Attention`; no batches, or labels that are
            no classes.

    >>> from utils import models
    >>> network = models.gpt(blocks=2, heads=3)
    >>> windows = torch.zeros(2, 8, dtype=torch.int64)
    >>> losses = head_losses(network, [(windows, windows)])
    >>> {name: list(rise.shape) for name, rise in losses.items()}
    {'blocks.0.attention': [3], 'blocks.1.attention': [3]}
    """
    batches = _batches(batches)
    with gates(model) as each:
        dense = _mean_loss(model, batches)
        losses = {name: torch.zeros(len(gate)).double() for name, gate in each.items()}
        for name, gate in each.items():
            for head in range(len(gate)):
                gate[head] = 0
                losses[name][head] = _mean_loss(model, batches) - dense
                gate[head] = 1
    return losses


# ------------------------------------------------------------------------------- blocks


class First(nn.Module):
    """Passes its first argument through, whatever else it gets: `nn.Identity` for a
    module that is called with more."""

    def forward(self, first: Tensor, /, *_more: Any, **_named: Any) -> Tensor:
        return first


def remove_blocks(model: nn.Module, example: Tensor, names: Sequence[str]) -> nn.Module:
    """A copy in which the named modules do nothing: a layer or a residual block leaves
    whole, and what it would get (its first argument) goes on to what follows
    (`nn.Identity`).

    A module that the code around it only *adds* to what it has read leaves by adding
    nothing: zeros are put out in its place (`channels.Nothing`). That is `f` in
    `x + f(x)`, and in `x + dropout(f(norm(x)))`: the attention or the MLP of a
    transformer's block, of which `x + norm(x)` would be left otherwise. Only the code
    of the module around it is looked at; where that cannot be traced, what the module
    would get goes on.

    Raises:
        ValueError: no such module, or one whose output has another shape than its
            input.
    """
    names = _names("names", names)
    known = _modules(model)
    for name in names:
        if name not in known:
            raise ValueError(
                f"names has {name!r}, which is no module of the network. It has:"
                f" {', '.join(known)}."
            )
    before, shapes = _shapes(model, example, {name: known[name] for name in names})
    for name in names:
        if name not in shapes:
            raise ValueError(
                f"{name} takes no part in what the network does in eval mode, so it"
                " cannot leave."
            )
        if why := _why_it_stays(shapes[name]):
            raise ValueError(
                f"{name} cannot leave: {why}, and what follows needs that."
            )
    instead = {id(known[name]): _in_place(model, name, shapes[name]) for name in names}
    smaller = copied(model, instead)
    _check_outputs(smaller, example, names, before)
    return smaller


def removable_blocks(model: nn.Module, example: Tensor) -> list[str]:
    """Names of the modules that `remove_blocks` can take out one by one: blocks of
    several layers (no `Sequential`); in a network without such blocks, single layers.
    All have weights and put out the shape that they get. Of blocks inside blocks the
    outer ones.
    """
    parts = {name: part for name, part in _modules(model).items() if _has_layers(part)}
    outputs, shapes = _shapes(model, example, parts)
    fitting = [name for name, calls in shapes.items() if not _why_it_stays(calls)]
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
    return [
        name
        for name in parts
        if name in chosen
        and name not in inside
        and _runs_without(model, example, name, shapes[name], outputs)
    ]


def block_losses(
    model: nn.Module, names: Sequence[str], batches: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """How much the mean loss over the pictures of these batches rises when each of the
    modules leaves alone: the truth, one by one.

    Raises:
        ValueError: as `remove_blocks`; or no pictures, or labels that are no classes.
    """
    names = _names("names", names)
    batches = _batches(batches)
    dense = _mean_loss(model, batches)
    example = batches[0][0][:1]
    return {
        name: _mean_loss(remove_blocks(model, example, [name]), batches) - dense
        for name in names
    }


def _batches(batches: Any) -> list[tuple[Tensor, Tensor]]:
    """Those that hold something, as a list."""
    try:
        pairs = [(images, labels) for images, labels in batches]
        pairs = [pair for pair in pairs if pair[1].numel()]
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"batches must be pairs (images, labels): {error}") from error
    if not pairs:
        raise ValueError("batches has no pictures; give at least one (images, labels).")
    return pairs


def _mean_loss(network: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """Over all pictures, or over all places of the windows."""
    total = sum(labels.numel() for _, labels in batches)
    with eval_mode(network), torch.no_grad():
        return sum(b[1].numel() / total * _batch_loss(network, *b) for b in batches)


def _batch_loss(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    logits = answer(network, images, "images")
    try:
        return F.cross_entropy(*in_rows(logits, labels)).item()
    except Exception as error:
        raise ValueError(
            f"labels {list(labels.shape)} are no classes of what the network puts out:"
            f" {error}"
        ) from error


def _has_layers(module: nn.Module) -> bool:
    return bool(prunable_layers(module))


class Call(NamedTuple):
    """What a module gets first and what it gives at one call, as shapes without the
    batch; None where that is no tensor. `alone`: it got nothing else."""

    before: list[int] | None
    after: list[int] | None
    alone: bool


def _shapes(
    model: nn.Module,
    example: Tensor,
    parts: Mapping[str, nn.Module],
    what: str = "example",
) -> tuple[Any, dict[str, list[Call]]]:
    """The shapes of what the network puts out, and of each call of these modules."""
    calls: dict[str, list[Call]] = {}

    def note(name: str, _: nn.Module, inputs: tuple, output: Tensor) -> None:
        call = Call(_shape(inputs[:1]), _shape(output), len(inputs) == 1)
        calls.setdefault(name, []).append(call)

    check_plain(model)
    with eval_mode(model), torch.no_grad(), watching(parts, note):
        outputs = answer(model, example, what)
    shapes = tree_map(
        lambda value: list(value.shape) if isinstance(value, Tensor) else type(value),
        outputs,
    )
    return shapes, calls


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    """The parts of a network, by name."""
    check_plain(model)
    return {name: module for name, module in model.named_modules() if name}


def _names(argument: str, names: Any) -> list[str]:
    """A list of them; one name alone is a name too."""
    every = [names] if isinstance(names, str) else names
    if not isinstance(every, Iterable):
        raise ValueError(f"{argument}={names!r} must be a list of names.")
    every = list(every)
    if not all(isinstance(name, str) for name in every):
        raise ValueError(f"{argument}={names!r} must be names, as in 'fc1.weight'.")
    return every


def _check_outputs(
    smaller: nn.Module, example: Tensor, names: list[str], before: Any
) -> None:
    gone = ", ".join(names)
    after, _ = _shapes(smaller, example, {}, f"without {gone} the example")
    if before != after:
        raise ValueError(
            f"{gone} cannot leave: the network would put out {after} and not {before}."
        )


def _runs_without(
    model: nn.Module, example: Tensor, name: str, calls: list[Call], outputs: Any
) -> bool:
    """Whether the network still puts out these shapes; its numbers are not copied."""
    tensors = (*model.parameters(), *model.buffers())
    instead: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    instead[id(model.get_submodule(name))] = _in_place(model, name, calls)
    try:
        _check_outputs(copied(model, instead), example, [name], outputs)
    except ValueError:
        return False
    return True


def _shape(values: Tensor | tuple) -> list[int] | None:
    values = values[0] if isinstance(values, tuple) and len(values) == 1 else values
    return list(values.shape[1:]) if isinstance(values, Tensor) else None


def _why_it_stays(calls: list[Call]) -> str:
    """Why a module cannot leave; empty where it can."""
    for before, after, _ in calls:
        if before is None or after is None:
            return "it does not turn one tensor into one"
        if before != after:
            return f"it turns {before} into {after}"
    return ""


def _in_place(model: nn.Module, name: str, calls: list[Call]) -> nn.Module:
    """What stands where a module was."""
    if _is_added(model, name):
        return Nothing()
    return nn.Identity() if all(call.alone for call in calls) else First()


def _is_added(model: nn.Module, name: str) -> bool:
    """Whether the code that calls a module only adds what it puts out to what it has
    read; False where that code cannot be traced."""
    gone = model.get_submodule(name)
    paths = [n for n, m in model.named_modules(remove_duplicate=False) if m is gone]
    return all(_is_added_in(*_caller(model, path)) for path in paths)


def _caller(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module whose code calls a part, and the part's name there: the one around it,
    unless that is a list."""
    around, _, own = name.rpartition(".")
    while around and isinstance(
        model.get_submodule(around), nn.ModuleList | nn.ModuleDict
    ):
        around, _, last = around.rpartition(".")
        own = f"{last}.{own}"
    return model.get_submodule(around), own


def _is_added_in(caller: nn.Module, part: str) -> bool:
    try:
        graph = own_code(caller)
    except ValueError:
        return False
    calls = list(graph.find_nodes(op="call_module", target=part))
    return bool(calls) and all(_only_added(caller, call) for call in calls)


def _only_added(caller: nn.Module, call: fx.Node) -> bool:
    """Whether every use of what a call puts out is, after dropout or a factor at most,
    an addition to what the call read, itself or through norms."""
    read: set[fx.Node] = set()
    given = call.all_input_nodes[:1]
    while given:
        read |= set(given)
        norm = _is(caller, given[0], NORMALISING)
        given = given[0].all_input_nodes[:1] if norm else []
    return _ends_in_additions(caller, call, read)


def _ends_in_additions(caller: nn.Module, value: fx.Node, read: set[fx.Node]) -> bool:
    for user in value.users:
        does = operation(user)
        others = set(user.all_input_nodes) - {value}
        if does in ADDING and read & {s for each in others for s in _summands(each)}:
            continue
        on = does in ("dropout", *ADDING, *SCALING) or _is(caller, user, KEEPING_ZERO)
        if not (on and _ends_in_additions(caller, user, read)):
            return False
    return bool(value.users)


def _summands(value: fx.Node) -> set[fx.Node]:
    """A value and, where it is a sum, all that it is the sum of."""
    parts = value.all_input_nodes if operation(value) in ADDING else []
    return {value}.union(*map(_summands, parts))


def _is(caller: nn.Module, node: fx.Node, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether a node calls a module of one of these kinds."""
    if node.op != "call_module":
        return False
    return type(caller.get_submodule(str(node.target))) in kinds


# ----------------------------------------------------------------------- choosing units


def _choose(
    channels: Channels,
    scores: Mapping[str, Tensor],
    ratio: float | Mapping[str, float],
    choice: Choice,
) -> Masks:
    _mapping("scores", scores)
    everything = channels.sets()
    excluded = _homes(channels, everything, choice.exclude, "exclude")
    excluded |= _unnamed(channels, everything, scores, ratio)
    sets = {name: units for name, units in everything.items() if name not in excluded}
    if not sets:
        raise ValueError(
            "there is no unit to remove: every layer is excluded, none is free to lose"
            " one, or a LayerNorm sees them all (name those in ratio, by layer)."
        )
    value = _values(channels, scores, sets)
    if isinstance(ratio, Mapping):
        ratios = _ratios_by_name(channels, ratio, sets)
    elif choice.scope == "layerwise":
        ratios = dict.fromkeys(sets, check_sparsity(ratio, "ratio"))
    else:
        ratios = _global_ratios(value, sets, check_sparsity(ratio, "ratio"))
    keep = np.ones(channels.count, dtype=bool)
    for name, units in sets.items():
        kept = len(units) - round(ratios.get(name, 0.0) * len(units))
        kept = -(-kept // choice.multiple) * choice.multiple  # rounded up
        kept = min(len(units), max(choice.least, kept))
        keep[units[np.argsort(-value[units], kind="stable")[kept:]]] = False
    _refuse_empty(channels, keep, f"ratio={ratio!r}")
    return {
        f"{name}.weight": torch.from_numpy(keep[layer.outputs])
        for name, layer in channels.layers.items()
        if layer.inputs is not None
    }


def _unnamed(
    channels: Channels,
    sets: Mapping[str, np.ndarray],
    scores: Mapping[str, Tensor],
    ratio: float | Mapping[str, float],
) -> set[str]:
    """The sets that a LayerNorm sees and that nobody asked for by name."""
    if isinstance(ratio, Mapping):
        return set()
    seen = channels.normalised()
    return {
        name
        for name, units in sets.items()
        if np.isin(units, seen).any()
        and not (
            isinstance(channels.layers[name].module, nn.Embedding)
            and f"{name}.weight" in scores
        )
    }


def _mapping(argument: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{argument} is a {type(value).__name__}; give tensors by parameter name,"
            ' as in {"fc1.weight": ...}.'
        )


def _homes(
    channels: Channels,
    sets: Mapping[str, np.ndarray],
    names: Iterable[str],
    argument: str,
) -> set[str]:
    """Which of the sets these layers have units in."""
    wanted = [channels.layer(name, argument).outputs for name in names]
    return {
        home
        for home, units in sets.items()
        if any(np.isin(units, each).any() for each in wanted)
    }


def _values(
    channels: Channels, scores: Mapping[str, Tensor], sets: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Mean score of each number of a channel, `[numbers]`."""
    total, count = np.zeros(channels.count), np.zeros(channels.count)
    unreached = prunable_layers(channels.model).keys() - channels.layers.keys()
    for name, score in scores.items():
        if str(name).removesuffix(".weight") in unreached:
            continue
        layer = channels.layer(name, "scores")
        values = _numbers(name, score, len(layer.outputs))
        # not `total[outputs] += values`: a number that stands twice counts twice
        with np.errstate(invalid="ignore"):  # inf and -inf, refused below
            np.add.at(total, layer.outputs, values)
        np.add.at(count, layer.outputs, 1)
    free = np.concatenate(list(sets.values()))
    if not count[free].all():
        raise ValueError(
            "scores must give a value for every unit that can leave: pass those of all"
            " layers."
        )
    value = total / np.maximum(count, 1)
    if np.isnan(value).any():
        raise ValueError(
            "scores give both inf and -inf to units that are tied; they leave or stay"
            " together."
        )
    return value


def _numbers(name: str, score: Tensor, units: int) -> np.ndarray:
    """The scores of a layer, `[units]`."""
    if not isinstance(score, Tensor) or score.layout != torch.strided or score.is_meta:
        raise ValueError(f"scores of {name} must be a tensor of {units} values.")
    if score.is_complex():
        raise ValueError(f"scores of {name} are complex; they must have an order.")
    values = score.detach().double().cpu().numpy()
    if values.shape != (units,):
        raise ValueError(
            f"scores of {name} have shape {list(values.shape)}; its units need"
            f" [{units}]."
        )
    if np.isnan(values).any():
        raise ValueError(f"the scores of {name} contain NaN; they must be numbers.")
    # beyond, sums overflow, and whole numbers are no longer told apart
    limit = 1e300 if score.is_floating_point() else 2**53
    if (np.abs(values[np.isfinite(values)]) > limit).any():
        raise ValueError(
            f"scores of {name} must lie within {limit:.0e} of 0, or be inf."
        )
    return values


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
    its set's mean (of those that are not infinite)."""
    relative = [value[units] / _mean(np.abs(value[units])) for units in sets.values()]
    sizes = [len(units) for units in sets.values()]
    order = np.argsort(np.concatenate(relative), kind="stable")
    lowest = order[: round(ratio * sum(sizes))]
    # to which set each unit belongs, and how many of each set are among the lowest
    member = np.repeat(np.arange(len(sets)), sizes)
    gone = np.bincount(member[lowest], minlength=len(sets))
    return dict(zip(sets, gone / sizes, strict=True))


def _mean(values: np.ndarray) -> float:
    """The mean of the finite ones; 1 where that is nothing to divide by."""
    finite = values[np.isfinite(values)]
    return (finite.mean() if finite.size else 0.0) or 1.0


# ------------------------------------------------------------------------------ cutting


def _remove(channels: Channels, masks: Mapping[str, Tensor]) -> nn.Module:
    keep = _decide(channels, masks)
    channels.check_fit(keep)
    # id of a part of the old network -> what takes its place in the copy
    smaller = _no_hooks(channels.model)
    for layer in channels.layers.values():
        rows, columns = (
            None if numbers is None else _places(keep[numbers])
            for numbers in layer.axes()
        )
        if is_grouped(layer.module):
            columns = None  # whole groups leave: each filter still sees as many inputs
        for tensor in _tensors(layer.module):
            smaller[id(tensor)] = _cut(
                tensor, rows, columns if tensor.dim() > 1 else None
            )
    result = copied(channels.model, smaller)
    for name, layer in channels.layers.items():
        _resize(result.get_submodule(name), int(keep[layer.outputs].sum()))
    channels.check_code(result)
    return result


def _decide(channels: Channels, masks: Mapping[str, Tensor]) -> np.ndarray:
    """Which numbers are kept, `[numbers]`; refuses what cannot be done."""
    _mapping("masks", masks)
    kept, removed = (np.zeros(channels.count, dtype=bool) for _ in range(2))
    for name, mask in masks.items():
        outputs = channels.layer(name, "masks").outputs
        if not isinstance(mask, Tensor) or mask.is_meta:
            raise ValueError(
                f"the mask of {name} is {mask!r}; it must be a tensor, torch.bool"
                f" {list(outputs.shape)}."
            )
        if mask.dtype != torch.bool or mask.shape != outputs.shape:
            raise ValueError(
                f"the mask of {name} is {mask.dtype} {list(mask.shape)}; it must be"
                f" torch.bool {list(outputs.shape)}."
            )
        stays = mask.cpu().numpy()
        kept[outputs[stays]] = True
        removed[outputs[~stays]] = True
        if removed[FIXED]:
            raise ValueError(
                f"masks would remove a unit of {name} that cannot leave: it is tied to"
                " the outputs of the network (or to its input)."
            )
        if (both := np.flatnonzero(kept & removed)).size:
            unit = int(np.flatnonzero(outputs == both[0])[0])
            raise ValueError(_disagreement(channels, name, unit))
    _refuse_empty(channels, ~removed, "masks")
    return ~removed


def _refuse_empty(channels: Channels, keep: np.ndarray, argument: str) -> None:
    for name, layer in channels.layers.items():
        if layer.outputs.size and not keep[layer.outputs].any():
            raise ValueError(
                f"{argument} would remove every unit of {name}: no signal could pass."
                " Keep at least one, or take a whole block out with remove_blocks."
            )


def _disagreement(channels: Channels, name: str, unit: int) -> str:
    tied = [
        key
        for key in channels.takes(name.removesuffix(".weight"), unit)
        if key.endswith("outputs")
    ]
    return (
        f"the masks disagree about unit {unit} of {name}: it is tied to"
        f" {', '.join(tied)} (by an addition, by groups, or by a head), and all of"
        " these must keep it or lose it together."
    )


def _tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers of a layer that have an entry a unit."""
    held = (getattr(module, name, None) for name in BY_UNIT)
    return [tensor for tensor in held if tensor is not None]


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


def _cut(tensor: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """The rows (and columns) that stay, as a new tensor of the same kind."""
    result = tensor.detach()
    for axis, places in enumerate((rows, columns)):
        if places is not None:
            result = result.index_select(axis, places.to(tensor.device))
    result = result.clone() if rows is None and columns is None else result
    return _like(tensor, result)


def _like(old: Tensor, new: Tensor) -> Tensor:
    """A parameter where the old one is, as frozen as that."""
    if isinstance(old, nn.Parameter):
        return nn.Parameter(new, requires_grad=old.requires_grad)
    return new


def _resize(module: nn.Module, units: int) -> None:
    """Set the sizes that a layer keeps beside its tensors."""
    if isinstance(module, nn.LayerNorm):
        module.normalized_shape = (units,)
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = units
    elif isinstance(module, NORMS):
        module.num_features = next(
            (len(tensor) for tensor in _tensors(module)), module.num_features
        )
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, CONVOLUTIONS):
        per_group = module.out_channels // module.groups
        module.out_channels = module.weight.shape[0]
        if is_grouped(module):
            module.groups = module.out_channels // per_group
        module.in_channels = module.weight.shape[1] * module.groups
