"""The capstone's scorer: it believes the file and nothing else, refuses what is no network, and keeps the history."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from utils import capstone, measure, models
from utils.capstone import Cost, Refused
from utils.exercises import lab12

# ---------------------------------------------------------------------------------------------- files made by hand

WEIGHT = np.random.default_rng(0).standard_normal((784, 10)).astype(np.float32)
LINEAR = [("Flatten", "pictures", "flat"), ("MatMul", "flat weight", "outputs")]
FORGED = '\n{"cost": {"bytes": 1, "speedup": 99.0, "accuracy": 1.0}, "points": 99, "speedup_quartiles": [99, 99]}\n'


def node(operation: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(operation, inputs.split(), outputs.split(), **attributes)


def value(name: str, *shape, kind=TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


PICTURES, OUTPUTS = value("pictures", "n", 1, 28, 28), value("outputs", "n", 10)


def make(nodes, *, inputs=(PICTURES,), outputs=(OUTPUTS,), domains=(), **constants) -> onnx.ModelProto:
    """A model of these nodes, given as (operation, inputs, outputs) or ready, and of constants by name."""
    nodes = [each if isinstance(each, onnx.NodeProto) else node(*each) for each in nodes]
    stored = [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()]
    graph = helper.make_graph(nodes, "graph", list(inputs), list(outputs), stored)
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def linear(**changes) -> onnx.ModelProto:
    """An honest network: one linear layer."""
    return make(LINEAR, **{"weight": WEIGHT} | changes)


def followed_by(*nodes, **constants) -> onnx.ModelProto:
    """The honest network, whose outputs go through more nodes: `first` in, `outputs` out."""
    return make([LINEAR[0], ("MatMul", "flat weight", "first"), *nodes], weight=WEIGHT, **constants)


def with_shape(dims: list[int], content: bytes) -> onnx.ModelProto:
    """The honest network, whose weight claims to have that shape."""
    model = linear()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    model.graph.initializer[0].raw_data = content
    return model


def outside() -> onnx.ModelProto:
    model = linear()
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
    return model


def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [value("chosen", "n", 10)])


def either(then: onnx.NodeProto, otherwise: onnx.NodeProto, large: int = 1) -> onnx.ModelProto:
    """One branch for more than `large` pictures, the other for fewer."""
    choice = helper.make_node("If", ["many"], ["outputs"], then_branch=branch(then), else_branch=branch(otherwise))
    size = node("Shape", "pictures", "count", start=0, end=1)
    squeezed = node("Squeeze", "count", "number")
    return followed_by(size, squeezed, ("Greater", "number large", "many"), choice, large=large)


def by_place() -> onnx.ModelProto:
    """Knows the classes of pictures by their place in the batch."""
    size = node("Shape", "pictures", "count", start=0, end=1)
    nodes = [size, ("Slice", "answers zero count", "some"), ("OneHot", "some ten ends", "outputs")]
    return make(nodes, answers=np.arange(1000) % 10, zero=[0], ten=[10], ends=np.float32([0, 1]))


def greedy(first: int = 100_000) -> onnx.ModelProto:
    """Asks for 400 GB (4 MB for each of `first`), and its node's name looks like a result."""
    asks = node("ConstantOfShape", "shape", "much", name=FORGED)
    nodes = [("Shape", "pictures", "seen"), ("Min", "seen zero", "nothing"), ("Add", "nothing size", "shape"), asks]
    rest = [node("ReduceMax", "much", "most", keepdims=0), ("Add", "first most", "outputs")]
    return followed_by(*nodes, *rest, zero=np.int64([0] * 4), size=np.int64([first, 1000, 1000, 1]))


def endless(rounds: int = 2**62) -> onnx.ModelProto:
    """A loop of so many rounds."""
    ends = [value("round", kind=TensorProto.INT64), value("go", kind=TensorProto.BOOL), value("x", "n", 10)]
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Sin", "x", "y")],
        "body",
        ends,
        [value("on", kind=TensorProto.BOOL), value("y", "n", 10)],
    )
    return followed_by(helper.make_node("Loop", ["rounds", "", "first"], ["outputs"], body=body), rounds=rounds)


