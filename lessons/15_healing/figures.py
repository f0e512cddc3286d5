"""What lab 15 draws."""

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.axes import Axes

from utils import plots
from utils.plots import PALETTE, Guess

Rows = Mapping[str, Sequence[float]]  # a number of each seed, by row


def ways(rows: Rows, dense: float, small: float, guess: Guess | None = None) -> None:
    """Validation losses of each seed after the same short training, a row a way; the
    left panel has all, the right one those near the dense network. small: that of the
    small shape trained from scratch for as long as the dense one. The guess is that of
    the row "from scratch"."""
    figure = plots.empty_figure(9.4, 1.3 + 0.42 * len(rows))
    whole, near = figure.subplots(1, 2, sharey=True)
    for ax in (whole, near):
        _draw_rows(ax, rows)
        ax.axvline(dense, **plots.REFERENCE, label="the dense network")
        ax.axvline(small, color=PALETTE[2], linestyle="-.", label="gpt_small")
    whole.set_title("all", loc="left")
    near.set_title("the same, nearer", loc="left")
    close = [v for values in rows.values() for v in values if v < dense + 0.7]
    room = 0.12 * (max(close) - min(dense, small, *close))
    near.set_xlim(min(dense, small, *close) - room, max(close) + room)
    if guess is not None and guess.value is not None and "from scratch" in rows:
        row = list(rows).index("from scratch")
        cross: plots.Look = dict(marker="X", markersize=10, linestyle="none")
        whole.plot(guess.value, row, color=PALETTE[3], label="my guess", **cross)
    for ax in (whole, near):
        ax.set_xlabel("validation loss, nats a piece")
    whole.legend(loc="lower center", bbox_to_anchor=(0.5, 1.08), ncols=3)
    plots.show(
        figure,
        alt=(
            "Rows of losses, three seeds each, beside a dashed line for the dense"
            " network. Cut: far to the right. From scratch: nearly as far. Healed by"
            " labels, by the teacher, and with units drawn by lot: near the dense"
            " network, in the order teacher, labels, lot. The right panel shows these"
            " alone."
        ),
    )


def _draw_rows(ax: Axes, rows: Rows) -> None:
    """Small rings for seeds, a large dot for their mean."""
    for row, values in enumerate(rows.values()):
        rings: plots.Look = dict(marker="o", markersize=5, markerfacecolor="none")
        ax.plot(
            values, [row] * len(values), color=PALETTE[0], linestyle="none", **rings
        )
        ax.plot(mean(values), row, marker="o", markersize=8, color=PALETTE[0])
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def told(gains: Rows, guess: Guess | None = None) -> None:
    """What each thing that the network was told brought against labels alone, nats a
    piece, each seed against the same seed; higher is better. Left all, right those near
    zero."""
    figure = plots.empty_figure(9.4, 1.3 + 0.42 * len(gains))
    whole, near = figure.subplots(1, 2, sharey=True)
    for ax in (whole, near):
        _draw_rows(ax, gains)
        ax.axvline(0, **plots.REFERENCE)
        ax.set_xlabel("nats a piece gained on labels alone")
    whole.set_title("all", loc="left")
    near.set_title("the same, nearer (small: seeds, large: mean)", loc="left")
    most = max(value for values in gains.values() for value in values)
    near.set_xlim(-0.15 * most, 1.15 * most)
    plots.draw_guess(whole, guess, vertical=True)
    plots.show(
        figure,
        alt=(
            "Rows around a dashed line at zero, with the seeds: what the dense"
            " network's answers, and answers with something taken away, brought against"
            " labels alone. Right of the line: the answers, and each half of their"
            " places; far to the left those with something taken away."
        ),
    )


