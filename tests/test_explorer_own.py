"""The explorer under a learner's own scores, networks and data: each works with the
right numbers, or is refused in words before anything is computed."""

import asyncio
import os
import random
import threading
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from utils import lab, measure
from utils.data import Data, Split
from utils.explorer import Controls, Explorer, drawing, findings
from utils.explorer import panel as panel_module
from utils.explorer import subject as subject_module
from utils.explorer.guarded import SETTINGS
from utils.explorer.kinds import STOPS
from utils.explorer.state import NO_ANSWER
from utils.explorer.subject import OWN
from utils.layers import prunable
from utils.masks import masked
from utils.scores import SCORES, UNIT_SCORES, Scores
from utils.training import predict_logits

HALF = Controls(0.5, network=OWN)


def magnitudes(model: nn.Module) -> Scores:
    return Scores({name: w.detach().abs() for name, w in prunable(model).items()})


def rule(work: Callable) -> Callable:
    """The magnitude as a score that does some work besides, before or after."""

    def mine(model, batches):
        found = magnitudes(model)
        work(model, batches)
        return found

    return mine


# --------------------------------------------------------- a score that changes things


def in_place(model, batches):
    # one underscore too many
    return Scores({name: w.detach().abs_() for name, w in prunable(model).items()})


def first(model: nn.Module) -> nn.Module:
    return next(iter(model.children()))


