"""The figures of lab 08: plain data in, a figure with its description out."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from utils import plots
from utils.studies import Spread

HATCHES = ("", "//", "..", "xx")


def row(weights: Tensor, scale: float, integers: Tensor) -> None:
    """One neuron's weights, sorted, and the level of the grid that each goes to."""
    order = weights.argsort()
    figure, ax = plots.axes(
        "One neuron's 100 weights, sorted, and the levels they move to",
        "weights, the smallest first",
        "weight",
        height=4.2,
    )
    for level in range(-7, 8):
        ax.axhline(scale * level, color="#C8C8C8", linewidth=0.8)
    places = range(len(weights))
    ax.plot(places, weights[order].tolist(), color=plots.PALETTE[0], label="32 bits")
    ax.plot(
        places,
        (scale * integers[order]).tolist(),
        "s",
        color=plots.PALETTE[1],
        markersize=3,
        label="4 bits: one of 15 levels",
    )
    ax.grid(visible=False)
    ax.legend(frameon=True, facecolor="white", edgecolor="none", framealpha=1)
    right = ax.secondary_yaxis("right", functions=(_over(scale), _times(scale)))
    right.set_ylabel("level")
    right.set_yticks(range(-7, 8))
    plots.show(
        figure,
        alt=(
            "A smooth rising curve of 100 sorted weights, and 15 horizontal lines, the"
            " levels of the grid; a square for each weight lies on the nearest line, so"
            " that the squares make a stair. Most weights lie on levels near zero."
        ),
    )


def _over(scale: float):
    return lambda value: value / scale


def _times(scale: float):
    return lambda level: level * scale


def both(judged: Mapping[str, tuple[float, float, float]]) -> None:
    """What rounding costs: points lost with two standard errors, and the error of the
    outputs."""
    names = list(judged)
    figure = plots.empty_figure(plots.WIDTH, 3.3)
    left, right = figure.subplots(1, 2, sharey=True)
    for place, (lost, margin, noise) in enumerate(judged.values()):
        look: plots.Look = dict(
            height=0.6, color=plots.PALETTE[place % 8], hatch=HATCHES[place % 4]
        )
        left.barh(place, lost, **look)
        ends = [lost - margin, lost + margin]
        left.plot(ends, [place, place], color="black", marker="|")
        left.annotate(
            f"{lost:.1f}",
            (max(ends), place),
            (5, 0),
            textcoords="offset points",
            va="center",
        )
        right.barh(place, 100 * noise, **look)
        right.annotate(
            f"{100 * noise:.0f}%",
            (100 * noise, place),
            (5, 0),
            textcoords="offset points",
            va="center",
        )
    left.set(title="points lost", xlabel="points, with two standard errors")
    right.set(title="squared error of the outputs", xlabel="% of their square")
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    for ax in (left, right):
        ax.margins(x=0.18)
        ax.grid(axis="y", visible=False)
    left.axvline(0, color="black", linewidth=0.8)
    figure.suptitle(
        "The VGG on 1,000 pictures; what is not named has 8 bits",
        x=0.01,
        ha="left",
        fontsize=11.5,
    )
    plots.show(
        figure,
        alt=(
            "Two panels of bars, the VGG on 1,000 pictures. Weights in 4 bits alone and"
            " activations in 4 bits alone lose about a point or less; both together"
            " lose several times their sum. The error of the outputs grows less"
            " steeply."
            " Weights in 3 bits alone make somewhat more error than both in 4; their"
            " loss lies within its whiskers."
        ),
    )


def cut(
    widths: Sequence[int], curves: Mapping[str, Sequence[float]], dense: float
) -> None:
    """Accuracy over the bits of a weight, one line for each kind of grid."""
    figure = plots.lines(
        widths,
        curves,
        title="LeNet's weights rounded, no training: where the cliff is",
        x_label="bits a weight",
        y_label="validation accuracy, %",
        percent=True,
        level=("32 bits", dense),
        y_limits=(0, 100),
    )
    figure.axes[0].set_xticks(list(widths))
    plots.show(
        figure,
        alt=(
            "Accuracy over 2 to 8 bits a weight. All three lines are flat from 8 down"
            " to 4. One scale for all rows falls first; a scale a row falls next; the"
            " grid that is cut off stays close to 32 bits at 3 bits and loses some 15"
            " points at 2, where the others have fallen much further."
        ),
    )


def trained(found: Mapping[str, Spread], dense: float) -> None:
    """3-bit networks, rounded or trained, beside 32 bits."""
    figure = _dots(
        {"": found}, dense, "LeNet at 3 bits a weight, rounded or trained (3 seeds)"
    )
    figure.axes[0].legend(loc="upper center")
    plots.show(
        figure,
        alt=(
            "Three rows of accuracy, mean and range of 3 seeds. Rounded without"
            " training is some ten points below 32 bits; trained on the grid it is"
            " close. Four more epochs in 32 bits without any grid gain nothing."
        ),
    )


