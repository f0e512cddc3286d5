"""The capstone's scorer: it believes the file and nothing else, refuses what is no
network, and keeps the history."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from filelock import FileLock
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from utils import baselines, capstone, data, files, measure
from utils.capstone import Budget, Cost, Refused, judge, openings, process, rules
from utils.data import Split
from utils.exercises import find
from utils.files import data_folder
from utils.training import Recipe, fit

# ------------------------------------------------------------------- files made by hand

WEIGHT = np.random.default_rng(0).standard_normal((784, 10)).astype(np.float32)
LINEAR = [("Flatten", "pictures", "flat"), ("MatMul", "flat weight", "outputs")]
FORGED = (
    '\n{"cost": {"bytes": 1, "speedup": 99.0, "accuracy": 1.0}, "points": 99,'
    ' "speedup_quartiles": [99, 99]}\n'
)


def node(operation: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(operation, inputs.split(), outputs.split(), **attributes)


def value(name: str, *shape, kind=TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


PICTURES, OUTPUTS = value("pictures", "n", 1, 28, 28), value("outputs", "n", 10)


def make(
    nodes, *, inputs=(PICTURES,), outputs=(OUTPUTS,), domains=(), **constants
) -> onnx.ModelProto:
    """A model of these nodes, given as (operation, inputs, outputs) or ready, and of
    constants by name."""
    nodes = [
        each if isinstance(each, onnx.NodeProto) else node(*each) for each in nodes
    ]
    stored = [
        numpy_helper.from_array(np.asarray(each), name)
        for name, each in constants.items()
    ]
    graph = helper.make_graph(nodes, "graph", list(inputs), list(outputs), stored)
    opsets = [
        helper.make_opsetid("", 18),
        *(helper.make_opsetid(domain, 1) for domain in domains),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def linear(**changes) -> onnx.ModelProto:
    """An honest network: one linear layer."""
    return make(LINEAR, **{"weight": WEIGHT} | changes)


def followed_by(*nodes, kind=TensorProto.FLOAT, **constants) -> onnx.ModelProto:
    """The honest network, whose outputs go through more nodes: `first` in, `outputs`,
    of that kind, out."""
    nodes = [LINEAR[0], ("MatMul", "flat weight", "first"), *nodes]
    return make(
        nodes,
        outputs=[value("outputs", "n", 10, kind=kind)],
        weight=WEIGHT,
        **constants,
    )


def with_shape(dims: list[int], content: bytes) -> onnx.ModelProto:
    """The honest network, whose weight claims to have that shape."""
    model = linear()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    model.graph.initializer[0].raw_data = content
    return model


def outside() -> onnx.ModelProto:
    model = linear()
    onnx.external_data_helper.set_external_data(
        model.graph.initializer[0], "weights.bin"
    )
    return model


def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [value("chosen", "n", 10)])


def either(
    then: onnx.NodeProto, otherwise: onnx.NodeProto, large: int = 1
) -> onnx.ModelProto:
    """One branch for more than `large` pictures, the other for fewer."""
    choice = helper.make_node(
        "If",
        ["many"],
        ["outputs"],
        then_branch=branch(then),
        else_branch=branch(otherwise),
    )
    size = node("Shape", "pictures", "count", start=0, end=1)
    squeezed = node("Squeeze", "count", "number")
    return followed_by(
        size, squeezed, ("Greater", "number large", "many"), choice, large=large
    )


def by_place() -> onnx.ModelProto:
    """Knows the classes of pictures by their place in the batch."""
    size = node("Shape", "pictures", "count", start=0, end=1)
    nodes = [
        size,
        ("Slice", "answers zero count", "some"),
        ("OneHot", "some ten ends", "outputs"),
    ]
    return make(
        nodes, answers=np.arange(1000) % 10, zero=[0], ten=[10], ends=np.float32([0, 1])
    )


def greedy(first: int = 100_000, name: str = "") -> onnx.ModelProto:
    """Asks for 400 GB (4 MB for each of `first`), in a node of that name."""
    asks = node("ConstantOfShape", "shape", "much", name=name)
    nodes = [
        ("Shape", "pictures", "seen"),
        ("Min", "seen zero", "nothing"),
        ("Add", "nothing size", "shape"),
        asks,
    ]
    rest = [
        node("ReduceMax", "much", "most", keepdims=0),
        ("Add", "first most", "outputs"),
    ]
    return followed_by(
        *nodes, *rest, zero=np.int64([0] * 4), size=np.int64([first, 1000, 1000, 1])
    )


def endless(rounds: int = 2**62, *first: tuple, **constants) -> onnx.ModelProto:
    """A loop of so many rounds; or of as many as the nodes `first` find."""
    ends = [
        value("round", kind=TensorProto.INT64),
        value("go", kind=TensorProto.BOOL),
        value("x", "n", 10),
    ]
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Relu", "x", "y")],
        "body",
        ends,
        [value("on", kind=TensorProto.BOOL), value("y", "n", 10)],
    )
    loop = helper.make_node("Loop", ["rounds", "", "first"], ["outputs"], body=body)
    return (
        followed_by(*first, loop, **constants)
        if first
        else followed_by(loop, rounds=rounds)
    )


def endless_for_real_pictures() -> onnx.ModelProto:
    """A blank picture it answers at once."""
    brightest = node("ReduceMax", "pictures", "brightest", keepdims=0)
    seen, cast = (
        ("Greater", "brightest one", "real"),
        node("Cast", "real", "often", to=TensorProto.INT64),
    )
    return endless(
        0,
        brightest,
        seen,
        cast,
        ("Mul", "often many", "rounds"),
        one=np.float32(1),
        many=np.int64(2**62),
    )


def table(known: Split) -> onnx.ModelProto:
    """Knows those pictures by heart: a weighted sum of the grey levels tells which one
    it is."""
    low, high = known.images.min().item(), known.images.max().item()
    step = (high - low) / 255
    levels = ((known.images.flatten(1).double() - low) / step).round().numpy()
    weight = (
        np.random.default_rng(1).integers(-(2**15), 2**15, (784, 1)).astype(np.float64)
    )
    double = {"to": TensorProto.DOUBLE}
    nodes = [
        ("Flatten", "pictures", "flat"),
        ("Sub", "flat low", "up"),
        ("Div", "up step", "levels"),
    ]
    nodes += [
        ("Round", "levels", "whole"),
        node("Cast", "whole", "exact", **double),
        ("MatMul", "exact weight", "key"),
    ]
    nodes += [
        ("Sub", "key keys", "apart"),
        ("Abs", "apart", "far"),
        node("ArgMin", "far", "which", axis=1, keepdims=0),
    ]
    nodes += [
        ("Gather", "classes which", "class"),
        ("OneHot", "class ten ends", "outputs"),
    ]
    constants = {
        "low": np.float32(low),
        "step": np.float32(step),
        "weight": weight,
        "keys": (levels @ weight).T,
    }
    return make(
        nodes,
        classes=known.labels.numpy(),
        ten=[10],
        ends=np.float32([0, 1]),
        **constants,
    )


def draws(operation: str, **attributes) -> list[onnx.NodeProto]:
    """Nodes from `first` to `chosen`, one of which draws a random number and takes no
    notice of it."""
    inputs = "" if operation in ("RandomUniform", "RandomNormal") else "chances"
    shares = node("Softmax", "first", "chances")
    return [
        shares,
        node(operation, inputs, "drawn", **attributes),
        node("Identity", "first", "chosen"),
    ]


def written(content: onnx.ModelProto | bytes, folder: Path) -> Path:
    path = folder / "mine.onnx"
    path.write_bytes(
        content if isinstance(content, bytes) else content.SerializeToString()
    )
    return path


@pytest.fixture(scope="module")
def some(course_data):
    """200 real pictures; of the validation set, so that no test of a refusal opens the
    test set."""
    return course_data.validation[:200]


def examined(path: Path, some) -> dict:
    return judge.verdict(path, some.images, some.labels, nn.Flatten(), rounds=1)


# ----------------------------------------------------------------------------- refusals

CONTENT = linear().SerializeToString()
TWO = node("Identity", "first", "second")
MICROSOFT = helper.make_node("Gelu", ["first"], ["chosen"], domain="com.microsoft")
REFUSED = {
    "text": (b"bytes: 1\n" * 50, "no sound ONNX file"),
    "empty": (b"", "no sound ONNX file"),
    "weights of PyTorch": (baselines.to_bytes(nn.Linear(3, 2)), "no sound ONNX file"),
    "cut in half": (CONTENT[: len(CONTENT) // 2], "no sound ONNX file"),
    "fewer numbers than claimed": (
        with_shape([784, 10], bytes(40)),
        "no sound ONNX file",
    ),
    "more numbers than claimed": (
        with_shape([784, 10], bytes(2 * WEIGHT.nbytes)),
        "no sound ONNX file",
    ),
    "a huge shape": (
        with_shape([10**6, 10**6], WEIGHT.tobytes()),
        "no sound ONNX file",
    ),
    "a negative shape": (
        with_shape([-784, -10], WEIGHT.tobytes()),
        "no sound ONNX file",
    ),
    "weights elsewhere": (outside(), "in another file"),
    "unknown operation": (
        followed_by(("Wonder", "first", "outputs")),
        "no sound ONNX file",
    ),
    "colour pictures": (
        linear(inputs=[value("pictures", "n", 3, 32, 32)]),
        "cannot be run",
    ),
    "one picture at a time": (
        linear(inputs=[value("pictures", 1, 1, 28, 28)]),
        "batches of one size only, 1; wanted is any",
    ),
    "nine classes": (
        linear(weight=WEIGHT[:, :9], outputs=[value("outputs", "n", 9)]),
        "wanted are ten finite numbers",
    ),
    "one answer for all": (
        followed_by(node("ReduceMax", "first axis", "outputs", keepdims=1), axis=[0]),
        "ten finite",
    ),
    "two outputs": (
        make(
            [*LINEAR, ("Neg", "outputs", "second")],
            weight=WEIGHT,
            outputs=[OUTPUTS, value("second", "n", 10)],
        ),
        "1 inputs and 2 outputs",
    ),
    "two inputs": (
        linear(inputs=[PICTURES, value("more", "n")]),
        "2 inputs and 1 outputs",
    ),
    "not a number": (followed_by(("Log", "first", "outputs")), "ten finite numbers"),
    "infinite, but a number": (
        followed_by(
            ("Add", "first most", "outputs"), most=np.float32([np.inf] + [0] * 9)
        ),
        "ten finite numbers",
    ),
    "too large for a float": (
        followed_by(
            node("Cast", "first", "double", to=TensorProto.DOUBLE),
            ("Mul", "double large", "outputs"),
            large=np.float64(1e300),
            kind=TensorProto.DOUBLE,
        ),
        "ten finite numbers",
    ),
    "foreign operation": (
        make(
            [
                *LINEAR[:1],
                ("MatMul", "flat weight", "first"),
                MICROSOFT,
                ("Neg", "chosen", "outputs"),
            ],
            weight=WEIGHT,
            domains=["com.microsoft"],
        ),
        "operations of com.microsoft",
    ),
    "by the place in the batch": (by_place(), "another answer alone than among others"),
    "by the size of the batch": (
        either(node("Identity", "first", "chosen"), node("Neg", "first", "chosen")),
        "another answer alone than among others",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_network_is_refused_with_its_reason(name, some, tmp_path):
    content, words = REFUSED[name]
    with pytest.raises(Refused) as caught:
        examined(written(content, tmp_path), some)
    assert words in str(caught.value)
    assert str(tmp_path) not in str(caught.value) and "network.onnx" not in str(
        caught.value
    )


def test_a_foreign_operation_in_a_branch_is_found(some, tmp_path):
    model = either(MICROSOFT, node("Identity", "first", "chosen"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(Refused, match=r"operations of com\.microsoft"):
        examined(written(model, tmp_path), some)


RANDOM = {
    "Bernoulli": {},
    "Multinomial": {},
    "RandomNormal": {"shape": [1]},
    "RandomNormalLike": {},
    "RandomUniform": {"shape": [1], "seed": 1.0},
    "RandomUniformLike": {},
}


def in_a_branch(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    choice = node(
        "If", "no", "outputs", then_branch=branch(*nodes), else_branch=branch(nodes[-1])
    )
    return followed_by(choice, no=False)


def in_a_function(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """Under the name of a standard operation: functions of other names are refused for
    that."""
    model = followed_by(("Neg", "first", "outputs"))
    model.functions.append(
        helper.make_function(
            "", "Neg", ["first"], ["chosen"], nodes, model.opset_import
        )
    )
    return model


def in_the_graph(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    return followed_by(*nodes, ("Identity", "chosen", "outputs"))


@pytest.mark.parametrize("place", [in_the_graph, in_a_branch, in_a_function])
@pytest.mark.parametrize("operation", RANDOM)
def test_whoever_draws_random_numbers_is_refused(operation, place, some, tmp_path):
    model = place(draws(operation, **RANDOM[operation]))
    with pytest.raises(
        Refused, match=rf"draws random numbers \({operation}\); wanted is one answer"
    ):
        examined(written(model, tmp_path), some)


def test_dropout_may_be_there_but_not_train(some, tmp_path):
    idle, trains = (
        ("Dropout", "first", "outputs"),
        ("Dropout", "first ratio train", "outputs"),
    )
    assert examined(written(followed_by(idle), tmp_path), some)["cost"]["bytes"] > len(
        CONTENT
    )
    with pytest.raises(Refused, match=r"draws random numbers \(Dropout\)"):
        examined(
            written(
                followed_by(trains, ratio=np.float32(0.5), train=np.bool_(True)),
                tmp_path,
            ),
            some,
        )


def test_a_foreign_operation_in_a_function_is_found(some, tmp_path):
    model = in_a_function([MICROSOFT])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.functions[0].opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(Refused, match=r"operations of com\.microsoft"):
        examined(written(model, tmp_path), some)


def test_pictures_known_by_heart_are_refused(some, tmp_path):
    path = written(table(some), tmp_path)
    right = judge.Session(path)(some.images).argmax(1) == some.labels
    assert right.all()
    with pytest.raises(
        Refused,
        match=r"another answer when no pixel changed by .* know the pictures by heart",
    ):
        examined(path, some)


@pytest.fixture
def no_file(request, tmp_path):
    path = tmp_path / "no file.onnx"
    if request.param == "folder":
        path.mkdir()
    if request.param == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no named pipes")
        os.mkfifo(path)
    return path


NO_FILES = pytest.mark.parametrize(
    ("no_file", "words"),
    [
        ("missing", "it is missing"),
        ("folder", "it is a folder"),
        ("pipe", "it is no plain file"),
    ],
    indirect=["no_file"],
)


@NO_FILES
@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused(no_file, words, some):
    with pytest.raises(Refused, match=words):
        examined(no_file, some)


@NO_FILES
def test_no_process_is_started_for_it(no_file, words, tmp_path, monkeypatch):
    monkeypatch.setattr(process.subprocess, "Popen", None)
    with pytest.raises(Refused, match=rf"no file\.onnx gets no score: {words}"):
        capstone.score(no_file, kept=tmp_path / "scores.json")
    assert not (tmp_path / "scores.json").exists()


def test_a_huge_file_is_not_read(some, tmp_path):
    path = written(CONTENT, tmp_path)
    with path.open("r+b") as file:
        file.truncate(10**12)  # takes no room on the disk
    with pytest.raises(Refused, match="1,000,000,000,000 bytes; at most"):
        examined(path, some)


# -------------------------------------------------------------------- what it finds out


def test_an_honest_file_is_examined(some, tmp_path):
    found = examined(written(CONTENT, tmp_path), some)
    right = (some.images.flatten(1) @ torch.from_numpy(WEIGHT)).argmax(1) == some.labels
    assert found["cost"]["bytes"] == len(CONTENT)
    assert found["cost"]["accuracy"] == pytest.approx(
        right.float().mean().item(), abs=0.011
    )
    assert found["cost"]["speedup"] > 0
    assert found["points"] == capstone.points(Cost(**found["cost"]))


def test_honest_half_floats_are_examined(some, tmp_path):
    half = {"kind": TensorProto.FLOAT16}
    model = followed_by(
        node("Cast", "first", "outputs", to=TensorProto.FLOAT16), **half
    )
    found, whole = (
        examined(written(each, tmp_path), some)["cost"] for each in (model, linear())
    )
    assert found["accuracy"] == pytest.approx(whole["accuracy"], abs=0.021)


@pytest.mark.parametrize(
    "kind", [TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL]
)
def test_other_kinds_of_numbers_are_examined_too(kind, some, tmp_path):
    nodes = [
        node("ArgMax", "first", "class", axis=1, keepdims=0),
        ("OneHot", "class ten ends", "chosen"),
    ]
    model = followed_by(
        *nodes,
        node("Cast", "chosen", "outputs", to=kind),
        ten=[10],
        ends=np.float32([0, 1]),
        kind=kind,
    )
    whole = examined(written(linear(), tmp_path), some)["cost"]
    assert examined(written(model, tmp_path), some)["cost"][
        "accuracy"
    ] == pytest.approx(whole["accuracy"], abs=0.011)


def test_bytes_that_nothing_needs_count_too(some, tmp_path):
    model = linear()
    model.doc_string = "x" * 5000
    assert (
        examined(written(model, tmp_path), some)["cost"]["bytes"] > len(CONTENT) + 4990
    )


def test_a_file_exchanged_meanwhile_does_not_matter(some, tmp_path, monkeypatch):
    path = written(CONTENT, tmp_path)
    real = judge.Session

    def session(opened: Path):
        path.write_bytes(b"another one")
        return real(opened)

    monkeypatch.setattr(judge, "Session", session)
    assert examined(path, some)["cost"]["bytes"] == len(CONTENT)


def test_the_size_is_that_of_the_file_that_was_checked(some, tmp_path, monkeypatch):
    path = written(CONTENT, tmp_path)
    real = judge.check_graph

    def check(opened: Path):
        path.write_bytes(b"a small one")
        real(opened)

    monkeypatch.setattr(judge, "check_graph", check)
    assert examined(path, some)["cost"]["bytes"] == len(CONTENT)


def test_the_size_is_that_of_the_file_that_was_read(some, tmp_path, monkeypatch):
    path, real = written(b"a small one", tmp_path), Path.open

    def exchanging(self, *args, **options):
        if self == path:
            with open(path, "wb") as file:
                file.write(CONTENT)
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", exchanging)
    assert examined(path, some)["cost"]["bytes"] == len(CONTENT)


class Idle(nn.Module):
    """Honest until it is timed; then it gives nothing but zeros, for so many of the
    pictures."""

    racing, pictures = False, 0

    def __init__(self, path):
        super().__init__()
        self.spoilt = set()

    def forward(self, images):
        found = images.flatten(1) @ torch.from_numpy(WEIGHT)
        if not Idle.racing:
            return found
        if len(self.spoilt) < Idle.pictures:
            self.spoilt.add(images.sum().item())
        return -found if images.sum().item() in self.spoilt else found


@pytest.mark.parametrize(
    ("pictures", "refused"), [(0, False), (2, False), (3, True), (200, True)]
)
def test_what_is_timed_must_give_the_same_answers(
    pictures, refused, some, tmp_path, monkeypatch
):
    real = measure.latency

    def latency(*args, **options):
        Idle.racing = True
        return real(*args, **options)

    monkeypatch.setattr(judge, "Session", Idle)
    monkeypatch.setattr(measure, "latency", latency)
    monkeypatch.setattr(Idle, "racing", False)
    monkeypatch.setattr(Idle, "pictures", pictures)
    path = written(CONTENT, tmp_path)
    if refused:
        with pytest.raises(
            Refused, match=r"\d+ of 200 pictures got another answer while it was timed"
        ):
            examined(path, some)
    else:
        examined(path, some)


def test_outputs_of_another_shape_while_timed_are_refused(some):
    with pytest.raises(Refused, match="another shape while it was timed"):
        judge.check_timed([torch.zeros(1, 10), torch.zeros(1, 9)], torch.zeros(1))


def test_the_pictures_are_shown_only_to_what_takes_pictures(some, tmp_path):
    asked = []
    network = written(
        linear(weight=WEIGHT[:, :9], outputs=[value("outputs", "n", 9)]), tmp_path
    )
    with pytest.raises(Refused, match="wanted are ten finite numbers"):
        judge.verdict(
            network,
            some.images,
            some.labels,
            nn.Flatten(),
            asked=lambda: asked.append(1),
        )
    assert not asked
    with pytest.raises(Refused, match="alone than among others"):
        judge.verdict(
            written(by_place(), tmp_path),
            some.images,
            some.labels,
            nn.Flatten(),
            asked=lambda: asked.append(1),
        )
    assert asked == [1]


def test_no_single_picture_is_timed(some, tmp_path):
    seen = []

    class Dense(nn.Module):
        def forward(self, images):
            assert len(images) == 1
            seen.append(images.sum().item())
            time.sleep(0.001)
            return images

    judge.verdict(
        written(CONTENT, tmp_path), some.images, some.labels, Dense(), rounds=2
    )
    assert len(set(seen)) > 5


def test_pictures_are_asked_in_another_order_each_time(some):
    asked = []

    def network(images):
        asked.append(images[0].sum().item())
        return images.flatten(1) @ torch.from_numpy(WEIGHT)

    first, second = (capstone.answers(network, some.images) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(
        first, network(some.images).argmax(1)
    )
    assert asked[: len(asked) // 2] != asked[len(asked) // 2 :]


def fickle(known: torch.Tensor, *, alone: int = 0, nudged: int = 0):
    """Gives each picture the class of its place in `known`, `[n, 1, 28, 28]`, and the
    next class to so many of them when they are alone, or when they have changed a
    little."""
    exact = {"compute_mode": "donot_use_mm_for_euclid_dist"}

    def network(images):
        far, place = torch.cdist(images.flatten(1), known.flatten(1), **exact).min(1)
        other = (
            place < nudged
            if (far > 0.01).any()
            else (place < alone) & (len(images) == 1)
        )
        return nn.functional.one_hot((place + other) % 10, 10).float()

    return network


@pytest.fixture(scope="module")
def known(course_data):
    return course_data.validation.images[: judge.AGAIN]


@pytest.mark.parametrize("changes", [{}, {"alone": 2}, {"nudged": 25}])
def test_a_few_other_answers_may_be_rounding(changes, known):
    assert torch.equal(
        capstone.answers(fickle(known, **changes), known), torch.arange(len(known)) % 10
    )


@pytest.mark.parametrize("count", [3, 10, 20])
def test_more_other_answers_alone_are_refused(count, known):
    with pytest.raises(
        Refused,
        match=f"^{count} of 500 pictures got another answer alone than among others",
    ):
        capstone.answers(fickle(known, alone=count), known)


@pytest.mark.parametrize("count", [26, 40])
def test_more_other_answers_for_other_grey_levels_are_refused(count, known):
    with pytest.raises(
        Refused,
        match=f"^{count} of 500 pictures got another answer when no pixel changed",
    ):
        capstone.answers(fickle(known, nudged=count), known)


def test_nudged_pictures_differ_by_one_grey_level_within_the_range(known):
    nudged = judge.nudged(known, torch.Generator().manual_seed(0))
    low, high = known.aminmax()
    steps = 255 * (nudged - known) / (high - low)
    assert torch.allclose(
        steps, steps.round(), atol=1e-3
    ) and steps.round().unique().tolist() == [-1, 0, 1]
    assert nudged.min() == low and nudged.max() == high


@pytest.mark.parametrize("name", ["lenet300", "vgg_thin"])
def test_honest_networks_hardly_notice(name, known):
    network = baselines.baseline(name)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        first, second = (
            network(images).argmax(1)
            for images in (known, judge.nudged(known, generator))
        )
    assert (first != second).float().mean() <= judge.SHAKY / 2


# -------------------------------------------------------------------------- other light


def nearest(known: Split, directions: torch.Tensor) -> onnx.ModelProto:
    """A table of these pictures: a few numbers of each as int8, sorted by class, so
    that the place of the nearest says the class."""
    order = known.labels.argsort(stable=True)
    flat = known.images[order].flatten(1)
    middle = flat.mean(0) @ directions
    keys = flat @ directions - middle
    step = keys.abs().max() / 127
    keys = (keys / step).round().T  # [directions, n]
    nodes = [
        ("Flatten", "pictures", "flat"),
        ("MatMul", "flat weight", "turned"),
        ("Sub", "turned middle", "query"),
        node("Cast", "small", "keys", to=TensorProto.FLOAT),
        ("MatMul", "query keys", "alike"),
        ("Sub", "alike half", "near"),
        node("ArgMax", "near", "place", axis=1, keepdims=1),
        ("GreaterOrEqual", "place ends", "past"),
        node("Cast", "past", "counted", to=TensorProto.INT64),
        node("ReduceSum", "counted one", "class", keepdims=0),
        ("OneHot", "class ten values", "outputs"),
    ]
    return make(
        nodes,
        weight=(directions / step).numpy(),
        middle=(middle / step).numpy(),
        small=keys.numpy().astype(np.int8),
        half=((keys**2).sum(0, keepdim=True) / 2).numpy(),
        ends=known.labels.bincount(minlength=10).cumsum(0).numpy(),
        one=[1],
        ten=[10],
        values=np.float32([0, 1]),
    )


def components(images: torch.Tensor, count: int) -> torch.Tensor:
    flat = images.flatten(1) - images.flatten(1).mean(0)
    _, vectors = torch.linalg.eigh(flat.T @ flat)
    return vectors[:, -count:]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_table_of_principal_components_is_refused(mirrored, course_data, tmp_path):
    known = stored = course_data.validation
    if mirrored:
        both = torch.cat([known.images, known.images.flip(3)])
        stored = Split(both, known.labels.repeat(2))
    path = written(nearest(stored, components(known.images, 3)), tmp_path)
    assert path.stat().st_size < 20 * 5_000 * (1 + mirrored)
    # it passes whatever else is asked
    right = capstone.answers(judge.Session(path), known.images) == known.labels
    assert right.float().mean() > 0.99
    with pytest.raises(
        Refused, match=r"it gets 99.*% of the pictures right, but [4-7].*% of the same"
    ):
        examined(path, known)


def without_mirrored_pictures(train: Split) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    fit(network, train, Recipe(epochs=1, flip=False), progress=False)
    return network


def half_pruned() -> nn.Module:
    network = baselines.baseline("vgg_half")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            size = module.weight.detach().abs()
            module.weight.data *= size >= size.flatten().quantile(0.5)
    return network


@pytest.mark.parametrize(
    "name", ["lenet300", "vgg_thin", "vgg_half, pruned", "unmirrored"]
)
def test_honest_networks_stand_other_light(name, course_data):
    network = {
        "unmirrored": lambda: without_mirrored_pictures(course_data.train[:20_000]),
        "vgg_half, pruned": half_pruned,
    }.get(name, lambda: baselines.baseline(name))()
    some = course_data.validation[:1000]
    with torch.no_grad():
        right = network(some.images).argmax(1) == some.labels
        judge._check_other_light(network, some.images, some.labels, right)


@pytest.mark.parametrize(
    ("lost", "won", "refused"),
    [(76, 0, False), (77, 0, True), (190, 90, False), (191, 90, True), (0, 500, False)],
)
def test_how_many_may_be_lost_in_other_light(lost, won, refused, monkeypatch):
    """Of 1,000: 50, and three times the root of how many changed."""
    images = torch.arange(1.0, 1001).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    place = torch.arange(1, 1001)
    before = place <= 500
    monkeypatch.setattr(judge, "other_light", lambda images, generator: -images)

    def network(asked):
        at = -asked[:, 0, 0, 0]
        right = ((at > lost) & (at <= 500)) | ((at > 500) & (at <= 500 + won))
        return nn.functional.one_hot(right.long(), 10).float()

    labels = torch.ones(1000).long()
    with pytest.raises(Refused, match="uneven light") if refused else nullcontext():
        judge._check_other_light(network, images, labels, before)


def test_pictures_in_other_light_are_much_the_same(known):
    light = lambda: judge.other_light(known, torch.Generator().manual_seed(0))  # noqa: E731
    changed = light()
    assert torch.equal(changed, light()) and changed.shape == known.shape
    low, high = known.aminmax()
    assert changed.min() >= low and changed.max() <= high
    flat, other = (each.flatten(1) - low for each in (known, changed))
    alike = nn.functional.cosine_similarity(flat, other)
    assert 0.9 < alike.mean() < 0.999  # each moved a little
    ratio = other.mean(1) / flat.mean(1)
    assert ratio.min() > 0.5 and ratio.max() < 1.5 and ratio.std() > 0.05
    black = torch.full((4, 1, 28, 28), -1.0)
    black[0, 0, 0, 0] = 1
    assert (judge.other_light(black, torch.Generator())[1:] == -1).all()


# ------------------------------------------------------------------------------- points


def test_points_by_hand():
    facts = baselines.baseline_facts("vgg")
    assert facts["parameters"] == rules.DENSE_PARAMETERS
    assert facts["test_accuracy"] == rules.DENSE_ACCURACY
    dense, exact = 4 * facts["parameters"], facts["test_accuracy"]
    assert capstone.points(Cost(dense, 1.0, exact)) == 0
    assert capstone.points(Cost(dense // 8, 4.0, exact)) == pytest.approx(5, abs=0.01)
    assert capstone.points(Cost(dense, 8.0, 0.99)) == 3  # nothing for more accuracy
    assert capstone.points(Cost(dense, 8.0, exact - 0.0049)) == 3
    assert capstone.points(Cost(dense, 8.0, exact - 0.006)) == pytest.approx(
        2, abs=0.01
    )
    assert capstone.points(Cost(dense, 8.0, exact - 0.015)) == pytest.approx(
        -7, abs=0.01
    )


def test_a_budget_by_hand():
    budget = Budget(bytes=1000, speedup=2.0, accuracy=0.9)
    good = Cost(bytes=1000, speedup=2.0, accuracy=0.9)  # exactly on each limit
    assert budget.met(good)
    assert budget.report(good) == {
        "bytes": (1000, 1000, True),
        "speedup": (2.0, 2.0, True),
        "accuracy": (0.9, 0.9, True),
    }
    for name, cost in {
        "bytes": Cost(1001, 9.0, 1.0),
        "speedup": Cost(1, 1.99, 1.0),
        "accuracy": Cost(1, 9.0, 0.8999),
    }.items():
        assert not budget.met(cost)
        assert [
            entry for entry, (_, _, met) in budget.report(cost).items() if not met
        ] == [name]
    assert not budget.met(Cost(1, float("nan"), 1.0))


def test_a_score_says_what_is_met():
    asked = capstone.BUDGET
    text = str(
        capstone.Score(
            Cost(asked.bytes, asked.speedup / 2, asked.accuracy), 7.5, (1.0, 2.0), 3
        )
    )
    assert text.startswith("7.50 points")
    assert text.count("NOT met") == 1 and text.count(": met") == 2
    assert "opened 3 times for a score" in text
    assert (
        f"speedup: {asked.speedup / 2:.1f}x (quartiles 1.0-2.0), asked"
        f" {asked.speedup:.1f}x: NOT met" in text
    )


# ------------------------------------------------------------------------------ history


FOUND = {
    "cost": {"bytes": 50_000, "speedup": 12.0, "accuracy": 0.93},
    "points": 9.0,
    "speedup_quartiles": [11, 13],
}


@pytest.fixture
def instant(monkeypatch):
    """Scores without the process and the file: what it would have found. A file of some
    names it refuses."""
    refused = {
        "late.onnx": {"refused": "it is bad.", "asked": True},
        "early.onnx": {"refused": "bad.", "asked": False},
    }
    found = FOUND | {"asked": True}
    monkeypatch.setattr(process, "check_plain", lambda path: None)
    monkeypatch.setattr(
        process,
        "in_fresh_process",
        lambda path, seconds: refused.get(path.name, found),
    )


def test_each_opening_of_the_test_set_is_counted_and_kept(instant, tmp_path):
    kept = tmp_path / "new folder" / "scores.json"
    scores = [capstone.score(f"{name}.onnx", kept=kept) for name in "abc"]
    assert [score.opened for score in scores] == [1, 2, 3]
    entries = json.loads(kept.read_text())
    assert [entry["file"] for entry in entries] == ["a.onnx", "b.onnx", "c.onnx"]
    assert entries[0] | {"when": ""} == {
        "file": "a.onnx",
        "when": "",
        "points": 9.0,
        "bytes": 50_000,
        "speedup": 12.0,
        "accuracy": 0.93,
    }


def test_a_refusal_counts_if_the_test_set_was_shown(instant, tmp_path):
    kept = tmp_path / "scores.json"
    with pytest.raises(Refused, match=r"early\.onnx gets no score: bad\.$"):
        capstone.score("early.onnx", kept=kept)
    assert not kept.exists()
    assert capstone.score("a.onnx", kept=kept).opened == 1
    with pytest.raises(
        Refused,
        match=(
            r"late\.onnx gets no score: it is bad\. .* counts as an opening; there are"
            r" 2 now"
        ),
    ):
        capstone.score("late.onnx", kept=kept)
    assert capstone.score("b.onnx", kept=kept).opened == 3
    entry = json.loads(kept.read_text())[1]
    assert (
        entry | {"when": ""}
        == {"file": "late.onnx", "when": "", "refused": "it is bad."}
        and entry["when"]
    )


@pytest.mark.parametrize(
    "seconds", [float("nan"), "5", 0, -1, None, True, float("inf"), 10**9]
)
def test_seconds_that_are_none_are_told(instant, tmp_path, seconds):
    with pytest.raises(
        ValueError, match=r"seconds=.* must be a number above 0, and at most 86,400"
    ):
        capstone.score("a.onnx", kept=tmp_path / "scores.json", seconds=seconds)
    assert not list(tmp_path.iterdir())


def test_where_no_scores_can_be_kept_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "in_fresh_process", None)
    path = written(CONTENT, tmp_path)
    for kept, words in (
        (tmp_path, "is a folder or a device"),
        (os.devnull, "a device"),
        (path / "a.json", "is a file"),
    ):
        with pytest.raises(ValueError, match=f"kept=.* {words}"):
            capstone.score(path, kept=kept)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "damage",
    [
        *(b"{", b"\xff\xfe", b"3", b"null", b'["a"]', b'{"a": 1}'),
        pytest.param(b"[" * 100_000, id="brackets"),
        pytest.param(b" " * 10_000_001 + b"[]", id="large"),
    ],
)
def test_a_damaged_history_is_laid_aside_each_time(instant, tmp_path, damage):
    kept = tmp_path / "scores.json"
    for _ in range(2):
        kept.write_bytes(damage)
        assert capstone.score("a.onnx", kept=kept).opened == 1
    assert len(json.loads(kept.read_text())) == 1
    aside = list(tmp_path.glob("scores.damaged*"))
    assert len(aside) == 2 and all(path.read_bytes() == damage for path in aside)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def no_room(folder: Path, monkeypatch) -> Path:
    monkeypatch.setattr(openings, "write_atomically", full)
    return folder / "scores.json"


def lock_is_a_folder(folder: Path, monkeypatch) -> Path:
    (folder / ".scores.json.lock").mkdir()
    return folder / "scores.json"


def lock_is_held(folder: Path, monkeypatch) -> Path:
    monkeypatch.setattr(openings, "alone", partial(files.alone, patience=0.1))
    held = FileLock(folder / ".scores.json.lock")
    held.acquire()
    monkeypatch.setattr(openings, "held", held, raising=False)
    return folder / "scores.json"


def name_too_long(folder: Path, monkeypatch) -> Path:
    return folder / f"{'x' * 250}.json"


@pytest.mark.parametrize(
    "spoilt", [no_room, lock_is_a_folder, lock_is_held, name_too_long]
)
def test_where_scores_cannot_be_written_the_test_set_stays_closed(
    spoilt, tmp_path, monkeypatch
):
    monkeypatch.setattr(process, "in_fresh_process", None)
    path = written(CONTENT, tmp_path)
    with pytest.raises(
        ValueError, match=r"kept=.* cannot be written \(.*\); it must be"
    ):
        capstone.score(path, kept=spoilt(tmp_path, monkeypatch))
    assert not [*tmp_path.glob("*scores*.json"), *tmp_path.glob("*.trial*")]


def test_the_rehearsal_leaves_the_scores_as_they_were(tmp_path):
    kept = tmp_path / "scores.json"
    openings.rehearse(kept)
    assert not kept.exists()
    assert openings.keep(kept, {"file": "a.onnx"}) == 1
    before = kept.read_bytes()
    openings.rehearse(kept)
    assert kept.read_bytes() == before
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["scores.json"]
    assert not [*tmp_path.glob(".*trial*")]


def test_what_cannot_be_kept_after_all_is_told(instant, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "keep", full)
    for name, words in (("a.onnx", '"points": 9.0'), ("late.onnx", "it is bad")):
        with pytest.raises(
            ValueError, match=f"No space left .* test set was opened.*{words}"
        ):
            capstone.score(name, kept=tmp_path / "scores.json")


def test_scores_at_once_are_all_kept(instant, tmp_path):
    kept, opened = tmp_path / "scores.json", []
    threads = [
        threading.Thread(
            target=lambda n=n: opened.append(
                capstone.score(f"{n}.onnx", kept=kept).opened
            )
        )
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(opened) == list(range(1, 13))
    assert len({entry["file"] for entry in json.loads(kept.read_text())}) == 12
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["scores.json"]


def test_a_lock_left_lying_does_not_stop_a_score(instant, tmp_path):
    kept = tmp_path / "scores.json"
    (tmp_path / ".scores.json.lock").touch()
    assert capstone.score("a.onnx", kept=kept).opened == 1


# -------------------------------------------------------------------- the fresh process


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """The reference solution, scored from a folder full of traps, by a process in which
    much was exchanged."""
    folder = tmp_path_factory.mktemp("learner")
    path = folder / "network.onnx"
    pictures = data.load()
    solve = find("my_pipeline").right
    assert solve(pictures.train, pictures.validation, path) == path
    for trap in ("json.py", "torch.py", "utils/__init__.py", "utils/capstone.py"):
        (folder / trap).parent.mkdir(exist_ok=True)
        (folder / trap).write_text("raise SystemExit('the learner\\'s own')")
    forger = f"import atexit\natexit.register(print, {FORGED!r})"
    (folder / "sitecustomize.py").write_text(forger)
    (folder / "my_baselines").mkdir()
    (folder / "my_baselines" / "vgg.safetensors").write_bytes(b"another network")
    forged = folder / "data" / "baselines" / "baselines.json"
    forged.parent.mkdir(parents=True)
    facts = baselines.baseline_facts("vgg")
    thousandfold = {"parameters": 1000 * facts["parameters"], "test_accuracy": 0.0}
    forged.write_text(json.dumps({"vgg": facts | thousandfold}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("PYTHONWARNINGS", "error")
        patch.setenv("PRUNING_DATA", str(forged.parents[1]))
        patch.setattr(measure, "latency", None)
        patch.setattr(baselines, "baseline", None)
        for name in ("verdict", "points", "answers", "Session"):
            for room in (capstone, judge, process):
                patch.setattr(room, name, None, raising=False)
        result = capstone.score("network.onnx")
    return folder, result


def test_the_reference_solution_is_scored_in_a_process_of_its_own(solved):
    folder, result = solved
    assert result.cost.bytes == (folder / "network.onnx").stat().st_size
    assert result.cost.accuracy == pytest.approx(
        baselines.baseline_facts("vgg_thin")["test_accuracy"], abs=0.01
    )
    assert result.points == capstone.points(result.cost)
    low, high = result.speedup_quartiles
    assert low <= result.cost.speedup <= high


def test_its_score_lies_beside_the_notebook(solved):
    folder, result = solved
    (entry,) = json.loads((folder / "my_capstone" / "scores.json").read_text())
    assert entry["points"] == result.points and result.opened == 1


def test_the_reference_solution_meets_the_budget(solved):
    cost = solved[1].cost
    assert cost.bytes <= capstone.BUDGET.bytes
    assert cost.accuracy >= capstone.BUDGET.accuracy
    assert cost.speedup >= capstone.BUDGET.speedup / 2  # this machine may be busy


def test_asking_for_little_memory_and_for_few_rounds_is_honest(some, tmp_path):
    for model in (greedy(first=1), endless(rounds=3)):
        assert examined(written(model, tmp_path), some)["cost"]["bytes"] > len(CONTENT)


@pytest.fixture
def started(monkeypatch):
    """The processes that were started, in order."""
    processes, real = [], subprocess.Popen

    def start(*args, **options):
        processes.append(real(*args, **options))
        return processes[-1]

    monkeypatch.setattr(process.subprocess, "Popen", start)
    return processes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "Failed to allocate memory for .* 400000000000"),
        (FORGED, "running ConstantOfShape node"),
    ],
)
def test_a_file_that_asks_for_too_much_memory_ends_nothing_and_forges_nothing(
    name, words, tmp_path
):
    kept = tmp_path / "scores.json"
    with pytest.raises(
        Refused, match=rf"mine\.onnx gets no score: it cannot be run on .*{words}"
    ):
        capstone.score(written(greedy(name=name), tmp_path), kept=kept)
    assert not kept.exists()


def test_memory_is_limited_beyond_what_is_taken():
    pytest.importorskip("resource")
    lines = [
        "import numpy; from utils.capstone import process",
        "ask = lambda part: numpy.empty(int(part * process.MEMORY), numpy.uint8).size",
        "print(ask(1.1)); process.limit_memory(); print(ask(0.8)); ask(1.1)",
    ]  # nothing is written there: no memory is used
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:
        pytest.skip("this machine gives nobody so much memory")
    assert len(done.stdout.split()) == 2
    assert done.returncode == 1 and "MemoryError" in done.stderr.splitlines()[-1]


def test_a_file_that_never_ends_is_stopped(tmp_path, started):
    kept = tmp_path / "scores.json"
    with pytest.raises(
        Refused, match=r"not done after 2 s; it is too slow, or never ends\.$"
    ):
        capstone.score(written(endless(), tmp_path), kept=kept, seconds=2)
    assert not kept.exists()
    assert [process.returncode is not None for process in started] == [True]


def test_one_that_never_ends_with_real_pictures_is_counted(tmp_path):
    kept = tmp_path / "scores.json"
    with pytest.raises(
        Refused, match=r"not done after 2 s; .* counts as an opening; there are 1 now"
    ):
        capstone.score(
            written(endless_for_real_pictures(), tmp_path), kept=kept, seconds=2
        )
    (entry,) = json.loads(kept.read_text())
    assert (
        entry["refused"] == "it was not done after 2 s; it is too slow, or never ends."
    )


def scored_by(code: str, folder: Path, monkeypatch, seconds: float = 60) -> dict:
    """What `in_fresh_process` finds if the process runs this code in place of the
    scorer."""
    real = subprocess.Popen
    start = lambda command, **options: real([command[0], "-c", code], **options)  # noqa: E731
    monkeypatch.setattr(process.subprocess, "Popen", start)
    return process.in_fresh_process(folder / "mine.onnx", seconds)


RESULT = f"print({json.dumps(json.dumps(FOUND))}, flush=True)"
READY = """print('{"started": true}', flush=True); import sys, time"""


def test_the_clock_starts_when_the_process_is_ready(tmp_path, monkeypatch):
    slow = f"import time; time.sleep(3)\n{READY}\n{RESULT}"
    assert scored_by(slow, tmp_path, monkeypatch, seconds=2.5) == FOUND | {
        "asked": False
    }


def test_a_process_that_is_never_ready_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "STARTING", 0.5)
    found = scored_by("import time; time.sleep(100)", tmp_path, monkeypatch)
    assert "was not ready after 0.5 s" in found["refused"] and not found["asked"]


def test_a_process_that_says_much_does_not_get_stuck(tmp_path, monkeypatch):
    much = (
        "for stream in (sys.stderr, sys.stdout): print('x\\n' * 500_000, file=stream)"
    )
    asked = """print('{"asked": true}')"""
    assert scored_by(
        f"{READY}\n{asked}\n{much}\n{RESULT}", tmp_path, monkeypatch
    ) == FOUND | {"asked": True}


def test_a_process_that_dies_after_it_asked_was_an_opening(tmp_path, monkeypatch):
    dies = "sys.stderr.buffer.write(b'odd \\xff end'); sys.exit(3)"
    dies = f"""print('{{"asked": true}}', flush=True); {dies}"""
    found = scored_by(f"{READY}\n{dies}", tmp_path, monkeypatch)
    assert found == {
        "refused": "the process ended with code 3 (odd \ufffd end).",
        "asked": True,
    }


def test_an_interruption_ends_the_process(tmp_path, started, monkeypatch):
    def wait(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        capstone.score(written(endless(), tmp_path), kept=tmp_path / "scores.json")
    assert [process.returncode is not None for process in started] == [True]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the project, in whose process the files are scored. Its data are the
    project's."""
    project = tmp_path / "project"
    shutil.copytree(Path(judge.__file__).parents[1], project / "utils")
    (project / "data").symlink_to(data_folder())
    monkeypatch.setattr(process, "MAIN", project / "utils" / "capstone" / "__main__.py")
    return project


