"""The figures of lab 01 and of what goes further."""

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullLocator

from utils import plots
from utils.measure import Difference, EnergyEstimate, Timing


def learning_curve(accuracies: Sequence[float]) -> None:
    """Accuracy before training and after each epoch."""
    figure = plots.lines(
        range(len(accuracies)),
        {"validation pictures": accuracies},
        title=f"From {accuracies[0]:.0%} to {accuracies[1]:.0%} in one epoch",
        x_label="epoch",
        y_label="accuracy, %",
        percent=True,
        y_limits=(0, 100),
    )
    inset = figure.axes[0].inset_axes((0.42, 0.18, 0.55, 0.5))
    inset.plot(
        range(1, len(accuracies)),
        [100 * accuracy for accuracy in accuracies[1:]],
        color=plots.PALETTE[0],
        marker="o",
        markersize=4,
    )
    inset.set_title("epochs 1 and later, enlarged", fontsize=9.5)
    plots.show(
        figure,
        alt=(
            f"Learning curve: {accuracies[0]:.0%} before training, {accuracies[1]:.0%}"
            f" after one epoch, {accuracies[-1]:.1%} after the last. A second panel"
            " enlarges what comes after the first epoch."
        ),
    )


def seeds(accuracies: Mapping[str, Sequence[float]]) -> None:
    """A row of dots for each method, a dot for each seed."""
    figure, ax = plots.axes(
        "Each dot is one seed, in both rows from 1 (above) to 10",
        "validation accuracy after four epochs, % (the axis does not start at zero)",
        "",
        height=2.6,
    )
    for row, values in enumerate(accuracies.values()):
        rows = [row + 0.06 * (place - 4.5) for place in range(len(values))]
        look: plots.Look = dict(color=plots.PALETTE[row], marker=plots.MARKERS[row])
        ax.plot([100 * value for value in values], rows, linestyle="", **look)
        ax.plot([100 * mean(values)] * 2, [row - 0.36, row + 0.36], color="black")
    ax.set_yticks(range(len(accuracies)), list(accuracies))
    ax.set_ylim(len(accuracies) - 0.4, -0.6)
    described = "; ".join(
        f"{method}: from {min(values):.2%} to {max(values):.2%}, mean"
        f" {mean(values):.2%}"
        for method, values in accuracies.items()
    )
    plots.show(
        figure,
        alt=f"Two rows of ten dots, a black line at the mean of each. {described}.",
    )


def pairs(differences: Sequence[Difference]) -> None:
    """Mirrored minus not mirrored, seed by seed, each with its paired margin."""
    figure, ax = plots.axes(
        "Mirrored minus not mirrored, on the same pictures",
        "difference of the accuracies, points (line: paired margin)",
        "seed",
        height=3.2,
    )
    for row, (gain, margin) in enumerate(differences, 1):
        ends = [100 * (gain - margin), 100 * (gain + margin)]
        ax.plot(ends, [row, row], color="black", linewidth=1.2, marker="|")
        ax.plot(100 * gain, row, markersize=7, **_HOLDS[abs(gain) <= margin])
    ax.axvline(0, **plots.REFERENCE)
    middle = 100 * mean(gain for gain, _ in differences)
    ax.axvline(middle, color="black", linestyle=":", label=f"mean {middle:.2f} points")
    for holds, label in ((True, "margin holds 0"), (False, "margin does not hold 0")):
        ax.plot([], [], label=label, **_HOLDS[holds])
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    ax.set_yticks(range(1, len(differences) + 1))
    ax.invert_yaxis()
    outside = sum(abs(gain) > margin for gain, margin in differences)
    plots.show(
        figure,
        alt=(
            "Ten differences, one a seed, with their margins; the mean is"
            f" {middle:.2f} points. For {outside} of the ten the margin does not hold"
            " zero."
        ),
    )


_HOLDS: dict[bool, plots.Look] = {
    True: dict(color=plots.PALETTE[0], marker="o", linestyle=""),
    False: dict(color=plots.PALETTE[1], marker="s", linestyle=""),
}


