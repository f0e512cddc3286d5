"""From a lab to its notebook: ids, tags, head and pictures."""

import json
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


def write_lab(folder: Path, cells: str) -> None:
    """A lab of the heading and these cells."""
    head = "# %% [markdown]\n# # 05 Title\n\n"
    (folder / "05_x" / "lab.py").write_text(head + cells, encoding="utf-8")


def test_what_an_author_leaves_behind_is_no_cell(lesson_folder):
    write_lab(lesson_folder, "# %%\n1 + 1\n\n# %%\n\n# %% [markdown]\n\n# %%\n  \n")
    cells = notebooks.source_notebook("05_x").cells
    assert [cell.source for cell in cells[1:]] == ["1 + 1"]
    assert [cell.id for cell in cells] == ["lab05-000", "lab05-001"]


def test_a_lab_with_empty_skipped_or_no_code_cells_is_built(
    lesson_folder, tmp_path, monkeypatch, capsys
):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    skipped = '# %% tags=["skip-execution"]\n1 / 0\n'
    for cells, seconds in (
        (f"{skipped}\n# %%\nprint(6 * 7)\n\n# %%\n", 2),
        ("# %%\n# only a comment\n\n# %%\n", 1),
        ("", 0),
    ):
        write_lab(lesson_folder, cells)
        notebooks.build("05_x")
        stored = nbformat.read(tmp_path / "notebooks" / "05_x.ipynb", 4)
        nbformat.validate(stored)
        times = json.loads((lesson_folder / "05_x" / "times.json").read_text())
        assert len(times) == seconds
        assert not any("execution" in cell.metadata for cell in stored.cells)
        assert notebooks.is_built("05_x")
    assert "0 figures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("# %%\n1\n\n# %%\nx = (\n", r"cell 3 \('x = \('\) is no Python: .+, line 1"),
        ("# %%\nprint(1)\nif x\n", r"'print\(1\)'.+ expected ':', line 2"),
        ("# %%\nreturn 3\n", "'return' outside function"),
        ("# %% tags=[figure\n1\n", r"cell 2 \('1'\) begins with more than tags="),
        ('# %% tag=["figure:a"]\n1\n', "begins with more than tags="),
        (2 * '# %% tags=["figure:a"]\n1\n\n', "figure:a must be one cell's alone"),
        ('# %% tags=["figure:../a"]\n1\n', r"figure:\.\./a must be"),
        ('# %% tags=["figure:"]\n1\n', "figure: must be"),
    ],
)
def test_a_cell_that_cannot_be_one_is_named(lesson_folder, cells, said):
    write_lab(lesson_folder, cells)
    with pytest.raises(ValueError, match=f"^lessons/05_x/lab.py: .*{said}"):
        notebooks.source_notebook("05_x")


def test_magics_and_awaits_are_sound(lesson_folder):
    text = "# %%\n%time 1 + 1\n\n# %%\nawait f()\n\n# %%\n!ls\n\n# %%\nx?\n"
    write_lab(lesson_folder, text)
    assert len(notebooks.source_notebook("05_x").cells) == 5


def test_a_lesson_without_a_lab_is_named(lesson_folder):
    (lesson_folder / "05_x" / "lab.py").unlink()
    with pytest.raises(ValueError, match=r"lessons/05_x/lab\.py is missing"):
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


def test_a_progress_bar_is_stored_as_what_was_seen_at_the_end():
    source = """
import sys
for piece in ("0%", "\\r50%", "\\r100%\\nready"):
    print(piece, end="", file=sys.stderr, flush=True)
print("a")
"""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source)],
        metadata={"kernelspec": notebooks.KERNEL},
    )
    notebooks.execute(notebook)
    found = {each.name: each.text for each in notebook.cells[0].outputs}
    assert found == {"stderr": "100%\nready", "stdout": "a\n"}
    assert len(notebook.cells[0].outputs) == 2


def test_a_changed_sentence_is_taken_over_with_the_outputs_as_they_are(
    lesson_folder, monkeypatch, tmp_path
):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    built = notebooks.source_notebook("05_x")
    printed = nbformat.v4.new_output("stream", name="stdout", text="2")
    built.cells[1].outputs, built.cells[1].execution_count = [printed], 1
    nbformat.write(built, tmp_path / "05_x.ipynb")
    lab = lesson_folder / "05_x" / "lab.py"
    text = LAB.replace("# More.", "# Less.\n\n# %% [markdown]\n# A new cell.")
    lab.write_text(text, encoding="utf-8")
    notebooks.take_over_prose("05_x")
    found = nbformat.read(tmp_path / "05_x.ipynb", 4)
    assert notebooks.parts(found) == notebooks.parts(notebooks.source_notebook("05_x"))
    assert found.cells[-1].outputs == [printed] and "Less." in found.cells[0].source
    for changed in (LAB.replace("1 + 1", "1 + 2"), LAB.replace("figure:one", "x")):
        lab.write_text(changed, encoding="utf-8")
        with pytest.raises(ValueError, match="The code of 05_x has changed"):
            notebooks.take_over_prose("05_x")
        assert nbformat.read(tmp_path / "05_x.ipynb", 4) == found
