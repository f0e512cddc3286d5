"""The explorer's picture: what each part shows, read back from its marks; nothing
clipped, all said in words."""

import base64
import io
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont
from torch import nn

from utils.data import CLASSES, MEAN, STD, Data, Split, sample_batches
from utils.explorer import Controls, Explorer, State, drawing, shell
from utils.explorer import subject as subject_module
from utils.explorer.drawing import BARS_FULL, BARS_KEY, BARS_MOST, WIDTH, Part
from utils.explorer.kinds import KINDS, STOPS
from utils.explorer.state import Curve
from utils.explorer.subject import OWN
from utils.layers import prunable
from utils.models import MODELS

SVG = "{http://www.w3.org/2000/svg}"
TITLES = (
    "Accuracy of ",
    "Compared with",
    "Weights left in each layer",
    "",
    "Accuracy by class",
    "Pictures with",
)


@pytest.fixture(scope="module")
def panels():
    """A panel for each network of the course, made once, with few pictures to
    answer."""
    made: dict[str, Explorer] = {}

    def panel(network: str) -> Explorer:
        if network not in made:
            made[network] = Explorer(
                network, pictures=100 if network == "lenet300" else 10
            )
            subject = made[network].subject(network)
            subject.batches = sample_batches(subject.train, 1, 16)
        return made[network]

    return panel


@pytest.fixture
def quick(small, noise) -> Explorer:
    return Explorer(model=small, data=noise)


def part_of(panel: Explorer, state: State, number: int) -> Part:
    return panel.parts(state)[number]


def marks_of(part: Part) -> ET.Element:
    return ET.fromstring(f"<svg>{''.join(part.marks)}</svg>")


def texts_of(part: Part) -> list[str]:
    return [text.text or "" for text in marks_of(part).iter("text")]


def positions(panel: Explorer, network: str, stops: slice = slice(None)):
    for kind, every in panel.memory.kinds(network).items():
        for stop in every[stops]:
            yield Controls(
                stop, KINDS[kind].scores()[0], KINDS[kind].scopes[0], kind, network
            )


# ---------------------------------------------------------------------------- all parts


def test_the_picture_has_six_parts_each_said_in_words(quick):
    state = quick.state(Controls(0.9, network=OWN))
    parts = quick.parts(state)
    assert len(parts) == 6
    for part, title in zip(parts, TITLES, strict=True):
        assert part.title.startswith(title) and part.title in texts_of(part)
        assert part.words.startswith(part.title.split(" (")[0].split(",")[0])
    root = ET.fromstring(drawing.html_of(parts))
    assert root.tag == "div"
    pictures = root.findall(f"div/{SVG}svg")
    assert [picture.get("aria-label") for picture in pictures] == [
        part.words for part in parts
    ]
    assert all(picture.get("role") == "img" for picture in pictures)
    assert [picture.get("viewBox") for picture in pictures] == [
        f"0 0 {WIDTH} {part.height:.0f}" for part in parts
    ]


def test_what_is_drawn_again_is_what_is_drawn_the_first_time(small, noise):
    """Parts are drawn once for a state; each state gets its own, time by time."""
    panel = Explorer(model=small, data=noise)
    places = [Controls(stop, network=OWN) for stop in STOPS]
    for place in places:
        panel.state(place)
    first = [panel.parts(panel.state(place)) for place in places]
    assert len({tuple(part.marks for part in parts) for parts in first}) == len(STOPS)
    for place, parts in zip(reversed(places), reversed(first), strict=True):
        assert panel.parts(panel.state(place)) == parts
    timed = replace(panel.state(places[3]), time=0.5, time_quartiles=(0.4, 0.6))
    assert "quartiles 40% to 60%" in panel.parts(timed)[1].words
    drawing._DRAWN.clear()
    assert [panel.parts(panel.state(place)) for place in places] == first


def test_parts_beside_each_other_are_of_one_height(panels):
    for network in MODELS:
        panel = panels(network)
        parts = panel.parts(*panel.memory.look(panel.controls))
        part_heights = [part.height for part in parts]
        assert part_heights[::2] == part_heights[1::2]


