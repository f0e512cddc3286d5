"""The exercises of lab 05, their checks and the mistakes that are told apart."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from utils.exercises import Exercise, WrongAnswer
from utils.masks import nm_masks


def work_left(ratio: float) -> float:
    """Fraction of a convolution's MACs that is left when this fraction of the channels
    is removed in every layer."""
    return (1 - ratio) ** 2


def nm_mask(weight: Tensor, n: int, m: int) -> Tensor:
    """Boolean mask of the shape `[units, inputs]`: of each `m` neighbours in a row the
    `n` of largest `|w|`."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return nm_masks(layer, n, m)["weight"]


def check_work_left(answer: Callable) -> None:
    """Typical mistakes: only the outputs counted, the square of the wrong thing, what
    is removed, percent."""
    got = answer(0.3)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if getattr(got, "ndim", 0) or isinstance(got, (list, tuple)):
        raise WrongAnswer(f"it returns several numbers, {got}; it must be one, 0.49.")
    reasons = {
        0.3: "that is the ratio itself",
        0.7: (
            "that counts only the filters that stay. The layer before loses channels"
            " too, so each filter also reads only 70% of its inputs"
        ),
        0.91: "that squares the ratio removed, 0.3; square what is left, 0.7",
        0.09: (
            "that squares the ratio removed, and 70% of the filters with 70% of the"
            " inputs are left"
        ),
        0.51: "that is the work saved; return what is left",
        0.4: (
            "that takes 30% away twice. The second 30% is of what is left, 70%:"
            " multiply"
        ),
        49: "that is percent; the course writes fractions, 0.49",
        0.994009: "0.3 is a fraction already; do not divide it by 100",
    }
    for wrong, reason in reasons.items():
        if abs(got - wrong) < 1e-6:
            raise WrongAnswer(
                f"with 30% of the channels removed it returns {got:.3g}: {reason}."
            )
    if not abs(got - 0.49) <= 1e-6:  # NaN too
        raise WrongAnswer(
            f"with 30% of the channels removed it returns {got:.3g}; it must be 0.49:"
            " 70% of the filters, each with 70% of its inputs."
        )
    for ratio, right in ((0.0, 1.0), (0.5, 0.25), (0.95, 0.0025)):
        got = answer(ratio)
        if not abs(got - right) <= 1e-6:
            raise WrongAnswer(
                f"it is right at 0.3, but at {ratio:g} it returns {got:.3g}; it must be"
                f" {right:g}."
            )


# of all 32 weights the 16 largest fill some groups of four and leave others empty
WEIGHT = (
    (-9.0, 8.0, 7.0, -6.0, 1.0, -2.0, 3.0, 0.5),
    (0.1, -0.2, 0.3, 0.4, -0.45, 0.6, 0.7, -0.8),
    (-10.0, 11.0, -12.0, 13.0, 14.0, -15.0, 16.0, 17.0),
    (2.5, -1.5, 4.0, 5.0, 6.5, -7.5, 0.25, 3.5),
)


def check_nm_mask(answer: Callable) -> None:
    """Typical mistakes: signed weights, upside down, columns, whole rows, one
    threshold, ties, 2:4 written in."""
    weight = torch.tensor(WEIGHT)
    got = answer(weight, 2, 4)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, Tensor) or got.shape != weight.shape:
        shape = list(got.shape) if isinstance(got, Tensor) else type(got).__name__
        raise WrongAnswer(
            f"for a weight of shape [4, 8] it returns {shape}; it must be a tensor of"
            " that shape."
        )
    if got.dtype != torch.bool:
        raise WrongAnswer(
            f"the mask's dtype is {got.dtype}; a mask is boolean, True = kept."
        )
    if not torch.equal(weight, torch.tensor(WEIGHT)):
        raise WrongAnswer("it has changed the weights themselves. Return a mask only.")
    right = nm_mask(weight, 2, 4)
    if torch.equal(got, ~right):
        raise WrongAnswer(
            "it is upside down: of -9, 8, 7, -6 it keeps 7 and -6. True means kept, the"
            " *largest* stay."
        )
    if torch.equal(got, nm_mask(weight - weight.min(), 2, 4)):
        raise WrongAnswer(
            "of -9, 8, 7, -6 it prunes -9, the largest by magnitude. Compare |w|,"
            " not w."
        )
    if torch.equal(got, nm_mask(weight.T, 2, 4).T):
        raise WrongAnswer(
            "its groups run down the columns: it compares -9, 0.1, -10, 2.5. Neighbours"
            " stand in a *row*, the inputs of one unit: -9, 8, 7, -6."
        )
    _check_groups(got, weight, right)
    _check_ties(answer)
    for n, m in ((1, 4), (2, 8), (3, 4), (1, 2)):
        got, right = answer(weight, n, m), nm_mask(weight, n, m)
        if not torch.equal(got, right):
            group, kept = weight[0, :m].tolist(), int(got[0, :m].sum())
            raise WrongAnswer(
                f"it is right for 2:4, not for {n}:{m}: of {group} it keeps {kept}, and"
                f" it must keep {n}, the largest. Is 2 or 4 written into the function?"
            )


def _check_groups(got: Tensor, weight: Tensor, right: Tensor) -> None:
    counts, in_rows = got.reshape(-1, 4).sum(dim=1), got.sum(dim=1).tolist()
    if (counts != 2).any():
        group = int((counts != 2).nonzero()[0])
        values, kept = weight.reshape(-1, 4)[group].tolist(), int(counts[group])
        example = f"of {values} it keeps {kept}"
        if in_rows == [2] * 4:
            raise WrongAnswer(
                f"it keeps 2 of the 8 weights in each row ({example}). A row has two"
                " groups of 4: keep 4."
            )
        if in_rows == [4] * 4:
            raise WrongAnswer(
                f"half of each row is kept, but {example}. Choose 2 in *each* group of"
                " 4 by itself."
            )
        if sum(in_rows) == 16:
            raise WrongAnswer(
                f"16 of 32 are kept, which is right overall, but {example}. No group"
                " may have 3 or 4."
            )
        raise WrongAnswer(f"{example}; of each four neighbours in a row 2 must stay.")
    wrong = (
        int((got != right).reshape(-1, 4).any(dim=1).nonzero()[0])
        if not torch.equal(got, right)
        else None
    )
    if wrong is not None:
        values = weight.reshape(-1, 4)[wrong]
        kept, better = (
            values[mask.reshape(-1, 4)[wrong]].tolist() for mask in (got, right)
        )
        raise WrongAnswer(
            f"of {values.tolist()} it keeps {kept}; it must keep {better}, the largest"
            " by magnitude."
        )


def _check_ties(answer: Callable) -> None:
    for row in ([1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 5.0, 1.0]):
        kept = int(answer(torch.tensor([row]), 2, 4).sum())
        if kept != 2:
            raise WrongAnswer(
                f"of {row} it keeps {kept}; it must keep exactly 2. A threshold cannot"
                " split equal weights: choose by position (`topk`, `argsort`)."
            )


EXERCISES = [
    Exercise(
        work_left, "lessons/05_structured_pruning/exercises.py", more=check_work_left
    ),
    Exercise(nm_mask, "utils/masks.py (nm_masks)", more=check_nm_mask),
]
