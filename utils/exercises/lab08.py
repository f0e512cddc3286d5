"""Exercises of lab 08."""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.exercises.exercise import Exercise
from utils.lab import WrongAnswer
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


def check_choose_grid(answer: Callable) -> None:
    """Typical mistakes: 256 steps, no rounding, the range not stretched to 0, the sign,
    symmetric, order swapped."""
    scale, zero_point = _two_numbers(answer(-1.0, 2.0), "(-1, 2)")
    _check_first_grid(scale, zero_point)
    scale, zero_point = _two_numbers(answer(1.0, 5.0), "(1, 5)")
    if abs(scale - 5 / 255) > 1e-5 or zero_point != 0:
        raise WrongAnswer(
            f"for numbers from 1 to 5 it returns scale {scale:.5f}, zero point"
            f" {zero_point:g}; it must be 0.01961 and 0. 0.0 must lie on the grid:"
            " stretch the range to it first, `low = min(low, 0)`."
        )
    scale, zero_point = _two_numbers(answer(-4.0, -1.0), "(-4, -1)")
    if abs(scale - 4 / 255) > 1e-5 or zero_point != 255:
        raise WrongAnswer(
            f"for numbers from -4 to -1 it returns scale {scale:.5f}, zero point"
            f" {zero_point:g}; it must be 0.01569 and 255. Stretch the range upwards to"
            " 0, too: `high = max(high, 0)`."
        )
    for low, high in ((0.0, 6.0), (-0.81, 2.02), (-3.0, 0.5)):
        scale, zero_point = _two_numbers(answer(low, high), f"({low:g}, {high:g})")
        right_scale, right_zero = choose_grid(low, high)
        if (
            right_zero in (round(zero_point), int(zero_point) + 1)
            and zero_point != right_zero
        ):
            way = "cut off" if zero_point == int(zero_point) else "not rounded"
            raise WrongAnswer(
                f"for numbers from {low:g} to {high:g} the zero point is"
                f" {zero_point:.2f}, {way}; it must be the nearest integer,"
                f" {right_zero}. Otherwise 0.0 lies beside the grid, or the range is a"
                " step off."
            )
        if abs(scale - right_scale) > 1e-5 or zero_point != right_zero:
            raise WrongAnswer(
                f"for numbers from {low:g} to {high:g} it returns {scale:.5f} and"
                f" {zero_point:g}; it must be {right_scale:.5f} and {right_zero}."
            )


def _two_numbers(got: object, where: str) -> tuple[float, float]:
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise WrongAnswer(
            f"for {where} it returns {type(got).__name__}; return two numbers: `return"
            " scale, zero_point`."
        )
    return float(got[0]), float(got[1])


def _check_first_grid(scale: float, zero_point: float) -> None:
    """For -1 to 2: scale 3/255, zero point 85."""
    text = (
        f"for numbers from -1 to 2 it returns scale {scale:.5f}, zero point"
        f" {zero_point:g}, and 0.01176, 85 is right"
    )
    step = 3 / 255
    reasons = [
        (85, step, "the order is swapped: the scale comes first"),
        (3 / 256, None, "that divides by 256. 256 numbers have 255 steps between them"),
        (3 / 254, None, "that divides by 254. From 0 to 255 there are 255 steps"),
        (
            2 / 255,
            None,
            "that is `high / 255`; the grid must reach from low to high, a range of 3",
        ),
        (
            2 / 127,
            None,
            (
                "that is the symmetric grid of a weight, with a sign. This one has"
                " none: 0 to 255"
            ),
        ),
        (255 / 3, None, "that is steps per unit; the scale is units per step"),
        (
            step,
            -85,
            (
                "the sign is wrong: low must become the integer 0, so the zero point is"
                " -low / scale"
            ),
        ),
        (
            step,
            0,
            (
                "the zero point is missing: then -1 would be the integer -85, and there"
                " is none below 0"
            ),
        ),
        (
            step,
            170,
            (
                "the zero point is counted from the wrong end: `-low / scale`, not"
                " `high / scale`"
            ),
        ),
        (
            step,
            -1,
            "the zero point is `low`; it is an *integer* of the grid, `-low / scale`",
        ),
        (
            step,
            1,
            (
                "the zero point is `-low`; it must be counted in steps: divide by the"
                " scale"
            ),
        ),
        (
            step,
            128,
            "the zero point is the middle of the integers; it must be where 0.0 lies",
        ),
    ]
    for wrong_scale, wrong_zero, reason in reasons:
        if abs(scale - wrong_scale) < 1e-6 and (
            wrong_zero is None or abs(zero_point - wrong_zero) < 0.5
        ):
            raise WrongAnswer(f"{text}: {reason}.")
    if abs(scale - step) > 1e-5 or abs(zero_point - 85) > 0.5:
        raise WrongAnswer(f"{text}.")


