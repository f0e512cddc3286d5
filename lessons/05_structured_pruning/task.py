"""The open task of lab 05: a smaller ResNet within a budget, from channels and
blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from utils import baselines, data, measure, surgery, training
from utils.scores import Scores, score, unit_random
from utils.tasks import Task

EXAMPLE = torch.zeros(1, 1, 28, 28)
WIDTHS = (16, 32, 64)  # channels of the three stages
ADDED = ("0.weight", "4.0.conv2.weight", "5.0.conv2.weight")  # one of each tied set
BLOCKS = ("3.1", "4.1", "5.1")  # that can leave
SCORES = ("l1", "taylor", "random")
FORM = (
    '{"score": "l1", "added": [16, 32, 64], "inside": [16, 32, 64], "without": ["3.1"]}'
)


def achieved(choice: Any) -> dict[str, float]:
    """The ResNet without those blocks and with so many channels left: those that are
    added, and those inside the blocks, by stage. BatchNorm's statistics are renewed
    with 512 training pictures; 2,000 validation pictures judge."""
    name, added, inside, without = _read(choice)
    resnet, pictures = baselines.baseline("resnet"), data.load()
    smaller = surgery.remove_blocks(resnet, EXAMPLE, without) if without else resnet
    few = pictures.train[:512]
    batches = [(few.images, few.labels)]
    ratios = {
        layer: 1 - count / width
        for layer, count, width in zip(ADDED, added, WIDTHS, strict=True)
    }
    ratios |= {
        f"{block}.conv1.weight": 1 - inside[stage] / WIDTHS[stage]
        for stage in range(3)
        for block in (f"{stage + 3}.0", f"{stage + 3}.1")
        if block not in without
    }
    smaller = surgery.shrink(smaller, EXAMPLE, _scores(name, smaller, batches), ratios)
    training.reestimate_batchnorm(smaller, batches)
    accuracy = training.evaluate(smaller, pictures.validation[:2000])
    left = measure.macs(smaller, EXAMPLE) / measure.macs(resnet, EXAMPLE)
    return {"accuracy, %": 100 * accuracy, "work left, %": 100 * left}


def _scores(name: str, model: torch.nn.Module, batches: data.Batches) -> Scores:
    if name == "random":
        return unit_random(model, seed=0)
    return score(name, model, batches, units=True)


def _read(choice: Any) -> tuple[str, list[int], list[int], list[str]]:
    """Who chooses, the channels that stay, and the blocks that leave."""
    parts = {"score", "added", "inside", "without"}
    if not isinstance(choice, Mapping) or choice.keys() != parts:
        raise ValueError(f"my_choice must have four parts, as in {FORM}.")
    if choice["score"] not in SCORES:
        raise ValueError(f"score={choice['score']!r} is none of {', '.join(SCORES)}.")
    for part in ("added", "inside"):
        counts = choice[part]
        if not isinstance(counts, (list, tuple)) or not _fit(counts):
            raise ValueError(
                f"{part}={counts!r} must be three whole numbers, from 1 to 16, 32 and"
                " 64."
            )
    without = choice["without"]
    if not isinstance(without, (list, tuple)) or any(b not in BLOCKS for b in without):
        raise ValueError(f"without={without!r}: only {', '.join(BLOCKS)} can leave.")
    return choice["score"], list(choice["added"]), list(choice["inside"]), list(without)


def _fit(counts: Sequence[Any]) -> bool:
    """Whether there is a possible number for each stage."""
    return len(counts) == len(WIDTHS) and all(
        isinstance(count, int) and 1 <= count <= width
        for count, width in zip(counts, WIDTHS, strict=True)
    )


WHOLE = [16, 32, 64]
TASK = Task(
    measure=achieved,
    reference={"score": "l1", "added": WHOLE, "inside": [10, 20, 44], "without": []},
    at_least={"accuracy, %": 88},
    at_most={"work left, %": 66},
    naive={
        "the same share everywhere": {
            "score": "l1",
            "added": [12, 25, 50],
            "inside": [12, 25, 50],
            "without": [],
        },
        "one block": {
            "score": "l1",
            "added": WHOLE,
            "inside": WHOLE,
            "without": ["4.1"],
        },
        "at random": {
            "score": "random",
            "added": WHOLE,
            "inside": [10, 20, 44],
            "without": [],
        },
    },
)
