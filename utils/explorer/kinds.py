"""The ways to prune that the explorer offers. To add one: a subclass of `Kind`, and its
line in KINDS."""

import copy
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from torch import nn

from utils import surgery
from utils.channels import follow
from utils.explorer.state import Controls
from utils.explorer.subject import Subject
from utils.layers import prunable
from utils.masks import masked, masks_from_scores, nm_masks
from utils.scores import SCORES, UNIT_SCORES

STOPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
GROUP = 4  # M of N:M


class Kind:
    """One way to prune.

    zeros: whether it leaves zeros in tensors of the old size; else they are smaller.
    functions: those behind its scores, by name; none for a kind that ranks otherwise.
    units: whether they score whole units.
    """

    label = ""
    axis = "sparsity in %"
    scopes: tuple[str, ...] = ("global", "layerwise")
    zeros = True
    functions: Mapping[str, Callable] = MappingProxyType({})
    units = False

    def scores(self) -> Sequence[str]:
        """The scores that the learner can choose from."""
        return list(self.functions)

    def rule(self, score: str) -> Callable | None:
        """The function behind a score; None where there is none."""
        return self.functions.get(score)

    def has_score(self, subject: Subject, score: str) -> bool:
        """Whether no score has to be computed first."""
        return not self.functions or subject.has_score(score, units=self.units)

    def remark(self, subject: Subject, score: str) -> str:
        """What is to be said of that score once it is computed; mostly empty."""
        if not self.functions:
            return ""
        return subject.score_remark(score, units=self.units)

    def stops(self, subject: Subject) -> tuple[float, ...]:
        """The fractions that the slider stops at; the first is 0. Raises ValueError if
        there is nothing to prune."""
        prunable(subject.dense)
        return STOPS

    def say(self, _: Subject, stop: float, /) -> str:
        """A stop in words."""
        return f"{100 * stop:g}%"

    def tick(self, _: Subject, stop: float, /) -> str:
        """A stop on the axis of the curve."""
        return f"{100 * stop:g}"

    def prune(self, subject: Subject, controls: Controls) -> nn.Module:
        """A pruned copy of the subject's network."""
        raise NotImplementedError


class Weights(Kind):
    """Single weights, wherever they are, set to zero."""

    label = "single weights"
    functions = SCORES

    def prune(self, subject: Subject, controls: Controls) -> nn.Module:
        scores = subject.scores(controls.score, units=self.units)
        masks = masks_from_scores(
            scores, controls.sparsity, scope=controls.scope, allow_empty=True
        )
        return masked(subject.dense, masks)


class Pattern(Kind):
    """Of each four neighbouring inputs of a unit, n stay."""

    label = "N:M pattern"
    axis = "inputs kept of each four"
    scopes = ("in each group",)

    def scores(self) -> Sequence[str]:
        return ["magnitude"]

    def stops(self, subject: Subject) -> tuple[float, ...]:
        if not set(prunable(subject.dense)) - set(self._unfit(subject)):
            raise ValueError(f"no layer has a number of inputs that {GROUP} divides.")
        return tuple(gone / GROUP for gone in range(GROUP))

    def say(self, _: Subject, stop: float, /) -> str:
        return f"{round(GROUP * (1 - stop))}:{GROUP}"

    tick = say

    def prune(self, subject: Subject, controls: Controls) -> nn.Module:
        if controls.sparsity == 0:
            return copy.deepcopy(subject.dense)
        kept = round(GROUP * (1 - controls.sparsity))
        return masked(
            subject.dense,
            nm_masks(subject.dense, kept, GROUP, exclude=self._unfit(subject)),
        )

    def _unfit(self, subject: Subject) -> list[str]:
        return [
            name
            for name, weight in prunable(subject.dense).items()
            if weight.shape[1] % GROUP
        ]


class Channels(Kind):
    """Neurons, filters, channels: whole units leave, with everything tied to them."""

    label = "neurons or channels, removed"
    axis = "units removed, %"
    scopes = ("layerwise", "global")
    zeros = False
    functions = UNIT_SCORES
    units = True

    def stops(self, subject: Subject) -> tuple[float, ...]:
        smallest = min((len(units) for units in self._sets(subject)), default=0)
        if smallest < 2:
            raise ValueError("no layer has units that can leave.")
        return tuple(stop for stop in STOPS if round(stop * smallest) < smallest)

    def prune(self, subject: Subject, controls: Controls) -> nn.Module:
        scores = subject.scores(controls.score, units=self.units)
        return surgery.shrink(
            subject.dense,
            subject.example,
            scores,
            controls.sparsity,
            scope=controls.scope,
            least=1,
        )

    def _sets(self, subject: Subject) -> list:
        return list(follow(subject.dense, subject.example).sets().values())


class Blocks(Kind):
    """Whole residual blocks or layers that keep the shape: the input passes
    unchanged."""

    label = "whole blocks, removed"
    axis = "blocks removed"
    scopes = ("whole network",)
    zeros = False

    def scores(self) -> Sequence[str]:
        return ["loss without it", "first to last", "last to first"]

    def stops(self, subject: Subject) -> tuple[float, ...]:
        count = len(subject.blocks)
        if not count:
            raise ValueError("no block or layer puts out the shape that it gets.")
        return tuple(gone / count for gone in range(count + 1))

    def say(self, subject: Subject, stop: float, /) -> str:
        return f"{round(stop * len(subject.blocks))} of {len(subject.blocks)}"

    def tick(self, subject: Subject, stop: float, /) -> str:
        return str(round(stop * len(subject.blocks)))

    def prune(self, subject: Subject, controls: Controls) -> nn.Module:
        order = list(subject.blocks)
        if controls.score == "loss without it":
            order.sort(key=subject.block_losses.__getitem__)
        elif controls.score == "last to first":
            order.reverse()
        gone = order[: round(controls.sparsity * len(order))]
        return surgery.remove_blocks(subject.dense, subject.example, gone)


KINDS: dict[str, Kind] = {
    "weights": Weights(),
    "nm": Pattern(),
    "channels": Channels(),
    "blocks": Blocks(),
}
