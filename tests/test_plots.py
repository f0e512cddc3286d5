"""Every figure renders, has a description, and tells its series apart by more than
colour."""

import base64
import io
import subprocess
import sys
from itertools import combinations
from types import SimpleNamespace

import matplotlib
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from utils import plots
from utils.exercises import find

LABELS = dict(title="Title", x_label="x", y_label="y")
THREE = {"one": [0.1, 0.2, 0.3], "two": [0.3, 0.2, 0.1], "three": [0.2, 0.2, 0.4]}


def guessed(value: float | None) -> plots.Guess:
    return SimpleNamespace(value=value, unit="%")


FIGURES = {
    "axes": lambda: plots.axes("Title", "x", "y")[0],
    "lines": lambda: plots.lines([1, 2, 3], THREE, **LABELS),
    "lines with everything": lambda: plots.lines(
        [0.5, 0.9, 0.99],
        THREE,
        **LABELS,
        percent=True,
        stops=True,
        level=("dense", 0.35),
        spread={"one": ([0.05, 0.1, 0.2], [0.2, 0.3, 0.4])},
        y_limits=(0, 100),
        guess=guessed(40),
    ),
    "bars": lambda: plots.bars({"a": 3, "b": 0.0}, title="Title", x_label="x"),
    "bars with everything": lambda: plots.bars(
        {"a": 90, "b": 20},
        title="Title",
        x_label="x",
        unit="%",
        digits=0,
        reference=100,
        errors={"a": (80, 95)},
        guess=guessed(30),
    ),
    "bars of nothing": lambda: plots.bars(
        {"a": 0, "b": 0.0}, title="Title", x_label="x"
    ),
    "scatter": lambda: plots.scatter(
        {"a": ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}, **LABELS, notes={"a": "r = 1"}
    ),
    "one scatter": lambda: plots.scatter({"a": ([1, 2], [3, 4])}, **LABELS),
    "waterfall": lambda: plots.waterfall(
        ["start", "cut", "slower"],
        {"speed": [1, 4, 3.2], "file": [1, 2, 2]},
        {"accuracy": [94, 93, 93.2]},
        title="T",
    ),
    "pareto": lambda: plots.pareto({"a": (1, 2), "b": (2, 1)}, ["a"], **LABELS),
    "pareto with everything": lambda: plots.pareto(
        {"a": (1, 2), "b": (20, 3), "c": (20, 1)},
        ["a", "b"],
        **LABELS,
        log=True,
        box=(5, 1.5),
    ),
    "histogram": lambda: plots.histogram(
        {"a": torch.randn(50), "b": torch.randn(9)}, title="T", x_label="x"
    ),
    "histogram, cut": lambda: plots.histogram(
        {"a": torch.randn(5, 5)}, title="T", x_label="x", threshold=0.5, bins=5
    ),
    "pictures": lambda: plots.pictures(
        torch.randn(3, 1, 28, 28), ["a", "b", "c"], title="Title"
    ),
    "two rows": lambda: plots.pictures(
        torch.randn(3, 1, 28, 28), ["a", "b", "c"], title="Title", columns=2
    ),
    "filters": lambda: plots.filters(
        torch.randn(5, 3, 3), ["a", "b", "c", "d", "e"], title="Title", columns=3
    ),
    "maps": lambda: plots.maps(
        {"a": torch.rand(4, 4), "b": torch.rand(2, 3)}, title="Title", label="|w|"
    ),
    "one map": lambda: plots.maps(
        {"a": torch.rand(4, 4).requires_grad_()}, title="Title", label="|w|", most=2
    ),
    "empty map": lambda: plots.maps(
        {"a": torch.zeros(4, 4)}, title="Title", label="|w|"
    ),
}


@pytest.fixture
def shown(monkeypatch) -> list:
    """What `show` hands to the notebook: `(bundle, options)`."""
    calls = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda bundle, **options: calls.append((bundle, options)),
    )
    return calls


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_renders_and_is_small(name, shown):
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    plots.show(figure, "What it shows.")
    bundle, _ = shown[0]
    image = Image.open(io.BytesIO(bundle["image/png"]))
    assert 300 < image.width < 1600 and 60 < image.height < 1200
    assert len(bundle["image/png"]) < 150_000
    assert len(image.convert("RGB").getcolors(1 << 22)) > 2


def test_show_puts_out_a_picture_and_the_same_in_words(shown):
    plots.show(FIGURES["lines"](), "Three <lines>.")
    (bundle, options), (words, _) = shown
    assert bundle["image/png"].startswith(b"\x89PNG\r\n\x1a\n")
    assert bundle["text/plain"] == "Figure: Three <lines>."
    assert set(bundle) == {"image/png", "text/plain"}
    assert options == {
        "raw": True,
        "metadata": {"image/png": {"alt": "Three <lines>."}},
    }
    assert (
        words["text/html"].startswith("<details>")
        and "Three &lt;lines&gt;." in words["text/html"]
    )


