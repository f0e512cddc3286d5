"""The exercises of lab 06, their checks and the mistakes that are told apart."""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.exercises import Exercise, WrongAnswer
from utils.schedules import Cubic, rewire


def cubic_sparsity(progress: float, final: float) -> float:
    """`final * (1 - (1 - progress)**3)`: the sparsity due at `progress` 0..1; fast at
    first, ever slower."""
    return Cubic(final).level(progress)


def exchange(weight: Tensor, gradient: Tensor, mask: Tensor, count: int) -> Tensor:
    """A new mask: the `count` smallest of the kept weights go, and `count` of all
    others come, by largest `|g|`."""
    fraction = count / max(int(mask.sum()), 1)
    return rewire(weight, mask.clone(), fraction, gradient.abs())


def check_cubic_sparsity(answer: Callable) -> None:
    """Typical mistakes: linear, slow at first, upside down, the final sparsity
    forgotten."""
    got = answer(0.2, 0.8)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if getattr(got, "ndim", 0) or isinstance(got, (list, tuple)):
        raise WrongAnswer(f"it returns several numbers, {got}; it must be one, 0.39.")
    reasons = {
        0.16: (
            "that is a straight line. The cubic schedule prunes most at first, while"
            " there is much to spare"
        ),
        0.8 * 0.2**3: (
            "that is slow at first and fast at the end. It must be the other way round:"
            " what is still to prune shrinks as (1 - progress)**3"
        ),
        0.8 * 0.8**3: (
            "that falls from 0.8 at the start to 0 at the end. It is what is still *to"
            " prune*; take it from the final sparsity"
        ),
        1 - 0.8**3: "that ends at 1, everything pruned. It must end at `final`, 0.8",
        1 - 0.8 * 0.8**3: (
            "that starts at 0.2, not at 0: `final` must scale the whole bracket, 1 - (1"
            " - progress)**3"
        ),
        0.8
        * (
            1 - 0.2**3
        ): "that is 0.8 at progress 0. The cube is of 1 - progress, not of progress",
        0.8 * (1 - 0.8**2): "that is a square; the schedule is cubic, power 3",
        39.04: "that is percent; a sparsity is a fraction, 0.39",
    }
    for wrong, reason in reasons.items():
        if abs(got - wrong) < 1e-6:
            raise WrongAnswer(
                f"at progress 0.2, final 0.8, it returns {got:.3g}: {reason}."
            )
    if not abs(got - 0.3904) <= 1e-6:  # NaN too
        raise WrongAnswer(
            f"at progress 0.2, final 0.8, it returns {got:.4g}; it must be 0.3904."
        )
    for progress, final, right in ((0.0, 0.8, 0.0), (1.0, 0.8, 0.8), (0.5, 0.96, 0.84)):
        got = answer(progress, final)
        if not abs(got - right) <= 1e-6:
            raise WrongAnswer(
                f"at progress {progress:g}, final {final:g}, it returns {got:.4g}; it"
                f" must be {right:g}."
            )


def check_exchange(answer: Callable) -> None:
    """Typical mistakes: pruned zeros dropped, kept weights grown, signed values,
    nothing grown, inputs changed."""
    weight = torch.tensor([[-5.0, 0.0, 0.25, 0.0, 3.0], [0.0, -0.5, 0.0, 1.0, 0.0]])
    gradient = torch.tensor([[0.3, 1.0, 0.6, -7.0, 1.5], [4.0, 0.7, 2.0, 9.0, 0.5]])
    mask = torch.tensor(
        [[True, False, True, False, True], [False, True, False, True, False]]
    )
    given = {"weight": weight, "gradient": gradient, "mask": mask}
    before = {name: tensor.clone() for name, tensor in given.items()}
    got = answer(weight, gradient, mask, 2)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, Tensor) or got.shape != mask.shape:
        shape = list(got.shape) if isinstance(got, Tensor) else type(got).__name__
        raise WrongAnswer(
            f"for a mask of shape [2, 5] it returns {shape}; it must be a mask of that"
            " shape."
        )
    if got.dtype != torch.bool:
        raise WrongAnswer(
            f"the mask's dtype is {got.dtype}; a mask is boolean, True = kept."
        )
    for name, tensor in given.items():
        if not torch.equal(tensor, before[name]):
            raise WrongAnswer(
                f"it has changed the `{name}` it was given. Work on a copy,"
                f" `{name}.clone()`."
            )
    _check_numbers(got, mask)
    _check_dropped(weight, got, mask)
    _check_grown(gradient, got, mask)
    _check_other_exchanges(answer)


