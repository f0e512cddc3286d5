"""What the learner has chosen, and what the panel knows of it: two values, and the
curve that one state lies on."""

from collections.abc import Mapping
from dataclasses import dataclass

from utils.masks import LayerSparsity

NO_ANSWER = 255  # the predicted class where the outputs are NaN: never a right one


@dataclass(frozen=True)
class Controls:
    """What the learner has chosen."""

    sparsity: float = 0.0
    score: str = "magnitude"
    scope: str = "global"
    kind: str = "weights"
    network: str = "lenet300"


@dataclass(frozen=True)
class State:
    """What the panel shows for some controls. Fractions are of the dense network, which
    is 1.

    predicted: the class that the network gives each of the first pictures of the
        validation set, one byte a picture; NO_ANSWER where the outputs are NaN.
    zipped, time, time_csr: None until counted or measured.
    tuned: training pictures that the pruned network has been fine-tuned on.
    """

    controls: Controls
    predicted: bytes
    accuracy: float
    weights: float
    macs: float
    saved: float
    layers: tuple[LayerSparsity, ...]
    zipped: float | None = None
    time: float | None = None  # median time of the pruned network over the dense one's
    time_quartiles: tuple[float, float] = (0.0, 0.0)
    # the same for its sparse product; None too where there are no zeros to skip
    csr: float | None = None
    csr_quartiles: tuple[float, float] = (0.0, 0.0)
    tuned: int = 0

    @property
    def pictures(self) -> int:
        """How many pictures the accuracy rests on."""
        return len(self.predicted)

    @property
    def unanswered(self) -> int:
        """How many of them it has no answer to: its outputs are NaN."""
        return self.predicted.count(NO_ANSWER)

    @property
    def margin(self) -> float:
        """Half of the accuracy's 95% interval for a sample of so many pictures (Wilson
        1927)."""
        n, p, z = self.pictures, self.accuracy, 1.96
        return z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)


@dataclass(frozen=True)
class Curve:
    """What is known at each stop of the slider, the other controls as they are.

    states: as pruned, by stop, as far as they are known.  tuned: fine-tuned ones.
    """

    stops: tuple[float, ...]
    states: Mapping[float, State]
    tuned: Mapping[float, State]