@pytest.mark.parametrize("alt", ["", "  ", "\n\t"])
def test_show_refuses_a_figure_without_a_description(alt, shown):
    with pytest.raises(ValueError, match="alt is empty"):
        plots.show(FIGURES["lines"](), alt)
    assert shown == []


def test_a_figure_sets_the_courses_style_and_nothing_else():
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        before = dict(matplotlib.rcParams)
        for make in FIGURES.values():
            make()
        assert dict(matplotlib.rcParams) == before | plots.STYLE


def test_importing_plots_sets_no_style_and_imports_no_jupyter():
    """In a process of its own: here all of it has long been imported."""
    code = (
        "import sys, matplotlib; before = dict(matplotlib.rcParams);"
        "import utils.plots; assert dict(matplotlib.rcParams) == before;"
        "assert not {'IPython', 'ipywidgets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -------------------------------------------------------------------- colour is not all


def test_the_colours_and_their_companions_are_distinct():
    assert len(plots.PALETTE) == len(plots.DASHES) == len(plots.MARKERS) == 8
    for kind in (plots.PALETTE, plots.DASHES, plots.MARKERS):
        assert len(set(kind)) == 8
    for one, other in combinations(map(to_rgb, plots.PALETTE), 2):
        assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 0.25


def test_eight_lines_differ_by_marker_and_dash_as_well_as_colour():
    figure = plots.lines([1, 2], {str(i): [i, i + 1] for i in range(8)}, **LABELS)
    lines = figure.axes[0].get_lines()
    assert [line.get_color() for line in lines] == list(plots.PALETTE)
    assert [line.get_marker() for line in lines] == list(plots.MARKERS)
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 8
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        str(i) for i in range(8)
    ]


def test_histograms_differ_by_dash_as_well_as_colour():
    figure = plots.histogram(
        {"a": torch.randn(9), "b": torch.randn(9)}, title="T", x_label="x"
    )
    outlines = figure.axes[0].patches
    assert len({outline.get_edgecolor() for outline in outlines}) == 2
    assert len({str(outline.get_linestyle()) for outline in outlines}) == 2


def test_nine_groups_do_not_run_out_of_colours():
    plots.histogram({str(i): torch.randn(5) for i in range(9)}, title="T", x_label="x")
    plots.lines([1], {str(i): [1] for i in range(9)}, **LABELS)


# ------------------------------------------------------------------------ what is drawn


def test_fractions_are_drawn_in_percent_and_stops_at_equal_distances():
    ax = FIGURES["lines with everything"]().axes[0]
    assert list(ax.get_lines()[0].get_ydata()) == pytest.approx([10, 20, 30])
    assert list(ax.get_lines()[0].get_xdata()) == [0, 1, 2]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["50%", "90%", "99%"]
    assert list(ax.get_lines()[3].get_ydata()) == [35, 35]
    assert ax.get_ylim() == (0, 100)
    plain = FIGURES["lines"]().axes[0].get_lines()[0]
    assert list(plain.get_ydata()) == [0.1, 0.2, 0.3] and list(plain.get_xdata()) == [
        1,
        2,
        3,
    ]


def guesses(figure: Figure) -> list:
    """The lines of a figure that show a guess."""
    return [
        line
        for line in figure.axes[0].get_lines()
        if str(line.get_label()).startswith("my guess")
    ]


def test_a_locked_guess_is_drawn_and_an_open_one_is_not():
    for guess in (None, guessed(None)):
        assert guesses(plots.lines([1, 2], {"a": [1, 2]}, **LABELS, guess=guess)) == []
        assert guesses(plots.bars({"a": 1}, title="T", x_label="x", guess=guess)) == []
    (level,) = guesses(plots.lines([1, 2], {"a": [1, 2]}, **LABELS, guess=guessed(42)))
    assert list(level.get_ydata()) == [42, 42] and level.get_label() == "my guess: 42 %"
    (upright,) = guesses(
        plots.bars({"a": 1}, title="T", x_label="x", guess=guessed(42))
    )
    assert list(upright.get_xdata()) == [42, 42]


def test_a_guess_of_zero_is_drawn():
    assert (
        len(guesses(plots.lines([1, 2], {"a": [1, 2]}, **LABELS, guess=guessed(0))))
        == 1
    )
    assert (
        len(guesses(plots.bars({"a": 1}, title="T", x_label="x", guess=guessed(0))))
        == 1
    )


def test_a_guess_is_named_in_the_legend():
    legend = (
        plots.lines([1, 2], {"a": [1, 2]}, **LABELS, guess=guessed(42))
        .axes[0]
        .get_legend()
    )
    assert "my guess: 42 %" in [text.get_text() for text in legend.get_texts()]


