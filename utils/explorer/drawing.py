"""The explorer's picture, in parts of one size: each is an SVG that says in text what
colour and place say too.

`html_of` lays the parts out as the page is wide; `svg_of` in two columns, for where
there is no kernel.
"""

import base64
import functools
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

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

WIDTH, HEIGHT = 440, 330  # of a part
BLUE, ORANGE, GREEN, GREY, INK = (
    PALETTE[0],
    PALETTE[1],
    PALETTE[2],
    "#595959",
    "#1A1A1A",
)
FONT = 'font-family="DejaVu Sans, Verdana, sans-serif"'
# one column on a phone, two on a projector, three on a wide screen
COLUMN = "max(min(316px,100%),min(480px,48%))"
LAYERS_SHOWN = 16
FLIPS_SHOWN = 8
# https://www.w3.org/TR/xml/#charsets
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
HATCH = (
    '<defs><pattern id="measured" width="6" height="6" patternUnits="userSpaceOnUse"'
    f' patternTransform="rotate(45)"><rect width="6" height="6" fill="{ORANGE}"/><rect'
    ' width="2" height="6" fill="#FFFFFF" fill-opacity="0.45"/></pattern></defs>'
)


@dataclass(frozen=True)
class Part:
    """A piece of the picture, `WIDTH` by `HEIGHT`, and what it shows in words."""

    title: str
    words: str
    marks: tuple[str, ...]


def parts(subject: Subject, state: State, curve: Curve, model: nn.Module) -> list[Part]:
    """All parts for a state.

    Args:
        curve: what is known of the same controls at the other stops.
        model: the pruned network of this state.
    """
    dense = curve.states.get(0.0)
    return [
        draw_curve(subject, state, curve),
        draw_bars(state),
        draw_layers(state, subject.prunable_part),
        draw_left(subject, model),
        draw_classes(subject, state, dense),
        draw_flips(subject, state, dense),
    ]


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
        else f"{state.time:.0%} of the dense network's"
    )
    csr = f", with the CSR kernel {state.csr:.0%}" if state.csr is not None else ""
    return f"zipped {zipped}, time for one picture {time}{csr}"


def svg_of(pieces: Sequence[Part], words: str) -> str:
    """One SVG of all parts, in two columns."""
    rows = -(-len(pieces) // 2)
    inner = "".join(
        f'<svg x="{(WIDTH + 20) * (i % 2)}" y="{(HEIGHT + 14) * (i // 2)}"'
        f' width="{WIDTH}" height="{HEIGHT}">'
        f"{''.join(piece.marks)}</svg>"
        for i, piece in enumerate(pieces)
    )
    width, height = 2 * WIDTH + 20, (HEIGHT + 14) * rows
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" role="img"'
        f' aria-label="{escaped(words)}" {FONT} font-size="14"'
        f' fill="{INK}">{HATCH}<rect width="{width}" height="{height}"'
        f' fill="white"/>{inner}</svg>'
    )


def html_of(pieces: Sequence[Part]) -> str:
    """The parts side by side as far as there is room."""
    boxes = "".join(
        f'<div style="flex:1 1 {COLUMN};max-width:480px;min-width:0"><svg'
        f' xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' width="100%" role="img" aria-label="{escaped(piece.words)}" {FONT}'
        f' font-size="14" fill="{INK}"'
        f' style="display:block">{HATCH if i == 0 else ""}<rect width="{WIDTH}"'
        f' height="{HEIGHT}" fill="white"/>{"".join(piece.marks)}</svg></div>'
        for i, piece in enumerate(pieces)
    )
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:10px'
        f' 16px;line-height:normal">{boxes}</div>'
    )


# ----------------------------------------------------------------------------- accuracy


class _Axes:
    """The frame of the curve: where a stop and an accuracy lie."""

    left, right, top, bottom = 50, WIDTH - 12, 84, 268
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
        *_dense_level(frame, curve.states.get(0.0)),
        *_dots(frame, known, len(subject.validation)),
        *(
            star(*frame.at(stop, each.accuracy))
            for stop, each in sorted(curve.tuned.items())
        ),
        *_ring(frame, now),
        heading(title),
        *_now_in_numbers(subject, now),
    ]
    return Part(title, _curve_in_words(title, subject, now, known), tuple(marks))


def _curve_grid(frame: _Axes) -> Iterator[str]:
    for percent in (0, 20, 40, 60, 80, 100):
        y = frame.at(0.0, percent / 100)[1]
        yield line(frame.left, y, frame.right, y)
        yield text(frame.left - 7, y + 5, f"{percent}%", text_anchor="end", fill=GREY)


