"""The drawings of lab 12: its ideas, with made-up numbers."""

from tools.drawing import Drawing


def front() -> Drawing:
    """Candidates, the front, and a budget."""
    drawing = Drawing(
        700,
        330,
        "A front and a budget",
        "Candidates as points: to the left is smaller, upwards is more accurate. Filled"
        " points are beaten by none and are joined by a line; hollow ones lie below and"
        " to the right of one that beats them. Dashed lines mark a budget: one filled"
        " point lies inside, at the upper left.",
    )
    left, ground = 70, 280
    drawing.box((left, 40), (270, 125), "pale")
    drawing.line((left, ground), (670, ground), "arrow")
    drawing.line((left, ground), (left, 24), "arrow")
    drawing.text((600, 305), "more bytes", 14)
    drawing.text((60, 24), "right", 14, anchor="end")
    drawing.line((340, 40), (340, ground), "dashed")
    drawing.line((left, 165), (650, 165), "dashed")
    best = [(120, 235), (200, 190), (300, 120), (440, 80), (600, 60)]
    drawing.path(best)
    for point in best:
        drawing.circle(point, 9, "kept")
    for point in [(250, 225), (390, 190), (480, 130), (590, 110), (540, 215)]:
        drawing.circle(point, 9)
    drawing.text((86, 58), "within the budget", 13, anchor="start")
    drawing.text((286, 105), "fits", 13, anchor="end")
    drawing.text((494, 145), "beaten", 13, anchor="start")
    drawing.line((470, 125), (452, 92), "arrow")
    drawing.text((520, 50), "the front", 13)
    return drawing


def one_file() -> Drawing:
    """What the scorer sees: the file, in a process of its own."""
    drawing = Drawing(
        700,
        200,
        "What counts is the file",
        "A notebook with training, pruning and rounding writes one file. An arrow leads"
        " from the file alone to a separate box, a fresh process, which asks it about"
        " pictures, weighs it and times it. No arrow leads there from the notebook.",
    )
    drawing.box((20, 30), (210, 140), "pale")
    drawing.text((125, 50), "your notebook", 14, kind="bold")
    for row, words in enumerate(("train", "remove", "round")):
        drawing.box((50, 70 + 32 * row), (150, 26), "paper", words, 13)
    drawing.line((230, 100), (286, 100), "arrow")
    drawing.box((290, 76), (110, 48), "kept", "one file", 15)
    drawing.line((400, 100), (456, 100), "arrow")
    drawing.box((460, 30), (220, 140), "pale")
    drawing.text((570, 50), "a fresh process", 14, kind="bold")
    for row, words in enumerate(("how many bytes?", "how fast?", "how many right?")):
        drawing.text((570, 83 + 32 * row), words, 14)
    return drawing


DRAWINGS = [front, one_file]
