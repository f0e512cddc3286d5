"""The panel in JupyterLab's dark theme: each colour of the picture has another, and all
can be read."""

import re

import pytest

from tests.test_findings import row
from utils.explorer import Explorer, dark, drawing, findings
from utils.explorer.kinds import KINDS
from utils.explorer.slider import StopSlider

USED = re.compile(r'(fill|stroke)="(?!none|url)([^"]+)"')
# what pixels of weights stand for, and the hatching of measured bars
KEPT = {("fill", "#000000"), ("fill", "#FFFFFF"), ("fill", "rgb(86,180,233)")}


def luminance(colour: str) -> float:
    """Of WCAG 2.2, 0 to 1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Of WCAG 2.2, 1 to 21."""
    light, deep = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (deep + 0.05)


def test_the_formula_gives_the_extremes():
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


def test_words_and_marks_stand_out_from_the_card():
    jupyter = "#111111"  # behind outputs
    for colour in (*dark.WORDS.values(), dark.ALERT):
        assert contrast(colour, dark.CARD) >= 4.5 and contrast(colour, jupyter) >= 4.5
    for colour in (*dark.MARKS.values(), *dark.STROKES.values()):
        assert contrast(colour, dark.CARD) >= 3
    line = dark.STROKES["#000000"]
    assert contrast(line, dark.MARKS[drawing.ORANGE]) >= 3  # quartiles on a bar
    track = dark.QUIET[drawing.TRACK]
    assert contrast(dark.MARKS[drawing.GREEN], track) >= 3  # what a layer keeps


@pytest.mark.parametrize("kind", KINDS)
def test_no_colour_of_the_picture_is_left_out(small, noise, kind):
    panel = Explorer(model=small, data=noise, kind=kind)
    panel.sparsity.index = 1
    panel.settle()
    found = [row(time=60, **{findings.QUARTILES[0]: "50"}), row(90, 99)]
    pictures = panel.picture.value + drawing.html_of([findings.draw_front(found)])
    used = set(USED.findall(pictures)) - KEPT
    ruled = set(re.findall(r'\[(fill|stroke)="([^"]+)"\]', dark.CSS))
    assert len(used) > 8 and used <= ruled
    # the marks themselves are those of the light theme, also in what is stored
    assert set(USED.findall(panel.svg(panel.shown))) - KEPT <= ruled | {
        ("fill", "white")
    }
    assert not any(new in pictures for new in dark.WORDS.values())
    panel.close()


def test_the_slider_brings_the_rules():
    assert dark.CSS in StopSlider("Sparsity", ["0%"], [0.0])._css