CHANGES: dict[str, tuple[Callable, str]] = {
    "abs_": (in_place, "0.weight, 3.weight, 7.weight"),
    "zeros": (
        rule(lambda model, _: [p.data.zero_() for p in model.parameters()]),
        "0.weight, 0.bias, 1.weight and 4 more",  # the bias of the BatchNorm is zero
    ),
    "statistics": (
        rule(lambda model, batches: model.train()(batches[0][0])),
        "1.running_mean, 1.running_var, 1.num_batches_tracked, its train or eval mode",
    ),
    "pictures": (rule(lambda _, batches: batches[0][0].zero_()), "its pictures"),
    "labels": (rule(lambda _, batches: batches[0][1].zero_()), "its pictures"),
    "fewer batches": (rule(lambda _, batches: batches.pop()), "its pictures"),
    "frozen": (
        rule(lambda model, _: first(model).requires_grad_(False)),
        "requires_grad of 0.weight, 0.bias",
    ),
    "hook": (
        rule(lambda model, _: model.register_forward_hook(lambda *_: 1 / 0)),
        "its hooks",
    ),
    "another layer": (
        rule(lambda model, _: model.__setitem__(2, nn.Tanh())),
        "its layers, its train or eval mode",
    ),
    "gradients": (
        rule(lambda *_: torch.set_grad_enabled(False)),
        "whether gradients are on",
    ),
    "dtype": (
        rule(lambda *_: torch.set_default_dtype(torch.float64)),
        "the default dtype",
    ),
    "threads": (rule(lambda *_: torch.set_num_threads(3)), "the number of threads"),
    "folder": (rule(lambda *_: os.chdir("/")), "the working folder"),
    "seed": (rule(lambda *_: torch.manual_seed(1)), "PyTorch's random numbers"),
    "random": (rule(lambda *_: random.random()), "Python's random numbers"),
    "numpy": (rule(lambda *_: np.random.rand()), "NumPy's random numbers"),  # noqa: NPY002
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_score_changes_is_undone_and_said(small, noise, monkeypatch, name):
    function, changed = CHANGES[name]
    monkeypatch.setitem(SCORES, "mine", function)
    panel = Explorer(model=small, data=noise)
    before = [setting.read() for setting in SETTINGS]
    panel.score.value = "mine"
    panel.sparsity.value = 0.5
    for setting, value in zip(SETTINGS, before, strict=True):
        assert str(setting.read()) == str(value), setting.words
    panel.settle()
    said = f"Computing the mine score changed {changed}: undone"
    assert said in "".join(ET.fromstring(panel.status.value).itertext())
    fresh = Explorer(model=small, data=noise)
    for place in (0.0, 0.5, 0.9):
        for score in ("taylor", "magnitude"):
            controls = Controls(place, score, network=OWN)
            assert panel.state(controls) == fresh.state(controls)
    mine, known = panel.state(replace(HALF, score="mine")), panel.state(HALF)
    assert (mine.predicted, mine.layers) == (known.predicted, known.layers)
    assert panel.problems == []
    lab.finish()


def test_a_score_that_changes_nothing_is_not_remarked_upon(small, noise):
    panel = Explorer(model=small, data=noise)
    subject = panel.subject(OWN)
    for units, known in ((False, SCORES), (True, UNIT_SCORES)):
        for name in known:
            subject.scores(name, units=units)
            assert subject.score_remark(name, units=units) == "", name
    assert panel.describe(panel.state(HALF)).endswith("not measured yet.")


def test_a_score_that_leaves_gradients_as_lab_02_does_is_not_remarked_upon(
    small, noise, monkeypatch
):
    def mine(model, batches):
        for images, labels in batches:
            nn.functional.cross_entropy(model(images), labels).backward()
        return magnitudes(model)

    monkeypatch.setitem(SCORES, "mine", mine)
    subject = Explorer(model=small, data=noise).subject(OWN)
    subject.scores("mine", units=False)
    assert subject.score_remark("mine", units=False) == ""
    assert all(p.grad is None for p in subject.dense.parameters())


def test_what_is_said_of_a_score_is_not_said_of_a_kind_that_uses_its_name_only(
    small, noise, monkeypatch
):
    """N:M ranks by magnitude itself, whatever the score of that name has changed."""
    monkeypatch.setitem(SCORES, "magnitude", in_place)
    panel = Explorer(model=small, data=noise)
    assert "changed 0.weight" in panel.describe(panel.state(HALF))
    of_nm = Controls(0.5, "magnitude", "in each group", "nm", OWN)
    assert "changed" not in panel.describe(panel.state(of_nm))


def test_a_layer_that_a_score_leaves_out_is_named(small, noise, monkeypatch):
    def mine(model, batches):
        found = magnitudes(model)
        del found["3.weight"]
        found.left_out = ("3.weight",)
        return found

    monkeypatch.setitem(SCORES, "mine", mine)
    panel = Explorer(model=small, data=noise)
    state = panel.state(replace(HALF, score="mine"))
    assert "says nothing of 3.weight: not pruned by it" in panel.describe(state)
    assert {row.name: row.kept == row.weights for row in state.layers}["3.weight"]


@pytest.mark.parametrize(
    "end", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("odd")]
)
def test_an_exception_that_would_end_the_kernel_is_an_error_of_the_score(
    small, noise, monkeypatch, end
):
    def mine(model, batches):
        torch.set_grad_enabled(False)
        raise end

    monkeypatch.setitem(SCORES, "mine", mine)
    panel = Explorer(model=small, data=noise)
    panel.sparsity.value = 0.5
    before = panel.picture.value
    panel.score.value = "mine"
    assert torch.is_grad_enabled()
    assert f"the score 'mine' ended with {type(end).__name__}" in panel.problems[0]
    assert panel.picture.value == before and "#B00020" in panel.trouble.value
    panel.score.value = "taylor"
    assert panel.trouble.value == "" and len(panel.problems) == 1
    with pytest.raises(RuntimeError, match=f"ended with {type(end).__name__}"):
        lab.finish()


# --------------------------------------------------------------- names no page can hold


@pytest.mark.parametrize("name", ["\x00", "a\x0bb", "\x1b[31m", "\ud800", "\ufffe"])
def test_a_score_may_have_any_name(small, noise, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SCORES, name, SCORES["magnitude"])
    panel = Explorer(model=small, data=noise)
    panel.score.value = name
    panel.sparsity.value = 0.5
    panel.find.click()
    bundle, _ = panel._repr_mimebundle_()
    assert panel.problems == [] and panel.shown.controls.score == name
    written = ascii(name)[1:-1]
    for page in (panel.picture.value, panel.svg(panel.shown), panel.status.value):
        ET.fromstring(page.encode())
    for words in (panel.status.value, bundle["text/plain"], panel.found.value):
        assert written in words and words.encode()
    assert written in panel.score._options_labels
    assert findings.read(Path(findings.FILE))[0]["score"] == written


