"""The figures of lesson 02."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from utils import plots

NAMES = {  # what a curve is called where all weights compete
    "magnitude": "|w|",
    "gradient": "|g|",
    "taylor": "|w*g|",
    "activation": "|w| x input",
    "random": "random, layers as |w|",
}


def adding_up(rises: Tensor, together: Mapping[int, float]) -> None:
    """What removing neurons costs one at a time, added up, and all at once."""
    counts = list(together)
    added = [float(rises[:k].sum()) for k in counts]
    figure = plots.lines(
        counts,
        {"removed at once": list(together.values()), "single rises, added up": added},
        title="Single removals do not add up",
        x_label="neurons removed of 300, the one that matters least first",
        y_label="rise of the loss",
    )
    plots.show(
        figure,
        alt=(
            "Rise of the loss over the number of neurons removed: the added single"
            " rises grow slowly; removed at once, the loss rises several times as"
            " much beyond 200 neurons."
        ),
    )


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, the mean rank for equal entries: a sample drawn with
    replacement has some."""
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values, side="left")
    return (below + np.searchsorted(ordered, values, side="right")) / 2


def interval(score: Tensor, truth: Tensor, draws: int = 400) -> tuple[float, float]:
    """95% of the rank correlations when the weights are drawn again, with
    replacement."""
    a, b = score.double().numpy(), truth.double().numpy()
    generator = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        places = generator.integers(len(a), size=len(a))
        found.append(np.corrcoef(ranks(a[places]), ranks(b[places]))[0, 1])
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def single_weights(
    tried: Mapping[str, Tensor], truth: Tensor, single: Mapping[str, float]
) -> None:
    """How well each score ranks single weights, with an interval."""
    figure = plots.bars(
        single,
        title="How well 300 single weights are ranked, with 95% intervals",
        x_label="rank correlation with the size of the true change of the loss",
        errors={name: interval(score, truth) for name, score in tried.items()},
    )
    plots.show(
        figure,
        alt=(
            "Bars of rank correlations with intervals: |w*g| highest, clearly above |g|"
            " and |w|; on other pictures |w*g| and the truth are alike; random near"
            " zero."
        ),
    )


def pruned_by_score(
    sparsities: Sequence[float],
    curves: Mapping[str, Sequence[Sequence[float]]],
    dense: float,
) -> None:
    """Accuracy over the weights that are left, a band over the draws of each score."""
    figure = plots.over_weights_left(
        "Pruned by each score, not retrained: four draws each",
        "weights left, % (logarithmic axis)",
        sparsities,
        {NAMES[name]: draws for name, draws in curves.items()},
        dense,
    )
    figure.set_size_inches(plots.WIDTH, 4.0)
    plots.show(
        figure,
        alt=(
            "Accuracy over the weights left, on a logarithmic axis, with bands: with 10"
            " percent left |w| x input is highest, then |w*g|, then |w|; |g| falls"
            " early, and the random control first."
        ),
    )


def margins(ratios: Tensor) -> None:
    """How many of its own standard errors each neuron's rise is away from zero."""
    figure, ax = plots.axes(
        "How sure is it that a neuron does harm, or helps?",
        "mean rise of the loss without the neuron, in standard errors",
        "neurons, of 300",
    )
    width = 1.96 / 8  # so that no bar lies across a dashed line
    edges = width * np.arange(-16, 33)
    numbers = ratios.clamp(-3.9, 7.8).numpy()
    ax.hist(numbers, bins=edges.tolist(), color=plots.PALETTE[5], label="measured")
    x = np.linspace(-4, 4, 161)
    bell = 300 * width * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    ax.plot(x, bell, color="black", label="if no neuron mattered at all")
    for edge in (-1.96, 1.96):
        ax.axvline(edge, **plots.REFERENCE)
    ax.legend()
    plots.show(
        figure,
        alt=(
            "Histogram of the rise of 300 neurons in standard errors, with a bell curve"
            " for no effect: to the left of -1.96 there are hardly more neurons than"
            " the curve expects; to the right there are more."
        ),
    )


def correlations(found: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """The rank correlation of each score of neurons: a group of dots for each network,
    a dot for each draw."""
    figure, ax = plots.axes(
        "How well a score ranks the neurons of three networks",
        "rank correlation with the truth",
        "",
        height=3.9,
    )
    for row, networks in enumerate(found.values()):
        for index, draws in enumerate(networks):
            places = [row + 0.22 * (index - 1)] * len(draws)
            label = ("the course's", "trained here, 1", "trained here, 2")[index]
            ax.plot(
                draws,
                places,
                linestyle="",
                color=plots.PALETTE[index],
                marker=plots.MARKERS[index],
                label=label if row == 0 else None,
            )
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(range(len(found)), list(found))
    ax.invert_yaxis()
    # a white ground, as the line at zero runs behind it
    ax.legend(loc="upper left", frameon=True, framealpha=1, edgecolor="none")
    plots.show(
        figure,
        alt=(
            "Dots of rank correlations in three groups, one for each network: within"
            " each network the Taylor scores lie highest and random near zero; the"
            " networks differ more than the draws."
        ),
    )
