"""Two networks compared on the same pictures. Built in lessons/01_baseline."""

from typing import NamedTuple

from torch import Tensor


class Difference(NamedTuple):
    """How much more often one network is right than another, and the margin of that:
    fractions, 0.01 = one point."""

    difference: float
    margin: float


def paired_difference(
    answers_a: Tensor, answers_b: Tensor, labels: Tensor
) -> Difference:
    """Accuracy of a minus accuracy of b on the same pictures, with half the width of
    its 95% interval.

    Pictures that both get right, or both wrong, say nothing about the difference; only
    those that one alone gets right do (McNemar 1947). The margin is about other
    pictures of the same kind, for these two networks; other seeds are another matter.
    It is the normal one, 1.96 standard errors: too small where fewer than some ten
    pictures tell the networks apart.

    Args:
        answers_a, answers_b: the classes that the networks answer, `[n]`:
            `predict_logits(network, images).argmax(1)`.
        labels: the right classes, `[n]`.
    Raises:
        ValueError: no picture, or three tensors that are not one number a picture.

    >>> import torch
    >>> labels = torch.tensor([7, 7, 1, 1])  # a is right three times, b twice
    >>> a, b = torch.tensor([7, 7, 1, 0]), torch.tensor([7, 7, 0, 0])
    >>> paired_difference(a, b, labels).difference
    0.25
    """
    _check_paired(answers_a=answers_a, answers_b=answers_b, labels=labels)
    right_a, right_b = answers_a == labels, answers_b == labels  # [n]
    each = right_a.double() - right_b.double()  # [n]: 1 only a, -1 only b, 0 both alike
    error = each.std(correction=0).item() / len(labels) ** 0.5
    return Difference(each.mean().item(), 1.96 * error)


def _check_paired(**tensors: Tensor) -> None:
    """All are `[n]`, one number a picture, for the same n."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.dim() != 1 or not len(tensor):
            known = isinstance(tensor, Tensor)
            found = list(tensor.shape) if known else type(tensor).__name__
            raise ValueError(
                f"{name} ({found}) must be a tensor of classes, one a picture, [n]: of"
                " logits take `.argmax(1)`."
            )
    lengths = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"answers and labels must be about the same pictures, not {lengths}."
        )