def test_a_failing_score_may_have_any_name_and_any_message(small, noise, monkeypatch):
    def mine(model, batches):
        raise KeyError("\x00\ud800")

    monkeypatch.setitem(SCORES, "\x00\ud800", mine)
    panel = Explorer(model=small, data=noise)
    panel.score.value = "\x00\ud800"
    ET.fromstring(panel.trouble.value.encode())
    assert panel.problems[0].encode()
    with pytest.raises(RuntimeError, match="KeyError") as error:
        lab.finish()
    assert str(error.value).encode()


def test_a_layer_may_have_any_name_that_can_be_saved(noise):
    model = linear()
    model.add_module("odd\x00", nn.Linear(4, 4))
    panel = Explorer(model=model, data=noise, sparsity=0.5)
    ET.fromstring(panel.svg(panel.shown).encode())
    assert ">odd\\x00: " in panel.svg(panel.shown)
    panel.settle()
    assert panel.problems == []
    model.add_module("\ud800", nn.Linear(4, 4))
    with pytest.raises(ValueError, match="cannot be stored"):
        Explorer(model=model, data=noise)


def test_ordinary_words_are_left_as_they_are():
    words = "tab\tline\nümlaut 🎓 <b> \u202e"
    assert drawing.readable(words) == words
    assert drawing.readable("\x00\x7f") == "\\x00\x7f"


# --------------------------------------------------- controls moved by several threads


@pytest.mark.parametrize("threads", [1, 4])
def test_random_moves_from_other_threads_while_the_panel_works(
    small, noise, monkeypatch, threads
):
    """JupyterLab delivers what is moved in a thread of its own; fine-tuning ends, and
    draws, while controls are changed."""
    monkeypatch.setattr(panel_module, "REST", 0.0)
    monkeypatch.setattr(subject_module, "TUNE_WORK", 1e6)  # ends often

    async def work() -> Explorer:
        panel = Explorer(model=small, data=noise)
        panel.refresh()
        movers = [
            asyncio.to_thread(move, panel, random.Random(seed), 1200 // threads)
            for seed in range(threads)
        ]
        await asyncio.gather(*movers)
        while panel.slow_work.busy or panel.fine_tuning.busy:
            await asyncio.sleep(0.005)
        return panel

    panel = asyncio.run(work())
    assert panel.problems == [] and panel.trouble.value == ""
    controls = panel.controls
    for part in ("network", "kind", "score", "scope", "sparsity"):
        assert getattr(panel, part).value == getattr(controls, part), part
    assert panel.shown.controls == controls
    ET.fromstring(panel.picture.value)
    panel.memory.forget_tuned()
    fresh = Explorer(model=small, data=noise)
    assert panel.state(controls) == fresh.state(controls)


def move(panel: Explorer, draw: random.Random, times: int) -> None:
    """Move and press at random what a learner can, among what is offered then."""
    for _ in range(times):
        part = draw.choice(["kind", "kind", "score", "scope", "sparsity", "button"])
        if part == "sparsity":
            panel.sparsity.index = draw.randrange(len(STOPS))
        elif part == "button":
            name = draw.choice(["tune", "tune", "tune", "cancel", "reset"])
            getattr(panel, name).click()
        else:
            control = getattr(panel, part)
            control.index = draw.randrange(len(control.options))


def test_the_panel_takes_no_control_before_its_callback_has_the_lock(small, noise):
    """What ends meanwhile draws the controls as they were, as a whole."""
    panel = Explorer(model=small, data=noise)
    panel.refresh()
    before = panel.controls
    with panel.lock:
        thread = threading.Thread(target=setattr, args=(panel.kind, "value", "nm"))
        thread.start()
        while panel.kind.value != "nm":
            pass
        panel.refresh()
        assert panel.controls == before == panel.shown.controls
    thread.join()
    assert panel.controls == Controls(0.0, "magnitude", "in each group", "nm", OWN)
    assert panel.shown.controls == panel.controls and panel.problems == []


# ------------------------------------------------------------------------- own networks


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 4))


