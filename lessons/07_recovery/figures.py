"""The figures of lab 07: each function draws one, from plain data."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from utils import plots
from utils.guesses import Guess
from utils.studies import Spread

Spreads = Mapping[str, Spread]
Look = dict[str, Any]  # options of a mark
# a look for each kind of mark: colour and shape, filled or hollow
LOOKS: tuple[Look, ...] = (
    dict(color=plots.PALETTE[0], marker="o", linestyle="none"),
    dict(color=plots.PALETTE[1], marker="s", linestyle="none", markerfacecolor="white"),
)

STARTS = {  # recorded name: row
    "trained weights kept (24 epochs in all)": "trained weights kept\n(24 epochs)",
    "ticket: first weights again": "ticket: first weights",
    "same mask, new random weights": "same mask, new weights",
    "mask shuffled in each layer": "mask shuffled",
    "small dense network": "small dense network",
    "small dense network, 24 epochs": "small dense network,\n24 epochs",
}
WAYS = {
    "one-shot": "one-shot",
    "iterative": "in five rounds",
    "gradual": "gradual",
}


def _doubling(
    title: str,
    x_label: str,
    stops: Sequence[float],
    series: Mapping[str, Sequence[Spread]],
    level: tuple[str, float],
) -> tuple[plots.Figure, Axes]:
    """Means over stops that grow by factors, each with lowest and highest."""
    figure, ax = plots.axes(title, x_label, "validation accuracy, %")
    for index, (name, spreads) in enumerate(series.items()):
        colour = plots.PALETTE[index]
        look: Look = dict(
            color=colour,
            linestyle=plots.DASHES[index],
            marker=plots.MARKERS[index],
            capsize=4,
        )
        means = [100 * each.mean for each in spreads]
        below = [100 * (each.mean - each.low) for each in spreads]
        above = [100 * (each.high - each.mean) for each in spreads]
        ax.errorbar(stops, means, yerr=[below, above], label=name, **look)
    ax.axhline(100 * level[1], label=level[0], **plots.REFERENCE)
    ax.set_xscale("log")
    ax.set_xticks(stops, [f"{stop:g}" for stop in stops])
    ax.set_xticks([], minor=True)
    ax.legend(loc="lower right")
    return figure, ax


def _said(series: Mapping[str, Sequence[Spread]]) -> str:
    return "; ".join(
        f"{name}: {', '.join(f'{100 * each.mean:.1f}' for each in spreads)}"
        for name, spreads in series.items()
    )


def tuning(
    epochs: Sequence[float], series: Mapping[str, Sequence[Spread]], dense: float
) -> None:
    """Accuracy after so many epochs of fine-tuning, for two ways to set the rate."""
    figure, _ = _doubling(
        "LeNet, one-shot to 95%, then fine-tuned (mean, lowest, highest of 3)",
        "epochs of fine-tuning (each twice the one before)",
        epochs,
        series,
        ("dense, not trained on", dense),
    )
    plots.show(
        figure,
        alt=(
            "Accuracy in percent after 1, 2, 4, 8 and 16 epochs, and dense as a dashed"
            f" line at {100 * dense:.1f}. {_said(series)}."
        ),
    )


def shapes(
    heights: Sequence[float], series: Mapping[str, Sequence[Spread]], dense: float
) -> None:
    """Accuracy after four epochs, over the height of the learning rate."""
    figure, _ = _doubling(
        "One-shot to 95%, then four epochs (mean, lowest, highest of 3)",
        "learning rate: constant, or highest of the cycle",
        heights,
        series,
        ("dense, not trained on", dense),
    )
    plots.show(
        figure,
        alt=(
            "Accuracy in percent at rates of 0.0001, 0.001 and 0.003, and dense as"
            f" a dashed line at {100 * dense:.1f}. {_said(series)}."
        ),
    )


def _panels(
    panels: Mapping[str, Mapping[str, Spreads]],
    references: Mapping[str, float],
    title: str,
) -> plots.Figure:
    """Panels side by side with the same rows; a mark a row and kind, with lowest and
    highest; references as vertical lines. Without a title the panel's own is it."""
    rows = list(
        dict.fromkeys(n for p in panels.values() for k in p.values() for n in k)
    )
    marks = max(len(kinds) for kinds in panels.values())
    each = 0.22 + 0.2 * marks  # inches of a row
    figure = plots.empty_figure(plots.WIDTH, 1.5 + each * len(rows))
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (name, kinds) in zip(grid, panels.items(), strict=True):
        for number, (kind, spreads) in enumerate(kinds.items()):
            aside = 0.28 * (number - (len(kinds) - 1) / 2)
            places = {rows.index(row) + aside: each for row, each in spreads.items()}
            _marks(ax, kind, places, LOOKS[number])
        for number, (said, value) in enumerate(references.items()):
            style = dict(plots.REFERENCE) | (dict(linestyle=":") if number else {})
            ax.axvline(100 * value, label=said, **style)
        ax.set(title=name, xlabel="validation accuracy, %")
        ax.margins(x=0.18)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
    grid[0].set_yticks(range(len(rows)), rows)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    return figure


