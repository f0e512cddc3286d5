"""The long run that lab 05 quotes."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from utils import masks, surgery
from utils.data import Data
from utils.scores import score
from utils.studies import (
    Magnitude,
    Prune,
    Run,
    Shipped,
    Step,
    Train,
    Validate,
    Work,
    study,
)
from utils.training import Recipe

EXAMPLE = torch.zeros(1, 1, 28, 28)
RECIPE = Recipe(
    epochs=2,
    batch_size=64,
    optimizer="sgd",
    learning_rate=0.02,
    weight_decay=5e-4,
    shift=2,
    bf16=True,
)


@dataclass(frozen=True)
class TwoOfFour:
    """Of four neighbouring inputs the two largest weights stay."""

    exclude: tuple[str, ...]

    def masks(self, model: nn.Module, data: Data) -> masks.Masks:  # noqa: ARG002 (a Rule)
        return masks.nm_masks(model, 2, 4, exclude=self.exclude)


@dataclass(frozen=True)
class Shrink:
    """Remove this fraction of the channels, those of smallest L1 norm."""

    fraction: float

    def carry_out(self, work: Work) -> None:
        norms = score("l1", work.model, units=True)
        work.model = surgery.shrink(work.model, EXAMPLE, norms, self.fraction)


@dataclass(frozen=True)
class RemoveBlocks:
    """Remove residual blocks."""

    names: tuple[str, ...]

    def carry_out(self, work: Work) -> None:
        work.model = surgery.remove_blocks(work.model, EXAMPLE, list(self.names))


KINDS: dict[str, tuple[Step, ...]] = {
    "dense, trained on": (),
    "50% of the weights": (Prune(Magnitude(0.5)),),
    "2:4 pattern": (Prune(TwoOfFour(exclude=("0.weight",))),),
    "30% of the channels": (Shrink(0.3),),
    "50% of the channels": (Shrink(0.5),),
    "3 of 6 blocks": (RemoveBlocks(("3.1", "4.1", "5.1")),),
}


@study
def structured() -> Iterator[Run]:
    """Half of the ResNet's weights, channels or blocks pruned or removed, then two
    epochs of fine-tuning. One seed."""
    for kind, steps in KINDS.items():
        yield Run(
            {"kind": kind, "seed": 0},
            Shipped("resnet"),
            (*steps, Validate("before"), Train(RECIPE, 0)),
        )
