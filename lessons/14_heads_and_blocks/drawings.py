"""The drawings of lesson 14."""

from tools.drawing import Drawing

SIZE = 20  # of a cell
KINDS = ("kept", "other", "third")  # of the three heads
TOP = 92  # where the matrices begin
STREAM = 170  # y of the residual stream


def _head_rows(drawing: Drawing, at: float, name: str, gone: int | None) -> None:
    """A matrix [6 rows, 5 inputs]: two rows for each of three heads."""
    rows = [["removed" if h == gone else KINDS[h]] * 5 for h in (0, 0, 1, 1, 2, 2)]
    drawing.cells((at, TOP), rows, SIZE)
    drawing.text((at + 2.5 * SIZE, TOP - 18), name, 14)
    drawing.text((at + 2.5 * SIZE, TOP + 6 * SIZE + 16), "5 inputs", 12, kind="soft")


def head_leaves() -> Drawing:
    """What leaves with a head: rows of three matrices, columns of the fourth."""
    drawing = Drawing(
        720,
        290,
        "What leaves with a head",
        "Four matrices of one attention with three heads, two numbers wide. Query, key"
        " and value have two rows for each head, one below the other. Out has two"
        " columns for each head, side by side. First all are there. Then the middle"
        " head leaves: its two rows of query, of key and of value, and its two columns"
        " of out.",
        frames=2,
    )
    said = ("three heads, each two numbers wide", "the middle head leaves")
    for number, words in enumerate(said):
        gone = 1 if number else None
        columns = "4 columns left" if number else "6 columns"
        with drawing.frame(number):
            drawing.text((360, 24), words, 16, kind="bold")
            for place, name in enumerate(("query", "key", "value")):
                _head_rows(drawing, 120 + 140 * place, name, gone)
            row = ["removed" if h == gone else KINDS[h] for h in (0, 0, 1, 1, 2, 2)]
            drawing.cells((560, TOP), [row] * 5, SIZE)
            drawing.text((620, TOP - 18), "out", 14)
            drawing.text((620, TOP + 5 * SIZE + 16), columns, 12, kind="soft")
    for h in range(3):
        y = TOP + (2 * h + 1) * SIZE
        drawing.text((58, y), f"head {h}", 13)
        drawing.line((84, y), (114, y), "arrow")
    drawing.text(
        (20, 272),
        "dotted: removed. A head is rows of query, key and value, and columns of out.",
        12,
        anchor="start",
    )
    return drawing


def _part(drawing: Drawing, at: float, name: str, gone: bool) -> None:
    """A part of a block: it reads a normalised copy of the stream, and adds to it."""
    kind = "removed" if gone else "pale"
    drawing.box((at, 92), (46, 34), kind, "" if gone else "norm", 12)
    drawing.box((at + 62, 84), (86, 50), kind, "" if gone else name, 13)
    if not gone:
        drawing.path([(at - 12, STREAM), (at - 12, 109), (at - 2, 109)], "arrow")
        drawing.line((at + 46, 109), (at + 60, 109), "arrow")
        end = at + 172
        drawing.path([(at + 148, 109), (end, 109), (end, STREAM - 14)], "arrow")
        drawing.circle((end, STREAM), 13, "paper", "+")


def stream() -> Drawing:
    """A block adds to the residual stream; without it the stream passes unchanged."""
    drawing = Drawing(
        720,
        250,
        "What a block does to the stream",
        "A thick line, the residual stream, runs from the embedding to the output"
        " layer. A block has two parts. Attention reads a normalised copy of the stream"
        " and adds what it found; then the MLP does the same. In the second picture the"
        " block is gone: the stream passes unchanged, and nothing else has to be cut.",
        frames=2,
    )
    said = ("a block adds twice to the stream", "without the block the stream passes")
    for number, words in enumerate(said):
        with drawing.frame(number):
            drawing.text((360, 26), words, 16, kind="bold")
            drawing.line((112, STREAM), (612, STREAM), "thick")
            for at, name in ((166, "attention"), (388, "MLP")):
                _part(drawing, at, name, gone=bool(number))
    drawing.box((16, 148), (96, 44), "kept", "embedding", 13)
    drawing.box((612, 148), (92, 44), "kept", "output layer", 12)
    drawing.text(
        (20, 230),
        "thick: the residual stream, 192 numbers for each piece of text",
        12,
        anchor="start",
    )
    return drawing


DRAWINGS = [head_leaves, stream]
