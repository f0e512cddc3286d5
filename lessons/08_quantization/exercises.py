"""The exercises of lab 08, and the mistakes that their checks know."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.exercises import Case, Exercise, close, fits, number
from utils.quantization import activation_grid


def choose_grid(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of the grid 0 .. 255 for numbers between `low` and `high`;
    0.0 lies exactly on it."""
    grid = activation_grid(low, high)
    return grid.scale.item(), int(grid.zero_point)


def integer_product(inputs: Tensor, zero_point: int, weight: Tensor) -> Tensor:
    """`[n, inputs]` uint8 times `[units, inputs]` int8, the zero point taken off the
    inputs: `[n, units]` int32."""
    return (inputs.to(torch.int32) - zero_point) @ weight.to(torch.int32).T


def shared_step(weights: Tensor, values: Tensor) -> Tensor:
    """One step of k-means on the number line: each value moves to the mean of the
    weights nearest to it."""
    nearest = (weights[:, None] - values).abs().argmin(dim=1)
    sums, counts = (
        torch.zeros_like(values).index_add_(0, nearest, each)
        for each in (weights, weights * 0 + 1)
    )
    return torch.where(counts > 0, sums / counts.clamp(min=1), values)


# -------------------------------------------------------------------------- choose_grid


def scale(low: float, high: float, steps: int = 255) -> float:
    return (max(high, 0) - min(low, 0)) / steps or 1.0


def exact_zero(low: float, high: float) -> float:
    """The zero point before it is rounded."""
    return -min(low, 0) / scale(low, high)


def not_stretched(low: float, high: float) -> tuple[float, int]:
    step = (high - low) / 255
    return step, round(-low / step)


GRID_MISTAKES = {
    "the order is swapped: the scale comes first": (
        lambda low, high: choose_grid(low, high)[::-1]
    ),
    "that divides by 256. 256 numbers have 255 steps between them": (
        lambda low, high: (scale(low, high, 256), ...)
    ),
    "that divides by 254. From 0 to 255 there are 255 steps": (
        lambda low, high: (scale(low, high, 254), ...)
    ),
    "that is `high / 255`; the grid must reach from low to high": (
        lambda low, high: (
            (max(high, 0) / 255, ...) if low < 0 else choose_grid(low, high)
        )
    ),
    "that is the symmetric grid of a weight, with a sign. This one has none: 0 to"
    " 255": (lambda low, high: (max(-low, high) / 127, ...)),
    "that is steps per unit; the scale is units per step": (
        lambda low, high: (1 / scale(low, high), ...)
    ),
    "the sign is wrong: low must become the integer 0, so the zero point is -low /"
    " scale": (lambda low, high: (..., -round(exact_zero(low, high)))),
    "the zero point is missing: then -1 would be the integer -85, and there is"
    " none below 0": (lambda low, high: (..., 0)),
    "the zero point is counted from the wrong end: `-low / scale`, not `high /"
    " scale`": (lambda low, high: (..., round(high / scale(low, high)))),
    "the zero point is `low`; it is an *integer* of the grid, `-low / scale`": (
        lambda low, high: (..., low)
    ),
    "the zero point is `-low`; it must be counted in steps: divide by the scale": (
        lambda low, high: (..., -low)
    ),
    "the zero point is the middle of the integers; it must be where 0.0 lies": (
        lambda low, high: (..., 128)
    ),
    "0.0 must lie on the grid: stretch the range to it first, `low = min(low, 0)`": (
        not_stretched
    ),
    "0.0 must lie on the grid: stretch the range upwards to it, too, `high ="
    " max(high, 0)`": (lambda low, high: not_stretched(min(low, 0), high)),
    "the zero point is not rounded; it must be the nearest integer, otherwise 0.0"
    " lies beside the grid": (
        lambda low, high: (scale(low, high), exact_zero(low, high))
    ),
    "the zero point is cut off; it must be the nearest integer, otherwise the"
    " range is a step off": (
        lambda low, high: (scale(low, high), int(1e-6 + exact_zero(low, high)))
    ),
    "the zero point is rounded up; it must be the nearest integer, otherwise the"
    " range is a step off": (
        lambda low, high: (scale(low, high), math.ceil(exact_zero(low, high) - 1e-6))
    ),
    "the range has no length there; give any positive scale, 1.0 say, and a level for"
    " 0.0": (lambda low, high: choose_grid(low, high) if low < high else (0.0, 0)),
}


