"""The figures of lab 11 and of what goes further: plain data in, one figure each."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from utils import plots, studies
from utils.data import CLASSES, Split
from utils.plots import DASHES, PALETTE, REFERENCE, Look
from utils.studies import Spread

Curves = Mapping[str, Mapping[float, Spread]]


def heart(accuracy: Sequence[float], learned: Sequence[float]) -> None:
    """What is learned epoch by epoch: the validation accuracy, and the wrong labels
    learned by heart, as fractions."""
    figure = plots.lines(
        range(1, len(accuracy) + 1),
        {"validation pictures, right": accuracy, "wrong labels, by heart": learned},
        title="2,000 pictures, 30% of their labels wrong",
        x_label="epoch",
        y_label="%",
        percent=True,
        y_limits=(0, 100),
    )
    plots.show(
        figure,
        alt="Two lines over 40 epochs: the accuracy on validation pictures rises at"
        " once and then sinks, while the part of the wrong labels that is learned by"
        " heart rises from a few percent to most of them.",
    )


def noisy(curves: Curves, remedies: Mapping[str, Sequence[float]]) -> None:
    """Along sparsity, with wrong labels; older remedies as lines across."""
    figure = _along(curves, "2,000 pictures, 30% wrong labels (3 draws, range)")
    ax = figure.axes[0]
    for number, name in enumerate(("early stopping", "weight decay")):
        look: Look = REFERENCE | {"linestyle": DASHES[2 + number]}
        mean = sum(remedies[name]) / len(remedies[name])
        ax.axhline(mean, **look, label=f"{name}, nothing pruned: right")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.set_size_inches(9.5, 3.6)
    plots.show(
        figure,
        alt="Along sparsity three lines with bands: up to 80 percent nearly level, then"
        " fewer wrong labels are learned by heart, more are answered rightly, and"
        " validation accuracy rises; two lines across show that early stopping and"
        " weight decay reach about the same accuracy without pruning.",
    )


def gap(curves: Curves) -> None:
    """Along sparsity, with right labels."""
    plots.show(
        _along(curves, "2,000 pictures, right labels (3 draws, range)"),
        alt="Along sparsity the accuracy on the training pictures stays at 100 percent"
        " and falls at the end; validation stays flat, then falls.",
    )


def _along(curves: Curves, title: str) -> Figure:
    """Lines along sparsity with the range of the seeds as bands."""
    return plots.lines(
        list(next(iter(curves.values()))),
        {name: [each.mean for each in line.values()] for name, line in curves.items()},
        spread={name: studies.bands({**line}) for name, line in curves.items()},
        title=title,
        x_label="sparsity",
        y_label="%",
        percent=True,
        stops=True,
    )


def remedies(found: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Panels side by side, by labels: the accuracy with each remedy, seed by seed."""
    figure = plots.empty_figure(plots.WIDTH, 2.5)
    grid = figure.subplots(1, len(found), squeeze=False)[0]
    for ax, (labels, rows) in zip(grid, found.items(), strict=True):
        ordered = dict(sorted(rows.items(), key=lambda row: -sum(row[1])))
        for row, values in enumerate(ordered.values()):
            ax.plot(values, [row] * len(values), "o", color=PALETTE[0], markersize=6)
            mean = sum(values) / len(values)
            ax.plot(mean, row, "|", color="black", markersize=16)
            ax.annotate(f"{mean:.1f}", (mean, row), (0, 9), textcoords="offset points")
        ax.set_yticks(range(len(ordered)), list(ordered))
        ax.set(title=labels, xlabel="validation accuracy, %", ylim=(3.5, -0.6))
        ax.title.set_fontsize(10.5)
    plots.show(
        figure,
        alt="Two panels of four rows, dense, pruned, weight decay and early stopping,"
        " a dot a draw: with right labels they lie within a point or two; with wrong"
        " labels dense lies far below the three others, which overlap.",
    )


def classes(change: Tensor) -> None:
    """The change of each class's accuracy, percentage points: `[networks, 10]`."""
    rows = {name: change[:, number] for number, name in enumerate(CLASSES)}
    rows["all pictures"] = change.mean(1)
    rows = dict(sorted(rows.items(), key=lambda row: float(row[1].mean())))
    figure = plots.dots(
        {name: float(values.mean()) for name, values in rows.items()},
        {name: (float(each.min()), float(each.max())) for name, each in rows.items()},
        title=f"98% pruned: what became of each class ({len(change)} networks, range)",
        x_label="points of accuracy, against the dense network of the same start",
        digits=1,
    )
    figure.axes[0].axvline(0, **REFERENCE)
    plots.show(
        figure,
        alt="Eleven rows, each class and all pictures, a dot and a range each, sorted:"
        " shirts have lost by far the most, the others follow at a distance; for some"
        " classes the range reaches across zero.",
    )


