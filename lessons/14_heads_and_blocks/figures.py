"""The figures of lesson 14: plain data in, a picture with its description out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from IPython.display import Markdown
from matplotlib.axes import Axes
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from utils import plots
from utils.measure import Rate
from utils.plots import MARKERS, PALETTE, REFERENCE, Look

# a models.GPT, whose blocks Sequential hides from the type checker
Network = Any
Curves = Mapping[str, Sequence[float]]  # losses by score, one for each count
Band = tuple[Sequence[float], Sequence[float]]  # lowest and highest of several draws

# -------------------------------------------------------- what is looked at in a stream


@torch.no_grad()
def distances(network: Network, streams: Sequence[Tensor]) -> Tensor:
    """How many pieces back each head looks on average, `[blocks, heads]`, given the
    stream before each block, `[n, t, width]`."""
    places = torch.arange(streams[0].shape[1])
    back = places[:, None] - places  # [t, t]: how far, negative for what comes later
    found = []
    for block, stream in zip(network.blocks, streams, strict=False):
        attention = block.attention
        query, key = (
            layer(block.norm1(stream)).unflatten(-1, (-1, attention.head_width))
            for layer in (attention.query, attention.key)
        )  # [n, t, heads, head_width] each
        fit = torch.einsum("nihw,njhw->nhij", query, key) / attention.head_width**0.5
        looks = fit.masked_fill(back < 0, -torch.inf).softmax(-1)
        found.append((looks * back).sum(-1).mean((0, 2)))
    return torch.stack(found)


@torch.no_grad()
def firing_shares(network: Network, streams: Sequence[Tensor]) -> Tensor:
    """For which share of the pieces each neuron is above zero, `[blocks, neurons]`."""
    found = []
    for block, stream in zip(network.blocks, streams, strict=False):
        stream = stream + block.attention(block.norm1(stream))
        neurons = block.mlp.up(block.norm2(stream))
        found.append((neurons > 0).float().mean((0, 1)))
    return torch.stack(found)


@torch.no_grad()
def streams(network: Network, pieces: Tensor) -> list[Tensor]:
    """The stream before the first block and after each, `[n, t, width]` each."""
    places = torch.arange(pieces.shape[1])
    passed = [network.embedding(pieces) + network.position(places)]
    for block in network.blocks:
        passed.append(block(passed[-1]))
    return passed


@torch.no_grad()
def neuron_steps(
    network: Network, streams: Sequence[Tensor], piece: int
) -> dict[str, Callable[[Tensor], Any]]:
    """Three ways to run the MLPs of all blocks for one piece of the first window:
    everything; `up` whole and the columns of `down` that fire; and, as if foreseen, the
    rows and columns that fire alone. Each takes an input that it does not look at."""
    parts = []
    for block, stream in zip(network.blocks, streams, strict=False):
        stream = stream + block.attention(block.norm1(stream))
        x = block.norm2(stream)[0, piece].numpy()
        up, down = block.mlp.up.weight.numpy(), block.mlp.down.weight.numpy()
        rows = np.ascontiguousarray(down.T)  # a neuron's column in one piece
        parts.append((x, up, down, rows, np.flatnonzero(up @ x > 0)))

    def everything(_: Tensor) -> list[np.ndarray]:
        return [down @ np.maximum(up @ x, 0) for x, up, down, _, _ in parts]

    def after_up(_: Tensor) -> list[np.ndarray]:
        found = []
        for x, up, _, rows, _ in parts:
            neurons = up @ x
            fires = np.flatnonzero(neurons > 0)
            found.append(neurons[fires] @ rows[fires])
        return found

    def foreseen(_: Tensor) -> list[np.ndarray]:
        return [(up[fires] @ x) @ rows[fires] for x, up, _, rows, fires in parts]

    return {"everything": everything, "after up": after_up, "foreseen": foreseen}


class _Count(TorchDispatchMode):
    """Counts the operators that torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def calls(network: Network, pieces: Tensor) -> int:
    """How many operators torch runs for these pieces."""
    with _Count() as counter:
        network(pieces)
    return counter.count


# -------------------------------------------------------------------------- the figures


