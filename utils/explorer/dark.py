"""The panel in JupyterLab's dark theme: another colour for each that the picture uses,
by rules of CSS that the slider brings with it. The picture itself is the same, and so
is what is stored of it.

Colours that stand for something in a picture of weights (black, white) stay.
"""

from utils.explorer.drawing import DARK, EDGE, GREY, INK, TRACK
from utils.plots import PALETTE

CARD = "#1B1E23"  # behind the picture
WORDS = {  # of letters: 4.5 times as light as the card
    INK: "#E9E7E2",
    GREY: "#B4BAC2",
    DARK: "#FFA366",
    "#00674B": "#5FD3AE",  # a finding on the front
    PALETTE[0]: "#5AB4EE",
}
MARKS = {  # of lines and surfaces that say something: 3 times
    PALETTE[1]: "#CC5F14",  # quartiles are drawn over it
    PALETTE[2]: "#2FC79A",
    PALETTE[3]: "#E39BC2",
    PALETTE[4]: "#F2B53A",
    PALETTE[5]: "#7CC8F2",
    PALETTE[7]: "#A9AFB7",
    "#555555": "#C9CED4",
}
QUIET = {EDGE: "#454B54", "#DDDDDD": "#454B54", TRACK: "#3D434B"}  # of frames, grids
STROKES = {"#000000": "#F4F2EE", "black": "#F4F2EE"}  # of lines alone
BEHIND = {"white": CARD}  # of hollow dots, and of what is cut out of a bar
ALERT = "#FF9E94"
_WHERE = '[data-jp-theme-light="false"]'


def _rules() -> list[str]:
    pairs = [
        (attribute, light, dark)
        for attribute, own in (("fill", {}), ("stroke", STROKES))
        for light, dark in {**WORDS, **MARKS, **QUIET, **BEHIND, **own}.items()
    ]
    cards = f"{_WHERE} .explorer-card"
    return [
        f"{cards} {{ background: {CARD} !important;"
        f" border-color: {QUIET[EDGE]} !important; }}",
        f'{_WHERE} .widget-html [role="alert"] {{ color: {ALERT} !important; }}',
        f"{_WHERE} .stop-slider input {{ accent-color: {WORDS[PALETTE[0]]}; }}",
        *(
            f'{cards} [{attribute}="{light}"] {{ {attribute}: {dark}; }}'
            for attribute, light, dark in pairs
        ),
    ]


CSS = "\n".join(_rules())