class Own(nn.Module):
    """A network of these parts that does what `forward` says."""

    def __init__(self, run: Callable, **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        return self.run(self, x)


def head(run: Callable) -> Own:
    """A linear network whose outputs go through `run`."""
    torch.manual_seed(0)
    return Own(lambda m, x: run(m.last(x.flatten(1))), last=nn.Linear(192, 4))


def fails_from(call: int) -> nn.Module:
    calls = []

    def run(outputs):
        calls.append(1)
        if len(calls) >= call:
            raise ZeroDivisionError("division by zero")
        return outputs

    return head(run)


def with_lock() -> nn.Module:
    model = linear()
    model.lock = threading.Lock()
    return model


def changed(change: Callable[[nn.Sequential], object]) -> nn.Module:
    model = linear()
    change(model)
    return model


@torch.no_grad()
def filled(value: float) -> nn.Module:
    model = linear()
    for parameter in model.parameters():
        parameter.fill_(value)
    return model


def lazy() -> nn.Module:
    with warnings.catch_warnings():  # PyTorch warns of every lazy layer
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(4))


def only_empty() -> nn.Module:
    with warnings.catch_warnings():  # PyTorch warns of empty weights
        warnings.simplefilter("ignore")
        return Own(lambda m, x: x.flatten(1)[:, :4], none=nn.Linear(192, 0))


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "NaN outputs": (lambda: head(lambda y: y * torch.nan), "puts out NaN or infinity"),
    "infinite weights": (lambda: filled(torch.inf), "puts out NaN or infinity"),
    "large weights": (lambda: filled(1e38), "puts out NaN or infinity"),
    "fails at once": (
        lambda: fails_from(1),
        r"model \(Own\) cannot take a picture of shape \[1, 3, 8, 8\]: ZeroDivision",
    ),
    "fails at the second call": (
        lambda: fails_from(2),
        r"model \(Own\) cannot take a training picture .*: ZeroDivisionError",
    ),
    "a lock": (
        with_lock,
        r"model \(Sequential\) cannot be copied: TypeError: cannot pickle",
    ),
    "float16": (lambda: linear().half(), r"1\.weight is torch\.float16 on cpu"),
    "bfloat16": (lambda: linear().bfloat16(), r"1\.weight is torch\.bfloat16"),
    "float64": (
        lambda: linear().double(),
        r"torch\.float64 weights, and the pictures are torch\.float32; give model\.flo",
    ),
    "complex": (
        lambda: Own(
            lambda m, x: m.last(x.flatten(1) + 0j).abs(),
            last=nn.Linear(192, 4, dtype=torch.complex64),
        ),
        r"last\.weight is torch\.complex64",
    ),
    "complex outputs": (lambda: head(lambda y: y + 0j), "real numbers; .* put out Ten"),
    "without values": (lambda: linear().to("meta"), "1.weight has no values"),
    "lazy": (lazy, r"1\.weight is not made yet \(a lazy layer\)"),
    "weight norm": (
        lambda: changed(lambda model: weight_norm(model[1])),
        r"1\.weight is computed from other tensors; make it permanent first",
    ),
    "pruned by torch": (
        lambda: changed(lambda model: prune.l1_unstructured(model[1], "weight", 0.5)),
        r"1\.weight is computed from other tensors; make it permanent first",
    ),
    "only empty layers": (only_empty, r"model \(Own\) has only empty layers"),
    "a tuple": (lambda: head(lambda y: (y, y)), r"for one picture it put out tuple"),
    "a class": (lambda: nn.Linear, "is no network; give a torch.nn.Module"),
    "256 outputs": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 256)),
        "256 outputs; the explorer takes at most 255",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_cannot_work_is_refused_in_words(noise, name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as error:
        Explorer(model=make(), data=noise)
    assert type(error.value) is ValueError


def test_a_refused_network_is_left_as_it_was(noise, unchanged):
    model = with_lock()
    same = unchanged(model)
    with pytest.raises(ValueError, match="cannot be copied"):
        Explorer(model=model, data=noise)
    same()


class Upsampled(nn.Module):
    """Like a U-Net: down, up with a transposed convolution, and the input beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, 2, 1)  # 216 weights
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)  # 256
        self.out = nn.Conv2d(11, 4, 1)  # 44

    def forward(self, x):
        both = torch.cat([self.up(self.down(x).relu()), x], 1)
        return self.out(both).mean((2, 3))


class Recurrent(nn.Module):
    """Reads a picture row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.LSTM(8, 12, batch_first=True)  # 48 * 8 + 48 * 12 = 960 weights
        self.out = nn.Linear(12, 4)  # 48

    def forward(self, x):
        return self.out(self.rows(x[:, 0])[0][:, -1])


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        # 8 * 24 + 8 * 8 in the attention; 8 * 16 * 2 = 256 beside it
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(64, 4)  # 256

    def forward(self, x):
        return self.out(self.layer(x[:, 0]).flatten(1))


WORKS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "plain": (linear, "", ""),
    "transposed convolution": (Upsampled, "50.4%", "up.weight (ConvTranspose2d)"),
    "recurrent": (
        Recurrent,
        "4.8%",
        "rows.weight_ih_l0 (LSTM), rows.weight_hh_l0 (LSTM)",
    ),
    "attention": (Attending, "66.7%", "layer.self_attn.in_proj_weight (MultiheadAtt"),
    "compiled": (lambda: torch.compile(linear(), backend="eager"), "", ""),
    "a volume": (
        lambda: Own(
            lambda m, x: m.out(m.volume(x[:, None]).flatten(1)),
            volume=nn.Conv3d(1, 2, 3),
            out=nn.Linear(72, 4),
        ),
        "",
        "",
    ),
}


