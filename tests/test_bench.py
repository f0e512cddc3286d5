"""The benchmark's own helpers. No times are checked here: a test is not a stopwatch."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from tools.bench import machine, removing, training, writing
from tools.bench.__main__ import main
from tools.bench.table import COLUMNS, Row, table
from utils import baselines, data, measure, models
from utils.data import Data
from utils.generation import noise, write_plainly
from utils.scores import score

PROJECT = Path(__file__).parents[1]


def test_ratio_and_bound_are_taken_round_by_round():
    row = Row(
        "prune",
        ours=[1.0, 2.0, 4.0],
        against="torch",
        other=[10.0, 40.0, 40.0],
        bound=[0.5, 0.5, 0.5],
    )
    cells = dict(zip(COLUMNS, row.cells(), strict=True))
    assert cells["ours, s"] == "2 (1-4)"
    assert cells["ratio"] == "10x (10-20)"
    assert cells["ours / bound"] == "4x (2-8)"


def test_row_without_comparison_has_as_many_cells():
    assert len(Row("load", [0.5]).cells()) == len(COLUMNS)
    assert Row("load", [0.5]).cells()[1] == "0.5"


def test_table_lines_up():
    lines = table([("a", "long text"), ("bb", "c")], ("x", "y")).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[3].strip("|").split("|")] == ["bb", "c"]


def test_difference_tells_ties_from_mistakes():
    weights = {"w": torch.tensor([3.0, -2.0, 2.0, 1.0])}
    ours = {"w": torch.tensor([True, True, False, False])}
    assert removing.difference(ours, ours, weights) == (0, True)
    assert removing.difference(
        ours, {"w": torch.tensor([1.0, 0.0, 1.0, 0.0])}, weights
    ) == (2, True)
    assert removing.difference(
        ours, {"w": torch.tensor([1.0, 0.0, 0.0, 1.0])}, weights
    ) == (2, False)


def test_both_ways_prune_alike():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 10))
    weights = {
        name: p.detach().clone() for name, p in model.named_parameters() if p.ndim > 1
    }
    ours = removing.prune_ours(model)
    model.load_state_dict(weights, strict=False)
    assert removing.difference(ours, removing.prune_torch(model), weights) == (0, True)


def test_each_way_gets_a_fresh_copy_in_each_round():
    model, seen = nn.Linear(2, 2), []

    def spoil(own):
        seen.append(own.weight.detach().clone())
        nn.init.zeros_(own.weight)
        return len(seen)

    bounds = iter([0.5, 0.25])
    seconds, found, bound = removing.in_turn(
        {"a": spoil, "b": spoil}, model, 2, lambda: next(bounds)
    )
    assert found == {"a": 3, "b": 4}  # of the last round, and in turn
    assert {way: len(times) for way, times in seconds.items()} == {"a": 2, "b": 2}
    assert bound == [0.5, 0.25]
    assert all(torch.equal(weight, model.weight) for weight in seen)


def test_memory_measurement_sees_a_known_allocation(start_python):
    # in a fresh process: what this one freed and kept would count as there
    code = (
        "import numpy as np; from tools.bench.machine import peak_extra_bytes as peak;"
        "peak(lambda: None); print(peak(lambda: np.ones(100_000_000, np.uint8)))"
    )
    seen, trouble = start_python(code).communicate(timeout=120)
    if seen == "None\n":
        pytest.skip("this system keeps no peak of memory that can be reset")
    assert not trouble and 99_000_000 <= int(seen) < 120_000_000


# ------------------------------------------------------------------------------ surgery


@pytest.fixture
def small_surgery(monkeypatch):
    """The part `surgery` with one small network, few rounds and short timings; its
    bandwidth is 1,000 bytes/s."""
    pytest.importorskip("torch_pruning")
    network, latency = (
        nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
        ),
        measure.latency,
    )
    monkeypatch.setattr(removing, "network", {"small": network}.get)
    monkeypatch.setattr(removing, "CUT_ROUNDS", {"small": 2})
    monkeypatch.setattr(removing, "EXAMPLE", torch.ones(1, 3, 8, 8))
    monkeypatch.setattr(removing, "LARGE", 1000)
    monkeypatch.setattr(removing, "bytes_per_second", lambda source, target: 1000.0)
    monkeypatch.setattr(
        measure,
        "latency",
        lambda *given, threads: latency(*given, threads=threads, rounds=1),
    )
    return network


def test_surgery_is_measured_against_torch_pruning(small_surgery, unchanged):
    check = unchanged(small_surgery.eval())
    (row,) = removing.cutting(threads=1)
    check()
    assert (row.what, row.against, row.goal) == ("halve small", "torch-pruning", "3x")
    assert [len(values) for values in (row.ours, row.other, row.bound)] == [2, 2, 2]
    before, after = (
        (3 * 9 + 1) * 8 + (8 * 36 + 1) * 10,
        (3 * 9 + 1) * 4 + (4 * 36 + 1) * 10,
    )
    assert row.bound == pytest.approx([4 * (before + after) / 1000] * 2)
    assert "the same in both" in row.remarks
    assert "as fast as theirs" in row.remarks


def test_both_cutters_halve_and_ours_keeps_the_largest(small_surgery):
    largest = (
        score("l1", small_surgery, units=True)["0.weight"]
        .argsort(descending=True)[:4]
        .sort()
        .values
    )
    expected = small_surgery[0].weight[largest]
    ours = removing.cut_ours(small_surgery, removing.EXAMPLE)
    assert torch.equal(ours[0].weight, expected)
    theirs = removing.cut_torch_pruning(small_surgery, removing.EXAMPLE)
    assert theirs is small_surgery  # in place: why each round needs a fresh copy
    assert [tuple(p.shape) for p in theirs.parameters()] == [
        tuple(p.shape) for p in ours.parameters()
    ]


def test_a_different_result_is_said():
    before, small, other = (
        (25_600_000, 4_090_000_000),
        (6_920_000, 1_050_000_000),
        (6_920_000, 1_049_999_999),
    )
    said = "25.6 M parameters, 4.09 GMACs -> 6.92 M parameters, 1.05 GMACs"
    assert removing.change(before, small, small) == f"{said}, the same in both"
    assert (
        removing.change(before, small, other)
        == f"{said}, NOT the same: theirs 6.92 M parameters, 1.05 GMACs"
    )


def test_latency_of_ours_is_relative_to_theirs(small_surgery, monkeypatch):
    asked = {}

    def latency(networks, inputs, *, threads):
        asked.update(networks=list(networks), threads=threads)
        return {
            "ours": measure.Timing(
                "ours", 1.0, (1.0, 1.0), 1.25, (1.2, 1.3), 1, threads
            )
        }

    monkeypatch.setattr(measure, "latency", latency)
    (row,) = removing.cutting(threads=3)
    # the first is what the others are compared with
    assert asked["networks"] == ["theirs", "ours"]
    assert asked["threads"] == 3
    assert "ours 1.25x as fast as theirs (quartiles 1.2-1.3)" in row.remarks


# ---------------------------------------------------------------------------- schedules


@pytest.fixture
def few_pictures(course_data, monkeypatch):
    """The part `schedules` with a small network, 20 steps of 8 pictures and two rounds;
    counts the runs."""
    fit, runs = training.training.fit, []

    def counted(*given, schedule, **options):
        runs.append(schedule)
        return fit(*given, schedule=schedule, **options)

    @dataclass(frozen=True)
    class Small(training.training.Recipe):
        batch_size: int = 8

    monkeypatch.setattr(
        data, "load", lambda: Data(course_data.train[:200], *course_data[1:])
    )
    monkeypatch.setattr(baselines, "build", lambda name: models.lenet300((30, 10)))
    monkeypatch.setattr(training.training, "Recipe", Small)
    monkeypatch.setattr(training.training, "fit", counted)
    monkeypatch.setattr(training, "PICTURES", 20 * 8 - 3)  # the last step has fewer
    monkeypatch.setattr(training, "FITS", 2)
    # before each of 21 runs, it would take most of the time
    monkeypatch.setattr(machine.gc, "collect", lambda: None)
    return runs


def test_each_schedule_is_measured_against_dense_in_the_same_rounds(few_pictures):
    rows = list(training.scheduled_steps(1))
    names = ["one-shot", "iterative", "cubic", "movement", "SET", "RigL"]
    assert [row.what for row in rows] == [
        f"a step of fit with {name}" for name in names
    ]
    # a warm-up and two rounds
    assert few_pictures == [None, *training.SCHEDULES.values()] * 3
    assert all(row.against == "dense" and row.other == rows[0].other for row in rows)
    assert all(len(row.ours) == len(row.other) == 2 for row in rows)
    assert "updates: 1 in 20 steps of 8" in rows[0].remarks
    assert all("updates: 3 in 20 steps of 8" in row.remarks for row in rows[1:])
    for name in names:  # each did prune, as far as it should
        found = training.SCHEDULES[name].masks.values()
        sparsity = 1 - sum(int(mask.sum()) for mask in found) / sum(
            mask.numel() for mask in found
        )
        assert sparsity == pytest.approx(0.95, abs=1e-5), name


def test_seconds_are_of_one_step_and_the_share_is_of_a_dense_one(
    few_pictures, monkeypatch
):
    # the warm-up, and two rounds with dense first
    clock = iter([9.0] * 7 + [2.0, *[3.0] * 6] + [4.0, *[5.0] * 6])

    def timed(work):
        work()
        return next(clock)

    monkeypatch.setattr(training, "timed", timed)
    cells = [
        dict(zip(COLUMNS, row.cells(), strict=True))
        for row in training.scheduled_steps(1)
    ]
    for row in cells:
        assert row["ours, s"] == "0.2 (0.15-0.25)"
        assert row["its time, s"] == "0.15 (0.1-0.2)"
        assert row["ratio"] == "0.733x (0.667-0.8)"
        assert row["remarks"].startswith("1.38x (1.25-1.5) of a dense step")


# ------------------------------------------------------------------------------ command


def test_one_part_alone_is_run_and_printed(few_pictures, capsys):
    before = torch.get_num_threads()
    main(["--threads", str(before), "schedules"])
    printed = capsys.readouterr()
    assert printed.err.count("measured: a step of fit with") == 6
    assert printed.out.count("of a dense step") == 6
    assert "surgery 4 bytes for each weight scored" in printed.out


def test_pruning_needs_no_browser():
    """Only the part that opens one imports what it takes."""
    code = (
        "import sys; from tools.bench import __main__, removing;"
        " sys.exit('playwright' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_torchvision_is_there_for_a_benchmark_that_starts_by_itself(start_python):
    """In a process of its own, where nothing else has imported it before."""
    code = """
