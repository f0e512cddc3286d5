"""The drawings of lesson 02."""

from tools.drawing import Drawing


def distance_times_slope() -> Drawing:
    """The loss over one weight: the way to zero, the slope where it starts."""
    picture = Drawing(
        640,
        330,
        "Distance times slope",
        "A curve of the loss over one weight. The weight stands at w; pruning moves it"
        " to zero. The straight line along the slope at w forecasts the height at zero;"
        " the curve itself is the truth.",
    )
    start, zero = 470.0, 190.0
    height = loss(start)
    slope = (loss(start + 1) - loss(start - 1)) / 2
    forecast = height + slope * (zero - start)
    picture.line((60, 285), (600, 285), "arrow")
    picture.text((560, 303), "the weight", 13, kind="soft")
    picture.line((60, 285), (60, 30), "arrow")
    picture.text((84, 22), "the loss", 13, kind="soft")
    picture.path([(x, loss(x)) for x in range(110, 571, 10)], "thick")
    picture.line((start, height), (zero, forecast), "dashed")
    picture.line((zero, 285), (zero, forecast), "dotted")
    picture.line((start, 285), (start, height), "dotted")
    picture.circle((start, height), 6, "kept")
    picture.circle((zero, loss(zero)), 6, "other")
    picture.circle((zero, forecast), 6, "paper")
    picture.text((start, 303), "w")
    picture.text((zero, 303), "0")
    picture.line((start - 6, 268), (zero + 6, 268), "arrow")
    picture.text((330, 254), "distance: |w|")
    picture.text((492, height - 14), "slope here: g", anchor="start")
    picture.text((zero + 14, loss(zero) - 12), "truth", anchor="start")
    picture.text((zero - 12, forecast), "forecast", anchor="end")
    return picture


def loss(x: float) -> float:
    """The height of the drawn loss, in pixels from the top: lowest near the weight."""
    return 225 - 0.0016 * (x - 520) ** 2 + 0.0000012 * abs(x - 520) ** 3


def truth_and_guess() -> Drawing:
    """One neuron taken out, the loss measured, the neuron put back; beside it a score
    that guesses for all at once."""
    picture = Drawing(
        640,
        250,
        "The truth and a guess",
        "Left: a row of neurons, one is missing, and the loss is measured; then the"
        " next one is missing. Right: a score gives every neuron a number at once.",
        frames=3,
    )
    picture.text((150, 24), "the truth: one at a time", kind="bold")
    picture.text((480, 24), "a score: all at once", kind="bold")
    for number in range(3):
        with picture.frame(number):
            for place in range(5):
                out = place == number
                kind = "removed" if out else "kept"
                picture.circle((50 + 50 * place, 90), 18, kind)
            picture.line((50 + 50 * number, 112), (50 + 50 * number, 150), "arrow")
            picture.text(
                (150, 170), "measure the loss, put it back,\ntake the next", 13
            )
    for place, size in enumerate((4, 18, 9, 30, 2)):
        picture.circle((380 + 50 * place, 90), 18, "kept")
        picture.box((370 + 50 * place, 200 - size), (20, size), "other")
    picture.line((360, 200), (600, 200))
    picture.text((480, 220), "its number: a guess at what was measured", 13)
    return picture


DRAWINGS = [distance_times_slope, truth_and_guess]