def _map(ax: Axes, values: Tensor, title: str) -> None:
    """A number for each head, written into its cell: a row is a block."""
    most = float(values.max())
    ax.imshow(values.clamp_min(0).numpy(), cmap="gray_r", vmin=0, vmax=1.5 * most)
    for row, numbers in enumerate(values.tolist()):
        for column, number in enumerate(numbers):
            colour = "white" if number > 0.75 * most else "black"
            look: Look = dict(ha="center", va="center", fontsize=8.5, color=colour)
            ax.text(column, row, f"{round(number)}", **look)
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
    figure = plots.empty_figure(9.4, 4.0)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    _map(left, 1000 * alone, "one head gone: loss rise,\nthousandths of a nat")
    for number, draw in enumerate(random):
        name = "random, five draws" if number == 0 else None
        right.plot(counts, draw, color="#999999", linewidth=0.9, marker=".", label=name)
    for index, (name, losses) in enumerate(curves.items()):
        look: Look = dict(color=PALETTE[index], marker=MARKERS[index], markersize=5)
        right.plot(counts, losses, **look, label=name)
    right.set(
        title="many heads gone, by who chose them",
        xlabel="heads removed, of 36 (one stays in each block)",
        ylabel="loss rise, nats a piece",
        xticks=counts,
    )
    right.axhline(0.2, **REFERENCE)
    if guess and guess.value is not None:
        look = dict(color="black", linestyle=":", linewidth=2)
        right.axvline(guess.value, **look, label=f"my guess: {guess.value:g} heads")
    right.legend(fontsize=8)
    said = (f"{name} {losses[2]:.2f}" for name, losses in curves.items())
    low, high = (f(draw[2] for draw in random) for f in (min, max))
    plots.show(
        figure,
        alt=(
            "A map of what each of 36 heads costs alone: at most"
            f" {alone.max():.3f} nats. Beside it the loss rise over the heads removed;"
            f" without {counts[2]}: {', '.join(said)} nats, random draws {low:.2f} to"
            f" {high:.2f}."
        ),
    )


def parts(
    distance: Tensor,
    without: Mapping[str, Sequence[float]],
) -> None:
    """How far back each head looks, and what leaving out the attention, or the MLP, of
    a block costs."""
    figure = plots.empty_figure(9.4, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    _map(left, distance, "how many pieces back\na head looks")
    for index, (name, values) in enumerate(without.items()):
        look: Look = dict(color=PALETTE[index], marker=MARKERS[index], linestyle="")
        right.plot(range(len(values)), values, **look, label=_title(name))
    right.set(
        title="one part gone",
        xlabel="block",
        ylabel="loss rise, nats (logarithmic)",
        yscale="log",
        xticks=range(len(distance)),
        yticks=(0.03, 0.1, 0.3, 1, 3),
    )
    right.yaxis.set_major_formatter("{x:g}")
    right.minorticks_off()
    right.legend(title="left out")
    said = (
        f"{_title(name)}: " + ", ".join(f"{value:.2f}" for value in values)
        for name, values in without.items()
    )
    mean = ", ".join(f"{value:.0f}" for value in distance.mean(1).tolist())
    plots.show(
        figure,
        alt=(
            "A map of how many pieces back each of 36 heads looks, on average by block:"
            f" {mean}. Beside it the loss rise without one part, by block;"
            f" {'; '.join(said)}."
        ),
    )


def _title(part: str) -> str:
    return "MLP" if part == "mlp" else part


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


def triples(
    alone: Sequence[float],
    together: Mapping[tuple[int, ...], float],
    cheapest: tuple[int, ...],
) -> None:
    """What three blocks cost together, over the sum of what each costs alone; of the
    sets that spare the dearest block."""
    figure, ax = plots.axes(
        "Three blocks gone",
        "sum of what each costs alone, nats",
        "cost together, nats",
        height=4.2,
    )
    dearest = max(range(len(alone)), key=lambda block: alone[block])
    shown = {t: cost for t, cost in together.items() if dearest not in t}
    sums = {three: sum(alone[block] for block in three) for three in shown}
    best = min(shown, key=lambda three: shown[three])
    marks = {(3, 4, 5): "the last three", cheapest: "cheapest alone", best: "best"}
    others = sorted(
        (three for three in shown if three not in marks), key=lambda three: sums[three]
    )
    for number, three in enumerate(others):
        look: Look = dict(color="#777777", linestyle="", marker="o", markersize=5)
        ax.plot(sums[three], shown[three], **look)
        place: Look = dict(textcoords="offset points", fontsize=8, color="#555555")
        name = " ".join(map(str, three))
        # neighbours have their names on different sides
        ax.annotate(
            name, (sums[three], shown[three]), (-8, (7, -14)[number % 2]), **place
        )
    for index, (three, words) in enumerate(marks.items()):
        look = dict(color=PALETTE[index], linestyle="", marker=MARKERS[index])
        named = f"{words}: {', '.join(map(str, three))}"
        ax.plot(sums[three], shown[three], **look, markersize=9, label=named)
    ends = [0, max(sums.values())]
    ax.plot(ends, ends, **REFERENCE, label="as if costs added up")
    ax.set(ylim=(0, 1.15 * max(shown.values())))
    ax.legend(title=f"blocks gone; with block {dearest} all cost more", loc="best")
    plots.show(
        figure,
        alt=(
            f"Ten sets of three blocks without block {dearest}: best is {best},"
            f" {together[best]:.2f} nats; the three cheapest alone are {cheapest},"
            f" {together[cheapest]:.2f} together where their sum is"
            f" {sums[cheapest]:.2f}; the last three cost {together[3, 4, 5]:.2f}."
        ),
    )


def race(
    writing: Mapping[str, Rate],
    reading: Mapping[str, Rate],
    parameters: Mapping[str, int],
    rises: Mapping[str, float],
) -> None:
    """How many times as fast each network writes and reads; beside its name, its
    parameters and what it lost."""
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
        f"{name}\n{parameters[name] / 1e6:.2f} M, loss +{rises[name]:.2f}"
        for name in writing
    ]
    ax.set_yticks(range(len(labels)), labels, fontsize=8.5)
    ax.invert_yaxis()
    ax.axvline(1, **REFERENCE)
    ax.legend(loc="upper right")
    said = (
        f"{name}: writes {writing[name].speedup:.2f} times, reads"
        f" {reading[name].speedup:.2f} times as fast"
        for name in writing
    )
    plots.show(figure, alt=f"Speed against the dense network. {'; '.join(said)}.")


