"""The drawings of lesson 13."""

from tools.drawing import Drawing


def stream() -> Drawing:
    """A block beside the residual stream: it reads a normalised copy, and adds."""
    picture = Drawing(
        700,
        330,
        "A block and the stream",
        "A thick line from left to right, the residual stream. Twice a copy leaves it"
        " upwards, goes through a norm and then through attention or the neurons, and"
        " comes back down, where it is added to the stream.",
    )
    picture.text((20, 258), "each piece as\n192 numbers", 13, anchor="start")
    picture.line((20, 220), (652, 220), "thick")
    picture.line((652, 220), (680, 220), "arrow")
    picture.text((684, 250), "to the next block", 13, anchor="end")
    parts = [
        (120, "attention", "looks at\nearlier pieces"),
        (400, "neurons", "look at each\npiece by itself"),
    ]
    for left, name, about in parts:
        picture.line((left, 220), (left, 152), "arrow")
        picture.box((left - 38, 110), (76, 40), "pale", "norm")
        picture.line((left, 110), (left, 60))
        picture.line((left, 60), (left + 48, 60), "arrow")
        picture.box((left + 50, 36), (110, 48), "other", name)
        picture.text((left + 105, 112), about, 12, kind="soft")
        picture.line((left + 160, 60), (left + 200, 60))
        picture.line((left + 200, 60), (left + 200, 204), "arrow")
        picture.circle((left + 200, 220), 15, "paper", "+")
    picture.text((330, 290), "the residual stream: each part reads it and adds to it")
    picture.text((330, 312), "six such blocks, one after another", 13, kind="soft")
    return picture


SIZES = ((60, 34, 48, 26), (24, 68, 48, 52))  # of four inputs, in pixels
PRODUCTS = (840, 1360, 1056, 1196)  # the same on both sides


def hidden_scale() -> Drawing:
    """The same products from other gains and other weights: larger input, smaller
    weight."""
    picture = Drawing(
        700,
        330,
        "What a norm hides",
        "Two networks side by side. In each four bars for the inputs behind a norm and"
        " four bars for the weights that read them. On the right some inputs are larger"
        " and their weights smaller, others the reverse; the outputs are the same.",
    )
    heads = ("as trained", "in other units")
    for side, head in enumerate(heads):
        left = 75 + 350 * side
        picture.text((left + 115, 24), head, kind="bold")
        picture.text((left - 4, 90), "gain", 13, anchor="end")
        picture.text((left - 4, 196), "weight", 13, anchor="end")
        for place in range(4):
            x = left + 20 + 55 * place
            size = SIZES[side][place]
            weight = PRODUCTS[place] / size
            picture.box((x, 122 - size), (30, size), "other")
            picture.line((x + 15, 128), (x + 15, 158), "arrow")
            picture.box((x, 224 - weight), (30, weight), "kept")
        picture.line((left + 10, 122), (left + 230, 122))
        picture.line((left + 10, 224), (left + 230, 224))
        picture.line((left + 115, 230), (left + 115, 262), "arrow")
        picture.box((left + 70, 264), (90, 30), "pale", "output")
    picture.text((365, 280), "=", 26)
    picture.text((350, 316), "gain up, weight down: each product stays as it was", 14)
    return picture


DRAWINGS = [stream, hidden_scale]
