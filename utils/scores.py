"""Importance scores: how much would the network miss this weight, or this unit? Higher
= more important = kept.

Built in lessons/02_scores. A score is a function `(model, batches) -> Scores`; add
yours with one line, `SCORES["mine"] = my_score`, and everything that takes a score by
name, the explorer too, offers it.

A *unit* is a neuron of a linear layer or a filter of a convolution: a row of the weight
tensor, `weight[unit]`.

What needs pictures takes `batches`, pairs of pictures `[n, ...]` and labels `[n]`. It
is a mean over the pictures: a batch counts by how many it holds, so that a smaller last
one weighs less. The network is in eval mode meanwhile; it and the state of PyTorch's
random numbers are left as they were.

A layer that these pictures do not reach, such as an auxiliary head that only training
uses, has no such score: it is left out, and `masks.masks_from_scores` gives no mask for
it. A frozen layer has no gradient; the scores that need one refuse it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.arguments import one_of, whole
from utils.data import Batches
from utils.layers import (
    Prunable,
    answer,
    eval_mode,
    prunable,
    prunable_layers,
    watching,
    weights,
)
from utils.models import Attention
from utils.preflight import in_rows


class Scores(dict[str, Tensor]):
    """Scores by parameter name, each of the weight's shape (or `[units]`), the number
    of pictures they rest on, and the names of the layers without one.

    >>> Scores({"fc1.weight": torch.rand(3, 4)}, 2560, left_out=["extra.weight"])
    Scores from 2,560 pictures: fc1.weight [3, 4]; none of extra.weight
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        pictures: int = 0,
        left_out: Iterable[str] = (),
    ) -> None:
        super().__init__(tensors)
        self.pictures, self.left_out = pictures, tuple(left_out)

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name} {list(tensor.shape)}" for name, tensor in self.items()
        )
        without = f"; none of {', '.join(self.left_out)}" if self.left_out else ""
        return f"Scores from {self.pictures:,} pictures: {shapes}{without}"


Score = Callable[[nn.Module, Batches], Scores]  # a parameter `_batches`: not needed


def score(
    name: str, model: nn.Module, batches: Batches = (), *, units: bool = False
) -> Scores:
    """The score called `name` of each weight (or of each unit) of the model. The model
    is left as it was.

    Raises:
        ValueError: unknown name (lists the known ones); a score that needs pictures
            and got none, or batches that the model cannot take (says which); a score
            that needs the gradient of a frozen layer; or one of your own that gives no
            `Scores`, leaves out a layer without saying so, or has another shape.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> batches = [(torch.rand(32, 1, 28, 28), torch.randint(10, (32,)))]
    >>> score("taylor", model, batches)
    Scores from 32 pictures: 1.weight [10, 784]
    >>> score("l1", model, units=True)
    Scores from 0 pictures: 1.weight [10]
    """
    known = UNIT_SCORES if units else SCORES
    function = known[one_of("name", name, known)]
    return _checked(name, function(model, batches), prunable(model), units=units)


# ------------------------------------------------------------- scores of single weights


def random(model: nn.Module, _batches: Batches = (), seed: int = 0) -> Scores:
    """The control: a number drawn at random for each weight. Any score worth its name
    beats it."""
    generator = torch.Generator().manual_seed(whole("seed", seed, 0, 2**63 - 1))
    return Scores(
        {
            name: torch.rand(w.shape, generator=generator)
            for name, w in prunable(model).items()
        }
    )


def magnitude(model: nn.Module, _batches: Batches = ()) -> Scores:
    """`|w|` (Han et al. 2015). Needs no data. Ranks single weights as `w**2` would."""
    return Scores({n: _wide(w.detach()).abs() for n, w in prunable(model).items()})


def gradient(model: nn.Module, batches: Batches) -> Scores:
    """`|g|` of each batch, averaged: how steeply the loss depends on the weight where
    it is now."""
    return _from_gradients(model, batches, lambda _, g: g.abs())


def taylor(model: nn.Module, batches: Batches) -> Scores:
    """`|w*g|` of each batch, averaged: the first-order estimate of how the loss changes
    when `w` becomes zero (Molchanov et al. 2017). Built in lessons/02_scores
    (`taylor_score`)."""
    return _from_gradients(model, batches, lambda w, g: _times(w, g).abs())


