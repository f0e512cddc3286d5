"""The figures of lab 00."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from utils import data, plots
from utils.data import Split
from utils.measure import Timing

END, MOST = 158, 120  # percent: the axes of the bars, and the lines of the spread


def clothes(split: Split) -> None:
    """Pictures, each with the name of its class."""
    names = [data.CLASSES[label] for label in split.labels]
    plots.show(
        plots.pictures(split.images, names, title="Twenty pictures and their classes"),
        alt=(
            "Twenty grey pictures of clothes in two rows, each with the name of its"
            " class, such as T-shirt or Ankle boot."
        ),
    )


def cliff(
    sparsities: Sequence[float], accuracies: Sequence[float], guess: plots.Guess
) -> None:
    """Accuracy over sparsity, on an axis with equal steps."""
    percent = [100 * sparsity for sparsity in sparsities]
    figure = plots.lines(
        percent,
        {"smallest weights set to zero": accuracies},
        title="Flat at first, then a cliff",
        x_label="sparsity: weights set to zero, %",
        y_label="pictures recognised, %",
        percent=True,
        level=("dense: no weight set to zero", accuracies[0]),
        y_limits=(0, 100),
    )
    ax = figure.axes[0]
    plots.draw_guess(ax, guess, vertical=True)
    ax.legend(loc="lower left")
    plots.show(
        figure,
        alt=(
            "Accuracy over sparsity, with dots where it was measured: flat near the"
            f" dense {accuracies[0]:.0%} at first, {accuracies[-1]:.0%} at"
            f" {percent[-1]:.0f}% sparsity."
        ),
    )


def sizes_and_times(files: Mapping[str, int], times: Mapping[str, Timing]) -> None:
    """File and time of each network, in percent of the first."""
    first = next(iter(files.values()))
    size = {name: 100 * bytes_ / first for name, bytes_ in files.items()}
    figure = plots.empty_figure(plots.WIDTH, 0.9 + 0.42 * len(files))
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_bars(left, "file, % of the dense one", size)
    _draw_bars(
        right,
        "time, % of the dense one",
        {name: 100 * timing.relative for name, timing in times.items()},
        hatch="//",
    )
    for row, timing in enumerate(times.values()):
        _draw_spread(right, row, [100 * end for end in timing.relative_quartiles])
    left.invert_yaxis()
    left.set_title("Counted", fontsize=10.5)
    right.set_title("Measured (line: middle half)", fontsize=10.5)
    plots.show(
        figure,
        alt="Bars of file and time, in percent of the dense network. "
        + "; ".join(
            f"{name}: file {size[name]:.0f}, time {100 * times[name].relative:.0f}"
            for name in files
        )
        + ".",
    )


def _draw_bars(
    ax: Axes, label: str, values: Mapping[str, float], hatch: str = ""
) -> None:
    """Bars from zero, each with its number at the right edge."""
    look: plots.Look = dict(color=plots.PALETTE[5 if hatch else 0], hatch=hatch)
    ax.barh(list(values), list(values.values()), height=0.62, edgecolor="white", **look)
    for row, value in enumerate(values.values()):
        ax.text(END, row, f"{value:.0f}%", va="center", ha="right")
    ax.axvline(100, **plots.REFERENCE)
    ax.set(xlim=(0, END), xlabel=label)
    ax.set_xticks([0, 50, 100])
    ax.grid(axis="y", visible=False)


def _draw_spread(ax: Axes, row: int, ends: Sequence[float]) -> None:
    """From quartile to quartile; an arrow where that is off the axis."""
    low, high = (min(end, MOST) for end in ends)
    ax.plot([low, high], [row, row], color="black", linewidth=1.4, marker="|")
    if ends[1] > MOST:
        ax.plot(MOST, row, color="black", marker=">", markersize=5)
