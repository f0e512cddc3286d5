"""The exercises of lab 00, their checks and the mistakes that are told apart."""

from collections.abc import Callable, Sequence

from utils.exercises import Exercise, WrongAnswer


def largest_safe_sparsity(
    sparsities: Sequence[float], accuracies: Sequence[float], allowed_drop: float
) -> float:
    """The largest of `sparsities` whose accuracy is at most `allowed_drop` below the
    first, dense, one.

    Accuracies and `allowed_drop` are fractions (0.01 = one percentage point).
    """
    dense = accuracies[0]
    return max(
        s
        for s, accuracy in zip(sparsities, accuracies, strict=True)
        if accuracy >= dense - allowed_drop
    )


def check_largest_safe_sparsity(answer: Callable) -> None:
    """Typical mistakes: an index, the first that fails, the best accuracy as reference,
    a drop in percent."""
    sparsities, accuracies = (
        [0.0, 0.3, 0.5, 0.8, 0.9, 0.95],
        [0.90, 0.92, 0.905, 0.895, 0.85, 0.60],
    )
    got = answer(list(sparsities), list(accuracies), 0.01)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if getattr(got, "ndim", 0) or isinstance(got, (list, tuple)):
        raise WrongAnswer(f"it returns several numbers, {got}; it must be one, 0.8.")
    if got == 3:
        raise WrongAnswer(
            "it returns 3, the position in the list; return the sparsity that stands"
            " there, 0.8."
        )
    if got == 0.9:
        raise WrongAnswer(
            "with accuracies 0.90, 0.92, 0.905, 0.895, 0.85 and an allowed drop of 0.01"
            " it returns 0.9, where accuracy is already 0.05 lower. Return the last"
            " that is still good enough, not the first that is not."
        )
    if got == 0.3:
        raise WrongAnswer(
            "it returns 0.3. The comparison is with the dense network, accuracies[0] ="
            " 0.90, not with the best, 0.92."
        )
    if got == 0.5:
        raise WrongAnswer(
            "it returns 0.5, as if almost no drop were allowed. allowed_drop is a"
            " fraction like the accuracies: compare accuracy with 0.90 - 0.01."
        )
    if got == 0.95:
        raise WrongAnswer(
            "it returns 0.95, where accuracy fell by 0.30. allowed_drop = 0.01 is one"
            " percentage point."
        )
    if got != 0.8:
        raise WrongAnswer(
            f"for sparsities {sparsities} and accuracies {accuracies} it returns {got};"
            " it must be 0.8."
        )
    if answer(sparsities, accuracies, 0.06) != 0.9:
        raise WrongAnswer(
            "with an allowed drop of 0.06 the answer is 0.9. Is 0.01 written into the"
            " function?"
        )


EXERCISES = [
    Exercise(
        largest_safe_sparsity,
        "lessons/00_start_here/exercises.py",
        more=check_largest_safe_sparsity,
    )
]
