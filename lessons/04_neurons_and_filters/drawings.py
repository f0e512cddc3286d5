"""The drawings of lesson 04."""

from collections.abc import Sequence

from tools.drawing import Drawing

SIZE = 24  # of a cell


def matrix(rows: int, columns: int, kind: str = "pale") -> list[list[str]]:
    """Cells of one kind."""
    return [[kind] * columns for _ in range(rows)]


def with_row(cells: list[list[str]], row: int, kind: str) -> list[list[str]]:
    """The same with one row of another kind."""
    return [[kind] * len(c) if i == row else c for i, c in enumerate(cells)]


def with_column(cells: list[list[str]], column: int, kind: str) -> list[list[str]]:
    """The same with one column of another kind."""
    return [[kind if j == column else c for j, c in enumerate(row)] for row in cells]


def neuron() -> Drawing:
    """What belongs to a neuron, what is zero when it is pruned, what is left when it
    is removed."""
    drawing = Drawing(
        720,
        300,
        "A neuron: a row, a bias, a column",
        "Two linear layers, three times. First: row 3 of the first weight, bias 3 and"
        " column 3 of the second weight belong to neuron 3. Second, pruned: the row and"
        " the bias are zero, all shapes are as before. Third, removed: row, bias and"
        " column are gone, and both weights are smaller.",
    )
    panels = {
        "belongs to neuron 3": ("kept", "kept"),
        "pruned: zero": ("pruned", "pale"),
        "removed: gone": ("removed", "removed"),
    }
    for place, (words, (first, second)) in enumerate(panels.items()):
        x = 14 + 240 * place
        drawing.text((x + 100, 20), words, 15, kind="bold")
        one = with_row(matrix(5, 5), 2, first)
        bias = with_row(matrix(5, 1), 2, first)
        two = with_column(matrix(3, 5), 2, second)
        drawing.cells((x, 62), one, SIZE)
        drawing.cells((x + 140, 62), bias, SIZE)
        drawing.cells((x, 212), two, SIZE)
        drawing.text((x + 60, 46), "first weight", 12)
        drawing.text((x + 152, 46), "bias", 12)
        drawing.text((x + 132, 248), "second\nweight", 12, anchor="start")
        # what neuron 3 puts out is what column 3 reads
        out = [(x + 164, 122), (x + 200, 122), (x + 200, 198), (x + 60, 198)]
        drawing.path([*out, (x + 60, 211)], "arrow" if first != "removed" else "dotted")
    return drawing


def stack(
    drawing: Drawing, at: tuple[float, float], rows: Sequence[Sequence[str]], words: str
) -> None:
    """Cells with words above them."""
    drawing.cells(at, rows, SIZE)
    drawing.text((at[0] + SIZE * len(rows[0]) / 2, at[1] - 20), words, 13)


def filter_leaves() -> Drawing:
    """What goes when a filter goes."""
    drawing = Drawing(
        720,
        250,
        "What leaves with a filter",
        "Three tables side by side. A convolution of four filters with three input"
        " channels: row 2 is dotted, it leaves. BatchNorm with four numbers a channel:"
        " row 2 leaves. The next convolution of five filters with four input channels:"
        " column 2 leaves, one slice of each filter.",
    )
    drawing.text(
        (360, 18),
        "filter 2 leaves (dotted); one cell of a convolution is a kernel of 3 x 3",
        14,
    )
    stack(
        drawing,
        (40, 90),
        with_row(matrix(4, 3, "kept"), 1, "removed"),
        "convolution:\n4 filters, 3 inputs",
    )
    norm = with_row(matrix(4, 4, "other"), 1, "removed")
    stack(drawing, (260, 90), norm, "BatchNorm:\n4 numbers a channel")
    for column, words in enumerate(("weight", "bias", "mean", "variance")):
        drawing.text((272 + SIZE * column, 198 + 14 * (column % 2)), words, 10)
    two = with_column(matrix(5, 4, "third"), 1, "removed")
    stack(drawing, (500, 90), two, "next convolution:\n5 filters, 4 inputs")
    drawing.line((116, 126), (256, 126), "arrow")
    drawing.path([(360, 126), (440, 126), (440, 228), (536, 228), (536, 212)], "arrow")
    drawing.text((186, 116), "channel 2", 12)
    drawing.text((402, 116), "channel 2", 12)
    return drawing


DRAWINGS = [neuron, filter_leaves]