def order(groups: Mapping[str, Mapping[str, Spread]], dense: float) -> None:
    """Prune and quantize in several orders, grouped by what they share."""
    figure = _dots(groups, dense, "LeNet, 90% zeros and 4 bits: what decides (3 seeds)")
    figure.axes[0].legend(loc="lower center", bbox_to_anchor=(0.6, 0))
    plots.show(
        figure,
        alt=(
            "Six rows of accuracy, mean and range of 3 seeds, in two groups. The three"
            " that were pruned before all four epochs lie together, the three that had"
            " two epochs after pruning lie together and lower, whether or not there was"
            " a grid before pruning."
        ),
    )


def _dots(
    groups: Mapping[str, Mapping[str, Spread]], dense: float, title: str
) -> Figure:
    """A row for each: mean, lowest and highest of the seeds, in percent; a marker and a
    colour for each group."""
    rows = [
        (index, "pruned only, 32 bits" if name == "pruned" else name, each)
        for index, group in enumerate(groups.values())
        for name, each in group.items()
    ]
    figure, ax = plots.axes(
        title, "validation accuracy, %", "", height=1.2 + 0.45 * len(rows)
    )
    for place, (index, _, each) in enumerate(rows):
        ends = [100 * each.low, 100 * each.high]
        ax.plot(ends, [place, place], color="black", linewidth=1.4, marker="|")
        look: plots.Look = dict(color=plots.PALETTE[index], marker=plots.MARKERS[index])
        ax.plot(100 * each.mean, place, **look)
        ax.annotate(
            f"{100 * each.mean:.2f}",
            (100 * each.mean, place),
            (0, 8),
            textcoords="offset points",
            ha="center",
            bbox=dict(facecolor="white", edgecolor="none", pad=0.5),
        )
    for index, name in enumerate(filter(None, groups)):
        look: plots.Look = dict(color=plots.PALETTE[index], marker=plots.MARKERS[index])
        ax.plot([], [], linestyle="", label=name, **look)
    ax.axvline(100 * dense, **plots.REFERENCE, label="LeNet as shipped, 32 bits")
    ax.set_yticks(range(len(rows)), [name for _, name, _ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.8)
    ax.margins(x=0.12)
    return figure


def stages(sizes: Mapping[str, int], accuracy: Mapping[str, float]) -> None:
    """Bytes after each stage, on a logarithmic axis, with the factor and the
    accuracy."""
    first = next(iter(sizes.values()))
    figure, ax = plots.axes(
        "LeNet's file after each stage, and what is right on validation data",
        "bytes (logarithmic)",
        "",
        height=0.9 + 0.5 * len(sizes),
    )
    for place, (name, size) in enumerate(sizes.items()):
        ax.plot([1000, size], [place, place], color=plots.PALETTE[0], linewidth=1)
        ax.plot(size, place, color=plots.PALETTE[0], marker="o", markersize=8)
        words = f"{size:,}  ({first / size:.1f}x)  {100 * accuracy[name]:.1f}%"
        ax.annotate(
            words, (size, place), (9, 0), textcoords="offset points", va="center"
        )
    ax.set(xscale="log", xlim=(1000, 4e7))
    ax.minorticks_off()
    ax.set_xticks([1e3, 1e4, 1e5, 1e6], ["1,000", "10,000", "100,000", "1,000,000"])
    ax.set_yticks(range(len(sizes)), list(sizes))
    ax.set_ylim(len(sizes) - 0.5, -0.5)
    plots.show(
        figure,
        alt=(
            "Four rows on a logarithmic axis of bytes: dense more than a million;"
            " pruned about 65,000; shared about 16,000; Huffman-coded below 14,000,"
            " about 80 times smaller. Accuracy falls a little when pruned and again"
            " when values are shared."
        ),
    )


def bill(parts: Mapping[str, int]) -> None:
    """What the bytes of the file are spent on, the largest first."""
    whole = sum(parts.values())
    largest = sorted(parts.items(), key=lambda part: -part[1])
    words = {
        "indices": "numbers of values",
        "raw": "biases",
        "codebooks": "shared values",
    }
    shares = {
        f"{words.get(name, name)}, {size:,} bytes": 100 * size / whole
        for name, size in largest
    }
    plots.show(
        plots.bars(
            shares,
            title="What the bytes of the file are spent on",
            x_label="% of the file",
            unit="%",
            digits=0,
        ),
        alt=(
            "Bars of the file's parts, the largest first: gaps take more than half,"
            " then the numbers of the shared values; biases, code tables, header and"
            " the shared values themselves are small."
        ),
    )