FORGER = f"import os\nos.write(1, {FORGED!r}.encode())\nos._exit(0)\n"


def test_modules_beside_the_package_are_not_used(copied, some, tmp_path):
    for name in ("onnx", "json", "torch", "sitecustomize", "cupy", "coloredlogs"):
        (copied / f"{name}.py").write_text(FORGER)
    found = process_examined(written(CONTENT, tmp_path), some)
    assert found["cost"]["bytes"] == len(CONTENT)


def test_it_is_the_package_beside_the_process_that_judges(copied, some, tmp_path):
    rules = copied / "utils" / "capstone" / "rules.py"
    rules.write_text(rules.read_text() + "\n\ndef points(cost):\n    return 4321\n")
    assert process_examined(written(CONTENT, tmp_path), some)["points"] == 4321


def test_a_process_that_fails_says_why(copied, tmp_path):
    (copied / "data").unlink()
    kept = tmp_path / "scores.json"
    with pytest.raises(Refused, match=r"the process ended with code 1 .* is missing"):
        capstone.score(written(CONTENT, tmp_path), kept=kept)
    assert not kept.exists()


def test_the_process_gets_little_of_the_surroundings(tmp_path, monkeypatch):
    for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "LD_PRELOAD_NO"):
        monkeypatch.setenv(name, "default")
    for name in ("PYTHONPATH", "PRUNING_DATA", "ORT_LOAD_CONFIG_FROM_MODEL"):
        monkeypatch.setenv(name, str(tmp_path))
    real, given = subprocess.Popen, {}

    def start(command, **options):
        given.update(options, command=command)
        tell = (
            "import json, os; print(json.dumps({'points': 1, 'files': os.listdir()}))"
        )
        return real([command[0], "-I", "-c", tell], **options)

    monkeypatch.setattr(process.subprocess, "Popen", start)
    found = process.in_fresh_process(tmp_path / "mine.onnx", 60)
    assert found["files"] == [] and not Path(given["cwd"]).exists()
    places = {"HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"}
    assert set(given["env"]) <= {*process.KEPT, *places}
    assert {given["env"][name] for name in places} == {given["cwd"]}
    assert given["command"][1] == "-I"


