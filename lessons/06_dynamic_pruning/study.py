"""The long runs that lab 06 quotes."""

from collections.abc import Iterator
from dataclasses import replace

from utils.schedules import SET, Cubic, Movement, OneShot, RigL, Schedule
from utils.studies import SEEDS, Run, Train, Untrained, study
from utils.training import Recipe

RECIPE = Recipe(epochs=12)
HALF = replace(RECIPE, epochs=RECIPE.epochs // 2)


def schedules(sparsity: float, seed: int) -> dict[str, Schedule | None]:
    """What is compared, by the name that the lab gives it."""
    return {
        "dense": None,
        "cubic": Cubic(sparsity),
        "movement": Movement(sparsity),
        "random, fixed": SET(sparsity, updates=1, begin=1.0, end=1.0, seed=seed),
        "SET": SET(sparsity, seed=seed),
        "RigL": RigL(sparsity, seed=seed),
    }


@study
def dynamic() -> Iterator[Run]:
    """Seven ways to train a network at 95% sparsity, all from random weights and for
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
