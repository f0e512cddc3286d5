"""The long studies: read in words, written after every run, gone on with where they
stopped, and complete."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from utils.results import Spread

from tools import results as studies
from utils import baselines, results
from utils.data import Data
from utils.files import DamagedFileError
from utils.schedules import Cubic
from utils.training import Recipe

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder of results, the one that is read and written."""
    monkeypatch.setenv("PRUNING_DATA", str(tmp_path))
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


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
    path.write_text(json.dumps({"about": "for the tests", "runs": RUNS}))
    return path


def test_runs_are_those_that_are_like_where_in_the_order_of_the_file(recorded):
    assert results.runs("some") == RUNS
    assert results.runs("some", method="cubic") == RUNS[:4]
    assert results.runs("some", method="cubic", sparsity=0.98) == [RUNS[3]]
    assert results.runs("some", seed=0) == [RUNS[0], RUNS[3], RUNS[4]]


def test_spread_is_over_the_seeds_of_one_setting(recorded):
    assert results.spread("some", method="cubic", sparsity=0.9) == Spread(
        mean=0.5, low=0.25, high=0.75, seeds=3
    )
    assert results.spread("some", "seconds", method="cubic", sparsity=0.9) == Spread(
        10, 0, 20, 3
    )
    assert results.spread("some", method="RigL") == Spread(0.875, 0.875, 0.875, 1)


def test_bands_are_the_lower_and_the_upper_ends():
    assert results.bands(
        {"a": Spread(0.5, 0.25, 0.75, 3), "b": Spread(0.875, 0.8, 0.9, 2)}
    ) == (
        [0.25, 0.8],
        [0.75, 0.9],
    )
    assert results.bands({}) == ([], [])


def test_a_mistyped_name_lists_the_known_ones(recorded):
    with pytest.raises(
        ValueError,
        match=r"runs of some have no sede\. They have: method, seconds, seed",
    ):
        results.runs("some", sede=0)
    with pytest.raises(ValueError, match="entry='accuracy' is not in the runs of some"):
        results.spread("some", "accuracy", method="RigL")


@pytest.mark.parametrize("read", [results.runs, results.spread])
def test_a_missing_file_is_named_with_its_repair(folder, read):
    with pytest.raises(
        DamagedFileError,
        match=r"missing.*git checkout -- data/results.*make results ARGS=some",
    ) as caught:
        read("some")
    assert str(folder / "some.json") in str(caught.value)


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
        results.runs("some", seed=0)
    assert str(recorded) in str(caught.value)


def test_no_run_like_that_is_said(recorded):
    with pytest.raises(ValueError, match=r"some has no run with \{'method': 'SET'\}"):
        results.runs("some", method="SET")
    with pytest.raises(ValueError, match="no run"):
        results.spread("some", sparsity=0.5)
    recorded.write_text(json.dumps({"runs": []}))
    with pytest.raises(ValueError, match="no run"):
        results.runs("some")


def test_a_spread_over_two_settings_is_refused(recorded):
    with pytest.raises(
        ValueError,
        match=r"\{'method': 'cubic'\} does not single out one setting of some: a seed",
    ):
        results.spread("some", method="cubic")


# ----------------------------------------------------------------- how they are written


@pytest.fixture
def done(folder, monkeypatch) -> list[int]:
    """A study of three runs in place of all others; the list grows by the number of
    each run that is really done.

    The last run fails while the file `stop` is there. Before each run the file must
    hold all earlier ones.
    """
    done, path = [], folder / "small.json"

    def work(number: int) -> dict:
        assert (
            len(json.loads(path.read_text())["runs"]) if path.exists() else 0
        ) == number
        if number == 2 and (folder / "stop").exists():
            raise KeyboardInterrupt
        done.append(number)
        return {
            "validation_accuracy": number / 4,
            "history": [0.25],
            "recipe": {"epochs": 1},
        }

    def small():
        """What it is about."""
        for number in range(3):
            yield {"method": "some", "seed": number}, lambda number=number: work(number)

    monkeypatch.setattr(studies, "STUDIES", {"small": small})
    return done


def test_a_study_is_written_after_each_run(done, folder, capsys):
    studies.study("small")
    assert done == [0, 1, 2]
    # and no half-written one
    assert [path.name for path in folder.iterdir()] == ["small.json"]
    text = (folder / "small.json").read_text()
    record = json.loads(text)
    assert text.endswith("}\n")
    assert (record["about"], record["command"]) == (
        "What it is about.",
        "make results ARGS=small",
    )
    assert record["torch"] == torch.__version__
    assert [
        (run["method"], run["seed"], run["validation_accuracy"])
        for run in record["runs"]
    ] == [
        ("some", 0, 0.0),
        ("some", 1, 0.25),
        ("some", 2, 0.5),
    ]
    assert all(run["seconds"] == 0 for run in record["runs"])
    assert results.spread("small") == Spread(0.25, 0.0, 0.5, 3)
    assert (
        capsys.readouterr().out.splitlines()[1]
        == "small: {'method': 'some', 'seed': 1}: 25.00%, 0 s"
    )


