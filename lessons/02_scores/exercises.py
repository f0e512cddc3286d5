"""The exercises of lab 02, their checks and the mistakes that are told apart."""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.exercises import Exercise, WrongAnswer


def taylor_score(weight: Tensor, gradient: Tensor) -> Tensor:
    """`|w * g|`: the first-order estimate of how much the loss changes when each weight
    becomes zero."""
    return (weight * gradient).abs()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation of two vectors without equal entries: the correlation of
    their *ranks*, -1..1."""
    ranks = torch.stack([values.argsort().argsort() for values in (a, b)]).double()
    return torch.corrcoef(ranks)[0, 1].item()


def check_taylor_score(answer: Callable) -> None:
    """Typical mistakes: no absolute value, |g| or |w| alone, one number for the whole
    layer."""
    weight, gradient = (
        torch.tensor([[2.0, -1.0], [0.5, 0.0]]),
        torch.tensor([[-3.0, -4.0], [0.0, 9.0]]),
    )
    got = answer(weight, gradient)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, Tensor) or got.shape != weight.shape:
        shape = list(got.shape) if isinstance(got, Tensor) else type(got).__name__
        raise WrongAnswer(
            f"for weights of shape [2, 2] it returns {shape}; it must be a score for"
            " each weight, [2, 2]."
        )
    reasons = [
        (
            weight * gradient,
            (
                "w = 2 with g = -3 gets -6. A large change counts in either direction:"
                " take |w*g|"
            ),
        ),
        (
            gradient.abs(),
            (
                "that is |g|: a weight that is zero already gets the top score, 9,"
                " though removing it changes nothing"
            ),
        ),
        (weight.abs(), "that is |w|; the gradient is not used"),
        (
            weight.abs() + gradient.abs(),
            "that adds |w| and |g|; the estimate is their product",
        ),
    ]
    for wrong, reason in reasons:
        if torch.allclose(got.float(), wrong):
            raise WrongAnswer(f"{reason}.")
    if not torch.allclose(got.float(), (weight * gradient).abs()):
        raise WrongAnswer(
            f"for w = {weight.tolist()} and g = {gradient.tolist()} it returns"
            f" {got.tolist()}."
        )


def check_rank_correlation(answer: Callable) -> None:
    """Typical mistakes: the plain (Pearson) correlation, one argsort instead of two, no
    return to a number."""
    a = torch.tensor([3.0, 1.0, 2.0, 100.0, 5.0])
    same_order = torch.tensor([3.0, 1.0, 2.0, 100.0, 5.0]).pow(3)
    got = answer(a, same_order)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if isinstance(got, Tensor) and got.numel() != 1:
        raise WrongAnswer(
            f"it returns a tensor of shape {list(got.shape)}; pick the one number, at"
            " [0, 1]."
        )
    if not abs(float(got) - 1) <= 1e-5:  # NaN too
        raise WrongAnswer(
            f"for a and a**3, which are in the same order, it returns {float(got):.4f};"
            " it must be 1. Correlate the ranks, not the values."
        )
    b = torch.tensor([1.0, 5.0, 0.0, 4.0, 3.0])
    got, right = float(answer(a, b)), rank_correlation(a, b)
    once = torch.corrcoef(torch.stack([a.argsort(), b.argsort()]).double())[0, 1].item()
    if abs(got - once) < 1e-5:
        raise WrongAnswer(
            f"it returns {got:.2f} where {right:.2f} is right. `argsort` says *which*"
            " entry comes first, second, ...; the rank of each entry is the argsort of"
            " that: `a.argsort().argsort()`."
        )
    if not abs(got - right) <= 1e-5:
        raise WrongAnswer(
            f"for {a.tolist()} and {b.tolist()} it returns {got:.3f}; it must be"
            f" {right:.3f}."
        )


EXERCISES = [
    Exercise(
        taylor_score,
        "lessons/02_scores/exercises.py (over batches: utils.scores.taylor)",
        more=check_taylor_score,
    ),
    Exercise(
        rank_correlation, "lessons/02_scores/exercises.py", more=check_rank_correlation
    ),
]
