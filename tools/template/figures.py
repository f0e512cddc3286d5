"""The figures of lab 99: what they show comes in as plain numbers."""

from collections.abc import Mapping

from torch import Tensor

from utils import plots


def layers(zeros: Mapping[str, float], guess: plots.Guess) -> None:
    """The percentage of zeros in each layer."""
    plots.show(
        plots.bars(
            zeros, title="Zeros in each layer", x_label="zeros", unit="%", guess=guess
        ),
        alt=(
            "Bars of the fraction of zeros in three layers: over half in the first,"
            " less in the second, least in the last."
        ),
    )


def weights(weight: Tensor) -> None:
    """The weights of a layer."""
    plots.show(
        plots.histogram(
            {"weights of the last layer": weight},
            title="The last layer after pruning",
            x_label="weight",
        ),
        alt=(
            "Histogram of the last layer's weights: a high bar at zero, two hills"
            " beside it."
        ),
    )
