"""The figures of lesson 05: plain data in, a picture with its description out."""

from collections.abc import Mapping, Sequence

from utils import plots
from utils.measure import Timing
from utils.plots import MARKERS, PALETTE, REFERENCE


def work(
    ratios: Sequence[float],
    counted: Sequence[float],
    formula: Sequence[float],
    guess: plots.Guess | None = None,
) -> None:
    """Work removed over channels removed."""
    figure = plots.lines(
        [100 * ratio for ratio in ratios],
        {
            "counted on the VGG": counted,
            "your formula": formula,
            "channels removed": ratios,
        },
        title="Work that leaves with the channels",
        x_label="channels removed in every layer, %",
        y_label="multiply-accumulates that leave, %",
        percent=True,
    )
    if guess and guess.value is not None:  # asked at 30%
        ax = figure.axes[0]
        label = f"my guess: {guess.value:g}%"
        ax.plot(30, guess.value, color="black", marker="D", linestyle="", label=label)
        ax.legend()
    plots.show(
        figure,
        alt=(
            "Work removed over channels removed: the curve of the VGG and the formula"
            " coincide and lie well above the straight line."
        ),
    )


def time(
    less: Sequence[float], one: Mapping[str, Timing], many: Mapping[str, Timing]
) -> None:
    """Speed over the factor of work saved; on the dashed line time follows work."""
    figure, ax = plots.axes(
        "VGG: work saved and time saved",
        "times less work (0 to 75% of the channels removed)",
        "times as fast (one thread)",
    )
    series = {"32 pictures": many, "one picture": one}
    for index, (name, times) in enumerate(series.items()):
        speed = [timing.speedup for timing in times.values()]
        quartiles = [timing.speedup_quartiles for timing in times.values()]
        colour, marker = PALETTE[index], MARKERS[index]
        ax.plot(less, speed, color=colour, marker=marker, label=name)
        for x, ends in zip(less, quartiles, strict=True):
            ax.plot([x, x], ends, color=colour, linewidth=1.2, marker="_")
    ax.plot([1, max(less)], [1, max(less)], **REFERENCE, label="time follows work")
    ax.legend(title="whiskers: middle half of the rounds", title_fontsize=8.5)
    last = {name: list(times.values())[-1].speedup for name, times in series.items()}
    plots.show(
        figure,
        alt=(
            "Speed over the factor of work saved, for 32 pictures and for one; both"
            " start on the diagonal and fall below it. At"
            f" {max(less):.0f} times less work: "
            + ", ".join(f"{name} {value:.1f}" for name, value in last.items())
            + "."
        ),
    )


def which(times: Mapping[str, Timing], accuracy: Mapping[str, float]) -> None:
    """Accuracy over speed; the front is joined."""
    points = {name: (times[name].speedup, 100 * accuracy[name]) for name in times}
    figure = plots.pareto(
        points,
        plots.unbeaten(points),
        title="Which one makes it faster? The ResNet, 32 pictures",
        x_label="times as fast as dense (one thread; whiskers: middle half of rounds)",
        y_label="accuracy after 2 epochs, %",
    )
    ax = figure.axes[0]
    for name, (_, y) in points.items():
        ends = times[name].speedup_quartiles
        ax.plot(ends, [y, y], color="#777777", linewidth=1.2, marker="|", zorder=0)
    said = (f"{name} {x:.2f} times, {y:.1f}%" for name, (x, y) in points.items())
    plots.show(figure, alt=f"Accuracy over speed: {'; '.join(said)}.")


def widths(relative: Mapping[int, tuple[float, float, float]]) -> None:
    """Time of one convolution over its width: median and quartiles, and its work."""
    most = max(relative)
    figure, ax = plots.axes(
        f"One 3 x 3 convolution, n channels in and out; {most} channels = 100%",
        "channels n",
        f"% of {most} channels",
    )
    for n, (_, low, high) in relative.items():
        ax.plot([n, n], [100 * low, 100 * high], color=PALETTE[0], linewidth=1.2)
    times = [100 * median for median, *_ in relative.values()]
    ax.plot(list(relative), times, color=PALETTE[0], marker="o", label="measured time")
    work_of = [100 * (n / most) ** 2 for n in relative]
    ax.plot(list(relative), work_of, color=PALETTE[1], linestyle="--", label="work")
    ax.legend(title="bars: middle half of the rounds", title_fontsize=8.5)
    plots.show(
        figure,
        alt=(
            "Time and work of a convolution over its width: work is a smooth parabola;"
            " time lies above it, at round widths too."
        ),
    )


def pattern(free: Sequence[Sequence[float]], chosen: Sequence[Sequence[float]]) -> None:
    """Two masks side by side: black is kept."""
    figure = plots.empty_figure(plots.WIDTH, 2.7)
    left, right = figure.subplots(1, 2)
    panels = {"any half": free, "2 of each 4 in a row": chosen}
    for ax, (name, mask) in zip((left, right), panels.items(), strict=True):
        ax.imshow(mask, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        ax.set(title=f"{name} (black = kept)", xticks=[], yticks=[])
    plots.show(
        figure,
        alt=(
            "Two black and white masks: the free one has clumps and holes, the 2:4"
            " pattern is evenly dense along every row."
        ),
    )