def greedy(
    counts: Sequence[int], truth: Mapping[str, Any], scored: Sequence[Mapping[str, Any]]
) -> None:
    """Loss rise over the heads removed, from the record: greedy, the truth one by one,
    the gate and the gate divided by its norm in each block, and random."""
    gates = [run["heads_gate"] for run in scored]
    divided = [run["heads_gate_by_block"] for run in scored]
    curves = {
        "greedy": truth["heads_greedy"],
        "truth, one by one": truth["heads_truth"],
        "gate": _means(gates),
        "gate, divided by its block's norm": _means(divided),
        "random": _means(truth["heads_random"]),
    }
    spread = {
        "gate": _ends(gates),
        "gate, divided by its block's norm": _ends(divided),
        "random": _ends(truth["heads_random"]),
    }
    figure = plots.lines(
        counts,
        curves,
        spread=spread,
        title="Heads, one by one and greedily (bands: three or five draws)",
        x_label="heads removed, of 36",
        y_label="loss rise, nats a piece",
    )
    figure.axes[0].set_xticks(counts)
    said = (f"{name} {losses[1]:.3f}" for name, losses in curves.items())
    plots.show(
        figure,
        alt=(
            f"Loss rise over the heads removed; without {counts[1]} of 36:"
            f" {', '.join(said)} nats."
        ),
    )


def _means(draws: Sequence[Sequence[float]]) -> list[float]:
    return [sum(each) / len(each) for each in zip(*draws, strict=True)]


def _ends(draws: Sequence[Sequence[float]]) -> Band:
    """Lowest and highest."""
    columns = list(zip(*draws, strict=True))
    return [min(each) for each in columns], [max(each) for each in columns]


def firing(shares: Tensor, often: Sequence[float]) -> None:
    """How many neurons fire for a piece, by block, and how many of them ever do."""
    figure = plots.empty_figure(plots.WIDTH, 3.2)
    left, right = figure.subplots(1, 2)
    left.bar(range(len(shares)), (100 * shares).tolist(), color=PALETTE[0])
    left.set(
        title="neurons that fire for a piece",
        xlabel="block",
        ylabel="% of the block's neurons",
        xticks=range(len(shares)),
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


def table(
    truth: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]
) -> Markdown:
    """What was found on each of the recorded networks, in nats."""
    columns: dict[str, list[str]] = {}
    for run in truth:
        draws = [each for each in scored if each["network"] == run["network"]]
        columns[run["network"]] = _column(run, draws)
    rows = [
        "dense loss",
        "dearest head alone",
        "all attention gone",
        "first attention gone",
        "first MLP gone",
        "a table in its place",
        "18 heads gone: truth",
        "18 heads gone: gate",
        "18 heads gone: random",
        "half of the neurons: w\\*g",
        "half of the neurons: weights",
        "half of the neurons: mean activation",
        "half of the neurons: random",
        "three blocks gone: cheapest alone",
        "three blocks gone: best",
    ]
    lines = [
        f"| loss rise, nats | {' | '.join(columns)} |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for place, name in enumerate(rows):
        cells = " | ".join(column[place] for column in columns.values())
        lines.append(f"| {name} | {cells} |")
    return Markdown("\n".join(lines))


def _column(run: Mapping[str, Any], scored: Sequence[Mapping[str, Any]]) -> list[str]:
    alone, threes = run["blocks_alone"], run["blocks_3"]
    cheapest = sorted(sorted(range(len(alone)), key=lambda block: alone[block])[:3])

    def of(draws: Sequence[Sequence[float]]) -> str:
        low, high = (each[1] for each in _ends(draws))
        return f"{low:.2f} to {high:.2f}"

    found = [
        run["validation_loss"],
        max(map(max, run["heads_alone"])),
        run["attention_all"],
        run["attention_alone"][0],
        run["mlp_alone"][0],
        run["first_mlp_as_table"],
        run["heads_truth"][1],
        of([each["heads_gate"] for each in scored]),
        of(run["heads_random"]),
        of([each["neurons_taylor"] for each in scored]),
        run["neurons_weights"][1],
        of([each["neurons_mean"] for each in scored]),
        of(run["neurons_random"]),
        threes[" ".join(map(str, cheapest))],
        min(threes.values()),
    ]
    return [each if isinstance(each, str) else f"{each:.2f}" for each in found]
