"""The explorer's picture, in parts that are as high as what they hold: each is an SVG
that says in text what colour and place say too.

`html_of` lays the parts out as cards, as many beside each other as there is room;
`svg_of` in two columns, for where there is no kernel.
"""

import base64
import functools
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from utils.data import MEAN, STD
from utils.explorer.kinds import KINDS, Kind
from utils.explorer.state import NO_ANSWER, Curve, State
from utils.explorer.subject import Subject
from utils.layers import prunable
from utils.masks import LayerSparsity
from utils.plots import PALETTE

WIDTH, HEIGHT = 440, 330  # of a part, unless it says another height
BLUE, ORANGE, GREEN, GREY, INK = (
    PALETTE[0],
    PALETTE[1],
    PALETTE[2],
    "#5A6069",
    "#1A1F26",
)
# of large words: the palette's orange is too light for them; of a card's edge
DARK, EDGE, TRACK = "#A84300", "#DCD9D1", "#E3E3E3"
FONT = 'font-family="DejaVu Sans, Verdana, sans-serif"'
SERIF = "STIXGeneral, Palatino, Georgia, serif"
SMALL = 12.5  # the smallest letters: 9 pixels high still on a phone
# one column on a phone, two on a projector, three on a wide screen
COLUMN = "max(min(344px,100%),min(400px,48%))"
# of pictures, inherited from the whole: browsers read the style, others the attribute
SHARP = 'image-rendering="pixelated"'
SHARP_STYLE = "image-rendering:pixelated"
STRETCHED = ' preserveAspectRatio="none"'
GAP, INSET = 16, 14  # between cards, and from a card's edge to what it holds
LAYERS_SHOWN = 16
FLIPS_IN_A_ROW = 4
# https://www.w3.org/TR/xml/#charsets
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
HATCH = (
    '<defs><pattern id="measured" width="6" height="6" patternUnits="userSpaceOnUse"'
    f' patternTransform="rotate(45)"><rect width="6" height="6" fill="{ORANGE}"/><rect'
    ' width="2" height="6" fill="#FFFFFF" fill-opacity="0.45"/></pattern></defs>'
)


@dataclass(frozen=True)
class Part:
    """A piece of the picture, `WIDTH` by `height`, and what it shows in words."""

    title: str
    words: str
    marks: tuple[str, ...]
    height: float = HEIGHT


def parts(subject: Subject, state: State, curve: Curve, model: nn.Module) -> list[Part]:
    """All parts for a state; the two that stand beside each other are of one height.

    Args:
        curve: what is known of the same controls at the other stops.
        model: the pruned network of this state.
    """
    dense = curve.states.get(0.0)
    middle = layers_height(len(state.layers) - 1)
    last = classes_height(len(subject.classes))
    known = _DRAWN.setdefault(subject, {})
    if len(known) >= DRAWN_AT_MOST:
        known.clear()
    if (state, dense) not in known:
        known[state, dense] = (
            draw_bars(state),
            draw_layers(state, subject.prunable_part),
            draw_classes(subject, state, dense),
            draw_flips(subject, state, dense, last),
        )
    bars, layers, classes, flips = known[state, dense]
    left = draw_left(subject, model, middle)
    return [draw_curve(subject, state, curve), bars, layers, left, classes, flips]


DRAWN_AT_MOST = 32
# what depends on nothing but a state and the dense network's: drawn once
_DRAWN: WeakKeyDictionary[
    Subject, dict[tuple[State, State | None], tuple[Part, ...]]
] = WeakKeyDictionary()


def describe(subject: Subject, state: State) -> str:
    """A state in words, for a screen reader and where there is no picture."""
    chosen, kind = state.controls, KINDS[state.controls.kind]
    tuned = f", fine-tuned on {state.tuned:,} pictures" if state.tuned else ""
    unanswered = state.unanswered and (
        f"It puts out NaN for {state.unanswered:,} of the pictures, which count as"
        " wrong."
    )
    remarks = (unanswered, subject.reach, kind.remark(subject, chosen.score))
    return readable(
        f"{subject.name}, {kind.label}, {chosen.score} score, {chosen.scope},"
        f" sparsity {kind.say(subject, chosen.sparsity)}{tuned}: accuracy"
        f" {state.accuracy:.1%} on {state.pictures:,} validation pictures, weights"
        f" left {state.weights:.0%}, MACs {state.macs:.0%}, file as saved"
        f" {state.saved:.0%}, {_slow_in_words(state)}."
        + "".join(f" {words}" for words in remarks if words)
    )


