"""The drawings of lesson 07: starts that tell what did it, and a mask that is
forgotten."""

from tools.drawing import Drawing

K, P = "kept", "pruned"
MASK = [[K, P, P, K], [P, P, K, P], [P, K, P, P]]
SHUFFLED = [[P, P, K, P], [K, P, P, P], [P, K, P, K]]
FIRST = [
    [".3", "-.8", ".5", ".1"],
    ["-.2", ".7", "-.4", ".6"],
    [".9", "-.1", ".2", "-.6"],
]
TRAINED = [
    ["1.2", "-.1", ".3", ".9"],
    [".0", ".2", "-1.1", ".1"],
    ["-.3", ".8", ".1", "-.2"],
]
NEW = [
    ["-.5", ".2", ".8", ".4"],
    [".1", "-.9", ".6", "-.3"],
    [".7", "-.7", "-.1", ".2"],
]


def at(mask: list[list[str]], numbers: list[list[str]]) -> list[list[str]]:
    """The numbers where the mask keeps them."""
    return [
        [number if kind == K else "" for kind, number in zip(*rows, strict=True)]
        for rows in zip(mask, numbers, strict=True)
    ]


def starts() -> Drawing:
    """Where networks of one size may start, to tell what did it."""
    drawing = Drawing(
        720,
        420,
        "What did it? Five starts with the same number of weights",
        "Upper row: a matrix of first weights, after training other numbers, then a"
        " mask that keeps the four largest. Lower row, all with four weights: trained"
        " weights under the mask; the ticket, first weights under the mask; new random"
        " weights under the mask; first weights under a shuffled mask; a small dense"
        " matrix.",
    )
    full = [[K] * 4] * 3
    for x, title, cells, words in (
        (60, "first weights", full, FIRST),
        (296, "trained", full, TRAINED),
        (532, "the mask: the largest", MASK, at(MASK, TRAINED)),
    ):
        drawing.text((x + 64, 24), title, 14, kind="bold")
        drawing.cells((x, 46), cells, 32, words)
    drawing.line((200, 94), (284, 94), "arrow")
    drawing.text((242, 78), "train", 12)
    drawing.line((436, 94), (520, 94), "arrow")
    drawing.text((478, 78), "prune", 12)
    drawing.text((360, 180), "then each of these is trained, for equally long:", 14)
    for number, (title, cells, words) in enumerate(
        [
            ("trained\nweights kept", MASK, at(MASK, TRAINED)),
            ("the ticket:\nfirst weights", MASK, at(MASK, FIRST)),
            ("same mask,\nnew weights", MASK, at(MASK, NEW)),
            ("mask shuffled,\nfirst weights", SHUFFLED, at(SHUFFLED, FIRST)),
        ]
    ):
        x = 14 + 144 * number
        drawing.text((x + 60, 222), title, 13, kind="bold")
        drawing.cells((x, 252), cells, 30, words)
    drawing.text((645, 222), "a small\ndense network", 13, kind="bold")
    drawing.cells((615, 267), [[K, K], [K, K]], 30, [["-.5", ".2"], [".1", "-.9"]])
    for number, words in enumerate(
        (
            "what they learned",
            "how they began",
            "which places",
            "how many in each\nlayer",
            "how many\nin all",
        )
    ):
        drawing.text((74 + 144 * number, 376), words, 12, kind="soft")
    drawing.text(
        (360, 408),
        "what each still has of the pruned network: less and less from left to right",
        12,
        kind="soft",
    )
    return drawing


def forgotten() -> Drawing:
    """A mask held, and a mask forgotten."""
    drawing = Drawing(
        720,
        230,
        "A mask that is held, and one that is forgotten",
        "One matrix, pruned. An arrow to the right: after a step of the optimizer all"
        " its cells hold numbers. From there two ways: the mask is applied again and"
        " the zeros are back; or nothing is done and the network is dense again.",
    )
    drawing.text((88, 24), "pruned", 14, kind="bold")
    drawing.cells((24, 60), MASK, 32, at(MASK, TRAINED))
    drawing.line((162, 108), (236, 108), "arrow")
    drawing.text((199, 92), "step", 12)
    moved = [
        ["1.1", ".02", "-.01", ".9"],
        [".01", "-.03", "-1.", ".02"],
        ["-.02", ".7", ".01", ".03"],
    ]
    drawing.text((312, 24), "after the step", 14, kind="bold")
    kinds = [["kept" if k == K else "other" for k in row] for row in MASK]
    drawing.cells((248, 60), kinds, 32, moved)
    drawing.line((386, 94), (476, 60), "arrow")
    drawing.line((386, 122), (476, 166), "arrow")
    drawing.text((600, 20), "mask applied again: sparse", 13, kind="bold")
    drawing.cells((536, 34), MASK, 26, at(MASK, moved))
    drawing.text((600, 128), "mask forgotten: dense", 13, kind="bold")
    drawing.cells((536, 142), kinds, 26, moved)
    return drawing


DRAWINGS = [forgotten, starts]
