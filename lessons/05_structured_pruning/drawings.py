"""The drawings of lesson 05."""

from collections.abc import Collection

from tools.drawing import Drawing

SIZE = 22  # of a cell: one filter
TOP, LOW = 70, 220  # where the filters inside the blocks begin, and those of the stem
PLACES = {  # upper left corner of the filters of each convolution
    "first": (70, LOW),
    "3.0.conv1": (190, TOP),
    "3.0.conv2": (265, TOP),
    "3.1.conv1": (445, TOP),
    "3.1.conv2": (520, TOP),
}
ADDED = ("first", "3.0.conv2", "3.1.conv2")  # all of these meet in additions
ADDITIONS = (345, 600)  # x of the two circles
MIDDLE = LOW + 2 * SIZE


def _stage(drawing: Drawing, without: Collection[str], fits: bool, words: str) -> None:
    """The first stage; the convolutions named have lost filter 3."""
    drawing.text((360, 22), words, 16, kind="bold")
    drawing.line((94, MIDDLE), (690, MIDDLE), "thick")
    for place, x in enumerate(ADDITIONS):
        start = (165, 420)[place]
        up, down = TOP + 2 * SIZE, MIDDLE - 16
        conv1, conv2 = PLACES[f"3.{place}.conv1"][0], PLACES[f"3.{place}.conv2"][0]
        drawing.path([(start, MIDDLE), (start, up), (conv1 - 2, up)], "arrow")
        drawing.line((conv1 + SIZE + 2, up), (conv2 - 2, up), "arrow")
        drawing.path([(conv2 + SIZE + 2, up), (x, up), (x, down)], "arrow")
        kind = "paper" if fits or place else "fourth"
        drawing.circle((x, MIDDLE), 15, kind, "+")
    if not fits:
        drawing.text((345, MIDDLE + 40), "3 channels + 4 channels:\nan error", 13)
    drawing.text((655, MIDDLE - 18), "next stage", 12)
    for name, at in PLACES.items():
        inside = "other" if name.endswith("conv1") else "kept"
        gone = [name in without and row == 2 for row in range(4)]
        rows = [["removed" if each else inside] for each in gone]
        drawing.cells(at, rows, SIZE, [[str(row + 1)] for row in range(4)])
        words = "first\nconvolution" if name == "first" else name
        drawing.text((at[0] + SIZE / 2, at[1] - 20), words, 12)


def tied() -> Drawing:
    """Channel 3 through the additions of a stage."""
    drawing = Drawing(
        720,
        350,
        "An addition ties channels",
        "The first stage of a residual network, with four channels. The first"
        " convolution's channels run along a line. Each of two blocks takes them, makes"
        " new ones with conv1 and conv2, and adds these to the line. First all filters"
        " are there. Then filter 3 of 3.0.conv2 leaves, and the first addition gets"
        " three channels and four. Last, filter 3 leaves in the first convolution, in"
        " 3.0.conv2 and in 3.1.conv2, and everything fits; the conv1 filters stay.",
        frames=3,
    )
    frames = (
        ((), True, "four channels, two blocks, two additions"),
        (("3.0.conv2",), False, "filter 3 leaves on one side"),
        (ADDED, True, "channel 3 leaves everywhere it is added"),
    )
    for number, (without, fits, words) in enumerate(frames):
        with drawing.frame(number):
            _stage(drawing, without, fits, words)
    drawing.text(
        (20, 336),
        "blue: added, tied to one another; orange: inside a block, free",
        12,
        anchor="start",
    )
    return drawing


def pattern_rows() -> Drawing:
    """Half of the weights: free, in a pattern, and as whole rows."""
    drawing = Drawing(
        720,
        190,
        "Half of the weights, three ways",
        "Three matrices of four units with eight inputs. Any half: pruned cells are"
        " scattered. Two of four: in each half of a row two cells are pruned. Whole"
        " units: two rows are removed.",
    )
    free = ["kpkkppkk", "ppkpkppp", "kkkppkkp", "pkpkpkpk"]
    nm = ["kppkkkpp", "pkkppkpk", "kpkppkkp", "kkpppkpk"]
    rows = ["kkkkkkkk", "rrrrrrrr", "kkkkkkkk", "rrrrrrrr"]
    names = {"k": "kept", "p": "pruned", "r": "removed"}
    panels = {"any half": free, "2 of each 4": nm, "whole units": rows}
    for place, (words, cells) in enumerate(panels.items()):
        x = 15 + 240 * place
        drawing.text((x + 104, 24), words, 15, kind="bold")
        kinds = [[names[letter] for letter in row] for row in cells]
        drawing.cells((x, 50), kinds, 26)
        if words.startswith("2"):
            drawing.line((x + 104, 44), (x + 104, 160), "thick")
    drawing.text((15, 178), "a row is a unit, a cell one of its inputs", 12, "start")
    return drawing


DRAWINGS = [tied, pattern_rows]
