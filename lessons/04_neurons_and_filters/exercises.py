"""The exercises of lab 04, their checks and the mistakes that are told apart."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from utils.exercises import Exercise, WrongAnswer
from utils.surgery import remove_units


def remove_neurons(
    first: nn.Linear, second: nn.Linear, keep: Tensor
) -> tuple[nn.Linear, nn.Linear]:
    """Two smaller layers: `first` without the rows (and biases) where `keep` is False,
    `second` without those columns.

    New layers; the old ones stay as they are.
    """
    example = torch.zeros(
        1, first.in_features, dtype=first.weight.dtype, device=first.weight.device
    )
    smaller = remove_units(nn.Sequential(first, second), example, {"0.weight": keep})
    return smaller[0], smaller[1]


def leaves_with_a_filter(kernel: int, inputs: int, next_outputs: int) -> int:
    """How many numbers leave with one filter of a convolution without bias, followed by
    BatchNorm and another
    convolution of `next_outputs` filters: its weights, four numbers of BatchNorm, one
        input of each next filter."""
    return kernel**2 * inputs + 4 + kernel**2 * next_outputs


def check_remove_neurons(answer: Callable) -> None:
    """Typical mistakes: biases or columns left, rows cut instead of columns, zeros,
    fresh random layers, old layers changed, sizes not updated."""
    _check_cut(
        answer,
        _linear(4, 3, start=1),
        _linear(4, 4, start=21),
        [True, False, True, True],
    )
    _check_cut(
        answer,
        _linear(5, 2, start=1),
        _linear(3, 5, start=41),
        [False, True, True, False, True],
    )


def _linear(outputs: int, inputs: int, start: int) -> nn.Linear:
    """A layer whose weights and biases count up from `start`. Draws no random
    numbers."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    numbers = torch.arange(start, start + outputs * (inputs + 1), dtype=torch.float32)
    with torch.no_grad():
        layer.weight.copy_(numbers[: outputs * inputs].view(outputs, inputs))
        layer.bias.copy_(numbers[outputs * inputs :])
    return layer


def _check_cut(
    answer: Callable, first: nn.Linear, second: nn.Linear, keep: list[bool]
) -> None:
    old_first, old_second = copy.deepcopy(first), copy.deepcopy(second)
    mask = torch.tensor(keep)
    got = answer(first, second, mask)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    pair = isinstance(got, (tuple, list)) and len(got) == 2
    if not pair or not all(isinstance(layer, nn.Linear) for layer in got):
        names = (
            [type(part).__name__ for part in got]
            if isinstance(got, (tuple, list))
            else type(got).__name__
        )
        raise WrongAnswer(
            f"it returns {names}; it must return two nn.Linear, the new first and the"
            " new second layer."
        )
    if mask.tolist() != keep:
        raise WrongAnswer("it has changed `keep`. Only look at it.")
    for name, layer, old in (
        ("first", first, old_first),
        ("second", second, old_second),
    ):
        if layer.weight.shape != old.weight.shape:
            raise WrongAnswer(
                f"it has changed the old layer: the weight of `{name}` was"
                f" {list(old.weight.shape)} and is now {list(layer.weight.shape)}. Make"
                " a new layer; the old network must still work."
            )
        if (
            not _equal(layer.weight, old.weight)
            or not _equal(layer.bias, old.bias)
            or str(layer) != str(old)
        ):
            raise WrongAnswer(
                f"after the call the old `{name}` has other numbers than before. Change"
                " only new layers."
            )
    _check_new_first(got[0], old_first, mask)
    _check_new_second(got[1], old_second, mask)
    for name, new, old in (("first", got[0], first), ("second", got[1], second)):
        for part in ("weight", "bias"):
            if getattr(new, part).data_ptr() == getattr(old, part).data_ptr():
                raise WrongAnswer(
                    f"the {part} of the new {name} layer is the old one itself, not a"
                    " copy: training the smaller network would change the old one too."
                    " Use `.clone()`."
                )


def _check_new_first(new: nn.Linear, old: nn.Linear, keep: Tensor) -> None:
    kept, gone, shape = (
        int(keep.sum()),
        (~keep).nonzero().flatten().tolist(),
        list(new.weight.shape),
    )
    right = [kept, old.in_features]
    if _equal(new.weight, old.weight[~keep]):
        raise WrongAnswer(
            f"for keep = {keep.tolist()} the new first layer has what should go, row"
            f" {gone[0]}. True means kept."
        )
    if new.weight.shape == old.weight.shape:
        if (new.weight[~keep] == 0).all():
            raise WrongAnswer(
                f"row {gone[0]} of the first layer is zero, but still there: the weight"
                f" is {shape}. A zero takes as long to multiply as any number. Removed"
                f" means {right}."
            )
        raise WrongAnswer(
            f"the new first layer still has all {shape[0]} rows; {kept} neurons stay,"
            f" so {right}."
        )
    if shape != right:
        raise WrongAnswer(
            f"the weight of the new first layer is {shape}; it must be {right}. Each"
            " *row* of a weight is one neuron."
        )
    if new.bias is None or len(new.bias) != kept:
        count = "no biases" if new.bias is None else f"{len(new.bias)} biases"
        raise WrongAnswer(
            f"the new first layer has {kept} neurons and {count}. A neuron takes its"
            " own bias with it."
        )
    if not _equal(new.weight, old.weight[keep]):
        row = int((new.weight != old.weight[keep]).any(dim=1).nonzero()[0])
        raise WrongAnswer(
            "the weights of the new first layer are not those of the neurons kept: its"
            f" row {row} must be {old.weight[keep][row].tolist()}. A new nn.Linear"
            " starts with random numbers; copy the old ones into it."
        )
    if not _equal(new.bias, old.bias[keep]):
        raise WrongAnswer(
            f"the biases of the new first layer must be {old.bias[keep].tolist()}, as"
            " in the old one."
        )
    _check_sizes(new, "first")


