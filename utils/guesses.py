"""Guesses: asked before a result appears, kept on the learner's disk, and compared with
what was measured.
"""

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path

import ipywidgets
from IPython.display import display

from utils import record
from utils.files import (
    DamagedFileError,
    alone,
    put_aside,
    read_json,
    write_atomically,
)
from utils.problems import guarded

FILE = "my_guesses.json"  # beside the notebook; by question
LARGEST = 1_000_000  # bytes of the file
CLOSE = 0.05  # of the range: nearer than that, a guess was close
LONG = 999.5  # from here on a number has no decimals, and a comma


class Guess:
    """A prediction: `value` is None until the learner locks it; plots draw it beside
    the measurement then. Locked once, it stays: in `my_guesses.json`, through a restart
    of the kernel and a second run of the cell.

    It is typed, not set on a slider: a slider has to stand somewhere, and that would be
    a hint.

    Args:
        question: one sentence.  low, high: what is possible.  unit: shown behind the
            number.  better: which end a hopeful person guesses, "high" or "low"; empty
            where neither is better.
    Raises:
        ValueError: low is not below high, or `better` is none of these.
    """

    def __init__(
        self, question: str, low: float, high: float, unit: str = "", better: str = ""
    ) -> None:
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"low={low!r}, high={high!r}: low must be below high.")
        if better not in ("", "high", "low"):
            raise ValueError(f"better={better!r} must be 'high', 'low' or ''.")
        self.better = better
        self.question, self.low, self.high, self.unit = question, low, high, unit
        self.value: float | None = None
        self.field = ipywidgets.Text(
            description="My guess", placeholder=f"{low:g} to {high:g}"
        )
        self.button = ipywidgets.Button(
            description="Lock my guess", tooltip=f"Lock my guess: {question}"
        )
        self.status = ipywidgets.Label(f"A number from {low:g} to {high:g}; lock it.")
        self.button.on_click(guarded(lambda _: self.lock(), self._say))
        title = ipywidgets.HTML(f"<b>Predict.</b> {html.escape(question)}")
        row = ipywidgets.HBox(
            [self.field, ipywidgets.Label(unit), self.button, self.status]
        )
        self.panel = ipywidgets.VBox([title, row])
        kept = kept_guesses().get(question, {}).get("guess")
        if isinstance(kept, int | float) and low <= kept <= high:
            self._show_locked(float(kept))

    def lock(self, value: float | None = None) -> None:
        """Commit the guess, by default what is typed. What is no number in the range
        says so, and locks nothing; locked once, it stays."""
        if self.value is not None:
            return
        typed = self.field.value if value is None else str(value)
        try:
            number = float(typed.strip().rstrip("%").replace(",", "."))
        except ValueError:
            number = math.nan
        if not self.low <= number <= self.high:
            self.status.value = (
                f"{typed!r} is no number from {self.low:g} to {self.high:g}."
            )
            return
        self._show_locked(number)
        self._keep(guess=number)

    def _say(self, content: str) -> None:
        """Show HTML below the field."""
        self.panel.children = (*self.panel.children, ipywidgets.HTML(content))

    def compare(self, measured: float) -> None:
        """Say what was measured, in the unit of the guess, and how far off it was; keep
        both.

        >>> Guess("How many weights can go?", 0, 100, "%").compare(90)
        Measured: 90 %. You locked no guess.
        """
        measured = float(measured)
        said = f"Measured: {self._in_words(measured)}."
        if self.value is None:
            print(f"{said} You locked no guess.")
            return
        self._keep(guess=self.value, measured=measured)
        guess, far = self._in_words(self.value), measured - self.value
        if abs(far) <= CLOSE * (self.high - self.low):
            print(f"{said} Your guess, {guess}, was close. What did it rest on?")
            return
        way = "low" if far > 0 else "high"
        print(
            f"{said} Your guess, {guess}, was {plain(abs(far))} too {way}. What had"
            " you left out?"
        )

    def _in_words(self, value: float) -> str:
        return f"{plain(value)} {self.unit}".rstrip()

    def _show_locked(self, value: float) -> None:
        self.value = value
        self.field.value = f"{value:g}"
        self.field.disabled = self.button.disabled = True
        self.status.value = f"Locked: {self._in_words(value)}"

    def _keep(self, **what: float) -> None:
        try:
            with alone(Path(FILE)):
                kept = kept_guesses()
                if not kept and Path(FILE).exists():
                    put_aside(Path(FILE))  # damaged
                about = {"low": self.low, "high": self.high, "unit": self.unit}
                about |= {"better": self.better, "lesson": record.current()}
                said = {key: value for key, value in about.items() if value != ""}
                kept[self.question] = {**what, **said}
                content = json.dumps(kept, indent=1, ensure_ascii=False)
                write_atomically(Path(FILE), content.encode())
        except OSError as error:  # a full disk stops no lesson
            self.status.value += f" (not kept: {error.strerror})"

    def __repr__(self) -> str:
        wide = f"from {self.low:g} to {self.high:g} {self.unit}".rstrip()
        return f"Predict. {self.question} (A guess {wide}.)"

    def _repr_mimebundle_(self, **_: object) -> dict:
        live = self.panel._repr_mimebundle_() or {}
        return {**live, "text/plain": repr(self)}


def plain(value: float) -> str:
    """A number as the labs tell it: three digits, and thousands written out.

    >>> plain(1732), plain(2.341)
    ('1,732', '2.34')
    """
    return f"{value:,.0f}" if abs(value) >= LONG else f"{value:.3g}"


def kept_guesses() -> dict[str, dict]:
    """What was guessed in this folder so far, and what was measured: by question,
    `guess`, `measured`, `low` and `high`; perhaps `unit`, `better` and `lesson`. A
    damaged file holds none."""
    try:
        return read(FILE)
    except DamagedFileError:
        return {}


def read(path: Path | str) -> dict[str, dict]:
    """What somebody's file holds, as `kept_guesses` gives it.

    Raises:
        DamagedFileError: it is missing, too large, or holds no guesses.
    """
    found = read_json(path, "delete it.", LARGEST)
    if not isinstance(found, dict):
        raise DamagedFileError(f"{path} is damaged (it holds no guesses).")
    return {
        question: each for question, each in found.items() if isinstance(each, dict)
    }


def merged(files: Sequence[dict[str, dict]]) -> dict[str, dict]:
    """One learner's guesses of several files, the oldest first: the first guess counts,
    with what was measured in its file, else in a later one.

    >>> merged([{"?": {"guess": 1}}, {"?": {"guess": 2, "measured": 3}}])
    {'?': {'guess': 1, 'measured': 3}}
    """
    whole: dict[str, dict] = {}
    for question, each in (item for one in files for item in one.items()):
        first = whole.get(question, {})
        whole[question] = each | first if "guess" in first else first | each
    return whole


def predict(
    question: str, low: float, high: float, *, unit: str = "", better: str = ""
) -> Guess:
    """Ask for a guess before a result appears, and show where to type it. Never stops a
    run: an open guess is no guess. Hand it to `plots.lines(..., guess=guess)`, and say
    `guess.compare(measured)` afterwards. `better` says which end is the hopeful one,
    "high" or "low".

    >>> guess = Guess("How many weights can go?", 0, 100, unit="%")  # shows nothing
    >>> guess.value is None
    True
    """
    guess = Guess(question, low, high, unit, better)
    display(guess)
    return guess
