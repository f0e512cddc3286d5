"""Build notebooks/ from lessons/*/lab.py, and from further.py where a lesson has more
than one sitting: convert, execute, store outputs, figures and times. `make notebooks`;
some lessons only: `make notebooks ARGS=03_weight_pruning`.

The same sources always give the same cells; tests/test_lessons.py fails when a
committed notebook differs from them.
"""

import argparse
import ast
import base64
import json
import os
import re
import tempfile
from datetime import datetime
from pathlib import Path

import jupytext
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbformat import NotebookNode

from tools import syllabus
from tools.prose import MARKER
from tools.syllabus import CELL_BUDGET, LAB_BUDGET
from utils.files import write_atomically

ROOT = Path(__file__).parents[1]
LESSONS, NOTEBOOKS = ROOT / "lessons", ROOT / "notebooks"
PICTURES = {"image/png": ".png", "image/gif": ".gif"}
FIGURE = re.compile(r"figure:\w+")
FURTHER = "_further"  # ends the name of a lesson's second notebook
RAN = ("iopub.execute_input", "shell.execute_reply")  # when a cell began and ended
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def lessons() -> list[str]:
    """Names of the lessons, in order."""
    return [folder.name for folder in syllabus.folders(LESSONS)]


def labs(lesson: str) -> list[str]:
    """Names of the notebooks of a lesson: its lab, and what goes further if it has
    that."""
    further = (LESSONS / lesson / "further.py").is_file()
    return [lesson, lesson + FURTHER] if further else [lesson]


def source(lab: str) -> Path:
    """Where a notebook is written: lessons/NN_name/lab.py or further.py."""
    lesson = lab.removesuffix(FURTHER)
    return LESSONS / lesson / ("lab.py" if lab == lesson else "further.py")


