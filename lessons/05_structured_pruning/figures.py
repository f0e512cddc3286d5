"""The figures of lesson 05: plain data in, a picture with its description out."""

from collections.abc import Mapping, Sequence

from utils import plots
from utils.measure import Timing
from utils.plots import MARKERS, PALETTE, REFERENCE

SLOW = 1.15  # below that a name stands left of its point


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
    """Accuracy over speed; the front is joined. Names stand at the ends of the
    whiskers: those without a gain in speed on the left, where points crowd."""
    points = {name: (times[name].speedup, 100 * accuracy[name]) for name in times}
    front = plots.unbeaten(points)
    figure, ax = plots.axes(
        "Which one makes it faster? The ResNet, 32 pictures",
        "times as fast as dense (one thread; whiskers: middle half of rounds)",
        "accuracy after 2 epochs, %",
        height=4.2,
    )
    joined = sorted(points[name] for name in front)
    look: plots.Look = dict(color=PALETTE[0], linewidth=1.2, marker="o", markersize=8)
    ax.plot(*zip(*joined, strict=True), **look, label="front: beaten by none")
    for name, (x, y) in points.items():
        low, high = times[name].speedup_quartiles
        ax.plot([low, high], [y, y], color="#777777", linewidth=1.2, marker="|")
        if name not in front:
            hollow: plots.Look = dict(markersize=8, markerfacecolor="white")
            ax.plot(x, y, marker="s", color=PALETTE[1], **hollow)
        on_left = x < SLOW
        at, shift = (min(x, low), (-7, -3)) if on_left else (max(x, high), (5, 5))
        side = "right" if on_left else "left"
        place: plots.Look = dict(textcoords="offset points", ha=side, fontsize=9)
        ax.annotate(name, (at, y), shift, **place)
    ax.margins(x=0.45, y=0.1)
    ax.legend(loc="lower left")
    said = (f"{name} {x:.2f} times, {y:.1f}%" for name, (x, y) in points.items())
    plots.show(
        figure,
        alt=(
            "Points of accuracy after two epochs over speed with 32 pictures:"
            f" {'; '.join(said)}."
        ),
    )


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
