"""The long runs that lab 06 quotes."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from utils.masks import Masks
from utils.schedules import SET, Cubic, Movement, OneShot, RigL, Schedule
from utils.studies import SEEDS, Run, Train, Untrained, study
from utils.training import Recipe

RECIPE = Recipe(epochs=12)
HALF = replace(RECIPE, epochs=RECIPE.epochs // 2)


class EvenRigL(RigL):
    """RigL inside each neuron: all neurons of a layer hold equally many weights, within
    one, from the first step to the last; drop and grow go row by row."""

    def first_masks(self) -> Masks:
        return {
            name: top(self.random_like(mask), evenly(int(mask.sum()), len(mask)))
            for name, mask in super().first_masks().items()
        }

    def update(self, progress: float) -> Masks:
        moving = self.fraction * (1 + math.cos(math.pi * progress)) / 2
        return {
            name: exchange_in_rows(
                weight.detach(), self.masks[name], moving, self.desire(weight)
            )
            for name, weight in self.weights.items()
        }


def evenly(total: int, rows: int) -> Tensor:
    """So many weights spread over so many neurons, `[rows]`."""
    return total // rows + (torch.arange(rows) < total % rows)


def exchange_in_rows(
    weight: Tensor, mask: Tensor, fraction: float, desire: Tensor
) -> Tensor:
    """The smallest fraction of each row's weights goes, as many come by desire."""
    kept = mask.sum(1)
    moving = (fraction * kept).round().long()
    stay = top(torch.where(mask, weight.abs(), -1.0), kept - moving)
    return stay | top(torch.where(stay, -torch.inf, desire), moving)


def top(values: Tensor, each: Tensor) -> Tensor:
    """The largest of each row, as many as `each` `[rows]` says."""
    place = values.argsort(1, descending=True).argsort(1)
    return place < each[:, None]


def schedules(sparsity: float, seed: int) -> dict[str, Schedule | None]:
    """What is compared, by the name that the lab gives it."""
    return {
        "dense": None,
        "cubic": Cubic(sparsity),
        "movement": Movement(sparsity),
        "random, fixed": SET(sparsity, updates=1, begin=1.0, end=1.0, seed=seed),
        "SET": SET(sparsity, seed=seed),
        "RigL": RigL(sparsity, seed=seed),
        "RigL, 100 updates": RigL(sparsity, updates=100, seed=seed),
        "RigL inside each neuron": EvenRigL(sparsity, seed=seed),
        "cubic, shares of SET": Cubic(sparsity, scope="erdos-renyi"),
    }


@study
def dynamic() -> Iterator[Run]:
    """Ten ways to train a network at 95% sparsity, all from random weights and for
    equally many epochs."""
    for seed in SEEDS:
        start = Untrained("lenet300", seed)
        for method, schedule in schedules(0.95, seed).items():
            sparsity = schedule.sparsity if schedule else 0.0
            yield Run(
                {"method": method, "sparsity": sparsity, "seed": seed},
                start,
                (Train(RECIPE, seed, schedule),),
            )
        # each half with its own rise and fall of the learning rate
        halves = (Train(HALF, seed), Train(HALF, seed + 100, OneShot(0.95, begin=0.0)))
        method = "one-shot, then fine-tuning"
        yield Run({"method": method, "sparsity": 0.95, "seed": seed}, start, halves)
