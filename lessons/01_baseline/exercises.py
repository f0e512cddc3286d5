"""The exercises of lab 01, their checks and the mistakes that are told apart."""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.exercises import Exercise, WrongAnswer


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Fraction (0..1) of rows of `logits` `[n, classes]` whose largest entry is at the
    right class, `labels` `[n]`."""
    return (logits.argmax(dim=1) == labels).float().mean().item()


def conv_macs(filters: int, inputs: int, kernel: int, height: int, width: int) -> int:
    """MACs of a convolution for one picture: at each of `height * width` output
    positions, each filter multiplies `inputs * kernel * kernel` numbers."""
    return filters * inputs * kernel * kernel * height * width


def check_accuracy(answer: Callable) -> None:
    """Typical mistakes: percent, a count, argmax over the wrong dimension, comparing
    the largest value itself."""
    logits = torch.tensor(
        [[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 5.0], [4.0, 1.0, 0.0]]
    )
    labels = torch.tensor([0, 1, 2, 1])  # three of four right
    got = answer(logits, labels)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if isinstance(got, Tensor) and got.numel() != 1:
        raise WrongAnswer(
            f"it returns a tensor of shape {list(got.shape)}, one entry a picture;"
            " return their mean."
        )
    got = float(got)
    if got == 75:
        raise WrongAnswer(
            "it returns 75, a percentage. The course writes accuracy as a fraction:"
            " 0.75."
        )
    if got == 3:
        raise WrongAnswer(
            "it returns 3, the number of right answers. Divide by the number of"
            " pictures: 0.75."
        )
    if got == 0.25:
        raise WrongAnswer("it returns 0.25, the fraction that is wrong; 0.75 is right.")
    if not abs(got - 0.75) <= 1e-6:  # NaN too
        raise WrongAnswer(
            f"for four pictures, three of them right, it returns {got:.3g}. For each"
            " picture (row), the predicted class is the *position* of its largest"
            " logit: argmax over dim=1."
        )
    many = torch.eye(10).repeat(3, 1)
    if not abs(float(answer(many, torch.arange(10).repeat(3))) - 1) <= 1e-6:
        raise WrongAnswer(
            "for 30 pictures, all right, it does not return 1. Is the number of"
            " pictures written in it?"
        )


def check_conv_macs(answer: Callable) -> None:
    """Typical mistakes: the positions or the inputs forgotten, FLOPs instead of MACs, a
    bias counted."""
    got = answer(filters=64, inputs=32, kernel=3, height=14, width=14)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    right = 64 * 32 * 9 * 14 * 14
    reasons = {
        64 * 32 * 9: (
            "that is the number of weights; each is used at every one of the 14 x 14"
            " output positions"
        ),
        64 * 9 * 14 * 14: "each filter reads all 32 input channels, not one",
        64 * 32 * 3 * 14 * 14: "a kernel of 3 has 3 x 3 = 9 positions",
        2 * right: (
            "that counts a multiplication and an addition separately (FLOPs); a MAC is"
            " both together"
        ),
        right + 64 * 14 * 14: (
            "that counts the bias too; adding a bias multiplies nothing"
        ),
    }
    if isinstance(got, (int, float)) and got in reasons:
        raise WrongAnswer(
            f"for 64 filters of 32 x 3 x 3 at 14 x 14 positions it returns {got:,}:"
            f" {reasons[got]}."
        )
    if got != right:
        raise WrongAnswer(
            f"for 64 filters of 32 x 3 x 3 at 14 x 14 positions it returns {got}; it"
            f" must be {right:,}."
        )
    if answer(filters=2, inputs=3, kernel=5, height=4, width=7) != 2 * 3 * 25 * 4 * 7:
        raise WrongAnswer(
            "it is right for a square output, not for one of 4 x 7. Use both height and"
            " width."
        )


EXERCISES = [
    Exercise(accuracy, "lessons/01_baseline/exercises.py", more=check_accuracy),
    Exercise(
        conv_macs,
        "lessons/01_baseline/exercises.py (for whole networks: utils.measure.macs)",
        more=check_conv_macs,
    ),
]
