"""The drawings of lab 99: its idea, without a result."""

from tools.drawing import Drawing

PRUNED = {(0, 1), (1, 0), (1, 2), (2, 1)}  # row and column


def idea() -> Drawing:
    """A matrix before and after pruning."""
    drawing = Drawing(
        360,
        150,
        "Pruning sets weights to zero",
        "A matrix of nine weights; an arrow; the same matrix, four of its cells crossed"
        " out.",
    )
    rows = [["kept"] * 3 for _ in range(3)]
    pruned = [
        ["pruned" if (row, column) in PRUNED else "kept" for column in range(3)]
        for row in range(3)
    ]
    drawing.cells((40, 20), rows, size=28)
    drawing.line((140, 62), (210, 62), "arrow")
    drawing.cells((230, 20), pruned, size=28)
    drawing.text((82, 126), "weights")
    drawing.text((272, 126), "four are zero")
    return drawing


DRAWINGS = [idea]