# ------------------------------------------------------- examined in a process, limited


def process_examined(path: Path, some: Split, **options) -> dict:
    return capstone.examine(path, some.images, some.labels, **{"rounds": 1} | options)


def test_examined_in_a_process_is_what_the_judge_finds(some, tmp_path):
    path = written(CONTENT, tmp_path)
    found, judged = process_examined(path, some), examined(path, some)
    assert set(found) == set(judged)
    for name in ("bytes", "accuracy"):
        assert found["cost"][name] == pytest.approx(judged["cost"][name], abs=0.011)
    assert list(tmp_path.iterdir()) == [path]


def folded() -> onnx.ModelProto:
    """An endless loop of constants, that a runtime computes while it loads."""
    model = endless(2**62)
    loop = next(node for node in model.graph.node if node.op_type == "Loop")
    loop.input[2] = "start"
    model.graph.initializer.append(
        numpy_helper.from_array(np.zeros((1, 10), np.float32), "start")
    )
    loop.output[0] = "zeros"
    model.graph.node.append(node("Add", "first zeros", "outputs"))
    return model


def tiled() -> onnx.ModelProto:
    most = node("ReduceMax", "much", "most", keepdims=0)
    nodes = [("Tile", "first often", "much"), most, ("Add", "first most", "outputs")]
    return followed_by(*nodes, often=np.int64([1, 10**9]))


