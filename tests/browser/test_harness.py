"""The browser tests themselves: on a small stand-in they see a figure move, and they
see what fails."""

import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import browser
from tools.start import serving

pytestmark = pytest.mark.timeout(600)

PANEL = """
import ipywidgets as widgets
from IPython.display import display
from utils.explorer.slider import StopSlider

def draw(change=None):
    if slider.value == BROKEN:
        raise ValueError("a callback that fails")
    bar = f'<rect width="{2 * slider.value}" height="40"/>'
    panel.value = f'<svg width="200" height="40">{bar}</svg>'

slider = StopSlider("Sparsity", [f"{s}%" for s in range(0, 100, 10)], range(0, 100, 10))
panel = widgets.HTML()
slider.observe(draw, "index")
draw()
display(widgets.VBox([slider, panel]))
"""


def write_notebook(folder: Path, *sources: str) -> Path:
    """A folder with a first notebook that has these code cells and a long text between
    them."""
    long_text = new_markdown_cell("\n\n".join(["A line."] * 60))
    cells = [
        cell for source in sources for cell in (new_code_cell(source), long_text.copy())
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {
        "kernelspec": {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
    }
    folder.mkdir()
    nbformat.write(
        new_notebook(cells=cells, metadata=kernel), folder / serving.FIRST_NOTEBOOK
    )
    return folder


def test_a_panel_that_works(open_lab, tmp_path):
    lab = open_lab(
        write_notebook(tmp_path / "notebooks", "BROKEN = None", PANEL, "done = True")
    )
    lab.run_all()
    first = lab.figure()
    figures = lab.press(lab.slider("Sparsity"), "ArrowRight", times=5)
    assert len({first, *figures}) == 6
    assert lab.error_badge() == ""
    assert lab.screenshot("moved").stat().st_size > 10_000


def test_a_callback_that_fails_raises_the_badge(open_lab, tmp_path):
    lab = open_lab(write_notebook(tmp_path / "notebooks", "BROKEN = 20", PANEL))
    lab.run_all()
    assert lab.error_badge() == ""
    lab.press(lab.slider(), "ArrowRight", times=3)
    assert "log entr" in lab.error_badge()


def test_a_cell_that_fails_stops_the_run_with_its_message(open_lab, tmp_path):
    lab = open_lab(write_notebook(tmp_path / "notebooks", "1 / 0", "never = 'reached'"))
    with pytest.raises(
        AssertionError, match="ZeroDivisionError: division by zero in: 1 / 0"
    ):
        lab.run_all()


def test_the_page_that_make_explorer_opens_is_the_explorer(chromium, tmp_path):
    """What a learner's browser is handed, without a look at the terminal; and the page
    asks this machine alone."""
    opened, script = tmp_path / "opened.html", tmp_path / "browser"
    script.write_text(f'#!/bin/sh\ncp "${{1#file://}}" {opened}.new\n')
    script.write_text(f"{script.read_text()}mv {opened}.new {opened}\n")
    script.chmod(0o700)
    server = subprocess.Popen(
        [sys.executable, browser.ROOT / "tools" / "course.py", "explorer"],
        env={
            **os.environ,
            "BROWSER": f"{script} %s",
            "PORT": str(browser.free_port()),
            "PRUNING_WORKSPACE": str(tmp_path / "workspace"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + browser.START_SECONDS
        while not opened.exists():
            assert time.monotonic() < end, "no page was opened"
            time.sleep(0.2)
        page = chromium.new_page()
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(opened.as_uri())
        page.wait_for_selector(browser.FIGURE, timeout=browser.START_SECONDS * 1000)
        hosts = {urlsplit(url).hostname for url in asked if url.startswith("http")}
        page.close()
    finally:
        server.terminate()
        server.wait(timeout=30)
    assert hosts == {"127.0.0.1"}
    assert not [line for line in said if "Content Security Policy" in line]
