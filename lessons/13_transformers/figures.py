"""The figures of lesson 13."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from utils import plots
from utils.plots import PALETTE, Guess, Look

SCOPES = {"global": "all weights", "layerwise": "a layer", "unit": "an output"}
PARTS = (
    "attention.query",
    "attention.key",
    "attention.value",
    "attention.out",
    "mlp.up",
    "mlp.down",
)
RISE = "rise of the loss, nats a piece"


def interval(rise: Tensor) -> tuple[float, float]:
    """95% of the mean over windows `[n]`."""
    margin = 1.96 * rise.std().item() / len(rise) ** 0.5
    return rise.mean().item() - margin, rise.mean().item() + margin


def breaking(broken: Mapping[float, Tensor], guess: Guess | None = None) -> None:
    """The rise of the loss over the sparsity, with a band over the windows."""
    figure, ax = plots.axes("The loss as the weights go", "sparsity, %", RISE)
    x = [100 * sparsity for sparsity in broken]
    ends = [interval(rise) for rise in broken.values()]
    ax.plot(x, [rise.mean().item() for rise in broken.values()], marker="o")
    low, high = zip(*ends, strict=True)
    ax.fill_between(x, low, high, alpha=0.25)
    ax.axhline(0.5, **plots.REFERENCE, label="half a nat")
    ax.legend()
    plots.draw_guess(ax, guess, vertical=True)
    plots.show(
        figure,
        alt=(
            "Rise of the loss over the sparsity: nearly flat up to 50 percent, then"
            " steeper and steeper; a dashed line marks half a nat."
        ),
    )


def scopes(found: Mapping[tuple[str, str], Tensor]) -> None:
    """The rise of the loss for each score and each rule of who competes."""
    figure, ax = plots.axes(
        "60% pruned: who competes with whom", f"{RISE} (logarithmic)", "", height=3.9
    )
    names = list(dict.fromkeys(name.split(",")[0] for name, _ in found))
    for index, scope in enumerate(SCOPES):
        first = True
        for (name, own), rise in found.items():
            if own != scope:
                continue
            row = names.index(name.split(",")[0]) + 0.2 * (index - 1)
            colour = PALETTE[index]
            ax.plot(interval(rise), [row, row], color=colour, linewidth=1.4)
            label = SCOPES[scope] if first else None
            marker = plots.MARKERS[index]
            mean = rise.mean().item()
            ax.plot(mean, row, color=colour, marker=marker, linestyle="", label=label)
            first = False
    plots.set_logarithmic(ax)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.legend(title="compete within")
    plots.show(
        figure,
        alt=(
            "Dots with intervals in four rows, for magnitude, Wanda's product, w*g"
            " and random, three marks for three rules of who competes: Wanda's product"
            " with all weights competing is far to the right of the other rules; random"
            " is farthest to the right."
        ),
    )


def units(found: Mapping[tuple[str, str, int], Tensor]) -> None:
    """The rise of the loss for each score, as trained and in other units."""
    figure, ax = plots.axes(
        "The same network in other units, 60% pruned", RISE, "", height=3.6
    )
    rows = list(dict.fromkeys((name, scope) for name, scope, _ in found))
    names = {1: "as trained", 2: "factors of about 2", 4: "factors of about 4"}
    for index, (spread, label) in enumerate(names.items()):
        for row, pair in enumerate(rows):
            rise = found[*pair, spread]
            place = row + 0.2 * (index - 1)
            look: Look = dict(color=PALETTE[index], marker=plots.MARKERS[index])
            ax.plot(interval(rise), [place] * 2, color=look["color"], linewidth=1.4)
            shown = label if row == 0 else None
            ax.plot(rise.mean().item(), place, linestyle="", label=shown, **look)
    said = {"activation": "Wanda", "taylor": "w*g"}
    ax.set_yticks(range(len(rows)), [f"{said.get(n, n)}, {SCOPES[s]}" for n, s in rows])
    ax.set_xlim(left=0)
    ax.invert_yaxis()
    ax.legend()
    plots.show(
        figure,
        alt=(
            "Dots in four rows, three marks each, for the network as trained and in two"
            " other units: in the two rows of magnitude the marks move far to the"
            " right; in those of Wanda and of w times g they lie on one another."
        ),
    )


def learning(history: Mapping[str, Sequence[float]]) -> None:
    """The validation loss after each epoch."""
    figure = plots.lines(
        range(1, len(history["validation_loss"]) + 1),
        {
            "chapters kept out": history["validation_loss"],
            "training, mean of the epoch": history["train_loss"],
        },
        title="How the network learned to read",
        x_label="passes over the five novels",
        y_label="loss, nats a piece",
    )
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    plots.show(
        figure,
        alt=(
            "Loss over the passes: the training loss falls all the way; the loss on"
            " chapters kept out falls, fastest at the beginning and again at the end."
        ),
    )


def shares(kept: Mapping[str, float]) -> None:
    """What each layer keeps, as a map of blocks and layers."""
    figure, ax = plots.axes("What w*g keeps of each layer, in %", "block", "")
    table = np.array(
        [[100 * kept[f"blocks.{b}.{p}.weight"] for b in range(6)] for p in PARTS]
    )
    ax.imshow(table, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        colour = "white" if value > 55 else "black"
        ax.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
    ax.set_yticks(range(len(PARTS)), [part.split(".")[1] for part in PARTS])
    ax.set_xticks(range(6))
    ax.grid(visible=False)
    plots.show(
        figure,
        alt=(
            "A map of six blocks and six kinds of layer with the percentage that each"
            " keeps: the queries and keys of block 0 keep hardly anything; the last"
            " blocks keep more than the first."
        ),
    )


def compared(
    rows: Mapping[str, Sequence[float]], title: str, networks: Sequence[str] = ()
) -> None:
    """A row for each way, a dot for each draw or seed, and their mean; with `networks`,
    a mark of its own for each, on a logarithmic axis, and no mean."""
    figure, ax = plots.axes(title, RISE, "", height=0.9 + 0.36 * len(rows))
    for row, values in enumerate(rows.values()):
        ax.plot(values, [row] * len(values), color="black", linewidth=1)
        for index, value in enumerate(values):
            own = index if networks else 0
            look: Look = dict(color=PALETTE[own], marker=plots.MARKERS[own])
            label = networks[index] if networks and not row else None
            ax.plot(value, row, linestyle="", alpha=0.8, label=label, **look)
        if not networks:
            ax.text(max(values), row, f"  {np.mean(values):.2f}", va="center")
    ax.set_yticks(range(len(rows)), list(rows))
    ax.margins(x=0.12)
    ax.invert_yaxis()
    if networks:
        plots.set_logarithmic(ax)
        ax.set_xlabel(f"{RISE} (logarithmic)")
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        ax.set_xlim(left=min(0, *(min(values) for values in rows.values())))
    names = "; ".join(rows)
    shown = "for each network" if networks else "with their mean"
    plots.show(
        figure, alt=f"Dots of the rise of the loss {shown}, a row each for: {names}."
    )


def outliers(found: Mapping[str, Mapping[str, float]]) -> None:
    """The largest input of each layer as a multiple of the middle one, by network."""
    figure, ax = plots.axes(
        "Largest input of a layer, as a multiple of the middle one", "block", "times"
    )
    kinds = {"query": "-", "out": ":", "up": "--", "down": "-."}
    for index, (network, sizes) in enumerate(found.items()):
        for kind, dash in kinds.items():
            values = [v for name, v in sizes.items() if name.split(".")[-2] == kind]
            look: Look = dict(color=PALETTE[index], linestyle=dash)
            look |= dict(marker=plots.MARKERS[index], markersize=4.5)
            ax.plot(range(len(values)), values, label=f"{network}: {kind}", **look)
    ax.set_ylim(bottom=0)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8.5)
    plots.show(
        figure,
        alt=(
            "Lines over the six blocks, four for each of two networks: in the network"
            " trained for long the largest input of several layers is many times the"
            " middle one, most of all in the first three blocks; in the other one it is"
            " a few times the middle one everywhere."
        ),
    )


def one_layer(errors: Mapping[str, float]) -> None:
    """The error of one layer's outputs, as a share of their size."""
    figure = plots.bars(
        {name: 100 * error for name, error in errors.items()},
        title="One layer, 70% pruned: how far its outputs moved",
        x_label="squared error, % of the outputs' squares",
        unit="%",
        digits=1,
    )
    plots.show(
        figure,
        alt=(
            "Bars of the squared error of one layer: magnitude far the longest;"
            " magnitude refitted, SparseGPT and SparseGPT refitted much shorter."
        ),
    )


def reads(found: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """A row for each kind of reading, a dot for each draw, a panel for each method."""
    figure = plots.empty_figure(plots.WIDTH, 3.4)
    grid = figure.subplots(1, len(found), sharey=True)
    kinds = list(next(iter(found.values())))
    for ax, (way, rows) in zip(grid, found.items(), strict=True):
        for row, values in enumerate(rows.values()):
            look: Look = dict(marker="o", linestyle="", color=PALETTE[0], alpha=0.7)
            ax.plot(values, [row] * len(values), **look)
        ax.set(title=way, xlabel=RISE)
        ax.set_xlim(left=0)
        ax.margins(x=0.1)
    grid[0].set_yticks(range(len(kinds)), kinds)
    grid[0].invert_yaxis()
    plots.show(
        figure,
        alt=(
            "Two panels, Wanda and SparseGPT, a row for each kind of reading and three"
            " dots a row: within a panel most rows lie near one another; one window"
            " and random pieces lie farther to the right."
        ),
    )
