"""The picture of a pruned text network, in parts as the explorer's (`drawing`): what it
writes, what is counted and measured, its loss along the slider."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
from PIL import ImageFont

from utils.explorer import drawing
from utils.explorer.drawing import (
    BLUE,
    GREY,
    HEIGHT,
    ORANGE,
    WIDTH,
    Part,
    escaped,
    heading,
    line,
    text,
)
from utils.explorer.text_memory import Loss, TextState
from utils.measure import Rate

DARK = "#A84300"  # of words: the palette's orange is too light for them
SIZE, LINES, LINE = 13, 6, 18  # of the written text; its lines are LINE apart
DENSE = "dense"
PROMPT_SHOWN = 60  # signs of it, its last ones
SCORE_NAMES = {"taylor": "taylor (w*g)", "activation": "activation (Wanda)"}


def parts(
    state: TextState, curve: Mapping[float, Loss], stops: Sequence[float]
) -> list[Part]:
    """All parts for a state. `curve`: the losses known at the slider's stops."""
    return [draw_text(state), draw_numbers(state), draw_curve(state, curve, stops)]


def describe(state: TextState) -> str:
    """A state in words, for a screen reader and where there is no picture."""
    return drawing.readable(f"{summary(state)} {texts_in_words(state)}")


def summary(state: TextState) -> str:
    """All of it but the texts."""
    kept = f"{state.kept:,} of {state.weights:,} weights kept"
    loss = "loss not evaluated yet" if state.loss is None else _loss_in_words(state)
    speed = "speed not measured yet" if state.rates is None else _speed(*state.rates)
    return f"Pruned {setting(state)}: {kept}, {loss}, {speed}. {state.remark}".rstrip()


def setting(state: TextState) -> str:
    """The controls of the pruning, in words."""
    chosen = state.controls
    score = SCORE_NAMES.get(chosen.score, chosen.score)
    return f"at {100 * chosen.sparsity:g}% ({score}, {chosen.scope})"


def texts_in_words(state: TextState) -> str:
    """Both texts, and where they part."""
    dense, pruned = (
        _in_a_line(state.prompt + "".join(pieces))
        for pieces in (state.dense, state.pruned)
    )
    if state.same == len(state.dense):
        return f"Both networks write: {dense}"
    return (
        f"{parting(state)} The dense network writes: {dense} The pruned network writes:"
        f" {pruned}"
    )


def parting(state: TextState) -> str:
    """How far both write the same."""
    same, count = state.same, len(state.dense)
    if same == count:
        return f"All {count} pieces are the same."
    return f"The texts part after {same} of {count} pieces."


# ----------------------------------------------------------------------- the two texts


def draw_text(state: TextState) -> Part:
    """What the dense network writes and, below it, the pruned one. A bar stands where
    they part; what the pruned one writes from there on is underlined."""
    title, prompt = "The same prompt, written on", state.prompt
    if len(prompt) > PROMPT_SHOWN:
        prompt = f"... {prompt[-PROMPT_SHOWN:]}"
    step = LINE * LINES + 26
    marks = [
        heading(title),
        *_written(DENSE, prompt, state.dense, state.same, 42),
        *_written(
            f"pruned {setting(state)}", prompt, state.pruned, state.same, 42 + step
        ),
        text(0, HEIGHT - 12, parting(state), font_size=12.5, fill=GREY),
    ]
    return Part(title, f"{title}. {texts_in_words(state)}", tuple(marks))


def _written(
    name: str, prompt: str, pieces: Sequence[str], same: int, y: float
) -> Iterator[str]:
    """A text under its name: the prompt grey, and a bar at the parting."""
    yield text(0, y, name, font_size=13, font_weight="bold", fill=BLUE)
    rest = f'fill="{DARK}" text-decoration="underline"' if name != DENSE else ""
    runs = [
        (prompt, f'fill="{GREY}"'),
        ("".join(pieces[:same]), ""),
        ("|" if same < len(pieces) else "", f'fill="{ORANGE}" font-weight="bold"'),
        ("".join(pieces[same:]), rest),
    ]
    rows = wrapped(runs, WIDTH - 16)
    if len(rows) > LINES:
        rows = [*rows[: LINES - 1], [*rows[LINES - 1], (" ...", "")]]
    for number, row in enumerate(rows):
        spans = "".join(
            f"<tspan {style}>{escaped(words)}</tspan>" for words, style in row
        )
        yield (
            f'<text x="0" y="{y + LINE * (number + 1):.1f}" font-size="{SIZE}"'
            f' xml:space="preserve" style="white-space:pre">{spans}</text>'
        )