def shapes(
    speeds: Mapping[str, tuple[float, float, float]],
    losses: Rows,
    guess: Guess | None = None,
) -> None:
    """Two shapes of as many parameters: pieces a second against the dense network
    (lower quartile, median, upper quartile), and the loss after healing."""
    figure = plots.empty_figure(9.4, 1.2 + 0.5 * len(speeds))
    left, right = figure.subplots(1, 2)
    for row, (low, middle, high) in enumerate(speeds.values()):
        left.plot((low, high), (row, row), color="black", linewidth=1.4, marker="|")
        left.plot(middle, row, color=PALETTE[0], marker="s", markersize=8)
        left.annotate(
            f"{middle:.2f}x",
            (high, row),
            (8, 0),
            textcoords="offset points",
            va="center",
        )
    left.set_yticks(range(len(speeds)), list(speeds))
    left.set_ylim(len(speeds) - 0.5, -0.5)
    left.axvline(1, **plots.REFERENCE)
    left.set_xlabel("times as fast as dense, writing (median, quartiles)")
    left.margins(x=0.18)
    plots.draw_guess(left, guess, vertical=True)
    _draw_rows(right, losses)
    right.set_xlabel("validation loss after healing, nats a piece")
    plots.show(
        figure,
        alt=(
            "Left: how fast the narrow and the shallow network write, against the dense"
            " one; the shallow one is faster. Right: their losses after the same"
            " healing, with the seeds: the shallow one loses more."
        ),
    )


STEPS = (
    "dense, PyTorch",
    "+ ONNX Runtime",
    "+ cut in half",
    "+ healed",
    "+ 8 bits",
    "+ 4 bits",
)


def waterfall(factors: Mapping[str, Sequence[float]], losses: Sequence[float]) -> None:
    """What each of `STEPS` multiplies, and the loss after it."""
    figure = plots.waterfall(
        STEPS,
        factors,
        {"loss, nats a piece": losses},
        title="From the dense network to the file: what gave what",
        unit="",
        digits=2,
    )
    plots.show(
        figure,
        alt=(
            "Bars from left to right, a row a step: dense, runtime, cut, healed, int8,"
            " 4 bits. Panels for the speed of writing, the size of the file and the"
            " memory of keys and values, each as a factor; and the loss after each step"
            " as dots: it jumps where the network is cut, and comes back by healing."
        ),
    )


WAYS = {"cut": "s", "labels alone": "o", "taught": "^"}  # and how they are marked


def payers(
    lost: Mapping[str, Mapping[str, float]],
    never: Mapping[str, Sequence[tuple[float, float]]],
) -> None:
    """Left, by group of places: what the cut and the healed networks lose more than the
    dense one. Right: what the taught one loses more than a never pruned one of the same
    mean loss: mean and standard error over windows, for each seed. Nats a piece."""
    figure = plots.empty_figure(9.8, 1.6 + 0.36 * len(lost))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, (way, marker) in enumerate(WAYS.items()):
        look: plots.Look = dict(marker=marker, color=PALETTE[place], linestyle="none")
        values = [ways[way] for ways in lost.values()]
        left.plot(values, range(len(lost)), label=way, **look)
    for row, group in enumerate(lost):
        for place, (middle, error) in enumerate(never[group]):
            y = row + 0.22 * (place - (len(never[group]) - 1) / 2)
            ends = (middle - 2 * error, middle + 2 * error)
            right.plot(ends, (y, y), color="black", linewidth=1.1)
            right.plot(middle, y, marker="^", markersize=5, color=PALETTE[2])
    left.set_yticks(range(len(lost)), list(lost))
    left.set_ylim(len(lost) - 0.5, -0.5)
    for ax in (left, right):
        ax.axvline(0, **plots.REFERENCE)
    left.set_title("against the dense network", loc="left")
    right.set_title("taught, against never pruned", loc="left")
    left.set_xlabel("nats a piece more")
    right.set_xlabel("nats a piece more (2 standard errors, seeds)")
    left.legend(loc="upper right")
    plots.show(
        figure,
        alt=(
            "A row a group of places. Left: the cut network loses most on names, far"
            " more than elsewhere; healed by labels, and taught, names still lose most."
            " Right: the taught network against never pruned ones of the same mean"
            " loss, with intervals, around a dashed line."
        ),
    )


# ------------------------------------------------------------------------ going further


