"""The exercises of lab 07, and the mistakes that their checks know."""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from utils.exercises import Case, Exercise, WrongAnswer, close
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
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, norm.running_var


# ------------------------------------------------------------------------------ ticket


def check_ticket(answer: Callable) -> None:
    """Typical mistakes: the model changed, trained weights or biases kept, the mask
    forgotten, shared memory."""
    model, first = network(start=1.5), network(start=1.0).state_dict()
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
    if not same_numbers(model.state_dict(), trained):
        raise WrongAnswer(
            "it has changed the model: its weight [0, 0] was"
            f" {trained['0.weight'][0, 0]:g} and is now"
            f" {model.state_dict()['0.weight'][0, 0]:g}. Make a deep copy first, and"
            " change only that."
        )
    if not same_numbers(first, given):
        raise WrongAnswer(
            "it has changed `first_weights`, which the next round needs. Mask the copy,"
            " not these."
        )
    if not same_numbers(masks, kept):
        raise WrongAnswer("it has changed `masks`. Only look at them.")
    check_weights(got.state_dict(), trained, given, masks)
    if not all(parameter.requires_grad for parameter in got.parameters()):
        raise WrongAnswer(
            "the weights of its network are frozen (`requires_grad` is False), so the"
            " ticket could not be trained."
        )
    check_memory(got, {"`first_weights`": first, "the model": model.state_dict()})