from tools.bench.removing import network
print(sum(p.numel() for p in network("ResNet-18").parameters()))
"""
    assert start_python(code).communicate(timeout=120) == ("11689512\n", "")


def test_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["prunning"])
    assert "prunning" in capsys.readouterr().err


# ------------------------------------------------------------------------------ writing


def test_torch_with_a_cache_writes_the_same():
    """Else the race would be between unlike things."""
    torch.manual_seed(0)
    network = models.gpt(
        pieces=11, width=16, blocks=2, heads=2, head_width=8, neurons=8, deviation=0.5
    ).eval()
    prompt, added = torch.tensor([1, 2, 3, 4]), noise(20, 11, 0.7, seed=0)
    written = writing.CachedTorch(network).write(prompt, added)
    assert written.equal(write_plainly(network, prompt, added))


def test_the_part_writing_has_a_row_for_each_setting(monkeypatch, capsys):
    torch.manual_seed(0)
    network = models.gpt(width=16, blocks=1, heads=1, head_width=16, neurons=8).eval()
    monkeypatch.setattr(writing, "baseline", lambda name: network)
    monkeypatch.setattr(writing, "PRESSES", 6)
    monkeypatch.setattr(writing, "ROUNDS", 2)
    main(["writing"])
    printed = capsys.readouterr()
    assert printed.err.count("measured: prune and write") == len(writing.SETTINGS)
    assert printed.err.count("measured: of that") == 5
    assert printed.out.count("pieces a second: ") == 3
    assert printed.out.count("p95 100 ms") == len(writing.SETTINGS)
