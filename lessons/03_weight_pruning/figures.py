"""The figures of lesson 03."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from utils import plots
from utils.measure import Timing


def scope(
    sparsities: Sequence[float],
    curves: Mapping[str, Sequence[Sequence[float]]],
    dense: float,
) -> None:
    """The same total sparsity, shared out among the layers in several ways."""
    title = "One total, shared out in four ways; not retrained"
    label = "weights left in the whole network, % (logarithmic axis)"
    plots.show(
        plots.over_weights_left(title, label, sparsities, curves, dense),
        alt=(
            "Accuracy over the weights left: random falls first, layerwise next; one"
            " threshold, and layerwise with the output spared, hold longer."
        ),
    )


def sensitivity(
    sparsities: Sequence[float], alone: Mapping[str, Sequence[float]], dense: float
) -> None:
    """Each layer pruned alone."""
    title = "One layer pruned at a time, the others dense"
    label = "weights left in that layer, % (logarithmic axis)"
    curves = {name.removesuffix(".weight"): [line] for name, line in alone.items()}
    plots.show(
        plots.over_weights_left(title, label, sparsities, curves, dense),
        alt=(
            "Accuracy over the weights left in a single layer: pruning fc3 hurts"
            " soonest, although it is by far the smallest. fc2 loses least down to 10"
            " percent, fc1 below."
        ),
    )


def zombies(weight: Tensor, mask: Tensor, threshold: Tensor) -> None:
    """The sizes of pruned weights that came back, and of those that were kept."""
    figure, ax = plots.axes(
        "First layer, 50 steps after pruning: masked gradients, warm optimizer",
        "size of the weight (logarithmic axis)",
        "weights",
    )
    # the threshold is an edge, so that no bar lies on both sides of it
    edges = float(threshold) * 10 ** (np.arange(-58, 12) / 8)
    groups = {
        "pruned, and back": (~mask, plots.PALETTE[1], "//"),
        "kept": (mask, plots.PALETTE[0], ""),
    }
    for name, (chosen, colour, hatch) in groups.items():
        sizes = weight[chosen].abs().clamp(min=1e-8).numpy()
        ax.hist(sizes, bins=edges.tolist(), color=colour, hatch=hatch, label=name)
    ax.axvline(float(threshold), color="black", linestyle="--", label="the threshold")
    ax.set_xscale("log")
    ax.legend(loc="upper left")
    plots.show(
        figure,
        alt=(
            "Two heaps on a logarithmic axis: the weights that were pruned and came"
            " back are far smaller than the threshold; nearly all of the kept ones lie"
            " beyond it."
        ),
    )


def pixels(counts: Tensor) -> None:
    """How many neurons look at each pixel."""
    figure = plots.maps(
        {"neurons of 300": counts},
        title="90% sparsity: who still looks at a pixel",
        label="neurons",
    )
    plots.show(
        figure,
        alt=(
            "A map of 28 by 28 pixels: the first and the last rows are dark, looked at"
            " by many neurons; the first and the last columns are nearly white."
        ),
    )


def histogram(trained: Tensor, untrained: Tensor, threshold: float) -> None:
    """The weights of the first layer before and after training; what goes at 90% is
    shaded."""
    figure, ax = plots.axes(
        f"First layer: what lies within ±{threshold:.2f} goes at 90% (shaded)",
        "weight (those beyond ±0.3 are not shown)",
        "weights (logarithmic axis)",
    )
    for index, (name, values) in enumerate(
        {"trained": trained, "before training": untrained}.items()
    ):
        ax.hist(
            values.flatten().numpy(),
            bins=80,
            range=(-0.3, 0.3),
            histtype="step",
            color=plots.PALETTE[index],
            linestyle=("-", "--")[index],
            label=name,
        )
    ax.axvspan(-threshold, threshold, color="#8A8A8A", alpha=0.2)
    ax.set_yscale("log")
    ax.legend()
    plots.show(
        figure,
        alt=(
            "Histograms of the first layer's weights: before training a narrow box,"
            " after it a wide bell; the shaded middle goes at 90 percent."
        ),
    )


def file_sizes(sizes: Mapping[str, int]) -> None:
    """File sizes in percent of the first."""
    first = next(iter(sizes.values()))
    figure = plots.bars(
        {name: 100 * size / first for name, size in sizes.items()},
        title="LeNet-300-100 at 90% sparsity: the files",
        x_label="% of the dense file",
        unit="%",
        digits=0,
        reference=100,
    )
    plots.show(
        figure,
        alt=(
            "Bars of file sizes: with zeros as large as dense; torch's pruning twice"
            " that; CSR and zip a fraction."
        ),
    )


def crossover(
    sparsities: Sequence[float], timings: Mapping[int, Mapping[str, Timing]]
) -> None:
    """Speed against dense on a logarithmic axis, with quartiles, and the range of an
    identical twin."""
    figure, ax = plots.axes(
        "A layer of 1024 x 1024, against dense in the same race (one thread)",
        "weights left, % (logarithmic axis)",
        "times as fast as dense (logarithmic)",
        height=4.2,
    )
    left = 100 * (1 - np.array(sparsities))
    shown = [("masked", 1), ("CSR", 1), ("CSR", 64)]
    for index, (kind, batch) in enumerate(shown):
        found = [timings[batch][f"{kind} {s}"] for s in sparsities]
        middle = np.array([each.speedup for each in found])
        low, high = np.array([each.speedup_quartiles for each in found]).T
        # with a little offset, so that bars do not lie on one another
        ax.errorbar(
            left * (1 + 0.03 * (index - 1)),
            middle,
            yerr=[np.maximum(middle - low, 0), np.maximum(high - middle, 0)],
            color=plots.PALETTE[index],
            linestyle=plots.DASHES[index],
            marker=plots.MARKERS[index],
            capsize=3,
            label=f"{kind}, batch {batch}",
        )
    low, high = timings[1]["twin"].speedup_quartiles
    ax.axhspan(low, high, color="#8A8A8A", alpha=0.25, label="dense again, batch 1")
    ax.axhline(1, **plots.REFERENCE)
    plots.weights_left_axis(ax, left)
    ax.set_yscale("log")
    ax.set_ylim(0.05, 30)
    ax.set_yticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
    ax.legend(loc="upper left", fontsize=9)
    plots.show(
        figure,
        alt=(
            "Speed against dense with quartiles: masked stays at one at every"
            " sparsity; CSR is far below one with half of the weights left, and far"
            " above with one percent."
        ),
    )
