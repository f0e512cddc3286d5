"""The drawings of lab 11: its ideas, with made-up numbers."""

from tools.drawing import Drawing


def same_mean() -> Drawing:
    """Two ways to lose as much on average."""
    drawing = Drawing(
        700,
        290,
        "The same mean, two ways to pay",
        "Two groups of ten bars, what each class loses. On the left all ten are equally"
        " short. On the right one is very long and the others are shorter. A dashed"
        " line, the mean, is at the same height in both.",
    )
    groups = (
        (40, "each class pays a little", [30] * 10),
        (
            390,
            "one class pays for the others",
            [15, 12, 18, 14, 16, 12, 174, 14, 13, 12],
        ),
    )
    ground, wide = 230, 26
    for left, words, heights in groups:
        for place, height in enumerate(heights):
            kind = "other" if height > 60 else "kept"
            at = left + place * wide, ground - height
            drawing.box(at, (wide - 6, height), kind)
        drawing.line((left - 8, ground), (left + 10 * wide + 2, ground))
        drawing.line(
            (left - 8, ground - 30), (left + 10 * wide + 2, ground - 30), "dashed"
        )
        drawing.text((left + 5 * wide - 3, 262), words, 15)
    drawing.text((350, 199), "mean", 14)
    drawing.text((40, 26), "what each of ten classes loses", 15, anchor="start")
    return drawing


def populations() -> Drawing:
    """The usual answer of several networks to each picture, before and after."""
    drawing = Drawing(
        700,
        300,
        "Comparing populations",
        "Two tables with three networks each as rows and four pictures as columns, an"
        " answer in each cell; below each table the most frequent answer to each"
        " picture. One of the four most frequent answers differs between the tables.",
    )
    tables = (
        (
            150,
            "dense",
            (("S", "B", "C", "T"), ("S", "B", "C", "S"), ("S", "B", "P", "T")),
        ),
        (
            470,
            "pruned",
            (("S", "B", "P", "T"), ("T", "B", "P", "T"), ("S", "B", "C", "T")),
        ),
    )
    usual = (("S", "B", "C", "T"), ("S", "B", "P", "T"))
    size = 40
    for (left, words, answers), most in zip(tables, usual, strict=True):
        drawing.text((left + 2 * size, 26), f"three {words} networks", 15)
        drawing.cells((left, 50), [["pale"] * 4] * 3, size, answers)
        kinds = ["other" if a != b else "kept" for a, b in zip(*usual, strict=True)]
        drawing.cells((left, 200), [kinds], size, [most])
    for row in range(3):
        drawing.text((134, 70 + row * size), f"network {row + 1}", 13, anchor="end")
    drawing.text((134, 220), "most frequent", 13, anchor="end")
    drawing.line((320, 220), (460, 220), "arrow")
    drawing.text((390, 205), "compare", 13)
    drawing.text((410, 275), "this picture is changed", 14)
    drawing.line((505, 270), (566, 246), "arrow")
    return drawing


DRAWINGS = [same_mean, populations]
