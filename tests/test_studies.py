"""The long studies: read in words, written after every run, gone on with where they
stopped, and what is committed is what would come out today.
"""

import json
import pickle
import runpy
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from tests.strategies import NO_FILES
from tools import studies as tool
from tools import sweep
from utils import data, distillation, masks, measure, studies, text, training
from utils.data import Data
from utils.files import DamagedFileError, read_sealed, sealed
from utils.schedules import Cubic, RigL, SparseFromStart, rewire
from utils.studies import Run, Spread, Study, Train, Untrained, Work
from utils.training import Recipe

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder of results of a lesson, the one that is read and written."""
    monkeypatch.setattr(studies, "LESSONS", tmp_path)
    folder = tmp_path / "00_some" / "results"
    folder.mkdir(parents=True)
    return folder


# ------------------------------------------------------------------- what the labs read

RUNS = [
    {
        "method": method,
        "sparsity": sparsity,
        "seed": seed,
        "validation_accuracy": accuracy,
        "seconds": 10 * seed,
    }
    for method, sparsity, seed, accuracy in [
        ("cubic", 0.9, 0, 0.5),
        ("cubic", 0.9, 1, 0.75),
        ("cubic", 0.9, 2, 0.25),
        ("cubic", 0.98, 0, 0.125),
        ("RigL", 0.9, 0, 0.875),
    ]
]


@pytest.fixture
def recorded(folder) -> Path:
    """A file of five runs."""
    path = folder / "some.json"
    path.write_bytes(sealed("some.json", {"about": "for the tests", "runs": RUNS}))
    return path


def test_runs_are_those_that_are_like_where_in_the_order_of_the_file(recorded):
    assert studies.runs("some") == RUNS
    assert studies.runs("some", method="cubic") == RUNS[:4]
    assert studies.runs("some", method="cubic", sparsity=0.98) == [RUNS[3]]
    assert studies.runs("some", seed=0) == [RUNS[0], RUNS[3], RUNS[4]]


def test_spread_is_over_the_seeds_of_one_setting(recorded):
    assert studies.spread("some", method="cubic", sparsity=0.9) == Spread(
        mean=0.5, low=0.25, high=0.75, seeds=3
    )
    assert studies.spread("some", "seconds", method="cubic", sparsity=0.9) == Spread(
        10, 0, 20, 3
    )
    assert studies.spread("some", method="RigL") == Spread(0.875, 0.875, 0.875, 1)


def test_bands_are_the_lower_and_the_upper_ends():
    assert studies.bands(
        {"a": Spread(0.5, 0.25, 0.75, 3), "b": Spread(0.875, 0.8, 0.9, 2)}
    ) == (
        [0.25, 0.8],
        [0.75, 0.9],
    )
    assert studies.bands({}) == ([], [])


def test_a_mistyped_name_lists_the_known_ones(recorded):
    with pytest.raises(
        ValueError,
        match=r"runs of some have no sede\. They have: method, seconds, seed",
    ):
        studies.runs("some", sede=0)
    with pytest.raises(ValueError, match="entry='accuracy' is not in the runs of some"):
        studies.spread("some", "accuracy", method="RigL")


@pytest.mark.parametrize("read", [studies.runs, studies.spread])
def test_a_missing_file_is_named_with_its_repair(folder, read):
    with pytest.raises(
        DamagedFileError,
        match=r"some\.json is missing.*git checkout -- lessons.*make results ARGS=some",
    ) as caught:
        read("some")
    assert str(folder.parents[1]) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"runs": [{"seed": 0',
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"about": "x"}',
        b'{"runs": 5}',
        b'{"runs": [1]}',
    ],
)
def test_a_damaged_file_is_named_with_its_repair(recorded, content):
    recorded.write_bytes(content)
    with pytest.raises(
        DamagedFileError, match=r"damaged.*make results ARGS=some"
    ) as caught:
        studies.runs("some", seed=0)
    assert str(recorded) in str(caught.value)


def test_another_number_in_the_file_is_noticed(recorded):
    content = recorded.read_text()
    recorded.write_text(content.replace("0.875", "0.835"))
    with pytest.raises(DamagedFileError, match=r"some\.json is damaged.*its sha256"):
        studies.spread("some", method="RigL")


@pytest.mark.parametrize("content", [{}, {"runs": 5}, {"runs": [1]}, {"runs": None}])
def test_sealed_facts_that_are_no_runs_are_damage_too(recorded, content):
    recorded.write_bytes(sealed(recorded.name, content))
    with pytest.raises(DamagedFileError, match=r"some\.json is damaged"):
        studies.runs("some")


def test_the_runs_of_another_study_are_not_taken(recorded):
    recorded.with_name("other.json").write_bytes(recorded.read_bytes())
    with pytest.raises(DamagedFileError, match=r"other\.json is damaged"):
        studies.runs("other")


@pytest.mark.parametrize("name", ["*", "s?me", "**/some", "n" * 300, "zero\0byte"])
def test_a_name_is_no_pattern_and_may_be_anything(recorded, name):
    with pytest.raises(DamagedFileError, match=r"is missing|cannot be read"):
        studies.runs(name)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "circle"])
def test_what_is_no_file_is_refused_and_nobody_waits_for_it(recorded, kind):
    recorded.unlink()
    NO_FILES[kind](recorded)
    with pytest.raises(DamagedFileError, match=r"some\.json cannot be read.*checkout"):
        studies.runs("some")


def test_no_run_like_that_is_said(recorded):
    with pytest.raises(ValueError, match=r"some has no run with \{'method': 'SET'\}"):
        studies.runs("some", method="SET")
    with pytest.raises(ValueError, match="no run"):
        studies.spread("some", sparsity=0.5)
    recorded.write_bytes(sealed(recorded.name, {"runs": []}))
    with pytest.raises(ValueError, match="no run"):
        studies.runs("some")


def test_a_spread_over_two_settings_is_refused(recorded):
    with pytest.raises(
        ValueError,
        match=r"\{'method': 'cubic'\} does not single out one setting of some: a seed",
    ):
        studies.spread("some", method="cubic")


# ----------------------------------------------------------------- how they are written

DONE: list[int] = []  # the seeds of the runs that were carried out


@dataclass(frozen=True)
class Count:
    """A step that costs nothing: notes its number; stops where the file `stop` is."""

    number: int
    path: Path
    factor: int = 1

    def carry_out(self, work: Work) -> None:
        if work.train is data.load().train:  # no probe
            if self.number == 2 and (self.path.parent / "stop").exists():
                raise KeyboardInterrupt
            DONE.append(self.number)
        work.history += [self.number / 4]
        work.signs += [float(self.factor)]
        work.found["validation_accuracy"] = self.number / 4


def small(path: Path, *, factor: int = 1, method: str = "some", runs: int = 3) -> Study:
    """A study of three runs."""

    def due():
        for seed in range(runs):
            settings = {"method": method, "seed": seed}
            step = Count(seed, path, factor)
            yield Run(settings, Untrained("lenet300", 0), (step,))

    return Study("small", "What it is about.", due, path)


@pytest.fixture
def study(folder) -> Study:
    """That study; nothing of it is done yet."""
    DONE.clear()
    return small(folder / "small.json")


def test_a_study_is_written_after_each_run(study, monkeypatch, capsys):
    sizes, write = [], tool.write
    monkeypatch.setattr(
        tool,
        "write",
        lambda *what: (
            write(*what)
            or sizes.append(len(json.loads(study.path.read_text())["runs"]))
        ),
    )
    tool.bring_up_to_date([study])
    assert DONE == [0, 1, 2] and sizes == [0, 1, 2, 3]
    # and no half-written one
    assert [path.name for path in study.path.parent.iterdir()] == ["small.json"]
    text = study.path.read_text()
    record = json.loads(text)
    assert text.endswith("}\n")
    assert record["about"] == "What it is about."
    assert record["command"] == "make results ARGS=small"
    assert [(run["seed"], run["validation_accuracy"]) for run in record["runs"]] == [
        (0, 0.0),
        (1, 0.25),
        (2, 0.5),
    ]
    for run in record["runs"]:
        assert run["seconds"] == 0 and run["threads"] == torch.get_num_threads()
        assert run["torch"] == torch.__version__
    assert studies.spread("small") == Spread(0.25, 0.0, 0.5, 3)
    assert (
        capsys.readouterr().out.splitlines()[1]
        == "small: {'method': 'some', 'seed': 1}: 25.00%, 0 s"
    )


def test_a_run_is_told_in_a_word():
    assert tool.result({"validation_accuracy": 0.5}) == "50.00%"
    assert tool.result({"validation_loss": 2.5}) == "2.5000 nats"
    assert tool.result({"cosines": {}}) == "done"


def test_an_interrupted_study_goes_on_where_it_stopped(study, capsys):
    stop = study.path.parent / "stop"
    stop.touch()
    with pytest.raises(KeyboardInterrupt):
        tool.bring_up_to_date([study])
    first = studies.runs("small")
    assert [run["seed"] for run in first] == [0, 1]
    stop.unlink()
    capsys.readouterr()
    tool.bring_up_to_date([study])
    assert DONE == [0, 1, 2]
    assert studies.runs("small")[:2] == first and len(studies.runs("small")) == 3
    assert capsys.readouterr().out.count("small:") == 1
    before = study.path.stat().st_mtime_ns
    tool.bring_up_to_date([study])
    assert DONE == [0, 1, 2] and study.path.stat().st_mtime_ns == before


def test_an_interruption_before_later_runs_loses_none_of_them(study):
    """A run in the middle is missing (somebody added a setting): stopping there keeps
    what comes behind it."""
    tool.bring_up_to_date([small(study.path, runs=4)])
    record = read_sealed(study.path, "")
    record["runs"].pop(2)
    study.path.write_bytes(sealed(study.path.name, record))
    (study.path.parent / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        tool.bring_up_to_date([small(study.path, runs=4)])
    assert [run["seed"] for run in studies.runs("small")] == [0, 1, 3]


def test_runs_that_the_study_no_longer_has_leave_its_file(study):
    tool.bring_up_to_date([study])
    record = read_sealed(study.path, "")
    record["runs"].insert(0, {"method": "other", "seed": 0})
    study.path.write_bytes(sealed(study.path.name, record))
    tool.bring_up_to_date([study])
    assert DONE == [0, 1, 2]
    assert [run["method"] for run in studies.runs("small")] == ["some"] * 3


def test_a_run_whose_numbers_changed_is_done_again(study):
    tool.bring_up_to_date([study])
    tool.bring_up_to_date([small(study.path, factor=2)])
    assert DONE == [0, 1, 2, 0, 1, 2] and len(studies.runs("small")) == 3


def test_a_stale_run_stays_in_the_file_until_it_is_done_again(study):
    tool.bring_up_to_date([study])
    (study.path.parent / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        tool.bring_up_to_date([small(study.path, factor=2)])
    found = [("factor=2" in run["identity"]) for run in studies.runs("small")]
    assert found == [True, True, False]


def test_a_damaged_file_is_put_aside_and_its_runs_are_done_again(study, capsys):
    tool.bring_up_to_date([study])
    damaged = study.path.read_bytes().replace(b"0.25", b"0.75")
    study.path.write_bytes(damaged)
    tool.bring_up_to_date([study])
    assert DONE == [0, 1, 2, 0, 1, 2]
    assert (study.path.parent / "small.damaged").read_bytes() == damaged
    assert "It is now small.damaged" in capsys.readouterr().out
    assert studies.spread("small").mean == 0.25


@pytest.mark.parametrize("entry", ["identity", "probe"])
def test_a_record_without_identity_or_probe_is_done_again(study, entry):
    tool.bring_up_to_date([study])
    record = read_sealed(study.path, "")
    del record["runs"][1][entry]
    study.path.write_bytes(sealed(study.path.name, record))
    tool.bring_up_to_date([study])
    assert DONE == [0, 1, 2, 1]


def test_a_run_is_done_again_when_the_code_makes_something_else_of_it(
    study, monkeypatch
):
    tool.bring_up_to_date([study])
    monkeypatch.setattr(studies, "probe", lambda run: [1.5])
    tool.bring_up_to_date([study])
    assert DONE == [0, 1, 2, 0, 1, 2]
    assert {tuple(run["probe"]) for run in studies.runs("small")} == {(1.5,)}


@pytest.mark.parametrize("name", sorted(studies.find()))
def test_a_run_arrives_at_a_worker_as_it_was_sent(name):
    """What two workers make of runs is in test_cluster.py."""
    for run in studies.find()[name].runs():
        arrived = pickle.loads(pickle.dumps(run))
        assert studies.identity(arrived) == studies.identity(run)
        assert arrived.settings == run.settings and arrived.text == run.text


def test_probes_are_those_of_this_process_whoever_makes_them(study, monkeypatch):
    """By workers from the moment that it has taken too long here."""
    asked = []

    class Workers(tool.Crew):
        alone = False

        def results_of(self, function, items, ahead):
            asked.append(len(items))
            yield from reversed([(p, function(each)) for p, each in enumerate(items)])

    several = [small(study.path, factor=factor) for factor in (1, 2, 3)]
    dues = [list(each.runs()) for each in several]
    plain = tool.expected_of(dues, tool.Crew())
    firsts = [[numbers[0] for numbers in probes] for probes in plain]
    assert firsts == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    assert tool.expected_of(dues, Workers(2)) == plain and asked == [0]
    monkeypatch.setattr(tool, "WORTH", -1.0)
    assert tool.expected_of(dues, Workers(2)) == plain and asked == [0, 3]


def test_what_runs_share_is_found_wherever_it_is():
    """As a start, as what a mask is made of, as a teacher."""
    found = {}
    for name in ("tickets", "independent", "generalization", "dynamic"):
        book = tool.Book.of(studies.find()[name])
        jobs = [tool._job(book, place) for place in range(len(book.due))]
        found[name] = Counter(name for job in jobs for name in job.needs)
        assert [job.seconds for job in jobs] == [run["seconds"] for run in book.known]
    assert sorted(found["tickets"].values()) == [9, 9, 9]
    assert sorted(found["independent"].values()) == [3, 12]
    assert sorted(found["generalization"].values()) == 6 * [3] + 6 * [7]
    assert not found["dynamic"]


def test_numbers_of_the_command_are_checked(monkeypatch, capsys):
    for wrong in ("0", "-1", "two", "1.5", "10000"):
        with pytest.raises(SystemExit) as caught:
            tool.main(["--workers", wrong])
        assert caught.value.code == 2
        told = capsys.readouterr().err
        assert f"--workers: '{wrong}' must be a whole number from 1 to 1000" in told
    monkeypatch.setenv("SCHEDULER", "10.0.0.1")
    monkeypatch.setattr(tool, "WORTH", -1.0)
    with pytest.raises(SystemExit, match=r"SCHEDULER=10\.0\.0\.1 is no address"):
        tool.main(["deployment"])


def test_a_name_that_is_no_study_is_an_error_of_the_command(monkeypatch, capsys):
    known = ", ".join(studies.find())
    monkeypatch.setattr(sys, "argv", ["studies.py", "structured", "dynamics"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(PROJECT / "tools" / "studies.py"), run_name="__main__")
    assert caught.value.code == 2
    assert f"no such study: dynamics. Known: {known}." in capsys.readouterr().err


# ------------------------------------------------------------------------ what a run is


def test_a_real_run_says_how_it_went(course_data):
    few = Data(
        course_data.train[:200], course_data.validation[:100], course_data.test[:100]
    )
    schedule = Cubic(0.9, updates=4)
    step = Train(Recipe(epochs=2, batch_size=40), 0, schedule)
    run = Run({"seed": 0}, Untrained("lenet300", 0), (step,))
    work = studies.carry_out(run, few)
    assert len(work.history) == len(work.losses) == 2
    assert 0.1 < work.found["validation_accuracy"] == work.history[-1] < 1
    assert repr(schedule) in studies.identity(run)
    assert not hasattr(schedule, "model")  # the run's own stays as it was


RUN = Run({"seed": 0}, Untrained("lenet300", 0), (Train(Recipe(), 0, Cubic(0.9)),))


@pytest.mark.parametrize(
    "other",
    [
        replace(RUN, start=Untrained("lenet300", 1)),
        replace(RUN, start=studies.Shipped("lenet300")),
        replace(RUN, steps=(Train(Recipe(learning_rate=1e-3), 0, Cubic(0.9)),)),
        replace(RUN, steps=(Train(Recipe(optimizer="adam"), 0, Cubic(0.9)),)),
        replace(RUN, steps=(Train(Recipe(weight_decay=0.0), 0, Cubic(0.9)),)),
        replace(RUN, steps=(Train(Recipe(), 1, Cubic(0.9)),)),
        replace(RUN, steps=(Train(Recipe(), 0, Cubic(0.9, end=0.6)),)),
        replace(RUN, steps=(Train(Recipe(), 0, RigL(0.9)),)),
        replace(RUN, steps=(*RUN.steps, studies.Prune(studies.Magnitude(0.9)))),
    ],
)
def test_each_number_of_a_run_is_in_its_identity(other):
    assert studies.identity(other) != studies.identity(RUN)


def test_the_weights_of_networks_and_the_data_are_in_an_identity(monkeypatch):
    lenet = studies.Shipped("lenet300")
    lesson = studies.Taught(lenet, temperature=4.0)
    run = replace(RUN, start=lenet, steps=(Train(Recipe(), 0, lesson=lesson),))
    warmer = replace(lesson, temperature=2.0)
    before = studies.identity(run)
    assert before.count("sha256=") == 2
    other = replace(run, steps=(Train(Recipe(), 0, lesson=warmer),))
    assert studies.identity(other) != before
    with monkeypatch.context() as patch:
        patch.setattr(studies.baselines, "baseline_facts", lambda name: {"sha256": "1"})
        assert studies.identity(run) != before
    monkeypatch.setitem(data.PUBLISHED, "train-images-idx3-ubyte.gz", "1")
    assert studies.identity(run) != before


def test_no_identity_holds_an_address():
    """What is not said in words differs from process to process."""
    for study in studies.find().values():
        for run in study.runs():
            assert " at 0x" not in studies.identity(run)


# ------------------------------------------------------------------------------- probes


def run_of(name: str, **settings: object) -> Run:
    """The first run of a study with these settings."""
    due = studies.find()[name].runs()
    return next(run for run in due if settings.items() <= run.settings.items())


@contextmanager
def forgotten():
    """No trained network is remembered from before, nor afterwards."""
    studies._worked.cache_clear()
    yield
    studies._worked.cache_clear()


def squared(self, progress: float) -> float:
    return self.sparsity + (self.initial - self.sparsity) * (1 - progress) ** 2


def straight(self, progress: float) -> masks.Masks:
    fraction = self.fraction * (1 - progress)
    return {
        name: rewire(weight.detach(), self.masks[name], fraction, self.desire(weight))
        for name, weight in self.weights.items()
    }


def late_peak(optimizer, recipe: Recipe, steps: int):
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.learning_rate,
        total_steps=max(steps, 4) + 1,
        cycle_momentum=False,
        pct_start=0.4,
    )


def faster(optimizer, recipe: Recipe, steps: int, original=training._scheduler):
    more = replace(recipe, learning_rate=1.1 * recipe.learning_rate)
    return original(optimizer, more, steps)


def without_decay(parameters, lr: float, weight_decay: float):
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)


def without_square(logits, outputs, temperature, original=distillation.soft_loss):
    return original(logits, outputs, temperature) / temperature**2


CUBIC, SET, RIGL, DENSE, GRADUAL, TICKET, TAUGHT = (
    ("dynamic", {"method": "cubic"}),
    ("dynamic", {"method": "SET"}),
    ("dynamic", {"method": "RigL"}),
    ("dynamic", {"method": "dense"}),
    ("recovery", {"method": "gradual", "sparsity": 0.98}),
    ("tickets", {}),
    ("distillation", {"method": "LeNet teaches", "temperature": 2.0}),
)
CHANGES: dict[str, tuple[object, str, Callable, list]] = {
    "the exponent of Cubic": (Cubic, "level", squared, [CUBIC, GRADUAL, TAUGHT]),
    "the half cosine": (SparseFromStart, "update", straight, [SET, RIGL]),
    "where RigL grows": (
        RigL,
        "desire",
        lambda self, weight: self.random_like(weight),
        [RIGL],
    ),
    "the optimizer": (
        training.OPTIMIZERS,
        "adamw",
        torch.optim.Adam,
        [DENSE, RIGL, GRADUAL, TICKET],
    ),
    "the weight decay": (
        training.OPTIMIZERS,
        "adamw",
        without_decay,
        [DENSE, RIGL, GRADUAL, TICKET],
    ),
    "the learning rate": (
        training,
        "_scheduler",
        faster,
        [DENSE, RIGL, GRADUAL, TICKET],
    ),
    "where the rate peaks": (training, "_scheduler", late_peak, [DENSE, TICKET]),
    "masks.hold": (
        masks,
        "hold",
        lambda model, masks: lambda: None,
        [TICKET, ("structured", {"kind": "50% of the weights"})],
    ),
    "the soft loss": (distillation, "soft_loss", without_square, [TAUGHT]),
    "the flips": (
        training,
        "augment",
        lambda images, generator, flip, shift: images.clone(),
        [DENSE],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_probe_notices_a_change_of_the_code(change, monkeypatch):
    place, name, new, where = CHANGES[change]
    for study, settings in where:
        run = run_of(study, **settings)
        with forgotten(), monkeypatch.context() as patch:
            before = studies.probe(run)
            assert studies.agree(before, studies.probe(run))
            studies._worked.cache_clear()
            (patch.setitem if isinstance(place, dict) else patch.setattr)(
                place, name, new
            )
            assert not studies.agree(before, studies.probe(run)), (change, study)


def test_a_probe_is_the_same_each_time_and_leaves_the_threads_alone():
    torch.set_num_threads(2)
    try:
        assert studies.probe(run_of("dynamic")) == studies.probe(run_of("dynamic"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_probes_agree_within_a_small_tolerance():
    assert studies.agree([2.3, 0.05], [2.301, 0.0501])
    assert not studies.agree([2.3], [2.31])
    assert not studies.agree([2.3], [2.3, 1.0])
    assert not studies.agree([2.3], [float("nan")])


# -------------------------------------------------------------------- what is committed

STUDIES = studies.find()


def reading(shift: int = 9, *, novels: bool = True) -> Run:
    """A run on the novels."""
    recipe = Recipe(epochs=1, batch_size=4, flip=False, shift=shift)
    steps = (Train(recipe, 0), studies.Prune(studies.Magnitude(0.5)))
    return Run(
        {"seed": 0},
        Untrained("gpt_early", 0),
        (*steps, studies.ValidateLoss("loss")),
        text=novels,
    )


def test_a_run_can_have_the_novels_before_it(course_text):
    short = text.Texts(
        *(text.Windows.of(part.pieces[:257], context=16) for part in course_text)
    )
    work = studies.carry_out(reading(), short)
    expected = training.losses(work.model, short.validation).mean().item()
    assert work.found["loss"] == pytest.approx(expected, abs=1e-4)
    assert 5 < work.found["validation_loss"] < 8 and work.losses
    assert measure.sparsity(work.model) == pytest.approx(0.5, abs=1e-4)


def test_the_probe_of_a_text_reads_it_and_its_identity_names_it():
    first = studies.probe(reading())
    assert first == studies.probe(reading())
    assert not studies.agree(first, studies.probe(reading(shift=0)))
    assert studies.identity(reading()) != studies.identity(reading(novels=False))


@pytest.mark.parametrize("name", STUDIES)
def test_a_committed_study_is_what_would_come_out_today(name):
    """All runs, in order, each with the identity and the probe of today. The runs
    themselves are not carried out."""
    study = STUDIES[name]
    record, due = json.loads(study.path.read_text()), list(study.runs())
    repair = f"`make results ARGS={name}`"
    assert (record["about"], record["command"]) == (study.about, repair.strip("`"))
    assert len(record["runs"]) == len(due), repair
    for run, found, probe in zip(due, record["runs"], tool.expected(due), strict=True):
        assert {key: found.get(key) for key in run.settings} == run.settings, repair
        assert found.get("identity") == studies.identity(run), repair
        assert tool.is_fresh(found, run, probe), f"{run.settings} is stale: {repair}"


def epochs(part: object) -> int:
    """Of all training in the steps of a run."""
    if isinstance(part, Train):
        return part.recipe.epochs
    if isinstance(part, tuple):
        return sum(map(epochs, part))
    return sum(map(epochs, vars(part).values())) if hasattr(part, "tune") else 0


@pytest.mark.parametrize("name", STUDIES)
def test_a_committed_run_has_a_learning_curve(name):
    for run, found in zip(STUDIES[name].runs(), studies.runs(name), strict=True):
        assert ("history" in found) == (epochs(run.steps) > 0)
        entry = "validation_loss" if run.text else "validation_accuracy"
        if run.settings.get("network") == "MiniLM":  # it predicts nothing
            assert entry not in found and found["cosines"]
            continue
        if "history" in found:
            assert found["history"][-1] == found[entry]
            assert len(found["history"]) == epochs(run.steps)
        low, high = (0.5, 9) if run.text else (0.1, 1)
        assert low <= found[entry] < high


@pytest.mark.parametrize("name", STUDIES)
def test_no_two_runs_of_a_study_have_one_name(name):
    due = [json.dumps(dict(r.settings), sort_keys=True) for r in STUDIES[name].runs()]
    assert due and len(set(due)) == len(due)


def test_each_committed_file_is_of_a_study_or_of_the_search():
    files = sorted((PROJECT / "lessons").glob("*/results/*.json"))
    searched = set(sweep.lesson.RESULTS.glob("sweep*.json"))
    assert set(files) - searched == {study.path for study in STUDIES.values()}
