"""The exercises of lab 07, their checks and the mistakes that are told apart."""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from utils.exercises import Exercise, WrongAnswer
from utils.masks import apply_masks
from utils.training import reestimate_batchnorm


def ticket(
    model: nn.Module, first_weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> nn.Module:
    """A copy of the model with its first weights (a state_dict) again, and zeros where
    the masks are False."""
    result = copy.deepcopy(model)
    result.load_state_dict(first_weights)
    apply_masks(result, masks)
    return result


def channel_statistics(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of `[pictures, channels, height, width]`, both
    `[channels]`."""
    norm = nn.BatchNorm2d(activations.shape[1])
    reestimate_batchnorm(norm, [(activations, torch.empty(0))])
    return norm.running_mean, norm.running_var


def check_ticket(answer: Callable) -> None:
    """Typical mistakes: the model changed, trained weights or biases kept, the mask
    forgotten, shared memory."""
    model, first = _network(start=1.5), _network(start=1.0).state_dict()
    masks = {
        "0.weight": torch.tensor([[True, False, True], [False, True, True]]),
        "2.weight": torch.tensor([[True, True], [False, True]]),
    }
    trained, given, kept = copy.deepcopy((model.state_dict(), first, masks))
    got = answer(model, first, masks)
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, nn.Module):
        raise WrongAnswer(
            f"it returns {type(got).__name__}; it must return a network, an nn.Module."
        )
    if got is model:
        raise WrongAnswer(
            "it returns the model itself, not a copy: the trained weights are lost."
            " `copy.deepcopy` first."
        )
    if not _same(model.state_dict(), trained):
        raise WrongAnswer(
            "it has changed the model: its weight [0, 0] was"
            f" {trained['0.weight'][0, 0]:g} and is now"
            f" {model.state_dict()['0.weight'][0, 0]:g}. Make a deep copy first, and"
            " change only that."
        )
    if not _same(first, given):
        raise WrongAnswer(
            "it has changed `first_weights`, which the next round needs. Mask the copy,"
            " not these."
        )
    if not _same(masks, kept):
        raise WrongAnswer("it has changed `masks`. Only look at them.")
    _check_weights(got.state_dict(), trained, given, masks)
    with torch.no_grad():
        for parameter in got.parameters():
            parameter.fill_(77.0)
    for name, state, old in (
        ("`first_weights`", first, given),
        ("the model", model.state_dict(), trained),
    ):
        if not _same(state, old):
            raise WrongAnswer(
                f"its result shares memory with {name}: training the ticket would"
                " change that too. Copy the numbers (`load_state_dict`, `copy_`,"
                " `clone`)."
            )


def _network(start: float) -> nn.Module:
    """A small network whose weights and biases count up from `start`. Draws no random
    numbers."""
    skip = nn.utils.skip_init
    model = nn.Sequential(skip(nn.Linear, 3, 2), nn.ReLU(), skip(nn.Linear, 2, 2))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(
                start + 10 * number + torch.arange(parameter.numel()).view_as(parameter)
            )
    return model


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in b)


def _masked(
    state: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    return {
        name: tensor * masks[name] if name in masks else tensor
        for name, tensor in state.items()
    }


def _check_weights(
    got: Mapping[str, Tensor],
    trained: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
) -> None:
    if {name: tensor.shape for name, tensor in got.items()} != {
        name: tensor.shape for name, tensor in first.items()
    }:
        raise WrongAnswer(
            f"its network has {', '.join(got)}; it must be a copy of the model,"
            f" {', '.join(first)}."
        )
    right = _masked(first, masks)
    weights_right = all(torch.equal(got[name], right[name]) for name in masks)
    reasons = [
        (
            _same(got, trained),
            (
                "it is a plain copy: weight [0, 0] is 1.5, as trained; its first value"
                " was 1"
            ),
        ),
        (
            _same(got, _masked(trained, masks)),
            (
                "the zeros are there, but what is left is the trained weights: [0, 0]"
                " is 1.5, its first value was 1"
            ),
        ),
        (
            _same(got, first),
            (
                "the first weights are back, but weight [0, 1], where the mask is"
                " False, is 2 and not 0"
            ),
        ),
        (
            all(
                torch.equal(got[name], first[name] * ~mask)
                for name, mask in masks.items()
            ),
            (
                "weight [0, 0], which the mask keeps, is 0, and [0, 1], which it"
                " prunes, is 2. True means kept"
            ),
        ),
        (
            weights_right and torch.equal(got["0.bias"], trained["0.bias"]),
            (
                "the biases are still the trained ones: 0.bias [0] is 11.5, its first"
                " value was 11. `first_weights` holds them too"
            ),
        ),
    ]
    for wrong, reason in reasons:
        if wrong:
            raise WrongAnswer(f"{reason}.")
    for name, tensor in right.items():
        if not torch.equal(got[name], tensor):
            raise WrongAnswer(
                f"{name} is {got[name].tolist()}; it must be {tensor.tolist()}."
            )


def check_channel_statistics(answer: Callable) -> None:
    """Typical mistakes: over the pictures only, one number, standard deviation, the
    wrong axes, the order swapped."""
    for number, shape in enumerate(((4, 3, 5, 2), (2, 6, 3, 3), (50, 2, 1, 2))):
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(shape, generator=generator) + torch.randn(
            shape[0], 1, 1, 1, generator=generator
        )
        spread, middle = (
            torch.linspace(*ends, shape[1]).view(-1, 1, 1)
            for ends in ((0.5, 3), (-2, 5))
        )
        activations = spread * noise + middle
        before = activations.clone()
        got = answer(activations)
        if got is None:
            raise WrongAnswer("it returns None. Is a `return` missing?")
        if (
            not isinstance(got, (tuple, list))
            or len(got) != 2
            or not all(isinstance(part, Tensor) for part in got)
        ):
            raise WrongAnswer(
                f"it returns {type(got).__name__}; return two tensors: `return mean,"
                " variance`."
            )
        if not torch.equal(activations, before):
            raise WrongAnswer(
                "it has changed the activations themselves. Only look at them."
            )
        _check_shapes(*got, shape)
        _check_statistics(*got, activations.double())


def _check_shapes(mean: Tensor, variance: Tensor, shape: tuple[int, ...]) -> None:
    pictures, channels, height, width = shape
    reasons = {
        (): "one number for all channels together",
        (
            channels,
            height,
            width,
        ): "over the pictures only; a channel's positions count too",
        (pictures,): (
            "one number a *picture*; dimension 0 is the pictures, dimension 1 the"
            " channels"
        ),
        (pictures, channels): "for each picture by itself; take all pictures together",
        (1, channels, 1, 1): "with the other dimensions kept; leave out `keepdim`",
    }
    for name, part in (("mean", mean), ("variance", variance)):
        if part.shape != (channels,):
            reason = reasons.get(
                tuple(part.shape), "over other dimensions than 0, 2 and 3"
            )
            raise WrongAnswer(
                f"for activations {list(shape)} the {name} has shape"
                f" {list(part.shape)}: {reason}. It must be [{channels}], one number a"
                " channel."
            )


def _check_statistics(mean: Tensor, variance: Tensor, activations: Tensor) -> None:
    dims = (0, 2, 3)
    right_mean, biased = (
        activations.mean(dim=dims),
        activations.var(dim=dims, unbiased=False),
    )
    # either: BatchNorm divides by n as it computes, by n - 1 as it stores
    right = (biased, activations.var(dim=dims))

    def close(a: Tensor, *choices: Tensor) -> bool:
        return any(
            torch.allclose(a.detach().double(), b, rtol=1e-3, atol=1e-4)
            for b in choices
        )

    if close(mean, *right) and close(variance, right_mean):
        raise WrongAnswer(
            "mean and variance are swapped: the mean comes first (`torch.var_mean`"
            " gives it last)."
        )
    if not close(mean, right_mean):
        raise WrongAnswer(
            f"for channel 0 the mean is {mean[0]:.3f}; it must be {right_mean[0]:.3f},"
            " over all pictures and positions."
        )
    if close(variance, *right):
        return
    cuts = [
        (d, mean_of, u)
        for d, mean_of in (((2, 3), 0), (0, (1, 2)))
        for u in (True, False)
    ]
    parts = [
        activations.var(dim=d, unbiased=u).mean(dim=mean_of) for d, mean_of, u in cuts
    ]
    deviations = [
        activations.std(dim=d, unbiased=u).mean(dim=mean_of) for d, mean_of, u in cuts
    ]
    deviations += [value.sqrt() for value in right]
    reasons = [
        (deviations, "that is the standard deviation; the variance is its square"),
        (
            parts,
            (
                "that is a mean of variances, each of a part of the numbers; it leaves"
                " out how the parts differ"
            ),
        ),
        (
            [(activations**2).mean(dim=dims)],
            "that is the mean of the squares; the mean must be subtracted first",
        ),
        (
            [biased * activations[:, 0].numel()],
            "that is the sum of the squares; divide by their number",
        ),
    ]
    for choices, reason in reasons:
        if close(variance, *choices):
            raise WrongAnswer(
                f"for channel 0 the variance is {variance[0]:.3f}, and {biased[0]:.3f}"
                f" would be right: {reason}."
            )
    raise WrongAnswer(
        f"for channel 0 the variance is {variance[0]:.3f}; it must be {biased[0]:.3f}."
    )


EXERCISES = [
    Exercise(
        ticket,
        "lessons/07_recovery/exercises.py (masks: utils.masks.apply_masks)",
        more=check_ticket,
    ),
    Exercise(
        channel_statistics,
        "utils/training.py (reestimate_batchnorm)",
        more=check_channel_statistics,
    ),
]
