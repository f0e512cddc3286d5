"""Print the table of lessons: what each asks of a learner, counted from the sources.
`make table`."""

import argparse
import ast

from nbformat import NotebookNode

from tools import notebooks, syllabus

HEAD = ("lab", "code cells", "code lines", "that draw", "words", "guesses", "tasks")


def row(lab: str) -> list[str]:
    """Of one notebook: code cells, lines of code, how many of these are in cells that
    show a figure, words of prose, guesses, open tasks."""
    cells = notebooks.source_notebook(lab).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    words = sum(len(c.source.split()) for c in cells if c.cell_type == "markdown")
    drawing = [cell for cell in code if draws(cell)]
    counts = (
        len(code),
        sum(map(lines, code)),
        sum(map(lines, drawing)),
        words,
        sum(called(cell, "predict") for cell in code),
        sum(called(cell, "decide") for cell in code),
    )
    return [lab, *(f"{count:,}" for count in counts)]


def draws(cell: NotebookNode) -> bool:
    """Whether a cell shows a figure."""
    return any(tag.startswith("figure:") for tag in cell.metadata.get("tags", []))


def lines(cell: NotebookNode) -> int:
    """Lines of a cell, blank ones not counted."""
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def called(cell: NotebookNode, name: str) -> int:
    """How often a cell calls a function of that name."""
    return sum(
        isinstance(node, ast.Call) and ast.unparse(node.func) == name
        for node in ast.walk(ast.parse(cell.source))
    )


def main() -> None:
    """Print a row for each notebook."""
    parser = argparse.ArgumentParser(prog="make table", description=__doc__)
    parser.parse_args()
    labs = [lab for name in notebooks.lessons() for lab in notebooks.labs(name)]
    print("\n".join(syllabus.table(HEAD, *map(row, labs))))


if __name__ == "__main__":
    main()
