"""The exercise of lab 00, and the mistakes that its check knows."""

from collections.abc import Callable, Sequence

from utils.exercises import Case, Exercise


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


SPARSITIES = [0.0, 0.3, 0.5, 0.8, 0.9, 0.95]
ACCURACIES = [0.90, 0.92, 0.905, 0.895, 0.85, 0.60]
TABLE = (
    "for sparsities 0, 0.3, 0.5, 0.8, 0.9, 0.95 with accuracies 0.90, 0.92, 0.905,"
    " 0.895, 0.85, 0.60"
)


def above(limit: Callable[[list[float], float], float]) -> Callable:
    """An answer with another limit of accuracy, from the accuracies and the drop."""

    def answer(s: list[float], a: list[float], d: float) -> float:
        return max(x for x, y in zip(s, a, strict=True) if y >= limit(a, d))

    return answer


EXERCISES = [
    Exercise(
        largest_safe_sparsity,
        "lessons/00_start_here/exercises.py",
        asked="one of the sparsities",
        cases=[
            Case(
                f"{TABLE} and an allowed drop of 0.01", (SPARSITIES, ACCURACIES, 0.01)
            ),
            Case(
                f"{TABLE} and an allowed drop of 0.06",
                (SPARSITIES, ACCURACIES, 0.06),
                hint="Is a number written into the function?",
            ),
        ],
        mistakes={
            "that is the position in the list; return the sparsity that stands there": (
                lambda s, a, d: max(i for i, y in enumerate(a) if y >= a[0] - d)
            ),
            "accuracy is too low there already. Return the last that is still good"
            " enough, not the first that is not": (
                lambda s, a, d: next(
                    x for x, y in zip(s, a, strict=True) if y < a[0] - d
                )
            ),
            "the comparison is with the dense network, accuracies[0] = 0.90, not"
            " with the best, 0.92": (above(lambda a, d: max(a) - d)),
            "that is as if almost no drop were allowed. allowed_drop is a fraction"
            " like the accuracies: compare accuracy with 0.90 - 0.01": (
                above(lambda a, d: a[0] - d / 100)
            ),
            "accuracy fell by 0.30 there. allowed_drop = 0.01 is one percentage"
            " point": (above(lambda a, d: a[0] - 100 * d)),
            "the allowed drop is not used. Is 0.01 written into the function?": (
                above(lambda a, d: a[0] - 0.01)
            ),
            "that is an accuracy; return the sparsity that has it": (
                lambda s, a, d: min(y for y in a if y >= a[0] - d)
            ),
        },
        also_right={
            "loop": """
                def largest_safe_sparsity(sparsities, accuracies, allowed_drop):
                    best = 0
                    for index in range(len(sparsities)):
                        if accuracies[0] - accuracies[index] <= allowed_drop:
                            best = max(best, sparsities[index])
                    return best
            """,
            "numpy": """
                def largest_safe_sparsity(sparsities, accuracies, allowed_drop):
                    accuracies = np.array(accuracies)
                    return np.array(sparsities)[
                        accuracies >= accuracies[0] - allowed_drop
                    ].max()
            """,
            "torch": """
                def largest_safe_sparsity(sparsities, accuracies, allowed_drop):
                    good = (
                        torch.tensor(accuracies, dtype=torch.float64)
                        >= accuracies[0] - allowed_drop
                    )
                    return sparsities[good.nonzero().max().item()]
            """,
        },
    )
]