def snip(model: nn.Module, batches: Batches) -> Scores:
    """`|w*g|` with the gradient of the loss over *all* pictures, scaled to sum 1 (Lee
    et al. 2019, eq. 6); all zero where the loss depends on no weight.

    SNIP was made to prune before training, with the gradient at initialisation; on a
    trained network it is `taylor` with one large batch.
    """
    mean = _from_gradients(model, batches, _times)
    total = sum(tensor.abs().sum() for tensor in mean.values()) or 1
    return Scores(
        {name: tensor.abs() / total for name, tensor in mean.items()},
        mean.pictures,
        mean.left_out,
    )


def activation(model: nn.Module, batches: Batches) -> Scores:
    """`|w|` times the root mean square of the input that the weight multiplies, over
    all pictures and all places where the layer multiplies it (Sun et al. 2024).

    This is the score of "Wanda", which compares the weights of one output only: it is
    `masks_from_scores(score("activation", model, batches), sparsity, scope="unit")`.
    """
    squares = input_squares(model, batches)
    chosen = prunable(model)
    return Scores(
        {
            name: _wide(chosen[name].detach()).abs() * square.sqrt()
            for name, square in squares.items()
        },
        squares.pictures,
        squares.left_out,
    )


def input_squares(model: nn.Module, batches: Batches) -> Scores:
    """The mean square of the input that each weight multiplies, over all pictures and
    all places where the layer multiplies it: the same for each output of a layer."""
    return _from_activations(
        model,
        batches,
        lambda layer, inputs, _: _inputs(layer, inputs).abs().square(),
        _beside_weight,
    )


SCORES: dict[str, Score] = {
    "magnitude": magnitude,
    "taylor": taylor,
    "gradient": gradient,
    "snip": snip,
    "activation": activation,
    "random": random,
}

# ---------------------------------------------------------------------- scores of units


def unit_random(model: nn.Module, _batches: Batches = (), seed: int = 0) -> Scores:
    """The control: a number drawn at random for each unit."""
    return _per_unit(random(model, seed=seed), lambda rows: rows[:, :1].sum(1))


def unit_l1(model: nn.Module, _batches: Batches = ()) -> Scores:
    """Sum of `|w|` over the unit's incoming weights (Li et al. 2017)."""
    return _per_unit(
        prunable(model), lambda rows: torch.linalg.vector_norm(rows, 1, dim=1)
    )


def unit_l2(model: nn.Module, _batches: Batches = ()) -> Scores:
    """Euclidean length of the unit's incoming weights."""
    return _per_unit(
        prunable(model), lambda rows: torch.linalg.vector_norm(rows, dim=1)
    )


def unit_gradient(model: nn.Module, batches: Batches) -> Scores:
    """Sum of `|g|` over the unit's incoming weights, of each batch, averaged."""
    return _per_unit(gradient(model, batches), lambda rows: rows.sum(1))


def unit_taylor(model: nn.Module, batches: Batches) -> Scores:
    """`|sum of w*g|` over the unit's incoming weights, of each batch, averaged."""
    return _from_gradients(
        model, batches, lambda w, g: _times(w, g).flatten(1).sum(1).abs()
    )


def unit_taylor_squared(model: nn.Module, batches: Batches) -> Scores:
    """`(sum of w*g)**2` over the unit's incoming weights, of each batch, averaged
    (Molchanov et al. 2019, eq. 8)."""
    return _from_gradients(
        model, batches, lambda w, g: _times(w, g).flatten(1).sum(1).square()
    )


def unit_activation(model: nn.Module, batches: Batches) -> Scores:
    """Mean of the layer's output after ReLU (before any BatchNorm): a unit that rarely
    fires cannot matter much."""
    return _from_activations(
        model,
        batches,
        lambda layer, _, output: _outputs(layer, output).relu(),
        lambda _, mean: mean,
    )


UNIT_SCORES: dict[str, Score] = {
    "l1": unit_l1,
    "l2": unit_l2,
    "taylor": unit_taylor,
    "taylor squared": unit_taylor_squared,
    "gradient": unit_gradient,
    "activation": unit_activation,
    "random": unit_random,
}

