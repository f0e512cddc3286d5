"""The text explorer in a real browser: by keyboard, by name, on a phone."""

from pathlib import Path

import nbformat
import pytest

from tools.browser import Lab
from tools.notebooks import KERNEL
from tools.start.serving import FIRST_NOTEBOOK

pytestmark = pytest.mark.timeout(600)
PANEL = "from utils.explorer import TextExplorer\n\nTextExplorer()"


@pytest.fixture
def panel(open_lab, tmp_path) -> Lab:
    folder: Path = tmp_path / "notebooks"
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell(PANEL)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    nbformat.write(notebook, folder / FIRST_NOTEBOOK)
    lab = open_lab(folder)
    lab.run_all()
    return lab


def written(panel: Lab) -> str:
    """All that the picture says."""
    figures = panel.page.locator(".widget-html svg")
    return " ".join(figures.nth(n).text_content() for n in range(figures.count()))


def test_the_prose_falls_apart_under_the_keys(panel):
    panel.settle()
    first = written(panel)
    handle = panel.slider()
    figures = panel.press(handle, "End", times=1)
    assert figures[-1] and written(panel) != first
    panel.press(handle, "ArrowLeft", times=3)
    for label in ("Score", "Scope", "Begin with"):
        assert panel.choice(label).count() == 1
    panel.choice("Score").select_option(index=1)
    panel.settle()
    prompt = panel.page.get_by_role("textbox", name="Prompt")
    prompt.fill("Emma was ")
    prompt.press("Enter")
    panel.settle()
    assert "Emma was" in written(panel)
    prompt.fill("caf\u00e9 <b>")
    prompt.press("Enter")
    panel.settle()
    alert = panel.page.locator("[role=alert]")
    says = panel.page.locator("[role=status]").first.text_content()
    assert alert.count() or "novels" in says
    assert panel.clipped() == []
    panel.screenshot("text", whole=True)
    assert panel.cell_errors() == []
