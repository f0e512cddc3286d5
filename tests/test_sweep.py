"""The capstone's search: what is chosen depends on nothing but the trials before, every
trial is kept, and what a trial writes is what it says."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import onnx
import onnxruntime
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tools import cluster, sweep
from tools.start.files import StartError
from tools.sweep import (
    COMPLETE,
    FAILED,
    RANDOM,
    SEARCHES,
    TOLD,
    TPE,
    Plan,
    Record,
    Trial,
)
from utils import baselines, capstone, deploy, quantization, training
from utils.capstone import judge
from utils.data import Data
from utils.exercises import load
from utils.files import DamagedFileError

lesson, four_bits = sweep.lesson, load("12_capstone", "four_bits")
SPACE = {
    "kind": ("good", "bad"),
    "width": range(4, 33, 4),
    "rate": lesson.Between(0.01, 1.0),
}


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def plan(tmp_path) -> Plan:
    return Plan(SPACE, tmp_path / "toy.json", "toy", trials=14, batch=4, startup=4)


def toy(trial: Trial) -> Record:
    """A trial that takes no time: wide is good, and so is a rate of 0.1."""
    found = trial.parameters
    if found["width"] == 8:
        return {"state": FAILED, "error": "ValueError: eight", "cpu_seconds": 0.1}
    lost = abs(math.log10(found["rate"]) + 1) + (found["kind"] == "bad")
    accuracy = 1 - 1 / found["width"] - 0.2 * lost
    sizes = {"bytes": 100 * found["width"], "macs": found["width"] ** 2}
    return {"state": COMPLETE, "validation_accuracy": accuracy, "cpu_seconds": 0.1} | (
        sizes
    )


def in_turn(trials: list[Trial]) -> Iterator[tuple[int, Record]]:
    yield from ((place, toy(trial)) for place, trial in enumerate(trials))


def last_first(trials: list[Trial]) -> Iterator[tuple[int, Record]]:
    yield from reversed([*in_turn(trials)])


class StoppedError(Exception):
    """What a power cut does."""


def stopping(after: int):
    """Workers that are gone after so many trials in all."""
    left = iter(range(after))

    def workers(trials: list[Trial]) -> Iterator[tuple[int, Record]]:
        for each in last_first(trials):
            if next(left, None) is None:
                raise StoppedError
            yield each

    return workers


# ------------------------------------------------------------------------ the searches


def test_all_trials_are_kept_with_what_came_of_them(plan):
    records = sweep.go_on(plan, in_turn)
    kept = sweep.read(plan)
    assert sorted(records, key=str) == sorted(kept, key=str)
    for search in SEARCHES:
        own = [each for each in kept if each["search"] == search]
        assert [each["number"] for each in own] == list(range(plan.trials))
    states = {each["state"] for each in kept}
    assert states == {COMPLETE, FAILED}
    assert all("error" in each for each in kept if each["state"] == FAILED)


def test_the_order_in_which_trials_are_done_does_not_matter(plan, tmp_path):
    sweep.go_on(plan, in_turn)
    other = replace(plan, path=tmp_path / "other" / "toy.json")
    sweep.go_on(other, last_first)
    assert plan.path.read_bytes() == other.path.read_bytes()


@given(st.integers(0, 42))
@settings(max_examples=8, deadline=None)
def test_an_interrupted_search_goes_on_to_the_same_trials(tmp_path_factory, after):
    folder = tmp_path_factory.mktemp("sweep")
    plan = Plan(SPACE, folder / "toy.json", "toy", trials=14, batch=4, startup=4)
    whole = replace(plan, path=folder / "whole" / "toy.json")
    sweep.go_on(whole, in_turn)
    try:
        sweep.go_on(plan, stopping(after))
    except StoppedError:
        there = len(sweep.read(plan)) if plan.path.is_file() else 0
        assert there == after
    carried_out = []
    sweep.go_on(plan, lambda trials: _noting(trials, carried_out))
    assert len(carried_out) == len(SEARCHES) * plan.trials - after
    assert plan.path.read_bytes() == whole.path.read_bytes()


def _noting(trials: list[Trial], seen: list[Trial]) -> Iterator[tuple[int, Record]]:
    for place, found in in_turn(trials):
        seen.append(trials[place])
        yield place, found


def test_two_workers_give_what_one_process_gives(plan, tmp_path):
    plan = replace(plan, trials=6, batch=3, startup=3)
    sweep.go_on(plan, in_turn)
    other = replace(plan, path=tmp_path / "other" / "toy.json")
    with cluster.connected(2) as client:
        sweep.go_on(other, lambda trials: cluster.results_of(client, toy, trials))
    assert plan.path.read_bytes() == other.path.read_bytes()


def test_tpe_learns_and_chance_does_not(tmp_path):
    plan = Plan(SPACE, tmp_path / "toy.json", "toy", trials=60, startup=20)
    records = sweep.go_on(plan, in_turn)

    def good(search: str) -> int:
        own = [each for each in records if each["search"] == search]
        return sum(each["parameters"]["kind"] == "good" for each in own[20:])

    assert good(TPE) > 30 > good(RANDOM) > 10


@pytest.mark.parametrize("search", SEARCHES)
def test_only_tpe_that_is_told_the_budget_knows_it(plan, monkeypatch, search):
    plan = replace(plan, trials=40, batch=20, startup=10)
    records = sweep.go_on(plan, in_turn)
    own = [each for each in records if each["search"] == search]

    def chosen(size: int, accuracy: float) -> list[Trial]:
        budget = replace(capstone.BUDGET, bytes=size, accuracy=accuracy)
        monkeypatch.setattr(sweep, "BUDGET", budget)
        return sweep.chosen(plan, search, own, 1)

    # either nothing is within it but small files, or nothing but accurate ones
    assert (chosen(600, 0.1) != chosen(9000, 0.9)) == (search == TOLD)


def test_the_first_trials_of_tpe_are_not_those_of_chance(plan):
    first = [str(sweep.chosen(plan, s, [], 0)[0].parameters) for s in SEARCHES]
    assert len(set(first)) == len(first)


def test_a_choice_lies_in_the_space(plan):
    for record in sweep.go_on(plan, in_turn):
        found = record["parameters"]
        assert found["kind"] in SPACE["kind"] and found["width"] in SPACE["width"]
        assert 0.01 <= found["rate"] <= 1


# ------------------------------------------------------------------------ what is kept


def test_a_damaged_file_is_refused_and_left_as_it_is(plan):
    sweep.go_on(plan, in_turn)
    text = plan.path.read_text()
    changed = text.replace('"number": 3', '"number": 4', 1)
    plan.path.write_text(changed)
    with pytest.raises(DamagedFileError, match=r"toy\.json is damaged.*git checkout"):
        sweep.go_on(plan, in_turn)
    assert plan.path.read_text() == changed


def test_trials_of_another_search_are_refused_and_left_as_they_are(plan):
    sweep.go_on(plan, in_turn)
    before = plan.path.read_bytes()
    with pytest.raises(StartError, match=r"toy\.json keeps trials of another space"):
        sweep.go_on(replace(plan, identity="other"), in_turn)
    assert plan.path.read_bytes() == before


def test_a_kept_trial_that_would_not_be_chosen_is_refused(plan):
    with pytest.raises(StoppedError):
        sweep.go_on(plan, stopping(6))
    records = sweep.read(plan)
    records[-1]["parameters"]["width"] = 999
    sweep.write(plan, records)
    with pytest.raises(StartError, match=r"keeps another trial random 3 than Optuna"):
        sweep.go_on(plan, in_turn)


def test_choices_that_differ_in_the_last_digits_are_one():
    one = {"kind": "good", "width": 8, "rate": 0.1}
    assert sweep.same(one, one | {"rate": 0.1 * (1 + 1e-12)})
    for other in ({"rate": 0.1001}, {"width": 12}, {"kind": "bad"}, {"more": 1}):
        assert not sweep.same(one, one | other)


# ------------------------------------------------------------------------------ a trial


@pytest.fixture
def few(course_data, monkeypatch) -> Data:
    """A few pictures, all of which a trial sees."""
    monkeypatch.setattr(lesson, "ROUND", 512)
    monkeypatch.setattr(lesson, "CHOOSING", 200)
    train, validation = course_data.train[:2048], course_data.validation[:400]
    return Data(train, validation, course_data.test[:2])


FIRST = {
    **{"start": "vgg_thin", "width_1": 6, "width_2": 12, "width_3": 24},
    **{"width_4": 40, "width_5": 48, "score": "l1", "cuts": 1, "learning_rate": 0.01},
    **{"calmer": 0.3, "shift": 0, "bits": 8, "rounding": "after"},
}
OTHERS = [
    {"bits": 4, "rounding": "in training"},
    {"start": "vgg_half", "cuts": 2, "score": "taylor", "shift": 1},
    {"start": "scratch", "bits": 32},
]


@pytest.mark.parametrize("change", OTHERS, ids=str)
def test_a_trial_is_the_same_each_time_and_says_what_it_wrote(few, tmp_path, change):
    pipeline = lesson.Pipeline.of(FIRST | change)
    paths = [tmp_path / f"{number}.onnx" for number in range(2)]
    with sweep.measure.pinned(1):
        one, again = (lesson.carry_out(pipeline, 7, few, path) for path in paths)
    assert one == again
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert one["bytes"] == paths[0].stat().st_size
    assert one["widths"] == [6, 12, 24, 40, 48]
    assert one["macs"] == sum(_macs(one["widths"]))
    judge.check_graph(paths[0])
    right = training.evaluate(deploy.Session(paths[0]), few.validation[200:])
    assert one["held_back_accuracy"] == round(right, 4)


def test_another_seed_draws_other_pictures_and_other_weights(few):
    one, again, other = (lesson.drawn(few.train, seed).labels for seed in (7, 7, 8))
    assert torch.equal(one, again) and not torch.equal(one, other)
    pipeline = lesson.Pipeline.of(FIRST | {"start": "scratch"})
    first, last = (
        lesson.convolutions(lesson.started(pipeline, seed, few.train))["0.weight"]
        for seed in (7, 8)
    )
    assert not torch.equal(first.weight, last.weight)


def _macs(widths: list[int]) -> Iterator[int]:
    """Of each layer of a VGG."""
    places = (28 * 28, 28 * 28, 14 * 14, 14 * 14, 7 * 7)
    for before, width, size in zip([1, *widths], widths, places, strict=False):
        yield 9 * before * width * size
    yield 10 * widths[-1]


def test_a_width_that_the_start_does_not_have_is_its_own(few):
    wide = {
        f"width_{place}": width for place, width in enumerate((12, 16, 40, 64, 96), 1)
    }
    pipeline = lesson.Pipeline.of(FIRST | wide)
    found = lesson.started(pipeline, 0, few.train)
    assert lesson.widths(found) == (8, 16, 32, 48, 64)


def test_what_leaves_has_the_lowest_score(few):
    thin = baselines.baseline("vgg_thin")
    found = lesson.narrowed(thin, (8, 16, 32, 48, 60), "l1", 0, few.train)
    norms, left = (
        [*lesson.convolutions(each).values()][-1].weight.detach().abs().sum((1, 2, 3))
        for each in (thin, found)
    )
    assert torch.equal(left.sort().values, norms.sort().values[4:])


def test_a_trial_that_fails_is_an_outcome(monkeypatch):
    def fail(*_):
        raise ValueError("the training loss is nan")

    monkeypatch.setattr(lesson, "carry_out", fail)
    found = sweep.attempt(Trial(TPE, 3, FIRST))
    assert found["state"] == FAILED
    assert found["error"] == "ValueError: the training loss is nan"
    assert "failed: ValueError" in sweep.sentence(Trial(TPE, 3, FIRST), found)


def test_weights_of_four_bits_are_those_of_the_rounded_network(few, tmp_path):
    thin = baselines.baseline("vgg_thin")
    floats, path = tmp_path / "floats.onnx", tmp_path / "four.onnx"
    whole = deploy.to_onnx(thin, few.train.images[:1], floats)
    size = four_bits.to_four_bits(floats, path)
    assert size == path.stat().st_size < whole / 6
    folded = quantization.fold_batchnorm(thin)
    rounded = quantization.quantize_weights(folded, 4)
    found = deploy.parity(rounded, deploy.Session(path), few.validation.images)
    assert found.difference < 1e-4 and found.agreement == 1
    judge.check_graph(path)


def test_the_runtime_makes_floats_of_four_bits_when_it_loads_them(few, tmp_path):
    """What it runs then is what it makes of the file in floats."""
    floats, path = tmp_path / "floats.onnx", tmp_path / "four.onnx"
    deploy.to_onnx(baselines.baseline("vgg_thin"), few.train.images[:1], floats)
    four_bits.to_four_bits(floats, path)
    runs = []
    for each in (floats, path):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(each.with_suffix(".loaded"))
        onnxruntime.InferenceSession(each, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
        operators = Counter(node.op_type for node in graph.node)
        runs.append((operators, Counter(t.data_type for t in graph.initializer)))
    assert runs[0] == runs[1]
    assert onnx.TensorProto.INT4 not in runs[1][1] and "Cast" not in runs[1][0]


def test_an_odd_number_of_four_bit_weights_is_stored(tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 3))
    floats, path = tmp_path / "floats.onnx", tmp_path / "four.onnx"
    deploy.to_onnx(network, torch.zeros(1, 1, 3, 3), floats)
    four_bits.to_four_bits(floats, path)
    rounded = quantization.quantize_weights(network, 4)
    found = deploy.parity(rounded, deploy.Session(path), torch.randn(50, 1, 3, 3))
    assert found.difference < 1e-5


# ------------------------------------------------------------------------- the front

RECORDS = st.lists(
    st.builds(
        lambda size, right, done: {
            "bytes": size,
            "validation_accuracy": right / 10,
            "state": COMPLETE if done else FAILED,
        },
        st.integers(1, 8),
        st.integers(0, 10),
        st.booleans(),
    ),
    max_size=30,
)


@given(RECORDS)
@settings(deadline=None)
def test_nothing_on_the_front_is_beaten_and_all_else_is(records):
    done = [each for each in records if each["state"] == COMPLETE]

    def beaten(one: Record) -> bool:
        pair = one["bytes"], -one["validation_accuracy"]
        others = [(each["bytes"], -each["validation_accuracy"]) for each in done]
        return any(a <= pair[0] and b <= pair[1] and (a, b) != pair for a, b in others)

    found = lesson.front(records)
    assert sorted(map(id, found)) == sorted(id(e) for e in done if not beaten(e))
    assert [each["bytes"] for each in found] == sorted(each["bytes"] for each in found)


def test_the_front_is_made_again_and_timed(few, tmp_path, monkeypatch):
    """Both members, and the reference; one is not what was kept."""
    ready = tmp_path / "ready.onnx"
    deploy.to_onnx(baselines.baseline("vgg_thin"), few.train.images[:1], ready)
    found = {"bytes": 10, "validation_accuracy": 0.91, "held_back_accuracy": 0.92}
    carried = []  # bits

    def carry_out(pipeline, seed, pictures, path):
        path.write_bytes(ready.read_bytes())
        carried.append(pipeline.bits)
        return found | {"macs": 7, "bytes": 10 * (1 + seed // sweep.AGAIN)}

    monkeypatch.setattr(lesson, "carry_out", carry_out)
    monkeypatch.setattr(sweep, "reference", lambda path: _reference(ready, path))
    monkeypatch.setattr(sweep, "ROUNDS", 1)
    about = {"parameters": FIRST, "state": COMPLETE, "seed": 5, "macs": 7}
    as_kept = about | found | {"search": TPE, "number": 5}
    changed = as_kept | {"search": RANDOM, "bytes": 9, "validation_accuracy": 0.9}
    low = as_kept | {"bytes": 1, "validation_accuracy": 0.5}
    plan = Plan(SPACE, tmp_path / "toy.json", "toy")
    sweep.write(plan, [as_kept, changed, low])
    sweep.write_front(plan)
    runs = json.loads((tmp_path / "sweep_front.json").read_text())["runs"]
    names = [(each["search"], each.get("as_kept")) for each in runs]
    assert names == [(RANDOM, False), (TPE, True), ("reference", None)]
    assert runs[1]["other_seed"]["bytes"] == 20 and runs[1]["bytes"] == 10
    for each in runs:
        low, high = each["speedup_quartiles"]
        assert 1 < low <= each["speedup"] <= high
    assert ["floats" in each for each in runs] == [True, True, False]
    assert runs[0]["floats"]["speedup"] > 1
    assert carried == [8, 8, 32] * 2


def _reference(ready, path) -> Record:
    path.write_bytes(ready.read_bytes())
    accuracies = {"validation_accuracy": 0.94, "held_back_accuracy": 0.94}
    return {"search": "reference", "number": 0, "bytes": 30} | accuracies


def test_without_a_trial_there_is_no_front(tmp_path):
    with pytest.raises(StartError, match="run `make sweep` first"):
        sweep.write_front(Plan(SPACE, tmp_path / "toy.json", "toy"))


# ----------------------------------------------------------------------- the kept ones

PLAN = sweep.plan_of_the_lesson()


def test_the_kept_trials_are_those_that_would_be_chosen_today():
    """All of them, none added and none left out, each batch from those before it."""
    records = sweep.read(PLAN)
    for search in SEARCHES:
        own = [each for each in records if each["search"] == search]
        assert [each["number"] for each in own] == list(range(PLAN.trials))
        for batch in range(PLAN.batches):
            first = PLAN.numbers(batch)[0]
            for trial in sweep.chosen(PLAN, search, own[:first], batch):
                kept = own[trial.number]
                assert sweep.same(kept["parameters"], trial.parameters)
                assert kept["seed"] == trial.number


def test_the_kept_trials_say_what_came_of_them():
    for record in sweep.read(PLAN):
        if record["state"] == FAILED:
            assert record["error"]
            continue
        pipeline = lesson.Pipeline.of(record["parameters"])
        assert record["macs"] == sum(_macs(record["widths"]))
        assert all(map(int.__le__, record["widths"], pipeline.widths))
        assert 0 <= record["validation_accuracy"] < 0.96


def test_what_was_measured_is_the_front_of_the_kept_trials():
    (*members, last), records = lesson.trials("sweep_front"), sweep.read(PLAN)
    front = [
        (each["search"], each["number"])
        for each in lesson.front(records)
        if each["validation_accuracy"] >= lesson.SHOWN
    ]
    assert [(each["search"], each["number"]) for each in members] == front
    assert last["search"] == "reference"
