"""Lab 00 as a learner meets it: run all, move the sparsity slider with the keyboard,
see the figure follow."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not (ROOT / "notebooks" / "00_start_here.ipynb").exists(),
    reason="lab 00 is not built yet",
)
def test_the_slider_moves_the_figure_and_nothing_fails(open_lab):
    lab = open_lab(ROOT / "notebooks")
    lab.run_all()
    assert lab.error_badge() == ""
    handle = lab.slider()
    first = lab.figure()
    handle.scroll_into_view_if_needed()
    lab.screenshot("before")
    figures = lab.press(handle, "ArrowLeft", times=5)  # the lab leaves it at 90%
    lab.screenshot("after")
    assert figures[-1] != first
    assert len(set(figures)) >= 4, "the figure did not follow the slider"
    assert lab.clipped() == []
    assert lab.cell_errors() == []
    assert lab.error_badge() == ""
