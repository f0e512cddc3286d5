"""A quiz as a learner meets it: answered with the keyboard, explained, and still
answered after a restart of the kernel."""

import json
from pathlib import Path

import nbformat
import pytest

from tools.notebooks import KERNEL
from tools.start.serving import FIRST_NOTEBOOK
from utils.quizzes import kind_of, read, right_answer

LESSON = "00_start_here"
RESTART = """() => jupyterapp.shell.currentWidget.sessionContext.session.kernel
    .restart()"""


@pytest.fixture
def notebooks(tmp_path) -> Path:
    """A folder with one notebook, which asks the quiz of lesson 00."""
    cells = [
        nbformat.v4.new_code_cell("from utils.lab import progress, quiz"),
        nbformat.v4.new_code_cell(f'quiz("{LESSON}")'),
        nbformat.v4.new_code_cell("progress()"),
    ]
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    nbformat.write(notebook, folder / FIRST_NOTEBOOK)
    return folder


@pytest.mark.timeout(600)
def test_an_answer_is_committed_by_keyboard_and_kept(open_lab, notebooks, tmp_path):
    asked = next(one for one in read(LESSON) if kind_of(one) == "choice")
    chosen = next(a for a in asked["answers"] if a is not right_answer(asked))
    lab = open_lab(notebooks)
    lab.run_all()
    answer = lab.page.get_by_role("radio", name=chosen["answer"], exact=True).first
    said = lab.page.get_by_text("Not right.", exact=False)
    answer.scroll_into_view_if_needed()
    assert not answer.is_checked() and said.count() == 0
    assert lab.page.get_by_text(chosen["feedback"]).count() == 0
    answer.focus()
    lab.page.keyboard.press("Space")
    assert answer.is_checked()
    for _ in asked["answers"]:  # the next stops are answers, then the button
        lab.page.keyboard.press("Tab")
        focused = lab.page.evaluate("document.activeElement.textContent")
        if focused == "Commit my answer":
            break
    lab.page.keyboard.press("Enter")
    said.first.wait_for(timeout=20_000)
    assert lab.page.get_by_text(chosen["feedback"]).count() == 1
    lab.screenshot("committed")

    lab.page.evaluate(RESTART)
    lab.run_all()
    said.first.wait_for(timeout=20_000)
    assert answer.is_checked() and answer.is_disabled()
    kept = json.loads((tmp_path / "workspace" / "my_progress.json").read_text())
    assert kept[LESSON]["quiz"][asked["question"]] == {"answer": chosen["answer"]}
    assert lab.error_badge() == ""
