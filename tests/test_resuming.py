"""The file that keeps a run: of which run it is, and that nothing else is loaded from
it."""

import copy
import io
import os
import zipfile
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from utils.data import Split
from utils.distillation import Teacher
from utils.files import DamagedFileError
from utils.resuming import described
from utils.schedules import Movement, RigL
from utils.training import Recipe, fit, fit_in_steps

RECIPE = Recipe(epochs=2, batch_size=8, flip=False)
ROWS = Split(
    torch.randn(33, 20, generator=torch.Generator().manual_seed(1)),
    torch.arange(33) % 10,
)


def network(seed: int = 0, width: int = 8) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(20, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(width, 10),
    )


def trained(model: nn.Module | None = None, **options):
    """The network and its history after a run; other options as given."""
    given = dict(train=ROWS, recipe=RECIPE, validation=ROWS, schedule=RigL(0.5))
    model = model or network()
    history = fit(model, **{**given, **options}, progress=False)
    return model.state_dict(), history


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("steps", range(1, 8))
@pytest.mark.parametrize("schedule", [None, Movement(0.5)])
def test_a_run_killed_after_any_step_ends_as_if_it_had_not_been(
    steps, schedule, tmp_path
):
    """With dropout, a teacher and a last batch of one, which joins the one before."""
    options = dict(
        train=ROWS,
        recipe=RECIPE,
        validation=ROWS,
        loss=Teacher(network(seed=5)),
    )
    whole, history = trained(schedule=copy.deepcopy(schedule), **options)
    options |= dict(checkpoint=tmp_path / "run")
    run = fit_in_steps(network(), schedule=copy.deepcopy(schedule), **options)
    for _ in range(steps):
        torch.rand(3)  # somebody else draws
        next(run)
    run.close()
    state, later = trained(schedule=copy.deepcopy(schedule), **options)
    assert same(state, whole)
    assert later.train_loss == history.train_loss
    assert later.validation_accuracy == history.validation_accuracy


def changed(split: Split, part: str) -> Split:
    images, labels = split.images.clone(), split.labels.clone()
    {"images": images, "labels": labels}[part][3] = 1
    return Split(images, labels)


def a_function() -> None:
    pass


OTHERS = {
    "recipe": dict(recipe=replace(RECIPE, weight_decay=0.02)),
    "seed": dict(seed=1),
    "loss": dict(loss=Teacher(network(seed=6))),
    "schedule": dict(schedule=RigL(0.6)),
    "after_step": dict(after_step=a_function),
    "training data": dict(train=changed(ROWS, "images")),
    "training data, labels": dict(train=changed(ROWS, "labels")),
    "validation data": dict(validation=changed(ROWS, "labels")),
    "validation": dict(validation=None),
    "network at the start": dict(model=network(seed=1)),
    "network, frozen": dict(model=network(), schedule=None),
    "network, layers": dict(model=network()),
}
OTHERS["network, frozen"]["model"][0].requires_grad_(False)
OTHERS["network, layers"]["model"][2] = nn.Tanh()


@pytest.mark.parametrize("what", OTHERS)
def test_the_checkpoint_of_another_run_is_refused_and_named(what, tmp_path, unchanged):
    base = dict(checkpoint=tmp_path / "run", loss=Teacher(network(seed=5)))
    trained(**base)
    options = copy.deepcopy(OTHERS[what])
    model = options.pop("model", network())
    check = unchanged(model)
    named = what.partition(",")[0]
    with pytest.raises(ValueError, match=f"belongs to another run: .*{named}"):
        trained(model, **{**base, **options})
    check()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A finished run: its file's content, and its weights."""
    path = tmp_path_factory.mktemp("kept") / "run"
    state, _ = trained(checkpoint=path)
    return path.read_bytes(), state


def refused(path, content: bytes, reason: str = "damaged, or no checkpoint") -> None:
    """Nothing of it is loaded."""
    path.write_bytes(content)
    model = network()
    with pytest.raises(DamagedFileError, match=reason):
        trained(model, checkpoint=path)
    assert same(model.state_dict(), network().state_dict()) and model.training
    assert path.read_bytes() == content


@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_damaged_file_never_gives_other_weights(kept, tmp_path, data):
    whole, wanted = kept
    content = bytearray(whole)
    start = data.draw(st.integers(0, len(content) - 1))
    new = data.draw(st.binary(min_size=1, max_size=40))
    cut = data.draw(st.booleans())
    content[start : len(content) if cut else start + len(new)] = new
    path, model = tmp_path / "run", network()
    path.write_bytes(content)
    try:
        state, _ = trained(model, checkpoint=path)
    except DamagedFileError:
        assert same(model.state_dict(), network().state_dict())
    else:
        assert same(state, wanted)


def written_anew(whole: bytes, change) -> bytes:
    content, buffer = torch.load(io.BytesIO(whole), weights_only=True), io.BytesIO()
    change(content)
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: file["model"]["0.weight"].fill_(torch.nan), "was changed"),
        (lambda file: file["optimizer"]["state"].clear(), "was changed"),
        (lambda file: file.pop("history"), "was changed"),
        (lambda file: file.pop("optimizer"), "was changed"),
        (lambda file: file.update(step=3), "was changed"),
        (lambda file: file.pop("digest"), "no checkpoint"),
        (lambda file: file.pop("version"), "no checkpoint"),
        (lambda file: file.update(version=99), "another version"),
        (lambda file: file.update(big=torch.zeros(10**7)), "over 16,"),
    ],
)
def test_a_changed_file_is_not_believed(change, reason, kept, tmp_path):
    refused(tmp_path / "run", written_anew(kept[0], change), reason)


def test_what_is_packed_is_not_unpacked(kept, tmp_path):
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(kept[0])) as old,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for each in old.infolist():
            new.writestr(each.filename, old.read(each))
    refused(tmp_path / "run", packed.getvalue(), "packed")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused(make, tmp_path, unchanged):
    make(tmp_path / "run")
    model = network()
    check = unchanged(model)
    with pytest.raises(ValueError, match="is no file"):
        trained(model, checkpoint=tmp_path / "run")
    check()


@pytest.mark.parametrize("place", [5, "", "file/run"])
def test_a_place_that_cannot_be_written_is_refused_before_the_run(
    place, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="checkpoint="):
        trained(checkpoint=place)


def test_what_a_schedule_cannot_load_changes_nothing(tmp_path, unchanged):
    class Forgetful(RigL):
        def load(self, state):
            raise KeyError("no")

    trained(checkpoint=tmp_path / "run", schedule=Forgetful(0.5))
    model = network()
    check = unchanged(model)
    with pytest.raises(DamagedFileError):
        trained(model, checkpoint=tmp_path / "run", schedule=Forgetful(0.5))
    check()


def test_a_description_is_the_same_in_every_process():
    assert described(a_function).endswith("test_resuming.a_function")
    assert " at 0x" not in described(partial(a_function))
    assert described(Teacher(network())) == described(Teacher(network()))
    assert described(Teacher(network())) != described(Teacher(network(1)))