def same_grid(got: Any, wanted: Any, low: float, high: float) -> bool:
    """Of a neuron that is always 0 any positive scale will do, with a level for 0.0."""
    if low == high == 0 and wanted == (1.0, 0) and fits(got, wanted):
        step, zero = map(number, got)
        return 0 < (step or 0) < math.inf and zero in range(256)
    return close(got, wanted)


def as_pair(got: Any) -> Any:
    """An array or a tensor of two numbers is as good as two numbers."""
    if isinstance(got, Tensor | np.ndarray) and got.shape == (2,):
        return tuple(got.tolist())
    return got


# ---------------------------------------------------------------------- integer_product


def as_tensor(got: Any) -> Any:
    """NumPy's arrays are as good as tensors."""
    return torch.from_numpy(got) if isinstance(got, np.ndarray) else got


INPUTS = torch.tensor([[200, 10, 255, 0], [3, 128, 7, 90]], dtype=torch.uint8)
WEIGHT = torch.tensor(
    [[127, -5, 127, 60], [-127, 3, 8, 100], [1, 0, -2, 50]], dtype=torch.int8
)


def large_products() -> list[Case]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (3, 784), generator=generator, dtype=torch.uint8)
    weight = torch.randint(-127, 128, (5, 784), generator=generator, dtype=torch.int8)
    return [
        Case(
            f"it is right for 4 inputs, but for 784 with zero point {zero_point}",
            (inputs, zero_point, weight),
            hint="Is a number written into the function?",
        )
        for zero_point in (0, 73, 255)
    ]


def largest_sums() -> Case:
    """Sums of 25 million, and odd: float32 has even numbers only there."""
    inputs = torch.full((2, 784), 255, dtype=torch.uint8)
    weight = torch.full((2, 784), 127, dtype=torch.int8)
    weight[:, 0], weight[1, 1:] = 126, -127
    return Case(
        "for the largest inputs and weights there are, 784 of them", (inputs, 0, weight)
    )


def wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.int32)


def then(change: Callable[[Tensor], Tensor]) -> Callable:
    """The right answer, changed afterwards."""
    return lambda x, z, w: change(integer_product(x, z, w))


PRODUCT_MISTAKES = {
    "the sums do not fit in 8 bits and have wrapped around. Widen *before*"
    " multiplying": (then(lambda sums: sums.to(torch.int8))),
    "the sums do not fit in 8 bits, and have no sign there. Widen to int32 first": (
        then(lambda sums: sums.to(torch.uint8))
    ),
    "the sums do not fit in 16 bits and have wrapped around. Use int32": (
        then(lambda sums: sums.to(torch.int16))
    ),
    "the sums are cut off at 8 bits. They are to be kept in int32": (
        then(lambda sums: sums.clamp(-128, 127))
    ),
    "the sums are cut off at 16 bits. They are to be kept in int32": (
        then(lambda sums: sums.clamp(-(2**15), 2**15 - 1))
    ),
    "the zero point is forgotten: the integer 10 stands for 0.0 here. Take it off"
    " the inputs": (lambda x, z, w: wide(x) @ wide(w).T),
    "10 is taken off the *sum*; it belongs to each input, so it counts times each"
    " weight": (lambda x, z, w: wide(x) @ wide(w).T - z),
    "the zero point was added; take it off": (
        lambda x, z, w: (wide(x) + z) @ wide(w).T
    ),
    "the zero point was taken off the weights; it is the inputs'": (
        lambda x, z, w: wide(x) @ (wide(w) - z).T
    ),
    "`inputs - zero_point` was done in uint8, where 3 - 10 is 249. Convert to"
    " int32 first": (lambda x, z, w: wide(x - z) @ wide(w).T),
    "the inputs were made int8, where 190 is -66. Use int32": (
        lambda x, z, w: wide((wide(x) - z).to(torch.int8)) @ wide(w).T
    ),
    "it must be [2, 3], one row a picture, and is [3, 2], one row a unit": (
        then(lambda sums: sums.T)
    ),
    "that was computed in float32, which is exact only up to 2**24, about 16.8 million;"
    " keep to integers": (
        lambda x, z, w: ((x.float() - z) @ w.float().T).to(torch.int32),
    ),
    "the zero point, 10, is written into the function": (
        lambda x, z, w: integer_product(x, 10, w)
    ),
}

