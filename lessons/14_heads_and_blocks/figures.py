"""The figures of lesson 14: plain data in, a picture with its description out."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from torch import Tensor

from utils import plots
from utils.measure import Timing
from utils.plots import MARKERS, PALETTE, REFERENCE, Look

Curves = Mapping[str, Sequence[float]]  # losses by score, one for each count
Band = tuple[Sequence[float], Sequence[float]]  # lowest and highest of several draws
DIGITS = 10  # a number above that has no decimals


def _map(ax: Axes, values: Tensor, title: str, *, logarithmic: bool = False) -> None:
    """A number for each head, written into its cell: a row is a block."""
    least = float(values.clamp_min(1e-3).min())
    scale = LogNorm(least, float(values.max())) if logarithmic else None
    shown = values.clamp_min(least) if logarithmic else values
    ax.imshow(shown.numpy(), cmap="gray_r", norm=scale, aspect="auto", alpha=0.75)
    dark = 0.75 * float(values.max())
    for row, numbers in enumerate(values.tolist()):
        for column, number in enumerate(numbers):
            text = f"{number:.0f}" if number >= DIGITS else f"{number:.2f}"
            colour = "white" if number > dark else "black"
            ax.text(column, row, text, ha="center", va="center", fontsize=8, c=colour)
    ax.set(title=title, xlabel="head", ylabel="block")
    ax.set_xticks(range(values.shape[1]))
    ax.set_yticks(range(values.shape[0]))
    ax.grid(visible=False)


def heads(
    alone: Tensor,
    counts: Sequence[int],
    curves: Curves,
    random: Sequence[Sequence[float]],
    guess: plots.Guess | None = None,
) -> None:
    """What each head costs by itself, and what many cost together, by who chose
    them."""
    figure = plots.empty_figure(9.4, 3.9)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    _map(left, alone, "loss rise without one head, nats", logarithmic=True)
    for number, draw in enumerate(random):
        name = "random, five draws" if number == 0 else None
        right.plot(counts, draw, color="#999999", linewidth=0.9, marker=".", label=name)
    for index, (name, losses) in enumerate(curves.items()):
        look: Look = dict(color=PALETTE[index], marker=MARKERS[index], markersize=5)
        right.plot(counts, losses, **look, label=name)
    right.set(
        title="loss rise without so many",
        xlabel="heads removed, of 36 (one stays in each block)",
        ylabel="nats a piece (logarithmic)",
        yscale="log",
    )
    right.axhline(0.2, **REFERENCE)
    if guess and guess.value is not None:
        look = dict(color="black", linestyle=":", linewidth=2)
        right.axvline(guess.value, **look, label=f"my guess: {guess.value:g} heads")
    right.legend(fontsize=7.5)
    row = int(alone.mean(1).argmax())
    others = alone[[other for other in range(len(alone)) if other != row]]
    said = (f"{name} {losses[-1]:.2f}" for name, losses in curves.items())
    plots.show(
        figure,
        alt=(
            f"A map of 36 heads by block: block {row} costs {alone[row].min():.2f} to"
            f" {alone[row].max():.2f} nats a head, the others at most"
            f" {others.max():.2f}."
            f" Beside it the loss rise over the heads removed; at {counts[-1]}:"
            f" {', '.join(said)} nats; random draws lie far above."
        ),
    )


def looks(distance: Tensor, rises: Mapping[str, Sequence[float]]) -> None:
    """How far back each head looks, and what leaving out a block's attention costs, for
    the pieces that begin a word and for those that go on with one."""
    figure = plots.empty_figure(9.4, 3.7)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    _map(left, distance, "how far back a head looks, pieces")
    for index, (name, values) in enumerate(rises.items()):
        places = [block + 0.4 * index - 0.2 for block in range(len(values))]
        look: Look = dict(color=PALETTE[index], hatch=("", "//")[index])
        right.bar(places, values, 0.36, **look, edgecolor="white", label=name)
    right.set(
        title="loss rise without a block's attention",
        xlabel="block",
        ylabel="nats a piece (logarithmic)",
        yscale="log",
        xticks=range(len(distance)),
    )
    right.legend()
    said = (
        f"{name}: " + ", ".join(f"{value:.2f}" for value in values)
        for name, values in rises.items()
    )
    nearest = distance.mean(1)
    plots.show(
        figure,
        alt=(
            "A map of how many pieces back each of 36 heads looks, on average by block:"
            f" {', '.join(f'{value:.0f}' for value in nearest.tolist())}. Beside it the"
            f" loss rise without a block's attention, by block; {'; '.join(said)}."
        ),
    )


def neurons(
    fractions: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    random: Sequence[Sequence[float]],
) -> None:
    """Loss rise over the neurons removed in every block, by score."""
    figure, ax = plots.axes(
        "Neurons removed in every block",
        "neurons removed, %",
        "loss rise, nats a piece",
        height=3.9,
    )
    percent = [100 * each for each in fractions]
    for number, draw in enumerate(random):
        name = "random, five draws" if number == 0 else None
        ax.plot(percent, draw, color="#999999", linewidth=0.9, marker=".", label=name)
    for index, (name, losses) in enumerate(curves.items()):
        look: Look = dict(color=PALETTE[index], marker=MARKERS[index], markersize=6)
        ax.plot(percent, losses, **look, label=name)
    ax.set_xticks(percent)
    ax.legend()
    said = (f"{name} {losses[-1]:.2f}" for name, losses in curves.items())
    low, high = (f(draw[-1] for draw in random) for f in (min, max))
    plots.show(
        figure,
        alt=(
            f"Loss rise over the neurons removed; at {percent[-1]:g}%:"
            f" {', '.join(said)} nats, random draws {low:.2f} to {high:.2f}."
        ),
    )


def pairs(
    sums: Mapping[str, float],
    together: Mapping[str, float],
    ranked: str,
    guess: plots.Guess | None = None,
) -> None:
    """What two blocks cost together, over the sum of what each costs alone."""
    figure, ax = plots.axes(
        "Two blocks gone",
        "sum of what each costs alone, nats",
        "cost together, nats",
        height=4.2,
    )
    best = min(together, key=lambda pair: together[pair])
    marks = {best: "best pair", ranked: "the two cheapest alone"}
    others = [pair for pair in sums if pair not in marks]
    look: Look = dict(color="#777777", linestyle="", marker="o", markersize=5)
    ax.plot([sums[p] for p in others], [together[p] for p in others], **look)
    for index, (pair, words) in enumerate(marks.items()):
        look = dict(color=PALETTE[index], linestyle="", marker=MARKERS[index])
        at = sums[pair], together[pair]
        ax.plot(*at, **look, markersize=9, label=f"{words}: {pair}")
    for pair in others:
        place: Look = dict(textcoords="offset points", fontsize=7.5, color="#555555")
        ax.annotate(pair, (sums[pair], together[pair]), (5, -3), **place)
    ends = [min(sums.values()), max(sums.values())]
    ax.plot(ends, ends, **REFERENCE, label="as if they added up")
    ax.set(xscale="log", yscale="log")
    plots.draw_guess(ax, guess)
    ax.legend()
    plots.show(
        figure,
        alt=(
            f"Fifteen pairs of blocks: best is {best}, {together[best]:.2f} nats; the"
            f" two cheapest alone are {ranked}, {together[ranked]:.2f} together. Most"
            " points lie above the line on which costs add up."
        ),
    )


def race(
    writing: Mapping[str, Timing],
    reading: Mapping[str, Timing],
    parameters: Mapping[str, int],
    cache: Mapping[str, int],
    guess: plots.Guess | None = None,
) -> None:
    """How many times as fast each network writes and reads; beside it, its parameters
    and the memory of what it has read."""
    figure, ax = plots.axes(
        "What each buys",
        "times as fast as dense (one thread; whiskers: middle half of the rounds)",
        "",
        height=1.2 + 0.62 * len(writing),
    )
    for index, (name, race) in enumerate(
        {"writing": writing, "reading": reading}.items()
    ):
        for row, timing in enumerate(race.values()):
            at = row + 0.16 * (2 * index - 1)
            look: Look = dict(color=PALETTE[index], linewidth=1.2, marker="|")
            ax.plot(timing.speedup_quartiles, [at, at], **look)
            look = dict(color=PALETTE[index], marker=MARKERS[index], linestyle="")
            ax.plot(timing.speedup, at, **look, label=name if row == 0 else None)
    labels = [
        f"{name}\n{parameters[name] / 1e6:.2f} M, cache {cache[name] / 1024:,.0f} kB"
        for name in writing
    ]
    ax.set_yticks(range(len(labels)), labels, fontsize=8.5)
    ax.invert_yaxis()
    ax.axvline(1, **REFERENCE)
    plots.draw_guess(ax, guess, vertical=True)
    ax.legend(loc="lower right")
    said = (
        f"{name}: writes {writing[name].speedup:.2f} times, reads"
        f" {reading[name].speedup:.2f} times as fast"
        for name in writing
    )
    plots.show(figure, alt=f"Speed against the dense network. {'; '.join(said)}.")


def greedy(
    counts: Sequence[int],
    curves: Mapping[str, Sequence[float]],
    spread: Mapping[str, Band],
) -> None:
    """Loss rise over the heads removed: one by one, and greedily."""
    figure = plots.lines(
        counts,
        curves,
        spread=spread,
        title="Heads chosen one by one, and greedily",
        x_label="heads removed, of 36",
        y_label="loss rise, nats a piece",
    )
    said = (f"{name} {losses[-1]:.2f}" for name, losses in curves.items())
    plots.show(
        figure,
        alt=(
            f"Loss rise over the heads removed; at {counts[-1]} of 36:"
            f" {', '.join(said)} nats."
        ),
    )


def firing(shares: Tensor, often: Sequence[float]) -> None:
    """How many neurons fire for a piece, by block, and how many of them ever do."""
    figure = plots.empty_figure(plots.WIDTH, 3.2)
    left, right = figure.subplots(1, 2)
    left.bar(range(len(shares)), (100 * shares).tolist(), color=PALETTE[0])
    left.set(
        title="neurons that fire for a piece",
        xlabel="block",
        ylabel="% of the block's neurons",
    )
    right.hist([100 * each for each in often], bins=40, color=PALETTE[1])
    right.set(
        title="how often each neuron fires",
        xlabel="% of the pieces",
        ylabel="neurons",
    )
    plots.show(
        figure,
        alt=(
            "Share of the neurons that fire for a piece, by block, in %:"
            f" {', '.join(f'{100 * x:.0f}' for x in shares.tolist())}. Beside it a"
            " histogram of how often each neuron fires: most seldom."
        ),
    )