# ---------------------------------------------------------------------- integer_product


def check_integer_product(answer: Callable) -> None:
    """Typical mistakes: overflow in 8 or 16 bits, the zero point forgotten or taken off
    late, float, transposed."""
    inputs = torch.tensor([[200, 10, 255, 0], [3, 128, 7, 90]], dtype=torch.uint8)
    weight = torch.tensor(
        [[127, -5, 127, 60], [-127, 3, 8, 100], [1, 0, -2, 50]], dtype=torch.int8
    )
    before = inputs.clone(), weight.clone()
    got = answer(inputs, 10, weight)
    _check_product_form(got, inputs, weight, before)
    right = integer_product(inputs, 10, weight)
    wide = inputs.int(), weight.int()
    wrapped = (inputs - 10).int() @ wide[1].T
    reasons = [
        (
            right.to(torch.int8).int(),
            (
                "the sums do not fit in 8 bits and have wrapped around. Widen *before*"
                " multiplying"
            ),
        ),
        (
            right.to(torch.uint8).int(),
            (
                "the sums do not fit in 8 bits, and have no sign there. Widen to int32"
                " first"
            ),
        ),
        (
            right.to(torch.int16).int(),
            "the sums do not fit in 16 bits and have wrapped around. Use int32",
        ),
        (
            right.clamp(-128, 127),
            "the sums are cut off at 8 bits. They are to be kept in int32",
        ),
        (
            right.clamp(-32768, 32767),
            "the sums are cut off at 16 bits. They are to be kept in int32",
        ),
        (
            wide[0] @ wide[1].T,
            (
                "the zero point is forgotten: the integer 10 stands for 0.0 here. Take"
                " it off the inputs"
            ),
        ),
        (
            wide[0] @ wide[1].T - 10,
            (
                "10 is taken off the *sum*; it belongs to each input, so it counts"
                " times each weight"
            ),
        ),
        ((wide[0] + 10) @ wide[1].T, "the zero point was added; take it off"),
        (
            wide[0] @ (wide[1] - 10).T,
            "the zero point was taken off the weights; it is the inputs'",
        ),
        (
            wrapped,
            (
                "`inputs - zero_point` was done in uint8, where 3 - 10 is 249. Convert"
                " to int32 first"
            ),
        ),
        (
            (wide[0] - 10).to(torch.int8).int() @ wide[1].T,
            "the inputs were made int8, where 190 is -66. Use int32",
        ),
    ]
    for wrong, reason in reasons:
        if torch.equal(got.long(), wrong.long()):
            raise WrongAnswer(
                f"for the first picture it returns {got[0].tolist()}, and"
                f" {right[0].tolist()} is right: {reason}."
            )
    if not torch.equal(got.long(), right.long()):
        raise WrongAnswer(
            f"for the first picture it returns {got[0].tolist()}; it must be"
            f" {right[0].tolist()}."
        )
    _check_large_product(answer)


def _check_product_form(
    got: object, inputs: Tensor, weight: Tensor, before: tuple[Tensor, Tensor]
) -> None:
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, Tensor):
        raise WrongAnswer(f"it returns {type(got).__name__}; return a tensor.")
    if not (torch.equal(inputs, before[0]) and torch.equal(weight, before[1])):
        raise WrongAnswer(
            "it has changed the integers it was given (`-=` does that). Work on copies."
        )
    if tuple(got.shape) == (3, 2):
        raise WrongAnswer(
            "its shape is [3, 2], one row a unit; it must be [2, 3], one row a picture."
        )
    if tuple(got.shape) != (2, 3):
        raise WrongAnswer(
            f"for 2 pictures and 3 units its shape is {list(got.shape)}; it must be"
            " [2, 3]."
        )
    if got.is_floating_point():
        raise WrongAnswer(
            f"it returns {got.dtype}; integers are wanted here, all the way: convert to"
            " torch.int32."
        )


