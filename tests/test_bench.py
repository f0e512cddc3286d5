"""The benchmark's own helpers. No times are checked here: a test is not a stopwatch."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn


@pytest.fixture(scope="module")
def bench():
    """tools/bench.py as a module."""
    path = Path(__file__).parents[1] / "tools" / "bench.py"
    spec = importlib.util.spec_from_file_location("bench", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench"]


def test_ratio_and_bound_are_taken_round_by_round(bench):
    row = bench.Row("prune", ours=[1.0, 2.0, 4.0], against="torch", other=[10.0, 40.0, 40.0], bound=[0.5, 0.5, 0.5])
    cells = dict(zip(bench.COLUMNS, row.cells(), strict=True))
    assert cells["ours, s"] == "2 (1-4)"
    assert cells["ratio"] == "10x (10-20)"
    assert cells["ours / bound"] == "4x (2-8)"


def test_row_without_comparison_has_as_many_cells(bench):
    assert len(bench.Row("load", [0.5]).cells()) == len(bench.COLUMNS)
    assert bench.Row("load", [0.5]).cells()[1] == "0.5"


def test_table_lines_up(bench):
    lines = bench.table([("a", "long text"), ("bb", "c")], ("x", "y")).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[3].strip("|").split("|")] == ["bb", "c"]


def test_numbers_have_three_digits(bench):
    assert [bench.digits(v) for v in (0.012345, 1.5, 99.96, 123.4, 12345)] == ["0.0123", "1.5", "100", "123", "12,345"]


def test_difference_tells_ties_from_mistakes(bench):
    weights = {"w": torch.tensor([3.0, -2.0, 2.0, 1.0])}
    ours = {"w": torch.tensor([True, True, False, False])}
    assert bench.difference(ours, ours, weights) == (0, True)
    assert bench.difference(ours, {"w": torch.tensor([1.0, 0.0, 1.0, 0.0])}, weights) == (2, True)
    assert bench.difference(ours, {"w": torch.tensor([1.0, 0.0, 0.0, 1.0])}, weights) == (2, False)


def test_both_ways_prune_alike(bench):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 10))
    weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.ndim > 1}
    ours = bench.prune_ours(model)
    model.load_state_dict(weights, strict=False)
    assert bench.difference(ours, bench.prune_torch(model), weights) == (0, True)


def test_memory_measurement_sees_a_known_allocation(bench):
    size = 100_000_000
    bench.peak_extra_bytes(lambda: None)
    if (seen := bench.peak_extra_bytes(lambda: np.ones(size, np.uint8))) is None:
        pytest.skip("this system keeps no peak of memory that can be reset")
    assert size <= seen + 1_000_000
    assert seen < 1.2 * size


def test_unknown_part_is_named(bench, capsys):
    with pytest.raises(SystemExit):
        bench.main(["prunning"])
    assert "prunning" in capsys.readouterr().err