def check_memory(got: nn.Module, others: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Training the ticket must change nothing else."""
    before = copy.deepcopy(others)
    with torch.no_grad():
        for parameter in got.parameters():
            parameter.fill_(77.0)
    for name, state in others.items():
        if not same_numbers(state, before[name]):
            raise WrongAnswer(
                f"its result shares memory with {name}: training the ticket would"
                " change that too. Copy the numbers (`load_state_dict`, `copy_`,"
                " `clone`)."
            )


def network(start: float) -> nn.Module:
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


def same_numbers(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in b)


def masked_state(
    state: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    return {
        name: tensor * masks[name] if name in masks else tensor
        for name, tensor in state.items()
    }


def check_weights(
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
    right = masked_state(first, masks)
    weights_right = all(torch.equal(got[name], right[name]) for name in masks)
    reasons = [
        (
            same_numbers(got, trained),
            (
                "it is a plain copy: weight [0, 0] is 1.5, as trained; its first value"
                " was 1"
            ),
        ),
        (
            same_numbers(got, masked_state(trained, masks)),
            (
                "the zeros are there, but what is left is the trained weights: [0, 0]"
                " is 1.5, its first value was 1"
            ),
        ),
        (
            same_numbers(got, first),
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


def rewound(model: nn.Module, first: Mapping[str, Tensor]) -> nn.Module:
    """A copy with its first weights."""
    result = copy.deepcopy(model)
    result.load_state_dict(first)
    return result


def masked(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    apply_masks(model, masks)
    return model


def loses_the_model(model: nn.Module, first: Mapping, masks: Mapping) -> nn.Module:
    model.load_state_dict(first)
    return masked(model, masks)


def shallow_copy(model: nn.Module, first: Mapping, masks: Mapping) -> nn.Module:
    return loses_the_model(copy.copy(model), first, masks)


def first_weights_masked(model: nn.Module, first: Mapping, masks: Mapping) -> nn.Module:
    for name, mask in masks.items():
        first[name].mul_(mask)
    return rewound(model, first)


def masks_inverted(model: nn.Module, first: Mapping, masks: Mapping) -> nn.Module:
    result = ticket(model, first, masks)
    for mask in masks.values():
        mask.logical_not_()
    return result


def biases_kept(model: nn.Module, first: Mapping, masks: Mapping) -> nn.Module:
    weights = {name: first[name] for name in masks}
    return ticket(model, {**model.state_dict(), **weights}, masks)


def biases_zeroed(model: nn.Module, first: Mapping, masks: Mapping) -> nn.Module:
    return ticket(
        model, {name: each * (name in masks) for name, each in first.items()}, masks
    )


def biases_shared(model: nn.Module, first: Mapping, masks: Mapping) -> nn.Module:
    result = ticket(model, first, masks)
    for name, parameter in result.named_parameters():
        if name not in masks:
            parameter.data = first[name]
    return result


def frozen(model: nn.Module, first: Mapping, masks: Mapping) -> nn.Module:
    return ticket(model, first, masks).requires_grad_(False)


TICKET_MISTAKES = {
    "the weights of its network are frozen": frozen,
    "it returns the model itself, not a copy": loses_the_model,
    "it has changed the model: its weight [0, 0] was 1.5 and is now 1": shallow_copy,
    "it is a plain copy": lambda model, first, masks: copy.deepcopy(model),
    "what is left is the trained weights": (
        lambda model, first, masks: masked(copy.deepcopy(model), masks)
    ),
    "where the mask is False, is 2 and not 0": (
        lambda model, first, masks: rewound(model, first)
    ),
    "and [0, 1], which it prunes, is 2. True means kept": (
        lambda model, first, masks: ticket(
            model, first, {name: ~mask for name, mask in masks.items()}
        )
    ),
    "the biases are still the trained ones": biases_kept,
    "0.bias is [0.0, 0.0]; it must be [11.0, 12.0]": biases_zeroed,
    "it has changed `first_weights`, which the next round needs": first_weights_masked,
    "it has changed `masks`. Only look at them": masks_inverted,
    "its result shares memory with `first_weights`": biases_shared,
    "its network has weight, bias; it must be a copy of the model": (
        lambda model, first, masks: nn.Linear(3, 2)
    ),
    "it returns dict; it must return a network": (
        lambda model, first, masks: masked_state(first, masks)
    ),
}

# ------------------------------------------------------------------- channel_statistics

DIMS = (0, 2, 3)


def activations(number: int, *shape: int) -> Case:
    generator = torch.Generator().manual_seed(number)
    noise = torch.randn(shape, generator=generator) + torch.randn(
        shape[0], 1, 1, 1, generator=generator
    )
    spread, middle = (
        torch.linspace(*ends, shape[1]).view(-1, 1, 1) for ends in ((0.5, 3), (-2, 5))
    )
    return Case(f"for activations {list(shape)}", (spread * noise + middle,))


def same_statistics(got: object, wanted: object, given: Tensor) -> bool:
    """Whether they are the same; a variance may be divided by n, as BatchNorm computes
    with it, or by n - 1, as it stores it."""
    if not isinstance(got, (tuple, list)) or not isinstance(wanted, (tuple, list)):
        return False
    if len(got) != 2:
        return False
    try:  # an array or a list is as good
        got = [torch.as_tensor(part, dtype=torch.float32) for part in got]
    except (TypeError, ValueError):
        return False
    n = given[:, 0].numel()
    either = (1.0, n / (n - 1), (n - 1) / n)
    return close(got[0], wanted[0]) and any(
        wanted[1] is ... or close(got[1] * factor, wanted[1]) for factor in either
    )


def reduced(*dims: int, **options: bool) -> Callable:
    """Mean and variance over other dimensions."""
    return lambda a: (a.mean(dim=dims, **options), a.var(dim=dims, **options))


def with_variance(variance: Callable[[Tensor], Tensor]) -> Callable:
    return lambda a: (a.mean(dim=DIMS), variance(a))


STATISTICS_MISTAKES = {
    "mean and variance are swapped: the mean comes first (`torch.var_mean` gives"
    " it last)": (
        lambda a: torch.var_mean(a, dim=DIMS),
        lambda a: torch.var_mean(a, dim=DIMS, correction=0),
    ),
    "that is one number for all channels together": lambda a: (a.mean(), a.var()),
    "that is over the pictures only; a channel's positions count too": reduced(0),
    "that is one number a *picture*; dimension 0 is the pictures, dimension 1 the"
    " channels": (reduced(1, 2, 3)),
    "that is for each picture by itself; take all pictures together": reduced(2, 3),
    "that is with the other dimensions kept; leave out `keepdim`": (
        reduced(*DIMS, keepdim=True)
    ),
    "that is over other dimensions than 0, 2 and 3": reduced(0, 1, 3),
    "that is the standard deviation; the variance is its square": (
        with_variance(lambda a: a.std(dim=DIMS)),
        with_variance(lambda a: a.std(dim=DIMS, unbiased=False)),
        with_variance(lambda a: a.std(dim=(2, 3)).mean(dim=0)),
        with_variance(lambda a: a.std(dim=0).mean(dim=(1, 2))),
    ),
    "that is a mean of variances, each of a part of the numbers; it leaves out how"
    " the parts differ": (
        with_variance(lambda a: a.var(dim=(2, 3)).mean(dim=0)),
        with_variance(lambda a: a.var(dim=(2, 3), unbiased=False).mean(dim=0)),
        with_variance(lambda a: a.var(dim=0).mean(dim=(1, 2))),
        with_variance(lambda a: a.var(dim=0, unbiased=False).mean(dim=(1, 2))),
    ),
    "that is the mean of the squares; the mean must be subtracted first": (
        with_variance(lambda a: (a**2).mean(dim=DIMS))
    ),
    "that is the sum of the squares; divide by their number": (
        with_variance(lambda a: a.var(dim=DIMS, unbiased=False) * a[:, 0].numel())
    ),
    "that is the variance twice; the mean comes first": lambda a: (
        (a.var(dim=DIMS),) * 2
    ),
}

EXERCISES = [
    Exercise(
        ticket,
        "lessons/07_recovery/exercises.py (masks: utils.masks.apply_masks)",
        mistakes=TICKET_MISTAKES,
        more=check_ticket,
        watch=False,
        also_right={
            "masked_fill": """
                def ticket(model, first_weights, masks):
                    import copy
                    result = copy.deepcopy(model)
                    result.load_state_dict(first_weights)
                    with torch.no_grad():
                        for name, parameter in result.named_parameters():
                            if name in masks:
                                parameter.masked_fill_(~masks[name], 0)
                    return result
            """,
            "masked state": """
                def ticket(model, first_weights, masks):
                    import copy

                    state = {
                        name: tensor * masks[name] if name in masks else tensor
                        for name, tensor in first_weights.items()
                    }
                    result = copy.deepcopy(model)
                    result.load_state_dict(state)
                    return result
            """,
            "apply_masks": """
                def ticket(model, first_weights, masks):
                    from copy import deepcopy
                    from utils.masks import apply_masks
                    twin = deepcopy(model)
                    twin.load_state_dict(deepcopy(first_weights))
                    apply_masks(twin, masks)
                    return twin
            """,
            "parameters": """
                def ticket(model, first_weights, masks):
                    import copy
                    result = copy.deepcopy(model)
                    for name, parameter in result.named_parameters():
                        parameter.data = first_weights[name].clone()
                        if name in masks:
                            parameter.data[~masks[name]] = 0
                    return result
            """,
        },
    ),
    Exercise(
        channel_statistics,
        "utils/training.py (reestimate_batchnorm)",
        asked=(
            "`return mean, variance`, over all pictures and positions, one number a"
            " channel"
        ),
        cases=[
            activations(0, 4, 3, 5, 2),
            activations(1, 2, 6, 3, 3),
            activations(2, 50, 2, 1, 2),
        ],
        mistakes=STATISTICS_MISTAKES,
        same=same_statistics,
        also_right={
            "unbiased": """
                def channel_statistics(activations):
                    return activations.mean(dim=(0, 2, 3)), activations.var(
                        dim=(0, 2, 3)
                    )
            """,
            "var_mean": """
                def channel_statistics(activations):
                    variance, mean = torch.var_mean(
                        activations, dim=(0, 2, 3), correction=0
                    )
                    return mean, variance
            """,
            "flattened": """
                def channel_statistics(activations):
                    rows = activations.transpose(0, 1).flatten(1)
                    return [rows.mean(1), rows.std(1) ** 2]
            """,
            "squares": """
                def channel_statistics(activations):
                    mean = activations.mean((0, 2, 3))
                    return mean, (activations**2).mean((0, 2, 3)) - mean**2
            """,
            "loop": """
                def channel_statistics(activations):
                    channels = [
                        activations[:, c].double() for c in range(activations.shape[1])
                    ]
                    mean = torch.stack([channel.mean() for channel in channels])
                    return mean, torch.stack(
                        [((c - m) ** 2).mean() for c, m in zip(channels, mean)]
                    )
            """,
            "BatchNorm": """
                def channel_statistics(activations):
                    norm = torch.nn.BatchNorm2d(activations.shape[1], momentum=1.0)
                    norm(activations)
                    return norm.running_mean, norm.running_var
            """,
            "arrays": """
                def channel_statistics(activations):
                    values = activations.numpy()
                    return values.mean(axis=(0, 2, 3)), values.var(axis=(0, 2, 3))
            """,
            "numpy": """
                def channel_statistics(activations):
                    values = activations.numpy()
                    return torch.from_numpy(
                        values.mean(axis=(0, 2, 3))
                    ), torch.from_numpy(values.var(axis=(0, 2, 3)))
            """,
        },
    ),
]