def _check_large_product(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (3, 784), generator=generator, dtype=torch.uint8)
    weight = torch.randint(-127, 128, (5, 784), generator=generator, dtype=torch.int8)
    for zero_point in (0, 73, 255):
        got, right = (
            answer(inputs, zero_point, weight),
            integer_product(inputs, zero_point, weight),
        )
        if not torch.equal(got.long(), right.long()):
            raise WrongAnswer(
                "it is right for 4 inputs, but not for 784 with zero point"
                f" {zero_point}: the first sum is {int(got[0, 0])}, and"
                f" {int(right[0, 0])} is right. Is a number written into the function?"
            )


# -------------------------------------------------------------------------- shared_step


def check_shared_step(answer: Callable) -> None:
    """Typical mistakes: the nearest weight instead of the mean, all weights in one
    mean, empty values, medians."""
    weights, values = (
        torch.tensor([-1.0, -0.8, -0.4, -0.3, 0.1, 0.2, 0.9, 1.6]),
        torch.tensor([-1.0, 0.0, 1.0]),
    )
    before = weights.clone(), values.clone()
    got = answer(weights, values)
    _check_values_form(got, weights, values, before)
    right = shared_step(weights, values)
    middle = [weights[:2], weights[2:6], weights[6:]]
    reasons = [
        (values, "nothing has moved: each value must go to the mean of the weights nearest to it"),
        (torch.stack([m.median() for m in middle]), "those are medians; k-means takes means"),
        (torch.stack([m.sum() for m in middle]), "those are sums; divide each by the number of its weights"),
        (torch.stack([m.sum() / len(weights) for m in middle]), "each sum is divided by the number of *all* weights"),
        (weights.mean().expand(3), "that is one mean of all weights; each value has only the nearest ones"),
        (torch.tensor([-1.0, 0.1, 0.9]), "each value went to the nearest weight; it must go to the mean of all the "
         "weights that are nearer to it than to another value"),
        ((right + values) / 2, "each value went only half of the way to the mean"),
    ]  # fmt: skip
    for wrong, reason in reasons:
        if torch.allclose(got.float(), wrong, atol=1e-5):
            raise WrongAnswer(
                f"the values become {_list(got)}, and {_list(right)} is right:"
                f" {reason}."
            )
    if not torch.allclose(got.float(), right, atol=1e-5):
        raise WrongAnswer(
            f"the values become {_list(got)}; they must become {_list(right)}."
        )
    got = answer(torch.tensor([0.1, 0.3]), torch.tensor([0.0, 5.0, 0.4]))
    if not torch.allclose(got.float(), torch.tensor([0.1, 5.0, 0.3]), atol=1e-5):
        raise WrongAnswer(
            f"weights 0.1, 0.3 with values 0, 5, 0.4 become {_list(got)}; it must be"
            " 0.100, 5.000, 0.300. No weight is nearest to 5: that value stays where"
            " it is."
        )


def _check_values_form(
    got: object, weights: Tensor, values: Tensor, before: tuple[Tensor, Tensor]
) -> None:
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, Tensor):
        raise WrongAnswer(
            f"it returns {type(got).__name__}; return a tensor of the new values."
        )
    if not (torch.equal(weights, before[0]) and torch.equal(values, before[1])):
        raise WrongAnswer(
            "it has changed the tensors it was given. Work on a copy, `values.clone()`."
        )
    if got.shape == weights.shape:
        raise WrongAnswer(
            "it returns one number a *weight*, 8 of them; return the 3 new values."
        )
    if got.shape != values.shape:
        raise WrongAnswer(
            f"for 3 values its shape is {list(got.shape)}; it must be [3]."
        )


def _list(values: Tensor) -> str:
    return ", ".join(f"{value:.3f}" for value in values.tolist())


EXERCISES = [
    Exercise(
        "choose_grid",
        choose_grid,
        "utils/quantization.py (activation_grid)",
        check_choose_grid,
    ),
    Exercise(
        "integer_product",
        integer_product,
        "utils/exercises/lab08.py",
        check_integer_product,
    ),
    Exercise(
        "shared_step",
        shared_step,
        "utils/exercises/lab08.py (all steps: utils.compression)",
        check_shared_step,
    ),
]