def wrapped(
    runs: Sequence[tuple[str, str]], width: float
) -> list[list[tuple[str, str]]]:
    """Runs of words and their styles, as lines not wider than `width`; a line breaks
    after a space, or within a word that is longer than a line. The end of a paragraph
    is shown as a sign."""
    signs = [(sign, style) for words, style in runs for sign in _in_a_line(words)]
    lines, start = [], 0
    while start < len(signs):
        end = _fitting(signs, start, width)
        lines.append(_joined(signs[start:end]))
        start = end
    return lines


def _in_a_line(words: str) -> str:
    """The ends of paragraphs as a sign."""
    return words.replace("\n", "\u00b6 ")


def _fitting(signs: Sequence[tuple[str, str]], start: int, width: float) -> int:
    """Where the line that begins at `start` ends."""
    used, after_space = 0.0, None
    for place in range(start, len(signs)):
        used += _wide(signs[place][0])
        if signs[place][0] == " ":
            after_space = place + 1  # a space may hang over
        elif used > width:
            return after_space or max(place, start + 1)
    return len(signs)


def _joined(signs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    row: list[tuple[str, str]] = []
    for sign, style in signs:
        if row and row[-1][1] == style:
            row[-1] = (row[-1][0] + sign, style)
        else:
            row.append((sign, style))
    return row


@functools.cache
def _wide(sign: str) -> float:
    """How wide a sign is in the picture's font."""
    return _font().getlength(sign) * SIZE / 100


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), 100)


# ------------------------------------------------------------------------- the numbers

WAITING = "..."


def draw_numbers(state: TextState) -> Part:
    """What is counted, evaluated and measured, of both networks."""
    title, rows = "What is left, and what it costs", list(table_rows(state))
    marks = [heading(title)]
    for x, name in ((300, "dense"), (WIDTH - 6, "pruned")):
        marks.append(text(x, 42, name, text_anchor="end", font_weight="bold"))
    for number, (label, tag, dense, pruned) in enumerate(rows):
        y = 66 + 31 * number
        marks.append(text(0, y, label, font_size=13.5))
        marks.append(text(0, y + 13, tag, font_size=11.5, fill=GREY))
        marks.append(text(300, y, dense, text_anchor="end", font_size=13.5))
        marks.append(text(WIDTH - 6, y, pruned, text_anchor="end", font_size=13.5))
    said = "; ".join(f"{row[0]}: dense {row[2]}, pruned {row[3]}" for row in rows)
    return Part(title, f"{title}. {said}.", tuple(marks))


def table_rows(state: TextState) -> Iterator[tuple[str, str, str, str]]:
    """The table's rows: what, how it is known, the dense network's, the pruned one's.
    The course's web page shows the first two too."""
    kept = state.kept / state.weights if state.weights else 1.0
    yield (
        "weights not zero",
        "counted, of those that can be pruned",
        f"{state.weights:,}",
        f"{state.kept:,} ({kept:.0%})",
    )
    yield from _loss_rows(state)
    counted, cache = "counted", _mb(state.cache)
    yield "file as saved, float32", counted, _mb(state.saved), _mb(state.saved)
    yield "kept weights and a bit a place", counted, _mb(state.saved), _mb(state.packed)
    yield "keys and values", "counted, of a whole context", cache, cache
    rates = state.rates
    yield (
        "pieces a second",
        "measured in turn, one thread",
        WAITING if rates is None else f"{rates[0].median:,.0f}",
        WAITING if rates is None else _rate(rates[1]),
    )


def _loss_rows(state: TextState) -> Iterator[tuple[str, str, str, str]]:
    now, then = state.loss, state.before
    if now is None or then is None:
        for label in ("loss, nats a piece", "perplexity", "bits a character"):
            yield label, "on validation text", WAITING, WAITING
        return
    on = f"on {now.pieces:,} pieces of validation text"
    margin = f"more than dense: {now.more:+.3f} \u00b1 {now.margin:.3f}"
    yield "loss, nats a piece", margin, f"{then.mean:.3f}", f"{now.mean:.3f}"
    yield "perplexity", on, _perplexity(then), _perplexity(now)
    yield "bits a character", on, f"{then.bits:.3f}", f"{now.bits:.3f}"


