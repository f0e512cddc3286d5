"""The exercises of lab 02, and the mistakes that their checks know."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.exercises import Case, Exercise, WrongAnswer, as_tensor


def taylor_score(weight: Tensor, gradient: Tensor) -> Tensor:
    """`|w * g|`: the first-order estimate of how much the loss changes when each weight
    becomes zero."""
    return (weight * gradient).abs()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation of two vectors without equal entries: the correlation of
    their *ranks*, -1..1."""
    ranks = torch.stack([values.argsort().argsort() for values in (a, b)]).double()
    return torch.corrcoef(ranks)[0, 1].item()


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """The correlations of each with each, `[2, 2]`."""
    return torch.corrcoef(torch.stack([a, b]).double())


def ranks(values: Tensor) -> Tensor:
    """The rank of each entry, from 0, as a double."""
    return values.argsort().argsort().double()


def spearman(a: Tensor, b: Tensor) -> float:
    """The right answer, for mistakes that begin with it."""
    return pearson(ranks(a), ranks(b))[0, 1].item()


def kendall(a: Tensor, b: Tensor) -> float:
    """Of all pairs, how many more are in the same order than in opposite ones."""
    pairs = torch.combinations(torch.arange(len(a))).T
    signs = ((a[pairs[0]] - a[pairs[1]]) * (b[pairs[0]] - b[pairs[1]])).sign()
    return signs.mean().item()


def one_number(got: Any) -> Any:
    """A correlation; of a result of SciPy the part that is one is named."""
    if hasattr(got, "statistic"):
        raise WrongAnswer(
            "it returns the correlation and a p-value, as SciPy does; return the"
            " correlation alone, `.statistic`."
        )
    return got


A = torch.tensor([3.0, 1.0, 2.0, 100.0, 5.0])