def payers(lost: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Points lost on all pictures and on shirts, `[networks]` each, by kind of
    network: small dense ones joined by a line, pruned ones beside it."""
    figure, ax = plots.axes(
        "Who pays, at equal accuracy (a small mark a network, a large one the mean)",
        "points lost on all pictures",
        "points lost on shirts",
        height=4.0,
    )
    small = {name: both for name, both in lost.items() if "units" in name}
    means = sorted((float(x.mean()), float(y.mean())) for x, y in small.values())
    ax.plot(
        *zip(*means, strict=True),
        color=PALETTE[0],
        label="small (hidden units), never pruned",
    )
    for name, (x, y) in lost.items():
        look: Look = dict(color=PALETTE[0], marker="o")
        if name not in small:
            look = dict(color=PALETTE[1], marker="s")
        ax.plot(x, y, **look, linestyle="", markersize=4, alpha=0.45)
        label = "pruned" if name == "98% pruned" else ""
        ax.plot(x.mean(), y.mean(), **look, linestyle="", markersize=9, label=label)
        at, side = ((9, -9), "left") if name in small else ((-26, 16), "right")
        if name == "32 hidden units":  # small marks lie to its right
            at, side = (-10, -4), "right"
        ax.annotate(
            name.replace("hidden ", ""),
            (float(x.mean()), float(y.mean())),
            at,
            textcoords="offset points",
            ha=side,
            fontsize=9,
        )
    most = max(float(x.max()) for x, _ in lost.values())
    ax.plot([0, most], [0, most], **REFERENCE, label="as much as all pictures")
    ax.legend(loc="upper left", fontsize=9)
    plots.show(
        figure,
        alt="Points lost on shirts over points lost on all pictures: small dense"
        " networks lie on a rising line far above the diagonal, pruned networks lie"
        " above that line.",
    )


def changed(fractions: Mapping[str, Tensor]) -> None:
    """Which part of the pictures has another usual answer: bool `[pictures]` by
    population, with two standard errors."""
    shares = {
        name: 100 * float(each.float().mean()) for name, each in fractions.items()
    }
    number = len(next(iter(fractions.values())))
    wide = {name: 2 * (p * (100 - p) / number) ** 0.5 for name, p in shares.items()}
    figure = plots.bars(
        shares,
        title="Pictures whose usual answer differs from that of dense networks",
        x_label="part of the validation pictures, % (with two standard errors)",
        unit="%",
        digits=1,
        errors={name: (p - wide[name], p + wide[name]) for name, p in shares.items()},
    )
    plots.show(
        figure,
        alt="Bars with intervals: few pictures differ between two populations of dense"
        " networks, more for the pruned ones, most for those pruned to 98 percent and"
        " for small networks that were never pruned.",
    )


def fates(kinds: Mapping[str, Mapping[str, int]]) -> None:
    """What became of the changed pictures: counts by fate, by kind of network."""
    figure, ax = plots.axes(
        "Pictures with another usual answer: what became of them",
        "validation pictures",
        "",
        height=1.2 + 0.5 * len(kinds),
    )
    left = np.zeros(len(kinds))
    hatches = ("", "//", "..")
    fates = list(next(iter(kinds.values())))
    for number, fate in enumerate(fates):
        counts = [each[fate] for each in kinds.values()]
        look: Look = dict(
            color=PALETTE[number + 1], hatch=hatches[number], edgecolor="white"
        )
        ax.barh(list(kinds), counts, left=left, label=fate, height=0.6, **look)
        for row, count in enumerate(counts):
            look = dict(va="center", bbox=dict(facecolor="white", pad=1.5, linewidth=0))
            if count < 25:  # too narrow for its number, which stands behind it
                ax.text(left[row] + count + 5, row, str(count), **look)
            else:
                ax.text(left[row] + count / 2, row, str(count), ha="center", **look)
        left += counts
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    plots.show(
        figure,
        alt="A bar a population, in three parts: pictures that were known and are lost,"
        " that were wrong and are right now, and that were and are wrong. Between two"
        " dense populations lost and won are about equal; after pruning more are lost.",
    )


def lost_pictures(pictures: Split, now: Tensor) -> None:
    """Pictures with their class and what is said `now`, a class each."""
    captions = [
        f"{CLASSES[label]}\nnow {CLASSES[said]}"
        for label, said in zip(pictures.labels, now, strict=True)
    ]
    figure = plots.pictures(
        pictures.images,
        captions,
        title="Known when dense, lost at 98% by all three",
        columns=5,
    )
    plots.show(
        figure,
        alt="Ten pictures, each with its class and with what all three pruned networks"
        " say now.",
    )
