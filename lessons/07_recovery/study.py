"""The long runs that lab 07 quotes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from utils import masks, models
from utils.data import Data
from utils.schedules import Cubic, Iterative, OneShot
from utils.studies import (
    SEEDS,
    Magnitude,
    Prune,
    Rule,
    Run,
    Shipped,
    Start,
    Step,
    Train,
    Trained,
    Untrained,
    Work,
    study,
)
from utils.training import Recipe

LENET = Shipped("lenet300")
SHORT = Recipe(epochs=12, learning_rate=1e-3)
LONG = Recipe(epochs=24, learning_rate=1e-3)


@study
def recovery() -> Iterator[Run]:
    """LeNet-300-100 from the shipped baseline: one-shot, iterative and gradual pruning,
    12 epochs; gradual also 24."""
    for seed in SEEDS:
        for sparsity in (0.9, 0.95, 0.98):
            for method, schedule, recipe in [
                ("one-shot", OneShot(sparsity, begin=0.0), SHORT),
                ("iterative", Iterative(sparsity, begin=0.0, end=0.6), SHORT),
                ("gradual", Cubic(sparsity, end=0.6), SHORT),
                ("gradual, twice as long", Cubic(sparsity, end=0.6), LONG),
            ]:
                settings = {"method": method, "sparsity": sparsity, "seed": seed}
                yield Run(settings, LENET, (Train(recipe, seed, schedule),))


HIGH = Recipe(epochs=12, learning_rate=3e-3)


@study
def ways() -> Iterator[Run]:
    """LeNet-300-100 from the shipped baseline to 98%: one-shot, iterative and gradual
    pruning, 12 epochs with a peak learning rate of 3e-3."""
    for seed in SEEDS:
        for method, schedule in [
            ("one-shot", OneShot(0.98, begin=0.0)),
            ("iterative", Iterative(0.98, begin=0.0, end=0.6)),
            ("gradual", Cubic(0.98, end=0.6)),
        ]:
            settings = {"method": method, "sparsity": 0.98, "seed": seed}
            yield Run(settings, LENET, (Train(HIGH, seed, schedule),))


@study
def trained_on() -> Iterator[Run]:
    """The shipped LeNet-300-100, dense, trained on for as long as those that were
    pruned."""
    for seed in SEEDS:
        settings = {"method": "dense, trained on", "sparsity": 0.0, "seed": seed}
        yield Run(settings, LENET, (Train(HIGH, seed),))


@study
def shapes() -> Iterator[Run]:
    """One-shot to 95%, then four epochs: height and shape of the learning rate,
    apart."""
    for seed in SEEDS:
        # the two others are in `tuning`
        for shape, height in (
            ("constant", 1e-3),
            ("constant", 3e-3),
            ("one-cycle", 1e-4),
            ("one-cycle", 1e-3),
        ):
            recipe = Recipe(epochs=4, learning_rate=height, schedule=shape)
            settings = {"shape": shape, "height": height, "seed": seed}
            step = Train(recipe, seed, OneShot(0.95, begin=0.0))
            yield Run(settings, LENET, (step,))


def rates(epochs: int) -> dict[str, Recipe]:
    """Fine-tuning for so many epochs, by the name that the lab gives it."""
    return {
        "small and constant": Recipe(
            epochs=epochs, learning_rate=1e-4, schedule="constant"
        ),
        "rewound": Recipe(epochs=epochs, learning_rate=3e-3),
    }


@study
def tuning() -> Iterator[Run]:
    """One-shot to 95%, then fine-tuned for 1 to 16 epochs, with a small constant rate
    or with the rate rewound."""
    for seed in SEEDS:
        for method in rates(1):
            for epochs in (1, 2, 4, 8, 16):
                step = Train(rates(epochs)[method], seed, OneShot(0.95, begin=0.0))
                settings = {"method": method, "epochs": epochs, "seed": seed}
                yield Run(settings, LENET, (step,))


# ------------------------------------------------------------------------------ tickets

TICKET = Recipe(epochs=12)


@dataclass(frozen=True)
class Of:
    """The masks that a rule gives another network."""

    network: Start
    rule: Rule

    def masks(self, model: nn.Module, data: Data) -> masks.Masks:  # noqa: ARG002 (a Rule)
        return self.rule.masks(self.network.model(data), data)


@dataclass(frozen=True)
class Shuffled:
    """As many weights in each layer as a rule keeps, elsewhere."""

    rule: Rule
    seed: int

    def masks(self, model: nn.Module, data: Data) -> masks.Masks:
        generator = torch.Generator().manual_seed(self.seed)
        return {
            name: (
                mask.flatten()[torch.randperm(mask.numel(), generator=generator)]
            ).view_as(mask)
            for name, mask in self.rule.masks(model, data).items()
        }


@dataclass(frozen=True)
class SmallDense:
    """A dense LeNet with about as many weights as a pruned one: the first layer as wide
    as can be with 10 units behind it."""

    sparsity: float
    seed: int

    def model(self, data: Data) -> nn.Module:  # noqa: ARG002 (a Start)
        wanted = (1 - self.sparsity) * 266_200
        first = int((wanted - 100) // (784 + 10))
        second = round((wanted - 784 * first) / (first + 10))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return models.lenet300((first, second))


@dataclass(frozen=True)
class CountKept:
    """Note how many weights are not zero."""

    def carry_out(self, work: Work) -> None:
        work.found["kept"] = sum(
            int(weight.count_nonzero())
            for name, weight in work.model.named_parameters()
            if name.endswith("weight")
        )


def starts(sparsity: float, seed: int) -> dict[str, tuple[Start, tuple[Step, ...]]]:
    """Networks to train, and how each is pruned before, by the name that the lab gives
    it."""
    first = Untrained("lenet300", seed)
    dense = Trained(first, (Train(TICKET, seed),))
    winning = Of(dense, Magnitude(sparsity))
    return {
        "ticket: first weights again": (first, (Prune(winning),)),
        "same mask, new random weights": (
            Untrained("lenet300", seed + 100),
            (Prune(winning),),
        ),
        "mask shuffled in each layer": (first, (Prune(Shuffled(winning, seed)),)),
        "small dense network": (SmallDense(sparsity, seed), ()),
        "trained weights kept (24 epochs in all)": (dense, (Prune(winning),)),
    }


@study
def tickets() -> Iterator[Run]:
    """The lottery-ticket comparison (Frankle & Carbin 2019) at 95% and 98%, each
    trained for equally many epochs."""
    for seed in SEEDS:
        for sparsity in (0.95, 0.98):
            for method, (start, steps) in starts(sparsity, seed).items():
                yield Run(
                    {"method": method, "sparsity": sparsity, "seed": seed},
                    start,
                    (*steps, Train(TICKET, seed), CountKept()),
                )
            # the whole budget: what finding a mask has cost, too
            settings = {"method": "small dense network, 24 epochs"}
            yield Run(
                settings | {"sparsity": sparsity, "seed": seed},
                SmallDense(sparsity, seed),
                (Train(replace(TICKET, epochs=24), seed), CountKept()),
            )
        dense = Trained(Untrained("lenet300", seed), (Train(TICKET, seed),))
        settings = {"method": "dense, trained on", "sparsity": 0.0, "seed": seed}
        yield Run(settings, dense, (Train(TICKET, seed), CountKept()))