def noise(seconds: Sequence[float]) -> None:
    """Times of the same work, in order, on a logarithmic axis; the first is marked."""
    micro = [1e6 * each for each in seconds]
    figure, ax = plots.axes(
        f"The same work {len(micro)} times: the slowest run took"
        f" {max(micro) / min(micro):.0f} times the fastest",
        "run",
        "microseconds (logarithmic)",
    )
    ax.plot(range(2, len(micro) + 1), micro[1:], ".", color=plots.PALETTE[0])
    ax.plot(1, micro[0], marker="D", color=plots.PALETTE[1], label="the first run")
    ax.axhline(sorted(micro)[len(micro) // 2], **plots.REFERENCE, label="median")
    ax.set_yscale("log")
    _plain_numbers(ax.yaxis)
    ax.legend()
    plots.show(
        figure,
        alt=(
            f"Times of {len(micro)} runs of the same work: the first took"
            f" {micro[0]:,.0f} microseconds, the median is"
            f" {sorted(micro)[len(micro) // 2]:,.0f}, the slowest"
            f" {max(micro):,.0f}."
        ),
    )


def _plain_numbers(axis: Axis) -> None:
    """Marks 1, 2, 5, 10, ... on a logarithmic axis, without powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_locator(NullLocator())


def copies(timings: Mapping[str, Timing]) -> None:
    """How each copy of one network compares with the first: median and quartiles."""
    figure, ax = plots.axes(
        "One network under twelve names, in one race",
        "time over that of the first copy (line: quartiles)",
        "copy",
        height=3.4,
    )
    for row, timing in enumerate(timings.values(), 1):
        low, high = (min(end, 2) for end in timing.relative_quartiles)
        ax.plot([low, high], [row, row], color="black", linewidth=1.2, marker="|")
        ax.plot(timing.relative, row, color=plots.PALETTE[0], marker="o", markersize=7)
    ax.axvline(1, **plots.REFERENCE)
    ax.set_xlim(0, 2)
    ax.set_yticks(range(1, len(timings) + 1))
    ax.invert_yaxis()
    medians = [timing.relative for timing in timings.values()]
    plots.show(
        figure,
        alt=(
            f"Twelve dots, medians of the time over that of the first copy, from"
            f" {min(medians):.2f} to {max(medians):.2f}; a line of quartiles for each."
        ),
    )


def batches(timings: Mapping[str, Timing], sizes: Mapping[str, int]) -> None:
    """Microseconds a picture by size of the batch: median and quartiles, on a
    logarithmic axis."""
    figure, ax = plots.axes(
        "The same picture, alone and in company",
        "microseconds a picture, logarithmic (line: quartiles; one thread)",
        "",
        height=2.9,
    )
    medians = {name: 1e6 * timings[name].median / n for name, n in sizes.items()}
    for row, (name, median) in enumerate(medians.items()):
        ends = [1e6 * end / sizes[name] for end in timings[name].quartiles]
        ax.plot(ends, [row, row], color="black", linewidth=1.2, marker="|")
        ax.plot(median, row, color=plots.PALETTE[0], marker="o", markersize=8)
        ax.annotate(f"{median:.1f}", (median, row), (0, 9), textcoords="offset points")
    ax.set_xscale("log")
    _plain_numbers(ax.xaxis)
    ax.set_yticks(range(len(medians)), list(medians))
    ax.set_ylim(len(medians) - 0.5, -0.7)
    described = ", ".join(f"{name}: {value:.1f}" for name, value in medians.items())
    plots.show(figure, alt=f"Dots of microseconds a picture. {described}.")


def energy(estimates: Mapping[str, EnergyEstimate]) -> None:
    """What the estimated energy of one picture is made of, in percent, by network."""
    parts = {
        "weights from memory": lambda e: e.weights / e.total,
        "arithmetic": lambda e: e.arithmetic / e.total,
        "activations": lambda e: e.activations / e.total,
    }
    figure, ax = plots.axes(
        "Where the estimated energy of one picture goes",
        "% of the estimate",
        "",
        height=2.4,
    )
    left = [0.0] * len(estimates)
    for place, (name, share) in enumerate(parts.items()):
        values = [100 * share(each) for each in estimates.values()]
        look: plots.Look = dict(
            color=plots.PALETTE[place], hatch=("", "//", "..")[place]
        )
        ax.barh(list(estimates), values, left=left, height=0.6, label=name, **look)
        left = [start + value for start, value in zip(left, values, strict=True)]
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    described = "; ".join(
        f"{name}: {each.weights / each.total:.0%} for weights from memory,"
        f" {each.arithmetic / each.total:.0%} for arithmetic"
        for name, each in estimates.items()
    )
    plots.show(figure, alt=f"Bars of three parts for each network. {described}.")
