"""The open task of lab 04: how many filters of each layer stay, and who chooses them,
when the work must fall and nothing is retrained."""

from collections.abc import Mapping
from typing import Any

import torch

from utils import baselines, data, measure, surgery, training
from utils.exercises import load
from utils.tasks import Task

EXAMPLE = torch.zeros(1, 1, 28, 28)
WIDTHS = {"0": 64, "3": 64, "7": 128, "10": 128, "14": 256}  # filters by layer
SCORES = ("L1 norm", "Taylor", "BatchNorm's weight", "L1 with BatchNorm", "random")
FORM = '{"score": "random", "stay": [64, 64, 128, 128, 256]}'


def achieved(choice: Any) -> dict[str, float]:
    """The VGG with so many filters left in each of its five layers, BatchNorm's
    statistics renewed with 512 training pictures, judged by 1,000 validation pictures.
    """
    score, stay = _read(choice)
    vgg, pictures = baselines.baseline("vgg"), data.load()
    study = load("04_neurons_and_filters", "study")
    ratios = {
        f"{layer}.weight": 1 - count / width
        for (layer, width), count in zip(WIDTHS.items(), stay, strict=True)
    }
    values = study.unit_scores(score, vgg, pictures, 0)
    smaller = surgery.shrink(vgg, EXAMPLE, values, ratios)
    few = pictures.train[:512]
    training.reestimate_batchnorm(smaller, [(few.images, few.labels)])
    accuracy = training.evaluate(smaller, pictures.validation[:1000])
    left = measure.macs(smaller, EXAMPLE) / measure.macs(vgg, EXAMPLE)
    return {"accuracy, %": 100 * accuracy, "work left, %": 100 * left}


def _read(choice: Any) -> tuple[str, list[int]]:
    """Who chooses, and how many filters of each layer stay."""
    if not isinstance(choice, Mapping) or choice.keys() != {"score", "stay"}:
        raise ValueError(f"my_choice must have a score and what stays, as in {FORM}.")
    score, stay = choice["score"], choice["stay"]
    if score not in SCORES:
        raise ValueError(f"score={score!r} is none of {', '.join(SCORES)}.")
    fits = isinstance(stay, (list, tuple)) and len(stay) == len(WIDTHS)
    if not fits or not all(
        isinstance(count, int) and 1 <= count <= width
        for count, width in zip(stay, WIDTHS.values(), strict=True)
    ):
        raise ValueError(
            f"stay={stay!r} must be five whole numbers, from 1 to"
            f" {', '.join(map(str, WIDTHS.values()))}."
        )
    return score, list(stay)


TASK = Task(
    measure=achieved,
    reference={"score": "BatchNorm's weight", "stay": [40, 56, 80, 90, 230]},
    at_least={"accuracy, %": 87},
    at_most={"work left, %": 55},
    naive={
        "the same share of each layer, by L1 norm": {
            "score": "L1 norm",
            "stay": [45, 45, 90, 90, 179],
        },
        "the same share of each layer, at random": {
            "score": "random",
            "stay": [45, 45, 90, 90, 179],
        },
        "the early layers whole": {
            "score": "BatchNorm's weight",
            "stay": [64, 64, 90, 64, 200],
        },
    },
)
