"""Build notebooks/ from lessons/*/lab.py: convert, execute, store outputs, figures and
times. `make notebooks`.

Some lessons only: `python tools/notebooks.py 03_weight_pruning`. The same lab.py always
gives the same source cells; tests/test_notebooks.py fails when a committed notebook
differs from its lab.py.
"""

import argparse
import base64
import json
import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from utils.files import write_atomically  # noqa: E402

LESSONS, NOTEBOOKS = ROOT / "lessons", ROOT / "notebooks"
TIMES = LESSONS / "timings.json"
FRONT_PAGE = LESSONS.parent / "README.md"
BEGIN, END = "<!-- times: written by `make notebooks` -->", "<!-- end of times -->"
PICTURES = {"image/png": ".png", "image/gif": ".gif"}
LAB_BUDGET, CELL_BUDGET = 90, 30  # seconds on two cores


def lessons() -> list[str]:
    """Names of the lessons that have a lab, in order."""
    return sorted(path.parent.name for path in LESSONS.glob("[0-9]*/lab.py"))


def source_notebook(lesson: str) -> NotebookNode:
    """The notebook of a lesson without outputs. Reads lab.py only; cell ids and
    metadata are fixed."""
    text = (LESSONS / lesson / "lab.py").read_text(encoding="utf-8")
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata = NotebookNode(
        kernelspec={
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        language_info={"name": "python"},
    )
    for index, cell in enumerate(notebook.cells):
        cell.id = f"lab{lesson[:2]}-{index:03d}"
        cell.metadata = NotebookNode(
            {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        )
    return notebook


def execute(notebook: NotebookNode) -> list[float]:
    """Run a notebook in a fresh kernel and an empty folder; return the seconds of each
    code cell.

    Raises:
        CellExecutionError: a cell failed.  RuntimeError: a claim did not hold.
    """
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=600,
            store_widget_state=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    seconds = [_cell_seconds(cell) for cell in code]
    for cell in code:
        del cell.metadata["execution"]
        if any("DOES NOT HOLD HERE" in str(output) for output in cell.outputs):
            raise RuntimeError(f"A claim did not hold: {cell.outputs}")
    return seconds


def _cell_seconds(cell: NotebookNode) -> float:
    from datetime import datetime

    stamps = cell.metadata.execution
    begin, end = (
        datetime.fromisoformat(stamps[key].replace("Z", "+00:00")) for key in BEGIN_END
    )
    return round((end - begin).total_seconds(), 2)


BEGIN_END = ("iopub.execute_input", "shell.execute_reply")


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
                found = [
                    (kind, o.data[kind])
                    for o in cell.outputs
                    for kind in PICTURES
                    if kind in o.get("data", {})
                ]
                if not found:
                    raise RuntimeError(
                        f"{lesson}: the cell tagged {tag} shows no picture."
                    )
                (kind, content), name = found[0], tag.removeprefix("figure:")
                write_atomically(
                    LESSONS / lesson / "figures" / f"{name}{PICTURES[kind]}",
                    base64.b64decode(content),
                )
                names.append(name)
    return names


def write_times(measured: dict[str, list[float]]) -> None:
    """Merge the cells' seconds into timings.json; write the table in the syllabus and
    the column in README.md anew."""
    times = json.loads(TIMES.read_text()) if TIMES.is_file() else {}
    times.update(measured)
    times = {lesson: times[lesson] for lesson in lessons() if lesson in times}
    write_atomically(TIMES, (json.dumps(times, indent=1) + "\n").encode())
    rows = ["| lab | code cells | whole lab | slowest cell |", "|---|---|---|---|"]
    for lesson, seconds in times.items():
        rows.append(
            f"| {lesson} | {len(seconds)} | {sum(seconds):.0f} s |"
            f" {max(seconds):.0f} s |"
        )
    syllabus = LESSONS / "README.md"
    before, rest = syllabus.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    text = f"{before}{BEGIN}\n\n" + "\n".join(rows) + f"\n\n{END}{after}"
    write_atomically(syllabus, text.encode())
    front = FRONT_PAGE.read_text(encoding="utf-8")
    for lesson, seconds in times.items():  # the last column of the lesson's row
        front = re.sub(
            rf"(?m)^(\| {lesson[:2]} \|.*\|)[^|]*\|$",
            rf"\g<1> {sum(seconds):.0f} s |",
            front,
        )
    write_atomically(FRONT_PAGE, front.encode())


def build(lesson: str) -> list[float]:
    """Convert, execute and write one lesson's notebook and figures; return the seconds
    of its code cells."""
    notebook = source_notebook(lesson)
    seconds = execute(notebook)
    figures = write_figures(lesson, notebook)
    content = nbformat.writes(notebook, version=4) + "\n"
    write_atomically(NOTEBOOKS / f"{lesson}.ipynb", content.encode())
    over = [s for s in seconds if s > CELL_BUDGET]
    note = "  OVER BUDGET" if over or sum(seconds) > LAB_BUDGET else ""
    size = f"{len(content) / 1e6:.2f} MB"
    print(
        f"{lesson}: {sum(seconds):.0f} s, slowest cell {max(seconds):.0f} s,"
        f" {len(figures)} figures, {size}{note}"
    )
    return seconds


def main() -> None:
    """Build the lessons named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lessons", nargs="*", default=lessons())
    wanted = parser.parse_args().lessons
    unknown = set(wanted) - set(lessons())
    if unknown:
        parser.error(
            f"no lab.py in {', '.join(sorted(unknown))}. Lessons:"
            f" {', '.join(lessons())}."
        )
    write_times({lesson: build(lesson) for lesson in wanted})


if __name__ == "__main__":
    main()
