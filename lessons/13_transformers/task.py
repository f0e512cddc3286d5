"""The open task of lab 13: two fifths of a transformer's weights."""

import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from utils import baselines, data, masks, scores, text, training
from utils.arguments import one_of
from utils.refit import refit
from utils.tasks import Task

KINDS = ("query", "key", "value", "out", "up", "down")
KEYS = {"score", "scope", "sparsity", "shares", "windows", "refit"}


@functools.cache
def given() -> tuple[nn.Module, data.Split, float]:
    """The network, the windows it is judged on, and its loss on them."""
    network, windows = baselines.baseline("gpt"), text.load().validation[::9]
    return network, windows, float(training.losses(network, windows).mean())


def read(choice: Any) -> dict[str, Any]:
    """The choice with what it leaves out, checked."""
    if not isinstance(choice, Mapping) or not {"score", "sparsity"} <= set(choice):
        raise ValueError(
            f"my_choice={choice!r}: give a dict with at least 'score' and 'sparsity',"
            " such as {'score': 'magnitude', 'sparsity': 0.6}."
        )
    if unknown := set(choice) - KEYS:
        raise ValueError(f"my_choice has {unknown}; it can have {sorted(KEYS)}.")
    full = {"scope": "layerwise", "shares": None, "windows": 8, "refit": False}
    full |= choice
    one_of("score", full["score"], scores.SCORES)
    windows = full["windows"]
    if not isinstance(windows, int) or not 1 <= windows <= 64:
        raise ValueError(f"windows={windows!r} must be a whole number from 1 to 64.")
    return full


def sparsities(sparsity: Any, names: Mapping[str, Tensor]) -> dict[str, float]:
    """The sparsity of each layer, from one for each kind."""
    if set(sparsity) != set(KINDS):
        raise ValueError(
            f"sparsity names {', '.join(map(str, sparsity))}; give one for each of"
            f" {', '.join(KINDS)}."
        )
    return {name: sparsity[name.split(".")[-2]] for name in names}


def chosen_masks(choice: Mapping[str, Any], batches: data.Batches) -> masks.Masks:
    """The masks of a choice."""
    network, sparsity = given()[0], choice["sparsity"]
    score = scores.score(choice["score"], network, batches)
    if choice["shares"] is not None:
        leading = scores.score(choice["shares"], network, batches)
        rows = masks.report(masks.masks_from_scores(leading, sparsity))[:-1]
        sparsity = {row.name: row.sparsity for row in rows}
    elif isinstance(sparsity, Mapping):
        sparsity = sparsities(sparsity, score)
    return masks.masks_from_scores(score, sparsity, scope=choice["scope"])


def measure(choice: Any) -> dict[str, float]:
    """What is left of the weights, by how much the loss rises, what was read."""
    full = read(choice)
    network, windows, dense = given()
    train = text.load().train
    batches = data.sample_batches(train, count=full["windows"], batch_size=1)
    kept = chosen_masks(full, batches)
    pruned = (
        refit(network, kept, batches) if full["refit"] else masks.masked(network, kept)
    )
    return {
        "weights left, %": 100 * (1 - masks.report(kept)[-1].sparsity),
        "rise of the loss, nats": training.losses(pruned, windows).mean().item()
        - dense,
        "windows read": full["windows"],
    }


MAGNITUDE = {"score": "magnitude", "sparsity": 0.6}
TASK = Task(
    measure=measure,
    at_most={
        "weights left, %": 40.1,
        "rise of the loss, nats": 0.12,
        "windows read": 16,
    },
    reference={
        "score": "activation",
        "sparsity": 0.6,
        "windows": 16,
        "refit": True,
    },
    naive={
        "magnitude": MAGNITUDE,
        "magnitude, refitted": {**MAGNITUDE, "refit": True},
        "what w*g would take of each layer": {**MAGNITUDE, "shares": "taylor"},
        "Wanda": {"score": "activation", "scope": "unit", "sparsity": 0.6},
        "w*g, all weights compete": {
            "score": "taylor",
            "scope": "global",
            "sparsity": 0.6,
        },
    },
)