def doubling(times: int = 40) -> onnx.ModelProto:
    nodes = [node("Concat", f"d{n} d{n}", f"d{n + 1}", axis=0) for n in range(times)]
    most = node("ReduceMax", f"d{times}", "most", keepdims=0)
    return followed_by(
        node("Identity", "first", "d0"), *nodes, most, ("Add", "first most", "outputs")
    )


def collecting() -> onnx.ModelProto:
    """A loop that keeps what each of its rounds gives."""
    model = endless(2**40)
    loop = next(node for node in model.graph.node if node.op_type == "Loop")
    body = loop.attribute[0].g
    body.node.append(node("Identity", "y", "each"))
    body.output.append(value("each", "n", 10))
    loop.output[0] = "last"
    loop.output.append("all")
    most = node("ReduceMax", "all", "most", keepdims=0)
    model.graph.node.extend([most, node("Add", "last most", "outputs")])
    return model


def nested(depth: int = 12) -> onnx.ModelProto:
    """2**depth branches."""

    def choice(left: int) -> onnx.NodeProto:
        if not left:
            return node("Neg", "first", "chosen")
        inner = branch(choice(left - 1))
        return node("If", "no", "chosen", then_branch=inner, else_branch=inner)

    return followed_by(
        choice(depth), node("Identity", "chosen", "outputs"), no=np.bool_(False)
    )