def rates(tried: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """Loss after healing over the highest learning rate: of each way the rates, and the
    losses."""
    figure, ax = plots.axes(
        "120 steps of healing: how large may a step be?",
        "highest learning rate (logarithmic)",
        "validation loss, nats a piece",
    )
    dashes = ("-", "--", ":")
    for place, (way, (steps, losses)) in enumerate(tried.items()):
        look: plots.Look = dict(color=PALETTE[place], marker=plots.MARKERS[place])
        ax.plot(steps, losses, linestyle=dashes[place], label=way, **look)
    plots.set_logarithmic(ax)
    every = sorted({step for steps, _ in tried.values() for step in steps})
    ax.set_xticks(every, [f"{step:g}" for step in every])
    ax.legend()
    plots.show(
        figure,
        alt=(
            "Loss over the learning rate on a logarithmic axis, a line each for labels"
            " alone, the teacher and LoRA. Lowest at: "
            + "; ".join(f"{way} {_best(*both):g}" for way, both in tried.items())
            + "."
        ),
    )


def _best(steps: Sequence[float], losses: Sequence[float]) -> float:
    return steps[list(losses).index(min(losses))]


def longer(
    steps: Sequence[float],
    losses: Mapping[str, Sequence[float]],
    levels: Mapping[str, float],
) -> None:
    """Loss over the number of healing steps, a line each for labels and teacher, and a
    level for each network that was never pruned."""
    figure = plots.lines(
        steps,
        losses,
        title="Healing for longer",
        x_label="steps of four windows (logarithmic)",
        y_label="validation loss, nats a piece",
    )
    ax = figure.axes[0]
    plots.set_logarithmic(ax)
    ax.set_xticks(list(steps), [f"{s:,}" for s in steps])
    for place, (name, level) in enumerate(levels.items()):
        look: plots.Look = dict(color=("#555555", PALETTE[2])[place], linewidth=1)
        ax.axhline(level, linestyle=("--", "-.")[place], label=name, **look)
    ax.legend()
    plots.show(
        figure,
        alt=(
            "Loss over the number of steps, with labels alone and with the teacher."
            " They fall towards the levels of two networks that were never pruned, and"
            " come nearer to each other."
        ),
    )


def bits(losses: Mapping[str, Sequence[float]], labels: Sequence[str]) -> None:
    """What each network loses by coarser weights, nats a piece: a bar each for 8 and 4
    bits."""
    figure, ax = plots.axes(
        "What rounding the weights costs",
        "nats a piece more than in fp32",
        "",
        height=1.2 + 0.5 * len(losses),
    )
    for row, values in enumerate(losses.values()):
        for place, value in enumerate(values):
            y = row - 0.18 + 0.36 * place
            hatch = ("", "//")[place]
            label = labels[place] if not row else None
            ax.barh(y, value, 0.32, color=PALETTE[place], hatch=hatch, label=label)
            ax.annotate(
                f"{round(value, 3) + 0:.3f}",  # no -0.000
                (max(value, 0), y),
                (5, 0),
                textcoords="offset points",
                va="center",
            )
    ax.set_yticks(range(len(losses)), list(losses))
    ax.set_ylim(len(losses) - 0.5, -0.6)
    ax.margins(x=0.15)
    ax.legend(loc="lower right")
    plots.show(
        figure,
        alt=(
            "Pairs of bars, a pair a network: dense, cut, healed, gpt_small. Eight"
            " bits cost almost nothing, four bits some hundredths of a nat: most for"
            " the cut one, less for the healed one, least for the other two."
        ),
    )


def starts(gains: Rows) -> None:
    """What the teacher brought, for each dense network that was cut, each seed."""
    figure, ax = plots.axes(
        "The same with other networks: what the teacher brought",
        "nats a piece gained on labels alone (small: seeds, large: mean)",
        "",
        height=1.1 + 0.42 * len(gains),
    )
    _draw_rows(ax, gains)
    ax.axvline(0, **plots.REFERENCE)
    plots.show(
        figure,
        alt=(
            "A row for each network that was cut and healed: the gain by the teacher is"
            " right of a dashed line at zero in each."
        ),
    )