def test_one_picture_of_all_parts_says_the_description(quick):
    state = quick.state(Controls(0.9, network=OWN))
    root = ET.fromstring(quick.svg(state))
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    assert root.get("aria-label") == quick.describe(state)
    width, height = float(root.get("width")), float(root.get("height"))
    frames = [
        [float(mark.get(name)) for name in ("x", "y", "width", "height")]
        for mark in root.findall(f"{SVG}rect")[1:]  # the first is the page
    ]
    inner = [
        [float(part.get(name)) for name in ("x", "y", "width", "height")]
        for part in root.findall(f"{SVG}svg")
    ]
    assert len(frames) == len(inner) == 6
    for (x, y, wide, high), (u, v, broad, tall) in combinations(frames, 2):
        # cards do not overlap
        assert x + wide < u or u + broad < x or y + high < v or v + tall < y
    for (x, y, wide, high), (u, v, broad, tall) in zip(frames, inner, strict=True):
        assert x < u and y < v and u + broad < x + wide and v + tall < y + high
        assert min(x, y) > 0 and x + wide < width and y + high < height


def test_a_pattern_that_a_mark_is_filled_with_is_there(quick):
    state = replace(
        quick.state(Controls(0.9, network=OWN)), time=1.0, time_quartiles=(0.9, 1.1)
    )
    for picture in (drawing.html_of(quick.parts(state)), quick.svg(state)):
        root = ET.fromstring(picture)
        used = {
            mark.get("fill")[5:-1]
            for mark in root.iter()
            if (mark.get("fill") or "").startswith("url(#")
        }
        assert used and used <= {mark.get("id") for mark in root.iter()}


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=30))
@settings(max_examples=50, deadline=None)
def test_any_text_stays_text(words):
    part = Part(words, words, (drawing.text(1, 2, words), drawing.heading(words)))
    root = ET.fromstring(drawing.html_of([part]))
    assert [each.text or "" for each in root.iter(f"{SVG}text")] == [words, words]
    assert root.find(f"div/{SVG}svg").get("aria-label") == words.replace(
        "\t", " "
    ).replace("\n", " ")


# ----------------------------------------------------------------- inside, and readable

FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FONTS = {
    name: ImageFont.truetype(str(FOLDER / f"DejaVu{name}.ttf"), 100)
    for name in ("Sans", "Sans-Bold", "Serif-Bold")
}  # the picture asks for the first two; the last is wider than what it asks for


def extent(text: ET.Element) -> tuple[float, float, float, float]:
    """Left, right, baseline and size of a text."""
    size, x = float(text.get("font-size") or 14), float(text.get("x"))
    bold = "-Bold" if text.get("font-weight") == "bold" else ""
    family = "Serif" if text.get("font-family") else "Sans"
    width = FONTS[family + bold].getlength(text.text or "") * size / 100
    left = (
        x
        - width
        * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor") or "start"]
    )
    return left, left + width, float(text.get("y")), size


def check_readable(part: Part) -> None:
    """No mark leaves the part, and no text runs over another."""
    root = marks_of(part)
    texts = [(text.text, extent(text)) for text in root.iter("text")]
    for words, (left, right, y, size) in texts:
        assert (
            left >= -1
            and right <= WIDTH + 1
            and y - size >= -1
            and y <= part.height - 2
        ), (
            part.title,
            words,
            left,
            right,
        )
    for (words, (left, right, y, size)), (others, (u, v, w, other)) in combinations(
        texts, 2
    ):
        overlap = min(right, v) - max(left, u)
        assert overlap < 1 or abs(y - w) >= 0.7 * min(size, other), (
            part.title,
            words,
            others,
            overlap,
        )
    for mark in (*root.iter("rect"), *root.iter("image")):
        x, y, width, height = (
            float(mark.get(name)) for name in ("x", "y", "width", "height")
        )
        assert (
            min(x, y, width, height) >= 0
            and x + width <= WIDTH
            and y + height <= part.height
        ), (part.title, mark.attrib)
        for words, (left, right, base, size) in texts:
            apart = right < x or left > x + width or base <= y
            assert apart or base - 0.7 * size >= y + height, (part.title, words)
    for name, x, y in product(
        ("line", "circle"), ("x1", "x2", "cx"), ("y1", "y2", "cy")
    ):
        for mark in root.iter(name):
            assert (
                0 <= float(mark.get(x) or 0) <= WIDTH
                and 0 <= float(mark.get(y) or 0) <= part.height
            ), part.title


