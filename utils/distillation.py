"""A trained network teaches a smaller one (Hinton, Vinyals, Dean 2015). Built in
lessons/09_distillation.

A label says "Shirt". A teacher says "Shirt 0.7, T-shirt 0.2, Coat 0.08": which mistakes
are near, too. The student learns from both.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.arguments import fraction
from utils.layers import lay_out


def soft_targets(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities of softened outputs, `[n, classes]`: `softmax(logits /
    temperature)`; above 1, less certain. Built in lessons/09_distillation (`softened`).

    Raises:
        ValueError: a temperature that is not a positive number.

    >>> logits = torch.tensor([[4.0, 2.0, 0.0]])
    >>> for temperature in (1.0, 4.0):
    ...     print([round(p, 2) for p in soft_targets(logits, temperature)[0].tolist()])
    [0.87, 0.12, 0.02]
    [0.51, 0.31, 0.19]
    """
    return F.softmax(logits / _check_temperature(temperature), dim=1)


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from the teacher's soft targets to the student's,
    times `temperature ** 2`.

    The factor keeps the gradient's size when the temperature changes (Hinton et al.
    2015, sec. 2.1). Built in lessons/09_distillation (`distillation_loss`).

    Args:
        logits, teacher_logits: outputs of student and teacher, `[n, classes]` each.
    Returns:
        The mean over the n pictures, a tensor of shape `[]`.
    Raises:
        ValueError: outputs of two shapes, or a temperature that is not a positive
            number.

    >>> teacher, student = torch.tensor([[4.0, 2.0]]), torch.tensor([[2.0, 4.0]])
    >>> round(soft_loss(teacher, teacher, 4.0).item(), 4)
    0.0
    >>> soft_loss(student, teacher, 4.0).shape
    torch.Size([])
    """
    if logits.shape != teacher_logits.shape:
        shapes = f"{list(teacher_logits.shape)}, and logits {list(logits.shape)}"
        raise ValueError(
            f"teacher_logits has the shape {shapes}; they must be the same, [n,"
            " classes]."
        )
    targets = soft_targets(teacher_logits, temperature)  # [n, classes]
    student = F.log_softmax(logits / temperature, dim=1)
    return F.kl_div(student, targets, reduction="batchmean") * temperature**2


def _check_temperature(temperature: float) -> float:
    if not 0 < temperature < float("inf"):
        raise ValueError(
            f"temperature={temperature!r} must be greater than 0, and finite."
        )
    return temperature


class Teacher:
    """A loss for `fit(..., loss=Teacher(network))`: partly the labels', partly the
    teacher's.

    The teacher sees each picture as the student does, flipped and shifted. Its copy is
    never trained.

    Args:
        temperature: of the soft targets, above 0.
        weight: of the soft loss, 0..1; the labels' cross-entropy has the rest.
    Raises:
        ValueError: a temperature or a weight outside these.
    """

    def __init__(
        self, network: nn.Module, *, temperature: float = 4.0, weight: float = 0.9
    ) -> None:
        _check_temperature(temperature)
        fraction("weight", weight, example="0 = labels only, 1 = teacher only")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        lay_out(self.network, torch.channels_last)
        self.temperature, self.weight = temperature, weight

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """The mean loss of a batch, `[]`: outputs `[n, classes]`, labels `[n]`,
        pictures `[n, 1, 28, 28]`.

        Raises:
            ValueError: the teacher's outputs have another shape than `logits`.
        """
        with torch.no_grad():
            teacher_logits = self.network(images)
        soft = soft_loss(logits, teacher_logits, self.temperature)
        return self.weight * soft + (1 - self.weight) * F.cross_entropy(logits, labels)

    def __repr__(self) -> str:
        return (
            f"Teacher({type(self.network).__name__}, temperature={self.temperature},"
            f" weight={self.weight})"
        )