# ---------------------------------------------------------------------- scores of heads

HeadScores = dict[str, Tensor]  # by the name of the attention, `[heads]` each


def attentions(model: nn.Module) -> dict[str, Attention]:
    """The attention layers of a text network, by module name.

    Raises:
        ValueError: it has no `models.Attention`.
    """
    found = {n: m for n, m in model.named_modules() if isinstance(m, Attention)}
    if not found:
        raise ValueError(
            f"model ({type(model).__name__}) has no models.Attention, so no heads."
        )
    return found


@contextmanager
def gates(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """For a while, what each head puts out is multiplied by a number of its own: its
    gate, 1 at first. A head with the gate 0 is as good as gone. Yields them by the name
    of the attention, `[heads]`, to be set or asked for their gradient.

    Raises:
        ValueError: a network without `models.Attention`.
    """
    layers = attentions(model)
    each = {
        name: layer.out.weight.new_ones(layer.heads, requires_grad=False)
        for name, layer in layers.items()
    }

    def hook(gate: Tensor, width: int) -> Callable:
        return lambda _, inputs: (inputs[0] * gate.repeat_interleave(width),)

    handles = [
        layer.out.register_forward_pre_hook(hook(each[name], layer.head_width))
        for name, layer in layers.items()
    ]
    try:
        yield each
    finally:
        for handle in handles:
            handle.remove()


def head_score(name: str, model: nn.Module, batches: Batches = ()) -> HeadScores:
    """The score called `name` of each head, by the name of its attention, `[heads]`.
    The model is left as it was. Built in lessons/14_heads_and_blocks.

    Raises:
        ValueError: unknown name (lists the known ones); a network without
            `models.Attention`; a score that needs windows and got none, or batches that
            the model cannot take.

    >>> from utils import models
    >>> network = models.gpt(blocks=1, heads=3)
    >>> {n: list(s.shape) for n, s in head_score("magnitude", network).items()}
    {'blocks.0.attention': [3]}
    """
    found = HEAD_SCORES[one_of("name", name, HEAD_SCORES)](model, batches)
    for key, layer in attentions(model).items():
        if key not in found or found[key].shape != (layer.heads,):
            raise ValueError(
                f"the score {name!r} must give [{layer.heads}] numbers for {key}, one a"
                " head."
            )
    return found


def head_random(model: nn.Module, _batches: Batches = (), seed: int = 0) -> HeadScores:
    """The control: a number drawn at random for each head."""
    generator = torch.Generator().manual_seed(whole("seed", seed, 0, 2**63 - 1))
    return {
        name: torch.rand(layer.heads, generator=generator)
        for name, layer in attentions(model).items()
    }


def head_magnitude(model: nn.Module, _batches: Batches = ()) -> HeadScores:
    """The Frobenius norm of the head's columns of out times its rows of value: of the
    matrix that takes the stream to what the head adds to it. Needs no data."""
    return {
        name: torch.stack(
            [
                torch.linalg.matrix_norm(_wide(columns) @ _wide(rows))
                for rows, columns in _by_head(layer)
            ]
        )
        for name, layer in attentions(model).items()
    }


def head_gate(model: nn.Module, batches: Batches) -> HeadScores:
    """`|gradient of the loss for the head's gate|` of each batch, averaged: how fast
    the loss would rise if the head were turned down (Michel, Levy & Neubig 2019, who
    average over single texts).

    What a head puts out is linear in its rows of value, so this is `|sum of w*g|` over
    those: `unit_taylor`, with the head as the unit.
    """
    pairs = _pairs(batches)
    count = sum(labels.numel() for _, labels in pairs.values())
    with (
        _apart(model),
        torch.inference_mode(False),
        torch.enable_grad(),
        gates(model) as each,
    ):
        total = {name: torch.zeros_like(_wide(gate)) for name, gate in each.items()}
        for gate in each.values():
            gate.requires_grad_()
        for which, (images, labels) in pairs.items():
            images = images.clone() if images.is_inference() else images
            loss = _loss(answer(model, images, which), labels, which)
            found = torch.autograd.grad(
                loss, list(each.values()), materialize_grads=True
            )
            for name, g in zip(each, found, strict=True):
                _finite(g, f"the gradient of the gates of {name}", which)
                total[name] += _wide(g).abs() * (labels.numel() / count)
    return total


def head_output(model: nn.Module, batches: Batches) -> HeadScores:
    """The Euclidean length of what the head adds to the stream (its mixed values times
    its columns of out), averaged over all places."""
    layers = attentions(model)
    total = {name: torch.zeros(layer.heads) for name, layer in layers.items()}
    places = dict.fromkeys(layers, 0)
    outs = {name: layer.out for name, layer in layers.items()}

    def add(name: str, _: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        mixed = inputs[0].flatten(0, -2).split(layers[name].head_width, 1)
        places[name] += len(mixed[0])
        total[name] += torch.stack(
            [
                torch.linalg.vector_norm(_wide(part) @ _wide(columns).T, dim=1).sum()
                for part, (_, columns) in zip(
                    mixed, _by_head(layers[name]), strict=True
                )
            ]
        ).cpu()

    with _apart(model), torch.no_grad(), watching(outs, add):
        for which, (images, _) in _pairs(batches).items():
            answer(model, images, which)
    return {
        name: _finite(sums / max(1, places[name]), f"what {name} adds", "these batches")
        for name, sums in total.items()
    }


def _by_head(layer: Attention) -> list[tuple[Tensor, Tensor]]:
    """The rows of value `[head_width, width]` and the columns of out `[width,
    head_width]` of each head."""
    rows = layer.value.weight.detach().split(layer.head_width)
    columns = layer.out.weight.detach().split(layer.head_width, 1)
    return list(zip(rows, columns, strict=True))


HEAD_SCORES: dict[str, Callable[[nn.Module, Batches], HeadScores]] = {
    "gate": head_gate,
    "output": head_output,
    "magnitude": head_magnitude,
    "random": head_random,
}

# ---------------------------------------------------------------------- what is checked


def _checked(
    name: str, found: object, weights: Mapping[str, Tensor], *, units: bool
) -> Scores:
    """What a score gave, if it is the scores of these weights."""
    who = f"the score {name!r}"
    if not isinstance(found, Scores):
        raise ValueError(
            f"{who} gives a {type(found).__name__}; return Scores(tensors, pictures)."
        )
    missing = [n for n in weights if n not in found and n not in found.left_out]
    unknown = [n for n in found if n not in weights]
    if missing or unknown:
        raise ValueError(
            f"{who} gives scores of {', '.join(map(repr, found)) or 'nothing'}; it must"
            f" give those of {', '.join(map(repr, weights))} (those it cannot give are"
            " named in Scores(..., left_out=[...]))."
        )
    for key, tensor in found.items():
        wanted = weights[key].shape[:1] if units else weights[key].shape
        if not isinstance(tensor, Tensor) or tensor.is_complex():
            what = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(
                f"{who} of {key} is {what}; give a tensor of real numbers."
            )
        if tensor.shape != wanted:
            raise ValueError(
                f"{who} of {key} has shape {list(tensor.shape)}; it must be"
                f" {list(wanted)}, a number for each {'unit' if units else 'weight'}."
            )
    return found


def _pairs(batches: Batches) -> dict[str, tuple[Tensor, Tensor]]:
    """The batches by how an error calls them, without empty ones."""
    given = list(batches) if isinstance(batches, Iterable) else [batches]
    for place, batch in enumerate(given):
        if not _is_pair(batch):
            parts = batch if isinstance(batch, tuple | list) else [batch]
            what = [
                list(each.shape) if isinstance(each, Tensor) else type(each).__name__
                for each in parts
            ]
            raise ValueError(
                f"batches[{place}] is {', '.join(map(str, what)) or 'empty'}; it must"
                " be a pair of tensors, pictures [n, ...] and their labels [n]."
            )
    pairs = {
        f"batches[{place}]": (images, labels)
        for place, (images, labels) in enumerate(given)
        if labels.numel()
    }
    if not pairs:
        raise ValueError(
            "batches is empty; this score needs pictures: sample_batches(train,"
            " count=10)."
        )
    return pairs


def _is_pair(batch: object) -> bool:
    """Whether it is so many pictures and as many labels, with values."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        return False
    if not all(isinstance(each, Tensor) and not each.is_meta for each in batch):
        return False
    images, labels = batch
    return labels.dim() > 0 and images.shape[:1] == labels.shape[:1]


def _loss(output: object, labels: Tensor, which: str) -> Tensor:
    """The cross-entropy, if these can be the output and the labels of it."""
    if not isinstance(output, Tensor) or not output.is_floating_point():
        what = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"the network gives {what} for {which}; a gradient score needs a tensor of"
            " real numbers, [n, classes]."
        )
    output, labels = in_rows(output, labels)
    if output.dim() < 2 or (output.shape[0], *output.shape[2:]) != labels.shape:
        raise ValueError(
            f"the network gives {list(output.shape)} for {which}, whose labels are"
            f" {list(labels.shape)}; they must be [n, classes] and [n]."
        )
    last = output.shape[1] - 1
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"the labels of {which} are {labels.dtype}; they must be whole numbers."
        )
    labels = labels.long()
    if labels.min() < 0 or labels.max() > last:
        raise ValueError(
            f"the labels of {which} go from {labels.min()} to {labels.max()}; they"
            f" must lie in 0 to {last}."
        )
    return F.cross_entropy(_wide(output), labels)


def _finite(values: Tensor, what: str, which: str) -> Tensor:
    if not values.isfinite().all():
        raise ValueError(
            f"{what} for {which} is not finite (NaN or infinity); look at the pictures"
            " and at the weights."
        )
    return values


# ----------------------------------------------------------------------- how it is done


def _per_unit(
    tensors: Mapping[str, Tensor], summarise: Callable[[Tensor], Tensor]
) -> Scores:
    # [units, inputs, ...] -> [units, all incoming weights]
    rows = {n: _wide(tensor.detach()).flatten(1) for n, tensor in tensors.items()}
    return Scores(
        {name: summarise(each) for name, each in rows.items()},
        getattr(tensors, "pictures", 0),
        getattr(tensors, "left_out", ()),
    )


def _wide(values: Tensor) -> Tensor:
    """The same numbers in a type that can hold sums of them: 16-bit ones as float32,
    whole ones as float64."""
    if not values.is_floating_point() and not values.is_complex():
        return values.double()
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _times(weight: Tensor, gradient: Tensor) -> Tensor:
    """`w*g`: to first order what the loss loses when `w` becomes zero, also where they
    are complex."""
    return (weight * gradient.conj()).real


@contextmanager
def _apart(model: nn.Module) -> Iterator[None]:
    """Eval mode, and random numbers that nobody else misses."""
    devices = {p.get_device() for p in model.parameters() if p.is_cuda}
    with eval_mode(model), torch.random.fork_rng(devices):
        yield


def _from_gradients(
    model: nn.Module, batches: Batches, of: Callable[[Tensor, Tensor], Tensor]
) -> Scores:
    """Mean over the pictures of `of(weight, gradient)`, where `gradient` is that of
    their batch; in eval mode, without touching the parameters' own gradients."""
    chosen = prunable(model)
    for name, weight in chosen.items():
        _refuse_without_gradient(name, weight)
    pairs = _pairs(batches)
    count = sum(labels.numel() for _, labels in pairs.values())
    total: dict[str, Tensor] = {}
    # not `inference_mode`, which a caller may be in: it would keep no gradients
    with _apart(model), torch.inference_mode(False), torch.enable_grad():
        for which, (images, labels) in pairs.items():
            found = _gradients(model, list(chosen.values()), images, labels, which)
            for (name, weight), g in zip(chosen.items(), found, strict=True):
                if g is None:  # the loss does not depend on it
                    continue
                _finite(g, f"the gradient of {name}", which)
                value = of(_wide(weight.detach()), _wide(g)) / (count / labels.numel())
                total[name] = total[name] + value if name in total else value
    return _scores(model, total, pairs)


def _refuse_without_gradient(name: str, weight: nn.Parameter) -> None:
    if weight.is_inference():
        raise ValueError(
            f"{name} was made in torch.inference_mode and can have no gradient; make"
            " the network outside of it."
        )
    if not weight.requires_grad:
        raise ValueError(
            f"{name} is frozen: a gradient score needs its gradient; unfreeze it with"
            " requires_grad_(True), or use a score that needs none."
        )


def _gradients(
    model: nn.Module,
    chosen: list[nn.Parameter],
    images: Tensor,
    labels: Tensor,
    which: str,
) -> tuple[Tensor | None, ...]:
    """The gradient of the loss for each of these weights, where it depends on it."""
    images = images.clone() if images.is_inference() else images
    loss = _loss(answer(model, images, which), labels, which)
    if not loss.requires_grad:
        return (None,) * len(chosen)
    try:
        return torch.autograd.grad(loss, chosen, allow_unused=True)
    except RuntimeError as error:  # what the network's own functions raise
        raise ValueError(
            f"model ({type(model).__name__}) has no gradient for {which}: {error}"
        ) from error


def _from_activations(
    model: nn.Module,
    batches: Batches,
    of: Callable[[Prunable, Tensor, Tensor], Tensor],
    beside: Callable[[Prunable, Tensor], Tensor],
) -> Scores:
    """Mean of `of(layer, input, output)`, `[channels, rows]`, over all rows of all
    calls and pictures, by parameter name.

    Layers that share a weight share its score: all their rows count, laid out by
    `beside(layer, mean)`.
    """
    chosen = prunable(model)
    pairs, layers = _pairs(batches), prunable_layers(model)
    seen: dict[str, list[tuple[int, Tensor]]] = {}  # by layer: rows, and their mean
    which = ""

    def add(path: str, _: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        values = of(layers[path], inputs[0], out)
        if values.shape[1]:  # a layer can run on nothing
            mean = _finite(
                values.mean(1), f"what {path or 'the layer'} works on", which
            )
            seen.setdefault(path, []).append((values.shape[1], mean))

    with _apart(model), torch.no_grad(), watching(layers, add):
        for which, (images, _) in pairs.items():
            answer(model, images, which)
    total: dict[str, Tensor] = {}
    for name, weight in weights(model).items():
        calls = {path: seen[path] for path in weight.layers if path in seen}
        rows = sum(count for each in calls.values() for count, _ in each)
        parts = [
            beside(layers[path], reduce(torch.add, [m / (rows / n) for n, m in each]))
            for path, each in calls.items()
        ]
        if name in chosen and parts:
            total[name] = reduce(torch.add, parts)
    return _scores(model, total, pairs)


def _scores(
    model: nn.Module,
    total: Mapping[str, Tensor],
    pairs: Mapping[str, tuple[Tensor, Tensor]],
) -> Scores:
    """In the order of the network."""
    if not total:
        raise ValueError(
            f"model ({type(model).__name__}) uses none of its prunable layers for these"
            " pictures; there is nothing to score."
        )
    names = prunable(model)
    return Scores(
        {name: total[name] for name in names if name in total},
        sum(len(labels) for _, labels in pairs.values()),
        [name for name in names if name not in total],
    )


def _beside_weight(layer: Prunable, mean: Tensor) -> Tensor:
    """`[inputs]` -> a number for each weight, `[units, inputs of a unit, 1, ...]`."""
    groups = getattr(layer, "groups", 1)  # each sees its own part of the inputs
    units, inputs, *kernel = layer.weight.shape
    rows = mean.view(groups, 1, inputs).expand(-1, units // groups, -1)
    return rows.reshape(units, inputs, *[1] * len(kernel))


def _inputs(layer: Prunable, values: Tensor) -> Tensor:
    return _channels(layer, values, layer.weight.shape[1] * getattr(layer, "groups", 1))


def _outputs(layer: Prunable, values: Tensor) -> Tensor:
    return _channels(layer, values, layer.weight.shape[0])


def _channels(layer: Prunable, values: Tensor, count: int) -> Tensor:
    """`[channels, everything else]` of a layer's input or output, with or without a
    batch: the axis before those of the kernel, for a linear layer the last."""
    axis = 1 - layer.weight.dim()
    if not isinstance(values, Tensor) or values.shape[axis] != count:
        shape = list(values.shape) if isinstance(values, Tensor) else values
        raise ValueError(f"{layer} works on {shape}, not on {count} channels.")
    return _wide(values).movedim(axis, 0).unsqueeze(-1).flatten(1)
