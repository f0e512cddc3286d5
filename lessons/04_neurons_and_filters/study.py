"""The long runs that lab 04 quotes: which filters leave, and whether the choice
mattered."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from utils import surgery, training
from utils.data import Data, Split
from utils.scores import score, unit_random
from utils.studies import Run, Shipped, Step, Train, Work, study
from utils.training import Recipe

EXAMPLE = torch.zeros(1, 1, 28, 28)
FEW = 1024  # training pictures that Taylor and BatchNorm see
DRAWS = (0, 1, 2, 3, 4)
CUTS = (("vgg", 0.5), ("resnet", 0.3))


def normed(model: nn.Module) -> dict[str, tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution with the BatchNorm behind it, by parameter name; in the
    course's networks that is the next module."""
    modules = list(model.named_modules())
    return {
        f"{name}.weight": (module, behind)
        for (name, module), (_, behind) in pairwise(modules)
        if isinstance(module, nn.Conv2d) and isinstance(behind, nn.BatchNorm2d)
    }


def variance(norm: nn.BatchNorm2d) -> Tensor:
    """The variance that it has stored."""
    assert norm.running_var is not None
    return norm.running_var


def gamma(model: nn.Module) -> dict[str, Tensor]:
    """`|weight|` of the BatchNorm behind each filter (Liu et al. 2017)."""
    return {
        name: norm.weight.detach().abs() for name, (_, norm) in normed(model).items()
    }


def folded(model: nn.Module) -> dict[str, Tensor]:
    """L1 norm of each filter with its BatchNorm multiplied into it: the same for all
    filters that differ only in scale before their BatchNorm."""
    return {
        name: conv.weight.detach().abs().flatten(1).sum(1)
        * norm.weight.detach().abs()
        / (variance(norm) + norm.eps).sqrt()
        for name, (conv, norm) in normed(model).items()
    }


def unit_scores(
    name: str, model: nn.Module, data: Data, draw: int
) -> dict[str, Tensor]:
    """The score of each filter, by the name that the lab gives it."""
    few = data.train[:FEW]
    batches = list(zip(few.images.split(64), few.labels.split(64), strict=True))
    l1 = score("l1", model, units=True)
    if name == "random":
        return unit_random(model, seed=draw)
    if name == "Taylor":
        return score("taylor", model, batches, units=True)
    # the classifier's units cannot leave; any score will do
    return {
        "L1 norm": l1,
        "BatchNorm's weight": {**l1, **gamma(model)},
        "L1 with BatchNorm": {**l1, **folded(model)},
    }[name]


# -------------------------------------------------------------------------- the parts


@dataclass(frozen=True)
class Cut:
    """Remove this fraction of the filters of each layer, those of lowest score."""

    score: str
    fraction: float
    draw: int

    def carry_out(self, work: Work) -> None:
        values = unit_scores(self.score, work.model, work.data, self.draw)
        work.model = surgery.shrink(work.model, EXAMPLE, values, self.fraction)


@dataclass(frozen=True)
class Note:
    """Note the accuracy on the first 1,000 validation pictures under this name."""

    entry: str

    def carry_out(self, work: Work) -> None:
        accuracy = training.evaluate(work.model, work.data.validation[:1000])
        work.found[self.entry] = round(accuracy, 4)


@dataclass(frozen=True)
class Reestimate:
    """Give each BatchNorm the statistics of what it gets now."""

    def carry_out(self, work: Work) -> None:
        few = work.data.train[:FEW]
        batches = zip(few.images.split(256), few.labels.split(256), strict=True)
        training.reestimate_batchnorm(work.model, batches)
        norms = [m for m in work.model.modules() if isinstance(m, nn.BatchNorm2d)]
        work.signs.append(sum(variance(norm).sqrt().sum().item() for norm in norms))


@dataclass(frozen=True)
class First:
    """The first so many training pictures."""

    count: int

    def of(self, data: Data) -> Split:
        return data.train[: self.count]


# ------------------------------------------------------------------------- the studies

SCORES = ("L1 norm", "BatchNorm's weight", "L1 with BatchNorm", "Taylor")
RECIPE = Recipe(
    epochs=1,
    batch_size=64,
    optimizer="sgd",
    learning_rate=0.02,
    weight_decay=5e-4,
    shift=2,
    bf16=True,
)


@study
def filters() -> Iterator[Run]:
    """Filters of the VGG and the ResNet removed by several scores and at random: the
    accuracy as cut, and with BatchNorm re-estimated. No training."""
    each = [(name, 0) for name in SCORES] + [("random", draw) for draw in DRAWS]
    for network, fraction in CUTS:
        for name, draw in each:
            steps: tuple[Step, ...] = (
                Cut(name, fraction, draw),
                Note("as cut"),
                Reestimate(),
                Note("validation_accuracy"),
            )
            settings = {"network": network, "removed": fraction, "score": name}
            yield Run(settings | {"seed": draw}, Shipped(network), steps)


@study
def filters_tuned() -> Iterator[Run]:
    """Half of the VGG's filters removed, by L1 norm and at random, then one pass over
    10,000 training pictures, with one recipe. One seed."""
    for name in ("L1 norm", "random"):
        yield Run(
            {"network": "vgg", "removed": 0.5, "score": name, "seed": 0},
            Shipped("vgg"),
            (Cut(name, 0.5, 0), Train(RECIPE, 0)),
            First(10_000),
        )
