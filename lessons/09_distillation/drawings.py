"""The drawings of lesson 09."""

import math
from collections.abc import Sequence

from tools.drawing import Drawing, Point

BAR, GAP = 16, 5  # width of a bar, and between two


def bars(
    drawing: Drawing, foot: Point, heights: Sequence[float], kind: str, full: float
) -> None:
    """Upright bars side by side on a line; `full` is the height of 1."""
    x, y = foot
    for place, height in enumerate(heights):
        left = x + place * (BAR + GAP), y - full * height
        drawing.box(left, (BAR, full * height), kind)
    drawing.line((x - 4, y), (x + len(heights) * (BAR + GAP), y))


def two_goals() -> Drawing:
    """One picture; teacher, student and label; the two parts of the loss."""
    drawing = Drawing(
        720,
        370,
        "Distillation: two goals for one student",
        "A picture goes to a large dense teacher and to a small pruned student. The"
        " teacher answers with a bar for each class, the label with one bar. The"
        " student's bars are compared with both: two parts of one loss.",
    )
    drawing.box((16, 138), (92, 60), "pale", "one picture")
    drawing.box((160, 36), (130, 62), "kept", "teacher\n(dense)")
    drawing.box((160, 160), (130, 62), "other", "student\n(pruned)")
    drawing.box((160, 284), (130, 62), "pale", 'label\n"Shirt"')
    drawing.line((108, 158), (158, 76), "arrow")
    drawing.line((108, 172), (158, 188), "arrow")
    drawing.line((62, 200), (158, 310), "dashed")
    rows = {
        100: ((0.74, 0.42, 0.3, 0.16, 0.04), "kept"),
        224: ((0.5, 0.34, 0.12, 0.4, 0.2), "other"),
        348: ((1.0, 0.0, 0.0, 0.0, 0.0), "third"),
    }
    for y, (heights, kind) in rows.items():
        drawing.line((292, y - 34), (322, y - 34), "arrow")
        bars(drawing, (334, y), heights, kind, 66)
    drawing.text((388, 16), "a bar for each class", 13, kind="soft")
    drawing.box((506, 86), (198, 56), "paper", "teacher's part:\nhow far apart?")
    drawing.box((506, 232), (198, 56), "paper", "labels' part:\nhow far apart?")
    for start, end in [((446, 66), 104), ((446, 186), 126)]:
        drawing.line(start, (504, end), "arrow")
    for start, end in [((446, 206), 250), ((446, 318), 272)]:
        drawing.line(start, (504, end), "arrow")
    drawing.text((605, 187), "loss: a weighted\nsum of both", 14, kind="bold")
    drawing.line((605, 142), (605, 164))
    drawing.line((605, 210), (605, 230))
    return drawing


def softer() -> Drawing:
    """The same five outputs at three temperatures."""
    drawing = Drawing(
        720,
        210,
        "A temperature makes an answer softer",
        "The same five outputs of a made-up network as probabilities at a low, a middle"
        " and a high temperature: one tall bar, then a staircase, then bars that are"
        " nearly alike. Their order stays.",
    )
    outputs = (4.0, 2.6, 1.8, 0.9, -1.0)
    for place, (words, t) in enumerate(
        [("low temperature", 0.6), ("higher", 2.0), ("very high", 12.0)]
    ):
        powers = [math.exp(output / t) for output in outputs]
        x = 70 + 225 * place
        bars(drawing, (x, 158), [p / sum(powers) for p in powers], "kept", 130)
        drawing.text((x + 50, 182), words, 14)
        if place < 2:
            drawing.line((x + 128, 100), (x + 192, 100), "arrow")
    return drawing


DRAWINGS = [two_goals, softer]