def test_an_interrupted_study_goes_on_where_it_stopped(done, folder, capsys):
    (folder / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        studies.study("small")
    assert [run["seed"] for run in results.runs("small")] == [0, 1]
    first = results.runs("small")
    (folder / "stop").unlink()
    capsys.readouterr()
    studies.study("small")
    assert done == [0, 1, 2]
    assert results.runs("small")[:2] == first
    assert len(results.runs("small")) == 3
    assert capsys.readouterr().out.count("small:") == 1
    studies.study("small")
    assert done == [0, 1, 2]


def test_an_interruption_before_later_runs_loses_none_of_them(done, folder):
    """A run in the middle is missing (somebody added a setting): stopping there keeps
    what comes behind it."""
    studies.study("small")
    record = json.loads((folder / "small.json").read_text())
    second = record["runs"].pop(1)
    (folder / "small.json").write_text(json.dumps(record))
    original = studies.STUDIES["small"]

    def stopped():
        for what, work in original():
            yield what, (work if what["seed"] != 1 else interrupted)

    def interrupted():
        raise KeyboardInterrupt

    stopped.__doc__ = original.__doc__
    studies.STUDIES["small"] = stopped
    with pytest.raises(KeyboardInterrupt):
        studies.study("small")
    assert [run["seed"] for run in results.runs("small")] == [0, 2] and second[
        "seed"
    ] == 1


def test_runs_that_the_study_no_longer_has_leave_its_file(done, folder):
    studies.study("small")
    record = json.loads((folder / "small.json").read_text())
    record["runs"].insert(0, {"method": "other", "seed": 0})
    (folder / "small.json").write_text(json.dumps(record))
    studies.study("small")
    assert done == [0, 1, 2]
    assert [run["method"] for run in results.runs("small")] == ["some"] * 3


def test_a_name_that_is_no_study_writes_nothing(folder):
    with pytest.raises(KeyError, match="dynamics"):
        studies.study("dynamics")
    assert not list(folder.iterdir())


def test_a_name_that_is_no_study_is_an_error_of_the_command(
    folder, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["results.py", "structured", "dynamics"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(PROJECT / "tools" / "results.py"), run_name="__main__")
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"no such study: dynamics. Known: {', '.join(studies.STUDIES)}." in said
    assert not list(folder.iterdir())


def test_a_real_run_says_how_it_was_trained(course_data, monkeypatch):
    few = Data(
        course_data.train[:200], course_data.validation[:100], course_data.test[:100]
    )
    monkeypatch.setattr(studies, "pictures", lambda: few)
    recipe, schedule = Recipe(epochs=2, batch_size=40), Cubic(0.9, updates=4)
    found = json.loads(
        json.dumps(studies.trained(baselines.build("lenet300", 0), recipe, 0, schedule))
    )
    assert Recipe(**found["recipe"]) == recipe
    assert found["schedule"] == repr(Cubic(0.9, updates=4))
    assert (
        len(found["history"]) == 2
        and found["history"][-1] == found["validation_accuracy"]
    )
    assert 0.1 < found["validation_accuracy"] < 1
    assert (
        studies.trained(baselines.build("lenet300", 0), recipe, 0)["schedule"] is None
    )


# -------------------------------------------------------------------- what is committed

COMMITTED = PROJECT / "data" / "results"


@pytest.mark.parametrize("name", studies.STUDIES)
def test_a_committed_study_is_complete(name):
    """It holds the runs that the study would do, all of them and in order. Nothing is
    run here."""
    path = COMMITTED / f"{name}.json"
    assert path.is_file(), f"{path} is missing: `make results ARGS={name}`"
    record = json.loads(path.read_text())
    due = [what for what, _ in studies.STUDIES[name]()]
    assert [
        {key: run.get(key) for key in what}
        for what, run in zip(due, record["runs"], strict=False)
    ] == due
    assert len(record["runs"]) == len(due)
    assert (record["about"], record["command"]) == (
        studies.STUDIES[name].__doc__,
        f"make results ARGS={name}",
    )
    for run in record["runs"]:
        assert ("history" in run) == (name != "deployment")  # which trains nothing
        if "history" in run:
            assert run["history"][-1] == run["validation_accuracy"]
            assert len(run["history"]) == Recipe(**run["recipe"]).epochs
        assert 0.1 <= run["validation_accuracy"] < 1


@pytest.mark.parametrize("name", studies.STUDIES)
def test_no_two_runs_of_a_study_have_one_name(name):
    due = [json.dumps(what, sort_keys=True) for what, _ in studies.STUDIES[name]()]
    assert due and len(set(due)) == len(due)


def test_each_committed_file_is_of_a_study():
    assert {path.stem for path in COMMITTED.glob("*.json")} <= set(studies.STUDIES)