def source_notebook(lab: str) -> NotebookNode:
    """A notebook without outputs, from its source and lesson.toml alone; cell ids and
    metadata are fixed, and the markers of `tools.prose` are taken out.

    Raises:
        ValueError: the source is missing, does not begin with the lesson's heading, or
            has a cell that cannot be one; or lesson.toml makes no sense.
    """
    path, lesson = source(lab), lab.removesuffix(FURTHER)
    where = f"lessons/{lesson}/{path.name}"
    if not path.is_file():
        raise ValueError(f"{where} is missing: it is the lab's source.")
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    # what an author leaves behind at the end
    notebook.cells = [
        cell
        for cell in notebook.cells
        if cell.source.strip() or cell.metadata.get("tags")
    ]
    problem = what_is_wrong(notebook)
    if problem:
        raise ValueError(f"{where}: {problem}.")
    notebook.metadata = NotebookNode(
        kernelspec=KERNEL, language_info={"name": "python"}
    )
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            cell.source = MARKER.sub("", cell.source)
        cell.id = f"{path.stem}{lesson[:2]}-{index:03d}"
        cell.metadata = NotebookNode(
            {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        )
    if (LESSONS / lesson / "lesson.toml").is_file():  # written last, perhaps
        fill_head(notebook, syllabus.read(LESSONS / lesson), path.stem)
    return notebook


def what_is_wrong(notebook: NotebookNode) -> str:
    """Half a sentence about the first cell that cannot be one of a lab; empty when all
    can."""
    figures = []
    for number, cell in enumerate(notebook.cells, 1):
        said = {  # jupytext counts blank lines, too
            key: value
            for key, value in cell.metadata.items()
            if key != "tags" and not key.startswith("lines_to_")
        }
        tags = cell.metadata.get("tags", [])
        figures += [tag for tag in tags if tag.startswith("figure:")]
        where = f"cell {number} ({first_line(cell)!r})"
        if said:
            return (
                f'{where} begins with more than tags=["..."] that JSON can read:'
                f" {json.dumps(said)}"
            )
        if cell.cell_type == "code" and (problem := syntax_problem(cell.source)):
            return f"{where} is no Python: {problem}"
    for tag in figures:
        if figures.count(tag) > 1 or not FIGURE.fullmatch(tag):
            return f"{tag} must be one cell's alone, and a name of letters, digits, _"
    return ""


def first_line(cell: NotebookNode) -> str:
    """By which an author finds a cell."""
    return cell.source.strip().partition("\n")[0]


def syntax_problem(source: str) -> str:
    """What Python says against a cell, magics aside; empty when it is sound."""
    python = TransformerManager().transform_cell(source)
    try:
        compile(python, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        return f"{getattr(error, 'msg', error)}{line}"
    return ""


def fill_head(notebook: NotebookNode, lesson: syllabus.Lesson, part: str) -> None:
    """Put the question, the time and what is needed below the heading, in the first
    cell. part: `lab` or `further`."""
    first = notebook.cells[0] if notebook.cells else NotebookNode(source="")
    heading, _, rest = first.source.partition("\n")
    wanted = lesson.heading if part == "lab" else f"{lesson.heading}: going further"
    if heading != wanted:
        raise ValueError(
            f"lessons/{lesson.name}/{part}.py must begin with the heading {wanted!r},"
            f" from lesson.toml; it begins with {heading!r}."
        )
    head = syllabus.head(lesson) if part == "lab" else syllabus.further_head(lesson)
    parts = (heading, head, rest.strip())
    first.source = "\n\n".join(part for part in parts if part)


def parts(notebook: NotebookNode) -> list[tuple]:
    """What of a notebook comes from its sources."""
    return [
        (cell.id, cell.cell_type, cell.source, list(cell.metadata.get("tags", [])))
        for cell in notebook.cells
    ]


def is_built(lesson: str) -> bool:
    """Whether the stored notebooks are those that the lesson gives."""
    for lab in labs(lesson):
        path = NOTEBOOKS / f"{lab}.ipynb"
        if not path.is_file():
            return False
        if parts(nbformat.read(path, 4)) != parts(source_notebook(lab)):
            return False
    return True


def execute(notebook: NotebookNode) -> list[float]:
    """Run a notebook in a fresh kernel and an empty folder, with this copy of the
    package; return the seconds of each code cell.

    Raises:
        CellExecutionError: a cell failed.  RuntimeError: a claim did not hold.
    """
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=600,
            store_widget_state=False,
            coalesce_streams=True,  # a progress bar: what was seen at the end
            resources={"metadata": {"path": folder}},
        )
        strict = {"PYTHONPATH": str(ROOT), "PRUNING_STRICT": "1"}
        client.execute(env=os.environ | strict)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    seconds = [cell_seconds(cell) for cell in code]
    for cell in code:
        cell.metadata.pop("execution", None)
        if any("DOES NOT HOLD HERE" in str(output) for output in cell.outputs):
            raise RuntimeError(f"A claim did not hold: {cell.outputs}")
    return seconds


def cell_seconds(cell: NotebookNode) -> float:
    """How long a cell ran: none at all where its tags say that it is skipped."""
    if "execution" not in cell.metadata:
        return 0.0
    stamps = [cell.metadata.execution[key].replace("Z", "+00:00") for key in RAN]
    begin, end = map(datetime.fromisoformat, stamps)
    return round((end - begin).total_seconds(), 2)


def write_figures(lesson: str, notebook: NotebookNode) -> list[str]:
    """Write the pictures of cells tagged `figure:NAME` to
    lessons/<lesson>/figures/NAME.png (or .gif).

    Raises:
        RuntimeError: a tagged cell put out no picture.
    """
    names = []
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith("figure:"):
                name = tag.removeprefix("figure:")
                kind, content = picture(cell, lesson, tag)
                path = LESSONS / lesson / "figures" / f"{name}{PICTURES[kind]}"
                write_atomically(path, content)
                names.append(name)
    return names


def picture(cell: NotebookNode, lesson: str, tag: str) -> tuple[str, bytes]:
    """The kind and the bytes of the first picture that a tagged cell put out."""
    for output in cell.outputs:
        for kind in PICTURES:
            if kind in output.get("data", {}):
                return kind, base64.b64decode(output.data[kind])
    raise RuntimeError(f"{lesson}: the cell tagged {tag} shows no picture.")


def build(lesson: str) -> None:
    """Convert, execute and write a lesson's notebooks, figures and times."""
    for lab in labs(lesson):
        build_one(lesson, lab)


def build_one(lesson: str, lab: str) -> None:
    """Convert, execute and write one notebook of a lesson, its figures and times."""
    notebook = source_notebook(lab)
    seconds = execute(notebook)
    figures = write_figures(lesson, notebook)
    content = nbformat.writes(notebook) + "\n"
    write_atomically(NOTEBOOKS / f"{lab}.ipynb", content.encode())
    times = syllabus.TIMES[source(lab).stem]
    write_atomically(LESSONS / lesson / times, (json.dumps(seconds) + "\n").encode())
    slowest = max(seconds, default=0.0)
    over = slowest > CELL_BUDGET or sum(seconds) > LAB_BUDGET
    print(
        f"{lab}: {sum(seconds):.0f} s, slowest cell {slowest:.0f} s,"
        f" {len(figures)} figures, {len(content) / 1e6:.2f} MB"
        f"{'  OVER BUDGET' if over else ''}"
    )


def take_over_prose(lesson: str) -> None:
    """Write the stored notebooks of a lesson with the sentences that their sources have
    now; the outputs stay.

    Raises:
        ValueError: there is none, or its code is not that of the source: it must be
            built.
    """
    for lab in labs(lesson):
        path, notebook = NOTEBOOKS / f"{lab}.ipynb", source_notebook(lab)
        stored = nbformat.read(path, 4) if path.is_file() else NotebookNode(cells=[])
        new, old = (
            [cell for cell in each.cells if cell.cell_type == "code"]
            for each in (notebook, stored)
        )
        if [(c.source, c.metadata) for c in new] != [
            (c.source, c.metadata) for c in old
        ]:
            raise ValueError(f"The code of {lab} has changed: leave out --prose.")
        for cell, before in zip(new, old, strict=True):
            cell.outputs, cell.execution_count = before.outputs, before.execution_count
        notebook.metadata = stored.metadata
        write_atomically(path, (nbformat.writes(notebook) + "\n").encode())


def main() -> None:
    """Build the lessons named on the command line, or all; write the tables anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lessons", nargs="*", default=lessons())
    parser.add_argument(
        "--prose", action="store_true", help="take over changed sentences, run nothing"
    )
    asked = parser.parse_args()
    wanted = asked.lessons
    unknown = set(wanted) - set(lessons())
    if unknown:
        parser.error(
            f"no lesson {', '.join(sorted(unknown))}. Lessons: {', '.join(lessons())}."
        )
    make = take_over_prose if asked.prose else build
    try:
        for lesson in wanted:
            make(lesson)
    except ValueError as problem:
        parser.error(str(problem))
    syllabus.write(ROOT)


if __name__ == "__main__":
    main()
