"""The guard over the notebooks' times."""

from pathlib import Path

import nbformat
import pytest

PLUGIN = Path(__file__).with_name("nbval_budget.py").read_text(encoding="utf-8")

pytest_plugins = ["pytester"]


def over_budget(seconds: dict) -> list[str]:
    scope: dict = {}
    exec(PLUGIN, scope)
    return scope["over_budget"](seconds, 360, 120)


def test_times_within_the_limits_pass():
    assert over_budget({}) == []
    assert (
        over_budget(
            {
                "a.ipynb": {"Cell 0": 120, "Cell 1": 120, "Cell 2": 120},
                "b.ipynb": {"Cell 0": 120},
            }
        )
        == []
    )


def test_a_slow_cell_and_a_slow_notebook_are_named_with_their_seconds():
    slow_cell, slow_lab = (
        {"Cell 0": 1.0, "Cell 7": 130.4},
        {f"Cell {i}": 100.0 for i in range(4)},
    )
    lines = over_budget(
        {"03_x.ipynb": slow_cell, "01_y.ipynb": slow_lab, "02_z.ipynb": {"Cell 0": 3.0}}
    )
    assert lines == [
        "03_x.ipynb, Cell 7 took 130 s; a cell may take 120 s.",
        "01_y.ipynb took 400 s; a whole lab may take 360 s here.",
    ]


@pytest.fixture
def run_notebook(pytester, monkeypatch):
    """Run a one-cell notebook under nbval, the plugin as conftest.py beside it with
    these limits."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(source: str, lab: float, cell: float):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, pytester.path / "slow.ipynb")
        limits = f"LAB_LIMIT, CELL_LIMIT = {lab}, {cell}\n"
        (pytester.path / "conftest.py").write_text(
            f"{PLUGIN}\n{limits}", encoding="utf-8"
        )
        return pytester.runpytest_subprocess(
            "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", timeout=240
        )

    return run


def test_a_run_of_nbval_fails_by_its_time_alone(run_notebook):
    result = run_notebook("import time\ntime.sleep(1.2)", lab=1, cell=0.9)
    assert result.ret == 1
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "TOO SLOW: slow.ipynb took 1 s; a whole lab may take 1 s here.",
            "TOO SLOW: slow.ipynb, Cell 0 took 1 s; a cell may take 0.9 s.",
            "slow.ipynb: 1 s, 1 code cells",
        ]
    )