def long(nodes: int = 100_000) -> onnx.ModelProto:
    steps = [node("Neg", f"s{n}", f"s{n + 1}") for n in range(nodes)]
    return followed_by(
        node("Identity", "first", "s0"), *steps, node("Neg", f"s{nodes}", "outputs")
    )


def multiplied() -> onnx.ModelProto:
    """784**3 products for each picture."""
    products = node("Einsum", "flat flat flat", "much", equation="na,nb,nc->nabc")
    most = node("ReduceMax", "much", "most", keepdims=0)
    return followed_by(products, most, ("Add", "first most", "outputs"))


def most_memory() -> float:
    """Bytes that the largest of the processes took that have ended."""
    resource = pytest.importorskip("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


BOMBS = (endless, folded, tiled, doubling, collecting, nested, long, multiplied)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_ends_in_its_process(bomb, some, tmp_path, started, monkeypatch):
    monkeypatch.setattr(judge, "check_graph", None)  # nothing is opened here
    began = time.monotonic()
    with pytest.raises(Refused):
        process_examined(written(bomb(), tmp_path), some, seconds=1)
    assert time.monotonic() - began < 30
    assert [process.returncode is not None for process in started] == [True]
    assert most_memory() < process.MEMORY + 1e9
    assert [path.name for path in tmp_path.iterdir()] == ["mine.onnx"]


def test_an_examination_that_never_ends_says_so(some, tmp_path):
    with pytest.raises(Refused, match=r"^it was not done after 1 s; it is too slow"):
        process_examined(written(endless(), tmp_path), some, seconds=1)


@NO_FILES
def test_no_process_is_started_to_examine_it(no_file, words, some, monkeypatch):
    monkeypatch.setattr(process.subprocess, "Popen", None)
    with pytest.raises(Refused, match=f"^{words}"):
        process_examined(no_file, some)


PIXELS, CLASS = torch.zeros(3, 1, 28, 28), torch.tensor([0, 1, 9])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": 54_854}, "path=54854 must be the path of a file"),
        ({"path": None}, "path=None must be the path of a file"),
        ({"images": None}, "images=<NoneType> must be pictures"),
        ({"images": PIXELS[:0]}, "images=.* must be pictures"),
        ({"images": PIXELS[0]}, "images=.* must be pictures"),
        ({"images": PIXELS[..., 1:]}, r"images=.*\[3, 1, 28, 27\]> must be pictures"),
        ({"images": PIXELS.double()}, "images=<torch.float64 .* must be pictures"),
        ({"images": PIXELS / 0}, "images=.* must be pictures of finite numbers"),
        ({"labels": [0, 1, 9]}, "labels=<list> must be the class"),
        ({"labels": CLASS[:2]}, r"labels=.* of shape \[3\]"),
        ({"labels": CLASS + 1}, "labels=.* 0 to 9"),
        ({"labels": CLASS - 1}, "labels=.* 0 to 9"),
        ({"labels": CLASS.float()}, "labels=<torch.float32 .* int64"),
        ({"rounds": 0}, "rounds=0 must be a whole number"),
        ({"seconds": 0}, "seconds=0 must be a number above 0"),
    ],
)
def test_arguments_that_make_no_sense_are_told(changes, words, monkeypatch):
    monkeypatch.setattr(process.subprocess, "Popen", None)
    given = {"path": "no.onnx", "images": PIXELS, "labels": CLASS} | changes
    with pytest.raises(ValueError, match=words):
        capstone.examine(**given)


def test_a_score_needs_a_path(tmp_path):
    with pytest.raises(ValueError, match="path=54854 must be the path of a file"):
        capstone.score(54_854, kept=tmp_path / "scores.json")  # pyright: ignore
    with pytest.raises(ValueError, match="kept=None must be the path of a file"):
        capstone.score("mine.onnx", kept=None)  # pyright: ignore