def _marks(ax: Axes, kind: str, places: Mapping[float, Spread], look: Look) -> None:
    """A mark of one kind at each height, with its ends and its number."""
    for number, (y, each) in enumerate(places.items()):
        ends = [100 * each.low, 100 * each.high]
        ax.plot(ends, [y, y], color="black", linewidth=1.2, marker="|", zorder=1)
        label = kind if number == 0 else None
        ax.plot(100 * each.mean, y, label=label, markersize=7, zorder=2, **look)
        place: Look = dict(textcoords="offset points", va="center", fontsize=9)
        text = ax.annotate(f"{100 * each.mean:.1f}", (ends[1], y), (6, 0), **place)
        text.set_bbox(dict(facecolor="white", edgecolor="none", pad=0.5))


def _renamed(spreads: Spreads, rows: Mapping[str, str]) -> dict[str, Spread]:
    """The same spreads under the names of the rows, in their order."""
    return {row: spreads[name] for name, row in rows.items() if name in spreads}


def _in_words(panels: Mapping[str, Mapping[str, Spreads]]) -> str:
    return " ".join(
        f"{panel}, {kind}: "
        + ", ".join(
            f"{' '.join(name.split())} {100 * each.mean:.1f}"
            for name, each in spreads.items()
        )
        + "."
        for panel, kinds in panels.items()
        for kind, spreads in kinds.items()
    )


def ways(recorded: Mapping[str, Spreads], dense: float, trained_on: float) -> None:
    """Three ways to prune to 98%, at each learning rate."""
    kinds = {rate: _renamed(spreads, WAYS) for rate, spreads in recorded.items()}
    panels = {"LeNet at 98% after 12 epochs (mean, lowest, highest of 3)": kinds}
    references = {"dense, as long": trained_on, "dense, as shipped": dense}
    figure = _panels(panels, references, "")
    plots.show(
        figure,
        alt=(
            f"Rows of accuracy in percent, two marks in each. {_in_words(panels)}"
            f" Dense, trained on for as long: {100 * trained_on:.1f}; as shipped:"
            f" {100 * dense:.1f}."
        ),
    )


def tickets(panels: Mapping[float, Spreads], dense: float, trained_on: float) -> None:
    """Starts with the same number of weights, a panel for each sparsity."""
    kind = "12 epochs, where not said"
    both = {
        f"{sparsity:.0%} sparsity": {kind: _renamed(found, STARTS)}
        for sparsity, found in panels.items()
    }
    figure = _panels(
        both,
        {"dense, 12 epochs": dense, "dense, 24 epochs": trained_on},
        "The same number of weights, six starts (mean, lowest, highest of 3 seeds)",
    )
    plots.show(
        figure,
        alt=(
            "Two panels of accuracy in percent, at 95 and 98 percent sparsity, one row"
            f" a start. {_in_words(both)} Dense: after 12 epochs {100 * dense:.1f},"
            f" after 24 epochs {100 * trained_on:.1f}."
        ),
    )


def batchnorm(
    dense: float,
    cut: Mapping[str, Sequence[float]],
    mended: Mapping[str, Sequence[float]],
    guess: Guess,
) -> None:
    """Accuracy as cut and with BatchNorm measured anew, for each way to choose."""
    values = {"dense": [dense]}
    for name in cut:
        values[f"{name}, as cut"] = list(cut[name])
        values[f"{name}, BatchNorm measured anew"] = list(mended[name])
    means = {name: 100 * sum(each) / len(each) for name, each in values.items()}
    figure = plots.bars(
        means,
        title="VGG without a quarter of its filters (random: mean, range of 3)",
        x_label="accuracy on 500 validation pictures, %",
        unit="%",
        digits=1,
        errors={
            name: (100 * min(each), 100 * max(each))
            for name, each in values.items()
            if len(each) > 1
        },
        guess=guess,
    )
    said = "; ".join(f"{name} {value:.1f}" for name, value in means.items())
    plots.show(figure, alt=f"Bars of accuracy in percent: {said}.")