def _check_new_second(new: nn.Linear, old: nn.Linear, keep: Tensor) -> None:
    kept, shape = int(keep.sum()), list(new.weight.shape)
    right = [old.out_features, kept]
    if new.weight.shape == old.weight.shape:
        if (new.weight[:, ~keep] == 0).all():
            raise WrongAnswer(
                "the columns of the second layer are zero, but still there: its weight"
                f" is {shape}. It would go on reading {len(keep)} inputs, and gets"
                f" {kept}."
            )
        raise WrongAnswer(
            f"the new second layer still reads {len(keep)} inputs, but only {kept}"
            f" neurons are left to give them. Cut its columns: {right}."
        )
    if shape == [kept, old.in_features]:
        raise WrongAnswer(
            "it cuts the *rows* of the second layer, its own neurons: the weight is"
            f" {shape}. What it no longer gets are inputs, its *columns*: {right}."
        )
    if shape != right:
        raise WrongAnswer(
            f"the weight of the new second layer is {shape}; it must be {right}."
        )
    if not _equal(new.weight, old.weight[:, keep]):
        row = int((new.weight != old.weight[:, keep]).any(dim=1).nonzero()[0])
        raise WrongAnswer(
            "the weights of the new second layer are not the columns kept: its row"
            f" {row} must be {old.weight[row, keep].tolist()}."
        )
    if new.bias is None or not _equal(new.bias, old.bias):
        raise WrongAnswer(
            f"the new second layer has lost its biases, {old.bias.tolist()}. It loses"
            " inputs, not neurons: its biases all stay."
        )
    _check_sizes(new, "second")


def _check_sizes(new: nn.Linear, name: str) -> None:
    if [new.out_features, new.in_features] != list(new.weight.shape):
        raise WrongAnswer(
            f"the new {name} layer says in_features={new.in_features},"
            f" out_features={new.out_features}, but its weight is"
            f" {list(new.weight.shape)}. Make an nn.Linear of the new size, or set"
            " these two as well."
        )


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.detach().float(), b.detach().float())


def check_leaves_with_a_filter(answer: Callable) -> None:
    """Typical mistakes: the next layer or BatchNorm forgotten, two numbers for
    BatchNorm, one weight a next filter."""
    got = answer(kernel=3, inputs=64, next_outputs=128)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if getattr(got, "ndim", 0) or isinstance(got, (list, tuple)):
        raise WrongAnswer(
            f"it returns several numbers, {got}; return their sum, 1,732."
        )
    every_weight = (
        "every next filter keeps its weights for the other channels; only 3 x 3 of each"
        " leave"
    )
    reasons = {
        576: (
            "that is the filter alone. Its BatchNorm channel goes too, and so does what"
            " the next layer reads from it"
        ),
        580: (
            "that is the filter and its BatchNorm; each of the 128 next filters also"
            " had 3 x 3 weights for its output"
        ),
        1728: "BatchNorm is missing: 4 numbers a channel",
        1730: (
            "BatchNorm has 4 numbers a channel, not 2: the running mean and variance"
            " are stored too"
        ),
        1733: (
            "that is one too many. The convolution has no bias; BatchNorm has 4 numbers"
            " a channel"
        ),
        576 + 4 + 128: (
            "each of the 128 next filters has 3 x 3 weights for this channel, not one"
        ),
        9 * 64 * 128: every_weight,
        576 + 9 * 64 * 128: every_weight,
        580 + 9 * 64 * 128: every_weight,
    }
    # 3 * 64 + 4 + 3 * 128 = 580 too
    if got == 580 and answer(kernel=5, inputs=2, next_outputs=3) == 5 * 2 + 4 + 5 * 3:
        reasons[580] = "a kernel of 3 has 3 x 3 = 9 positions"
    if got in reasons:
        raise WrongAnswer(
            "for a 3 x 3 filter with 64 inputs and 128 next filters it returns"
            f" {got:,}: {reasons[got]}."
        )
    if got != 1732:
        raise WrongAnswer(
            f"for a 3 x 3 filter with 64 inputs and 128 next filters it returns {got};"
            " it must be 1,732 = 9 * 64 (its weights) + 4 (BatchNorm) + 9 * 128 (one"
            " input of each next filter)."
        )
    got = answer(kernel=5, inputs=2, next_outputs=3)
    if got != 129:
        raise WrongAnswer(
            f"for a 5 x 5 filter with 2 inputs and 3 next filters it returns {got}; it"
            " must be 129."
        )


EXERCISES = [
    Exercise(
        remove_neurons, "utils/surgery.py (remove_units)", more=check_remove_neurons
    ),
    Exercise(
        leaves_with_a_filter,
        "lessons/04_neurons_and_filters/exercises.py",
        more=check_leaves_with_a_filter,
    ),
]
