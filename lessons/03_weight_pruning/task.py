"""The open task of lab 03: a sparsity for each layer."""

import functools
from collections.abc import Mapping

from torch import nn

from utils import baselines, data, masks, training
from utils.tasks import Task

LAYERS = ("fc1.weight", "fc2.weight", "fc3.weight")
WHOLE = 0.92  # the sparsity that is asked for
ONE_EPOCH = training.Recipe(epochs=1, learning_rate=1e-3)


@functools.cache
def given() -> nn.Module:
    """The network that is pruned."""
    return baselines.baseline("lenet300")


def measure(choice: Mapping[str, float] | float) -> dict[str, float]:
    """What is left of the network: sparsity, and accuracy before and after one epoch
    with the zeros held. A number is one threshold for all layers."""
    if isinstance(choice, Mapping) and set(choice) != set(LAYERS):
        raise ValueError(
            f"my_choice names {', '.join(map(str, choice))}; give a sparsity for each"
            f" of {', '.join(LAYERS)}."
        )
    if not isinstance(choice, Mapping | float):
        raise ValueError(
            f"my_choice={choice!r}: give a sparsity by layer, such as"
            " {'fc1.weight': 0.9, 'fc2.weight': 0.9, 'fc3.weight': 0.9}."
        )
    pictures = data.load()
    sparsity = dict(choice) if isinstance(choice, Mapping) else choice
    chosen = masks.magnitude_masks(given(), sparsity)
    pruned = masks.masked(given(), chosen)
    before = training.evaluate(pruned, pictures.validation)
    training.fit(
        pruned,
        pictures.train,
        ONE_EPOCH,
        seed=0,
        after_step=masks.hold(pruned, chosen),
        progress=False,
    )
    return {
        "sparsity, %": 100 * masks.report(chosen)[-1].sparsity,
        "accuracy as pruned, %": 100 * before,
        "accuracy after one epoch, %": 100
        * training.evaluate(pruned, pictures.validation),
    }


TASK = Task(
    measure=measure,
    at_least={
        "sparsity, %": 100 * WHOLE,
        "accuracy as pruned, %": 65.0,
        "accuracy after one epoch, %": 87.0,
    },
    reference={"fc1.weight": 0.946, "fc2.weight": 0.75, "fc3.weight": 0.0},
    naive={
        "one threshold": WHOLE,
        "the same for all": dict.fromkeys(LAYERS, WHOLE),
        "only the output spared": {
            "fc1.weight": 0.924,
            "fc2.weight": 0.924,
            "fc3.weight": 0.0,
        },
        "only the first layer pays": {
            "fc1.weight": 0.99,
            "fc2.weight": 0.41,
            "fc3.weight": 0.0,
        },
    },
)
