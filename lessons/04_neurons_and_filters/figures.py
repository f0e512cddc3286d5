"""The figures of lesson 04: plain data in, a picture with its description out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from utils import plots
from utils.measure import Timing
from utils.plots import PALETTE, REFERENCE, Look
from utils.studies import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WHISKERS = "whiskers: the middle half of the rounds"


def speed(times: Mapping[str, Timing], guess: plots.Guess | None = None) -> None:
    """How many times as fast as the first, with the quartiles of the race."""
    figure = plots.bars(
        {name: timing.speedup for name, timing in times.items()},
        title="Zeroed against removed, in one race",
        x_label=f"times as fast as dense (one thread; {WHISKERS})",
        unit="x",
        reference=1,
        errors={name: timing.speedup_quartiles for name, timing in times.items()},
        guess=guess,
    )
    values = (f"{name} {timing.speedup:.2f}" for name, timing in times.items())
    plots.show(
        figure,
        alt=(
            "Bars of speed relative to the dense network, with whiskers for the middle"
            f" half of the rounds: {', '.join(values)}."
        ),
    )


def chosen(
    as_cut: Mapping[str, float],
    renewed: Mapping[str, float],
    dense: float,
    network: str = "VGG without 30% of its filters",
) -> None:
    """Accuracy by who chose, before and after BatchNorm's statistics are renewed."""
    pairs = {name: (as_cut[name], renewed[name]) for name in as_cut}
    figure, ax = _moved(
        f"{network}, not retrained", pairs, ("as cut", "BatchNorm renewed"), dense
    )
    ax.axvline(10, color="black", linestyle=":", linewidth=1, label="guessing: 10")
    _legend(ax)
    said = "as cut, and with BatchNorm's statistics renewed"
    plots.show(figure, alt=f"Accuracy in percent {said}: {_said(pairs, dense)}.")


OFFSET = "offset points"


def _said(pairs: Mapping[str, tuple[float, float]], dense: float) -> str:
    """Both ends of each row, and the whole network, in words."""
    rows = (f"{n} {100 * a:.0f} and {100 * b:.0f}" for n, (a, b) in pairs.items())
    return f"{'; '.join(rows)}; the whole network {100 * dense:.0f}"


def _moved(
    title: str,
    pairs: Mapping[str, tuple[float, float]],
    names: tuple[str, str],
    dense: float,
) -> "tuple[Figure, Axes]":
    """Where each row was and came to, beside the whole network."""
    label = "accuracy on 1,000 validation pictures, %"
    figure, ax = plots.axes(title, label, "", height=1.4 + 0.45 * len(pairs))
    _moves(ax, pairs, names)
    ax.axvline(100 * dense, **REFERENCE, label=f"whole network: {100 * dense:.1f}")
    return figure, ax


def _legend(ax: "Axes") -> None:
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))


def _moves(
    ax: "Axes", pairs: Mapping[str, tuple[float, float]], names: tuple[str, str]
) -> None:
    """A row each: a hollow square, and a dot with its number where it came to."""
    for row, pair in enumerate(pairs.values()):
        start, end = (100 * value for value in pair)
        first, last = names if row == 0 else (None, None)
        hollow: Look = dict(marker="s", markerfacecolor="white", linestyle="")
        ax.plot([start, end], [row, row], color="#999999", linewidth=1.2, zorder=1)
        ax.plot(start, row, color=PALETTE[1], label=first, markersize=7, **hollow)
        dot: Look = dict(color=PALETTE[0], marker="o", markersize=8, linestyle="")
        ax.plot(end, row, label=last, **dot)
        number = ax.annotate(
            f"{end:.1f}", (end, row), (3, 9), textcoords=OFFSET, ha="right"
        )
        # above the dashed line of the whole network
        number.set_bbox(dict(facecolor="white", edgecolor="none", pad=0.6))
    _rows(ax, list(pairs), len(pairs))
    ax.set_xlim(0, 100)


def _rows(ax: "Axes", names: Sequence[str], count: int) -> None:
    """A name at each row, the first on top."""
    ax.set_yticks(range(count), names)
    ax.set_ylim(count - 0.5, -0.6)
    ax.grid(axis="y", visible=False)


def trained(
    before: Mapping[str, float], after: Mapping[str, float], dense: float
) -> None:
    """Accuracy by who chose, before and after a short training."""
    pairs = {name: (before[name], after[name]) for name in before}
    title = "The same networks before and after a short training"
    names = ("BatchNorm renewed", "after 47 training steps")
    figure, ax = _moved(title, pairs, names, dense)
    _legend(ax)
    said = "before and after a short training"
    plots.show(figure, alt=f"Accuracy in percent {said}: {_said(pairs, dense)}.")


def filters(values: Tensor, norms: Tensor) -> None:
    """The filters of a first layer, eight of largest norm above eight of smallest."""
    order = norms.argsort(descending=True)
    places = [*order[:8].tolist(), *order[-8:].tolist()]
    figure = plots.filters(
        values.detach()[places, 0],
        [f"{norms[place]:.2f}" for place in places],
        title="First layer: the 8 filters of largest L1 norm, below the 8 smallest",
        columns=8,
    )
    plots.show(
        figure,
        alt=(
            "Sixteen filters of 3 by 3 in two rows: the large ones have strong light"
            " and dark parts, the small ones are plain grey."
        ),
    )


def control(accuracy: Mapping[str, float]) -> None:
    """LeNet without half of its neurons, by who chose."""
    values = {name: 100 * value for name, value in accuracy.items()}
    figure = plots.bars(
        values,
        title="LeNet, whole and without half of its neurons, not retrained",
        x_label="validation accuracy, %",
        unit="%",
        digits=1,
    )
    said = ", ".join(f"{name} {value:.0f}" for name, value in values.items())
    plots.show(figure, alt=f"Bars of LeNet's accuracy in percent: {said}.")


def half(spreads: Mapping[str, Spread]) -> None:
    """Accuracy by score without half of the filters, BatchNorm renewed; recorded."""
    figure = plots.dots(
        {name: 100 * spread.mean for name, spread in spreads.items()},
        {name: (100 * s.low, 100 * s.high) for name, s in spreads.items()},
        title="VGG without half of its filters, BatchNorm renewed, not retrained",
        x_label="accuracy, % (random: mean, lowest and highest of the draws)",
        digits=1,
    )
    said = (f"{name} {100 * spread.mean:.0f}" for name, spread in spreads.items())
    chance = spreads["random"]
    plots.show(
        figure,
        alt=(
            f"Accuracy in percent by score: {', '.join(said)}, with draws from"
            f" {100 * chance.low:.0f} to {100 * chance.high:.0f}."
        ),
    )