@pytest.mark.parametrize("name", WORKS)
def test_a_network_of_another_kind_works_and_says_what_it_can_prune(noise, name):
    make, part, left = WORKS[name]
    torch.manual_seed(0)
    model = make().eval()
    panel = Explorer(model=model, data=noise, sparsity=0.5)
    panel.settle()
    state = panel.state(panel.controls)
    weights = {n: w.detach() for n, w in prunable(model).items()}
    values = torch.cat([w.abs().flatten() for w in weights.values()])
    threshold = values.sort(stable=True).values[round(len(values) / 2)]
    pruned = masked(model, {n: w.abs() >= threshold for n, w in weights.items()})
    with torch.no_grad():
        answers = pruned(noise.validation.images).argmax(1)
    right = (answers == noise.validation.labels).double().mean()
    assert state.accuracy == pytest.approx(float(right), abs=1e-6)
    assert state.weights == 0.5
    said = panel.describe(state)
    assert ("can be pruned" in said) == bool(part)
    assert f"{part} can be pruned" in said if part else True
    assert left in said
    assert (f"Prunable: {part} of all weights" in panel.svg(state)) == bool(part)
    panel.tune.click()
    panel.settle()
    assert panel.shown.tuned == 256 and panel.problems == []


def test_what_is_said_of_the_networks_of_the_course_is_the_numbers_alone():
    panel = Explorer("lenet300", pictures=20)
    assert panel.subject("lenet300").prunable_part == 1
    assert panel.describe(panel.state(Controls())).endswith("not measured yet.")


def test_a_compiled_network_is_pruned_as_the_one_that_was_compiled(noise):
    compiled = Explorer(model=torch.compile(linear(), backend="eager"), data=noise)
    plain = Explorer(model=linear(), data=noise)
    assert compiled.memory.kinds(OWN) == plain.memory.kinds(OWN)
    assert compiled.state(HALF) == plain.state(HALF)


def test_a_probability_of_zero_has_a_logarithm(noise):
    model = head(lambda y: torch.cat([y[:, :3], y[:, 3:] - torch.inf], 1))
    state = Explorer(model=model, data=noise).state(HALF)
    assert state.unanswered == 0 and 3 not in state.predicted


