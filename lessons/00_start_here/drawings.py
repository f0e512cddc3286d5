"""The drawings of lesson 00."""

from tools.drawing import Drawing

ROWS, COLUMNS, SIZE = 4, 5, 30
ZEROS = {(0, 1), (0, 4), (1, 0), (1, 2), (1, 3), (2, 1), (3, 0), (3, 2), (3, 4)}
GONE = (1, 3)  # rows: the neurons that are taken out


def _matrix(kind: str) -> list[list[str]]:
    """The kinds of the cells of a layer that is dense, pruned or has lost neurons."""
    rows = [["kept"] * COLUMNS for _ in range(ROWS)]
    for i in range(ROWS):
        for j in range(COLUMNS):
            if kind == "pruned" and (i, j) in ZEROS:
                rows[i][j] = "pruned"
            if kind == "removed" and i in GONE:
                rows[i][j] = "removed"
    return rows


def pruned_or_removed() -> Drawing:
    """One layer, three times: dense, with zeros, with fewer rows."""
    drawing = Drawing(
        720,
        260,
        "Pruned or removed",
        "Three tables of four rows and five columns. In the first all cells are filled:"
        " dense. In the second nine cells are empty with a stroke through them, and the"
        " table is as large as before: pruned. In the third two whole rows are only"
        " dotted outlines: removed, and the table has two rows left.",
    )
    heads = {
        "dense": ("dense", "each cell is a weight,\neach row a neuron"),
        "pruned": ("pruned", "the number is zero;\nit is still a number"),
        "removed": ("removed", "the rows are gone;\nthe table is smaller"),
    }
    for place, (kind, (head, words)) in enumerate(heads.items()):
        middle = 120 + 240 * place
        drawing.text((middle, 28), head, 17, kind="bold")
        corner = middle - COLUMNS * SIZE / 2, 52
        drawing.cells(corner, _matrix(kind), SIZE)
        drawing.text((middle, 215), words, 14)
    return drawing


DRAWINGS = [pruned_or_removed]