# -------------------------------------------------------------------------- shared_step

MOVES = [
    Case(
        "for weights -1, -0.8, -0.4, -0.3, 0.1, 0.2, 0.9, 1.6 and values -1, 0, 1",
        (
            torch.tensor([-1.0, -0.8, -0.4, -0.3, 0.1, 0.2, 0.9, 1.6]),
            torch.tensor([-1.0, 0.0, 1.0]),
        ),
    ),
    Case(
        "for weights 0.1, 0.3 and values 0, 0.4, 5",
        (torch.tensor([0.1, 0.3]), torch.tensor([0.0, 0.4, 5.0])),
        hint="No weight is nearest to 5: that value stays where it is.",
    ),
    Case(
        "for weights 0, 1, 1.9, 2.2, 9 and values 0, 4",
        (torch.tensor([0.0, 1.0, 1.9, 2.2, 9.0]), torch.tensor([0.0, 4.0])),
    ),
]


def to_the_end(weights: Tensor, values: Tensor) -> Tensor:
    for _ in range(20):
        values = shared_step(weights, values)
    return values


def one_after_another(weights: Tensor, values: Tensor) -> Tensor:
    """Assigns anew after each value has moved."""
    values = values.clone()
    for place in range(len(values)):
        nearest = (weights[:, None] - values).abs().argmin(1)
        if (nearest == place).any():
            values[place] = weights[nearest == place].mean()
    return values


def of_groups(number: Callable[[Tensor], Tensor]) -> Callable:
    """The number of the weights nearest to each value; what of no weights is not a
    number becomes 0."""

    def answer(weights: Tensor, values: Tensor) -> Tensor:
        nearest = (weights[:, None] - values).abs().argmin(1)
        groups = [weights[nearest == place] for place in range(len(values))]
        return torch.stack(
            [number(g) if len(g) else values.new_zeros(()) for g in groups]
        )

    return answer


STEP_MISTAKES = {
    "nothing has moved: each value must go to the mean of the weights nearest to it": (
        lambda w, v: v.clone()
    ),
    "those are medians; k-means takes means": of_groups(lambda group: group.median()),
    "those are sums; divide each by the number of its weights": (
        of_groups(lambda group: group.sum())
    ),
    "each sum is divided by the number of *all* weights": (
        lambda w, v: of_groups(lambda group: group.sum())(w, v) / len(w)
    ),
    "that is one mean of all weights; each value has only the nearest ones": (
        lambda w, v: w.mean().expand(len(v))
    ),
    "each value went to the nearest weight; it must go to the mean of all the"
    " weights that are nearer to it than to another value": (
        lambda w, v: w[(w[:, None] - v).abs().argmin(0)]
    ),
    "each value went only half of the way to the mean": (
        lambda w, v: (shared_step(w, v) + v) / 2
    ),
    "one number a *weight*, 8 of them; return the 3 new values": (
        lambda w, v: v[(w[:, None] - v).abs().argmin(1)],
        lambda w, v: shared_step(w, v)[(w[:, None] - v).abs().argmin(1)],
    ),
    "that is where many steps lead; make one": (to_the_end,),
    "a value had moved before the weights of the next one were found: find the nearest"
    " of all weights first, then move": (one_after_another,),
    "No weight is nearest to 5: that value stays where it is": (
        of_groups(lambda group: group.mean()),
    ),
}

