"""The page on which a pruned network writes, as far as Python sees it: its kernels
against NumPy, what it is given against the panel of the notebooks."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch
import wasmtime

from tools.web import write
from utils.explorer import TextExplorer
from utils.explorer.links import link_of
from utils.explorer.text_links import read_link
from utils.explorer.text_memory import PATTERN, PATTERN_STOPS, STOPS, TextControls
from utils.scores import score
from utils.selection import mark_largest
from utils.text import vocabulary

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def given():
    return write.shipped()


@pytest.fixture(scope="module")
def folder(given, tmp_path_factory):
    path = tmp_path_factory.mktemp("site") / "write"
    write.write(path)
    return path


@pytest.fixture(scope="module")
def facts(folder):
    return json.loads((folder / "facts.json").read_text("utf-8"))


# -------------------------------------------------------------------------- the kernels


class Kernels:
    """The kernels in a WebAssembly of their own, and memory to put arrays into."""

    def __init__(self) -> None:
        engine = wasmtime.Engine()
        self.store = wasmtime.Store(engine)
        pages = wasmtime.MemoryType(wasmtime.Limits(100, None))
        self.memory = wasmtime.Memory(self.store, pages)
        self.exports = {}
        for code in write.kernels().values():
            module = wasmtime.Module(engine, code)
            instance = wasmtime.Instance(self.store, module, [self.memory])
            self.exports |= dict(instance.exports(self.store).items())
        self.used = 0

    def put(self, array: np.ndarray) -> int:
        """Its place in memory; real numbers as float32."""
        content = array.astype(
            "<f4" if array.dtype.kind == "f" else array.dtype
        ).tobytes()
        place, self.used = self.used, self.used + -(-len(content) // 16) * 16
        self.memory.write(self.store, content, place)
        return place

    def get(self, place: int, *shape: int, kind: str = "<f4") -> np.ndarray:
        end = place + np.dtype(kind).itemsize * int(np.prod(shape))
        return np.frombuffer(self.memory.read(self.store, place, end), kind).reshape(
            shape
        )

    def __call__(self, name: str, *arguments) -> None:
        self.exports[name](self.store, *arguments)


@pytest.fixture
def kernels():
    return Kernels()


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("rows", [1, 3, 4, 6, 32])
@pytest.mark.parametrize(
    "outputs, inputs", [(192, 192), (768, 192), (192, 768), (192, 32), (32, 192)]
)
def test_a_matrix_product(kernels, rows, outputs, inputs, add):
    x, w, y = drawn(rows, inputs), drawn(outputs, inputs, seed=1), drawn(rows, outputs)
    places = [kernels.put(each) for each in (x, w, y)]
    guard = kernels.put(np.full(4, 7.0))
    kernels("multiply", *places, rows, outputs, inputs, add)
    right = x.astype(np.float64) @ w.T.astype(np.float64) + add * y
    np.testing.assert_allclose(
        kernels.get(places[2], rows, outputs), right, rtol=0, atol=2e-5 * inputs**0.5
    )
    assert (kernels.get(guard, 4) == 7).all()  # nothing is written beyond its end


def test_a_product_does_not_depend_on_how_many_rows_go_at_once(kernels):
    x, w = drawn(7, 192), drawn(64, 192, seed=1)
    px, pw, py = kernels.put(x), kernels.put(w), kernels.put(np.zeros((7, 64)))
    kernels("multiply", px, pw, py, 7, 64, 192, 0)
    together = kernels.get(py, 7, 64)
    for row in range(7):
        kernels("multiply", px + 768 * row, pw, py, 1, 64, 192, 0)
        assert (kernels.get(py, 64) == together[row]).all()


@pytest.mark.parametrize("deviation", [3, 0.002])  # also where epsilon counts
@pytest.mark.parametrize("rows", [1, 5])
def test_layer_norm(kernels, rows, deviation):
    x, gain = deviation * (drawn(rows, 192) + 0.5), drawn(192, seed=1)
    places = [kernels.put(each) for each in (x, gain, np.zeros_like(x))]
    kernels("normalise", *places, rows, 192, 1e-5)
    right = torch.nn.functional.layer_norm(
        torch.from_numpy(x).double(), (192,), torch.from_numpy(gain).double(), eps=1e-5
    )
    np.testing.assert_allclose(
        kernels.get(places[2], rows, 192), right.numpy(), rtol=0, atol=3e-6
    )


def test_relu(kernels):
    y = drawn(3, 768)
    place = kernels.put(y)
    kernels("rectify", place, y.size)
    assert (kernels.get(place, 3, 768) == np.maximum(y, 0)).all()


@pytest.mark.parametrize("scale", [1.0, 6.0])  # also where one place takes nearly all
@pytest.mark.parametrize("rows, place, heads", [(1, 0, 6), (5, 0, 6), (32, 200, 5)])
def test_attention(kernels, rows, place, heads, scale):
    end, width = place + rows, 32 * heads
    query, keys, values = (
        scale * drawn(count, width, seed=seed)
        for seed, count in enumerate((rows, end, end))
    )
    mixed, fit = np.zeros((rows, width)), np.zeros(256)
    places = [kernels.put(each) for each in (query, keys, values, mixed, fit)]
    kernels("attend", *places, rows, place, heads)
    q, k, v = (
        torch.from_numpy(each).double().unflatten(1, (heads, 32)).transpose(0, 1)
        for each in (query, keys, values)
    )  # [heads, m, 32] each
    sees = torch.ones(rows, end, dtype=torch.bool).tril(place)
    right = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sees)
    found = kernels.get(places[3], rows, width)
    np.testing.assert_allclose(
        found, right.transpose(0, 1).flatten(1).numpy(), rtol=0, atol=2e-5 * scale
    )


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("values", [3, 1 << 9, 1 << 31])  # few: many are equal
@pytest.mark.parametrize("share", [0, 0.05, 0.5, 1])
def test_the_largest_are_kept_and_of_equal_ones_the_first(kernels, bits, values, share):
    keys = np.random.default_rng(1).integers(values, size=1600).astype("<u4")
    kept = round(share * len(keys))
    mask, counts = np.full(1616, 7, np.uint8), np.zeros(1 << 16, "<u4")
    places = [kernels.put(each) for each in (keys, mask, counts)]
    kernels("keep", places[0], len(keys), kept, places[1], places[2], bits)
    right = mark_largest({"": keys.astype(np.int64)}, kept)[""]
    found = kernels.get(places[1], 1616, kind="u1")
    assert np.array_equal(found[:1600], right.astype(np.uint8))
    assert (found[1600:] == 7).all()


@pytest.mark.parametrize("kept", [1, 2, 3, 4])
def test_the_largest_of_four(kernels, kept):
    keys = np.random.default_rng(2).integers(4, size=(400, 4)).astype("<u4")
    places = [kernels.put(keys), kernels.put(np.full(1600, 7, np.uint8))]
    kernels("keep_of_four", places[0], keys.size, kept, places[1])
    order = np.argsort(-keys.astype(int), axis=1, kind="stable")
    right = np.zeros(keys.shape, np.uint8)
    np.put_along_axis(right, order[:, :kept], 1, axis=1)
    assert np.array_equal(kernels.get(places[1], 400, 4, kind="u1"), right)


def test_what_is_not_kept_is_zero(kernels):
    weights, mask = drawn(160), (drawn(160, seed=1) > 0).astype(np.uint8)
    places = [kernels.put(each) for each in (weights, mask, np.full(164, 7.0))]
    kernels("cut", *places, 160)
    found = kernels.get(places[2], 164)
    assert np.array_equal(found[:160].view("<i4"), weights.view("<i4") * mask)
    assert (found[160:] == 7).all()


# --------------------------------------------------------------- what the page is given


def test_the_weights_are_the_shipped_ones(folder, given):
    half = np.frombuffer((folder / "weights.bin").read_bytes(), "<f2")
    flat = torch.cat([w.detach().flatten() for w in given.model.parameters()])
    assert np.array_equal(half.astype(np.float32), flat.numpy())


def test_lengths_and_sums_are_those_of_the_files(folder, facts):
    assert set(facts["files"]) == {
        *("weights.bin", "norms.bin", "taylor.bin", "windows.bin"),
        *("kernels.wasm", "masks.wasm"),
    }
    for name, told in facts["files"].items():
        content = (folder / name).read_bytes()
        found = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        assert told == found


def test_norms_give_the_score_bit_for_bit(folder, given):
    norms = np.frombuffer((folder / "norms.bin").read_bytes(), "<f4")
    right = score("activation", given.model, given.batches)
    for name, each in right.items():
        weight = given.model.get_parameter(name).detach().abs().numpy()
        own, norms = np.split(norms, [weight.shape[1]])
        assert np.array_equal(weight * own, each.numpy()), name
    assert not len(norms)


def test_a_byte_a_weight_gives_the_masks_of_taylor(folder, given, facts):
    sizes = {n: facts["tensors"][n] for n in facts["prunable"]}
    codes = np.frombuffer((folder / "taylor.bin").read_bytes(), np.uint8)
    ends = np.cumsum([rows * columns for rows, columns in sizes.values()])
    layers = np.split(codes, ends[:-1])
    for scope in ("global", "layerwise", "erdos-renyi"):
        groups = facts["scores"]["taylor"].get(
            scope, facts["scopes"][scope].get("groups")
        )
        for number, stop in [*enumerate(STOPS)][1::4]:
            masks = given.memory.masks(TextControls(stop, "taylor", scope))
            for group in groups[number]:
                (layer,) = group["layers"]
                right = masks[facts["prunable"][layer]].reshape(-1)
                order = np.argsort(-layers[layer].astype(int), kind="stable")
                found = np.zeros(len(order), bool)
                found[order[: group["kept"]]] = True
                assert np.array_equal(found, right)
    for number, stop in [*enumerate(PATTERN_STOPS)][1:]:
        masks = given.memory.masks(TextControls(stop, "taylor", PATTERN))
        right = np.concatenate([mask.reshape(-1, 4) for mask in masks.values()])
        order = np.argsort(
            np.argsort(-codes.reshape(-1, 4).astype(int), axis=1), axis=1
        )
        assert np.array_equal(order < facts["scopes"][PATTERN]["kept"][number], right)


def test_the_facts_are_the_panels(facts, given):
    panel = TextExplorer()
    try:
        assert list(facts["scopes"]) == panel.memory.scopes()
        shown = {value: label for label, value in panel.score.options}
        assert {n: s["label"] for n, s in facts["scores"].items()} == {
            name: shown[name] for name in facts["scores"]
        }
        for scope, told in facts["scopes"].items():
            assert tuple(told["stops"]) == panel.memory.stops(scope)
        assert facts["prompts"] == list(panel.example.options)
        assert facts["temperature"] == panel.memory.temperature
        page = (write.SOURCE / "index.html").read_text("utf-8")
        for control in (panel.score, panel.scope, panel.example, panel.prompt):
            assert re.search(rf"<label[^>]*>\s*{control.description}", page)
        assert panel.again.description in page and panel.sparsity.label in page
    finally:
        panel.close()
    assert facts["pieces"] == vocabulary().pieces


def test_the_page_has_no_script_or_style_of_its_own_and_no_other_host(folder):
    page = (folder / "index.html").read_text("utf-8")
    assert (
        re.findall(r"<script(?![^>]*\ssrc=)|\sstyle=|<style|\son\w+=|https?://", page)
        == []
    )
    assert not re.search(r"\{\w+\}|<!-- still", page)
    for path in folder.glob("*.js"):
        assert "://" not in path.read_text("utf-8").replace(
            "http://www.w3.org/2000/svg", ""
        )


def test_without_a_script_there_are_the_texts_that_python_wrote(folder, given):
    page = (folder / "index.html").read_text("utf-8")
    assert page.count("<blockquote>") == len(write.STILL)
    state = given.memory.look(TextControls(write.STILL[-1]))
    words = "".join(state.pruned).split("\n")[0][:40]
    assert words.split('"')[0] in page
    assert (folder / "still.svg").read_text("utf-8").startswith("<svg")


# -------------------------------------------------------------------------- the address


def test_a_link_opens_the_same_panel():
    controls = TextControls(0.3, "activation", "unit", 'Emma & "I"; 100%\n#1', 7)
    panel = TextExplorer.from_link(f"https://example.org/write/{link_of(controls)}")
    try:
        assert panel.controls == controls and panel.link == link_of(controls)
        assert panel.sparsity.value == 0.3 and panel.prompt.value == controls.prompt
    finally:
        panel.close()


@pytest.mark.parametrize(
    "link, words",
    [
        (7, "must be text"),
        ("#", "holds no setting"),
        ("#sparsity", "holds no setting"),
        ("#sparsity=much", "must be numbers"),
        ("#draw=-1", "draw=-1"),
        ("#sparsity=0.5&off=0.mlp", "no controls"),
        ("#sparsity=0.5&kind=weights", "says kind"),
    ],
)
def test_what_is_no_link_is_refused(link, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        read_link(link)


def test_an_unknown_stop_is_refused():
    with pytest.raises(ValueError, match="no stop"):
        TextExplorer.from_link("#sparsity=0.51")