def _slow_in_words(state: State) -> str:
    """What is not known at once: the zipped file and the time."""
    zipped = "not counted yet" if state.zipped is None else f"{state.zipped:.0%}"
    time = (
        "not measured yet"
        if state.time is None
        else f"{state.time:.0%} of the dense network's{_spread(state.time_quartiles)}"
    )
    csr = (
        f", with the CSR kernel {state.csr:.0%}{_spread(state.csr_quartiles)}"
        if state.csr is not None
        else ""
    )
    return f"zipped {zipped}, time for one picture {time}{csr}"


def _spread(quartiles: tuple[float, float]) -> str:
    low, high = quartiles
    return f" (quartiles {low:.0%} to {high:.0%})"


def svg_of(pieces: Sequence[Part], words: str) -> str:
    """One SVG of all parts, in two columns of cards."""
    cards, top = [], 1.0
    for pair in (pieces[i : i + 2] for i in range(0, len(pieces), 2)):
        high = max(piece.height for piece in pair)
        for column, piece in enumerate(pair):
            cards.append(_card(piece, 1 + column * (_CARD + GAP), top, high))
        top += high + 2 * INSET + GAP
    width, height = 2 * _CARD + GAP + 2, top - GAP + 1
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}"'
        f' width="{width}" height="{height:.0f}" role="img" {SHARP}'
        f' style="{SHARP_STYLE}"'
        f' aria-label="{escaped(words)}" {FONT} font-size="14"'
        f' fill="{INK}">{HATCH}<rect width="{width}" height="{height:.0f}"'
        f' fill="white"/>{"".join(cards)}</svg>'
    )


_CARD = WIDTH + 2 * INSET  # how wide a card is


def _card(piece: Part, x: float, y: float, high: float) -> str:
    """A part in its frame, at this place."""
    return (
        f'<rect x="{x}" y="{y:.0f}" width="{_CARD}" height="{high + 2 * INSET:.0f}"'
        f' rx="10" fill="none" stroke="{EDGE}"/>'
        f'<svg x="{x + INSET}" y="{y + INSET:.0f}" width="{WIDTH}"'
        f' height="{piece.height:.0f}">{"".join(piece.marks)}</svg>'
    )


def html_of(pieces: Sequence[Part]) -> str:
    """The parts as cards side by side as far as there is room."""
    boxes = "".join(
        f'<div class="explorer-card" style="border:1px solid {EDGE};'
        "border-radius:10px;padding:10px;"
        'background:#fff;min-width:0;box-sizing:border-box"><svg'
        f' xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {piece.height:.0f}"'
        f' width="100%" role="img" aria-label="{escaped(piece.words)}" {FONT}'
        f' font-size="14" fill="{INK}"'
        f' {SHARP} style="display:block;{SHARP_STYLE}">{HATCH if i == 0 else ""}'
        f"{''.join(piece.marks)}</svg></div>"
        for i, piece in enumerate(pieces)
    )
    return (
        # no width of its own: JupyterLab would make room for the widest there can be
        f'<div style="display:grid;gap:{GAP}px;width:0;min-width:min(100%,1480px);'
        "line-height:normal;"
        f'grid-template-columns:repeat(auto-fill,minmax({COLUMN},1fr))">{boxes}</div>'
    )


# ----------------------------------------------------------------------------- accuracy


CURVE_HEIGHT = 352


class _Axes:
    """The frame of the curve: where a stop and an accuracy lie."""

    left, right, top, bottom = 46, WIDTH - 12, 96, CURVE_HEIGHT - 68
    middle = (left + right) / 2

    def __init__(self, stops: Sequence[float]) -> None:
        self.stops = stops

    def at(self, stop: float, accuracy: float) -> tuple[float, float]:
        place = self.stops.index(stop) / (len(self.stops) - 1)
        return (
            self.left + (self.right - self.left) * place,
            self.bottom - (self.bottom - self.top) * accuracy,
        )

    def of(self, state: State) -> tuple[float, float]:
        return self.at(state.controls.sparsity, state.accuracy)

    @property
    def to_scale(self) -> bool:
        """Whether the stops are as far apart as they are drawn."""
        steps = np.diff(self.stops)
        return bool(np.ptp(steps) < 1e-6)


