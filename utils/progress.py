"""What a learner has done so far: a table by lesson, and all guesses beside what was
measured.

Everything comes from the files beside the notebooks and stays there. What is read from
them is data: counted, shortened and escaped, never trusted.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import starmap
from pathlib import Path

from IPython.display import display
from matplotlib.figure import Figure

from utils import plots, quizzes, record
from utils.exercises import LESSONS, listed
from utils.files import DamagedFileError, write_atomically
from utils.guesses import CLOSE, kept_guesses
from utils.quizzes import escaped, is_number

ENOUGH = 5  # guesses before anything is said of them
UNEVEN = 0.1  # a coin that falls so unevenly is rarer than that
MOST, LONGEST = 500, 160  # guesses that are drawn, letters of a question
SIDES = {  # look of a guess by its side: legend, marker, colour
    "high": ("too high", "^", plots.PALETTE[1]),
    "low": ("too low", "v", plots.PALETTE[0]),
    "close": ("close", "o", plots.PALETTE[2]),
}
HEAD = ("Lesson", "Exercises right", "Quiz, first try", "Claims held", "Open task")
EMPTY = (
    "Nothing is kept yet. Here will stand, for each lesson: exercises that are right,"
    " questions of the quiz that you had right at the first try, claims that held on"
    " this machine, and whether you met the open task; and a picture of all your"
    " guesses beside what was measured. It all stays on this machine."
)
PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{style}</style></head>
<body>{body}
</body></html>
"""
STYLE = (
    "body{font-family:sans-serif;max-width:50em;margin:2em auto;color:#1a1a1a}"
    "table{border-collapse:collapse}"
    "th,td{border:1px solid #999;padding:.3em .6em;text-align:left}"
    "img{max-width:100%}"
)


# ------------------------------------------------------------------------- by lesson


@dataclass(frozen=True)
class Row:
    """What is kept of one lesson: how many, of how many; of the quiz the questions that
    were right at the first try, and those that were answered.

    Where the lesson has nothing of a kind it is 0 of 0.
    """

    lesson: str
    exercises: tuple[int, int]
    quiz: tuple[int, int]
    answered: int
    claims: tuple[int, int]
    task: bool | None  # None: not tried, or the lesson has none
    has_task: bool

    def is_empty(self) -> bool:
        """Whether nothing was done yet."""
        done = self.exercises[0] or self.answered or self.claims[1]
        return not done and self.task is None

    def cells(self) -> tuple[str, ...]:
        """As text, under `HEAD`."""
        number, _, words = self.lesson.partition("_")
        name = f"{number} {words.replace('_', ' ').capitalize()}"
        task = {True: "met", False: "not yet met", None: "open"}[self.task]
        counts = [of(pair) for pair in (self.exercises, self.quiz, self.claims)]
        if unanswered := self.quiz[1] - self.answered:
            counts[1] += f" ({unanswered} open)"
        return name, *counts, task if self.has_task else "-"


def of(pair: tuple[int, int]) -> str:
    """`3 of 4`; a dash when there are none."""
    return f"{pair[0]} of {pair[1]}" if pair[1] else "-"


def rows(kept: Mapping[str, record.Lesson] | None = None) -> list[Row]:
    """What is kept, by default in this folder, for each lesson of the course."""
    kept, exercises = record.kept() if kept is None else kept, listed()
    folders = sorted(path for path in LESSONS.glob("[0-9]*") if path.is_dir())
    return [
        row(
            folder.name,
            kept.get(folder.name, {}),
            [name for name, lesson in exercises.items() if lesson == folder.name],
        )
        for folder in folders
    ]


def row(lesson: str, kept: record.Lesson, exercises: Sequence[str]) -> Row:
    """What is kept of one lesson with these exercises."""
    done = kept.get("exercises", {})
    right = sum(done.get(name, {}).get("right") is True for name in exercises)
    claims = kept.get("claims", {}).values()
    held = sum(one.get("held") is True for one in claims)
    has_task = (LESSONS / lesson / "task.py").is_file()
    met = kept.get("task", {}).get("task", {}).get("met") if has_task else None
    questions = judgeable(lesson)
    answers = [
        (asked, kept.get("quiz", {}).get(asked["question"], {})) for asked in questions
    ]
    return Row(
        lesson,
        (right, len(exercises)),
        (sum(starmap(quizzes.is_right, answers)), len(questions)),
        sum(starmap(quizzes.is_answered, answers)),
        (held, len(claims)),
        met if isinstance(met, bool) else None,
        has_task,
    )


