"""The exercise of lab 99, and the mistakes that are told apart."""

import torch
from torch import Tensor

from utils.exercises import Case, Exercise


def sparsity_99(weight: Tensor) -> float:
    """The fraction of the entries of `weight`, of any shape, that are zero: 0 to 1."""
    return (weight == 0).float().mean().item()


def kept(weight: Tensor) -> float:
    """A mistake."""
    return 1 - sparsity_99(weight)


def in_percent(weight: Tensor) -> float:
    """A mistake."""
    return 100 * sparsity_99(weight)


def counted(weight: Tensor) -> int:
    """A mistake."""
    return int((weight == 0).sum())


ROW = torch.tensor([0.0, 2.0, 0.0, -1.0, 0.0])
TABLE = torch.tensor([[0.0, 1.0], [0.5, -3.0]])

EXERCISES = [
    Exercise(
        sparsity_99,
        "lessons/99_my_idea/exercises.py",
        asked="the fraction of entries that are zero",
        cases=[
            Case("for [0, 2, 0, -1, 0]", (ROW,)),
            Case("for [[0, 1], [0.5, -3]]", (TABLE,), hint="It has four entries."),
        ],
        mistakes={
            "that is the fraction that is kept; sparsity counts the zeros": kept,
            "that is percent; a sparsity is a fraction, 0 to 1": in_percent,
            "that is how many are zero; divide by the number of entries": counted,
        },
        also_right={
            "with what is left": """
                def sparsity_99(weight):
                    return 1 - weight.count_nonzero().item() / weight.numel()
            """,
            "in a loop": """
                def sparsity_99(weight):
                    entries = weight.flatten().tolist()
                    return sum(entry == 0 for entry in entries) / len(entries)
            """,
        },
    )
]
