"""What every lab uses: `predict`, `check`, `claim`, `decide`, `figures`, `quiz`,
`finish`.

All of them work in JupyterLab, under nbval and as plain text without a kernel: what
they print is the same on every machine, but for the numbers measured there, which
tests/nbval_sanitize.cfg leaves out of the comparison.
"""

import html
import math
from types import ModuleType

from utils.exercises import LESSONS, WrongAnswer, check, load, number
from utils.files import DamagedFileError, read_json
from utils.guesses import predict
from utils.problems import taken
from utils.tasks import decide

__all__ = [
    "WrongAnswer",
    "check",
    "claim",
    "decide",
    "figures",
    "finish",
    "predict",
    "quiz",
]

_claims: list[str] = []  # claims that did not hold


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

    Prints one line: whether it holds, what was measured and what was claimed. Only the
    number may differ from machine to machine; nbval leaves it out.

    Raises:
        ValueError: not exactly one of `between`, `at_least`, `at_most` is given, a
            bound that nothing can hold, or `value` is not one number.

    >>> claim("Half of the weights are zero", 0.5, between=(0.49, 0.51))
    Holds: Half of the weights are zero (measured 0.5; 0.49 to 0.51).
    """
    if sum(bound is not None for bound in (between, at_least, at_most)) != 1:
        raise ValueError(
            "claim needs exactly one of between=(low, high), at_least=, at_most=."
        )
    low = -math.inf if at_least is None else at_least
    high = math.inf if at_most is None else at_most
    if between is not None:
        if len(between) != 2:
            raise ValueError(f"between={between!r} must be two numbers, (low, high).")
        low, high = between
    if not low <= high:
        raise ValueError(
            f"no number is from {low:g} to {high:g}: give the lower bound first."
        )
    measured = number(value)
    if measured is None:
        raise ValueError(f"value={value!r} of {statement!r} must be one number.")
    value = measured
    wanted = (
        f"{low:g} to {high:g}"
        if between is not None
        else f"at least {low:g}"
        if at_least is not None
        else f"at most {high:g}"
    )
    found = f"(measured {value:.3g}; {wanted})"
    if low <= value <= high:
        print(f"Holds: {statement} {found}.")
        return
    print(f"DOES NOT HOLD HERE: {statement} {found}.")
    _claims.append(statement)


# ------------------------------------------------------------------------------ figures


def figures(lesson: str) -> ModuleType:
    """What draws the figures of a lesson: lessons/<lesson>/figures.py. Each of its
    functions shows one figure, with its description.

    Raises:
        ValueError: the lesson has no such file.
    """
    return load(lesson, "figures")


# --------------------------------------------------------------------------------- quiz


class Quiz:
    """Multiple-choice questions; each answer unfolds its own feedback. Needs no kernel
    and no script."""

    def __init__(self, questions: list[dict]) -> None:
        self.questions = questions

    def _repr_html_(self) -> str:
        parts = []
        for place, question in enumerate(self.questions, 1):
            answers = "".join(
                f"<details><summary>{html.escape(a['answer'])}</summary><p>"
                f"<b>{'Yes.' if a['right'] else 'No.'}</b>"
                f" {html.escape(a['feedback'])}</p></details>"
                for a in question["answers"]
            )
            parts.append(
                f"<p><b>{place}. {html.escape(question['question'])}</b></p>{answers}"
            )
        return (
            "<p>Unfold the answer you would give (click, or Tab and Enter).</p>"
            + "".join(parts)
        )

    def __repr__(self) -> str:
        lines = []
        for place, question in enumerate(self.questions, 1):
            lines.append(f"{place}. {question['question']}")
            lines += [
                f"   {letter}) {a['answer']}"
                for letter, a in zip("abcdef", question["answers"], strict=False)
            ]
        return "\n".join(lines)


def quiz(lesson: str) -> Quiz:
    """The quiz of a lesson, from lessons/<lesson>/quiz.json.

    Raises:
        ValueError: no such lesson; lists the known ones.
        DamagedFileError: the file cannot be read as a quiz.

    >>> len(quiz("00_start_here").questions) > 0
    True
    """
    path = LESSONS / lesson / "quiz.json"
    if not path.is_file():
        known = sorted(p.parent.name for p in LESSONS.glob("*/quiz.json"))
        raise ValueError(f"lesson={lesson!r} has no quiz. Known: {', '.join(known)}.")
    repair = "`git checkout -- lessons`."
    try:
        made = Quiz(read_json(path, repair))
        made._repr_html_()  # asks for all that it must have
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} is damaged ({type(error).__name__}: {error}). Repair: {repair}"
        ) from None
    return made


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