@pytest.mark.parametrize("network", MODELS)
def test_nothing_leaves_its_part_or_runs_over_another_text(panels, network):
    panel = panels(network)
    for controls in positions(panel, network, slice(None, None, 3)):
        state, model = panel.memory.look(controls)
        slow = dict(
            time=1.234,
            time_quartiles=(0.8, 7),
            csr=33.3,
            csr_quartiles=(20, 40),
            zipped=0.9,
        )
        for shown in (state, replace(state, tuned=55_000, **slow)):
            for part in panel.parts(shown, model):
                check_readable(part)


def test_nothing_of_an_own_network_leaves_its_part(quick):
    for controls in positions(quick, OWN):
        for part in quick.parts(replace(quick.state(controls), tuned=55_000)):
            check_readable(part)


@pytest.fixture(scope="module")
def deep() -> Explorer:
    """A panel of a network of 41 layers, 40 of which can leave."""
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(784, 10), *(nn.Linear(10, 10) for _ in range(40))]
    return Explorer(model=nn.Sequential(*layers), pictures=20)


@pytest.mark.parametrize("kind", ["weights", "channels"])
def test_a_network_with_many_layers_stays_inside_the_picture(deep, kind):
    for controls in (
        each for each in positions(deep, OWN, slice(None, None, 6)) if each.kind == kind
    ):
        for part in deep.parts(deep.state(controls)):
            check_readable(part)
    part = part_of(deep, deep.state(deep.controls), 2)
    assert "... and 25 more layers" in texts_of(part)
    assert "41 100.0%" in part.words  # in words all of them


def test_the_labels_of_many_blocks_do_not_run_over_each_other(deep):
    check_readable(
        part_of(
            deep,
            deep.state(Controls(0.5, "first to last", "whole network", "blocks", OWN)),
            0,
        )
    )


def test_many_classes_stay_inside_the_picture(noise):
    labels = torch.arange(256) % 40
    split = Split(noise.train.images, labels)
    panel = Explorer(
        model=nn.Sequential(nn.Flatten(), nn.Linear(192, 40)),
        data=Data(split, split, split),
    )
    for stop in (0.0, 0.9):
        for part in panel.parts(panel.state(Controls(stop, network=OWN))):
            check_readable(part)


# ---------------------------------------------------------------------------- the curve


def circles(part: Part) -> tuple[list[ET.Element], ET.Element]:
    """The dots of the curve, and the ring around the one that is shown."""
    *dots, ring = marks_of(part).findall("circle")
    return dots, ring


def test_each_known_stop_has_a_dot_as_high_as_its_accuracy(panels):
    panel = panels("lenet300")
    for scope in ("global", "layerwise"):
        states = panel.curve(Controls(0.0, "magnitude", scope))
        dots, ring = circles(part_of(panel, states[7], 0))
        assert len(dots) == len(STOPS) == len(states)
        at = np.array([[float(dot.get("cx")), float(dot.get("cy"))] for dot in dots])
        # the stops are equally far apart
        assert np.allclose(np.diff(at[:, 0]), np.diff(at[:, 0])[0], atol=0.11)
        heights = np.polyfit([state.accuracy for state in states], at[:, 1], 1)
        assert heights[0] < 0 and np.allclose(
            np.polyval(heights, [s.accuracy for s in states]), at[:, 1], atol=0.2
        )
        assert (ring.get("cx"), ring.get("cy")) == (
            dots[7].get("cx"),
            dots[7].get("cy"),
        )


