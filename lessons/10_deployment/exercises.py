"""The exercises of lab 10, their checks and the mistakes that are told apart."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from utils.exercises import Exercise, WrongAnswer


def compare(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """The largest difference of any output `[n, classes]`, and the fraction of pictures
    with one class from both."""
    same = ours.argmax(1) == theirs.argmax(1)
    return (ours - theirs).abs().max().item(), same.float().mean().item()


def step_factors(seconds: Sequence[float]) -> list[float]:
    """By how much each step made it faster; one fewer than there are times, and their
    product is the whole."""
    return [before / after for before, after in pairwise(seconds)]


OURS = torch.tensor(
    [[0.0, 3.0, 1.0], [2.0, 1.0, 0.0], [0.0, 0.5, 1.0], [4.0, 0.0, 1.0]]
)
# up to 1 larger
THEIRS = torch.tensor(
    [[0.0, 4.0, 1.0], [1.5, 2.0, 0.0], [0.0, 0.5, 1.0], [3.5, 0.0, 1.0]]
)


def check_compare(answer: Callable) -> None:
    """Typical mistakes: a sign forgotten, means, outputs compared instead of classes,
    the wrong axis, a count."""
    got = answer(OURS.clone(), THEIRS.clone())
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise WrongAnswer(
            f"it returns {type(got).__name__}; two numbers are wanted: difference,"
            " agreement."
        )
    difference, agreement = (float(value) for value in got)
    if math.isclose(difference, 0.5, abs_tol=1e-6):
        raise WrongAnswer(
            "the largest difference comes out as 0.5, and one of theirs is 1 *larger*."
            " Take `abs()` before `max()`."
        )
    if math.isclose(difference, (OURS - THEIRS).abs().mean().item(), abs_tol=1e-6):
        raise WrongAnswer(
            "the difference is the mean one. A single wrong output would drown in it:"
            " take the largest."
        )
    if not math.isclose(difference, 1.0, abs_tol=1e-6):
        raise WrongAnswer(
            f"the difference is {difference:g}; one output differs by 1, and none by"
            " more."
        )
    if math.isclose(agreement, (OURS == THEIRS).float().mean().item(), abs_tol=1e-6):
        raise WrongAnswer(
            f"the agreement is {agreement:.3f}: it compares outputs; rounding changes"
            " nearly all. Compare classes."
        )
    if math.isclose(agreement, 3.0, abs_tol=1e-6):
        raise WrongAnswer(
            "the agreement is 3, a number of pictures. A fraction is wanted: 3 of 4 is"
            " 0.75."
        )
    if math.isclose(agreement, 0.25, abs_tol=1e-6):
        raise WrongAnswer("the agreement is 0.25: that is the fraction that differs.")
    if math.isclose(
        agreement,
        (OURS.argmax(0) == THEIRS.argmax(0)).float().mean().item(),
        abs_tol=1e-6,
    ):
        raise WrongAnswer(
            "the agreement compares along the pictures. The class of a picture is"
            " `argmax(1)`."
        )
    if not math.isclose(agreement, 0.75, abs_tol=1e-6):
        raise WrongAnswer(
            f"the agreement is {agreement:g}; 3 of the 4 pictures get the same class,"
            " 0.75."
        )


STEP_MISTAKES = [  # what 12, 4, 2 and 2.5 s give then
    (
        [3.0, 6.0, 4.8],
        (
            "each step is compared with the first time. Its share is against the step"
            " before it."
        ),
    ),
    (
        [1 / 3, 1 / 2, 1.25],
        (
            "the factors are upside down: 12 s that become 4 s are 3 times faster,"
            " before / after."
        ),
    ),
    (
        [8.0, 2.0, -0.5],
        (
            "these are seconds saved. They do not multiply, and depend on the step's"
            " place in the row."
        ),
    ),
    (
        [2 / 3, 1 / 2, -0.25],
        (
            "these are fractions of the time saved; two halves would not be all."
            " Factors: before / after."
        ),
    ),
]


def check_step_factors(answer: Callable) -> None:
    """Typical mistakes: each against the first, upside down, differences, percent, one
    too many, the list changed."""
    seconds = [12.0, 4.0, 2.0, 2.5]
    given = list(seconds)
    got = answer(given)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if given != seconds:
        raise WrongAnswer("it has changed the list of seconds it was given.")
    got = [float(value) for value in got]
    for values, reason in STEP_MISTAKES:
        if _close(got, values) or _close(got[1:], values):
            raise WrongAnswer(reason)
    if len(got) != 3:
        raise WrongAnswer(
            f"for 4 times it returns {len(got)} numbers; there are 3 steps between"
            " them."
        )
    if not _close(got, [3.0, 2.0, 0.8]):
        shown = ", ".join(f"{value:.3g}" for value in got)
        raise WrongAnswer(
            f"for 12, 4, 2 and 2.5 s it returns {shown}; right is 3, 2, 0.8 (the last"
            " step made it slower)."
        )
    if len(answer([1.0])) != 0:
        raise WrongAnswer(
            "for one time alone there is no step, and the list must be empty."
        )


def _close(got: list[float], wanted: list[float]) -> bool:
    return len(got) == len(wanted) and all(
        math.isclose(a, b, rel_tol=1e-6) for a, b in zip(got, wanted, strict=True)
    )


EXERCISES = [
    Exercise(compare, "utils/deploy.py (parity)", more=check_compare),
    Exercise(
        step_factors, "lessons/10_deployment/exercises.py", more=check_step_factors
    ),
]
