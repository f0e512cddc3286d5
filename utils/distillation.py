"""A trained network teaches a smaller one (Hinton, Vinyals, Dean 2015). Built in
lessons/09_distillation.

A label says "Shirt". A teacher says "Shirt 0.7, T-shirt 0.2, Coat 0.08": which mistakes
are near, too. The student learns from both.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.arguments import fraction, real
from utils.layers import answer, copied, lay_out
from utils.preflight import check_logits, check_made, in_rows


def soft_targets(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities of softened outputs, `[n, classes]`: `softmax(logits /
    temperature)`; above 1, less certain. Built in lessons/09_distillation (`softened`).

    Half precision is softened in float32, whose range it needs.

    Raises:
        ValueError: outputs of another kind, or a temperature outside 1e-6..1e6.

    >>> logits = torch.tensor([[4.0, 2.0, 0.0]])
    >>> for temperature in (1.0, 4.0):
    ...     print([round(p, 2) for p in soft_targets(logits, temperature)[0].tolist()])
    [0.87, 0.12, 0.02]
    [0.51, 0.31, 0.19]
    """
    return F.softmax(_softened(logits, temperature, "logits"), dim=1)


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from the teacher's soft targets to the student's,
    times `temperature ** 2`.

    The factor keeps the gradient's size when the temperature changes (Hinton et al.
    2015, sec. 2.1). No gradient reaches the teacher. Built in lessons/09_distillation
    (`distillation_loss`).

    Args:
        logits, teacher_logits: outputs of student and teacher, `[n, classes]` each.
    Returns:
        The mean over the n pictures, a tensor of shape `[]`.
    Raises:
        ValueError: outputs of two shapes or of another kind, a teacher's that are not
            numbers (NaN), or a temperature outside 1e-6..1e6.

    >>> teacher, student = torch.tensor([[4.0, 2.0]]), torch.tensor([[2.0, 4.0]])
    >>> round(soft_loss(teacher, teacher, 4.0).item(), 4)
    0.0
    >>> soft_loss(student, teacher, 4.0).shape
    torch.Size([])
    """
    if getattr(logits, "shape", None) != getattr(teacher_logits, "shape", None):
        shapes = f"{list(teacher_logits.shape)}, and logits {list(logits.shape)}"
        raise ValueError(
            f"teacher_logits has the shape {shapes}; they must be the same, [n,"
            " classes]."
        )
    student = F.log_softmax(_softened(logits, temperature, "logits"), dim=1)
    taught = _softened(teacher_logits.detach(), temperature, "teacher_logits")
    targets = F.softmax(taught, dim=1)  # [n, classes]
    if targets.isnan().any():
        raise ValueError(
            "teacher_logits holds nan or inf, from which nothing can be learned."
        )
    loss = F.kl_div(student, targets.to(student), reduction="batchmean")
    return loss * temperature**2


def _softened(logits: Tensor, temperature: float, name: str) -> Tensor:
    """`logits / temperature`, in a type that can hold it."""
    _check_temperature(temperature)
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"{name} is {kind}; it must be a tensor of real numbers.")
    if logits.dim() != 2 or not logits.numel():
        raise ValueError(
            f"{name} has the shape {list(logits.shape)}; it must be [n, classes]."
        )
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if temperature > PRECISE:
        logits = logits.double()
    return logits / temperature


# Above it the squared temperature makes the rounding of float32 visible in the loss.
PRECISE = 16


def _check_temperature(temperature: float) -> float:
    if not (real(temperature) and 1e-6 <= temperature <= 1e6):
        raise ValueError(
            f"temperature={temperature!r} must be a number greater than 0, from 1e-6 to"
            " 1e6."
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
        ValueError: a temperature or a weight outside these, or a network that cannot be
            copied as it is: with a computed weight, or one that is not made yet.

    >>> teacher = Teacher(nn.Flatten(), temperature=2.0, weight=1.0)
    >>> outputs = torch.randn(3, 10)
    >>> teacher(outputs, torch.tensor([0, 1, 2]), outputs).abs() < 1e-6
    tensor(True)
    """

    def __init__(
        self, network: nn.Module, *, temperature: float = 4.0, weight: float = 0.9
    ) -> None:
        _check_temperature(temperature)
        fraction("weight", weight, example="0 = labels only, 1 = teacher only")
        check_made(network)
        self.network = copied(network).eval().requires_grad_(False)
        lay_out(self.network, torch.channels_last)
        self.temperature, self.weight = temperature, weight

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """The mean loss of a batch, `[]`: outputs `[n, classes]`, labels `[n]`,
        pictures `[n, 1, 28, 28]`; or of windows of text, `[n, t, classes]`, `[n, t]`
        and `[n, t]`.

        Raises:
            ValueError: the teacher cannot take the pictures, its outputs have another
                shape than `logits` or are not numbers, or a label has no output.
        """
        check_logits(logits, labels)
        with torch.no_grad():
            teacher_logits = answer(self.network, images, "images")
        if not isinstance(teacher_logits, Tensor):
            raise ValueError(
                f"the teacher ({type(self.network).__name__}) puts out a"
                f" {type(teacher_logits).__name__}; it must be a tensor, [n, classes]."
            )
        teacher_logits, _ = in_rows(teacher_logits, labels)
        logits, labels = in_rows(logits, labels)
        soft = soft_loss(logits, teacher_logits, self.temperature)
        return self.weight * soft + (1 - self.weight) * F.cross_entropy(logits, labels)

    def __repr__(self) -> str:
        return (
            f"Teacher({type(self.network).__name__}, temperature={self.temperature},"
            f" weight={self.weight})"
        )