def _curve_labels(frame: _Axes, subject: Subject, kind: Kind) -> Iterator[str]:
    # so many labels have room
    size, every = (12 if len(frame.stops) > 9 else 14), -(-len(frame.stops) // 14)
    middle = dict(text_anchor="middle")
    for stop in frame.stops[::every]:
        x, label = frame.at(stop, 0)[0], kind.tick(subject, stop)
        yield text(x, frame.bottom + 19, label, **middle, font_size=size)
    yield text(frame.middle, frame.bottom + 39, kind.axis, **middle)
    signs = "● all pictures   ○ first estimate   ★ fine-tuned"
    yield text(
        frame.middle, frame.bottom + 58, signs, **middle, font_size=12, fill=GREY
    )


def _dense_level(frame: _Axes, dense: State | None) -> Iterator[str]:
    if dense is None:
        return
    y, label = frame.at(0.0, dense.accuracy)[1], f"dense {dense.accuracy:.1%}"
    yield line(frame.left, y, frame.right, y, GREY, stroke_dasharray="6 4")
    yield text(frame.left + 6, y - 6, label, fill=GREY, font_size=12.5)


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
    kind, large = KINDS[now.controls.kind], dict(font_size=34, font_weight="bold")
    where = f"at {kind.say(subject, now.controls.sparsity)} ({kind.label})"
    whole = "" if now.pictures == len(subject.validation) else "first estimate, "
    rests = f"± {100 * now.margin:.1f} points: {whole}{now.pictures:,} pictures"
    yield text(0, 62, f"{now.accuracy:.1%}", **large, fill="#A84300")
    yield text(126, 44, where, font_size=13)
    yield text(126, 62, rests, font_size=13, fill=GREY)


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
    def tag(self) -> str:
        return "measured" if self.measured else "counted"


# where a bar begins, how long 100% is, and where it is cut
BARS_LEFT, BARS_FULL, BARS_MOST = 168, 180, 216.0


def draw_bars(state: State) -> Part:
    """Fractions of the dense network as bars against a dashed 100% line, counted ones
    plain, measured ones hatched."""
    rows, title, top, step = _bars_of(state), "Compared with the dense network", 34, 42
    bottom = top + step * len(rows)
    marks = [heading(title)]
    for index, row in enumerate(rows):
        marks += _bar(row, top + 10 + step * index)
    marks += _bars_scale(top, bottom)
    said = ", ".join(
        f"{row.label} {'not yet' if row.value is None else format(row.value, '.0%')}"
        f" ({row.tag})"
        for row in rows
    )
    return Part(title, f"{title}: {said}.", tuple(marks))


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
    yield text(0, y + 14, row.label)
    yield text(0, y + 29, row.tag, fill=GREY, font_size=12)
    if row.value is None:
        waiting = "measuring ..." if row.measured else "counting ..."
        yield text(BARS_LEFT + 4, y + 18, waiting, fill=GREY)
        return
    fill, length = "url(#measured)" if row.measured else BLUE, row.value * BARS_FULL
    yield box(BARS_LEFT, y + 3, min(length, BARS_MOST), 20, fill)
    if length > BARS_MOST:
        yield from _cut(BARS_LEFT + BARS_MOST, y)
    if row.quartiles:
        low, high = (
            BARS_LEFT + min(BARS_FULL * each, BARS_MOST) for each in row.quartiles
        )
        yield line(low, y + 13, high, y + 13, "#000000", stroke_width=2.5)
    yield text(BARS_LEFT + BARS_MOST + 8, y + 18, f"{row.value:.0%}")


def _cut(end: float, y: float) -> Iterator[str]:
    """Two white strokes through the end of a bar that is longer than drawn."""
    for x in (end - 12, end - 6):
        yield line(x, y, x - 6, y + 26, "white", stroke_width=2)


def _bars_scale(top: float, bottom: float) -> Iterator[str]:
    x, small = BARS_LEFT + BARS_FULL, dict(text_anchor="middle", font_size=12)
    yield line(x, top, x, bottom + 4, "#333333", stroke_dasharray="5 4")
    yield text(x, bottom + 20, "100%: dense", **small, fill=GREY)


def draw_layers(state: State, prunable_part: float = 1.0) -> Part:
    """What each layer keeps, and which part of all weights that is about."""
    rows, title = state.layers[:-1], "Weights left in each layer (counted)"
    shown, hidden = rows[:LAYERS_SHOWN], len(rows[LAYERS_SHOWN:])
    step = min(34, 270 / len(shown))
    marks = [heading(title)]
    for index, layer in enumerate(shown):
        marks += _layer_row(layer, 36 + step * index, min(14, step - 3.5))
    more = f"... and {hidden} more layers" if hidden else ""
    if prunable_part < 1:
        more += f"  Prunable: {min(prunable_part, 0.999):.1%} of all weights"
    if more:
        marks.append(text(0, HEIGHT - 6, more.strip(), font_size=13, fill=GREY))
    said = ", ".join(
        f"{layer.name.removesuffix('.weight')} {layer.kept / layer.weights:.1%}"
        for layer in rows
    )
    return Part(title, f"{title}: {said}.", tuple(marks))


def _layer_row(layer: LayerSparsity, y: float, size: float) -> Iterator[str]:
    left, full, kept = 236, 140, layer.kept / layer.weights
    letters = f"{min(13, size):.1f}"
    label = f"{layer.name.removesuffix('.weight')}: {layer.kept:,} of {layer.weights:,}"
    yield text(0, y + size, label, font_size=letters)
    yield box(left, y + 1, full, size, "#E3E3E3")
    yield box(left, y + 1, full * kept, size, GREEN)
    yield text(left + full + 8, y + size, f"{kept:.1%}", font_size=letters)


# ------------------------------------------------------------------------- what is left


def draw_left(subject: Subject, model: nn.Module) -> Part:
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
        return _pixels(name, dense, weight, side)
    elif dense.dim() == 4 and max(dense.shape[2:]) > 1:
        return _filters(name, dense, weight)
    else:
        note = "No picture for this kind of layer."
    return Part(title, f"{title}: {note}", (heading(title), text(0, 44, note)))


def _pixels(name: str, dense: Tensor, weight: Tensor, side: int) -> Part:
    title = "Weights left at each input pixel"
    count = (weight.detach() != 0).sum(0).reshape(side, side).numpy()
    marks = [
        heading(title),
        image_of(_grey(count / len(dense)), 0, 36, 280),
        f'<rect x="0" y="36" width="280" height="280" fill="none" stroke="{GREY}"/>',
        text(296, 56, "white: none"),
        text(296, 76, f"black: all {len(dense):,}"),
        text(296, 112, f"now {count.min():,} to {count.max():,}"),
        text(
            296,
            132,
            f"{int((count == 0).sum()):,} of {count.size:,} pixels",
            font_size=13,
        ),
        text(296, 150, "are not looked at", font_size=13),
    ]
    return Part(
        title,
        f"{title} of {name}: from {count.min()} to {count.max()} of {len(dense)}.",
        tuple(marks),
    )


def _filters(name: str, dense: Tensor, weight: Tensor) -> Part:
    """A grid of the first convolution's filters, dark below zero and light above;
    pruned weights are blue."""
    title = f"Filters of the first convolution ({name.removesuffix('.weight')})"
    values = weight.detach()[:, 0].numpy()  # [units, height, width]
    columns = int(np.ceil(np.sqrt(len(dense))))
    high, wide = values.shape[1] + 1, values.shape[2] + 1
    most = float(dense.detach()[:, 0].abs().max()) or 1.0
    sheet = np.full(
        (high * -(-len(dense) // columns) + 1, wide * columns + 1, 3), 255, np.uint8
    )
    for index, each in enumerate(values):
        y, x = high * (index // columns) + 1, wide * (index % columns) + 1
        tone = np.clip(127.5 + 127.5 * each / most, 0, 255).astype(np.uint8)
        tile = np.where(
            (each == 0)[..., None], np.array([86, 180, 233], np.uint8), tone[..., None]
        )
        sheet[y : y + high - 1, x : x + wide - 1] = tile
    zeros = float((values == 0).mean())
    marks = [
        heading(title),
        image_of(sheet, 0, 36, 280),
        text(296, 56, f"{len(weight)} of {len(dense)} filters"),
        text(296, 84, "black: most negative", font_size=13),
        text(296, 102, "white: most positive", font_size=13),
        text(296, 120, f"blue: pruned, {zeros:.0%}", font_size=13),
        text(296, 138, "nothing: removed", font_size=13),
    ]
    return Part(
        title,
        f"{title}: {len(weight)} of {len(dense)}, {zeros:.0%} of their weights are"
        " zero.",
        tuple(marks),
    )


# ----------------------------------------------------------------- classes and pictures


def draw_classes(subject: Subject, state: State, dense: State | None) -> Part:
    """Accuracy of each class; a black tick where the dense network is."""
    title, names = "Accuracy by class", subject.classes[:12]
    now = _by_class(subject, state)
    before = [None] * len(now) if dense is None else _by_class(subject, dense)
    marks, said = [*_classes_heading(title)], []
    for index, (name, value, old) in enumerate(zip(names, now, before, strict=False)):
        y = 38 + min(28, 260 / len(names)) * index
        change = "" if value is None or old is None else _change(value - old)
        marks += _class_row(name, value, old, change, y)
        if value is not None:
            said.append(f"{name} {value:.0%}{change}")
    return Part(title, f"{title} (change in points): {', '.join(said)}.", tuple(marks))


def _classes_heading(title: str) -> Iterator[str]:
    yield heading(title)
    yield line(250, 12, 250, 26, "#000000", stroke_width=3)
    yield text(258, 24, "dense", font_size=12.5)


def _class_row(
    name: str, value: float | None, old: float | None, change: str, y: float
) -> Iterator[str]:
    left, full = 112, 220
    yield text(0, y + 14, name, font_size=13)
    if value is None:
        note = "no picture of it yet"
        yield text(left + 4, y + 14, note, font_size=12, fill=GREY)
        return
    yield box(left, y + 2, full, 15, "#E3E3E3")
    yield box(left, y + 2, full * value, 15, BLUE)
    if old is not None:
        x = left + full * old
        yield line(x, y - 1, x, y + 20, "#000000", stroke_width=3)
    yield text(left + full + 8, y + 15, f"{value:.0%}{change}", font_size=13)


def _change(points: float) -> str:
    return f" ({100 * points:+.0f})"


def _by_class(subject: Subject, state: State) -> list[float | None]:
    labels = subject.labels[: state.pictures]
    right = np.frombuffer(state.predicted, np.uint8) == labels
    return [
        float(right[labels == k].mean()) if (labels == k).any() else None
        for k in range(len(subject.classes))
    ]


def draw_flips(subject: Subject, state: State, dense: State | None) -> Part:
    """Pictures that the dense network and the pruned one call different names."""
    title = "Pictures with another answer than before"
    if dense is None or (dense.controls == state.controls and not state.tuned):
        none = "None: this is the dense network. Slide, and see which change."
        marks = heading(title), text(0, 44, none, font_size=13)
        return Part(title, f"{title}: {none}", marks)
    count = min(state.pictures, dense.pictures)
    then, now = (np.frombuffer(s.predicted, np.uint8)[:count] for s in (dense, state))
    labels = subject.labels[:count]
    places = np.flatnonzero(then != now)
    lost = int(((then == labels) & (now != labels)).sum())
    won = int(((then != labels) & (now == labels)).sum())
    summary = f"{len(places):,} of {count:,}: {lost:,} right before, {won:,} right now"
    marks = [heading(title), text(0, 40, summary, font_size=13)]
    for index, place in enumerate(places[:FLIPS_SHOWN]):
        x, y = 110 * (index % 4), 52 + 138 * (index // 4)
        answers = int(labels[place]), int(then[place]), int(now[place])
        marks.append(_picture(subject, int(place), x, y))
        marks += _answers(subject, answers, x, y + 90)
    return Part(title, f"{title}: {summary}.", tuple(marks))


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
        yield text(x, y + 15 * row, f"{word} {name}{tick}", font_size=11.5)


def _short(name: str) -> str:
    return name if len(name) <= 10 else f"{name[:9]}."


def _picture(subject: Subject, place: int, x: float, y: float) -> str:
    image = subject.validation.images[place]
    if subject.recorded:
        return image_of(_grey((image[0] * STD + MEAN).numpy()), x, y, 76)
    colours = 3 if len(image) == 3 else 1
    image = image[:colours]
    values = (image - image.min()) / max(float(image.max() - image.min()), 1e-9)
    if colours == 1:
        return image_of(_grey(values[0].numpy()), x, y, 76)
    pixels = (255 * values).round().to(torch.uint8).permute(1, 2, 0)
    return image_of(np.ascontiguousarray(pixels.numpy()), x, y, 76)


# -------------------------------------------------------------------------------- marks


def _grey(values: np.ndarray) -> np.ndarray:
    """0..1 -> white..black pixels."""
    return np.clip(255 * (1 - values), 0, 255).astype(np.uint8)


def image_of(pixels: np.ndarray, x: float, y: float, size: float) -> str:
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{size}" height="{size}"'
        ' image-rendering="pixelated" style="image-rendering:pixelated"'
        f' preserveAspectRatio="none" href="{_png(pixels.tobytes(), pixels.shape)}"/>'
    )


@functools.lru_cache(maxsize=512)
def _png(content: bytes, shape: tuple[int, ...]) -> str:
    buffer = BytesIO()
    Image.fromarray(np.frombuffer(content, np.uint8).reshape(shape)).save(
        buffer, "PNG", compress_level=1
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def readable(words: str) -> str:
    """The words with each character that no page can hold written out: names of scores
    and layers may have any.

    >>> readable("mine\\x00")
    'mine\\\\x00'
    """
    return NOT_IN_XML.sub(lambda found: ascii(found[0])[1:-1], words)


def escaped(words: str) -> str:
    """The words as they stand in HTML and SVG."""
    return html.escape(readable(words))


def heading(content: str) -> str:
    return text(0, 18, content, font_weight="bold", font_size=15)


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
