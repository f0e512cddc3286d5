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
from utils.explorer.drawing import HEIGHT, WIDTH, Part
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
    assert all(
        picture.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}" for picture in pictures
    )


def test_one_picture_of_all_parts_says_the_description(quick):
    state = quick.state(Controls(0.9, network=OWN))
    root = ET.fromstring(quick.svg(state))
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    assert root.get("aria-label") == quick.describe(state)
    width, height = float(root.get("width")), float(root.get("height"))
    corners = [
        (float(part.get("x")), float(part.get("y")))
        for part in root.findall(f"{SVG}svg")
    ]
    assert len(set(corners)) == 6
    for (x, y), (u, v) in combinations(corners, 2):
        assert abs(x - u) >= WIDTH or abs(y - v) >= HEIGHT  # parts do not overlap
    assert all(x + WIDTH <= width and y + HEIGHT <= height for x, y in corners)


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
    weight: ImageFont.truetype(str(FOLDER / f"DejaVuSans{weight}.ttf"), 100)
    for weight in ("", "-Bold")
}  # the font that the picture asks for first, and about as wide as the others


def extent(text: ET.Element) -> tuple[float, float, float, float]:
    """Left, right, baseline and size of a text."""
    size, x = float(text.get("font-size") or 14), float(text.get("x"))
    bold = "-Bold" if text.get("font-weight") == "bold" else ""
    width = FONTS[bold].getlength(text.text or "") * size / 100
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
        assert left >= -1 and right <= WIDTH + 1 and y - size >= -1 and y <= HEIGHT, (
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
            and y + height <= HEIGHT
        ), (part.title, mark.attrib)
    for name, x, y in product(
        ("line", "circle"), ("x1", "x2", "cx"), ("y1", "y2", "cy")
    ):
        for mark in root.iter(name):
            assert (
                0 <= float(mark.get(x) or 0) <= WIDTH
                and 0 <= float(mark.get(y) or 0) <= HEIGHT
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
        assert KINDS[controls.kind].axis in texts
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
    # 180 units are 100%
    assert np.allclose(bars, np.minimum(known, 1.2) * 180, atol=0.06)
    texts = texts_of(part)
    assert [text for text in texts if text in {f"{value:.0%}" for value in known}] == [
        f"{v:.0%}" for v in known
    ]
    whites = [
        line for line in marks_of(part).iter("line") if line.get("stroke") == "white"
    ]
    # a bar that is cut says so
    assert len(whites) == 2 * sum(value * 180 > 216 for value in known)
    assert ("counting ..." in texts) == (zipped is None)
    assert texts.count("measuring ...") == (time is None) + KINDS[kind].zeros
    assert (
        texts.count("measured") == 1 + KINDS[kind].zeros and texts.count("counted") == 4
    )
    assert ("time, CSR kernel" in texts) == KINDS[kind].zeros
    check_readable(part)
    for value in known:
        assert f"{value:.0%}" in part.words


def test_measured_bars_look_different_from_counted_ones(quick):
    state = replace(
        quick.state(quick.controls),
        time=0.7,
        csr=0.4,
        time_quartiles=(0.6, 0.8),
        csr_quartiles=(0.3, 0.5),
    )
    fills = [bar.get("fill") for bar in marks_of(drawing.draw_bars(state)).iter("rect")]
    assert fills == [drawing.BLUE] * 4 + ["url(#measured)"] * 2
    whiskers = [
        line
        for line in marks_of(drawing.draw_bars(state)).iter("line")
        if line.get("stroke") == "#000000"
    ]
    wide = [float(line.get("x2")) - float(line.get("x1")) for line in whiskers]
    assert np.allclose(wide, [36, 36])  # 20% of 180


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
        (image,) = marks_of(part).iter("image")
        assert (
            np.abs(
                255 * (1 - left.numpy().reshape(28, 28) / 300) - pixels_of(image)
            ).max()
            <= 1
        )
        assert f"from {left.min()} to {left.max()} of 300" in part.words
        assert f"{int((left == 0).sum())} of 784 pixels" in texts_of(part)


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
    assert f"{len(weight)} of {len(dense)} filters" in texts_of(part)
    side = int(np.ceil(np.sqrt(len(dense))))
    for filter_number in range(len(weight)):
        row, column = divmod(filter_number, side)
        tile = sheet[4 * row + 1 : 4 * row + 4, 4 * column + 1 : 4 * column + 4]
        values, gray = weight[filter_number].detach().numpy(), tile[..., 0]
        shown = values != 0
        # lighter: positive
        assert ((gray > 127) == (values > 0))[shown & (abs(gray - 127) > 1)].all()
    rest = sheet.copy()
    rest[: 4 * -(-len(weight) // side) + 1] = 255
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
    assert bars[::2] == [220.0] * 10
    # ten pictures of each class
    assert np.mean(bars[1::2]) / 220 == pytest.approx(state.accuracy, abs=1e-3)


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
    part = part_of(quick, quick.state(quick.controls), 5)
    assert "this is the dense network" in part.words and not list(
        marks_of(part).iter("image")
    )


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