EXERCISES = [
    Exercise(
        taylor_score,
        "lessons/02_scores/exercises.py (over batches: utils.scores.taylor)",
        asked="a score for each weight",
        cases=[
            Case(
                "for w = [[2, -1], [5, 0]] and g = [[-3, -4], [4, 9]]",
                (
                    torch.tensor([[2.0, -1.0], [5.0, 0.0]]),
                    torch.tensor([[-3.0, -4.0], [4.0, 9.0]]),
                ),
            )
        ],
        mistakes={
            "w = 2 with g = -3 gets -6. A large change counts in either direction:"
            " take |w*g|": (lambda w, g: w * g),
            "that is the change of the loss itself, with its sign, and the sign is"
            " right: w moves by -w. A score is its size: take |w*g|": (
                lambda w, g: -w * g
            ),
            "only one of the two has lost its sign; take the absolute value of the"
            " product": (lambda w, g: w.abs() * g, lambda w, g: w * g.abs()),
            "the order is right, but it is divided by a number; the estimate is |w*g|"
            " itself": (
                lambda w, g: (w * g).abs() / (w * g).abs().sum(),
                lambda w, g: (w * g).abs() / (w * g).abs().max(),
                lambda w, g: (w * g).abs() / w.numel(),
            ),
            "that takes the larger of |w| and |g|; the estimate is their product": (
                lambda w, g: torch.maximum(w.abs(), g.abs())
            ),
            "that divides; the longer the way, the *more* the loss changes: multiply": (
                lambda w, g: (g / w).abs(),
                lambda w, g: (w / g).abs(),
            ),
            "that is |g|: a weight that is zero already gets the top score, 9,"
            " though removing it changes nothing": (lambda w, g: g.abs()),
            "that is |w|; the gradient is not used": lambda w, g: w.abs(),
            "that adds |w| and |g|; the estimate is their product": (
                lambda w, g: w.abs() + g.abs()
            ),
            "that is the square; the estimate is |w*g| itself": lambda w, g: (
                (w * g) ** 2
            ),
            "that is one number for all of them; each weight needs its own": (
                lambda w, g: (w * g).abs().sum(),
                lambda w, g: (w * g).abs().mean(),
                lambda w, g: (w * g).sum().abs(),
                lambda w, g: (w * g).abs().max(),
            ),
            "that is one number for each row; each weight needs its own": (
                lambda w, g: (w * g).abs().sum(1),
                lambda w, g: (w * g).sum(1).abs(),
            ),
            "it returns a NumPy array, and the lab goes on with tensors": (
                lambda w, g: np.abs(w.numpy() * g.numpy())
            ),
            "it returns a list, and the lab goes on with tensors": (
                lambda w, g: (w * g).abs().tolist()
            ),
        },
        read=as_tensor,
        also_right={
            "other order": """
                def taylor_score(weight, gradient):
                    return torch.abs(gradient) * torch.abs(weight)
            """,
            "root": """
                def taylor_score(weight, gradient):
                    return ((weight * gradient) ** 2).sqrt()
            """,
            "loop": """
                def taylor_score(weight, gradient):
                    score = torch.zeros_like(weight)
                    for index, (w, g) in enumerate(
                        zip(weight.flatten(), gradient.flatten())
                    ):
                        score.view(-1)[index] = abs(w * g)
                    return score
            """,
            "numpy": """
                def taylor_score(weight, gradient):
                    return torch.from_numpy(
                        np.abs(weight.double().numpy() * gradient.double().numpy())
                    )
            """,
        },
    ),
    Exercise(
        rank_correlation,
        "lessons/02_scores/exercises.py",
        asked="the correlation of the ranks",
        cases=[
            Case(
                "for a and a**3, which are in the same order,",
                (A, A**3),
                hint="Correlate the ranks, not the values.",
            ),
            Case(
                "for 3, 1, 2, 100, 5 and -4, 0, 3, -1, 2",
                (A, torch.tensor([-4.0, 0.0, 3.0, -1.0, 2.0])),
            ),
            Case(
                "for 3, 1, 2, 100, 5 and 4, 0, -7, 3, 9",
                (A, torch.tensor([4.0, 0.0, -7.0, 3.0, 9.0])),
            ),
        ],
        mistakes={
            "correlate the ranks, not the values": lambda a, b: pearson(a, b)[0, 1],
            "`argsort` says *which* entry comes first, second, ...; the rank of"
            " each entry is the argsort of that: `a.argsort().argsort()`": (
                lambda a, b: pearson(a.argsort(), b.argsort())[0, 1]
            ),
            "that is each with each; pick the one number, at [0, 1]": (
                lambda a, b: pearson(a.argsort().argsort(), b.argsort().argsort()),
                pearson,
            ),
            "that is its square: two opposite orders would get 1 as well": (
                lambda a, b: spearman(a, b) ** 2
            ),
            "the sign is lost: opposite orders are not alike": (
                lambda a, b: abs(spearman(a, b)),
                lambda a, b: max(0.0, spearman(a, b)),
            ),
            "the sign is turned round: equal orders must give 1": (
                lambda a, b: -spearman(a, b)
            ),
            "only -1, 0 and 1 can come out of it; a correlation may lie between them": (
                lambda a, b: int(spearman(a, b) + 1e-9),
                lambda a, b: float(torch.equal(a.argsort(), b.argsort())),
            ),
            "it counts how many places agree; correlate the ranks instead": (
                lambda a, b: (ranks(a) == ranks(b)).float().mean(),
                lambda a, b: (a.argsort() == b.argsort()).float().mean(),
            ),
            "it ranks the sizes; -4 is the smallest here, not the largest": (
                lambda a, b: spearman(a.abs(), b.abs())
            ),
            "that is the covariance of the ranks; divide by their spreads": (
                lambda a, b: ((ranks(a) - 2) * (ranks(b) - 2)).mean()
            ),
            "it counts pairs in the same order (Kendall's); asked is the correlation of"
            " the ranks": kendall,
            "it returns the correlation and a p-value, as SciPy does": (
                lambda a, b: SimpleNamespace(statistic=spearman(a, b), pvalue=0.5)
            ),
        },
        read=one_number,
        also_right={
            "sum of squares": """
                def rank_correlation(a, b):
                    d = (a.argsort().argsort() - b.argsort().argsort()).double()
                    n = len(a)
                    return 1 - 6 * (d**2).sum() / (n * (n**2 - 1))
            """,
            "loop": """
                def rank_correlation(a, b):
                    def ranks(values):
                        return [
                            sum(other < value for other in values.tolist())
                            for value in values.tolist()
                        ]

                    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])
            """,
            "scatter": """
                def rank_correlation(a, b):
                    ranks = []
                    for values in (a, b):
                        rank = torch.empty(len(values))
                        rank[values.argsort()] = torch.arange(len(values)).float()
                        ranks.append(rank - rank.mean())
                    return (ranks[0] * ranks[1]).sum() / (
                        ranks[0].norm() * ranks[1].norm()
                    )
            """,
        },
    ),
]