def draw_curve(subject: Subject, now: State, curve: Curve) -> Part:
    """Accuracy at each stop: a full dot rests on all pictures, a hollow one on the
    first few; thin dashes between the
    dots, where nothing was measured. Stars: fine-tuned."""
    frame = _Axes(curve.stops)
    known = [state for _, state in sorted(curve.states.items())]
    title = f"Accuracy of {subject.name}, " + (
        f"fine-tuned on {now.tuned:,}" if now.tuned else "not retrained"
    )
    marks = [
        *_curve_grid(frame),
        *_curve_labels(frame, subject, KINDS[now.controls.kind]),
        *_dense_level(frame, curve.states.get(0.0), now.controls.sparsity),
        *_dots(frame, known, len(subject.validation)),
        *(
            star(*frame.at(stop, each.accuracy))
            for stop, each in sorted(curve.tuned.items())
        ),
        *_ring(frame, now),
        heading(title),
        *_now_in_numbers(subject, now),
    ]
    words = _curve_in_words(title, subject, now, known)
    return Part(title, words, tuple(marks), CURVE_HEIGHT)


def _curve_grid(frame: _Axes) -> Iterator[str]:
    for percent in (0, 20, 40, 60, 80, 100):
        y = frame.at(0.0, percent / 100)[1]
        yield line(frame.left, y, frame.right, y)
        yield text(
            frame.left - 7,
            y + 5,
            f"{percent}%",
            text_anchor="end",
            fill=GREY,
            font_size=13,
        )


