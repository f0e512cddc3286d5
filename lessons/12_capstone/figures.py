"""The figures of lab 12: plain data in, one figure each."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from utils import plots
from utils.capstone import BUDGET, Cost
from utils.plots import Look

PICTURES = 2000  # what the accuracies were measured on


def by_bytes(tried: Mapping[str, Cost], front: Collection[str]) -> None:
    """Bytes against accuracy, all files; those on the front of the two are filled."""
    points = {
        name: (cost.bytes / 1000, 100 * cost.accuracy) for name, cost in tried.items()
    }
    figure = plots.pareto(
        points,
        list(front),
        title="Bytes against accuracy: up and to the left is better",
        x_label="file, kB (logarithmic)",
        y_label="accuracy on 2,000 validation pictures, %",
        log=True,
        box=(BUDGET.bytes / 1000, 100 * BUDGET.accuracy),
    )
    _with_errors(figure, points)
    plots.show(
        figure,
        alt="Twelve files by size and accuracy, with standard errors: thin in int8 is"
        " the smallest, cut and LeNet lie lowest, the wide VGG in floats is the"
        " largest; the most accurate ones overlap within their errors.",
    )


def by_speed(tried: Mapping[str, Cost], front: Collection[str]) -> None:
    """Speed against accuracy, the files in int8 alone."""
    points = {
        name.removesuffix(", int8"): (cost.speedup, 100 * cost.accuracy)
        for name, cost in tried.items()
        if "int8" in name
    }
    figure = plots.pareto(
        points,
        [name.removesuffix(", int8") for name in front],
        title="int8: speed against accuracy: up and to the right is better",
        x_label="times faster than the dense VGG in PyTorch, batch 1 (logarithmic)",
        y_label="accuracy on 2,000 validation pictures, %",
        log=True,
        box=(BUDGET.speedup, 100 * BUDGET.accuracy),
    )
    _with_errors(figure, points)
    plots.show(
        figure,
        alt="Six int8 files by speedup and accuracy, with standard errors: LeNet is by"
        " far the fastest but lies low, the thin VGG comes next, the wide VGG and the"
        " ResNet are slowest.",
    )


def _with_errors(figure: Figure, points: Mapping[str, tuple[float, float]]) -> None:
    """A standard error up and down at each point, and what the marks mean."""
    ax = figure.axes[0]
    for x, y in points.values():
        error = (y * (100 - y) / PICTURES) ** 0.5
        ax.plot([x, x], [y - error, y + error], color="#8A8A8A", zorder=1)
    hollow: Look = dict(marker="s", color="white", markeredgecolor=plots.PALETTE[1])
    ax.plot([], [], linestyle="", markersize=8, **hollow, label="beaten by another")
    ax.plot([], [], color="#8A8A8A", label="one standard error")
    ax.legend(loc="lower right", fontsize=9)


LOWEST = 80  # percent; what lies below is counted, not drawn
LOOKS: dict[str, tuple[str, Look]] = {  # of each search: its line, and its marks
    "random": (
        plots.PALETTE[1],
        dict(marker="s", facecolor="white", edgecolor=plots.PALETTE[1]),
    ),
    "TPE": (plots.PALETTE[0], dict(marker="o", color=plots.PALETTE[0])),
    "TPE, told the budget": (
        plots.PALETTE[2],
        dict(marker="^", color=plots.PALETTE[2]),
    ),
}
Records = Sequence[Mapping[str, Any]]


def search(
    trials: Mapping[str, Records],
    fronts: Mapping[str, Records],
    reference: Mapping[str, Any],
) -> None:
    """Every trial of each search by bytes and accuracy; large marks have many MACs.
    Each search's front is joined; the star is the course's own pipeline."""
    figure, ax = plots.axes(
        "A hundred trials each: up and to the left is better; large marks, many MACs",
        "file, kB (logarithmic)",
        "accuracy on 2,500 validation pictures, %",
        height=5.2,
    )
    for (name, records), dash in zip(trials.items(), plots.DASHES, strict=False):
        color, marks = LOOKS[name]
        x, y, sizes = _drawn(records)
        below = f"{name} ({len(records) - len(x)} more below {LOWEST}%)"
        ax.scatter(x, y, sizes, label=below, alpha=0.8, **marks)
        x, y, _ = _drawn(fronts[name])
        ax.plot(x, y, color=color, linestyle=dash, label=f"{name}: its front")
    star: Look = dict(marker="*", markersize=15, linestyle="", color="#000000")
    x, y, _ = _drawn([reference])
    ax.plot(x, y, **star, label="thin in int8")
    ax.axvline(BUDGET.bytes / 1000, **plots.REFERENCE)
    ax.axhline(100 * BUDGET.accuracy, **plots.REFERENCE, label="budget")
    plots.set_logarithmic(ax)
    ax.set_ylim(LOWEST, 95)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    plots.show(
        figure,
        alt="Trials of three searches by size and accuracy, with the front of each."
        " Those of TPE that was told the budget crowd at the upper left, in files of 12"
        " to 25 kB with 90 to 93%; those of TPE that was not and of random choice lie"
        " scattered below and to the right. The reference is about as accurate as the"
        " best of the former, and twice as large.",
    )


def _drawn(records: Records) -> tuple[list[float], list[float], list[float]]:
    """kB, percent and the size of the mark of each that is accurate enough."""
    done = [each for each in records if each["state"] == "complete"]
    high = [each for each in done if 100 * each["validation_accuracy"] >= LOWEST]
    return (
        [each["bytes"] / 1000 for each in high],
        [100 * each["validation_accuracy"] for each in high],
        [8e-6 * each["macs"] for each in high],
    )