def judgeable(lesson: str) -> list[quizzes.Asked]:
    """The questions of a lesson's quiz that are right or not; a sentence is judged by
    who wrote it. None for a lesson whose quiz is being written."""
    try:
        questions = quizzes.read(lesson)
    except (ValueError, DamagedFileError):
        return []
    return [asked for asked in questions if quizzes.kind_of(asked) != "sentence"]


def table_text(rows: Sequence[Row]) -> str:
    """The table for a terminal."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (map(str.ljust, line, widths) for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in padded)


def table_html(rows: Sequence[Row]) -> str:
    """The table for a page."""
    return html_table(HEAD, (row.cells() for row in rows))


def html_table(
    head: Sequence[str], lines: Iterable[Sequence[str]], caption: str = ""
) -> str:
    """A table of texts for a page, with a head to each column and to each line."""
    heads = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    body = ""
    for line in lines:
        first, *others = map(escaped, line)
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        body += f'<tr><th scope="row">{first}</th>{cells}</tr>'
    said = f"<caption>{escaped(caption)}</caption>" if caption else ""
    head_line = f"<thead><tr>{heads}</tr></thead>"
    return f"<table>{said}{head_line}<tbody>{body}</tbody></table>"


# --------------------------------------------------------------------------- guesses


@dataclass(frozen=True)
class Compared:
    """A guess beside what was measured, both as fractions of the range that was
    asked."""

    question: str
    guess: float
    measured: float
    unit: str = ""
    better: str = ""  # the hopeful end, if it has one
    said: str = ""  # both in the unit

    @property
    def side(self) -> str:
        """`high`, `low` or `close`."""
        far = self.guess - self.measured
        # a little more, for what is rounded
        if abs(far) <= CLOSE + 1e-9:
            return "close"
        return "high" if far > 0 else "low"


def compared(kept: Mapping[str, dict] | None = None) -> list[Compared]:
    """The guesses, by default of this folder, whose result was measured."""
    kept = kept_guesses() if kept is None else kept
    each = (comparison(question, one) for question, one in kept.items())
    return [one for one in each if one is not None][:MOST]


def comparison(question: str, kept: dict) -> Compared | None:
    """What is kept of a guess, if it holds all that it must, as numbers."""
    numbers = [kept.get(key) for key in ("guess", "measured", "low", "high")]
    sound = [float(number) for number in numbers if is_number(number)]
    if len(sound) < len(numbers) or sound[2] >= sound[3]:
        return None
    guess, measured, low, high = sound
    unit, better = (_short(kept.get(key)) for key in ("unit", "better"))
    return Compared(
        _short(question),
        guess=(guess - low) / (high - low),
        measured=(measured - low) / (high - low),
        unit=unit,
        better=better,
        said=f"guessed {guess:.4g}, measured {measured:.4g} {unit}".rstrip() + ".",
    )


def _short(value: object) -> str:
    """A text from a file, of one line that is not too long; empty when it is none."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def judged(guesses: Sequence[Compared]) -> str:
    """In words whether the guesses lean to one side, and about what; or how many are
    missing before that can be said."""
    if len(guesses) < ENOUGH:
        missing = ENOUGH - len(guesses)
        return (
            f"Guesses that can be compared: {len(guesses)}. With {missing} more, this"
            " will say whether they lean to one side."
        )
    said = [f"Your guesses: {lean(guesses)}"]
    hoping = [guess for guess in guesses if guess.better in ("high", "low")]
    if len(hoping) >= ENOUGH:
        said.append(f"Where one end is better: {lean(hoping, by_hope=True)}")
    units = sorted({guess.unit for guess in guesses})
    groups = {u: [guess for guess in guesses if guess.unit == u] for u in units}
    for unit, group in groups.items():
        if len(groups) > 1 and len(group) >= ENOUGH:
            said.append(f"In {unit or 'plain numbers'}: {lean(group)}")
    worst = max(guesses, key=lambda guess: abs(guess.guess - guess.measured))
    if worst.side != "close":
        said.append(f"Furthest off: {worst.question} You {worst.said}")
    return " ".join(said)


def lean(guesses: Sequence[Compared], by_hope: bool = False) -> str:
    """Whether guesses lean to one side more than a coin would: too high or too low, or,
    of those with a better end, too hopeful or too careful."""
    off = [guess for guess in guesses if guess.side != "close"]
    if by_hope:
        one, other = "too hopeful", "too careful"
        first = sum(guess.side == guess.better for guess in off)
    else:
        one, other = "too high", "too low"
        first = sum(guess.side == "high" for guess in off)
    second, close = len(off) - first, len(guesses) - len(off)
    counts = f"{first} {one}, {second} {other}, {close} within {CLOSE:.0%} of the range"
    rare = chance(max(first, second), len(off))
    way = one if first > second else other
    if rare <= UNEVEN:
        most = "mostly well calibrated, the others " if 2 * close > len(guesses) else ""
        return f"{most}{way} ({counts}; {rare:.1%} of coins would be so uneven)."
    if 2 * close > len(guesses):
        return f"well calibrated ({counts})."
    return f"no clear lean ({counts}; so few may fall like that by chance)."