def test_nan_is_no_answer(noise):
    """argmax of NaN is a class, which may be the right one."""
    last, limit = head(lambda y: y).last, float(noise.train.images[0].mean())

    def dark(x):
        return x.mean((1, 2, 3)) > limit

    model = Own(
        lambda m, x: m.last(x.flatten(1)).masked_fill(dark(x)[:, None], torch.nan),
        last=last,
    )
    places = dark(noise.validation.images).argsort(stable=True)  # those answered first
    data = noise._replace(validation=noise.validation[places])
    panel = Explorer(model=model, data=data)
    state, none = panel.state(Controls(network=OWN)), dark(data.validation.images)
    with torch.no_grad():
        outputs = last(data.validation.images.flatten(1))
    right = (outputs.argmax(1) == data.validation.labels) & ~none
    assert state.accuracy == pytest.approx(float(right.double().mean()), abs=1e-6)
    assert 0 < int(none.sum()) == state.unanswered < 60
    assert [b == NO_ANSWER for b in state.predicted] == none.tolist()
    assert f"puts out NaN for {none.sum()} of the pictures" in panel.describe(state)


def test_a_picture_without_an_answer_is_shown_as_such(small, noise, monkeypatch):
    panel = Explorer(model=small, data=noise)
    dense, state = panel.state(Controls(network=OWN)), panel.state(HALF)
    none = replace(state, predicted=bytes([NO_ANSWER]) * 60)
    part = panel.parts(none)[5]
    assert part.words.startswith("Pictures with another answer than before: 60 of 60")
    assert "now NaN" in "".join(part.marks) and dense.unanswered == 0


def test_a_network_whose_outputs_change_their_shape_is_refused_then(noise):
    calls = []
    model = head(lambda y: calls.append(1) or (y if len(calls) < 4 else y[:, :2]))
    with pytest.raises(ValueError, match=r"model puts out \[60, 2\] for 60 pictures"):
        Explorer(model=model, data=noise).state(HALF)


def test_a_kind_at_which_the_network_fails_is_not_offered(noise, monkeypatch):
    def cannot(*_):
        raise ZeroDivisionError("no <blocks>")

    monkeypatch.setattr(subject_module.surgery, "removable_blocks", cannot)
    panel = Explorer(model=linear(), data=noise)
    assert list(panel.memory.kinds(OWN)) == ["weights", "nm", "channels"]
    reasons = panel.memory.refusals(OWN)
    assert reasons == {"blocks": "ZeroDivisionError: no <blocks>."}


def test_the_first_look_counts_the_macs_once(quick_networks, monkeypatch):
    subject, models = quick_networks
    calls, count = [], measure.macs
    monkeypatch.setattr(
        measure, "macs", lambda *a, **k: calls.append(1) or count(*a, **k)
    )
    for kind, model in models.items():
        state = subject.first_look(Controls(0.5, network=OWN, kind=kind), model)
        for better in subject.refine(state, model):
            assert better.pictures <= 60
        assert calls == [1], kind
        calls.clear()


@pytest.fixture
def quick_networks(small, noise):
    """A subject, and one network pruned by each kind."""
    panel = Explorer(model=small, data=noise)
    return panel.subject(OWN), {
        "weights": panel.memory.prune(HALF),
        "channels": panel.memory.prune(
            Controls(0.5, "l1", "layerwise", "channels", OWN)
        ),
    }


def test_a_first_estimate_rests_on_more_pictures_of_a_smaller_network(
    small, noise, monkeypatch
):
    """Zeros take as long as other weights; smaller tensors take less."""
    panel = Explorer(model=small, data=noise)
    subject = panel.subject(OWN)
    monkeypatch.setattr(subject_module, "FIRST_WORK", 20 * subject.macs)
    zeros = panel.state(replace(HALF, sparsity=0.9))
    smaller = panel.state(Controls(0.5, "l1", "layerwise", "channels", OWN))
    assert subject.first(zeros) == 20
    assert subject.first(smaller) == int(min(60, 20 / smaller.macs)) > 20


