"""The exercises of lab 03, their checks and the mistakes that are told apart."""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.exercises import Exercise, WrongAnswer
from utils.masks import masks_from_scores


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """Boolean mask of the weight's shape: False for the `round(sparsity * n)` weights
    of smallest `|w|`."""
    return masks_from_scores({"weight": weight.abs()}, sparsity, allow_empty=True)[
        "weight"
    ]


def held_step(optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor) -> None:
    """One step of the optimizer after which every pruned weight is exactly zero, in
    place."""
    optimizer.step()
    with torch.no_grad():
        weight.masked_fill_(~mask, 0.0)


def csr_bytes(rows: int, kept: int) -> int:
    """Bytes of a matrix in compressed sparse rows: a 4-byte value and a 4-byte column
    number for each weight kept, and `rows + 1` row starts of 4 bytes."""
    return 8 * kept + 4 * (rows + 1)


def check_magnitude_mask(answer: Callable) -> None:
    """Typical mistakes: the mask upside down, signed weights, sparsity taken as the
    fraction kept, ties miscounted."""
    weight = torch.tensor([[-9.0, 1.0, 2.0, -3.0, 4.0], [5.0, -6.0, 7.0, -8.0, 0.5]])
    before = weight.clone()
    got = answer(weight, 0.3)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, Tensor) or got.shape != weight.shape:
        raise WrongAnswer("it must return a tensor of the weight's shape, here [2, 5].")
    if got.dtype != torch.bool:
        raise WrongAnswer(
            f"the mask's dtype is {got.dtype}; a mask is boolean: a comparison such as"
            " `a > b` gives one."
        )
    if not torch.equal(weight, before):
        raise WrongAnswer(
            "it has changed the weights themselves. Return a mask; who applies it is"
            " another matter."
        )
    right = weight.abs() > 2
    if torch.equal(got, ~right):
        raise WrongAnswer(
            "it is upside down: True means kept, and the *large* weights are kept."
        )
    if not got[0, 0] and got.sum() == 7:
        raise WrongAnswer(
            "it prunes -9, the largest weight of all by magnitude. Compare |w|, not w."
        )
    if got.sum() == 3:
        raise WrongAnswer(
            "at sparsity 0.3 it keeps 3 of 10 weights. Sparsity is the fraction"
            " *pruned*: 7 are kept."
        )
    if not torch.equal(got, right):
        raise WrongAnswer(
            f"of 10 weights at sparsity 0.3 it keeps {int(got.sum())}; the 3 smallest"
            " by |w| must go."
        )
    _check_counts(answer)


def _check_counts(answer: Callable) -> None:
    tied = torch.tensor([1.0, -1.0, 1.0, 1.0])
    kept = int(answer(tied, 0.5).sum())
    if kept != 2:
        raise WrongAnswer(
            f"of four weights that are all equal in size it keeps {kept} at sparsity"
            " 0.5; it must keep exactly 2. A threshold alone cannot split equals:"
            " choose by position in the sorted order (`argsort`, `topk`)."
        )
    if int(answer(tied, 0.0).sum()) != 4:
        raise WrongAnswer("at sparsity 0 it must keep every weight.")
    kept = int(answer(torch.arange(1.0, 101.0), 0.29).sum())
    if kept != 71:
        raise WrongAnswer(
            f"of 100 weights at sparsity 0.29 it keeps {kept}; 71 are right. 0.29 * 100"
            " is 28.999999999999996 in floating point: `int` cuts that off, `round`"
            " does not."
        )
    large = torch.randn(300, 784, generator=torch.Generator().manual_seed(0))
    if int((~answer(large, 0.9)).sum()) != round(0.9 * large.numel()):
        raise WrongAnswer(
            "on a layer of 300 x 784 weights at sparsity 0.9 the count is off; it must"
            " be round(0.9 * n)."
        )


def check_held_step(answer: Callable) -> None:
    """Typical mistakes: only the gradient masked, zeroed before the step, a new tensor
    instead of the old one."""
    mask = torch.tensor([True, False, True, False])
    weight = torch.nn.Parameter(torch.tensor([1.0, 0.0, 3.0, 0.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    for _ in range(2):  # dense steps, so that every weight has momentum
        weight.grad = torch.ones(4)
        optimizer.step()
    before = weight.detach().clone()
    weight.grad = torch.ones(4)
    answer(optimizer, weight, mask)
    # what the optimizer alone would give
    after, stepped = weight.detach(), before - 0.1 * (0.9 * 1.9 + 1)
    if torch.equal(after, before):
        raise WrongAnswer(
            "no weight has changed. Call `optimizer.step()`, and change `weight`"
            " itself, in place."
        )
    if torch.equal(after[mask], before[mask]):
        raise WrongAnswer(
            "the pruned weights are zero, but the kept ones have not moved. Is"
            " `optimizer.step()` missing?"
        )
    if (after[mask] == 0).any():
        raise WrongAnswer("it zeroes weights that the mask keeps. True means kept.")
    if torch.allclose(after, stepped):
        raise WrongAnswer(
            "the step was taken, and no weight was set to zero after it. `weight ="
            " weight * mask` only makes a new tensor of that name: change `weight`"
            " itself, in place (`masked_fill_`, under `torch.no_grad()`)."
        )
    if after[~mask].abs().max() > 0:
        raise WrongAnswer(
            f"a pruned weight is {after[1]:.3f} after the step. Momentum moves it"
            " although it was zeroed, or its gradient was: set it to zero *after* the"
            " step."
        )
    if not torch.allclose(after[mask], stepped[mask]):
        raise WrongAnswer(
            "the kept weights are not where one step takes them. Call"
            " `optimizer.step()` once."
        )


def check_csr_bytes(answer: Callable) -> None:
    """Typical mistakes: no column numbers, no row starts, `rows` starts instead of
    `rows + 1`, bits."""
    got = answer(rows=300, kept=1000)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    reasons = {
        4000: (
            "that is the values alone; each needs its column number too, and the rows"
            " their starts"
        ),
        8000: (
            "the row starts are missing: 301 numbers that say where each row begins,"
            " and where the last ends"
        ),
        9200: (
            "300 rows have 301 boundaries: where each begins, and where the last ends"
        ),
        4000 + 4 * 301: "each value kept also needs its column number, 4 bytes",
        8 * 9204: "that is bits; a byte is 8 of them",
    }
    if isinstance(got, (int, float)) and got in reasons:
        raise WrongAnswer(
            f"for 300 rows and 1,000 weights kept it returns {got:,}: {reasons[got]}."
        )
    if got != 9204:
        raise WrongAnswer(
            f"for 300 rows and 1,000 weights kept it returns {got}; it must be 9,204."
        )
    got = answer(rows=1, kept=0)
    if got != 8:
        raise WrongAnswer(
            f"for 1 row and nothing kept it returns {got}; two row starts are left, 8"
            " bytes."
        )


EXERCISES = [
    Exercise(
        magnitude_mask, "utils/masks.py (masks_from_scores)", more=check_magnitude_mask
    ),
    Exercise(held_step, "utils/masks.py (hold)", more=check_held_step),
    Exercise(
        csr_bytes,
        "lessons/03_weight_pruning/exercises.py (for whole networks: utils.measure.csr_state)",
        more=check_csr_bytes,
    ),
]
