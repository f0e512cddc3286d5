"""The drawings of lesson 10."""

from tools.drawing import Drawing


def export() -> Drawing:
    """A program becomes a list of operations with weights, which another program
    runs."""
    drawing = Drawing(
        720,
        300,
        "From a program to a file",
        "Left a network in PyTorch: five blocks of code, convolution, BatchNorm, ReLU,"
        " pooling, linear. In the middle the exported file, a list of operations with"
        " their weights, in which BatchNorm is gone: an arrow leads from it into the"
        " convolution before it. Right the runtime, a small program that runs the file"
        " without Python.",
    )
    drawing.text((105, 22), "PyTorch: a program", 14, kind="bold")
    drawing.text((362, 22), "a file: a list, and weights", 14, kind="bold")
    drawing.text((617, 22), "the runtime", 14, kind="bold")
    layers = ("convolution", "BatchNorm", "ReLU", "pooling", "linear")
    for place, name in enumerate(layers):
        kind = "other" if name == "BatchNorm" else "pale"
        drawing.box((30, 44 + 48 * place), (150, 38), kind, name)
    kept = ("convolution", "ReLU", "pooling", "linear")
    for place, name in enumerate(kept):
        drawing.box((287, 54 + 56 * place), (110, 42), "kept", name)
        if name in ("convolution", "linear"):
            kinds = ["other" if name == "convolution" else "pale"] * 2
            drawing.cells((403, 63 + 56 * place), [["pale", *kinds]], 20)
    drawing.line((182, 63), (284, 72), "arrow")
    drawing.path([(182, 111), (240, 111), (240, 84), (284, 84)], "arrow")
    drawing.text((232, 128), "folded in", 12, kind="soft")
    for start, end in ((159, 131), (207, 187), (255, 243)):
        drawing.line((182, start), (284, end), "arrow")
    drawing.box((540, 90), (154, 120), "third", "runs the list,\nwithout Python")
    drawing.line((472, 150), (536, 150), "arrow")
    drawing.text((617, 236), "same answers?\ncheck", 13, kind="soft")
    return drawing


def orders() -> Drawing:
    """Two ways from one corner of a square to the opposite one."""
    drawing = Drawing(
        720,
        300,
        "Two orders of the same two steps",
        "A square of four networks. Upper left: dense, in PyTorch. Lower right: pruned,"
        " in the runtime. One way goes right and then down, the other down and then"
        " right. Each step stands on two sides of the square, and may give another"
        " factor on each.",
    )
    boxes = {
        (40, 30): ("pale", "dense,\nin PyTorch"),
        (480, 30): ("pale", "pruned,\nin PyTorch"),
        (40, 206): ("pale", "dense,\nin the runtime"),
        (480, 206): ("kept", "pruned,\nin the runtime"),
    }
    for place, (kind, words) in boxes.items():
        drawing.box(place, (200, 62), kind, words)
    for y, words in ((61, "prune: x ?"), (237, "prune: x ?")):
        drawing.line((242, y), (476, y), "arrow")
        drawing.text((358, y - 16), words, 14)
    for x, side, at in ((140, "start", 152), (580, "start", 592)):
        drawing.line((x, 94), (x, 202), "arrow")
        drawing.text((at, 148), "runtime: x ?", 14, side)
    drawing.text((360, 148), "both ways end\nat the same corner", 13, kind="soft")
    return drawing


def memory() -> Drawing:
    """While a layer computes, its input and its output are both there."""
    drawing = Drawing(
        720,
        230,
        "What must be in memory at the same time",
        "Three layers in a row between stacks of maps: large maps at the front, small"
        " ones at the end. A bracket around one layer holds its input and its output:"
        " both must be in memory while it computes. Weights lie in the file.",
    )
    stacks = ((60, 96, 1), (210, 96, 3), (400, 48, 4), (560, 24, 5))
    for x, size, count in stacks:
        for place in range(count):
            drawing.box((x + 9 * place, 60 + 6 * place), (size, size), "pale")
    for x, name in ((180, "layer"), (358, "layer"), (518, "layer")):
        drawing.text((x, 40), name, 12, kind="soft")
        drawing.line((x - 14, 52), (x + 16, 52), "arrow")
    drawing.path([(52, 180), (52, 194), (330, 194), (330, 180)], "thick")
    drawing.text((191, 212), "this layer's input and output, both in memory", 13)
    drawing.text((560, 150), "later maps are small,\nlater layers have the weights", 13)
    return drawing


DRAWINGS = [export, orders, memory]