def _curve_labels(frame: _Axes, subject: Subject, kind: Kind) -> Iterator[str]:
    # so many labels have room
    size, every = (SMALL if len(frame.stops) > 9 else 14), -(-len(frame.stops) // 14)
    middle = dict(text_anchor="middle")
    for stop in frame.stops[::every]:
        x, label = frame.at(stop, 0)[0], kind.tick(subject, stop)
        yield text(x, frame.bottom + 19, label, **middle, font_size=size)
    # the stops lie closer where the accuracy falls
    steps = "" if frame.to_scale else ": by stops, not to scale"
    yield text(frame.middle, frame.bottom + 39, f"{kind.axis}{steps}", **middle)
    signs = "● all pictures   ○ first estimate   ★ fine-tuned"
    yield text(
        frame.middle, frame.bottom + 60, signs, **middle, font_size=SMALL, fill=GREY
    )


def _dense_level(frame: _Axes, dense: State | None, now: float) -> Iterator[str]:
    """A dashed line; its label is on the side where the slider is not."""
    if dense is None:
        return
    y, label = frame.at(0.0, dense.accuracy)[1], f"dense {dense.accuracy:.1%}"
    yield line(frame.left, y, frame.right, y, GREY, stroke_dasharray="6 4")
    x, anchor = frame.left + 6, "start"
    if frame.at(now, 0)[0] < frame.middle:
        x, anchor = frame.right, "end"
    yield text(x, y - 7, label, fill=GREY, font_size=SMALL, text_anchor=anchor)


def _dots(frame: _Axes, known: Sequence[State], whole: int) -> Iterator[str]:
    """The dots, and the dashes between them; full ones rest on the `whole` set."""
    path = " ".join("{:.1f},{:.1f}".format(*frame.of(state)) for state in known)
    yield (
        f'<polyline points="{path}" fill="none" stroke="{BLUE}" stroke-dasharray="3'
        ' 3"/>'
    )
    for state in known:
        x, y = frame.of(state)
        fill = BLUE if state.pictures == whole else "white"
        yield (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{BLUE}"'
            ' stroke-width="1.5"/>'
        )


def _ring(frame: _Axes, now: State) -> Iterator[str]:
    x, y = frame.of(now)
    yield line(x, frame.top, x, frame.bottom, ORANGE, stroke_width=1.5)
    yield (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8.5" fill="none" stroke="{ORANGE}"'
        ' stroke-width="3"/>'
    )


def _now_in_numbers(subject: Subject, now: State) -> Iterator[str]:
    kind = KINDS[now.controls.kind]
    where = f"at {kind.say(subject, now.controls.sparsity)} ({kind.label})"
    whole = "" if now.pictures == len(subject.validation) else "first estimate, "
    rests = f"± {100 * now.margin:.1f} points: {whole}{now.pictures:,} pictures"
    yield large(0, 66, f"{now.accuracy:.1%}")
    yield text(140, 47, where, font_size=13)
    yield text(140, 65, rests, font_size=13, fill=GREY)


def _curve_in_words(
    title: str, subject: Subject, now: State, known: Sequence[State]
) -> str:
    def say(state: State) -> str:
        return KINDS[now.controls.kind].say(subject, state.controls.sparsity)

    others = ", ".join(f"{say(state)}: {state.accuracy:.1%}" for state in known)
    return f"{title}: {now.accuracy:.1%} at {say(now)}. {others}"


# --------------------------------------------------------------------------------- bars


@dataclass(frozen=True)
class _Bar:
    """A row: a fraction of the dense network, None until it is known."""

    label: str
    measured: bool
    value: float | None
    quartiles: tuple[float, float] | None = None

    @property
    def cut(self) -> bool:
        """Whether it is longer than there is room."""
        return self.value is not None and self.value * BARS_FULL > BARS_MOST

    @property
    def tag(self) -> str:
        return "measured" if self.measured else "counted"

    @property
    def in_words(self) -> str:
        if self.value is None:
            return f"{self.label} not yet ({self.tag})"
        spread = self.quartiles and f",{_spread(self.quartiles).replace('(', '')[:-1]}"
        return f"{self.label} {self.value:.0%} ({self.tag}{spread or ''})"


# how long 100% is, where a bar is cut, and how thick it is
BARS_FULL, BARS_MOST, BAR = 240, 360, 14


def draw_bars(state: State) -> Part:
    """Fractions of the dense network as bars against a dashed 100% line, counted ones
    plain, measured ones hatched; below, what that means."""
    rows, title = _bars_of(state), "Compared with the dense network"
    top, bottom = 34, CURVE_HEIGHT - 74
    step = (bottom - top) / len(rows)
    marks = [heading(title)]
    for index, row in enumerate(rows):
        marks += _bar(row, top + step * index)
    x, y = BARS_FULL, bottom + 10
    marks.append(text(x, y, "100%: dense", text_anchor="middle", font_size=SMALL))
    marks += _bars_key(y + 22)
    said = ", ".join(row.in_words for row in rows)
    words = f"{title}, which is 100%: {said}. {' '.join(BARS_KEY[:2])}"
    return Part(title, words, tuple(marks), CURVE_HEIGHT)


def _bars_of(state: State) -> list[_Bar]:
    rows = [
        _Bar("weights not zero", False, state.weights),
        _Bar("MACs not by zero", False, state.macs),
        _Bar("file, zipped", False, state.zipped),
        _Bar("file, as saved", False, state.saved),
        _Bar("time, dense kernel", True, state.time, state.time_quartiles),
    ]
    if KINDS[state.controls.kind].zeros:
        rows.append(_Bar("time, CSR kernel", True, state.csr, state.csr_quartiles))
    return rows


def _bar(row: _Bar, y: float) -> Iterator[str]:
    small = dict(fill=GREY, font_size=SMALL)
    top, bottom = y + 17, y + 17 + BAR
    yield text(0, y + 12, row.label, font_size=13.5)
    yield text(140, y + 12, f"{row.tag}{', bar cut' if row.cut else ''}", **small)
    if row.value is None:
        waiting = "measuring ..." if row.measured else "counting ..."
        yield text(4, bottom - 2, waiting, **small)
    else:
        fill = "url(#measured)" if row.measured else BLUE
        yield box(0, top, min(row.value * BARS_FULL, BARS_MOST), BAR, fill)
        if row.cut:
            yield from _cut(BARS_MOST, top)
        yield text(BARS_MOST + 10, bottom - 2, f"{row.value:.0%}", font_weight="bold")
    dash = dict(stroke_dasharray="4 3", stroke_width=1.5)
    yield line(BARS_FULL, top - 3, BARS_FULL, bottom + 3, INK, **dash)
    if row.value is not None and row.quartiles:
        low, high = (min(BARS_FULL * each, BARS_MOST) for each in row.quartiles)
        if low < BARS_MOST:
            yield from _whisker(low, high, (top + bottom) / 2)
        spread = _spread(row.quartiles).strip(" ()")
        yield text(WIDTH, y + 12, spread, **small, text_anchor="end")


def _whisker(low: float, high: float, y: float) -> Iterator[str]:
    """From quartile to quartile, with an upright stroke at either end."""
    yield line(low, y, high, y, "#000000", stroke_width=2)
    for x in (low, high):
        yield line(x, y - 4, x, y + 4, "#000000", stroke_width=2)


def _cut(end: float, top: float) -> Iterator[str]:
    """Two white strokes through the end of a bar that is longer than drawn."""
    for x in (end - 14, end - 8):
        yield line(x, top - 1, x - 5, top + BAR + 1, "white", stroke_width=2.5)


BARS_KEY = (
    "Counted: exact, from the network itself.",
    "Measured: timed here, both networks in turn; median.",
    "Quartiles: half of the rounds lie within this line.",
)


def _bars_key(y: float) -> Iterator[str]:
    """What the marks mean. Paths, so that a bar is a rect."""
    for number, words in enumerate(BARS_KEY):
        middle = y - 4.5 + 18 * number
        if number < 2:
            fill = (BLUE, "url(#measured)")[number]
            yield f'<path d="M0 {middle - 5:.1f}h22v10h-22z" fill="{fill}"/>'
        else:
            yield from _whisker(1, 21, middle)
        yield text(30, middle + 4.5, words, font_size=SMALL, fill=GREY)


ROOMY = 6  # so many layers have room for a bar below their name


def layers_height(count: int) -> float:
    """How high the part of so many layers is, and what stands beside it."""
    if count <= ROOMY:
        return max(296, 62 + 44 * count)
    return 62 + 17 * min(count, LAYERS_SHOWN)


def draw_layers(state: State, prunable_part: float = 1.0) -> Part:
    """What each layer keeps, and which part of all weights that is about."""
    *rows, every = state.layers
    title, high = "Weights left in each layer (counted)", layers_height(len(rows))
    shown, hidden = rows[:LAYERS_SHOWN], len(rows[LAYERS_SHOWN:])
    step = min(110, (high - 62) / len(shown))
    draw = _large_layer_row if len(shown) <= ROOMY else _layer_row
    marks = [heading(title)]
    for index, layer in enumerate(shown):
        marks += draw(layer, 34 + step * index, step)
    total = f"All: {every.kept:,} of {every.weights:,}"
    notes = [f"... and {hidden} more layers"] if hidden else []
    if prunable_part < 1:
        notes.append(f"Prunable: {min(prunable_part, 0.999):.1%} of all weights")
    foot = ". ".join(notes or [total])
    marks.append(text(0, high - 6, foot, font_size=SMALL, fill=GREY))
    said = ", ".join(
        f"{layer.name.removesuffix('.weight')} {layer.kept / layer.weights:.1%}"
        for layer in rows
    )
    return Part(title, f"{title}: {said}. {total}.", tuple(marks), high)


def _label(layer: LayerSparsity) -> str:
    name = layer.name.removesuffix(".weight")
    return f"{name}: {layer.kept:,} of {layer.weights:,}"


def _large_layer_row(layer: LayerSparsity, y: float, step: float) -> Iterator[str]:
    full, kept, size = 372, layer.kept / layer.weights, 0.5 * step
    yield text(0, y + 14, _label(layer), font_size=13.5)
    yield box(0, y + 20, full, size, TRACK)
    yield box(0, y + 20, full * kept, size, GREEN)
    yield text(WIDTH, y + 25 + size / 2, f"{kept:.1%}", text_anchor="end")


def _layer_row(layer: LayerSparsity, y: float, step: float) -> Iterator[str]:
    left, full, kept = 248, 134, layer.kept / layer.weights
    size = min(14, step - 3.5)
    letters = f"{min(13, size):.1f}"
    yield text(0, y + size, _label(layer), font_size=letters)
    yield box(left, y + 1, full, size, TRACK)
    yield box(left, y + 1, full * kept, size, GREEN)
    yield text(WIDTH, y + size, f"{kept:.1%}", font_size=letters, text_anchor="end")


# ------------------------------------------------------------------------- what is left


def draw_left(subject: Subject, model: nn.Module, high: float = HEIGHT) -> Part:
    """The first layer: how many weights are left at each pixel, or its filters."""
    name, dense = next(
        (name, weight)
        for name, weight in prunable(subject.dense).items()
        if weight.numel()
    )
    weight, title = (
        dict(model.named_parameters()).get(name),
        "What is left of the first layer",
    )
    side = round(dense[0].numel() ** 0.5)
    if weight is None:
        note = f"{name.removesuffix('.weight')} has left whole."
    elif dense.dim() == 2 and side * side == dense.shape[1] == weight.shape[1]:
        return _pixels(name, dense, weight, side, high)
    elif dense.dim() == 4 and max(dense.shape[2:]) > 1:
        return _filters(name, dense, weight, high)
    else:
        note = "No picture for this kind of layer."
    return Part(title, f"{title}: {note}", (heading(title), text(0, 44, note)), high)


PICTURE_TOP = 36  # where the picture of the first layer begins


def _pixels(name: str, dense: Tensor, weight: Tensor, side: int, room: float) -> Part:
    title = "Weights left at each input pixel"
    count = weight.detach().bool().sum(0).reshape(side, side).numpy()
    size = _scaled(side, room - PICTURE_TOP - 6) * side
    marks = [
        heading(title),
        image_of(_grey(count / len(dense)), 0, PICTURE_TOP, size),
        f'<rect x="0" y="{PICTURE_TOP}" width="{size}" height="{size}" fill="none"'
        f' stroke="{GREY}"/>',
        *_pixels_key(count, len(dense), size + 20),
    ]
    words = f"{title} of {name}: from {count.min()} to {count.max()} of {len(dense)}."
    return Part(title, words, tuple(marks), room)


def _scaled(pixels: int, room: float) -> float:
    """How large a pixel is drawn, of so many beside each other: a whole number of
    units, if there is room for one."""
    most = min(288.0, room) / pixels
    return float(int(most)) or most


def _pixels_key(count: np.ndarray, most: int, x: float) -> Iterator[str]:
    """What the greys mean, and how many pixels are looked at."""
    blind, wide, y = int((count == 0).sum()), WIDTH - x, 140
    small = dict(font_size=SMALL, fill=GREY)
    yield large(x, 68, f"{count.size - blind:,}")
    yield text(x, 88, f"of {count.size:,} pixels", font_size=13)
    yield text(x, 105, "are looked at", font_size=13)
    yield text(x, y, "weights left at a pixel:", **small)
    yield image_of(_grey(np.linspace(0, 1, 32)[None]), x, y + 10, wide, 14)
    yield text(x, y + 40, "none", **small)
    yield text(WIDTH, y + 40, f"all {most:,}", **small, text_anchor="end")
    yield text(x, y + 66, f"now {count.min():,} to {count.max():,}", font_size=13)


def _filters(name: str, dense: Tensor, weight: Tensor, room: float) -> Part:
    """A grid of the first convolution's filters, dark below zero and light above;
    pruned weights are blue, and the places of removed filters framed."""
    title = f"Filters of the first convolution ({name.removesuffix('.weight')})"
    values = weight.detach()[:, 0].numpy()  # [units, height, width]
    columns = int(np.ceil(np.sqrt(len(dense))))
    most = float(dense.detach()[:, 0].abs().max()) or 1.0
    sheet = _sheet(values, len(dense), columns, most)
    high, wide = sheet.shape[:2]
    unit = min(_scaled(wide, 276), _scaled(high, room - PICTURE_TOP - 6))
    tile = unit * values.shape[2], unit * values.shape[1]
    zeros = float((values == 0).mean())
    marks = [heading(title), image_of(sheet, 0, PICTURE_TOP, unit * wide, unit * high)]
    for index in range(len(weight), len(dense)):
        marks.append(
            _frame(
                (tile[0] + unit) * (index % columns),
                (tile[1] + unit) * (index // columns) + PICTURE_TOP,
                *tile,
            )
        )
    marks += _filters_key(len(weight), len(dense), zeros, max(unit * wide, 240) + 24)
    left = f"{len(weight)} of {len(dense)}"
    words = f"{title}: {left}, {zeros:.0%} of their weights are zero."
    return Part(title, words, tuple(marks), room)


def _sheet(values: np.ndarray, count: int, columns: int, most: float) -> np.ndarray:
    """Filters [units, height, width] as one picture with room for `count`."""
    high, wide = values.shape[1] + 1, values.shape[2] + 1
    rows = -(-count // columns)
    sheet = np.full((high * rows - 1, wide * columns - 1, 3), 255, np.uint8)
    tones = np.clip(127.5 + 127.5 * values / most, 0, 255).astype(np.uint8)
    tiles = np.where(
        (values == 0)[..., None], np.array(PRUNED, np.uint8), tones[..., None]
    )
    for index, tile in enumerate(tiles):
        y, x = high * (index // columns), wide * (index % columns)
        sheet[y : y + high - 1, x : x + wide - 1] = tile
    return sheet


PRUNED = (86, 180, 233)  # the colour of a weight that is zero


def _frame(x: float, y: float, wide: float, high: float) -> str:
    return (
        f'<path d="M{x:.1f} {y:.1f}h{wide:.1f}v{high:.1f}h{-wide:.1f}z" fill="none"'
        f' stroke="{GREY}" stroke-dasharray="3 3"/>'
    )


def _filters_key(left: int, count: int, zeros: float, x: float) -> Iterator[str]:
    """What the tones mean, each beside a sample of it."""
    yield large(x, 68, f"{left}")
    yield text(x, 88, f"of {count} filters", font_size=13)
    key = (
        ("#000000", "most negative"),
        ("#FFFFFF", "most positive"),
        ("rgb({},{},{})".format(*PRUNED), f"pruned, {zeros:.0%}"),
        (None, "removed"),
    )
    for number, (fill, words) in enumerate(key):
        y = 112 + 22 * number
        yield (
            _frame(x, y, 14, 14)
            if fill is None
            else (
                f'<path d="M{x:.1f} {y:.1f}h14v14h-14z" fill="{fill}" stroke="{GREY}"/>'
            )
        )
        yield text(x + 22, y + 12, words, font_size=SMALL)


# ----------------------------------------------------------------- classes and pictures


CLASSES_SHOWN = 12
CLASSES_TOP = 42


def classes_height(count: int) -> float:
    """How high the part of so many classes is, and what stands beside it."""
    return max(190, CLASSES_TOP + 30 * min(count, CLASSES_SHOWN))


def draw_classes(subject: Subject, state: State, dense: State | None) -> Part:
    """Accuracy of each class; a black tick where the dense network is."""
    title, names = "Accuracy by class", subject.classes[:CLASSES_SHOWN]
    high = classes_height(len(subject.classes))
    now = _by_class(subject, state)
    before = [None] * len(now) if dense is None else _by_class(subject, dense)
    marks, said = [*_classes_heading(title)], []
    for index, (name, value, old) in enumerate(zip(names, now, before, strict=False)):
        y = CLASSES_TOP + min(40, (high - CLASSES_TOP) / len(names)) * index
        change = "" if value is None or old is None else _change(value - old)
        marks += _class_row(name, value, old, change, y)
        if value is not None:
            said.append(f"{name} {value:.0%}{change}")
    words = f"{title} (change in points): {', '.join(said)}."
    return Part(title, words, tuple(marks), high)


def _classes_heading(title: str) -> Iterator[str]:
    yield heading(title)
    yield line(186, 8, 186, 24, "#000000", stroke_width=3)
    yield text(194, 21, "dense; in brackets: points won or lost", font_size=SMALL)


def _class_row(
    name: str, value: float | None, old: float | None, change: str, y: float
) -> Iterator[str]:
    left, full = 92, 252
    yield text(0, y + 15, name, font_size=13)
    if value is None:
        note = "no picture of it yet"
        yield text(left + 4, y + 15, note, font_size=SMALL, fill=GREY)
        return
    yield box(left, y + 2, full, 17, TRACK)
    yield box(left, y + 2, full * value, 17, BLUE)
    if old is not None:
        x = left + full * old
        yield line(x, y - 1, x, y + 22, "#000000", stroke_width=3)
    yield text(left + full + 8, y + 16, f"{value:.0%}{change}", font_size=13)


def _change(points: float) -> str:
    return f" ({100 * points:+.0f})"


def _by_class(subject: Subject, state: State) -> list[float | None]:
    labels = subject.labels[: state.pictures]
    right = np.frombuffer(state.predicted, np.uint8) == labels
    count = len(subject.classes)
    every = np.bincount(labels, minlength=count)[:count]
    sums = np.bincount(labels[right], minlength=count)[:count]
    return [
        float(part / whole) if whole else None
        for part, whole in zip(sums, every, strict=True)
    ]


def draw_flips(
    subject: Subject, state: State, dense: State | None, high: float = HEIGHT
) -> Part:
    """Pictures that the dense network and the pruned one call different names; where
    there is none, those that both get wrong."""
    title = "Pictures with another answer than before"
    if dense is None:
        none = "The dense network has not answered yet."
        marks = heading(title), text(0, 44, none, font_size=13)
        return Part(title, f"{title}: {none}", marks, high)
    count = min(state.pictures, dense.pictures)
    then, now = (np.frombuffer(s.predicted, np.uint8)[:count] for s in (dense, state))
    labels = subject.labels[:count]
    places = np.flatnonzero(then != now)
    lost = int(((then == labels) & (now != labels)).sum())
    won = int(((then != labels) & (now == labels)).sum())
    summary = f"{len(places):,} of {count:,}: {lost:,} right before, {won:,} right now"
    if not len(places):
        places = np.flatnonzero(now != labels)
        summary = _none_changed(state, dense, len(places), count)
    marks = [heading(title), text(0, 42, summary, font_size=13)]
    pitch = PICTURE + 54
    rows = max(1, int((high - 52) // pitch))
    for index, place in enumerate(places[: FLIPS_IN_A_ROW * rows]):
        x = WIDTH / FLIPS_IN_A_ROW * (index % FLIPS_IN_A_ROW)
        y = 54 + (high - 54) / rows * (index // FLIPS_IN_A_ROW)
        answers = int(labels[place]), int(then[place]), int(now[place])
        marks.append(_picture(subject, int(place), x, y))
        marks += _answers(subject, answers, x, y + PICTURE + 14)
    return Part(title, f"{title}: {summary}.", tuple(marks), high)


PICTURE = 84  # how large a validation picture is drawn: its 28 pixels three times


def _none_changed(state: State, dense: State, wrong: int, count: int) -> str:
    same = dense.controls == state.controls and not state.tuned
    none = "None: this is the dense network" if same else f"None of {count:,}"
    return none + (f". Wrong for {wrong:,} of {count:,}:" if wrong else "")


def _answers(
    subject: Subject, answers: tuple[int, int, int], x: float, y: float
) -> Iterator[str]:
    """What the picture is, was called before, and is called now; a tick where right."""
    names = dict(enumerate(subject.classes)) | {NO_ANSWER: "NaN"}
    right = answers[0]
    for row, (word, label) in enumerate(
        zip(("is", "was", "now"), answers, strict=True)
    ):
        tick = " ✓" if word != "is" and label == right else ""
        name = _short(names.get(label, str(label)))
        yield text(x, y + 15 * row, f"{word} {name}{tick}", font_size=SMALL)


def _short(name: str) -> str:
    return name if len(name) <= 10 else f"{name[:9]}."


def _picture(subject: Subject, place: int, x: float, y: float) -> str:
    image = subject.validation.images[place]
    if subject.recorded:
        return image_of(_grey((image[0] * STD + MEAN).numpy()), x, y, PICTURE)
    colours = 3 if len(image) == 3 else 1
    image = image[:colours]
    values = (image - image.min()) / max(float(image.max() - image.min()), 1e-9)
    if colours == 1:
        return image_of(_grey(values[0].numpy()), x, y, PICTURE)
    pixels = (255 * values).round().to(torch.uint8).permute(1, 2, 0)
    return image_of(np.ascontiguousarray(pixels.numpy()), x, y, PICTURE)


# -------------------------------------------------------------------------------- marks


def _grey(values: np.ndarray) -> np.ndarray:
    """0..1 -> white..black pixels."""
    return np.clip(255 * (1 - values), 0, 255).astype(np.uint8)


def image_of(
    pixels: np.ndarray, x: float, y: float, wide: float, high: float | None = None
) -> str:
    """A picture, square unless it says how high."""
    high = wide if high is None else high
    content = _png(pixels.tobytes(), pixels.shape)
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}"'
        f'{"" if high == wide else STRETCHED} href="{content}"/>'
    )


@functools.lru_cache(maxsize=512)
def _png(content: bytes, shape: tuple[int, ...]) -> str:
    buffer = BytesIO()
    Image.fromarray(np.frombuffer(content, np.uint8).reshape(shape)).save(
        buffer, "PNG", compress_level=9
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def readable(words: str) -> str:
    """The words with each character that no page can hold written out: names of scores
    and layers may have any.

    >>> readable("mine\\x00")
    'mine\\\\x00'
    """
    return NOT_IN_XML.sub(lambda found: ascii(found[0])[1:-1], words)


@functools.lru_cache(maxsize=4096)
def escaped(words: str) -> str:
    """The words as they stand in HTML and SVG."""
    return html.escape(readable(words))


def heading(content: str) -> str:
    return text(0, 20, content, font_family=SERIF, font_weight="bold", font_size=16)


def large(x: float, y: float, content: str) -> str:
    """The number that a part is about."""
    return text(
        x,
        y,
        content,
        font_family=SERIF,
        font_weight="bold",
        font_size=40,
        fill=DARK,
    )


def text(x: float, y: float, content: str, **attributes: object) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}"{_given(attributes)}>{escaped(content)}</text>'
    )


def line(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    colour: str = "#DDDDDD",
    **attributes: object,
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        f' stroke="{colour}"{_given(attributes)}/>'
    )


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        f' fill="{fill}"/>'
    )


def star(x: float, y: float) -> str:
    angles = np.pi * np.arange(10) / 5
    radii = np.where(np.arange(10) % 2, 4.0, 9.5)
    points = " ".join(
        f"{x + r * np.sin(a):.1f},{y - r * np.cos(a):.1f}"
        for a, r in zip(angles, radii, strict=True)
    )
    return f'<polygon class="tuned" points="{points}" fill="{GREEN}" stroke="black"/>'


def _given(attributes: Mapping[str, object]) -> str:
    return "".join(
        f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items()
    )