def _perplexity(loss: Loss) -> str:
    value = math.exp(min(loss.mean, 700.0))
    return f"{value:,.1f}" if value < 1e6 else f"{value:.1e}"


def _mb(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"


def _rate(rate: Rate) -> str:
    return f"{rate.median:,.0f} ({rate.speedup:.2f}x)"


def _speed(dense: Rate, pruned: Rate) -> str:
    low, high = pruned.speedup_quartiles
    return (
        f"pieces a second {dense.median:,.0f} dense and {pruned.median:,.0f} pruned,"
        f" {pruned.speedup:.2f} times as fast (quartiles {low:.2f} to {high:.2f})"
    )


def _loss_in_words(state: TextState) -> str:
    now, then = state.loss, state.before
    if now is None or then is None:
        return ""
    return (
        f"loss {now.mean:.3f} nats a piece on {now.pieces:,} pieces, dense"
        f" {then.mean:.3f}, {now.more:+.3f} with a margin of {now.margin:.3f},"
        f" perplexity {_perplexity(now)}, bits a character {now.bits:.3f}"
    )


# --------------------------------------------------------------------------- the curve

LEFT, RIGHT, TOP, BOTTOM = 44, WIDTH - 14, 84, 268
SPAN = 6  # nats from the lower end of the axis to the upper one


def draw_curve(
    state: TextState, curve: Mapping[float, Loss], stops: Sequence[float]
) -> Part:
    """The loss at each stop where the slider has been; thin dashes between them, where
    nothing was evaluated."""
    title = "Loss, nats a piece, not retrained"
    low = math.floor(min((loss.mean for loss in curve.values()), default=0))

    def at(stop: float, loss: float) -> tuple[float, float]:
        share = min(max((loss - low) / SPAN, 0.0), 1.0)
        x = LEFT + (RIGHT - LEFT) * stops.index(stop) / (len(stops) - 1)
        return x, BOTTOM - (BOTTOM - TOP) * share

    places = {stop: at(stop, loss.mean) for stop, loss in sorted(curve.items())}
    marks = [heading(title), *_axes(low, at, stops), *_large(state)]
    path = " ".join("{:.1f},{:.1f}".format(*place) for place in places.values())
    marks.append(
        f'<polyline points="{path}" fill="none" stroke="{BLUE}"'
        ' stroke-dasharray="3 3"/>'
    )
    for stop, (x, y) in places.items():
        loss = curve[stop]
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{BLUE}"/>')
        if loss.mean > low + SPAN:
            marks.append(
                text(
                    x,
                    y - 6,
                    f"\u2191{loss.mean:.1f}",
                    text_anchor="middle",
                    font_size=11,
                )
            )
    here = places.get(state.controls.sparsity)
    if here:
        marks.append(
            f'<circle cx="{here[0]:.1f}" cy="{here[1]:.1f}" r="8.5" fill="none"'
            f' stroke="{ORANGE}" stroke-width="3"/>'
        )
    said = ", ".join(
        f"{100 * s:g}%: {loss.mean:.2f}" for s, loss in sorted(curve.items())
    )
    return Part(title, f"{title}. {said or 'Not evaluated yet'}.", tuple(marks))


def _axes(
    low: int, at: Callable[[float, float], tuple[float, float]], stops: Sequence[float]
) -> Iterator[str]:
    for nats in range(low, low + SPAN + 1):
        y = at(stops[0], nats)[1]
        yield line(LEFT, y, RIGHT, y)
        yield text(LEFT - 7, y + 5, str(nats), text_anchor="end", fill=GREY)
    for stop in stops:
        x = at(stop, low)[0]
        label = f"{100 * stop:g}"
        yield text(x, BOTTOM + 19, label, text_anchor="middle", font_size=12)
    middle = (LEFT + RIGHT) / 2
    yield text(middle, BOTTOM + 39, "pruned, percent", text_anchor="middle")


def _large(state: TextState) -> Iterator[str]:
    loss = state.loss
    large = WAITING if loss is None else f"{loss.mean:.2f}"
    yield text(0, 62, large, font_size=34, font_weight="bold", fill=DARK)
    yield text(126, 44, f"{setting(state)}", font_size=13)
    if loss is not None:
        words = (
            f"{loss.more:+.2f} \u00b1 {loss.margin:.2f}: {loss.pieces:,} pieces, paired"
        )
        yield text(126, 62, words, font_size=13, fill=GREY)
