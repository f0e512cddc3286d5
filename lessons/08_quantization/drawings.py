"""The drawings of lesson 08: grids, and what is stored of a pruned row."""

from collections.abc import Sequence

from tools.drawing import Drawing

LEFT, RIGHT = 60.0, 660.0  # of a number line
# of a made-up row: where its weights lie, in steps of the grid that reaches to all
WEIGHTS = (-1.3, -0.62, -0.2, 0.1, 0.35, 0.7, 1.2, 3.0)


def lattice() -> Drawing:
    """A grid for weights, one for activations, and one that is cut off."""
    drawing = Drawing(
        720,
        440,
        "Three grids",
        "Three number lines. Weights: seven levels from minus 3 to 3, 0 in the middle;"
        " each weight moves to the nearest level, and the one large weight decides how"
        " far apart the levels lie. Cut off: the levels lie closer; the large weight"
        " becomes the last level. Activations: eight levels from 0 to 7 between low and"
        " high; level 2, the zero point, stands for 0.0.",
    )
    middle = (LEFT + RIGHT) / 2
    _line(drawing, 80, "weights: the largest decides the scale")
    step = 90.0
    _levels(drawing, 80, [(middle + n * step, str(n)) for n in range(-3, 4)])
    for weight in WEIGHTS:
        _move(drawing, 80, middle + weight * step, middle + round(weight) * step)
    drawing.line((middle + step, 128), (middle + 2 * step, 128), "line")
    drawing.text((middle + 1.5 * step, 142), "scale", 13)

    _line(drawing, 220, "the same weights, grid cut off: closer levels")
    close = 50.0
    _levels(drawing, 220, [(middle + n * close, str(n)) for n in range(-3, 4)])
    for weight in WEIGHTS:
        level = max(-3, min(3, round(weight * step / close)))
        _move(drawing, 220, middle + weight * step, middle + level * close)
    drawing.text((middle + 2.45 * step, 178), "saturates", 13)

    _line(drawing, 360, "activations: levels from low to high")
    places = [LEFT + 60 + 68 * n for n in range(8)]
    _levels(drawing, 360, [(x, str(n)) for n, x in enumerate(places)])
    drawing.text((places[0], 404), "low", 13)
    drawing.text((places[-1], 404), "high", 13)
    drawing.box((places[2] - 13, 371), (26, 22), "other", "2", letters=13)
    drawing.text((places[2], 404), "zero point: stands for 0.0", 13)
    for x in (0.4, 1.7, 2.0, 3.3, 4.6, 6.2):
        _move(drawing, 360, places[0] + 68 * x, places[round(x)])
    return drawing


def _line(drawing: Drawing, y: float, words: str) -> None:
    drawing.text((LEFT, y - 52), words, 15, anchor="start", kind="bold")
    drawing.line((LEFT, y), (RIGHT, y), "soft")


def _levels(drawing: Drawing, y: float, levels: Sequence[tuple[float, str]]) -> None:
    for x, name in levels:
        drawing.line((x, y - 8), (x, y + 8), "line")
        drawing.text((x, y + 22), name, 13)


def _move(drawing: Drawing, y: float, start: float, end: float) -> None:
    """A number, and the level that it moves to."""
    drawing.circle((start, y - 28), 4.5, "kept")
    drawing.line((start, y - 22), (end, y - 4), "arrow")


def file_layout() -> Drawing:
    """What is stored of a row: all of it, the rest with gaps, shared values, codes."""
    drawing = Drawing(
        720,
        400,
        "One row in four files",
        "Four lines, each shorter than the one above. Dense: twelve values of 32 bits."
        " Pruned: four values of 32 bits, each with a short gap before it. Shared: the"
        " gaps stay, and each value is only the number of a shared value, in a short"
        " box; the shared values are listed once. Coded: frequent gaps and numbers have"
        " become shorter still.",
    )
    kinds = ["pruned"] * 12
    for place in KEPT:
        kinds[place] = "kept"
    _title(drawing, 24, "dense: 32 bits for every place, zeros too")
    drawing.cells((LEFT, 42), [kinds], size=46)
    _title(drawing, 124, "pruned: the values that stay, and the gap before each")
    x = LEFT
    for gap in GAPS:
        x = _pieces(drawing, x, 142, ((20, "other", gap), (46, "kept", "")))
    _title(drawing, 214, "shared: the number of a value; the values are listed once")
    x = LEFT
    for gap, number in zip(GAPS, NUMBERS, strict=True):
        x = _pieces(drawing, x, 232, ((20, "other", gap), (20, "third", number)))
    drawing.text((x + 110, 250), "a  =", 14)
    drawing.box((x + 134, 232), (46, 36), "kept")
    drawing.text((x + 210, 250), "b  =", 14)
    drawing.box((x + 234, 232), (46, 36), "kept")
    _title(drawing, 304, "coded: what is frequent gets a shorter code")
    x = LEFT
    for gap, number in zip(GAPS, NUMBERS, strict=True):
        wide = 18 if gap == "2" else 24
        narrow = 13 if number == "a" else 18
        x = _pieces(drawing, x, 322, ((wide, "other", gap), (narrow, "third", number)))
    drawing.box((450, 318), (20, 18), "other")
    drawing.text((480, 327), "gap: how many zeros come before", 13, anchor="start")
    drawing.box((450, 344), (20, 18), "third")
    drawing.text((480, 353), "number of a shared value", 13, anchor="start")
    drawing.box((450, 370), (20, 18), "kept")
    drawing.text((480, 379), "a value, 32 bits", 13, anchor="start")
    return drawing


KEPT = (2, 5, 7, 10)  # places of the row that are not zero
GAPS = ("2", "2", "1", "2")  # zeros before each
NUMBERS = ("a", "b", "a", "a")


def _title(drawing: Drawing, y: float, words: str) -> None:
    drawing.text((LEFT, y), words, 15, anchor="start", kind="bold")


def _pieces(
    drawing: Drawing, x: float, y: float, parts: Sequence[tuple[float, str, str]]
) -> float:
    """Boxes one after another; where the next one begins."""
    for width, kind, label in parts:
        drawing.box((x, y), (width, 36), kind, label, letters=13)
        x += width + 1
    return x + 3


DRAWINGS = [lattice, file_layout]
