"""The drawings of lesson 06: what a schedule is, and drop and grow."""

from tools.drawing import Drawing


def when() -> Drawing:
    """Four ways through time to the same sparsity."""
    drawing = Drawing(
        720,
        210,
        "When the weights go",
        "Four small diagrams of the weights that are there over the training. One-shot:"
        " all, then a fall to few. In rounds: a staircase down. Gradually: a curve that"
        " is steep at first and then flat. Sparse from the start: a low flat line, with"
        " small arrows that stand for weights that change places.",
    )
    panels = {
        "one-shot": [(0, 1), (0.5, 1), (0.5, 0.12), (1, 0.12)],
        "in rounds": [
            *[(0, 1), (0.2, 1), (0.2, 0.55), (0.4, 0.55), (0.4, 0.31)],
            *[(0.6, 0.31), (0.6, 0.18), (0.75, 0.18), (0.75, 0.12), (1, 0.12)],
        ],
        "gradually": [
            *[(p / 40, 0.12 + 0.88 * (1 - p / 30) ** 3) for p in range(31)],
            (1, 0.12),
        ],
        "sparse from the start": [(0, 0.12), (1, 0.12)],
    }
    for number, (name, points) in enumerate(panels.items()):
        left, top, width, height = 44 + 172 * number, 48, 140, 110
        drawing.text((left + width / 2, 24), name, 14, kind="bold")
        drawing.path([(left, top), (left, top + height)], "soft")
        drawing.path([(left, top + height), (left + width, top + height)], "soft")
        drawing.path(
            [(left + width * x, top + height * (1 - y)) for x, y in points], "thick"
        )
        drawing.text((left + width / 2, top + height + 18), "training", 12, kind="soft")
    for x in (590, 625, 660):
        drawing.path([(x, 140), (x + 8, 128), (x + 18, 128), (x + 24, 138)], "arrow")
    drawing.text((628, 112), "they change places", 12)
    drawing.text((22, 40), "all", 12, kind="soft")
    drawing.text((22, 156), "none", 12, kind="soft")
    drawing.text(
        (360, 200), "height of the line: weights that are there", 12, kind="soft"
    )
    return drawing


K, P, N = "kept", "pruned", "other"


def drop_and_grow() -> Drawing:
    """One update of SET or RigL, on a small matrix."""
    drawing = Drawing(
        720,
        290,
        "Drop the smallest, grow as many elsewhere",
        "Three small matrices of one layer, one row a neuron. First: six kept weights"
        " among pruned ones, the two smallest marked. Second: those two are pruned."
        " Third: two new weights, which start at zero, stand in other places. SET takes"
        " any places, RigL those of the largest gradient.",
    )
    before = [
        [P, K, P, P, K, P],
        [K, P, P, K, P, P],
        [P, P, K, P, P, K],
    ]
    dropped = [
        [P, K, P, P, P, P],
        [K, P, P, K, P, P],
        [P, P, P, P, P, K],
    ]
    after = [
        [P, K, P, N, P, P],
        [K, P, P, K, P, P],
        [N, P, P, P, P, K],
    ]
    words = [
        ["", "1.2", "", "", "0.1", ""],
        ["-0.7", "", "", "0.9", "", ""],
        ["", "", "-0.2", "", "", "0.8"],
    ]
    left = [
        ["", "1.2", "", "", "", ""],
        ["-0.7", "", "", "0.9", "", ""],
        ["", "", "", "", "", "0.8"],
    ]
    grown = [
        ["", "1.2", "", "0", "", ""],
        ["-0.7", "", "", "0.9", "", ""],
        ["0", "", "", "", "", "0.8"],
    ]
    for number, (cells, labels, title) in enumerate(
        [
            (before, words, "six weights"),
            (dropped, left, "drop the two smallest"),
            (after, grown, "grow two elsewhere"),
        ]
    ):
        x = 24 + 240 * number
        drawing.text((x + 96, 24), title, 14, kind="bold")
        drawing.cells((x, 48), cells, 32, labels)
        if number:
            drawing.line((x - 42, 96), (x - 8, 96), "arrow")
    drawing.text((120, 168), "a row is a neuron,", 12, kind="soft")
    drawing.text((120, 184), "a column one of its inputs", 12, kind="soft")
    drawing.text((600, 168), "new weights start at zero", 12, kind="soft")
    drawing.box((60, 214), (290, 56), "pale", "SET: anywhere, by lot", 14)
    drawing.box(
        (370, 214), (290, 56), "pale", "RigL: where the gradient\nis largest", 14
    )
    return drawing


DRAWINGS = [when, drop_and_grow]
