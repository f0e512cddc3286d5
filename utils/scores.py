"""Importance scores: how much would the network miss this weight, or this unit? Higher
= more important = kept.

Built in lessons/02_scores. A score is a function `(model, batches) -> Scores`; add
yours with one line, `SCORES["mine"] = my_score`, and everything that takes a score by
name, the explorer too, offers it.

A *unit* is a neuron of a linear layer or a filter of a convolution: a row of the weight
tensor, `weight[unit]`.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.data import Batches
from utils.layers import Prunable, eval_mode, prunable, prunable_layers, watching


class Scores(dict[str, Tensor]):
    """Scores by parameter name, each of the weight's shape (or `[units]`), and the
    number of pictures they rest on."""

    def __init__(self, tensors: Mapping[str, Tensor], pictures: int = 0) -> None:
        super().__init__(tensors)
        self.pictures = pictures

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name} {list(tensor.shape)}" for name, tensor in self.items()
        )
        return f"Scores from {self.pictures:,} pictures: {shapes}"


Score = Callable[[nn.Module, Batches], Scores]  # a parameter `_batches`: not needed


def score(
    name: str, model: nn.Module, batches: Batches = (), *, units: bool = False
) -> Scores:
    """The score called `name` of each weight (or of each unit) of the model. The model
    is left as it was.

    Raises:
        ValueError: unknown name (lists the known ones), or a score that needs pictures
            and got none.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> batches = [(torch.rand(32, 1, 28, 28), torch.randint(10, (32,)))]
    >>> score("taylor", model, batches)
    Scores from 32 pictures: 1.weight [10, 784]
    >>> score("l1", model, units=True)
    Scores from 0 pictures: 1.weight [10]
    """
    known = UNIT_SCORES if units else SCORES
    if name not in known:
        raise ValueError(
            f"name={name!r} is not a known score. Known: {', '.join(known)}."
        )
    return known[name](model, batches)


# ------------------------------------------------------------- scores of single weights


def random(model: nn.Module, _batches: Batches = (), seed: int = 0) -> Scores:
    """The control: a number drawn at random for each weight. Any score worth its name
    beats it."""
    generator = torch.Generator().manual_seed(seed)
    return Scores(
        {
            name: torch.rand(w.shape, generator=generator)
            for name, w in prunable(model).items()
        }
    )


def magnitude(model: nn.Module, _batches: Batches = ()) -> Scores:
    """`|w|` (Han et al. 2015). Needs no data. Ranks single weights as `w**2` would."""
    return Scores({name: w.detach().abs() for name, w in prunable(model).items()})


def gradient(model: nn.Module, batches: Batches) -> Scores:
    """`|g|`, averaged over the batches: how steeply the loss depends on the weight
    where it is now."""
    return _average_over_batches(model, batches, lambda _, g: g.abs())


def taylor(model: nn.Module, batches: Batches) -> Scores:
    """`|w*g|`, averaged over the batches: the first-order estimate of how the loss
    changes when `w` becomes zero (Molchanov et al. 2017). Built in lessons/02_scores
    (`taylor_score`)."""
    return _average_over_batches(model, batches, lambda w, g: (w * g).abs())


def snip(model: nn.Module, batches: Batches) -> Scores:
    """`|w*g|` with the gradient of the loss over *all* batches, scaled to sum 1 (Lee et
    al. 2019, eq. 6).

    SNIP was made to prune before training, with the gradient at initialisation; on a
    trained network it is `taylor` with one large batch.
    """
    mean = _average_over_batches(model, batches, lambda w, g: w * g)
    total = sum(tensor.abs().sum() for tensor in mean.values())
    return Scores(
        {name: tensor.abs() / total for name, tensor in mean.items()}, mean.pictures
    )


def activation(model: nn.Module, batches: Batches) -> Scores:
    """`|w|` times the root mean square of the input that the weight multiplies (Sun et
    al. 2024, "Wanda").

    Wanda compares the weights of one output only; here, as for each score, the
    threshold decides who competes.
    """
    squares = _activations(
        model,
        batches,
        lambda layer, inputs, _: _channels(layer, inputs).square().mean(1),
    )
    result = {}
    for (name, square), layer in zip(
        squares.items(), prunable_layers(model).values(), strict=True
    ):
        groups = getattr(layer, "groups", 1)  # each sees its own part of the inputs
        kernel = [1] * (layer.weight.dim() - 2)
        # [groups, 1, inputs of a unit, 1, 1] beside [groups, units of a group, ...]
        rms = square.sqrt().view(groups, 1, -1, *kernel)
        grouped = layer.weight.detach().abs().unflatten(0, (groups, -1))
        result[name] = (grouped * rms).flatten(0, 1)
    return Scores(result, squares.pictures)


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
    return _per_unit(random(model, seed=seed), lambda rows: rows[:, 0])


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
    """Sum of `|g|` over the unit's incoming weights, averaged over the batches."""
    return _per_unit(gradient(model, batches), lambda rows: rows.sum(1))


