"""The drawings of lab 15: its ideas, without a result."""

from tools.drawing import Drawing


def path() -> Drawing:
    """Prune, heal, quantize: what each step changes."""
    drawing = Drawing(
        720,
        300,
        "Three steps to a small file",
        "Four matrices in a row. Prune: half of the rows leave, the rest is unchanged."
        " Heal: the same shape, each number moved a little by a short training, which"
        " labels and the dense network guide. Quantize: the same shape, each number"
        " moved to the nearest step of a coarse scale.",
    )
    drawing.text((76, 28), "dense", kind="bold")
    rows = [["kept"] * 4 for _ in range(6)]
    drawing.cells((28, 48), rows)
    cut = [["kept"] * 4 if row % 2 == 0 else ["removed"] * 4 for row in range(6)]
    drawing.line((134, 120), (188, 120), "arrow")
    drawing.text((161, 100), "prune")
    drawing.text((246, 28), "cut", kind="bold")
    drawing.cells((198, 48), cut)
    drawing.line((304, 120), (358, 120), "arrow")
    drawing.text((331, 100), "heal")
    drawing.text((416, 28), "healed", kind="bold")
    drawing.cells((368, 84), [["third"] * 4 for _ in range(3)])
    drawing.line((474, 120), (548, 120), "arrow")
    drawing.text((511, 100), "quantize")
    drawing.text((606, 28), "small", kind="bold")
    drawing.cells((558, 84), [["pale"] * 4 for _ in range(3)])
    drawing.box((336, 190), (160, 30), "paper", "the text: labels")
    drawing.box((336, 230), (160, 30), "kept", "dense network")
    drawing.line((416, 188), (416, 162), "arrow")
    drawing.text((246, 214), "fewer numbers", 13, kind="soft")
    drawing.text((416, 280), "other numbers", 13, kind="soft")
    drawing.text((606, 180), "fewer bits\na number", 13, kind="soft")
    return drawing


def beside() -> Drawing:
    """What LoRA adds to a frozen layer."""
    drawing = Drawing(
        720,
        250,
        "Two thin matrices beside a frozen layer",
        "An input goes to a large frozen matrix and beside it through two thin ones"
        " that learn: down to a few numbers, and up again. Both outputs are added."
        " Afterwards up times down is added to the frozen matrix, and the thin ones"
        " are gone.",
    )
    drawing.box((20, 96), (64, 44), "pale", "x")
    drawing.cells((170, 24), [["kept"] * 6 for _ in range(4)], size=22)
    drawing.text((236, 128), "frozen weight", 13)
    drawing.cells((150, 168), [["third"] * 6], size=22)
    drawing.text((216, 212), "down: learns", 13)
    drawing.cells((352, 146), [["third"]] * 4, size=22)
    drawing.text((410, 226), "up: learns", 13)
    drawing.line((86, 110), (164, 70), "arrow")
    drawing.line((86, 128), (144, 176), "arrow")
    drawing.line((286, 179), (346, 179), "arrow")
    drawing.line((306, 70), (424, 108), "arrow")
    drawing.line((378, 179), (424, 130), "arrow")
    drawing.circle((438, 119), 14, "paper", "+")
    drawing.line((454, 119), (500, 119), "arrow")
    drawing.text((532, 119), "output", 13)
    drawing.cells((590, 76), [["other"] * 6 for _ in range(4)], size=18)
    drawing.text((644, 40), "afterwards:\none plain weight", 13)
    drawing.text((644, 176), "weight + up @ down", 13)
    return drawing


DRAWINGS = [path, beside]
