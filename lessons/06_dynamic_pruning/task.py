"""The open task of lab 06: a schedule for a short training, accurate and sparse
early."""

from copy import deepcopy
from typing import Any

from utils import baselines, data, masks, measure, training
from utils.schedules import SET, Cubic, OneShot, RigL, Schedule
from utils.tasks import Task

PICTURES, RECIPE = 15_000, training.Recipe(epochs=4, batch_size=128)


def train(schedule: Any) -> dict[str, float]:
    """Train LeNet from scratch for four epochs on 15,000 pictures with this schedule:
    its accuracy on the validation pictures, the sparsity it ends with, and how many of
    the weights were there on the average of all steps, all in percent."""
    if not isinstance(schedule, Schedule):
        raise ValueError(
            f"the choice is {type(schedule).__name__}; it must be a schedule, such as"
            " schedules.Cubic(0.95, end=0.5) or an object of a class of your own."
        )
    pictures, network = data.load(), baselines.build("lenet300", seed=0)
    schedule, shares = deepcopy(schedule), []

    def count() -> None:
        shares.append(1 - masks.report(schedule.masks)[-1].sparsity)

    with measure.pinned(1):
        training.fit(
            network,
            pictures.train[:PICTURES],
            RECIPE,
            schedule=schedule,
            after_step=count,
            progress=False,
        )
        accuracy = training.evaluate(network, pictures.validation)
    return {
        "accuracy, %": 100 * accuracy,
        "sparsity at the end, %": 100 * measure.sparsity(network),
        "weights there, mean of all steps, %": 100 * sum(shares) / len(shares),
    }


TASK = Task(
    measure=train,
    reference=Cubic(0.95, end=0.6),
    at_least={"accuracy, %": 82, "sparsity at the end, %": 94.9},
    at_most={"weights there, mean of all steps, %": 20},
    naive={
        "one-shot, half-way": OneShot(0.95, begin=0.5),
        "one-shot, early": OneShot(0.95, begin=0.1),
        "cubic, as it comes": Cubic(0.95),
        "SET, sparse all the time": SET(0.95),
        "RigL, sparse all the time": RigL(0.95),
    },
)
