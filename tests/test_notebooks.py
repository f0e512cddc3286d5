"""From a lab to its notebook: ids, tags, head and pictures."""

from pathlib import Path

import nbformat
import pytest

from tools import notebooks

LAB = """\
# %% [markdown]
# # 05 Title
#
# More.

# %% tags=["figure:one"]
1 + 1
"""
FACTS = """\
title = "Title"
question = "Why?"
hours = 0.5
needs = [1, 2, 4]
"""


@pytest.fixture
def lesson_folder(tmp_path, monkeypatch) -> Path:
    """Lessons somewhere else: one with two cells."""
    folder = tmp_path / "lessons"
    (folder / "05_x").mkdir(parents=True)
    (folder / "05_x" / "lab.py").write_text(LAB, encoding="utf-8")
    (folder / "05_x" / "lesson.toml").write_text(FACTS, encoding="utf-8")
    monkeypatch.setattr(notebooks, "LESSONS", folder)
    return folder


def test_ids_tags_and_text_come_from_the_lab(lesson_folder):
    first, second = notebooks.source_notebook("05_x").cells
    assert (first.id, first.cell_type, first.metadata) == ("lab05-000", "markdown", {})
    assert (second.id, second.cell_type) == ("lab05-001", "code")
    assert (second.source, second.metadata.tags) == ("1 + 1", ["figure:one"])


def test_the_head_of_a_lab_comes_from_its_facts(lesson_folder):
    lines = notebooks.source_notebook("05_x").cells[0].source.splitlines()
    assert lines[:4] == ["# 05 Title", "", "**The question:** Why?", ""]
    assert lines[4].startswith("- **Time:** half an hour.")
    assert lines[5] == "- **Needs:** 01, 02 and 04."
    assert "`lessons/05_x/README.md`" in lines[6]
    assert lines[7:] == ["", "More."]


def test_a_lab_without_the_heading_of_its_facts_is_refused(lesson_folder):
    for text in ("", "# %% [markdown]\n# # 05 Other\n", "# %%\n1 + 1\n"):
        (lesson_folder / "05_x" / "lab.py").write_text(text)
        with pytest.raises(
            ValueError, match="must begin with the heading '# 05 Title'"
        ):
            notebooks.source_notebook("05_x")


def test_a_tagged_picture_is_written_and_a_missing_one_is_an_error(lesson_folder):
    notebook = notebooks.source_notebook("05_x")
    with pytest.raises(
        RuntimeError, match="05_x: the cell tagged figure:one shows no picture"
    ):
        notebooks.write_figures("05_x", notebook)
    notebook.cells[1].outputs = [
        nbformat.v4.new_output("display_data", {"image/png": "aGVsbG8="})
    ]
    assert notebooks.write_figures("05_x", notebook) == ["one"]
    assert (lesson_folder / "05_x" / "figures" / "one.png").read_bytes() == b"hello"
    notebook.cells[1].outputs = [
        nbformat.v4.new_output("display_data", {"image/gif": "aGVsbG8="})
    ]
    notebooks.write_figures("05_x", notebook)
    assert (lesson_folder / "05_x" / "figures" / "one.gif").read_bytes() == b"hello"