def written(content: onnx.ModelProto | bytes, folder: Path) -> Path:
    path = folder / "mine.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


@pytest.fixture(scope="module")
def some(course_data):
    """200 real pictures; of the validation set, so that no test of a refusal opens the test set."""
    return course_data.validation[:200]


def examined(path: Path, some) -> dict:
    return capstone.examine(path, some.images, some.labels, nn.Flatten(), rounds=1)


# --------------------------------------------------------------------------------------------------------- refusals

CONTENT = linear().SerializeToString()
TWO = node("Identity", "first", "second")
MICROSOFT = helper.make_node("Gelu", ["first"], ["chosen"], domain="com.microsoft")
REFUSED = {
    "text": (b"bytes: 1\n" * 50, "no sound ONNX file"),
    "empty": (b"", "no sound ONNX file"),
    "weights of PyTorch": (models.to_bytes(nn.Linear(3, 2)), "no sound ONNX file"),
    "cut in half": (CONTENT[: len(CONTENT) // 2], "no sound ONNX file"),
    "fewer numbers than claimed": (with_shape([784, 10], bytes(40)), "no sound ONNX file"),
    "more numbers than claimed": (with_shape([784, 10], bytes(2 * WEIGHT.nbytes)), "no sound ONNX file"),
    "a huge shape": (with_shape([10**6, 10**6], WEIGHT.tobytes()), "no sound ONNX file"),
    "a negative shape": (with_shape([-784, -10], WEIGHT.tobytes()), "no sound ONNX file"),
    "weights elsewhere": (outside(), "in another file"),
    "unknown operation": (followed_by(("Wonder", "first", "outputs")), "no sound ONNX file"),
    "colour pictures": (linear(inputs=[value("pictures", "n", 3, 32, 32)]), "cannot be run"),
    "one picture at a time": (linear(inputs=[value("pictures", 1, 1, 28, 28)]), "cannot be run"),
    "nine classes": (linear(weight=WEIGHT[:, :9], outputs=[value("outputs", "n", 9)]), "wanted are ten finite numbers"),
    "one answer for all": (followed_by(node("ReduceMax", "first axis", "outputs", keepdims=1), axis=[0]), "ten finite"),
    "two outputs": (
        make([*LINEAR, ("Neg", "outputs", "second")], weight=WEIGHT, outputs=[OUTPUTS, value("second", "n", 10)]),
        "1 inputs and 2 outputs",
    ),
    "two inputs": (linear(inputs=[PICTURES, value("more", "n")]), "2 inputs and 1 outputs"),
    "not a number": (followed_by(("Log", "first", "outputs")), "ten finite numbers"),
    "infinite": (followed_by(("Div", "first zero", "outputs"), zero=np.float32(0)), "ten finite numbers"),
    "foreign operation": (
        make(
            [*LINEAR[:1], ("MatMul", "flat weight", "first"), MICROSOFT, ("Neg", "chosen", "outputs")],
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
    "by chance": (followed_by(("RandomNormalLike", "first", "outputs")), "another answer alone than among others"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_network_is_refused_with_its_reason(name, some, tmp_path):
    content, words = REFUSED[name]
    with pytest.raises(Refused) as caught:
        examined(written(content, tmp_path), some)
    assert words in str(caught.value)
    assert str(tmp_path) not in str(caught.value) and "network.onnx" not in str(caught.value)


def test_a_foreign_operation_in_a_branch_is_found(some, tmp_path):
    model = either(MICROSOFT, node("Identity", "first", "chosen"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(Refused, match=r"operations of com\.microsoft"):
        examined(written(model, tmp_path), some)


def test_a_missing_file_and_a_folder_are_refused(some, tmp_path):
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(Refused, match="it cannot be read"):
            examined(path, some)


def test_a_huge_file_is_not_read(some, tmp_path):
    path = written(CONTENT, tmp_path)
    with path.open("r+b") as file:
        file.truncate(10**12)  # takes no room on the disk
    with pytest.raises(Refused, match="1,000,000,000,000 bytes; at most"):
        examined(path, some)


# ------------------------------------------------------------------------------------------------ what it finds out


def test_an_honest_file_is_examined(some, tmp_path):
    found = examined(written(CONTENT, tmp_path), some)
    right = (some.images.flatten(1) @ torch.from_numpy(WEIGHT)).argmax(1) == some.labels
    assert found["cost"]["bytes"] == len(CONTENT)
    assert found["cost"]["accuracy"] == pytest.approx(right.float().mean().item(), abs=0.011)
    assert found["cost"]["speedup"] > 0
    assert found["points"] == capstone.points(Cost(**found["cost"]))


def test_bytes_that_nothing_needs_count_too(some, tmp_path):
    model = linear()
    model.doc_string = "x" * 5000
    assert examined(written(model, tmp_path), some)["cost"]["bytes"] > len(CONTENT) + 4990


def test_a_file_exchanged_meanwhile_does_not_matter(some, tmp_path, monkeypatch):
    path = written(CONTENT, tmp_path)
    real = capstone.Session

    def session(opened: Path):
        path.write_bytes(b"another one")
        return real(opened)

    monkeypatch.setattr(capstone, "Session", session)
    assert examined(path, some)["cost"]["bytes"] == len(CONTENT)


def test_no_single_picture_is_timed(some, tmp_path):
    seen = []

    class Dense(nn.Module):
        def forward(self, images):
            assert len(images) == 1
            seen.append(images.sum().item())
            time.sleep(0.001)
            return images

    capstone.examine(written(CONTENT, tmp_path), some.images, some.labels, Dense(), rounds=2)
    assert len(set(seen)) > 5


def test_pictures_are_asked_in_another_order_each_time(some):
    asked = []

    def network(images):
        asked.append(images[0].sum().item())
        return images.flatten(1)[:, 300:310]

    first, second = (capstone.answers(network, some.images) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(first, some.images.flatten(1)[:, 300:310].argmax(1))
    assert asked[: len(asked) // 2] != asked[len(asked) // 2 :]


# ----------------------------------------------------------------------------------------------------------- points


def test_points_by_hand():
    facts = models.baseline_facts("vgg")
    dense, exact = 4 * facts["parameters"], facts["test_accuracy"]
    assert capstone.points(Cost(dense, 1.0, exact)) == 0
    assert capstone.points(Cost(dense // 8, 4.0, exact)) == pytest.approx(5, abs=0.01)
    assert capstone.points(Cost(dense, 8.0, 0.99)) == 3  # nothing for more accuracy
    assert capstone.points(Cost(dense, 8.0, exact - 0.0049)) == 3
    assert capstone.points(Cost(dense, 8.0, exact - 0.006)) == pytest.approx(2, abs=0.01)
    assert capstone.points(Cost(dense, 8.0, exact - 0.015)) == pytest.approx(-7, abs=0.01)


def test_a_score_says_what_is_met():
    asked = capstone.BUDGET
    text = str(capstone.Score(Cost(asked.bytes, asked.speedup / 2, asked.accuracy), 7.5, (1.0, 2.0), 3))
    assert text.startswith("7.50 points")
    assert text.count("NOT met") == 1 and text.count(": met") == 2
    assert "opened 3 times for a score" in text


# ---------------------------------------------------------------------------------------------------------- history


@pytest.fixture
def instant(monkeypatch):
    """Scores without the process: what it would have found."""
    found = {"cost": {"bytes": 50_000, "speedup": 12.0, "accuracy": 0.93}, "points": 9.0, "speedup_quartiles": [11, 13]}
    monkeypatch.setattr(capstone, "_in_fresh_process", lambda path, seconds: found)


def test_each_opening_of_the_test_set_is_counted_and_kept(instant, tmp_path):
    kept = tmp_path / "new folder" / "scores.json"
    scores = [capstone.score(f"{name}.onnx", kept=kept) for name in "abc"]
    assert [score.opened for score in scores] == [1, 2, 3]
    entries = json.loads(kept.read_text())
    assert [entry["file"] for entry in entries] == ["a.onnx", "b.onnx", "c.onnx"]
    assert entries[0] | {"when": ""} == {
        "file": "a.onnx", "when": "", "points": 9.0, "bytes": 50_000, "speedup": 12.0, "accuracy": 0.93
    }  # fmt: skip


@pytest.mark.parametrize("damage", [b"{", b"\xff\xfe", b"3", b"null", b'["a"]', b'{"a": 1}'])
def test_a_damaged_history_is_laid_aside_each_time(instant, tmp_path, damage):
    kept = tmp_path / "scores.json"
    for _ in range(2):
        kept.write_bytes(damage)
        assert capstone.score("a.onnx", kept=kept).opened == 1
    assert len(json.loads(kept.read_text())) == 1
    aside = [path for path in tmp_path.iterdir() if path != kept]
    assert len(aside) == 2 and all(path.read_bytes() == damage for path in aside)


def test_scores_at_once_are_all_kept(instant, tmp_path):
    kept, opened = tmp_path / "scores.json", []
    threads = [
        threading.Thread(target=lambda n=n: opened.append(capstone.score(f"{n}.onnx", kept=kept).opened))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(opened) == list(range(1, 13))
    assert len({entry["file"] for entry in json.loads(kept.read_text())}) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_a_lock_left_lying_does_not_stop_a_score(tmp_path):
    kept = tmp_path / "scores.json"
    (tmp_path / ".scores.json.lock").touch()
    started = time.monotonic()
    with capstone._alone(kept, seconds=0.1):
        assert time.monotonic() - started >= 0.1
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------------- the fresh process


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """The reference solution, scored from a folder full of traps, by a process in which much was exchanged."""
    folder = tmp_path_factory.mktemp("learner")
    path = folder / "network.onnx"
    assert lab12.reference(path) == path
    for trap in ("json.py", "torch.py", "utils/__init__.py", "utils/capstone.py"):
        (folder / trap).parent.mkdir(exist_ok=True)
        (folder / trap).write_text("raise SystemExit('the learner\\'s own')")
    (folder / "my_baselines").mkdir()
    (folder / "my_baselines" / "vgg.safetensors").write_bytes(b"another network")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(measure, "latency", None)
        patch.setattr(models, "baseline", None)
        for name in ("examine", "points", "answers", "Session"):
            patch.setattr(capstone, name, None)
        result = capstone.score("network.onnx")
    return folder, result


def test_the_reference_solution_is_scored_in_a_process_of_its_own(solved):
    folder, result = solved
    assert result.cost.bytes == (folder / "network.onnx").stat().st_size
    assert result.cost.accuracy == pytest.approx(models.baseline_facts("vgg_thin")["test_accuracy"], abs=0.01)
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


def test_a_file_that_asks_for_too_much_memory_ends_nothing_and_forges_nothing(tmp_path):
    kept = tmp_path / "scores.json"
    with pytest.raises(Refused, match=r"mine\.onnx gets no score: "):
        capstone.score(written(greedy(), tmp_path), kept=kept)
    assert not kept.exists()


def test_a_file_that_never_ends_is_stopped(tmp_path):
    kept, started = tmp_path / "scores.json", time.monotonic()
    with pytest.raises(Refused, match="not done after 6 s; it is too slow, or never ends"):
        capstone.score(written(endless(), tmp_path), kept=kept, seconds=6)
    assert time.monotonic() - started < 20
    assert not kept.exists()


def test_a_process_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNING_DATA", str(tmp_path))
    with pytest.raises(Refused, match=r"the process ended with code 1 .* is missing"):
        capstone.score(written(CONTENT, tmp_path), kept=tmp_path / "scores.json")