def test_the_scale_of_the_curve_is_where_its_labels_are(panels):
    panel = panels("lenet300")
    state = panel.state(Controls(0.9))
    part = part_of(panel, state, 0)
    scale = [
        text for text in marks_of(part).iter("text") if text.get("text-anchor") == "end"
    ]
    labels = {text.text: float(text.get("y")) for text in scale}
    assert list(labels) == ["0%", "20%", "40%", "60%", "80%", "100%"]
    _, ring = circles(part)
    wanted = labels["0%"] + (labels["100%"] - labels["0%"]) * state.accuracy
    # a label's baseline is 5 below its line
    assert float(ring.get("cy")) == pytest.approx(wanted - 5, abs=0.2)


def test_the_curve_says_its_numbers(panels):
    panel = panels("lenet300")
    for controls in positions(panel, "lenet300", slice(1, None, 4)):
        state = panel.state(controls)
        part, said = (
            part_of(panel, state, 0),
            KINDS[controls.kind].say(panel.subject("lenet300"), controls.sparsity),
        )
        texts = texts_of(part)
        assert (
            f"{state.accuracy:.1%}" in texts
            and f"at {said} ({KINDS[controls.kind].label})" in texts
        )
        assert f"± {100 * state.margin:.1f} points: 100 pictures" in texts
        assert f": {state.accuracy:.1%} at {said}." in part.words
        # the stops of a pattern are as far apart as they are drawn, those of 10%, ...,
        # 90%, 95%, 98%, 99% are not
        to_scale = controls.kind == "nm"
        axis = KINDS[controls.kind].axis + ": by stops, not to scale" * (not to_scale)
        assert axis in texts
    assert "2:4" in texts_of(
        part_of(panel, panel.state(Controls(0.5, scope="in each group", kind="nm")), 0)
    )


def test_a_dot_is_hollow_while_it_is_a_first_estimate_and_full_when_all_pictures_are_in(
    small, noise, monkeypatch
):
    monkeypatch.setattr(subject_module, "FIRST_PICTURES", 25)
    # a heavy network completes only the dot that is shown
    monkeypatch.setattr(subject_module, "HEAVY", 0)
    panel = Explorer(model=small, data=noise, kind="nm", sparsity=0.25)
    panel.refresh()
    dots, _ = circles(part_of(panel, panel.shown, 0))
    assert [dot.get("fill") for dot in dots] == ["white"]
    panel.settle()
    dots, _ = circles(part_of(panel, panel.shown, 0))
    assert [dot.get("fill") for dot in dots] == [
        "white",
        drawing.BLUE,
        "white",
        "white",
    ]


def test_a_small_network_ends_with_full_dots_only(small, noise, monkeypatch):
    monkeypatch.setattr(subject_module, "FIRST_PICTURES", 25)
    panel = Explorer(model=small, data=noise, kind="nm", sparsity=0.25)
    panel.refresh()
    panel.settle()
    dots, _ = circles(part_of(panel, panel.shown, 0))
    assert [dot.get("fill") for dot in dots] == [drawing.BLUE] * 4


def test_what_was_fine_tuned_is_a_star_above_its_dot(quick):
    chosen = Controls(0.9, network=OWN)
    states = quick.curve(chosen)
    tuned = replace(states[10], accuracy=0.9, tuned=512)
    curve = {state.controls.sparsity: state for state in states}
    known = Curve(STOPS, curve, {0.9: tuned})
    part = drawing.draw_curve(quick.subject(OWN), tuned, known)
    (star,) = [
        mark for mark in marks_of(part).iter("polygon") if mark.get("class") == "tuned"
    ]
    points = np.array([point.split(",") for point in star.get("points").split()], float)
    _, ring = circles(part)
    assert np.allclose(
        points[::2].mean(0), [float(ring.get("cx")), float(ring.get("cy"))], atol=0.2
    )
    assert "fine-tuned on 512" in part.title and "90.0%" in texts_of(part)
    assert "fine-tuned" in part.words


