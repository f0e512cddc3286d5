"""What every lab uses: `predict`, `check`, `claim`, `quiz`, `finish`.

All of them work in JupyterLab, under nbval and as plain text without a kernel: what
they print is the same on every machine as long as everything is right.
"""

import html
import json
import math

import ipywidgets
from IPython.display import display

from utils.exercises import LESSONS, WrongAnswer, check
from utils.problems import taken

__all__ = ["WrongAnswer", "check", "claim", "finish", "predict", "quiz"]

_claims: list[str] = []  # claims that did not hold


# ------------------------------------------------------------------------------ predict


class Guess:
    """A prediction: `value` is None until the learner locks it; plots draw it beside
    the measurement then.

    Args:
        question: one sentence.  low, high, step: of the slider.  unit: shown behind the
            number.
    """

    def __init__(
        self, question: str, low: float, high: float, *, unit: str = "", step: float = 1
    ) -> None:
        if not low < high or not 0 < step <= high - low:
            raise ValueError(
                f"low={low!r}, high={high!r}, step={step!r}: low must be below high,"
                " step fit between."
            )
        self.question, self.low, self.high, self.unit = question, low, high, unit
        self.value: float | None = None
        self.slider = ipywidgets.FloatSlider(
            value=(low + high) / 2,
            min=low,
            max=high,
            step=step,
            description="My guess",
            readout_format=".3g",
        )
        self.button = ipywidgets.Button(
            description="Lock my guess", tooltip=f"Lock my guess: {question}"
        )
        self.status = ipywidgets.Label("Move the slider, then lock it.")
        self.button.on_click(lambda _: self.lock())
        title = ipywidgets.HTML(f"<b>Predict.</b> {html.escape(question)}")
        row = ipywidgets.HBox(
            [self.slider, ipywidgets.Label(unit), self.button, self.status]
        )
        self.panel = ipywidgets.VBox([title, row])

    def lock(self, value: float | None = None) -> None:
        """Commit the guess (by default what the slider shows). Locked once, it
        stays."""
        if self.value is not None:
            return
        self.value = self.slider.value if value is None else float(value)
        self.slider.disabled = self.button.disabled = True
        self.status.value = f"Locked: {self.value:g} {self.unit}"

    def __repr__(self) -> str:
        return (
            f"Predict. {self.question} (A guess from {self.low:g} to {self.high:g}"
            f" {self.unit}.)"
        )

    def _repr_mimebundle_(self, **_: object) -> dict:
        live = self.panel._repr_mimebundle_() or {}
        return {**live, "text/plain": repr(self)}


def predict(
    question: str, low: float, high: float, *, unit: str = "", step: float = 1
) -> Guess:
    """Ask for a guess before a result appears, and show the slider. Never stops a run:
    an open guess is no guess. Hand it to `plots.lines(..., guess=guess)`.

    >>> guess = Guess("How many weights can go?", 0, 100, unit="%")  # shows nothing
    >>> guess.lock(90)
    >>> guess.value
    90.0
    """
    guess = Guess(question, low, high, unit=unit, step=step)
    display(guess)
    return guess


# -------------------------------------------------------------------------------- claim


def claim(
    statement: str,
    value: float,
    *,
    between: tuple[float, float] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> None:
    """State what the lab says is true, and check it against what was just measured.

    Prints one line, the same on every machine, when it holds; what was measured when it
    does not.

    Raises:
        ValueError: not exactly one of `between`, `at_least`, `at_most` is given.

    >>> claim("Half of the weights are zero", 0.5, between=(0.49, 0.51))
    Holds: Half of the weights are zero.
    """
    if sum(bound is not None for bound in (between, at_least, at_most)) != 1:
        raise ValueError(
            "claim needs exactly one of between=(low, high), at_least=, at_most=."
        )
    low, high = between or (at_least, at_most)
    low, high = (
        (-math.inf if low is None else low),
        (math.inf if high is None else high),
    )
    value = float(value)
    if low <= value <= high:
        print(f"Holds: {statement}.")
        return
    wanted = (
        f"{low:g} to {high:g}"
        if between
        else f"at least {low:g}"
        if at_least is not None
        else f"at most {high:g}"
    )
    print(f"DOES NOT HOLD HERE: {statement}. Measured {value:.4g}, expected {wanted}.")
    _claims.append(statement)


# --------------------------------------------------------------------------------- quiz


class Quiz:
    """Multiple-choice questions; each answer unfolds its own feedback. Needs no kernel
    and no script."""

    def __init__(self, questions: list[dict]) -> None:
        self.questions = questions

    def _repr_html_(self) -> str:
        parts = []
        for number, question in enumerate(self.questions, 1):
            answers = "".join(
                f"<details><summary>{html.escape(a['answer'])}</summary><p>"
                f"<b>{'Yes.' if a['right'] else 'No.'}</b>"
                f" {html.escape(a['feedback'])}</p></details>"
                for a in question["answers"]
            )
            parts.append(
                f"<p><b>{number}. {html.escape(question['question'])}</b></p>{answers}"
            )
        return (
            "<p>Unfold the answer you would give (click, or Tab and Enter).</p>"
            + "".join(parts)
        )

    def __repr__(self) -> str:
        lines = []
        for number, question in enumerate(self.questions, 1):
            lines.append(f"{number}. {question['question']}")
            lines += [
                f"   {letter}) {a['answer']}"
                for letter, a in zip("abcdef", question["answers"], strict=False)
            ]
        return "\n".join(lines)


def quiz(lesson: str) -> Quiz:
    """The quiz of a lesson, from lessons/<lesson>/quiz.json.

    Raises:
        ValueError: no such lesson; lists the known ones.

    >>> len(quiz("00_start_here").questions) > 0
    True
    """
    path = LESSONS / lesson / "quiz.json"
    if not path.is_file():
        known = sorted(p.parent.name for p in LESSONS.glob("*/quiz.json"))
        raise ValueError(f"lesson={lesson!r} has no quiz. Known: {', '.join(known)}.")
    return Quiz(json.loads(path.read_text(encoding="utf-8")))


# ------------------------------------------------------------------------------- finish


def forget() -> None:
    """Forget all problems and claims noted so far, as in a new kernel."""
    taken()
    _claims.clear()


def finish() -> None:
    """The last cell of every lab: say which claims did not hold, and fail if a panel
    had an error.

    Raises:
        RuntimeError: an error was recorded in a panel.
    """
    problems, unheld = taken(), list(_claims)
    forget()
    if problems:
        raise RuntimeError("A panel of this lab had an error: " + "; ".join(problems))
    if unheld:
        print(
            f"{len(unheld)} claim(s) did not hold here; see above. A busy machine can"
            " do that to a timing: run again."
        )
    else:
        print("Done: every claim of this lab held on this machine.")
