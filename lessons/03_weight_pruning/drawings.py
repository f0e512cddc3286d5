"""The drawings of lesson 03."""

from tools.drawing import Drawing

SIZES = (("0.9", "0.1", "0.4"), ("0.2", "0.7", "0.3"), ("0.1", "0.5", "0.8"))
GONE = ("0.1", "0.2", "0.3")


def threshold_to_mask() -> Drawing:
    """Sizes of weights, the mask that a threshold makes, and the weights afterwards."""
    picture = Drawing(
        660,
        210,
        "From sizes to a mask",
        "Three matrices of three by three: the sizes of weights; the mask, true where"
        " the size is above the threshold; the weights, zero where the mask is false.",
    )
    kinds = [["pruned" if size in GONE else "kept" for size in row] for row in SIZES]
    pale = [["pale"] * 3 for _ in SIZES]
    filled = [["pale" if kind == "pruned" else kind for kind in row] for row in kinds]
    truth = [["F" if size in GONE else "T" for size in row] for row in SIZES]
    picture.text((90, 24), "sizes |w|", kind="bold")
    picture.cells((30, 50), pale, 40, SIZES)
    picture.line((165, 110), (245, 110), "arrow")
    picture.text((205, 84), "above the\nthreshold?", 12)
    picture.text((320, 24), "mask", kind="bold")
    picture.cells((260, 50), filled, 40, truth)
    picture.line((395, 110), (475, 110), "arrow")
    picture.text((435, 94), "apply", 12)
    picture.text((550, 24), "pruned", kind="bold")
    picture.cells((490, 50), kinds, 40)
    picture.text((550, 190), "the tensor keeps its shape", 12, kind="soft")
    return picture


LARGE_LAYER = (10, 34, 18, 46, 26, 14, 40, 22)
SMALL_LAYER = (50, 78, 38, 90)


def who_competes() -> Drawing:
    """The weights of two layers as bars, below one threshold and below one each."""
    picture = Drawing(
        660,
        270,
        "Who competes with whom",
        "Bars for the sizes of the weights of a large and a small layer, twice. Left:"
        " one line across both; what ends below it is pruned. Right: each layer has"
        " a line of its own that prunes half of it.",
    )
    for x, title, lines in (
        (30, "global: one threshold", (36, 36)),
        (360, "layerwise: one each", (24, 60)),
    ):
        picture.text((x + 135, 22), title, kind="bold")
        layers = (x, LARGE_LAYER), (x + 175, SMALL_LAYER)
        for (start, sizes), line in zip(layers, lines, strict=True):
            for place, size in enumerate(sizes):
                kind = "kept" if size > line else "pruned"
                corner = start + 20 * place, 200 - 1.6 * size
                picture.box(corner, (14, 1.6 * size), kind)
            end = start + 20 * len(sizes) + 2
            picture.line(
                (start - 8, 200 - 1.6 * line), (end, 200 - 1.6 * line), "dashed"
            )
            picture.line((start - 8, 200), (end, 200))
        picture.text((x + 76, 220), "large layer", 12)
        picture.text((x + 212, 220), "small layer", 12)
    picture.text((330, 250), "filled: kept; outlined: pruned", 12, kind="soft")
    return picture


DRAWINGS = [threshold_to_mask, who_competes]