def test_the_dense_accuracy_is_a_dashed_line(quick):
    states = quick.curve(Controls(0.9, network=OWN))
    part = part_of(quick, states[5], 0)
    (dashed,) = [
        line for line in marks_of(part).iter("line") if line.get("stroke-dasharray")
    ]
    dots, _ = circles(part)
    assert dashed.get("y1") == dashed.get("y2") == dots[0].get("cy")
    assert f"dense {states[0].accuracy:.1%}" in texts_of(part)


# ----------------------------------------------------------------------------- the bars


@given(
    st.floats(0, 5),
    st.floats(0, 5),
    st.floats(0, 5),
    st.one_of(st.none(), st.floats(0, 5)),
    st.one_of(st.none(), st.floats(0, 5)),
    st.sampled_from(list(KINDS)),
)
@settings(max_examples=100, deadline=None)
def test_bars_are_as_long_as_what_they_show(weights, macs, saved, zipped, time, kind):
    values = [weights, macs, zipped, saved, time]
    state = State(
        Controls(kind=kind), b"", 0, weights, macs, saved, (), zipped, time, (0.5, 2.0)
    )
    part = drawing.draw_bars(state)
    bars = [float(bar.get("width")) for bar in marks_of(part).iter("rect")]
    known = [value for value in values if value is not None]
    assert np.allclose(
        bars, [min(value * BARS_FULL, BARS_MOST) for value in known], atol=0.06
    )
    texts = texts_of(part)
    assert [text for text in texts if text in {f"{value:.0%}" for value in known}] == [
        f"{v:.0%}" for v in known
    ]
    whites = [
        line for line in marks_of(part).iter("line") if line.get("stroke") == "white"
    ]
    # a bar that is cut says so, in white and in words
    cut = sum(value * BARS_FULL > BARS_MOST for value in known)
    assert len(whites) == 2 * cut == 2 * sum("bar cut" in words for words in texts)
    assert ("counting ..." in texts) == (zipped is None)
    zeros = KINDS[kind].zeros
    assert texts.count("measuring ...") == (time is None) + zeros
    tags = [words.removesuffix(", bar cut") for words in texts]
    assert tags.count("measured") == 1 + zeros and tags.count("counted") == 4
    assert ("time, CSR kernel" in texts) == zeros
    check_readable(part)
    for value in known:
        assert f"{value:.0%}" in part.words


def test_the_100_percent_line_is_where_100_percent_ends(quick):
    """And it does not move with the number of bars."""
    for kind in ("weights", "channels"):
        part = drawing.draw_bars(
            replace(quick.state(quick.controls), controls=Controls(kind=kind))
        )
        dashed = {
            (float(line.get("x1")), float(line.get("x2")))
            for line in marks_of(part).iter("line")
            if line.get("stroke-dasharray")
        }
        assert dashed == {(BARS_FULL, BARS_FULL)}
        (label,) = [
            text for text in marks_of(part).iter("text") if text.text == "100%: dense"
        ]
        assert float(label.get("x")) == BARS_FULL
        assert label.get("text-anchor") == "middle"


def test_the_bars_say_what_they_mean_where_they_are(quick):
    part = part_of(quick, quick.state(quick.controls), 1)
    assert [words for words in texts_of(part) if words in BARS_KEY] == list(BARS_KEY)
    assert "100% is" not in part.title and "dense network, which is 100%" in part.words
    assert all(words in part.words for words in BARS_KEY[:2])
    # a sample of each stands before its words
    fills = [mark.get("fill") for mark in marks_of(part).iter("path")]
    assert fills == [drawing.BLUE, "url(#measured)"]


def whiskers(part: Part) -> list[tuple[float, float]]:
    """From where to where the quartiles are drawn; the last is the key's."""
    return [
        (float(line.get("x1")), float(line.get("x2")))
        for line in marks_of(part).iter("line")
        if line.get("stroke") == "#000000" and line.get("y1") == line.get("y2")
    ]


