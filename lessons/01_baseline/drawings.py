"""The drawings of lesson 01."""

from tools.drawing import Drawing

RIGHT = {  # of twelve pictures, which the two networks get right
    "network A": "110111101111",
    "network B": "110111011111",
}
SIZE, LEFT = 40, 170


def same_pictures() -> Drawing:
    """Two networks on the same twelve pictures: only where they differ, something is
    learnt."""
    drawing = Drawing(
        720,
        250,
        "Compared on the same pictures",
        "Twelve pictures in a row. Network A and network B get the same ten of them"
        " right or wrong alike; one picture A alone gets right, one B alone. A third"
        " row has plus one and minus one there, and zero everywhere else.",
    )
    rows = list(RIGHT.values())
    drawing.text((LEFT + 6 * SIZE, 22), "twelve validation pictures", 15, kind="bold")
    for row, (name, right) in enumerate(RIGHT.items()):
        y = 42 + row * (SIZE + 8)
        drawing.text((20, y + SIZE / 2), name, 15, anchor="start")
        kinds = [["kept" if each == "1" else "paper" for each in right]]
        words = [["right" if each == "1" else "wrong" for each in right]]
        drawing.cells((LEFT, y), kinds, SIZE)
        for place, word in enumerate(words[0]):
            on = "on" if word == "right" else ""
            drawing.text((LEFT + (place + 0.5) * SIZE, y + SIZE / 2), word, 12, kind=on)
    y = 42 + 2 * (SIZE + 8) + 14
    drawing.text((20, y + SIZE / 2), "A minus B", 15, anchor="start", kind="bold")
    signs = [int(a) - int(b) for a, b in zip(*rows, strict=True)]
    drawing.cells((LEFT, y), [["other" if s else "pale" for s in signs]], SIZE)
    for place, sign in enumerate(signs):
        middle = LEFT + (place + 0.5) * SIZE, y + SIZE / 2
        kind = "dark" if sign else "soft"
        drawing.text(middle, f"{sign:+d}" if sign else "0", 14, kind=kind)
    drawing.text(
        (LEFT + 6 * SIZE, y + SIZE + 26),
        "the mean is the difference; only the marked pictures move it",
        14,
    )
    return drawing


def _timeline(drawing: Drawing, y: float, order: str, words: str) -> None:
    """Runs of A and B one after the other, as boxes."""
    drawing.text((20, y + 18), words, 15, anchor="start")
    for place, name in enumerate(order):
        kind = "kept" if name == "A" else "other"
        drawing.box((LEFT + place * 62, y), (54, 36), kind, name)


def in_turn() -> Drawing:
    """Two ways to time two networks while something disturbs the machine."""
    drawing = Drawing(
        720,
        210,
        "Timed in turn",
        "Two timelines of eight runs. In the upper one network A runs four times, then"
        " network B four times; a disturbance covers the last three runs, all of B. In"
        " the lower one A and B take turns, and the same disturbance covers runs of"
        " both.",
    )
    start, end = LEFT + 5 * 62 - 4, LEFT + 8 * 62 - 4
    drawing.box((start, 34), (end - start, 156), "pale")
    drawing.text(((start + end) / 2, 18), "another program runs", 14)
    _timeline(drawing, 54, "AAAABBBB", "one after the other")
    _timeline(drawing, 134, "ABABABAB", "in turn")
    return drawing


DRAWINGS = [same_pictures, in_turn]
