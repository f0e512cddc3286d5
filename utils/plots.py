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

import numpy as np
import torch
from IPython.display import display
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox
from PIL import Image
from torch import Tensor

from utils.data import MEAN, STD
from utils.lab import Guess

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
STYLE = {
    "font.family": "DejaVu Sans",
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
rcParams.update(STYLE)


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
    display(bundle, raw=True, metadata={"image/png": {"alt": alt}})
    display(in_words(alt), raw=True)


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
    display(bundle, raw=True, metadata={"image/gif": {"alt": alt}})
    display(in_words(alt), raw=True)


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
    """An empty figure in the course's style."""
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    ax.set(title=title, xlabel=x_label, ylabel=y_label)
    return figure, ax


def lines(
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
    """
    figure, ax = axes(title, x_label, y_label)
    factor = 100 if percent else 1
    positions = range(len(x)) if stops else x
    for index, (name, values) in enumerate(series.items()):
        style = dict(color=PALETTE[index % 8], linestyle=DASHES[index % 8])
        if len(x) <= 60:  # more would run into one another
            style.update(marker=MARKERS[index % 8], markersize=4.5)
        ax.plot(
            positions, factor * np.asarray(values, dtype=float), label=name, **style
        )
        if spread and name in spread:
            low, high = (
                factor * np.asarray(edge, dtype=float) for edge in spread[name]
            )
            ax.fill_between(
                positions, low, high, color=PALETTE[index % 8], alpha=0.18, linewidth=0
            )
    if level:
        ax.axhline(
            factor * level[1],
            color="#555555",
            linestyle=(0, (4, 3)),
            linewidth=1,
            label=level[0],
        )
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


def bars(
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
    """
    figure, ax = axes(title, x_label, "", height=0.9 + 0.42 * len(values))
    names, numbers = list(values), [float(v) for v in values.values()]
    ax.barh(names, numbers, color=PALETTE[0], height=0.62)
    reaches = [
        (*errors[name], number) if errors and name in errors else (number,)
        for name, number in values.items()
    ]
    for row, name in enumerate(names):
        if errors and name in errors:
            ax.plot(errors[name], [row, row], color="black", linewidth=1.4, marker="|")
    most = (
        max(
            *map(max, reaches),
            reference or 0,
            guess.value if guess and guess.value else 0,
        )
        or 1
    )
    least = min(0, *map(min, reaches))
    for row, (number, reach) in enumerate(zip(numbers, reaches, strict=True)):
        ax.text(
            max(0, *reach) + 0.012 * (most - least),
            row,
            f"{round(number, digits) + 0:,.{digits}f}{unit}",
            va="center",
        )
    ax.set_xlim(1.05 * least, most + 0.16 * (most - least))
    ax.axvline(0, color="black", linewidth=0.8)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    if reference is not None:
        ax.axvline(reference, color="#555555", linestyle=(0, (4, 3)), linewidth=1)
    draw_guess(ax, guess, vertical=True)
    return figure


def dots(
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
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
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
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    return figure


def waterfall(
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
    """
    panels = len(factors) + len(levels)
    figure = Figure(
        figsize=(1.9 + 2.1 * panels, 1.2 + 0.42 * len(steps)), layout="constrained"
    )
    grid = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    rows = range(len(steps))
    for ax, (name, reached) in zip(grid, factors.items(), strict=False):
        before = [1.0, *reached[:-1]]
        gains = [after >= start for start, after in zip(before, reached, strict=True)]
        for row, start, after, gain in zip(rows, before, reached, gains, strict=True):
            ax.barh(
                row,
                after - start,
                left=start,
                height=0.6,
                color=PALETTE[0 if gain else 1],
                hatch="" if gain else "//",
            )
            ax.text(
                max(start, after) * 1.06,
                row,
                f"{after:.3g}x",
                va="center",
                fontsize=9.5,
            )
        ax.set(
            xscale="log",
            xlim=(min(0.9, 0.9 * min(reached)), 2.6 * max(reached)),
            title=name,
        )
        ax.set_xticks(
            [1, 3, 10, 30][: 2 + (max(reached) > 5) + (max(reached) > 15)], minor=False
        )
        ax.set_xticks([], minor=True)
        ax.xaxis.set_major_formatter("{x:g}x")
    for ax, (name, values) in zip(grid[len(factors) :], levels.items(), strict=True):
        kept = [row for row in rows if row not in aside]
        ax.plot(
            [values[row] for row in kept],
            kept,
            color=PALETTE[0],
            marker="o",
            linestyle=":",
            linewidth=1,
        )
        for row in aside:
            ax.plot(
                values[row],
                row,
                marker="s",
                markerfacecolor="white",
                markeredgecolor=PALETTE[1],
            )
        for row, value in zip(rows, values, strict=True):
            ax.annotate(
                f"{value:.1f}{unit}",
                (value, row),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontsize=9.5,
            )
        margin = max(max(values) - min(values), 0.5)
        ax.set(
            title=name, xlim=(min(values) - 0.4 * margin, max(values) + 1.1 * margin)
        )
        ax.xaxis.set_major_formatter("{x:g}" + unit)
        ax.locator_params(axis="x", nbins=3)
    grid[0].set_yticks(rows, steps)
    grid[0].invert_yaxis()
    for ax in grid:
        ax.grid(axis="y", visible=False)
        ax.title.set_fontsize(10.5)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    return figure


def pareto(
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
    """
    figure, ax = axes(title, x_label, y_label, height=4.2)
    joined = sorted(points[name] for name in front)
    ax.plot(
        *zip(*joined, strict=True),
        color=PALETTE[0],
        linewidth=1.2,
        label="front: beaten by none",
    )
    for name, (x, y) in points.items():
        filled = name in front
        face = PALETTE[0] if filled else "white"
        ax.plot(
            x,
            y,
            marker="o" if filled else "s",
            markersize=8,
            markerfacecolor=face,
            markeredgecolor=PALETTE[0 if filled else 1],
        )
    if box:
        ax.axvline(box[0], color="#555555", linestyle=(0, (4, 3)), linewidth=1)
        ax.axhline(
            box[1], color="#555555", linestyle=(0, (4, 3)), linewidth=1, label="budget"
        )
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.18, y=0.12)
    ax.legend(loc="lower right")
    _name_points(ax, points)
    return figure


def _name_points(ax: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each name beside its point, where it covers no other name, point or line,
    as far as there is room."""
    ax.figure.draw_without_rendering()  # the layout is final only now
    lines = [line.get_transform().transform_path(line.get_path()) for line in ax.lines]
    corners = [
        (7, 7, "left"),
        (7, -13, "left"),
        (-7, 7, "right"),
        (-7, -13, "right"),
        (0, 13, "center"),
        (0, -20, "center"),
    ]
    size = 4 * ax.figure.dpi / 72
    centres = ax.transData.transform(list(points.values()))
    dots = [Bbox([at - size, at + size]) for at in centres]
    taken = [*dots, ax.get_legend().get_window_extent()]
    for number, (name, at) in enumerate(points.items()):
        tried = []
        others = dots[:number] + dots[number + 1 :]
        for x, y, side in corners:
            text = ax.annotate(
                name, at, (x, y), textcoords="offset points", ha=side, fontsize=9
            )
            space = text.get_window_extent()
            crossed = sum(path.intersects_bbox(space, filled=False) for path in lines)
            near = space.padded(2 * size).count_overlaps(others)
            tried.append(
                (4 * space.count_overlaps(taken) + 2 * crossed + near, text, space)
            )
        _, best, space = min(tried, key=lambda each: each[0])
        taken.append(space)
        for _, text, _ in tried:
            if text is not best:
                text.remove()


def histogram(
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
    figure = Figure(
        figsize=(WIDTH, 0.35 + 1.0 * rows * 10 / columns), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax in grid:
        ax.axis("off")
    for ax, image, caption in zip(grid, images * STD + MEAN, captions, strict=False):
        ax.imshow((1 - image[0]).numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set_title(caption, fontsize=7.5, loc="center", pad=2)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    return figure


def filters(
    values: Tensor, captions: Sequence[str], *, title: str, columns: int = 8
) -> Figure:
    """Filters `[n, height, width]` on one grey scale around zero (mid grey), with a
    caption each."""
    rows = -(-len(captions) // columns)
    figure = Figure(figsize=(WIDTH, 0.4 + 1.05 * rows), layout="constrained")
    most = float(values.abs().max())
    for ax, value, caption in zip(
        figure.subplots(rows, columns, squeeze=False).flatten(),
        values,
        captions,
        strict=False,
    ):
        image = ax.imshow(
            value.detach().numpy(),
            cmap="gray",
            vmin=-most,
            vmax=most,
            interpolation="nearest",
        )
        ax.set(xticks=[], yticks=[])
        ax.set_title(caption, fontsize=8.5, loc="center", pad=2)
    figure.colorbar(image, ax=figure.axes, label="weight", shrink=0.9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    return figure


def maps(
    panels: Mapping[str, Tensor], *, title: str, label: str, most: float | None = None
) -> Figure:
    """Matrices as pictures side by side, on one grey scale from 0 (white) to the
    largest value (black)."""
    figure = Figure(
        figsize=(WIDTH if len(panels) > 1 else 4.2, 2.9), layout="constrained"
    )
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    most = most or max(float(panel.max()) for panel in panels.values())
    for ax, (name, panel) in zip(grid, panels.items(), strict=True):
        image = ax.imshow(
            panel.detach().numpy(),
            cmap="gray_r",
            vmin=0,
            vmax=most,
            interpolation="nearest",
        )
        ax.set(title=name, xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    figure.colorbar(image, ax=list(grid), label=label, shrink=0.85)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    return figure


def input_map(mask: Tensor) -> Tensor:
    """How many of the first layer's weights are left at each input pixel: `[units,
    784]` bool -> `[28, 28]`."""
    return mask.sum(0).reshape(28, 28).to(torch.float32)
