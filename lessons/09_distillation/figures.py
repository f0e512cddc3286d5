"""What lab 09 draws."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from torch import Tensor

from utils import plots
from utils.plots import PALETTE, Guess
from utils.studies import Spread

CONTROL = "labels alone"  # the row that all others are compared with


def second(shares: Mapping[str, float], guess: Guess | None = None) -> None:
    """How often each other class is nearest to a shirt, percent; the largest first."""
    ordered = dict(sorted(shares.items(), key=lambda pair: -pair[1]))
    figure = plots.bars(
        ordered,
        title="Shirts: which class would LeNet name, if not Shirt?",
        x_label="training pictures of shirts, %",
        unit="%",
        digits=0,
        guess=guess,
    )
    plots.show(
        figure,
        alt=(
            "Bars for nine classes, the largest first: T-shirt, coat and pullover have"
            " nearly all; trousers, shoes and boots have almost nothing."
        ),
    )


def temperature(
    temperatures: Sequence[float], entropy: Mapping[str, Sequence[float]], most: float
) -> None:
    """Mean entropy of each teacher's softened answers, in bits; most: all classes
    alike."""
    figure = plots.lines(
        temperatures,
        entropy,
        title="Two teachers on 1,000 training pictures: the warmer, the less certain",
        x_label="temperature",
        y_label="mean entropy, bits",
        level=("all ten classes alike", most),
        y_limits=(0, 3.5),
    )
    _by_doubling(figure.axes[0], temperatures)
    plots.show(
        figure,
        alt=(
            "Entropy over temperature: both teachers start near 0.2 bits and rise"
            " towards 3.3; at each temperature above 1 ResNet is softer."
        ),
    )


def _by_doubling(ax: Axes, ticks: Sequence[float]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks])


def warmth(
    taught: Mapping[float, Spread], alone: Spread, guess: Guess | None = None
) -> None:
    """Accuracy over the teacher's temperature; labels alone as a band. The guess is in
    points above labels alone, at temperature 4."""
    figure, ax = plots.axes(
        "LeNet at 98%, taught by its dense original (mean and range of 3 seeds)",
        "temperature of the teacher",
        "validation accuracy, %",
    )
    ax.axhspan(100 * alone.low, 100 * alone.high, color="#8A8A8A", alpha=0.25)
    ax.axhline(100 * alone.mean, **plots.REFERENCE, label="labels alone (and range)")
    means = [100 * each.mean for each in taught.values()]
    down = [100 * (each.mean - each.low) for each in taught.values()]
    up = [100 * (each.high - each.mean) for each in taught.values()]
    look: plots.Look = dict(marker="o", color=PALETTE[0], capsize=4)
    ax.errorbar(list(taught), means, (down, up), label="taught", **look)
    if guess is not None and guess.value is not None:
        cross: plots.Look = dict(marker="X", markersize=10, linestyle="none")
        ax.plot(
            4, 100 * alone.mean + guess.value, color=PALETTE[3], label="guess", **cross
        )
    _by_doubling(ax, list(taught))
    ax.legend()
    plots.show(
        figure,
        alt=(
            "Accuracy over temperature, with the range of three seeds, beside a band"
            " for labels alone: above the band at 1, lower with each step, inside it at"
            " 4, below it at 8."
        ),
    )


Rows = Mapping[str, Sequence[float]]  # validation accuracy of each seed, percent


def teachers(students: Mapping[str, Rows]) -> None:
    """One panel a student, one row a teacher, the best first: each seed, and their
    mean."""
    heights = [len(rows) + 0.9 for rows in students.values()]
    figure = plots.empty_figure(plots.WIDTH, 0.9 + 0.36 * sum(heights))
    grid = figure.subplots(len(students), 1, sharex=True, height_ratios=heights)
    for ax, (name, rows) in zip(grid, students.items(), strict=True):
        _draw_rows(ax, name, rows)
    said = "small: seeds, large: mean, dashed: labels alone"
    grid[-1].set_xlabel(f"validation accuracy, % ({said})")
    plots.show(
        figure,
        alt=(
            "Two panels of rows, three seeds and a mean each, around a dashed line for"
            " labels alone. First LeNet as student: its own original leads, a second"
            " and a third LeNet come next; ResNet lies a little above the line, label"
            " smoothing and shuffled classes lie about it. Second LeNet as student: the"
            " rows of both teachers lie above the line."
        ),
    )


def _draw_rows(ax: Axes, title: str, rows: Rows) -> None:
    means = {name: sum(each) / len(each) for name, each in rows.items()}
    ordered = sorted(means, key=lambda name: -means[name])
    for place, name in enumerate(ordered):
        control = name == CONTROL
        colour = PALETTE[1] if control else PALETTE[0]
        small: plots.Look = dict(markersize=5, linestyle="none", markerfacecolor="none")
        large: plots.Look = dict(markersize=9, marker="s" if control else "o")
        ax.plot(
            rows[name], [place] * len(rows[name]), marker="o", color=colour, **small
        )
        ax.plot(means[name], place, color=colour, **large)
        ax.annotate(
            f"{means[name]:.2f}",
            (max(rows[name]), place),
            (9, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
        )
    ax.axvline(means[CONTROL], **plots.REFERENCE)
    ax.set_yticks(range(len(ordered)), ordered)
    ax.set_ylim(len(ordered) - 0.5, -0.5)
    ax.set_title(title, fontsize=10.5)
    ax.margins(x=0.12)


def ambiguous(images: Tensor, captions: Sequence[str]) -> None:
    """The pictures on which LeNet leaves most open."""
    figure = plots.pictures(
        images, captions, title="The label, and LeNet's two best guesses", columns=5
    )
    plots.show(
        figure,
        alt=(
            "Ten pictures of clothes for the upper body; LeNet divides its answer"
            " between coat, pullover, shirt, dress and T-shirt."
        ),
    )


def pull(
    temperatures: Sequence[float], gradients: Mapping[str, Sequence[float]]
) -> None:
    """The size of the teacher's gradient over the temperature, logarithmic."""
    figure = plots.lines(
        temperatures,
        gradients,
        title="How strongly the teacher's part pulls at the student's outputs",
        x_label="temperature",
        y_label="size of the gradient",
    )
    ax = figure.axes[0]
    ax.set_yscale("log")
    _by_doubling(ax, temperatures)
    plots.show(
        figure,
        alt=(
            "Two lines over temperature, logarithmic: without the factor the gradient"
            " falls by orders of magnitude; with T squared it stays within a few times"
            " of its size."
        ),
    )
