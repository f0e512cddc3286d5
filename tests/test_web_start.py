"""The start page without a browser: its kernels against PyTorch, its numbers and words
against the package's, and a setting as a link."""

import json
import re
import zlib
from hashlib import sha256

import numpy as np
import pytest
import torch
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tools.web import sources, start
from utils import data, surgery
from utils.explorer import Controls, Explorer
from utils.explorer.kinds import KINDS
from utils.explorer.links import KEYS, link_of, read_link
from utils.explorer.subject import Subject
from utils.masks import masks_from_scores

BLOCK = 32


class Kernels:
    """The compiled kernels; each call gets memory of its own."""

    def __init__(self):
        self.store = wasmtime.Store()
        module = wasmtime.Module(
            self.store.engine, sources.compiled(start.SOURCE / "kernels.wat")
        )
        self.exports = wasmtime.Instance(self.store, module, []).exports(self.store)
        self.memory = self.exports["memory"]
        self.next = 16

    def put(self, numbers):
        """Numbers of 4 bytes, on an address that SIMD need not like."""
        content = np.ascontiguousarray(numbers).tobytes()
        address, self.next = self.next, self.next + len(content) + 4
        missing = self.next - self.memory.data_len(self.store)
        if missing > 0:
            self.memory.grow(self.store, missing // 65536 + 1)
        self.memory.write(self.store, content, address)
        return address

    def get(self, address, *shape):
        end = address + 4 * int(np.prod(shape))
        content = self.memory.read(self.store, address, end)
        return np.frombuffer(content, np.float32).reshape(shape)

    def run(self, name, *arguments):
        self.exports[name](self.store, *arguments)

    def clear(self):
        self.next = 16


@pytest.fixture(scope="module")
def kernels():
    return Kernels()


@pytest.fixture(scope="module")
def subject():
    return Subject(start.NETWORK, pictures=start.PICTURES)


def layer(seed, outputs, inputs, kept=1.0):
    draw = np.random.default_rng(seed)
    weight = draw.normal(size=(outputs, inputs)) * (
        draw.random((outputs, inputs)) < kept
    )
    return weight.astype("f"), draw.normal(size=outputs).astype("f")


def rows_of(weight):
    """Values, columns and row starts, in NumPy."""
    units, columns = np.nonzero(weight)
    starts = np.searchsorted(units, np.arange(len(weight) + 1))
    return weight[units, columns], columns.astype("i"), starts.astype("i")


sizes = dict(
    seed=st.integers(0, 99),
    outputs=st.integers(1, 14),
    inputs=st.integers(1, 40),
    pictures=st.integers(1, 6),
    relu=st.booleans(),
    kept=st.sampled_from((0.0, 0.1, 0.5, 1.0)),
)
few = settings(max_examples=25, deadline=None)


@few
@given(**sizes)
def test_the_dense_kernel_is_a_linear_layer(
    kernels, seed, outputs, inputs, pictures, relu, kept
):
    weight, bias = layer(seed, outputs, inputs, kept)
    x = np.random.default_rng(seed + 100).normal(size=(pictures, inputs)).astype("f")
    kernels.clear()
    y = kernels.put(np.full((pictures, outputs), 7, "f"))
    behind = kernels.put(np.full(4, 7, "f"))
    kernels.run(
        "dense",
        *(kernels.put(each) for each in (x, weight, bias)),
        *(y, pictures, inputs, outputs, int(relu)),
    )
    wanted = F.linear(*map(torch.from_numpy, (x, weight, bias))).numpy()
    wanted = np.maximum(wanted, 0) if relu else wanted
    np.testing.assert_allclose(kernels.get(y, pictures, outputs), wanted, atol=2e-5)
    assert (kernels.get(behind, 4) == 7).all()  # nothing else was written


@few
@given(**sizes)
def test_the_sparse_kernels_skip_zeros_and_nothing_else(
    kernels, seed, outputs, inputs, pictures, relu, kept
):
    weight, bias = layer(seed, outputs, inputs, kept)
    x = np.random.default_rng(seed + 100).normal(size=(inputs, BLOCK)).astype("f")
    kernels.clear()
    parts = [kernels.put(part) for part in (*rows_of(weight), bias)]
    many, one = (kernels.put(np.zeros((outputs, n), "f")) for n in (BLOCK, 1))
    kernels.run("sparse_block", kernels.put(x), *parts, many, outputs, int(relu))
    kernels.run("sparse", kernels.put(x[:, 0]), *parts, one, outputs, int(relu))
    wanted = (torch.from_numpy(weight) @ torch.from_numpy(x)).numpy() + bias[:, None]
    wanted = np.maximum(wanted, 0) if relu else wanted
    np.testing.assert_allclose(kernels.get(many, outputs, BLOCK), wanted, atol=2e-5)
    np.testing.assert_allclose(kernels.get(one, outputs), wanted[:, 0], atol=2e-5)


@few
@given(**sizes)
def test_the_gradient_kernel_is_a_matrix_product_either_way(
    kernels, seed, outputs, inputs, pictures, relu, kept
):
    slopes = layer(seed, pictures, outputs, kept)[0]  # [n, outputs]
    x, weight = (
        layer(seed + 1, pictures, inputs)[0],
        layer(seed + 2, outputs, inputs)[0],
    )
    kernels.clear()
    at = {"slopes": kernels.put(slopes), "x": kernels.put(x), "w": kernels.put(weight)}
    to_weight = kernels.put(np.ones((outputs, inputs), "f"))  # it adds
    to_input = kernels.put(np.zeros((pictures, inputs), "f"))
    across = (outputs, pictures, inputs, 4, 4 * outputs)  # read as its transpose
    kernels.run("add_product", to_weight, at["slopes"], at["x"], *across)
    along = (pictures, outputs, inputs, 4 * outputs, 4)
    kernels.run("add_product", to_input, at["slopes"], at["w"], *along)
    found = kernels.get(to_weight, outputs, inputs)
    np.testing.assert_allclose(found, 1 + slopes.T @ x, atol=2e-5)
    found = kernels.get(to_input, pictures, inputs)
    np.testing.assert_allclose(found, slopes @ weight, atol=5e-5)


def test_the_step_is_that_of_pytorch_and_leaves_pruned_weights_at_zero(kernels):
    draw = np.random.default_rng(0)
    mask = (draw.random(37) < 0.5).astype("f")
    weight = np.where(mask, draw.normal(size=37), 0).astype("f")
    parameter = torch.nn.Parameter(torch.from_numpy(weight.copy()))
    optimizer = torch.optim.SGD([parameter], lr=0.05, momentum=0.9)
    kernels.clear()
    w, v, m = (kernels.put(each) for each in (weight, np.zeros(37, "f"), mask))
    for _ in range(3):
        gradient = draw.normal(size=37).astype("f")
        g = kernels.put(gradient)
        kernels.run("step", w, g, v, m, 37, 0.05, 0.9)
        assert not kernels.get(g, 37).any()  # ready for the next one
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        with torch.no_grad():
            parameter *= torch.from_numpy(mask)
    found = kernels.get(w, 37)
    np.testing.assert_allclose(found, parameter.detach().numpy(), atol=1e-6)
    # not even the sign of a zero changes: the saved file is of the same bits
    assert (found[mask == 0].view(np.uint32) == 0).all()


# -------------------------------------------------------------------------------- files


def test_the_numbers_are_the_packages_own(subject):
    contents = start.contents(subject)
    planes = np.frombuffer(contents["weights"], np.uint8).reshape(4, -1)
    numbers = np.ascontiguousarray(planes.T).view("<f4").ravel()
    layers = [each for each in subject.dense if isinstance(each, torch.nn.Linear)]
    wanted = [each.weight.detach().flatten() for each in layers]
    wanted += [each.bias.detach() for each in layers]
    assert numbers.tobytes() == torch.cat(wanted).numpy().tobytes()
    first, labels = (
        contents["first"][: -start.PICTURES],
        contents["first"][-start.PICTURES :],
    )
    assert labels == subject.labels.tobytes()
    rows = np.frombuffer(first + contents["rest"], np.uint8).reshape(-1, 28, 28)
    pixels = torch.from_numpy(rows.cumsum(1, dtype=np.uint8))
    assert torch.equal(data.normalise(pixels), subject.validation.images)
    count = len(start.training_pictures(subject))
    rows = np.frombuffer(contents["training"][:-count], np.uint8).reshape(-1, 28, 28)
    images = data.normalise(torch.from_numpy(rows.cumsum(1, dtype=np.uint8)))
    assert torch.equal(images[: 4 * 256], torch.cat([x for x, _ in subject.batches]))
    # no picture of the validation set is trained on
    seen = {image.numpy().tobytes() for image in images}
    assert not seen & {image.numpy().tobytes() for image in subject.validation.images}


def test_a_byte_for_a_taylor_score_keeps_nearly_all_of_the_ranking(subject):
    steps, means = start.taylor(subject)
    assert (np.diff(means) >= 0).all() and all(
        s.dtype == torch.uint8 for s in steps.values()
    )
    exact, shipped = (
        subject.scores("taylor", units=False),
        start.scores_as_shipped(subject, "weights", "taylor"),
    )
    for sparsity in KINDS["weights"].stops(subject)[1:]:
        kept, wanted = (
            torch.cat([mask.flatten() for mask in masks.values()])
            for masks in (
                masks_from_scores(scores, sparsity, allow_empty=True)
                for scores in (shipped, exact)
            )
        )
        agreeing = float((kept & wanted).sum() / wanted.sum())
        assert agreeing > 0.97, sparsity


def test_the_facts_are_what_the_explorer_offers(subject):
    facts = json.loads(json.dumps(start.facts(subject)))
    for kind, said in facts["kinds"].items():
        offered = KINDS[kind]
        assert said["label"] == offered.label and said["axis"] == offered.axis
        assert tuple(said["scopes"]) == offered.scopes
        assert set(said["scores"]) <= set(offered.scores())
        assert said["stops"] == list(offered.stops(subject))
        for name, words in zip(said["scores"], said["meaning"], strict=True):
            docs = offered.functions[name].__doc__.replace("`", "")
            assert " ".join(docs.split()).startswith(words) and len(words) > 20
        assert said["said"] == [offered.say(subject, stop) for stop in said["stops"]]
    assert facts["classes"] == list(data.CLASSES)
    scores = subject.scores("taylor", units=True)
    for name, units in facts["taylor"]["units"].items():
        assert torch.equal(torch.tensor(units), scores[name])
    assert torch.equal(
        torch.tensor(facts["taylor"]["steps"]),
        torch.from_numpy(start.taylor(subject)[1]),
    )
    assert Controls(**facts["start"]) == start.FIRST
    # each is offered by the notebook's explorer, too
    assert set(facts["kinds"]) < set(KINDS)


def test_written_files_are_packed_checked_and_small(tmp_path, subject, monkeypatch):
    monkeypatch.setattr(start, "Subject", lambda *_, **__: subject)
    monkeypatch.setattr(start, "still", lambda *_: "<figure>a still</figure>")
    (tmp_path / "weights-01234567.bin").write_bytes(b"of an earlier build")
    start.write(tmp_path)
    described = json.loads((tmp_path / "facts.json").read_text())["files"]
    for name, file in described.items():
        packed = (tmp_path / file["name"]).read_bytes()
        assert (
            len(packed) == file["bytes"]
            and sha256(packed).hexdigest() == file["sha256"]
        )
        assert zlib.decompress(packed) == start.contents(subject)[name]
    assert not (tmp_path / "weights-01234567.bin").exists()
    # what the first exhibit needs before anybody chooses Taylor or fine-tunes
    later = {described[name]["name"] for name in ("taylor", "training")}
    first = [path for path in tmp_path.iterdir() if path.name not in later]
    assert sum(path.stat().st_size for path in first) < 1.5e6
    page = (tmp_path / "index.html").read_text()
    assert "{{" not in page and page.count("a still") == len(start.STILLS)
    # nothing from elsewhere, nothing that the policy would stop
    asked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert not [url for url in asked if url.startswith(("http", "//", "data:"))]
    assert "unsafe-inline" not in page and not re.search(r"\sstyle=|\son\w+=", page)


# -------------------------------------------------------------------------------- links


@given(
    sparsity=st.floats(0, 1, exclude_max=True),
    score=st.sampled_from(("taylor", "loss without it", "a&b=c#d", "ä %")),
    kind=st.sampled_from(sorted(KINDS)),
)
def test_a_link_says_what_it_was_made_of(sparsity, score, kind):
    controls = Controls(sparsity, score, "layerwise", kind)
    for address in ("", "https://example.org/course/", "start/index.html"):
        assert Controls(**read_link(address + link_of(controls))) == controls


def test_an_explorer_opens_as_the_link_says_and_gives_it_back():
    link = "http://localhost:8000/#sparsity=0.8&score=l1&scope=layerwise&kind=channels"
    panel = Explorer.from_link(f"{link}&network=lenet300&picture=17", pictures=200)
    try:
        wanted = Controls(0.8, "l1", "layerwise", "channels")
        assert panel.controls == panel.shown.controls == wanted
        assert panel.sparsity.value == 0.8 and panel.kind.value == "channels"
        assert panel.link == link_of(wanted)
        masks = surgery.unit_masks(
            panel.subject("lenet300").dense,
            panel.subject("lenet300").example,
            panel.subject("lenet300").scores("l1", units=True),
            0.8,
        )
        kept = [int(mask.sum()) for mask in masks.values()]
        assert kept[:2] == [60, 20]
    finally:
        panel.close()


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("https://example.org/", "holds no setting"),
        ("#course", "holds no setting"),
        ("", "holds no setting"),
        ("#sparsity=much", "sparsity='much' is no number"),
        ("#sparsity=0.9&sparsity=0.5", "says sparsity twice"),
        ("#sparsity=0.9&colour=red", "'colour', which the explorer does not know"),
        ("#sparsity=0.93", "sparsity=0.93 is no stop"),
        ("#sparsity=nan", "sparsity=nan is no stop"),
        ("#score=gut", "score='gut'"),
        ("#kind=heads", "kind='heads'"),
        ("#network=gpt", "network='gpt'"),
        (5, "must be text"),
    ],
)
def test_a_bad_link_is_told_what_is_wrong_with_it(link, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Explorer.from_link(link)


def test_the_keys_of_a_link_are_those_of_the_controls():
    assert KEYS == ("sparsity", "score", "scope", "kind", "network")
