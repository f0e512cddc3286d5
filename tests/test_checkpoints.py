"""`make checkpoints`: what it records is what it wrote, and what the labs then load."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
import torch

from tools import checkpoints
from utils import data, text
from utils.baselines import BASELINES, Baseline, baseline, baseline_facts, build
from utils.data import Data
from utils.files import data_folder, read_sealed, sealed
from utils.models import gpt
from utils.text import Texts, Windows
from utils.training import Recipe, evaluate, losses

NOVELS = data_folder() / "austen"


def stages(monkeypatch, recipes: tuple[Recipe, ...]) -> None:
    """Let LeNet be trained by these recipes."""
    monkeypatch.setitem(
        BASELINES, "lenet300", replace(BASELINES["lenet300"], stages=recipes)
    )


@pytest.fixture
def folder(tmp_path, monkeypatch, course_data):
    """An empty data folder, a few pictures, a recipe of one epoch."""
    few = Data(
        course_data.train[:512], course_data.validation[:200], course_data.test[:100]
    )
    monkeypatch.setenv("PRUNING_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "load", lambda: few)
    stages(monkeypatch, (Recipe(epochs=1, batch_size=64),) * 2)
    return tmp_path / "data" / "baselines"


def test_what_is_recorded_is_what_was_written(folder, course_data, capsys):
    checkpoints.train("lenet300", threads=1)
    content = (folder / "lenet300.safetensors").read_bytes()
    assert {path.name for path in folder.iterdir()} == {
        "lenet300.safetensors",
        "baselines.json",
    }
    facts = json.loads((folder / "baselines.json").read_text())["lenet300"]
    assert facts["sha256"] == hashlib.sha256(content).hexdigest()
    assert facts["bytes"] == len(content)
    assert facts["parameters"] == 266_610
    assert facts["torch"] == torch.__version__
    assert [(stage["seed"], stage["threads"]) for stage in facts["stages"]] == [
        (0, 1),
        (1, 1),
    ]
    recipes = tuple(Recipe(**stage["recipe"]) for stage in facts["stages"])
    assert recipes == BASELINES["lenet300"].stages
    assert all(
        [len(values) for values in stage["history"].values()] == [1, 1, 1, 1]
        for stage in facts["stages"]
    )
    loaded = baseline("lenet300")
    assert not loaded.training
    assert facts["validation_accuracy"] == pytest.approx(
        evaluate(loaded, course_data.validation[:200]), abs=1e-4
    )
    assert facts["test_accuracy"] == pytest.approx(
        evaluate(loaded, course_data.test[:100]), abs=1e-4
    )
    assert facts["validation_accuracy"] > 0.2  # it was trained
    assert not torch.equal(loaded.fc1.weight, build("lenet300", 0).fc1.weight)
    assert f"lenet300: test {facts['test_accuracy']:.2%}" in capsys.readouterr().out


def test_training_again_gives_the_same_file_and_keeps_the_other_entries(folder):
    checkpoints.train("lenet300", threads=1)
    first = (folder / "lenet300.safetensors").read_bytes()
    path = folder / "baselines.json"
    entries = read_sealed(path, "")
    path.write_bytes(sealed(path.name, {**entries, "vgg": {"sha256": "x"}}))
    checkpoints.train("lenet300", threads=1)
    assert (folder / "lenet300.safetensors").read_bytes() == first
    after = json.loads(path.read_text())
    assert (
        after["vgg"] == {"sha256": "x"}
        and after["lenet300"]["sha256"] == entries["lenet300"]["sha256"]
    )


def test_going_on_with_the_second_stage_gives_what_both_at_once_give(
    folder, monkeypatch
):
    checkpoints.train("lenet300", threads=1)
    both = (folder / "lenet300.safetensors").read_bytes()
    recipes = BASELINES["lenet300"].stages
    stages(monkeypatch, recipes[:1])
    checkpoints.train("lenet300", threads=1)
    assert (folder / "lenet300.safetensors").read_bytes() != both
    stages(monkeypatch, recipes)
    checkpoints.train("lenet300", threads=1, first_stage=1)
    assert (folder / "lenet300.safetensors").read_bytes() == both
    assert (
        len(json.loads((folder / "baselines.json").read_text())["lenet300"]["stages"])
        == 2
    )


@pytest.fixture
def few_windows(folder, monkeypatch, course_text):
    """A small text network, and short windows of the novels."""
    shutil.copytree(NOVELS, folder.parent / "austen")
    texts = Texts(*(Windows.of(part.pieces[:1025], context=16) for part in course_text))
    monkeypatch.setattr(text, "load", lambda: texts)
    reading = Recipe(epochs=2, batch_size=16, flip=False, shift=15)
    small = Baseline(
        lambda: gpt(width=16, blocks=1, heads=2, head_width=8, neurons=16),
        (reading,),
        text=True,
    )
    monkeypatch.setitem(BASELINES, "gpt", small)
    return texts


def test_a_text_network_is_kept_in_16_bits_with_its_losses_and_what_it_writes(
    folder, few_windows
):
    checkpoints.train("gpt", threads=1)
    assert {path.name for path in folder.iterdir()} == {
        *("gpt.safetensors", "baselines.json")
    }
    facts, model = baseline_facts("gpt"), baseline("gpt")
    assert facts["bytes"] < 2.5 * facts["parameters"]
    assert model.head.weight is model.embedding.weight
    for part in ("validation", "test", "kept_out"):
        found = losses(model, getattr(few_windows, part)).mean().item()
        assert facts[f"{part}_loss"] == pytest.approx(found, abs=1e-4)
    samples = facts["stages"][0]["samples"]
    assert list(samples) == ["1", "2"]
    assert all(each.startswith(checkpoints.PROMPT) for each in samples.values())


def test_a_stopped_training_goes_on_to_the_same_file(folder, few_windows, monkeypatch):
    checkpoints.train("gpt", threads=1)
    whole = (folder / "gpt.safetensors").read_bytes()
    sample, calls = checkpoints._sample, []

    def stop_in_the_second_epoch(model):
        calls.append(model)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample(model)

    (folder / "gpt.safetensors").unlink()
    monkeypatch.setattr(checkpoints, "_sample", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.train("gpt", threads=1)
    assert (folder / "gpt-0.unfinished").is_file()
    monkeypatch.setattr(checkpoints, "_sample", sample)
    checkpoints.train("gpt", threads=1)
    assert (folder / "gpt.safetensors").read_bytes() == whole


def test_a_name_that_is_no_network_writes_nothing(folder):
    with pytest.raises(ValueError, match="alexnet"):
        checkpoints.train("alexnet", threads=1)
    assert not folder.exists()


def test_the_half_vgg_starts_as_the_trained_one_without_its_smallest_filters():
    start, wide = checkpoints.start("vgg_half"), baseline("vgg")
    assert {k: v.shape for k, v in start.state_dict().items()} == {
        k: v.shape for k, v in build("vgg_half").state_dict().items()
    }
    norms = wide[0].weight.detach().abs().flatten(1).sum(1)
    kept = norms.topk(32).indices.sort().values
    assert torch.equal(start[0].weight, wide[0].weight[kept])
    assert torch.equal(
        checkpoints.start("lenet300").fc1.weight, build("lenet300", 0).fc1.weight
    )


def test_the_thin_vgg_starts_as_the_half_one_without_its_smallest_filters():
    start, half = checkpoints.start("vgg_thin_1"), baseline("vgg_half")
    assert {k: v.shape for k, v in start.state_dict().items()} == {
        k: v.shape for k, v in build("vgg_thin_1").state_dict().items()
    }
    kept = half[0].weight.detach().abs().flatten(1).sum(1).topk(8).indices.sort().values
    assert torch.equal(start[0].weight, half[0].weight[kept])


@pytest.mark.parametrize("name", BASELINES)
def test_what_is_recorded_of_a_shipped_network_is_what_the_table_says(name):
    made, recorded = BASELINES[name], baseline_facts(name)["stages"]
    assert tuple(Recipe(**stage["recipe"]) for stage in recorded) == made.stages
    assert [stage["seed"] for stage in recorded] == [
        made.seed + number for number in range(len(recorded))
    ]
    losses = [f"temperature={each}" for each in made.temperatures]
    for stage, loss in zip(
        recorded, losses or ["CrossEntropy()"] * len(recorded), strict=True
    ):
        assert loss in stage.get("loss", "CrossEntropy()")