def chance(most: int, tosses: int) -> float:
    """How often a coin shows one side, whichever, at least `most` times.

    >>> chance(5, 5), chance(3, 5)
    (0.0625, 1.0)
    """
    ways = sum(math.comb(tosses, count) for count in range(most, tosses + 1))
    return min(1.0, 2 * ways / 2**tosses)


def drawn(guesses: Sequence[Compared]) -> tuple[Figure, str]:
    """A picture of guesses beside what was measured, and what it shows in words. What
    lies outside its range is drawn at the edge."""
    figure, ax = plots.axes(
        "Guessed and measured, over the whole course",
        "measured, % of the range that was asked",
        "guessed, % of the range",
        width=5.2,
        height=4.6,
    )
    ax.plot([0, 100], [0, 100], **plots.REFERENCE)
    said = []
    for side, (words, marker, colour) in SIDES.items():
        points = [guess for guess in guesses if guess.side == side]
        said.append(f"{len(points)} {words}")
        look: plots.Look = dict(marker=marker, color=colour, s=55)
        x = [100 * min(1, max(0, guess.measured)) for guess in points]
        y = [100 * min(1, max(0, guess.guess)) for guess in points]
        ax.scatter(x, y, label=said[-1], zorder=3, clip_on=False, **look)
    ax.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    alt = (
        f"{len(guesses)} guesses against what was measured, each as a share of its"
        f" range: {', '.join(said)}; too high lies above the diagonal."
    )
    return figure, alt


# --------------------------------------------------------------------------- to show


class Shown:
    """HTML, with the same as text where there is no browser."""

    def __init__(self, content: str, text: str) -> None:
        self.content, self.text = content, text

    def _repr_html_(self) -> str:
        return self.content

    def __repr__(self) -> str:
        return self.text


def progress(save: str | Path | None = None) -> None:
    """Show what you have done so far in this folder, and how your guesses compare.

    Args:
        save: also write it as a page to print, of this name, that needs nothing else:
            "my_progress.html".
    Raises:
        ValueError: `save` does not end with .html.
    """
    if save is not None and Path(save).suffix != ".html":
        raise ValueError(f"save={str(save)!r} must end with .html.")
    trouble = record.save()
    table, guesses = rows(), compared()
    if all(row.is_empty() for row in table) and not guesses:
        show_text(EMPTY)
    else:
        display(Shown(table_html(table), table_text(table)))
        if guesses:
            plots.show(*drawn(guesses))
        show_text(judged(guesses))
    if trouble:
        show_text(f"{record.FILE}: {trouble}.")
    if save is not None:
        show_text(written(Path(save), table, guesses))


def show_text(text: str) -> None:
    """Display a paragraph."""
    display(Shown(f"<p>{escaped(text)}</p>", text))


def written(path: Path, table: Sequence[Row], guesses: Sequence[Compared]) -> str:
    """Write the page; what became of it, in words."""
    try:
        write_atomically(path, page(table, guesses).encode("utf-8", "replace"))
    except OSError as error:
        return f"{path} is not written: {error.strerror or error}."
    return f"Written: {path}. Open it in a browser to print it."


def page(table: Sequence[Row], guesses: Sequence[Compared]) -> str:
    """One page that stands alone, without script; everything in it is escaped."""
    body = ["<h1>My progress</h1>", table_html(table)]
    body.append(f"<h2>Guesses</h2><p>{escaped(judged(guesses))}</p>")
    if guesses:
        body.append(picture(*drawn(guesses)))
        items = (
            f"<li>{escaped(guess.question)} {escaped(guess.said)}</li>"
            for guess in guesses
        )
        body.append(f"<ol>{''.join(items)}</ol>")
    return PAGE.format(title="My progress", style=STYLE, body="\n".join(body))


def picture(figure: Figure, alt: str) -> str:
    """A figure as an HTML element that holds all of it."""
    buffer = BytesIO()
    look: plots.Look = dict(bbox_inches="tight", facecolor="white")
    figure.savefig(buffer, format="png", dpi=plots.DPI, **look)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escaped(alt)}" src="data:image/png;base64,{content}">'
