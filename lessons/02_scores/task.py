"""The open task of lab 02: one score for a network at two sparsities."""

import functools
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from utils import baselines, data, masks, scores, training
from utils.tasks import Task

Choice = Mapping[str, float] | Callable[..., scores.Scores]
OFFERED = ("magnitude", "gradient", "taylor", "activation")
SMALLEST = 1e-30  # a score of zero has no logarithm


@functools.cache
def given() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """The network, and the pictures that a score gets."""
    train = data.load().train
    return baselines.baseline("lenet300"), data.sample_batches(train, count=10)


def product(powers: Mapping[str, float]) -> scores.Scores:
    """The scores multiplied, each to its power: the sum of their logarithms, which
    puts the weights in the same order."""
    unknown = [name for name in powers if name not in OFFERED]
    if unknown or not powers:
        raise ValueError(
            f"my_choice names {', '.join(map(str, unknown)) or 'no score'}; give some"
            f" of {', '.join(OFFERED)}, each with its power."
        )
    network, batches = given()
    total: dict[str, Tensor] = {}
    for name, power in powers.items():
        if isinstance(power, bool) or not isinstance(power, int | float):
            raise ValueError(f"the power of {name} is {power!r}; it must be a number.")
        for key, score in scores.score(name, network, batches).items():
            part = power * score.double().clamp(min=SMALLEST).log()
            total[key] = total[key] + part if key in total else part
    return scores.Scores(total)


def measure(choice: Choice) -> dict[str, float]:
    """Validation accuracy in percent at both sparsities, not retrained."""
    network, batches = given()
    if isinstance(choice, Mapping):
        score = product(choice)
    elif callable(choice):
        score = choice(network, batches)
        if not isinstance(score, scores.Scores):
            raise ValueError("your function must return scores.Scores.")
    else:
        raise ValueError(
            f"my_choice={choice!r}: give powers by score, such as {{'magnitude': 1}},"
            " or a function of your own."
        )
    return {f"accuracy at {s:.0%} sparsity, %": accuracy(score, s) for s in (0.8, 0.95)}


def accuracy(score: scores.Scores, sparsity: float) -> float:
    """Of the network pruned so far by a score, in percent."""
    chosen = masks.masks_from_scores(score, sparsity, allow_empty=True)
    pruned = masks.masked(given()[0], chosen)
    return 100 * training.evaluate(pruned, data.load().validation)


def large_for_its_layer(model: nn.Module, _batches: object) -> scores.Scores:
    """Magnitude over the mean magnitude of the layer."""
    sizes = scores.magnitude(model)
    return scores.Scores({name: size / size.mean() for name, size in sizes.items()})


TASK = Task(
    measure=measure,
    at_least={
        "accuracy at 80% sparsity, %": 84.5,
        "accuracy at 95% sparsity, %": 73.0,
    },
    reference={"activation": 2, "taylor": 1, "magnitude": 1},
    naive={
        **{f"{name} alone": {name: 1} for name in OFFERED},
        "size times slope": {"magnitude": 1, "gradient": 1},
        "large for its layer": large_for_its_layer,
        "all alike": dict.fromkeys(OFFERED, 1),
    },
)
