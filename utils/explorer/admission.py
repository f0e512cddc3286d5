"""What the explorer needs of a learner's network and data, asked before anything is
computed: what cannot work is refused in words, nothing half-way."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from utils import data
from utils.explorer.state import NO_ANSWER
from utils.layers import answer, copied, prunable

CLASSES = NO_ANSWER  # at most: each has a byte, and one is for NaN
TYPES = (torch.float32, torch.float64)


@contextmanager
def refusing(model: nn.Module, what: str) -> Iterator[None]:
    """For a while, an error that is not in the course's words becomes a ValueError that
    says what the network cannot do."""
    try:
        yield
    except Exception as error:
        if type(error) is ValueError:
            raise
        raise ValueError(
            f"model ({type(model).__name__}) cannot be {what}: {type(error).__name__}:"
            f" {error}"
        ) from error


def admitted(model: nn.Module, splits: data.Data) -> nn.Module:
    """A copy of a learner's network, in eval mode.

    Raises:
        ValueError: nothing that can be pruned, weights of a kind that cannot be
            computed with or not that of the pictures, or no copy can be made.
    """
    weights = prunable(model)
    for name, weight in weights.items():
        if weight.dtype not in TYPES or weight.device.type != "cpu":
            raise ValueError(
                f"{name} is {weight.dtype} on {weight.device}; the explorer takes"
                " float32 or float64 weights on the CPU: model.float().cpu()."
            )
    if not any(weight.numel() for weight in weights.values()):
        raise ValueError(f"model ({type(model).__name__}) has only empty layers.")
    of_weights = {weight.dtype for weight in weights.values()}
    if not of_weights & {splits.validation.images.dtype}:
        raise ValueError(
            f"model has {next(iter(weights.values())).dtype} weights, and the pictures"
            f" are {splits.validation.images.dtype}; give model.float(), or data of the"
            " same type."
        )
    # what torch.compile wraps; else each pruned copy would be compiled anew
    inner = getattr(model, "_orig_mod", model)
    return copied(inner).eval()


def check_data(own: data.Data) -> None:
    """Check data of the learner's own.

    Raises:
        ValueError: what is no Data, has no pictures, or pictures or labels of another
            kind than `[n, channels, height, width]` and class numbers `[n]`.
    """
    for part in ("train", "validation"):
        split = getattr(own, part, None)
        if not isinstance(split, data.Split):
            raise ValueError(
                f"data has no {part!r}; give utils.data.Data(train, validation, test)"
                " of Splits."
            )
        images, labels = split.images, split.labels
        if (
            not len(split)
            or len(images) != len(labels)
            or not images.is_floating_point()
        ):
            raise ValueError(
                f"data.{part} has {len(images)} {images.dtype} pictures and"
                f" {len(labels)} labels; give equally many of both, at least one,"
                " the pictures as float32."
            )
        if (
            images.dim() != 4
            or labels.dim() != 1
            or labels.dtype != torch.int64
            or int(labels.min()) < 0
        ):
            raise ValueError(
                f"data.{part} has pictures of shape {list(images.shape)} and"
                f" {labels.dtype} labels of shape {list(labels.shape)}, from"
                f" {labels.min()}; give pictures [n, channels, height, width] and class"
                " numbers 0, 1, ... [n], torch.int64."
            )
        if not images.isfinite().all():
            raise ValueError(
                f"data.{part} has pictures with NaN or infinity; give finite numbers."
            )
    if own.train.images.dtype != own.validation.images.dtype:
        raise ValueError(
            f"data.train has {own.train.images.dtype} pictures, data.validation"
            f" {own.validation.images.dtype}; give one type."
        )


def check_answers(model: nn.Module, splits: data.Data) -> int:
    """Check that the network, in eval mode, takes a picture of each split and knows all
    classes; the number of its outputs.

    Raises:
        ValueError: it does not, or it puts out NaN or infinity.
    """
    outputs = _outputs(model, splits.validation, "a picture")
    if _outputs(model, splits.train, "a training picture") != outputs:
        raise ValueError(
            f"model has {outputs} outputs for a picture of data.validation, and another"
            " number for one of data.train."
        )
    if outputs > CLASSES:
        raise ValueError(
            f"model has {outputs} outputs; the explorer takes at most {CLASSES}"
            " classes."
        )
    highest = max(int(splits.train.labels.max()), int(splits.validation.labels.max()))
    if highest >= outputs:
        raise ValueError(
            f"data has a class number {highest}, but model has {outputs} outputs."
        )
    return outputs


def _outputs(model: nn.Module, split: data.Split, what: str) -> int:
    """How many outputs the network has for the first picture."""
    with torch.no_grad():
        outputs = answer(model, split.images[:1], f"{what} of shape")
    is_tensor = isinstance(outputs, Tensor) and not outputs.is_complex()
    if not is_tensor or outputs.dim() != 2 or len(outputs) != 1:
        found = list(outputs.shape) if is_tensor else type(outputs).__name__
        raise ValueError(
            "model must put out [pictures, classes], real numbers; for one picture it"
            f" put out {found}."
        )
    # minus infinity is the logarithm of a probability of 0
    if outputs.isnan().any() or outputs.isposinf().any():
        raise ValueError(
            f"model puts out NaN or infinity for {what}; look at its weights."
        )
    return outputs.shape[1]
