"""What every lab uses: `predict`, `check`, `claim`, `decide`, `figures`, `quiz`,
`progress`, `finish`.

All of them work in JupyterLab, under nbval and as plain text without a kernel: what
they print is the same on every machine, but for the numbers measured there, which
tests/nbval_sanitize.cfg leaves out of the comparison.
"""

import math
import os
from collections.abc import Callable
from types import ModuleType

from utils import exercises, record
from utils.exercises import WrongAnswer, load, number
from utils.guesses import plain, predict
from utils.problems import taken
from utils.progress import progress
from utils.quizzes import quiz
from utils.tasks import decide

__all__ = [
    "WrongAnswer",
    "check",
    "claim",
    "decide",
    "figures",
    "finish",
    "predict",
    "progress",
    "quiz",
]

_claims: list[str] = []  # claims that did not hold


# -------------------------------------------------------------------------------- check


def check(answer: Callable) -> Callable:
    """`exercises.check`: check an exercise by the name of its function; return the
    function that the rest of the lab uses. That it is right is kept in the learner's
    record, or how often it was not.

    Raises:
        WrongAnswer: says what is wrong, by an example.
        ValueError: no exercise of that name.
    """
    try:
        used = exercises.check(answer)
    except WrongAnswer:
        _keep_wrong(answer.__name__)
        raise
    exercise = exercises.find(used.__name__)
    if used is not exercise.right:
        lesson = exercises.listed()[exercise.name]
        record.note("exercises", exercise.name, {"right": True}, lesson=lesson)
        record.save()
    return used


def _keep_wrong(exercise: str) -> None:
    """Keep that an exercise was checked and not right, once more."""
    lesson = exercises.listed()[exercise]
    before = record.wrong_checks(record.entry(lesson, "exercises", exercise))
    record.note("exercises", exercise, {"wrong": before + 1}, lesson=lesson)
    record.save()


# -------------------------------------------------------------------------------- claim


def claim(
    statement: str,
    value: float | tuple[float, float, float],
    *,
    between: tuple[float, float] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> None:
    """State what the lab says is true, and check it against what was just measured.

    Prints one line: whether it holds, what was measured and what was claimed. Only the
    number may differ from machine to machine; nbval leaves it out.

    Args:
        value: what was measured. Of a time or a speed it may be (median, lower
            quartile, upper quartile): on a learner's machine, which may be busy, the
            median must hold; `make notebooks`, which sets PRUNING_STRICT, stores no run
            in which a quartile does not.

    Raises:
        ValueError: not exactly one of `between`, `at_least`, `at_most` is given, a
            bound that nothing can hold, or `value` is not one number or three.

    >>> claim("Half of the weights are zero", 0.5, between=(0.49, 0.51))
    Holds: Half of the weights are zero (measured 0.5; 0.49 to 0.51).
    """
    low, high, wanted = _bounds(between, at_least, at_most)
    given = value if isinstance(value, tuple) and len(value) == 3 else (value,)
    numbers = [each for each in map(number, given) if each is not None]
    if len(numbers) < len(given):
        raise ValueError(f"value={value!r} of {statement!r} must be one number.")
    measured, *quartiles = numbers
    found = f"measured {plain(measured)}; {wanted}"
    held = low <= measured <= high
    strict = os.environ.get("PRUNING_STRICT")
    if strict and not all(low <= edge <= high for edge in quartiles):
        held, found = False, f"{found}; quartiles {quartiles}"
    kept = measured if math.isfinite(measured) else None
    record.note("claims", statement, {"measured": kept, "held": held})
    if held:
        print(f"Holds: {statement} ({found}).")
        return
    print(f"DOES NOT HOLD HERE: {statement} ({found}).")
    _claims.append(statement)


def _bounds(
    between: tuple[float, float] | None, at_least: float | None, at_most: float | None
) -> tuple[float, float, str]:
    """Lowest and highest value that holds, and both in words."""
    if sum(bound is not None for bound in (between, at_least, at_most)) != 1:
        raise ValueError(
            "claim needs exactly one of between=(low, high), at_least=, at_most=."
        )
    if between is not None and len(between) != 2:
        raise ValueError(f"between={between!r} must be two numbers, (low, high).")
    low, high = between or (
        -math.inf if at_least is None else at_least,
        math.inf if at_most is None else at_most,
    )
    if not low <= high:
        raise ValueError(
            f"no number is from {low:g} to {high:g}: give the lower bound first."
        )
    if between is not None:
        return low, high, f"{plain(low)} to {plain(high)}"
    if at_least is not None:
        return low, high, f"at least {plain(low)}"
    return low, high, f"at most {plain(high)}"


# ------------------------------------------------------------------------------ figures


def figures(lesson: str) -> ModuleType:
    """What draws the figures of a lesson: lessons/<lesson>/figures.py. Each of its
    functions shows one figure, with its description.

    From here on this kernel runs that lesson: what is claimed is kept under its name.

    Raises:
        ValueError: the lesson has no such file.
    """
    drawn = load(lesson, "figures")
    record.begin(lesson)
    return drawn


# ------------------------------------------------------------------------------- finish


def forget() -> None:
    """Forget all that was noted so far and is not on the disk, as in a new kernel."""
    taken()
    _claims.clear()
    record.forget()


def finish() -> None:
    """The last cell of every lab: say which claims did not hold, and fail if a panel
    had an error.

    Raises:
        RuntimeError: an error was recorded in a panel.
    """
    problems, unheld = taken(), list(_claims)
    _claims.clear()
    record.save()
    if problems:
        raise RuntimeError("A panel of this lab had an error: " + "; ".join(problems))
    if unheld:
        print(
            f"{len(unheld)} claim(s) did not hold here; see above. A busy machine can"
            " do that to a timing: run again."
        )
    else:
        print("Done: every claim of this lab held on this machine.")
