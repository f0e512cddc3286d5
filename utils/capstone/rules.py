"""The rules of the capstone: what is asked, what counts, and how many points it gives.
Used in lessons/12_capstone."""

import math
from dataclasses import dataclass

DENSE = "vgg"  # what everything is compared with
# what `make checkpoints` recorded of it: here, because no file of data/ may change what
# a point is worth
DENSE_PARAMETERS = 557_386
DENSE_ACCURACY = 0.9341  # on the test set


@dataclass(frozen=True)
class Cost:
    """What a deployed network costs and gives: bytes of its file, how much faster than
    the dense network in PyTorch at batch 1, accuracy 0..1.

    >>> Cost(bytes=50_000, speedup=12.5, accuracy=0.94)
    Cost(bytes=50000, speedup=12.5, accuracy=0.94)
    """

    bytes: int
    speedup: float
    accuracy: float


@dataclass(frozen=True)
class Budget:
    """What it may cost at most, and must give at least; the same three numbers.

    >>> budget = Budget(bytes=56_000, speedup=10.0, accuracy=0.93)
    >>> budget.met(Cost(bytes=50_000, speedup=12.5, accuracy=0.94))
    True
    """

    bytes: int
    speedup: float
    accuracy: float

    def report(self, cost: Cost) -> dict[str, tuple[float, float, bool]]:
        """By entry: what it is, what was asked, and whether that is met."""
        return {
            "bytes": (cost.bytes, self.bytes, cost.bytes <= self.bytes),
            "speedup": (cost.speedup, self.speedup, cost.speedup >= self.speedup),
            "accuracy": (cost.accuracy, self.accuracy, cost.accuracy >= self.accuracy),
        }

    def met(self, cost: Cost) -> bool:
        """Whether all three are."""
        return all(met for _, _, met in self.report(cost).values())


BUDGET = Budget(bytes=56_000, speedup=10.0, accuracy=0.93)


class Refused(ValueError):  # noqa: N818 - learners meet it by this name
    """A file that gets no score; the message says why."""


@dataclass(frozen=True)
class Score:
    """What a file costs and gives on the test set, its points, and which part of the
    budget it meets."""

    cost: Cost
    points: float
    speedup_quartiles: tuple[float, float]
    # how often the test set was opened for a score, this one and refused ones included
    opened: int

    def __str__(self) -> str:
        rows = [f"{self.points:.2f} points"]
        for name, (found, asked, met) in BUDGET.report(self.cost).items():
            spread = (
                " (quartiles {:.1f}-{:.1f})".format(*self.speedup_quartiles)
                if name == "speedup"
                else ""
            )
            verdict = "met" if met else "NOT met"
            rows.append(
                f"  {name}: {_show(name, found)}{spread}, asked {_show(name, asked)}:"
                f" {verdict}"
            )
        times = "once" if self.opened == 1 else f"{self.opened} times"
        return "\n".join([*rows, f"  The test set was opened {times} for a score."])


def _show(name: str, value: float) -> str:
    return {
        "bytes": f"{value:,.0f} bytes",
        "speedup": f"{value:.1f}x",
        "accuracy": f"{value:.2%}",
    }[name]


def points(cost: Cost) -> float:
    """One point for each halving of the bytes, one for each halving of the time; a
    tenth of a point of accuracy below the dense network costs nothing up to five of
    them, and one point each from there on.

    >>> half, whole = (points(Cost(size, 10.0, 0.93)) for size in (28_000, 56_000))
    >>> f"{half - whole:.1f} more for half of the bytes"
    '1.0 more for half of the bytes'
    """
    lost = 100 * (DENSE_ACCURACY - cost.accuracy)
    gained = math.log2(4 * DENSE_PARAMETERS / cost.bytes) + math.log2(cost.speedup)
    return round(gained - 10 * max(0.0, lost - 0.5), 2)
