"""What lab 10 draws."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from utils import plots
from utils.measure import Timing
from utils.plots import PALETTE

TICKS = (1, 2, 5, 10, 20, 50, 100)


def _by_factors(ax: Axes, most: float) -> None:
    """A logarithmic axis of factors, from just below 1."""
    ax.set(xscale="log", xlim=(0.85, 3.4 * most))
    ax.set_xticks([tick for tick in TICKS if tick <= 1.6 * most])
    ax.xaxis.set_major_formatter("{x:g}x")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(axis="y", visible=False)


def six(timings: Mapping[str, Timing]) -> None:
    """How much faster than the first each network in each program is; rows named
    `network, program`."""
    figure, ax = plots.axes(
        "Two networks in three programs, one picture at a time",
        "times faster than the dense network in PyTorch (median and quartiles)",
        "",
        height=3.1,
    )
    for row, (name, timing) in enumerate(timings.items()):
        thin = name.startswith("thin")
        look: plots.Look = dict(markersize=8, marker="s" if thin else "o")
        colour = PALETTE[1] if thin else PALETTE[0]
        low, high = timing.speedup_quartiles
        ax.plot((low, high), (row, row), color="black", linewidth=1.4, marker="|")
        ax.plot(timing.speedup, row, color=colour, **look)
        place = (max(high, timing.speedup), row)
        ax.annotate(
            f"{timing.speedup:.1f}x",
            place,
            (8, 0),
            textcoords="offset points",
            va="center",
        )
    ax.set_yticks(range(len(timings)), list(timings))
    ax.invert_yaxis()
    _by_factors(ax, max(timing.speedup for timing in timings.values()))
    plots.show(
        figure,
        alt=(
            "Six rows with quartiles on a logarithmic axis: the dense network gains a"
            " few times by ONNX Runtime and by int8; the thin one starts further right"
            " and gains much from the runtime."
        ),
    )


Order = Mapping[str, str]  # for each step the name of what is raced after it


def waterfall(
    timings: Mapping[str, Timing], sizes: Mapping[str, int], orders: Mapping[str, Order]
) -> None:
    """What each step multiplies, in each order: a bar from the factor before to the
    factor after it. sizes: bytes of what is raced."""
    figure = plots.empty_figure(9.4, 5.2)
    grid = figure.subplots(len(orders), 2, sharex="col", squeeze=False)
    dense = sizes[next(iter(timings))]
    for (left, right), (title, order) in zip(grid, orders.items(), strict=True):
        reached = [timings[name].speedup for name in order.values()]
        spread = [timings[name].speedup_quartiles for name in order.values()]
        _draw_steps(left, list(order), reached, spread)
        smaller = [dense / sizes[name] for name in order.values()]
        _draw_steps(right, [], smaller, [])
        left.set_title(f"{title}: faster, one picture", fontsize=10.5)
        right.set_title("smaller file", fontsize=10.5)
    plots.show(
        figure,
        alt=(
            "Two rows of bars on logarithmic axes, one for each order of the same three"
            " steps, speed at the left and file size at the right. Both orders end at"
            " the same factors, tens of times faster and forty times smaller. Prune"
            " first: pruning and ONNX Runtime give most of the speed and int8 little."
            " Runtime first: ONNX Runtime gives two to three, int8 more than before,"
            " and pruning the rest."
        ),
    )


def _draw_steps(
    ax: Axes,
    names: Sequence[str],
    reached: Sequence[float],
    spread: Sequence[tuple[float, float]],
) -> None:
    """A bar a step, hatched where the factor falls, with quartiles and what the step
    multiplies."""
    for row, (start, end) in enumerate(pairwise([1.0, *reached])):
        colour, hatch = (PALETTE[0], "") if end >= start else (PALETTE[1], "//")
        ax.barh(row, end - start, left=start, height=0.55, color=colour, hatch=hatch)
        reach = max(start, end)
        if spread and row:
            ax.plot(spread[row], (row, row), color="black", linewidth=1.4, marker="|")
            reach = max(reach, *spread[row])
        last = f" = {end:.0f}x" if row == len(reached) - 1 else ""
        words = f"x {end / start:.2g}{last}" if row else "1x"
        ax.text(1.08 * reach, row, words, va="center", fontsize=9.5)
    ax.set_yticks(range(len(reached)), names or [""] * len(reached))
    ax.invert_yaxis()
    _by_factors(ax, max(reached))


def accuracy(right: Mapping[str, float], interval: Mapping[str, float]) -> None:
    """Test accuracy, percent, with its 95% interval to both sides."""
    figure = plots.dots(
        right,
        {n: (value - interval[n], value + interval[n]) for n, value in right.items()},
        title="Test accuracy and 95% interval (10,000 pictures)",
        x_label="test accuracy, %",
        unit="%",
    )
    plots.show(
        figure,
        alt=(
            "Seven rows, the dense VGG, three thin ones and their int8 files: all lie"
            " within a fifth of a point of each other, and each interval covers the"
            " accuracies of all the others."
        ),
    )


def taught(lessons: Mapping[str, Sequence[float]], teacher: float) -> None:
    """Validation accuracy of each seed, percent, beside the teacher's own."""
    figure, ax = plots.axes(
        "The thin VGG after twenty epochs: each seed, and the mean",
        "validation accuracy, %",
        "",
        height=2.6,
    )
    for row, values in enumerate(lessons.values()):
        small: plots.Look = dict(marker="o", markersize=5, markerfacecolor="none")
        ax.plot(
            values, [row] * len(values), color=PALETTE[0], linestyle="none", **small
        )
        mean = sum(values) / len(values)
        ax.plot(mean, row, marker="D" if len(values) == 1 else "o", color=PALETTE[0])
        ax.annotate(
            f"{mean:.2f}", (mean, row), (0, 9), textcoords="offset points", ha="center"
        )
    ax.axvline(teacher, **plots.REFERENCE, label="the teacher itself")
    ax.set_yticks(range(len(lessons)), list(lessons))
    ax.set_ylim(len(lessons) - 0.5, -0.7)
    ax.margins(x=0.15)
    ax.legend(loc="upper left")
    plots.show(
        figure,
        alt=(
            "Three rows: labels alone is best with each seed and near the teacher"
            " itself; one seed taught at temperature 1 is lower; three taught at 4 are"
            " lowest."
        ),
    )


def batches(gains: Mapping[str, Sequence[tuple[float, float, float]]]) -> None:
    """For each network what int8 multiplies at batch 1 and at batch 256: lower
    quartile, median, upper quartile, of fp32 over int8 in the same runtime."""
    figure, ax = plots.axes(
        "int8 against fp32, both in ONNX Runtime",
        "times faster (median and quartiles of the rounds)",
        "",
        height=2.9,
    )
    names = list(gains)
    for row, name in enumerate(names):
        for place, (low, middle, high) in enumerate(gains[name]):
            y = row - 0.16 + 0.32 * place
            look: plots.Look = dict(marker="os"[place], color=PALETTE[place])
            label = f"batch {(1, 256)[place]}" if not row else None
            ax.plot((low, high), (y, y), color="black", linewidth=1.4, marker="|")
            ax.plot(middle, y, label=label, linestyle="none", markersize=8, **look)
    ax.axvline(1, **plots.REFERENCE)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xscale("log")
    ax.set_xticks([0.2, 0.5, 1, 2, 5])
    ax.xaxis.set_major_formatter("{x:g}x")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    plots.show(
        figure,
        alt=(
            "Three networks, a row each, with two marks for batch 1 and batch 256: what"
            " int8 multiplies beside a dashed line at 1, the same time as fp32."
        ),
    )