def test_measured_bars_look_different_from_counted_ones_and_show_their_spread(quick):
    state = replace(
        quick.state(quick.controls),
        time=0.7,
        csr=0.4,
        time_quartiles=(0.6, 0.8),
        csr_quartiles=(0.3, 0.55),
    )
    part = drawing.draw_bars(state)
    fills = [bar.get("fill") for bar in marks_of(part).iter("rect")]
    assert fills == [drawing.BLUE] * 4 + ["url(#measured)"] * 2
    *drawn, _ = whiskers(part)
    wanted = [(0.6, 0.8), (0.3, 0.55)]
    assert np.allclose(drawn, BARS_FULL * np.array(wanted), atol=0.06)
    for low, high in ("60%", "80%"), ("30%", "55%"):
        words = f"quartiles {low} to {high}"
        assert words in texts_of(part) and words in part.words
        assert words in quick.describe(state)


def test_two_bars_that_are_cut_differ_in_what_they_say(quick):
    state = replace(quick.state(quick.controls), time_quartiles=(1.4, 9.0), csr=8.0)
    state = replace(state, csr_quartiles=(7.0, 9.0))
    parts = [drawing.draw_bars(replace(state, time=time)) for time in (2.0, 3.0)]
    for part, said in zip(parts, ("200%", "300%"), strict=True):
        assert said in texts_of(part)
        assert texts_of(part).count("measured, bar cut") == 2
        bars = list(marks_of(part).iter("rect"))[-2:]
        assert {float(bar.get("width")) for bar in bars} == {BARS_MOST}
        # quartiles that lie beyond the cut are said, not drawn
        *drawn, _ = whiskers(part)
        assert drawn == [(1.4 * BARS_FULL, BARS_MOST)]
        assert "quartiles 700% to 900%" in texts_of(part)
    assert texts_of(parts[0]) != texts_of(parts[1])


# --------------------------------------------------------------------------- the layers


@pytest.mark.parametrize("network", MODELS)
def test_each_layer_says_what_is_left_of_it(panels, network):
    panel = panels(network)
    for controls in positions(panel, network, slice(2, 3)):
        state, model = panel.memory.look(controls)
        part = panel.parts(state, model)[2]
        for layer in state.layers[:-1]:
            name = layer.name.removesuffix(".weight")
            assert f"{name}: {layer.kept:,} of {layer.weights:,}" in texts_of(part)
            assert f"{name} {layer.kept / layer.weights:.1%}" in part.words
        widths = [float(bar.get("width")) for bar in marks_of(part).iter("rect")]
        whole, kept = np.array(widths[::2]), np.array(widths[1::2])
        wanted = [layer.kept / layer.weights for layer in state.layers[:-1]]
        assert len(set(whole)) == 1 and np.allclose(kept / whole, wanted, atol=1e-3)


# ---------------------------------------------------------------------- the first layer


def pixels_of(mark: ET.Element) -> np.ndarray:
    kind, _, content = mark.get("href").partition(",")
    assert kind == "data:image/png;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(content))))


def test_each_pixel_is_as_dark_as_many_of_its_weights_are_left(panels):
    panel = panels("lenet300")
    for kind, score, scope, stop in (
        ("weights", "activation", "global", 0.95),
        ("channels", "l1", "layerwise", 0.5),
    ):
        state, model = panel.memory.look(Controls(stop, score, scope, kind))
        part = panel.parts(state, model)[3]
        left = (model.fc1.weight != 0).sum(0)  # [784]
        image, scale = marks_of(part).iter("image")
        assert (
            np.abs(
                255 * (1 - left.numpy().reshape(28, 28) / 300) - pixels_of(image)
            ).max()
            <= 1
        )
        assert f"from {left.min()} to {left.max()} of 300" in part.words
        assert f"now {left.min()} to {left.max()}" in texts_of(part)
        place = texts_of(part).index("of 784 pixels")
        assert texts_of(part)[place - 1] == str(int((left > 0).sum()))
        # the scale goes from none, white, to all, black
        tones = pixels_of(scale)[0]
        assert (
            tones[0] == 255
            and tones[-1] == 0
            and (np.diff(tones.astype(int)) < 0).all()
        )


