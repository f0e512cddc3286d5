"""The exercises of lab 10, and the mistakes that their checks know."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from utils.exercises import Case, Exercise


def compare(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """The largest difference of any output `[n, classes]`, and the fraction of pictures
    with one class from both."""
    same = ours.argmax(1) == theirs.argmax(1)
    return (ours - theirs).abs().max().item(), same.float().mean().item()


def step_factors(times: Sequence[float]) -> list[float]:
    """By how much each step made it faster; one fewer than there are times, and their
    product is the whole."""
    return [before / after for before, after in pairwise(times)]


OURS = torch.tensor(
    [[0.0, 3.0, 1.0], [2.0, 1.0, 0.0], [0.0, 0.5, 1.0], [4.0, 0.0, 1.0]]
)
# up to 1.2 larger, and up to 0.6 smaller
THEIRS = torch.tensor(
    [[0.0, 4.2, 1.0], [1.6, 1.8, 0.0], [0.0, 0.5, 1.0], [3.4, 0.9, 1.0]]
)


def others() -> tuple[Tensor, Tensor]:
    """Seven pictures of five classes: the largest difference is in the last one, where
    theirs is smaller."""
    generator = torch.Generator().manual_seed(1)
    ours = 2 * torch.randn(7, 5, generator=generator)
    theirs = ours + 0.4 * torch.randn(7, 5, generator=generator)
    theirs[6, 3] = ours[6, 3] - 2.5
    theirs[1:3] = theirs[1:3].roll(1, 1).clamp(ours[1:3] - 2.0, ours[1:3] + 2.0)
    return ours, theirs


def each_step(factor: Callable[[float, float], float]) -> tuple[Callable, Callable]:
    """Two answers with another factor of before and after: as it is, and with a number
    for the first time too."""

    def answer(seconds: Sequence[float]) -> list[float]:
        return [factor(before, after) for before, after in pairwise(seconds)]

    return answer, lambda seconds: [1.0, *answer(seconds)]


EXERCISES = [
    Exercise(
        compare,
        "utils/deploy/pictures.py (parity)",
        asked="difference, agreement",
        cases=[
            Case(
                (
                    "for four pictures, of which three get the same class, and outputs"
                    " of which one differs by 1.2 and none by more,"
                ),
                (OURS, THEIRS),
            ),
            Case(
                "it is right for one example, but for seven pictures of five classes",
                others(),
                hint="The largest difference is in the last picture.",
            ),
        ],
        mistakes={
            "one of theirs is 1.2 *larger*. Take `abs()` before `max()`": (
                lambda a, b: ((a - b).max().item(), ...)
            ),
            "one of theirs is 2.5 *smaller*. Take `abs()` before `max()`": (
                lambda a, b: ((b - a).max().item(), compare(a, b)[1])
            ),
            "that is the largest difference of the first picture. Take that of all": (
                lambda a, b: ((a - b).abs()[0].max().item(), compare(a, b)[1])
            ),
            "that is the largest difference of one class. Take that of all": (
                lambda a, b: ((a - b).abs()[:, 1].max().item(), compare(a, b)[1])
            ),
            "the differences are averaged over each picture first. A single wrong"
            " output would drown in that": (
                lambda a, b: ((a - b).abs().mean(1).max().item(), ...)
            ),
            "that is the largest difference as a share of theirs, which is large for"
            " outputs near 0. Take the plain difference": (
                lambda a, b: (((a - b).abs() / b.abs()).nan_to_num(0).max().item(), ...)
            ),
            "the difference is the mean one. A single wrong output would drown in"
            " it: take the largest": (lambda a, b: ((a - b).abs().mean().item(), ...)),
            "the agreement compares outputs; rounding changes nearly all. Compare"
            " classes": (lambda a, b: (..., (a == b).float().mean().item())),
            "the agreement is divided by 4, whatever the number of pictures": (
                lambda a, b: (compare(a, b)[0], compare(a, b)[1] * len(a) / 4)
            ),
            "the agreement is a number of pictures. A fraction is wanted: 3 of 4"
            " is 0.75": (lambda a, b: (..., len(a) * compare(a, b)[1])),
            "the agreement is the fraction that differs": (
                lambda a, b: (..., 1 - compare(a, b)[1])
            ),
            "the agreement compares along the pictures. The class of a picture is"
            " `argmax(1)`": (lambda a, b: (..., compare(a.T, b.T)[1])),
            "one number is not enough: return the difference, then the agreement": (
                lambda a, b: compare(a, b)[0],
                lambda a, b: compare(a, b)[1],
            ),
        },
        also_right={
            "numpy": """
                def compare(ours, theirs):
                    a, b = ours.numpy(), theirs.numpy()
                    return float(np.abs(a - b).max()), float(
                        np.mean(a.argmax(1) == b.argmax(1))
                    )
            """,
            "loop": """
                def compare(ours, theirs):
                    worst = max(
                        abs(float(a) - float(b))
                        for a, b in zip(ours.flatten(), theirs.flatten())
                    )
                    same = sum(
                        int(a.argmax() == b.argmax()) for a, b in zip(ours, theirs)
                    )
                    return worst, same / len(ours)
            """,
            "tensors": """
                def compare(ours, theirs):
                    return (ours - theirs).abs().max(), (
                        ours.argmax(1) == theirs.argmax(1)
                    ).float().mean()
            """,
        },
    ),
    Exercise(
        step_factors,
        "lessons/10_deployment/exercises.py",
        asked="a factor for each step, 3 for 4 times",
        cases=[
            Case(
                "for 12, 4, 2 and 2.5 s",
                ([12.0, 4.0, 2.0, 2.5],),
                hint="The last step made it slower.",
            ),
            Case(
                "for one time alone",
                ([1.0],),
                hint="There is no step, and the list must be empty.",
            ),
        ],
        mistakes={
            "each step is compared with the first time. Its share is against the"
            " step before it": (
                lambda s: [s[0] / each for each in s[1:]],
                lambda s: [s[0] / each for each in s],
            ),
            "the factors are upside down: 12 s that become 4 s are 3 times faster,"
            " before / after": (each_step(lambda before, after: after / before)),
            "these are seconds saved. Their product means nothing; factors are"
            " before / after": (each_step(lambda before, after: before - after)),
            "these are fractions of the time saved. Two steps that save half each do"
            " not save all; factors are before / after": (
                each_step(lambda before, after: 1 - after / before)
            ),
            "there are 3 steps between 4 times, and none before the first": (
                lambda s: [1.0, *step_factors(s)]
            ),
            "these are rounded": each_step(lambda before, after: round(before / after)),
        },
        also_right={
            "index": """
                def step_factors(seconds):
                    return [
                        seconds[i] / seconds[i + 1] for i in range(len(seconds) - 1)
                    ]
            """,
            "numpy": """
                def step_factors(seconds):
                    times = np.array(seconds)
                    return list(times[:-1] / times[1:])
            """,
            "array": """
                def step_factors(seconds):
                    times = np.array(seconds)
                    return times[:-1] / times[1:]
            """,
        },
    ),
]