def _check_numbers(got: Tensor, mask: Tensor) -> None:
    """Five weights were kept, and two are exchanged: the mistakes that the counts
    show."""
    if torch.equal(got, mask):
        raise WrongAnswer(
            "the mask is as it was: what went came back. Drop first; then grow where"
            " the *gradient* is largest, not the weight (what is pruned or just dropped"
            " has the smallest)."
        )
    kept, stayed = int(got.sum()), int((got & mask).sum())
    if stayed == 5:
        raise WrongAnswer(
            f"5 weights were kept and now {kept} are: some came, none went. A pruned"
            " weight is 0, the smallest of all; look for the smallest among the *kept*"
            " ones."
        )
    if kept == stayed:
        raise WrongAnswer(
            f"5 weights were kept and now {kept} are: some went, none came. Grow as"
            " many as you drop."
        )
    if kept < 5:
        raise WrongAnswer(
            f"5 weights were kept and now {kept} are. The largest gradient, 9, belongs"
            " to a weight that is kept: it cannot come once more. Grow among the"
            " *others*."
        )
    if kept > 5:
        raise WrongAnswer(
            f"5 weights were kept and now {kept} are; 2 must go and 2 come."
        )


def _check_dropped(weight: Tensor, got: Tensor, mask: Tensor) -> None:
    dropped = sorted(weight[mask & ~got].tolist())
    if dropped == [-5, 3]:
        raise WrongAnswer(
            "of the kept weights -5, 0.25, 3, -0.5, 1 it drops -5 and 3, the largest."
            " The smallest go."
        )
    if dropped == [-5, -0.5]:
        raise WrongAnswer(
            "it drops -5 and -0.5. By magnitude -5 is the largest of the kept weights."
            " Compare |w|, not w."
        )
    if not torch.equal(mask & ~got, mask & (weight.abs() < 0.75)):
        values = ", ".join(f"{value:g}" for value in dropped)
        raise WrongAnswer(
            f"of the kept weights -5, 0.25, 3, -0.5, 1 it drops {values}; 0.25 and -0.5"
            " must go."
        )


def _check_grown(gradient: Tensor, got: Tensor, mask: Tensor) -> None:
    grown = sorted(gradient[got & ~mask].tolist())
    if grown == [2, 4]:
        raise WrongAnswer(
            "it grows where the gradient is 4 and 2, and passes over -7. A large"
            " gradient counts in either direction: compare |g|."
        )
    if grown != [-7, 4]:
        values = " and ".join(f"{value:g}" for value in grown)
        raise WrongAnswer(
            f"it grows where the gradient is {values}. Of the pruned weights'"
            " gradients, 1, -7, 4, 2, 0.5, the largest by magnitude are -7 and 4."
        )


def _check_other_exchanges(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(6, 7, generator=generator) < 0.4
    weight = torch.randn(6, 7, generator=generator) * mask
    gradient = torch.randn(6, 7, generator=generator)
    for count in (1, 5):
        smallest = (
            torch.where(mask, weight.abs(), torch.inf).flatten().argsort()[:count]
        )
        # whether one that was just dropped may come back makes no difference then
        gradient.view(-1)[smallest] = 0
        got = answer(weight, gradient, mask, count)
        if not torch.equal(got, exchange(weight, gradient, mask, count)):
            new, old = int((got & ~mask).sum()), int((mask & ~got).sum())
            what = (
                f"{old} went and {new} came"
                if (old, new) != (count, count)
                else "the wrong ones go or come"
            )
            raise WrongAnswer(
                "it is right for a small weight and count = 2. For [6, 7] and count ="
                f" {count}, {what}. Is a count or a size written into the function?"
            )
    mask = torch.tensor([[True, True, True, False]])
    weight, gradient = (
        torch.tensor([[0.0, 1.0, 2.0, 0.0]]),
        torch.tensor([[0.0, 0.0, 0.0, 5.0]]),
    )
    if answer(weight, gradient, mask, 1)[0, 0]:
        raise WrongAnswer(
            "of the kept weights 0, 1, 2 it does not drop 0. A weight that has just"
            " come is 0 and kept all the same: ask the mask which are kept, not `weight"
            " != 0`."
        )
    got = answer(weight, gradient, mask, 0)
    if not torch.equal(got, mask):
        raise WrongAnswer(
            f"at count = 0 it returns {got.tolist()} for the mask {mask.tolist()};"
            " nothing is to change then. (`order[-0:]` is everything, not nothing.)"
        )


EXERCISES = [
    Exercise(cubic_sparsity, "utils/schedules.py (Cubic)", more=check_cubic_sparsity),
    Exercise(exchange, "utils/schedules.py (rewire)", more=check_exchange),
]
