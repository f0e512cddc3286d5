"""The open task of lab 99: how much to prune."""

from utils import baselines, data, masks, training
from utils.tasks import Task


def measure(choice: float) -> dict[str, float]:
    """How much of the network is left, and its accuracy, when so much is pruned."""
    if not isinstance(choice, float) or not 0 <= choice < 1:
        raise ValueError(f"my_choice={choice!r}: give a sparsity, 0.0 up to 1.0.")
    network = baselines.baseline("lenet300")
    masks.apply_masks(network, masks.magnitude_masks(network, choice))
    accuracy = training.evaluate(network, data.load().validation)
    return {"weights left, %": 100 * (1 - choice), "accuracy, %": 100 * accuracy}


TASK = Task(
    measure=measure,
    at_least={"accuracy, %": 85.0},
    at_most={"weights left, %": 40.0},
    reference=0.65,
    naive={"half": 0.5, "nearly all": 0.95},
)