# ----------------------------------------------------------------------------- own data


def every(data: Data, change: Callable[[Split], Split]) -> Data:
    return Data(*map(change, data))


def with_nan(split: Split) -> Split:
    images = split.images.clone()
    images[-1, 0, 0, 0] = torch.nan
    return Split(images, split.labels)


ODD_DATA: dict[str, tuple[Callable[[Data], Data], str]] = {
    "labels int32": (
        lambda data: every(data, lambda s: Split(s.images, s.labels.int())),
        r"data\.train .*torch\.int32 labels .*torch\.int64",
    ),
    "labels bool": (
        lambda data: every(data, lambda s: Split(s.images, s.labels > 0)),
        r"data\.train .*torch\.bool labels",
    ),
    "labels in a column": (
        lambda data: every(data, lambda s: Split(s.images, s.labels[:, None])),
        r"labels of shape \[256, 1\]",
    ),
    "NaN in a picture": (
        lambda data: data._replace(validation=with_nan(data.validation)),
        r"data\.validation has pictures with NaN",
    ),
    "pictures in float64": (
        lambda data: every(data, lambda s: Split(s.images.double(), s.labels)),
        r"torch\.float32 weights, and the pictures are torch\.float64",
    ),
    "training pictures in float64": (
        lambda data: data._replace(
            train=Split(data.train.images.double(), data.train.labels)
        ),
        r"data\.train has torch\.float64 pictures, data\.validation torch\.float32",
    ),
    "training pictures of one channel": (
        lambda data: data._replace(
            train=Split(data.train.images[:, :1], data.train.labels)
        ),
        r"cannot take a training picture of shape \[1, 1, 8, 8\]",
    ),
}


@pytest.mark.parametrize("name", ODD_DATA)
def test_data_of_another_kind_are_refused_in_words(small, noise, name):
    change, message = ODD_DATA[name]
    with pytest.raises(ValueError, match=message):
        Explorer(model=small, data=change(noise))


def test_network_and_data_in_float64(noise):
    data = every(noise, lambda s: Split(s.images.double(), s.labels))
    panel = Explorer(model=linear().double(), data=data, sparsity=0.5)
    single = Explorer(model=linear(), data=noise)
    assert panel.state(HALF).layers == single.state(HALF).layers
    assert panel.state(HALF).accuracy == pytest.approx(
        single.state(HALF).accuracy, abs=0.02
    )
    panel.tune.click()
    panel.settle()
    assert panel.shown.tuned == 256 and panel.problems == []


def test_pictures_of_another_size_than_those_for_training(small, noise):
    torch.manual_seed(1)
    large = Split(torch.randn(60, 3, 12, 12), noise.validation.labels)
    panel = Explorer(model=small, data=noise._replace(validation=large), sparsity=0.5)
    state = panel.state(panel.controls)
    answers = predict_logits(panel.memory.prune(panel.controls), large.images).argmax(1)
    assert state.accuracy == pytest.approx(
        float((answers == large.labels).double().mean()), abs=1e-6
    )
    panel.tune.click()
    panel.settle()
    assert panel.shown.tuned > 0 and panel.problems == []


def test_one_class(noise):
    data = every(noise, lambda s: Split(s.images, torch.zeros_like(s.labels)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    panel = Explorer(model=model, data=data, sparsity=0.9)
    panel.tune.click()
    panel.settle()
    assert panel.shown.accuracy == 1 and panel.shown.tuned == 256
    assert panel.problems == []


def test_colour_pictures_are_shown_in_colour(noise, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        drawing, "image_of", lambda pixels, *_: drawn.append(pixels) or ""
    )
    red = torch.zeros(60, 3, 8, 8)
    red[:, 0] = 1.0
    data = noise._replace(validation=Split(red, noise.validation.labels))
    subject = Explorer(model=linear(), data=data).subject(OWN)
    drawing._picture(subject, 0, 0, 0)
    assert drawn[-1].shape == (8, 8, 3)
    assert (drawn[-1] == np.array([255, 0, 0], np.uint8)).all()
