"""The figures of lab 06: each function draws one, from plain data."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from utils import plots
from utils.studies import Spread

# the rows of the study, families together, each beside its control
ROWS = {
    "dense": "dense",
    "cubic": "dense first: cubic",
    "cubic, shares of SET": "cubic, shares of SET",
    "one-shot, then fine-tuning": "dense first: one-shot",
    "movement": "dense first: movement",
    "random, fixed": "always sparse: random, fixed",
    "SET": "always sparse: SET",
    "RigL": "always sparse: RigL",
    "RigL, 100 updates": "RigL, 100 updates",
    "RigL inside each neuron": "RigL inside each neuron",
}


def study(found: Mapping[str, Spread], methods: Sequence[str]) -> None:
    """Accuracy of these methods after twelve epochs; the control as a dashed line."""
    spreads = {ROWS[method]: found[method] for method in methods}
    dense = " or dense" if "dense" in methods else ""
    figure = plots.dots(
        {name: 100 * each.mean for name, each in spreads.items()},
        {name: (100 * each.low, 100 * each.high) for name, each in spreads.items()},
        title=f"LeNet, 95% sparse{dense}: mean and range of 3 seeds",
        x_label="validation accuracy after 12 epochs, % (dashed: random, fixed)",
        unit="%",
    )
    control = 100 * found["random, fixed"].mean
    figure.axes[0].axvline(control, zorder=0, **plots.REFERENCE)
    for number in figure.axes[0].texts:  # above the dashed line
        number.set_bbox(dict(facecolor="white", edgecolor="none", pad=0.6))
    said = "; ".join(f"{name} {100 * s.mean:.2f}" for name, s in spreads.items())
    plots.show(
        figure,
        alt=(
            "Rows of mean accuracy in percent with the spread of three seeds; a dashed"
            f" line marks random masks that never move. {said}."
        ),
    )


def neurons(per_neuron: Mapping[str, Sequence[int]]) -> None:
    """Weights of each neuron of the first layer, those with most first."""
    total = sum(next(iter(per_neuron.values())))
    figure = plots.lines(
        range(1, 301),
        per_neuron,
        title="Weights of each neuron of the first layer",
        x_label="the 300 neurons, those with most weights first",
        y_label="weights, of 784",
        level=("shared evenly", total / 300),
        y_limits=(0, 784),
    )
    plots.show(
        figure,
        alt=(
            "Weights of each of 300 neurons, sorted. RigL's line begins at hundreds of"
            " weights and falls steeply below the dashed even share; SET's line lies"
            " near the even share for most neurons."
        ),
    )


def pixels(first: Tensor, last: Tensor, shares: Sequence[float]) -> None:
    """Two maps of the first layer's weights, and how much of them lies on the
    border."""
    figure = plots.maps(
        {
            f"first step: border {shares[0]:.0%}": first,
            f"last step: border {shares[1]:.0%}": last,
        },
        title="RigL: weights at each of the 28 x 28 input pixels",
        label="weights, of 300",
    )
    plots.show(
        figure,
        alt=(
            "Two maps of 28 by 28 input pixels. At the first step an even grey; at the"
            " last step dark in the middle and pale at the sides. The border of three"
            f" pixels holds {shares[0]:.0%} of the weights at first and"
            f" {shares[1]:.0%} at the end."
        ),
    )


def border(steps: Sequence[int], shares: Mapping[str, Sequence[float]]) -> None:
    """The part of the first layer's weights that looks at the border, over time."""
    figure = plots.lines(
        steps,
        shares,
        title="Weights of the first layer that look at the border of 3 pixels",
        x_label="optimizer step",
        y_label="% of the layer's weights",
        percent=True,
        y_limits=(0, 50),
    )
    plots.show(
        figure,
        alt=(
            "The share of weights at the border over the steps of two epochs: both SET"
            " and RigL begin at the border's share of the pixels and fall."
        ),
    )
