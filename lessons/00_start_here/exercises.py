"""The exercise of lab 00, and the mistakes that its check knows."""

from collections.abc import Callable, Sequence

from utils.exercises import Case, Exercise


def largest_safe_sparsity(
    sparsities: Sequence[float], accuracies: Sequence[float], allowed_drop: float
) -> float:
    """The largest of `sparsities` whose accuracy is at most `allowed_drop` below the
    first, dense, one. Sparsities rise.

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
# the allowed drop is met exactly at 0.5; all these numbers are exact in binary
SLOW = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
FALLING = [0.75, 0.8125, 0.703125, 0.6875, 0.640625, 0.625, 0.5625, 0.25]
# down and up again: between two good sparsities lies a bad one
DIP, RISING = [0.0, 0.3, 0.6, 0.9], [0.5, 0.25, 0.5, 0.75]


def above(limit: Callable[[list[float], float], float]) -> Callable:
    """An answer with another limit of accuracy, from the accuracies and the drop."""

    def answer(s: list[float], a: list[float], d: float) -> float:
        return max(x for x, y in zip(s, a, strict=True) if y >= limit(a, d))

    return answer


def while_good(s: list[float], a: list[float], d: float) -> float:
    """The mistake of stopping at the first accuracy that is too low."""
    last = s[0]
    for x, y in zip(s, a, strict=True):
        if y < a[0] - d:
            break
        last = x
    return last


def by_steps(s: list[float], a: list[float], d: float) -> float:
    """The mistake of comparing each accuracy with the one before it."""
    pairs = zip(a[:-1], a[1:], s[1:], strict=True)
    return max([s[0], *(x for before, y, x in pairs if y >= before - d)])


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
            Case(
                "for sparsities 0, 0.1, ... 0.7 with accuracies 0.75, 0.8125, 0.703125,"
                " 0.6875, 0.640625, 0.625, 0.5625, 0.25 and an allowed drop of 0.125",
                (SLOW, FALLING, 0.125),
                hint="Which accuracy is the lowest that is allowed?",
            ),
            Case(
                "for sparsities 0, 0.3, 0.6, 0.9 with accuracies 0.5, 0.25, 0.5, 0.75"
                " and an allowed drop of 0.125",
                (DIP, RISING, 0.125),
                hint="The largest sparsity is asked for, whatever lies before it.",
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
            "the comparison is with the dense network, accuracies[0], not with the"
            " best": (above(lambda a, d: max(a) - d)),
            "the comparison is with the dense network, accuracies[0], not with the"
            " sparsity before": by_steps,
            "a drop is counted in points, a difference: accuracies[0] - allowed_drop,"
            " not a part of accuracies[0]": (above(lambda a, d: a[0] * (1 - d))),
            "0.90 is written into the function; the dense accuracy is accuracies[0]": (
                above(lambda a, d: min(0.9 - d, max(a)))
            ),
            "`at most` allows a drop of exactly allowed_drop, too": (
                lambda s, a, d: max(
                    x for x, y in zip(s, a, strict=True) if y > a[0] - d
                )
            ),
            "a network that is better than the dense one is allowed, too; only a drop"
            " counts": (
                lambda s, a, d: max(
                    x for x, y in zip(s, a, strict=True) if abs(y - a[0]) <= d
                )
            ),
            "that stops at the first accuracy that is too low; a larger sparsity may"
            " be good enough again": while_good,
            "that is as if almost no drop were allowed. allowed_drop is a fraction"
            " like the accuracies: compare with accuracies[0] - allowed_drop": (
                above(lambda a, d: a[0] - d / 100)
            ),
            "accuracy fell by far more there. allowed_drop = 0.01 is one percentage"
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
