"""The open task of lab 07: a way down to 98% within a budget of training."""

from copy import deepcopy
from typing import Any

from utils import baselines, data, measure, training
from utils.schedules import Cubic, OneShot, Schedule
from utils.tasks import Task
from utils.training import Recipe

PICTURES = 15_000


def recover(choice: Any) -> dict[str, float]:
    """Prune the shipped LeNet by a schedule and a recipe, on 15,000 pictures: its
    accuracy on the validation pictures and its sparsity, in percent, and the epochs
    that it took."""
    schedule, recipe = understood(choice)
    pictures, network = data.load(), baselines.baseline("lenet300")
    with measure.pinned(1):
        training.fit(
            network,
            pictures.train[:PICTURES],
            recipe,
            schedule=deepcopy(schedule),
            progress=False,
        )
        accuracy = training.evaluate(network, pictures.validation)
    return {
        "accuracy, %": 100 * accuracy,
        "sparsity after recovery, %": 100 * measure.sparsity(network),
        "epochs": recipe.epochs,
    }


def understood(choice: Any) -> tuple[Schedule, Recipe]:
    """The schedule and the recipe of a choice."""
    match choice:
        case (Schedule() as schedule, Recipe() as recipe):
            if recipe.epochs > 12:
                raise ValueError(f"{recipe.epochs} epochs: 12 are the most to try.")
            return schedule, recipe
    raise ValueError(
        "the choice must be a schedule and a recipe, such as"
        " (schedules.OneShot(0.98, begin=0.0), training.Recipe(epochs=4,"
        " learning_rate=1e-3))."
    )


TASK = Task(
    measure=recover,
    reference=(
        Cubic(0.98, end=0.6),
        Recipe(epochs=4, learning_rate=3e-3, batch_size=64),
    ),
    at_least={"accuracy, %": 84.6, "sparsity after recovery, %": 97.9},
    at_most={"epochs": 4},
    naive={
        "at once, small and constant": (
            OneShot(0.98, begin=0.0),
            Recipe(epochs=4, learning_rate=1e-4, schedule="constant"),
        ),
        "at once, up to 3e-3": (
            OneShot(0.98, begin=0.0),
            Recipe(epochs=4, learning_rate=3e-3),
        ),
        "gradually, up to 1e-3": (
            Cubic(0.98, end=0.6),
            Recipe(epochs=4, learning_rate=1e-3),
        ),
        "gradually, up to 3e-3": (
            Cubic(0.98, end=0.6),
            Recipe(epochs=4, learning_rate=3e-3),
        ),
        "gradually to the last step": (
            Cubic(0.98, end=1.0),
            Recipe(epochs=4, learning_rate=3e-3),
        ),
        "twice as long": (
            Cubic(0.98, end=0.6),
            Recipe(epochs=8, learning_rate=1e-3),
        ),
    },
)