def unit_taylor(model: nn.Module, batches: Batches) -> Scores:
    """`|sum of w*g|` over the unit's incoming weights, averaged over the batches."""
    return _average_over_batches(
        model, batches, lambda w, g: (w * g).flatten(1).sum(1).abs()
    )


def unit_taylor_squared(model: nn.Module, batches: Batches) -> Scores:
    """`(sum of w*g)**2` over the unit's incoming weights, averaged over the batches
    (Molchanov et al. 2019, eq. 8)."""
    return _average_over_batches(
        model, batches, lambda w, g: (w * g).flatten(1).sum(1).square()
    )


def unit_activation(model: nn.Module, batches: Batches) -> Scores:
    """Mean of the layer's output after ReLU (before any BatchNorm): a unit that rarely
    fires cannot matter much."""
    return _activations(
        model,
        batches,
        lambda layer, _, output: _channels(layer, output).relu().mean(1),
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

# ----------------------------------------------------------------------- how it is done


def _per_unit(
    tensors: Mapping[str, Tensor], summarise: Callable[[Tensor], Tensor]
) -> Scores:
    # [units, inputs, ...] -> [units, all incoming weights]
    rows = {name: tensor.detach().flatten(1) for name, tensor in tensors.items()}
    return Scores(
        {name: summarise(each) for name, each in rows.items()},
        getattr(tensors, "pictures", 0),
    )


def _pictures(batches: Batches) -> int:
    if len(batches) == 0:
        raise ValueError(
            "batches is empty; this score needs pictures: sample_batches(train,"
            " count=10)."
        )
    return sum(len(labels) for _, labels in batches)


def _average_over_batches(
    model: nn.Module, batches: Batches, of: Callable[[Tensor, Tensor], Tensor]
) -> Scores:
    """Mean over the batches of `of(weight, gradient)`; in eval mode, without touching
    the parameters' own gradients."""
    pictures = _pictures(batches)
    weights = prunable(model)
    with eval_mode(model):
        total: dict[str, Tensor] = {}
        for images, labels in batches:
            with torch.enable_grad():
                loss = F.cross_entropy(model(images), labels)
                gradients = torch.autograd.grad(loss, list(weights.values()))
            for (name, weight), g in zip(weights.items(), gradients, strict=True):
                value = of(weight.detach(), g) / len(batches)
                total[name] = total[name] + value if name in total else value
    return Scores(total, pictures)


def _activations(
    model: nn.Module,
    batches: Batches,
    of: Callable[[Prunable, Tensor, Tensor], Tensor],
) -> Scores:
    """Mean over the batches of `of(layer, input, output)` for each prunable layer, by
    parameter name."""
    pictures = _pictures(batches)
    layers = prunable_layers(model)
    names: dict[Tensor, str] = {w: name for name, w in prunable(model).items()}
    total: dict[str, Tensor] = {}

    def add(layer: str, _: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        # layers that share a weight share its name, and so its score
        name = names[layers[layer].weight]
        value = of(layers[layer], inputs[0], out) / len(batches)
        total[name] = total[name] + value if name in total else value

    with eval_mode(model), torch.no_grad(), watching(layers, add):
        for images, _ in batches:
            model(images)
    return Scores({name: total[name] for name in names.values()}, pictures)


def _channels(layer: nn.Module, values: Tensor) -> Tensor:
    """`[channels, everything else]` of a layer's input or output, be the layer linear
    or convolutional."""
    return values.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).flatten(1)
