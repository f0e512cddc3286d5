"""The exercises of lab 15, and the mistakes that their checks know."""

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.exercises import Case, Exercise


def beside(x: Tensor, weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """What a layer `[out, in]` and two thin matrices beside it, `[rank, in]` and `[out,
    rank]`, put out together: `[..., in]` -> `[..., out]`."""
    return F.linear(x, weight) + F.linear(F.linear(x, down), up)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Numbers to compute with, drawn from a seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def layer(outputs: int, inputs: int, rank: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Weight, down and up."""
    shapes = (outputs, inputs), (rank, inputs), (outputs, rank)
    return tuple(numbers(*shape, seed=seed + k) for k, shape in enumerate(shapes))


ONE = (
    torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
    torch.tensor([[1.0, 3.0]]),
    torch.tensor([[2.0], [-1.0]]),
)

EXERCISES = [
    Exercise(
        beside,
        "lessons/15_healing/shapes.py",
        asked="what both put out together, [..., out]",
        cases=[
            Case(
                "for x = [1, 1], weight [[1, 0], [0, 2]], down [[1, 3]] and up [[2],"
                " [-1]]",
                (torch.tensor([1.0, 1.0]), *ONE),
                hint="Down makes 4 of it; up makes [8, -4] of that.",
            ),
            Case(
                "it is right for one vector, but for windows of text, x [2, 3, 5] and a"
                " layer [4, 5] of rank 2",
                (numbers(2, 3, 5, seed=9), *layer(4, 5, 2)),
                hint="Whatever comes before the last axis must stay.",
            ),
            Case(
                "it is right for some layers, but for a square one, [3, 3] of rank 3",
                (numbers(4, 3, seed=8), *layer(3, 3, 3, seed=5)),
                hint="Is a matrix transposed that should not be, or the other way?",
            ),
        ],
        mistakes={
            "that is the frozen layer alone; the thin matrices are missing": (
                lambda x, w, d, u: F.linear(x, w)
            ),
            "that is what the thin matrices put out; the frozen layer is missing": (
                lambda x, w, d, u: F.linear(F.linear(x, d), u)
            ),
            "the thin matrices read what the frozen layer puts out, or it reads theirs:"
            " they stand beside it, and both read x": (
                lambda x, w, d, u: (
                    F.linear(F.linear(F.linear(x, w), d), u)
                    if w.shape[0] == w.shape[1]
                    else x
                )
            ),
            "their output is taken off; add it": (
                lambda x, w, d, u: F.linear(x, w) - F.linear(F.linear(x, d), u)
            ),
            "there is a ReLU between the thin matrices; then they could not be merged"
            " into one weight": (
                lambda x, w, d, u: F.linear(x, w) + F.linear(-F.linear(x, d).relu(), u),
                lambda x, w, d, u: F.linear(x, w) + F.linear(F.linear(x, d).relu(), u),
            ),
            "it is summed over the inputs, one number a row: use matrix products, such"
            " as `x @ down.T`": (
                lambda x, w, d, u: beside(x, w, d, u).sum(-1),
                lambda x, w, d, u: beside(x, w, d, u).sum(-1, keepdim=True),
            ),
            "it is divided by the rank, which nobody asked for": (
                lambda x, w, d, u: (
                    F.linear(x, w) + F.linear(F.linear(x, d), u) / (2 * len(d))
                ),
            ),
        },
        also_right={
            "matrix products": """
                def beside(x, weight, down, up):
                    return x @ weight.T + x @ down.T @ up.T
            """,
            "in steps": """
                def beside(x, weight, down, up):
                    few = torch.matmul(x, down.transpose(0, 1))
                    frozen = torch.matmul(x, weight.transpose(0, 1))
                    return frozen + torch.matmul(few, up.transpose(0, 1))
            """,
            "sums over axes": """
                def beside(x, weight, down, up):
                    few = (x[..., None, :] * down).sum(-1)
                    frozen = (x[..., None, :] * weight).sum(-1)
                    return frozen + (few[..., None, :] * up).sum(-1)
            """,
            "one weight": """
                def beside(x, weight, down, up):
                    return x @ (weight + up @ down).T
            """,
        },
    ),
]
