"""Before the first step: what a network can be trained on, what cannot be trained, and
the way back when something fails.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.data import Split
from utils.layers import no_values


def check_network(model: nn.Module) -> None:
    """Check that it is one.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model={model!r} is no network; give a torch.nn.Module.")


def check_made(model: nn.Module) -> None:
    """Check that all of a network's tensors have values.

    Raises:
        ValueError: no network, or one with a tensor that is not made yet (lazy layers)
            or is on the meta device.
    """
    check_network(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if reason := no_values(tensor):
            raise ValueError(f"{name} {reason}.")


def check_trainable(model: nn.Module) -> None:
    """Check that `fit` can train a network.

    Raises:
        ValueError: its weights cannot be moved, or only wrongly; names one and says
            why.
    """
    check_made(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_complex():
            raise ValueError(
                f"{name} holds complex numbers; only real ones are trained."
            )
        if tensor.is_inference():
            raise ValueError(
                f"{name} was made inside torch.inference_mode and cannot be trained;"
                " copy its values into a network that was not."
            )
    for name, weight in model.named_parameters():
        if weight.dtype == torch.float16:
            raise ValueError(
                f"{name} is float16, in which small steps are lost; give model.float()."
            )
        if not finite(weight):
            raise ValueError(f"{name} holds a number that is not finite (nan or inf).")
    if not any(weight.requires_grad for weight in model.parameters()):
        every = [name for name, _ in model.named_parameters()]
        raise ValueError(
            f"model ({type(model).__name__}) has nothing to train:"
            f" {'all of ' + ', '.join(every) + ' frozen' if every else 'no weights'}"
            " (requires_grad)."
        )


def check_split(name: str, split: Split) -> None:
    """Check pictures, or other inputs `[n, ...]`, and their labels, `[n]`; or windows
    of text, `[n, t]`, and a label at each place.

    Raises:
        ValueError: none of them, not equally many, labels that are not whole numbers
            from 0, or pictures that are not finite.

    >>> check_split("train", Split(torch.zeros(3, 1, 28, 28), torch.tensor([0, 1])))
    Traceback (most recent call last):
    ValueError: train has images [3, 1, 28, 28] and labels [2]; give equally many.
    """
    images, labels = (getattr(split, part, None) for part in ("images", "labels"))
    if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
        raise ValueError(f"{name} must be a Split of two tensors, images and labels.")
    _check_labels(f"{name}.labels", labels, images)
    if images.dim() == 0 or len(images) != len(labels):
        raise ValueError(
            f"{name} has images {list(images.shape)} and labels {list(labels.shape)};"
            " give equally many."
        )
    if images.layout != torch.strided or images.is_complex():
        raise ValueError(
            f"{name}.images is {images.dtype}, {images.layout}; give a"
            " dense tensor of real numbers."
        )
    if len(labels) == 0:
        raise ValueError(f"{name} is empty; it must hold at least one picture.")
    if int(labels.min()) < 0:
        raise ValueError(
            f"{name}.labels holds {int(labels.min())}; classes are numbered from 0."
        )
    if not finite(images):
        raise ValueError(f"{name}.images holds a number that is not finite.")


def _check_labels(name: str, labels: Tensor, beside: Tensor) -> None:
    """Check class numbers, one a picture, or one at each place of `beside`."""
    places = labels.dim() == 1 or labels.shape == beside.shape[: labels.dim()]
    if not (labels.dim() and places) or labels.dtype != torch.int64:
        raise ValueError(
            f"{name} has the shape {list(labels.shape)} and the type {labels.dtype};"
            " give one class number a picture, [n] int64."
        )


def check_like(validation: Split, train: Split) -> None:
    """Check pictures that validate what is trained on others.

    Raises:
        ValueError: as `check_split`, or another shape or type.
    """
    check_split("validation", validation)
    kinds = [(list(s.images.shape[1:]), s.images.dtype) for s in (validation, train)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"validation.images are {kinds[0]}, train.images {kinds[1]}; give pictures"
            " of one shape and type."
        )


def check_logits(logits: Tensor, labels: Tensor, who: str = "logits") -> None:
    """Check the outputs of a network, `[n, classes]`, against labels `[n]`; or, at each
    place of a text, `[n, t, classes]` against `[n, t]`.

    Args:
        who: gave them, for the message.
    Raises:
        ValueError: outputs of another kind, or a label that has no output.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"{who} is of type {kind}; it must be one tensor of real numbers."
        )
    _check_labels("labels", labels, logits)
    if logits.shape[:-1] != labels.shape or not labels.numel():
        wanted = ", ".join(map(str, labels.shape))
        raise ValueError(
            f"{who} has the shape {list(logits.shape)}; for {len(labels)} pictures it"
            f" must be [{wanted}, classes]."
        )
    check_classes(labels, logits.shape[-1], "labels")


def check_classes(labels: Tensor, outputs: int, name: str) -> None:
    """Check that there is an output for each label.

    Raises:
        ValueError: there is none for one.

    >>> check_classes(torch.tensor([2, 10]), outputs=10, name="train.labels")
    Traceback (most recent call last):
    ValueError: train.labels go from 2 to 10; with 10 outputs they must lie in 0..9.
    """
    lowest, highest = (int(each) for each in labels.aminmax())
    if lowest < 0 or highest >= outputs:
        raise ValueError(
            f"{name} go from {lowest} to {highest}; with {outputs} outputs they must"
            f" lie in 0..{outputs - 1}."
        )


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each answer, of the labels' shape: classes are on the last axis.

    >>> cross_entropy(torch.zeros(2, 3, 10), torch.zeros(2, 3, dtype=torch.int64)).shape
    torch.Size([2, 3])
    """
    rows = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return rows.view(labels.shape)


def in_rows(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs at each place of a text, `[n, t, classes]`, and their labels, `[n, t]`,
    as `[n * t, classes]` and `[n * t]`. All others as they are: PyTorch has classes on
    axis 1.

    Raises:
        ValueError: as many places as classes, so that it cannot be told which is which.

    >>> [list(x.shape) for x in in_rows(torch.zeros(2, 3, 10), torch.zeros(2, 3))]
    [[6, 10], [6]]
    """
    if outputs.dim() < 3 or outputs.shape[:-1] != labels.shape:
        return outputs, labels
    if outputs.shape[1] == outputs.shape[-1]:
        raise ValueError(
            f"outputs {list(outputs.shape)} have as many places as classes; give"
            " windows of another length."
        )
    return outputs.flatten(0, -2), labels.flatten()


def finite(tensor: Tensor) -> bool:
    """Whether no number in the tensor is infinite or NaN.

    >>> finite(torch.tensor([1.0, torch.inf])), finite(torch.tensor([1, 2]))
    (False, True)
    """
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    low, high = tensor.detach().aminmax()  # NaN goes through both
    return math.isfinite(low) and math.isfinite(high)


# ------------------------------------------------------------------------ the way back


class _Before:
    """What a network was: its tensors, their gradients, their order in memory, the
    modes of its modules."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = [
            (module, module.training, dict(module._parameters), dict(module._buffers))
            for module in model.modules()
        ]
        tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
        self.tensors = [
            (tensor, _kept(tensor), tensor.requires_grad, _kept(_gradient(tensor)))
            for tensor in tensors.values()
        ]

    def forget(self) -> None:
        """From now on a change stays."""
        self.modules, self.tensors = [], []

    def put_back(self) -> None:
        for module, training, parameters, buffers in self.modules:
            module.training = training
            _refill(module._parameters, parameters)
            _refill(module._buffers, buffers)
        for tensor, (place, values), requires_grad, (gradient, slope) in self.tensors:
            place.copy_(values)
            # the very place, which other names may look at, too
            tensor.data = place
            tensor.requires_grad = requires_grad
            if gradient is not None:
                gradient.copy_(slope)
            if tensor.is_leaf:
                tensor.grad = gradient


def _refill(own: dict[str, Any], then: dict[str, Any]) -> None:
    own.clear()
    own.update(then)


def _kept(tensor: Tensor | None) -> tuple[Any, Any]:
    """Where its values are, and what they are."""
    return (None, None) if tensor is None else (tensor.data, tensor.data.clone())


def _gradient(tensor: Tensor) -> Tensor | None:
    return tensor.grad if tensor.is_leaf else None


@contextmanager
def all_or_nothing(model: nn.Module) -> Iterator[_Before]:
    """An error leaves the network as it was, until what it was is forgotten."""
    before = _Before(model)
    try:
        yield before
    except BaseException:
        with torch.no_grad():
            before.put_back()
        raise
