"""The exercises of lab 02, and the mistakes that their checks know."""

import torch
from torch import Tensor

from utils.exercises import Case, Exercise


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


A = torch.tensor([3.0, 1.0, 2.0, 100.0, 5.0])

EXERCISES = [
    Exercise(
        taylor_score,
        "lessons/02_scores/exercises.py (over batches: utils.scores.taylor)",
        asked="a score for each weight",
        cases=[
            Case(
                "for w = [[2, -1], [0.5, 0]] and g = [[-3, -4], [0, 9]]",
                (
                    torch.tensor([[2.0, -1.0], [0.5, 0.0]]),
                    torch.tensor([[-3.0, -4.0], [0.0, 9.0]]),
                ),
            )
        ],
        mistakes={
            "w = 2 with g = -3 gets -6. A large change counts in either direction:"
            " take |w*g|": (lambda w, g: w * g),
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
                lambda w, g: (w * g).abs().sum()
            ),
        },
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
                "for 3, 1, 2, 100, 5 and 1, 5, 0, 4, 3",
                (A, torch.tensor([1.0, 5.0, 0.0, 4.0, 3.0])),
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
        },
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
