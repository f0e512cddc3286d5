"""Every figure of the course: one style, one palette (Okabe & Ito 2008), a second cue
beside colour.

Each function returns a matplotlib Figure; `show(figure, alt)` displays it with its
description, so that a screen reader, a terminal and a page without pictures have one
too. Accuracies come in as fractions and are drawn in percent.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox
from PIL import Image
from torch import Tensor

from utils.data import MEAN, STD

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8A8A8A",
)
DASHES = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (3, 3)),
    (0, (1, 1)),
    (0, (8, 2)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: "dict[RcKeyType, Any]" = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}
WIDTH, HEIGHT, DPI = 7.2, 3.6, 110
# the lines of what the others are compared with
Look = dict[str, Any]  # options of a mark
REFERENCE: Look = dict(color="#555555", linestyle=(0, (4, 3)), linewidth=1)
Name = TypeVar("Name", str, int)


class Guess(Protocol):
    """What `guesses.predict` gives: `value` is None until the learner locks it."""

    value: float | None
    unit: str


def empty_figure(width: float, height: float) -> Figure:
    """A figure of so many inches. From here on matplotlib draws in the course's
    style."""
    rcParams.update(STYLE)
    return Figure(figsize=(width, height), layout="constrained")


def _put_out(figure: dict, kind: str, alt: str) -> None:
    """Display a picture, and below it what it shows, to unfold."""
    # here, so that a figure can be made where there is no Jupyter
    from IPython.display import display

    display(figure, raw=True, metadata={kind: {"alt": alt}})
    display(in_words(alt), raw=True)


def show(figure: Figure, alt: str) -> None:
    """Display a figure as a PNG and, below it to unfold, its description in words:
    JupyterLab shows no alt text.

    Raises:
        ValueError: an empty description.
    """
    if not alt.strip():
        raise ValueError("alt is empty; describe in a sentence what the figure shows.")
    buffer = BytesIO()
    figure.savefig(
        buffer, format="png", dpi=DPI, bbox_inches="tight", facecolor="white"
    )
    bundle = {"image/png": buffer.getvalue(), "text/plain": f"Figure: {alt}"}
    _put_out(bundle, "image/png", alt)


def show_moving(figures: Sequence[Figure], alt: str, *, seconds: float = 0.15) -> None:
    """Display figures of one size one after another, as a GIF that plays once and stops
    on the last.

    Raises:
        ValueError: no figure, or an empty description.
    """
    if not figures or not alt.strip():
        raise ValueError(
            "show_moving needs at least one figure, and a sentence in alt that says"
            " what moves."
        )
    frames = [_as_image(figure) for figure in figures]
    buffer = BytesIO()
    times = [round(1000 * seconds)] * (len(frames) - 1) + [3000]
    frames[0].save(
        buffer,
        format="gif",
        save_all=True,
        append_images=frames[1:],
        duration=times,
        optimize=True,
    )
    bundle = {
        "image/gif": base64.b64encode(buffer.getvalue()).decode(),
        "text/plain": f"Moving figure: {alt}",
    }
    _put_out(bundle, "image/gif", alt)


def _as_image(figure: Figure) -> Image.Image:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=80, facecolor="white")
    return Image.open(buffer).convert("L").quantize(32)


def in_words(alt: str) -> dict[str, str]:
    """What a figure shows, to unfold: for `display(..., raw=True)` below it."""
    words = (
        "<details><summary><small>The figure in"
        f" words</small></summary>{html.escape(alt)}</details>"
    )
    return {"text/html": words, "text/plain": ""}


def axes(
    title: str,
    x_label: str,
    y_label: str,
    *,
    width: float = WIDTH,
    height: float = HEIGHT,
) -> tuple[Figure, Axes]:
    """An empty figure in the course's style, and its axes to draw on.

    >>> figure, ax = axes("Accuracy", "sparsity", "percent")
    >>> ax.get_title(loc="left")
    'Accuracy'
    """
    figure = empty_figure(width, height)
    ax = figure.subplots()
    ax.set(title=title, xlabel=x_label, ylabel=y_label)
    return figure, ax


def lines(  # noqa: PLR0913 - given by keyword, most of them left out
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    percent: bool = False,
    stops: bool = False,
    level: tuple[str, float] | None = None,
    spread: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    y_limits: tuple[float, float] | None = None,
    guess: Guess | None = None,
) -> Figure:
    """Lines over `x`, each with its own colour, dash and marker.

    Args:
        percent: `series`, `level` and `spread` are fractions, drawn as percent.
        stops: place the x values at equal distances and label each (for sparsities that
            crowd at the end).
        level: a dashed horizontal line with its name: the dense network.
        spread: for a series, its lower and upper values, drawn as a band.
        guess: a locked guess, in the units of the y axis, is drawn as a dotted line.

    >>> labels = dict(title="LeNet", x_label="sparsity", y_label="accuracy, %")
    >>> figure = lines([0.5, 0.9], {"magnitude": [0.89, 0.71]}, **labels, percent=True)
    >>> figure.axes[0].lines[0].get_ydata()
    array([89., 71.])
    """
    figure, ax = axes(title, x_label, y_label)
    factor = 100 if percent else 1
    positions = range(len(x)) if stops else x
    for index, (name, values) in enumerate(series.items()):
        _draw_line(ax, positions, _scaled(values, factor), name, index)
        if spread and name in spread:
            low, high = (_scaled(edge, factor) for edge in spread[name])
            colour = PALETTE[index % 8]
            ax.fill_between(positions, low, high, color=colour, alpha=0.18, linewidth=0)
    if level:
        ax.axhline(factor * level[1], **REFERENCE, label=level[0])
    draw_guess(ax, guess)
    if stops:
        ax.set_xticks(list(positions), [f"{100 * value:g}%" for value in x])
    if y_limits:
        ax.set_ylim(*y_limits)
    if len(series) > 4:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    elif len(series) > 1 or level:
        ax.legend()
    return figure


def over_weights_left(
    title: str,
    x_label: str,
    sparsities: Sequence[float],
    curves: Mapping[str, Sequence[Sequence[float]]],
    dense: float,
) -> Figure:
    """Accuracy over the weights that are left: of each curve the mean of its draws,
    `[draws][sparsities]`, and a band over them where there are several."""
    figure, ax = axes(title, x_label, "validation accuracy, %", height=3.9)
    left = 100 * (1 - np.array(sparsities))
    for index, (name, draws) in enumerate(curves.items()):
        values = 100 * np.array(draws)  # [draws, sparsities]
        look: Look = dict(color=PALETTE[index], linestyle=DASHES[index])
        ax.plot(left, values.mean(0), label=name, marker=MARKERS[index], **look)
        if len(values) > 1:
            ends = values.min(0), values.max(0)
            ax.fill_between(left, *ends, color=look["color"], alpha=0.18)
    ax.axhline(100 * dense, **REFERENCE, label="dense")
    weights_left_axis(ax, left)
    ax.set_ylim(0, 100)
    ax.legend(loc="lower left", fontsize=9)
    return figure


def weights_left_axis(ax: Axes, left: np.ndarray) -> None:
    """A logarithmic axis of the weights left, in percent, fewer to the right."""
    ax.set_xscale("log")
    ax.set_xlim(1.15 * left.max(), left.min() / 1.15)
    ax.set_xticks(left, [f"{value:g}" for value in left.round(1)])
    ax.set_xticks([], minor=True)


def _scaled(values: Sequence[float], factor: float) -> np.ndarray:
    return factor * np.asarray(values, dtype=float)


def _draw_line(
    ax: Axes, x: Sequence[float], y: np.ndarray, name: str, index: int
) -> None:
    """The line of that number; with markers as long as these do not run into one
    another."""
    look: Look = dict(color=PALETTE[index % 8], linestyle=DASHES[index % 8])
    if len(x) <= 60:
        look |= dict(marker=MARKERS[index % 8], markersize=4.5)
    ax.plot(x, y, label=name, **look)


def _locked(guess: Guess | None) -> float | None:
    return None if guess is None else guess.value


def draw_guess(ax: Axes, guess: Guess | None, *, vertical: bool = False) -> None:
    """Draw a locked guess as a dotted line with its number; an open one is not
    drawn."""
    if guess is None or guess.value is None:
        return
    line = ax.axvline if vertical else ax.axhline
    line(
        guess.value,
        color=PALETTE[3],
        linestyle=":",
        linewidth=2,
        label=f"my guess: {guess.value:g} {guess.unit}",
    )
    ax.legend()


def bars(  # noqa: PLR0913 - given by keyword, most of them left out
    values: Mapping[str, float],
    *,
    title: str,
    x_label: str,
    unit: str = "",
    digits: int = 2,
    reference: float | None = None,
    errors: Mapping[str, tuple[float, float]] | None = None,
    guess: Guess | None = None,
) -> Figure:
    """Horizontal bars from zero, each labelled with its number; negative ones go to the
    left.

    Args:
        reference: a dashed vertical line, for "the same as the first".
        errors: for a bar, the lower and upper end of its spread.

    >>> figure = bars({"dense": 1.0, "pruned": 0.25}, title="MB", x_label="MB")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1.00', '0.25']
    """
    figure, ax = axes(title, x_label, "", height=0.9 + 0.42 * len(values))
    names, numbers = list(values), [float(v) for v in values.values()]
    ax.barh(names, numbers, color=PALETTE[0], height=0.62)
    spreads = [(errors or {}).get(name, ()) for name in names]
    for row, spread in enumerate(spreads):
        if spread:
            ax.plot(spread, [row, row], color="black", linewidth=1.4, marker="|")
    reaches = [(*ends, number) for ends, number in zip(spreads, numbers, strict=True)]
    wide = _set_reach(ax, reaches, reference or 0, _locked(guess) or 0)
    for row, (number, reach) in enumerate(zip(numbers, reaches, strict=True)):
        # + 0: a rounded -0 loses its sign
        label = f"{round(number, digits) + 0:,.{digits}f}{unit}"
        ax.text(max(0, *reach) + 0.012 * wide, row, label, va="center")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    if reference is not None:
        ax.axvline(reference, **REFERENCE)
    draw_guess(ax, guess, vertical=True)
    return figure


def _set_reach(ax: Axes, reaches: Sequence[Sequence[float]], *others: float) -> float:
    """Limits with everything in view and room for a number behind each bar; the width
    that the bars take of it."""
    most = max(*map(max, reaches), *others) or 1
    least = min(0, *map(min, reaches))
    ax.set_xlim(1.05 * least, most + 0.16 * (most - least))
    return most - least


def dots(  # noqa: PLR0913 - given by keyword, most of them left out
    values: Mapping[str, float],
    errors: Mapping[str, tuple[float, float]],
    *,
    title: str,
    x_label: str,
    unit: str = "",
    digits: int = 2,
) -> Figure:
    """A dot with its interval and its number a row; for near values, so the axis does
    not start at zero."""
    figure, ax = axes(title, x_label, "", height=0.9 + 0.42 * len(values))
    for row, (name, value) in enumerate(values.items()):
        ax.plot(errors[name], [row, row], color="black", linewidth=1.4, marker="|")
        ax.plot(value, row, color=PALETTE[0], marker="o", markersize=8)
        ax.annotate(
            f"{value:,.{digits}f}{unit}",
            (value, row),
            (0, 9),
            textcoords="offset points",
            ha="center",
        )
    ax.set_yticks(range(len(values)), list(values))
    ax.set_ylim(len(values) - 0.5, -0.7)
    return figure


def scatter(
    panels: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """One small scatter plot a panel, side by side, with its note behind its name."""
    figure = empty_figure(WIDTH, 2.6)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for index, (ax, (name, (x, y))) in enumerate(
        zip(grid, panels.items(), strict=True)
    ):
        ax.scatter(
            x,
            y,
            s=7,
            color=PALETTE[index % 8],
            marker=MARKERS[index % 8],
            alpha=0.6,
            linewidth=0,
        )
        ax.set(
            title=f"{name}: {notes[name]}" if notes and name in notes else name,
            xlabel=x_label,
        )
    grid[0].set_ylabel(y_label)
    _head(figure, title)
    return figure


def waterfall(  # noqa: PLR0913 - given by keyword, most of them left out
    steps: Sequence[str],
    factors: Mapping[str, Sequence[float]],
    levels: Mapping[str, Sequence[float]],
    *,
    title: str,
    unit: str = "%",
    aside: Sequence[int] = (),
) -> Figure:
    """What each step multiplies: a bar from the factor before it to the factor after
    it, on a logarithmic axis, so that the length of a bar is the step's share. Small
    panels side by side, one row a step.

    Args:
        steps: names of the rows, `[rows]`; the first is where it starts, factor 1.
        factors: for each panel the factor reached after each step, `[rows]`.
        levels: panels of plain values beside them, `[rows]`, as dots; near values, so
            their axes do not start at zero.
        aside: numbers of rows that were tried and not kept; hollow, and the line goes
            past them.

    >>> file, accuracy = {"file": [1, 4, 8]}, {"accuracy": [91.2, 90.9, 90.8]}
    >>> figure = waterfall(["dense", "int8", "pruned"], file, accuracy, title="Smaller")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1x', '4x', '8x']
    """
    panels = len(factors) + len(levels)
    figure = empty_figure(1.9 + 2.1 * panels, 1.2 + 0.42 * len(steps))
    grid = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for ax, (name, reached) in zip(grid, factors.items(), strict=False):
        _draw_factors(ax, name, reached)
    for ax, (name, values) in zip(grid[len(factors) :], levels.items(), strict=True):
        _draw_levels(ax, name, values, unit, aside)
    grid[0].set_yticks(range(len(steps)), steps)
    grid[0].invert_yaxis()
    for ax in grid:
        ax.grid(axis="y", visible=False)
        ax.title.set_fontsize(10.5)
    _head(figure, title)
    return figure


def _head(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)


def _draw_factors(ax: Axes, name: str, reached: Sequence[float]) -> None:
    """A bar a step, hatched where the factor falls, on a logarithmic axis."""
    before = [1.0, *reached[:-1]]
    for row, (start, after) in enumerate(zip(before, reached, strict=True)):
        colour, hatch = (PALETTE[0], "") if after >= start else (PALETTE[1], "//")
        length, end = after - start, max(start, after)
        ax.barh(row, length, left=start, height=0.6, color=colour, hatch=hatch)
        ax.text(end * 1.06, row, f"{after:.3g}x", va="center", fontsize=9.5)
    most = max(reached)
    limits = min(0.9, 0.9 * min(reached)), 2.6 * most
    ax.set(xscale="log", xlim=limits, title=name)
    ax.set_xticks([1, 3, 10, 30][: 2 + (most > 5) + (most > 15)], minor=False)
    ax.set_xticks([], minor=True)
    ax.xaxis.set_major_formatter("{x:g}x")


def _draw_levels(
    ax: Axes, name: str, values: Sequence[float], unit: str, aside: Sequence[int]
) -> None:
    """A dot a step; those that were kept are joined, those `aside` are hollow."""
    kept = [row for row in range(len(values)) if row not in aside]
    joined: Look = dict(color=PALETTE[0], marker="o", linestyle=":", linewidth=1)
    ax.plot([values[row] for row in kept], kept, **joined)
    hollow: Look = dict(marker="s", markerfacecolor="white", markeredgecolor=PALETTE[1])
    for row in aside:
        ax.plot(values[row], row, **hollow)
    beside: Look = dict(textcoords="offset points", va="center", fontsize=9.5)
    for row, value in enumerate(values):
        ax.annotate(f"{value:.1f}{unit}", (value, row), (7, 0), **beside)
    least, most = min(values), max(values)
    margin = max(most - least, 0.5)
    ax.set(title=name, xlim=(least - 0.4 * margin, most + 1.1 * margin))
    ax.xaxis.set_major_formatter("{x:g}" + unit)
    ax.locator_params(axis="x", nbins=3)


def unbeaten(points: Mapping[Name, Sequence[float]]) -> list[Name]:
    """The Pareto front: names of the points that no other beats, which is to be at
    least as high in each number and higher in one. Equal points stay.

    Built in lessons/12_capstone, exercise `pareto`.

    >>> unbeaten({"small": (-1, 0.8), "exact": (-9, 0.95), "neither": (-9, 0.8)})
    ['small', 'exact']
    """

    def beats(one: Sequence[float], other: Sequence[float]) -> bool:
        pairs = list(zip(one, other, strict=True))
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    return [
        name
        for name, own in points.items()
        if not any(beats(other, own) for other in points.values())
    ]


def pareto(  # noqa: PLR0913 - given by keyword, most of them left out
    points: Mapping[str, tuple[float, float]],
    front: Sequence[str],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log: bool = False,
    box: tuple[float, float] | None = None,
) -> Figure:
    """Named points, those on the front filled and joined, the others hollow.

    Args:
        points: x and y by name.  front: names of the points that no other one beats.
        log: a logarithmic x axis.  box: the budget, an x and a y, as dashed lines.

    >>> points = {"thin": (2.0, 0.9), "wide": (1.0, 0.95), "slow": (1.0, 0.9)}
    >>> labels = dict(title="Found", x_label="speedup", y_label="accuracy")
    >>> figure = pareto(points, unbeaten(points), **labels)
    """
    figure, ax = axes(title, x_label, y_label, height=4.2)
    joined = sorted(points[name] for name in front)
    look: Look = dict(color=PALETTE[0], linewidth=1.2, label="front: beaten by none")
    ax.plot(*zip(*joined, strict=True), **look)
    for name, (x, y) in points.items():
        filled = name in front
        ax.plot(
            x,
            y,
            marker="o" if filled else "s",
            markersize=8,
            markerfacecolor=PALETTE[0] if filled else "white",
            markeredgecolor=PALETTE[0 if filled else 1],
        )
    if box:
        ax.axvline(box[0], **REFERENCE)
        ax.axhline(box[1], **REFERENCE, label="budget")
    if log:
        set_logarithmic(ax)
    ax.margins(x=0.18, y=0.12)
    _name_points(figure, ax, ax.legend(loc="lower right"), points)
    return figure


def set_logarithmic(ax: Axes) -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5 times the powers of ten."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())


# where a name may stand beside its point: x and y in points, alignment
CORNERS = (
    (7, 7, "left"),
    (7, -13, "left"),
    (-7, 7, "right"),
    (-7, -13, "right"),
    (0, 13, "center"),
    (0, -20, "center"),
    # further away, where points crowd
    (7, 20, "left"),
    (-7, 20, "right"),
    (7, -27, "left"),
    (-7, -27, "right"),
    (0, 27, "center"),
    (0, -34, "center"),
)


def _name_points(
    figure: Figure,
    ax: Axes,
    legend: Legend,
    points: Mapping[str, tuple[float, float]],
) -> None:
    """Write each name beside its point, where it covers no other name, point or line,
    as far as there is room."""
    figure.draw_without_rendering()  # the layout is final only now
    lines = [line.get_transform().transform_path(line.get_path()) for line in ax.lines]
    size = 4 * figure.dpi / 72
    centres = ax.transData.transform(list(points.values()))
    dots = [Bbox([at - size, at + size]) for at in centres]
    taken = [*dots, legend.get_window_extent()]

    def cost(space: Bbox, others: Sequence[Bbox]) -> int:
        crossed = sum(path.intersects_bbox(space, filled=False) for path in lines)
        near = space.padded(2 * size).count_overlaps(others)
        return 4 * space.count_overlaps(taken) + 2 * crossed + near

    for number, (name, at) in enumerate(points.items()):
        others = dots[:number] + dots[number + 1 :]
        names = _in_corners(ax, name, at)
        spaces = [text.get_window_extent() for text in names]
        costs = [cost(space, others) for space in spaces]
        best = costs.index(min(costs))
        taken.append(spaces[best])
        for text in names[:best] + names[best + 1 :]:
            text.remove()


def _in_corners(ax: Axes, name: str, at: tuple[float, float]) -> list[Annotation]:
    """The name at each place where it may stand."""
    return [
        ax.annotate(name, at, (x, y), textcoords="offset points", ha=side, fontsize=9)
        for x, y, side in CORNERS
    ]


def histogram(  # noqa: PLR0913 - given by keyword, most of them left out
    groups: Mapping[str, Tensor],
    *,
    title: str,
    x_label: str,
    threshold: float | None = None,
    bins: int = 80,
    y_label: str = "weights",
) -> Figure:
    """Histograms on one axis; with `threshold`, dashed lines at plus and minus that
    value."""
    figure, ax = axes(title, x_label, y_label)
    for index, (name, values) in enumerate(groups.items()):
        numbers = values.detach().flatten().numpy()
        ax.hist(
            numbers,
            bins=bins,
            histtype="step",
            color=PALETTE[index % 8],
            linestyle=DASHES[index % 8],
            label=name,
        )
    for edge in [] if threshold is None else [-threshold, threshold]:
        ax.axvline(edge, color="black", linestyle="--", linewidth=1)
    if len(groups) > 1:
        ax.legend()
    return figure


def pictures(
    images: Tensor, captions: Sequence[str], *, title: str, columns: int = 10
) -> Figure:
    """Fashion-MNIST pictures `[n, 1, 28, 28]` (normalised) with a caption each, in rows
    of `columns`."""
    rows = -(-len(captions) // columns)
    figure = empty_figure(WIDTH, 0.35 + 1.0 * rows * 10 / columns)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax in grid:
        ax.axis("off")
    for ax, image, caption in zip(grid, images * STD + MEAN, captions, strict=False):
        ax.imshow((1 - image[0]).numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set_title(caption, fontsize=7.5, loc="center", pad=2)
    _head(figure, title)
    return figure


def filters(
    values: Tensor, captions: Sequence[str], *, title: str, columns: int = 8
) -> Figure:
    """Filters `[n, height, width]` on one grey scale around zero (mid grey), with a
    caption each."""
    rows = -(-len(captions) // columns)
    figure = empty_figure(WIDTH, 0.4 + 1.05 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    most = float(values.abs().max())
    scale = dict(cmap="gray", vmin=-most, vmax=most, interpolation="nearest")
    images = []
    for ax, value, caption in zip(grid, values, captions, strict=False):
        images.append(ax.imshow(value.detach().numpy(), **scale))
        ax.set(xticks=[], yticks=[])
        ax.set_title(caption, fontsize=8.5, loc="center", pad=2)
    figure.colorbar(images[-1], ax=figure.axes, label="weight", shrink=0.9)
    _head(figure, title)
    return figure


def maps(
    panels: Mapping[str, Tensor], *, title: str, label: str, most: float | None = None
) -> Figure:
    """Matrices as pictures side by side, on one grey scale from 0 (white) to the
    largest value (black)."""
    figure = empty_figure(WIDTH if len(panels) > 1 else 4.2, 2.9)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    most = most or max(float(panel.max()) for panel in panels.values())
    scale = dict(cmap="gray_r", vmin=0, vmax=most, interpolation="nearest")
    images = []
    for ax, (name, panel) in zip(grid, panels.items(), strict=True):
        images.append(ax.imshow(panel.detach().numpy(), **scale))
        ax.set(title=name, xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    figure.colorbar(images[-1], ax=list(grid), label=label, shrink=0.85)
    _head(figure, title)
    return figure


def input_map(mask: Tensor) -> Tensor:
    """How many of the first layer's weights are left at each input pixel: `[units,
    784]` bool -> `[28, 28]`."""
    return mask.sum(0).reshape(28, 28).to(torch.float32)