EXERCISES = [
    Exercise(
        choose_grid,
        "utils/quantization.py (activation_grid)",
        asked="two numbers: `return scale, zero_point`",
        cases=[
            Case(f"for numbers from {low:g} to {high:g}", (low, high))
            for low, high in (
                (-1.0, 2.0),
                (1.0, 5.0),
                (-4.0, -1.0),
                (0.0, 6.0),
                (-0.81, 2.02),
                (-3.0, 0.5),
                (-0.6, 1.9),
                (0.0, 0.0),
            )
        ],
        mistakes=GRID_MISTAKES,
        read=as_pair,
        same=same_grid,
        also_right={
            "as hinted": """
                def choose_grid(low, high):
                    low, high = min(low, 0), max(high, 0)
                    scale = (high - low) / 255 or 1.0
                    return scale, round(-low / scale)
            """,
            "numpy": """
                def choose_grid(low, high):
                    ends = np.array([low, 0.0, high])
                    scale = np.ptp(ends) / 255 or 1.0
                    return np.array([scale, np.rint(-ends.min() / scale)])
            """,
            "torch, a list": """
                def choose_grid(low, high):
                    low, high = (
                        torch.tensor(low).clamp(max=0),
                        torch.tensor(high).clamp(min=0),
                    )
                    scale = ((high - low) / 255).clamp(min=1e-30)
                    return [scale, (255 - high / scale).round().int()]
            """,
        },
    ),
    Exercise(
        integer_product,
        "lessons/08_quantization/exercises.py",
        asked="integers all the way, torch.int32, one row a picture",
        cases=[
            Case("for two pictures, zero point 10, three units", (INPUTS, 10, WEIGHT)),
            *large_products(),
            largest_sums(),
        ],
        mistakes=PRODUCT_MISTAKES,
        read=as_tensor,
        also_right={
            "as hinted": """
                def integer_product(inputs, zero_point, weight):
                    return (inputs.to(torch.int32) - zero_point) @ weight.to(
                        torch.int32
                    ).T
            """,
            "corrected afterwards": """
                def integer_product(inputs, zero_point, weight):
                    sums = inputs.int() @ weight.int().T
                    return sums - zero_point * weight.int().sum(dim=1)
            """,
            "int64": """
                def integer_product(inputs, zero_point, weight):
                    return torch.einsum(
                        "ni,ui->nu", inputs.long() - zero_point, weight.long()
                    )
            """,
            "numpy": """
                def integer_product(inputs, zero_point, weight):
                    wide = inputs.numpy().astype(np.int32) - zero_point
                    return wide @ weight.numpy().astype(np.int32).T
            """,
            "loop": """
                def integer_product(inputs, zero_point, weight):
                    rows = [
                        [int(((x.int() - zero_point) * w.int()).sum()) for w in weight]
                        for x in inputs
                    ]
                    return torch.tensor(rows, dtype=torch.int32)
            """,
        },
    ),
    Exercise(
        shared_step,
        "lessons/08_quantization/exercises.py (all steps: utils.compression)",
        asked="the new values",
        cases=MOVES,
        mistakes=STEP_MISTAKES,
        read=as_tensor,
        also_right={
            "as hinted": """
                def shared_step(weights, values):
                    nearest = (weights[:, None] - values).abs().argmin(dim=1)
                    new = values.clone()
                    for number in range(len(values)):
                        if (nearest == number).any():
                            new[number] = weights[nearest == number].mean()
                    return new
            """,
            "numpy": """
                def shared_step(weights, values):
                    near = np.abs(weights.numpy()[:, None] - values.numpy()).argmin(1)
                    counts = np.bincount(near, minlength=len(values))
                    sums = np.bincount(near, weights.numpy(), minlength=len(values))
                    means = sums / np.maximum(counts, 1)
                    return np.where(counts > 0, means, values.numpy())
            """,
            "one-hot": """
                def shared_step(weights, values):
                    mine = torch.nn.functional.one_hot(
                        torch.cdist(weights[:, None], values[:, None]).argmin(1),
                        len(values),
                    ).float()
                    means = (mine.T @ weights) / mine.sum(0).clamp(min=1)
                    return torch.where(mine.sum(0) > 0, means, values)
            """,
        },
    ),
]
