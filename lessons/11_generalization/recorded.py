"""What the study of lab 11 found, as the lab asks for it (`make results
ARGS=generalization` writes it)."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from utils import data, studies
from utils.studies import Spread

LEVELS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
SETTINGS = {
    "right labels": "2,000 pictures",
    "wrong labels": "2,000 pictures, 30% wrong labels",
}
# networks on all pictures: how they are found in the study
KINDS: dict[str, dict[str, object]] = {
    "dense": {"method": "pruned", "sparsity": 0.0},
    "95% pruned": {"method": "pruned", "sparsity": 0.95},
    "98% pruned": {"method": "pruned", "sparsity": 0.98},
    **{
        f"{units} hidden units": {"method": f"{units} hidden units"}
        for units in (6, 8, 12, 20, 32)
    },
}


def along(labels: str, entry: str) -> dict[float, Spread]:
    """Mean, lowest and highest of an entry at each sparsity, over three seeds.

    Args:
        labels: "right labels" or "wrong labels".
    """
    where = {"setting": SETTINGS[labels], "method": "pruned"}
    return {
        level: studies.spread("generalization", entry, **where, sparsity=level)
        for level in LEVELS
    }


def noise() -> dict[str, dict[float, Spread]]:
    """What pruning does where 30% of the labels are wrong: three curves by name."""
    entries = {
        "validation pictures, right": "validation_accuracy",
        "wrong labels, by heart": "memorised",
        "wrong labels, answered rightly": "righted",
    }
    return {name: along("wrong labels", entry) for name, entry in entries.items()}


def remedies(labels: str) -> dict[str, list[float]]:
    """For each remedy the validation accuracy of three seeds, in percent."""
    setting = SETTINGS[labels]
    pruned = along(labels, "validation_accuracy")
    best = max(LEVELS[1:], key=lambda level: pruned[level].mean)
    dense, cut = (
        studies.runs("generalization", setting=setting, method="pruned", sparsity=level)
        for level in (0.0, best)
    )
    decayed = studies.runs("generalization", setting=setting, method="weight decay")
    found = {
        "dense": [run["validation_accuracy"] for run in dense],
        f"pruned, {best:.0%}": [run["validation_accuracy"] for run in cut],
        "weight decay": [run["validation_accuracy"] for run in decayed],
        "early stopping": [max(run["first_half"]) for run in dense],
    }
    return {name: [100 * value for value in each] for name, each in found.items()}


def answers(kind: str, seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> Tensor:
    """The answers to the validation pictures, of the networks of these seeds:
    `[networks, pictures]`. kind: one of KINDS."""
    runs = studies.runs("generalization", setting="all pictures", **KINDS[kind])
    digits = {run["seed"]: run["predictions"] for run in runs}
    return torch.tensor([[int(digit) for digit in digits[seed]] for seed in seeds])


def class_accuracy(answers: Tensor) -> Tensor:
    """Of the pictures of each class, the percentage answered rightly: `[networks,
    pictures]` -> `[networks, 10]`."""
    labels = data.load().validation.labels
    right = (answers == labels).float()
    classes = [right[:, labels == label].mean(1) for label in range(10)]
    return 100 * torch.stack(classes, dim=1)


def others() -> dict[str, Tensor]:
    """The answers of populations of three, to compare with the first three dense
    networks: `[3, pictures]` each."""
    kinds = {"never pruned, 8 units": "8 hidden units"}
    names = ("95% pruned", "98% pruned", *kinds)
    pruned = {name: answers(kinds.get(name, name), (0, 1, 2)) for name in names}
    return {"dense, other starts": answers("dense", (3, 4, 5))} | pruned


def lost(label: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Points that each kind of network lost against the dense one of the same seed: on
    all pictures, and on those of one class, `[networks]` each."""
    labels = data.load().validation.labels
    found = {}
    for kind in KINDS:
        said = answers(kind)
        all_right = 100 * (said == labels).float().mean(1)
        found[kind] = (all_right, class_accuracy(said)[:, label])
    whole, one = found.pop("dense")
    return {name: (whole - a, one - b) for name, (a, b) in found.items()}


def at_equal_accuracy(lost: Mapping[str, tuple[Tensor, Tensor]], kind: str) -> Tensor:
    """What small dense networks lose on the class where they lose as much on all
    pictures as each network of this kind: `[networks]`, read off the line through the
    means of the sizes."""
    small = [both for name, both in lost.items() if "units" in name]
    line = sorted((float(x.mean()), float(y.mean())) for x, y in small)
    x, y = zip(*line, strict=True)
    return torch.from_numpy(np.interp(lost[kind][0].numpy(), x, y))