@pytest.mark.parametrize("network", ["vgg", "resnet"])
@pytest.mark.parametrize(
    ("kind", "scope", "stop"),
    [("weights", "global", 0.5), ("channels", "layerwise", 0.5)],
)
def test_pruned_weights_of_the_first_convolution_are_blue_and_removed_filters_gone(
    panels, network, kind, scope, stop
):
    panel = panels(network)
    state, model = panel.memory.look(
        Controls(stop, KINDS[kind].scores()[0], scope, kind, network)
    )
    part = panel.parts(state, model)[3]
    weight, dense = model[0].weight[:, 0], panel.subject(network).dense[0].weight
    (image,) = marks_of(part).iter("image")
    sheet = pixels_of(image).astype(int)
    blue = (sheet == [86, 180, 233]).all(2)
    assert blue.sum() == (weight == 0).sum()
    place = texts_of(part).index(f"of {len(dense)} filters")
    assert texts_of(part)[place - 1] == str(len(weight))
    *frames, _ = [
        mark for mark in marks_of(part).iter("path") if mark.get("stroke-dasharray")
    ]  # the last is the key's
    assert len(frames) == len(dense) - len(weight)  # the places of those that left
    side = int(np.ceil(np.sqrt(len(dense))))
    for filter_number in range(len(weight)):
        row, column = divmod(filter_number, side)
        tile = sheet[4 * row : 4 * row + 3, 4 * column : 4 * column + 3]
        values, gray = weight[filter_number].detach().numpy(), tile[..., 0]
        shown = values != 0
        # lighter: positive
        assert ((gray > 127) == (values > 0))[shown & (abs(gray - 127) > 1)].all()
    rest = sheet.copy()
    rest[: 4 * -(-len(weight) // side)] = 255
    assert (rest == 255).all()  # nothing where filters have left


# -------------------------------------------------------------------------- the classes


def test_each_class_has_its_own_accuracy(panels, course_data):
    panel = panels("lenet300")
    dense, state = panel.state(Controls(0.0)), panel.state(Controls(0.95))
    part = part_of(panel, state, 4)
    model = panel.memory.prune(state.controls)
    pictures = course_data.validation[:100]
    with torch.no_grad():
        answers, before = (
            model(pictures.images).argmax(1),
            panel.subject("lenet300").dense(pictures.images).argmax(1),
        )
    for number, name in enumerate(CLASSES):
        own = pictures.labels == number
        now, then = (
            (a == number)[own].float().mean().item() for a in (answers, before)
        )
        assert f"{name} {now:.0%} ({100 * (now - then):+.0f})" in part.words
        assert name in texts_of(part)
    assert dense.accuracy > state.accuracy
    bars = [float(bar.get("width")) for bar in marks_of(part).iter("rect")]
    assert bars[::2] == [252.0] * 10
    # ten pictures of each class
    assert np.mean(bars[1::2]) / 252 == pytest.approx(state.accuracy, abs=1e-3)


def test_a_class_without_a_picture_so_far_says_so(noise, small):
    keep = noise.validation.labels != 2
    validation = Split(noise.validation.images[keep], noise.validation.labels[keep])
    panel = Explorer(model=small, data=noise._replace(validation=validation))
    part = part_of(panel, panel.state(panel.controls), 4)
    assert (
        "no picture of it yet" in texts_of(part)
        and " 2 " not in part.words.partition(":")[2]
    )


# ------------------------------------------------------------------------ other answers


def test_the_pictures_that_change_their_answer_are_counted_and_shown(
    panels, course_data
):
    panel = panels("lenet300")
    dense, state = panel.state(Controls(0.0)), panel.state(Controls(0.95))
    part = part_of(panel, state, 5)
    labels = course_data.validation.labels[:100].tolist()
    changed = [
        (number, labels[number], then, now)
        for number, (then, now) in enumerate(
            zip(dense.predicted, state.predicted, strict=True)
        )
        if then != now
    ]
    lost = sum(label == then for _, label, then, _ in changed)
    won = sum(label == now for _, label, _, now in changed)
    assert f"{len(changed)} of 100: {lost} right before, {won} right now" in texts_of(
        part
    )
    images = list(marks_of(part).iter("image"))
    assert len(images) == min(8, len(changed)) > 2
    texts = texts_of(part)[2:]
    for place, (image, (number, label, then, now)) in enumerate(
        zip(images, changed, strict=False)
    ):
        wanted = 255 * (
            1 - (course_data.validation.images[number, 0].numpy() * STD + MEAN)
        )
        assert np.abs(pixels_of(image) - wanted).max() <= 1
        names = (label, then, now)
        for text, word, answer in zip(
            texts[3 * place : 3 * place + 3], ("is", "was", "now"), names, strict=True
        ):
            assert text.startswith(f"{word} {CLASSES[answer][:9]}")
            assert text.endswith("✓") == (word != "is" and answer == label)


def test_of_the_dense_network_no_answer_changes(quick):
    """It shows those that are wrong."""
    state = quick.state(quick.controls)
    part = part_of(quick, state, 5)
    labels = quick.subject(OWN).labels
    wrong = np.flatnonzero(np.frombuffer(state.predicted, np.uint8) != labels)
    assert "None: this is the dense network" in part.words
    assert f"Wrong for {len(wrong)} of {len(labels)}" in part.words
    images = list(marks_of(part).iter("image"))
    assert len(images) == min(4, len(wrong)) > 0
    assert [words for words in texts_of(part) if words.startswith("is ")] == [
        f"is {labels[place]}" for place in wrong[:4]
    ]
    assert not any("✓" in words for words in texts_of(part))


def test_before_the_dense_network_has_answered_nothing_is_compared(quick):
    state = quick.state(replace(quick.controls, sparsity=0.9))
    part = drawing.draw_flips(quick.subject(OWN), state, None)
    assert "has not answered yet" in part.words and "None" not in part.words


def test_an_answer_that_is_no_class_of_the_data_is_a_number(noise):
    """The network has more outputs than the data has classes, and takes the last when
    the others lose their weights."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 9))
    with torch.no_grad():
        model[1].weight.fill_(0.02)
        model[1].weight[8] = 0
        model[1].bias.copy_(torch.tensor([0.0] * 8 + [2.0]))
    panel = Explorer(model=model, data=noise, kind="nm")
    panel.state(panel.controls)
    part = part_of(panel, panel.state(replace(panel.controls, sparsity=0.75)), 5)
    assert "is 1" in texts_of(part) and "now 8" in texts_of(part)


def test_the_marks_of_the_first_layer_are_those_of_this_network(quick):
    """Each kind: what the picture says is left is what is left in the pruned
    network."""
    for controls in positions(quick, OWN, slice(1, 3)):
        state, model = quick.memory.look(controls)
        weight = prunable(model).get("0.weight")
        words = quick.parts(state, model)[3].words
        zeros = float((weight[:, 0] == 0).float().mean())
        assert f"{len(weight)} of 8, {zeros:.0%}" in words


def test_the_panel_is_displayed_with_its_words_to_unfold(quick, monkeypatch):
    shown = []
    monkeypatch.setattr(
        shell,
        "display",
        lambda bundle, **options: shown.append((bundle, options)),
    )
    quick._ipython_display_()
    quick.still()
    (live, _), (words, _), (still, _), (again, _) = shown
    assert set(live) == {
        "application/vnd.jupyter.widget-view+json",
        "image/png",
        "text/plain",
    }
    assert set(still) == {"image/png", "text/plain"}
    for each in (words, again):
        assert (
            "<details>" in each["text/html"]
            and "validation pictures, weights left" in each["text/html"]
        )
