"""The exercises of lab 01, and the mistakes that their checks know."""

import torch
from torch import Tensor

from utils.exercises import Case, Exercise


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Fraction (0..1) of rows of `logits` `[n, classes]` whose largest entry is at the
    right class, `labels` `[n]`."""
    return (logits.argmax(dim=1) == labels).float().mean().item()


def conv_macs(filters: int, inputs: int, kernel: int, height: int, width: int) -> int:
    """MACs of a convolution for one picture: at each of `height * width` output
    positions, each filter multiplies `inputs * kernel * kernel` numbers."""
    return filters * inputs * kernel * kernel * height * width


LOGITS = torch.tensor(
    [[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 5.0], [4.0, 1.0, 0.0]]
)
POSITION = (
    "For each picture (row), the predicted class is the *position* of its largest"
    " logit: argmax over dim=1."
)


def right_ones(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.argmax(dim=1) == labels


EXERCISES = [
    Exercise(
        accuracy,
        "lessons/01_baseline/exercises.py",
        asked="the fraction of the pictures that are right",
        cases=[
            Case(
                "for four pictures, three of them right,",
                (LOGITS, torch.tensor([0, 1, 2, 1])),
                hint=POSITION,
            ),
            Case(
                "for 30 pictures, all right,",
                (torch.eye(10).repeat(3, 1), torch.arange(10).repeat(3)),
                hint=POSITION,
            ),
        ],
        mistakes={
            "that is a percentage. The course writes accuracy as a fraction": (
                lambda logits, labels: 100 * accuracy(logits, labels)
            ),
            "that is the number of right answers. Divide by the number of pictures": (
                lambda logits, labels: right_ones(logits, labels).sum()
            ),
            "that is the fraction that is wrong": (
                lambda logits, labels: 1 - accuracy(logits, labels)
            ),
            "that is one entry a picture; return their mean": (
                right_ones,
                lambda logits, labels: right_ones(logits, labels).float(),
            ),
            "`argmax` without `dim=1` is the position in the whole table, one for"
            " all pictures; take it in each row, argmax over dim=1": (
                lambda logits, labels: (logits.argmax() == labels).float().mean()
            ),
            "`//` divides and drops what is behind the point; use `/`": (
                lambda logits, labels: right_ones(logits, labels).sum() // len(labels)
            ),
            "that divides by the number of classes; divide by the number of pictures": (
                lambda logits, labels: (
                    right_ones(logits, labels).sum() / logits.shape[1]
                )
            ),
            "that is the class with the *smallest* logit, argmin; the largest is asked"
            " for": (
                lambda logits, labels: (logits.argmin(dim=1) == labels).float().mean()
            ),
            "the number of pictures, 4, is written into the function": (
                lambda logits, labels: right_ones(logits, labels).sum() / 4
            ),
        },
        also_right={
            "loop": """
                def accuracy(logits, labels):
                    right = 0
                    for row, label in zip(logits, labels):
                        right += int(row.argmax() == label)
                    return right / len(labels)
            """,
            "topk, tensor": """
                def accuracy(logits, labels):
                    return (logits.topk(1).indices[:, 0] == labels).double().mean()
            """,
            "sort": """
                def accuracy(logits, labels):
                    return (
                        logits.sort(dim=1).indices[:, -1] == labels
                    ).sum().item() / labels.numel()
            """,
            "numpy": """
                def accuracy(logits, labels):
                    return np.mean(logits.numpy().argmax(1) == labels.numpy())
            """,
        },
    ),
    Exercise(
        conv_macs,
        "lessons/01_baseline/exercises.py (for whole networks: utils.measure.macs)",
        asked="how many MACs",
        cases=[
            Case(
                "for 64 filters of 32 x 3 x 3 at 14 x 14 positions",
                (64, 32, 3, 14, 14),
            ),
            Case(
                "for 2 filters of 3 x 5 x 5 at 4 x 7 positions",
                (2, 3, 5, 4, 7),
                hint="Is a number written into the function?",
            ),
        ],
        mistakes={
            "that is the number of weights; each is used at every one of the 14 x"
            " 14 output positions": (
                lambda filters, inputs, kernel, height, width: (
                    filters * inputs * kernel**2
                )
            ),
            "each filter reads all 32 input channels, not one": (
                lambda filters, inputs, kernel, height, width: (
                    filters * kernel**2 * height * width
                )
            ),
            "a kernel of 3 has 3 x 3 = 9 positions": (
                lambda filters, inputs, kernel, height, width: (
                    filters * inputs * kernel * height * width
                )
            ),
            "a kernel of 3 x 3 is written into the function; use `kernel`, twice": (
                lambda filters, inputs, kernel, height, width: (
                    filters * inputs * 9 * height * width
                ),
                lambda filters, inputs, kernel, height, width: (
                    filters * inputs * kernel * 3 * height * width
                ),
            ),
            "that is one filter; there are 64 and 2 in these calls, `filters`": (
                lambda filters, inputs, kernel, height, width: (
                    inputs * kernel**2 * height * width
                )
            ),
            "height and width are already those of the output; nothing is lost at the"
            " edge": (
                lambda filters, inputs, kernel, height, width: (
                    filters
                    * inputs
                    * kernel**2
                    * (height - kernel + 1)
                    * (width - kernel + 1)
                )
            ),
            "that counts a multiplication and an addition separately (FLOPs); a"
            " MAC is both together": (
                lambda filters, inputs, kernel, height, width: (
                    2 * filters * inputs * kernel**2 * height * width
                )
            ),
            "that counts the bias too; adding a bias multiplies nothing": (
                lambda filters, inputs, kernel, height, width: (
                    filters * height * width * (inputs * kernel**2 + 1)
                )
            ),
            "that is right for a square output only. Use both height and width": (
                lambda filters, inputs, kernel, height, width: (
                    filters * inputs * kernel**2 * height**2
                ),
                lambda filters, inputs, kernel, height, width: (
                    filters * inputs * kernel**2 * width**2
                ),
            ),
        },
        also_right={
            "loop": """
                def conv_macs(filters, inputs, kernel, height, width):
                    total = 0
                    for _ in range(height):
                        for _ in range(width):
                            total += filters * inputs * kernel**2
                    return total
            """,
            "numpy": """
                def conv_macs(filters, inputs, kernel, height, width):
                    return np.prod([filters, inputs, kernel, kernel, height, width])
            """,
            "torch": """
                def conv_macs(filters, inputs, kernel, height, width):
                    return torch.tensor(
                        [filters, inputs, kernel, kernel, height, width]
                    ).prod()
            """,
        },
    ),
]