def test_bars_begin_at_zero_and_are_labelled_and_all_in_view():
    ax = plots.bars(
        {"a": 90, "b": 20}, title="T", x_label="x", unit="%", digits=0, reference=120
    ).axes[0]
    assert ax.get_xlim()[0] == 0 and ax.get_xlim()[1] > 120
    assert [text.get_text() for text in ax.texts] == ["90%", "20%"]
    assert (
        plots.bars({"a": 1}, title="T", x_label="x", guess=guessed(42))
        .axes[0]
        .get_xlim()[1]
        > 42
    )


def test_a_waterfall_goes_on_where_the_step_before_ended_and_marks_a_loss():
    figure = plots.waterfall(
        ["start", "cut", "slower"],
        {"speed": [1, 4, 3]},
        {"right": [94, 93, 92]},
        title="T",
    )
    speed, right = figure.axes
    _, cut, slower = speed.patches
    assert (cut.get_x(), cut.get_width()) == (1, 3) and (
        slower.get_x(),
        slower.get_width(),
    ) == (4, -1)
    assert not cut.get_hatch() and slower.get_hatch()  # a second cue beside the colour
    assert speed.get_xscale() == "log" and [
        text.get_text() for text in speed.texts
    ] == ["1x", "4x", "3x"]
    assert list(right.lines[0].get_xdata()) == [94, 93, 92]


NUMBERS = st.integers(-2, 2)


@given(
    st.dictionaries(
        st.text(max_size=3), st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=8
    )
)
def test_the_front_is_the_one_that_the_exercise_finds(points):
    candidates = {name: (-a, b, c) for name, (a, b, c) in points.items()}
    assert plots.unbeaten(points) == find("pareto").right(candidates)


def test_what_is_on_the_front_differs_by_shape_and_filling():
    figure = plots.pareto({"a": (1, 2), "b": (2, 3), "c": (2, 1)}, ["b", "a"], **LABELS)
    line, *points = figure.axes[0].lines
    assert list(line.get_xdata()) == [1, 2]
    assert [point.get_marker() for point in points] == ["o", "o", "s"]
    assert points[2].get_markerfacecolor() == "white" != points[0].get_markerfacecolor()


@settings(max_examples=20, deadline=None)
@example(at=[(4.5, 4.75), (4.375, 4.625), (4.5, 5.0)])
@given(
    st.lists(
        st.tuples(st.floats(4, 5), st.floats(4, 5)), min_size=2, max_size=3, unique=True
    )
)
def test_names_of_points_that_lie_together_do_not_cover_each_other(at):
    # or any distance would fill the axes
    spread = {"far left, below": (0, 0), "far right, above": (9, 9)}
    points = spread | {f"name {number}": point for number, point in enumerate(at)}
    ax = plots.pareto(points, list(spread), **LABELS).axes[0]
    assert [text.get_text() for text in ax.texts] == list(points)
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(
        box.count_overlaps(boxes[:number]) for number, box in enumerate(boxes)
    )


def test_the_threshold_is_drawn_on_both_sides():
    ax = plots.histogram(
        {"a": torch.randn(9)}, title="T", x_label="x", threshold=0.5
    ).axes[0]
    assert [line.get_xdata()[0] for line in ax.get_lines()] == [-0.5, 0.5]


def test_the_input_map_counts_the_weights_left_at_each_pixel():
    mask = torch.zeros(300, 784, dtype=torch.bool)
    mask[:7, 29] = True
    counts = plots.input_map(mask)
    assert counts.shape == (28, 28) and counts.sum() == 7 and counts[1, 1] == 7


def test_moving_figures_are_a_gif_that_plays_once_and_is_described(shown):
    figures = [
        plots.maps({f"step {n}": torch.rand(4, 4)}, title="T", label="l", most=1)
        for n in range(3)
    ]
    plots.show_moving(figures, "something moves", seconds=0.2)
    (bundle, options), (words, _) = shown
    with Image.open(io.BytesIO(base64.b64decode(bundle["image/gif"]))) as image:
        assert image.n_frames == 3 and "loop" not in image.info
        assert image.info["duration"] == 200
    assert (
        options["metadata"] == {"image/gif": {"alt": "something moves"}}
        and "something moves" in words["text/html"]
    )
    for wrong in (([], "words"), (figures, " ")):
        with pytest.raises(ValueError, match="show_moving needs"):
            plots.show_moving(*wrong)


def test_filters_are_drawn_on_one_scale_around_zero():
    figure = plots.filters(
        torch.tensor([[[-2.0]], [[1.0]]]), ["a", "b"], title="T", columns=2
    )
    images = [image for ax in figure.axes for image in ax.get_images()]
    assert [image.get_clim() for image in images[:2]] == [(-2, 2)] * 2
