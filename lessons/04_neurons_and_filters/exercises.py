"""The exercises of lab 04, and the mistakes that their checks know."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from utils.exercises import Case, Exercise, WrongAnswer, refuse_changed
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
    new = [layer for layer in smaller.children() if isinstance(layer, nn.Linear)]
    return new[0], new[1]


def leaves_with_a_filter(kernel: int, inputs: int, next_outputs: int) -> int:
    """How many numbers leave with one filter of a convolution without bias, followed by
    BatchNorm and another
    convolution of `next_outputs` filters: its weights, four numbers of BatchNorm, one
        input of each next filter."""
    return kernel**2 * inputs + 4 + kernel**2 * next_outputs


# ---------------------------------------------------------------------- remove_neurons


def check_remove_neurons(answer: Callable) -> None:
    """Typical mistakes: biases or columns left, rows cut instead of columns, zeros,
    fresh random layers, old layers changed, sizes not updated."""
    check_cut(
        answer,
        counting_layer(4, 3, start=1),
        counting_layer(4, 4, start=21),
        [True, False, True, True],
    )
    check_cut(
        answer,
        counting_layer(5, 2, start=1),
        counting_layer(3, 5, start=41),
        [False, True, True, False, True],
    )


def counting_layer(outputs: int, inputs: int, start: int) -> nn.Linear:
    """A layer whose weights and biases count up from `start`. Draws no random
    numbers."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    numbers = torch.arange(start, start + outputs * (inputs + 1), dtype=torch.float32)
    # weights [outputs, inputs], then biases
    layer.weight.data.copy_(numbers[: outputs * inputs].view(outputs, inputs))
    layer.bias.data.copy_(numbers[outputs * inputs :])
    return layer


def check_cut(
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
    refuse_changed("keep", mask, torch.tensor(keep))
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
            not equal(layer.weight, old.weight)
            or not equal(layer.bias, old.bias)
            or str(layer) != str(old)
        ):
            raise WrongAnswer(
                f"after the call the old `{name}` has other numbers than before. Change"
                " only new layers."
            )
    check_new_first(got[0], old_first, mask)
    check_new_second(got[1], old_second, mask)
    for name, new, old in (("first", got[0], first), ("second", got[1], second)):
        for part in ("weight", "bias"):
            if getattr(new, part).data_ptr() == getattr(old, part).data_ptr():
                raise WrongAnswer(
                    f"the {part} of the new {name} layer is the old one itself, not a"
                    " copy: training the smaller network would change the old one too."
                    " Use `.clone()`."
                )


def check_new_first(new: nn.Linear, old: nn.Linear, keep: Tensor) -> None:
    kept, gone, shape = (
        int(keep.sum()),
        (~keep).nonzero().flatten().tolist(),
        list(new.weight.shape),
    )
    right = [kept, old.in_features]
    if equal(new.weight, old.weight[~keep]):
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
    if not equal(new.weight, old.weight[keep]):
        row = int((new.weight != old.weight[keep]).any(dim=1).nonzero()[0])
        raise WrongAnswer(
            "the weights of the new first layer are not those of the neurons kept: its"
            f" row {row} must be {old.weight[keep][row].tolist()}. A new nn.Linear"
            " starts with random numbers; copy the old ones into it."
        )
    if not equal(new.bias, old.bias[keep]):
        raise WrongAnswer(
            f"the biases of the new first layer must be {old.bias[keep].tolist()}, as"
            " in the old one."
        )
    check_sizes(new, "first")


def check_new_second(new: nn.Linear, old: nn.Linear, keep: Tensor) -> None:
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
    if not equal(new.weight, old.weight[:, keep]):
        row = int((new.weight != old.weight[:, keep]).any(dim=1).nonzero()[0])
        raise WrongAnswer(
            "the weights of the new second layer are not the columns kept: its row"
            f" {row} must be {old.weight[row, keep].tolist()}."
        )
    if new.bias is None or len(new.bias) != len(old.bias):
        count = "no biases" if new.bias is None else f"{len(new.bias)} biases"
        raise WrongAnswer(
            f"the new second layer has {count}; it must have all {len(old.bias)}. It"
            " loses inputs, not neurons."
        )
    if not equal(new.bias, old.bias):
        raise WrongAnswer(
            f"the biases of the new second layer are {new.bias.tolist()}; they must be"
            f" the old ones, {old.bias.tolist()}. Copy them too."
        )
    check_sizes(new, "second")


def check_sizes(new: nn.Linear, name: str) -> None:
    if new.weight.dtype != torch.float32 or not new.weight.requires_grad:
        kind = "frozen" if new.weight.dtype == torch.float32 else new.weight.dtype
        raise WrongAnswer(
            f"the new {name} layer is {kind}; the old one is torch.float32 and can be"
            " trained. A new nn.Linear is, too."
        )
    if [new.out_features, new.in_features] != list(new.weight.shape):
        raise WrongAnswer(
            f"the new {name} layer says in_features={new.in_features},"
            f" out_features={new.out_features}, but its weight is"
            f" {list(new.weight.shape)}. Make an nn.Linear of the new size, or set"
            " these two as well."
        )


def equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.detach().float(), b.detach().float())


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A new layer with copies of these numbers."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.detach().clone(), bias.detach().clone()
    return layer


def new_first(first: nn.Linear, keep: Tensor | list[int]) -> nn.Linear:
    return linear(first.weight[keep], first.bias[keep])


def new_second(second: nn.Linear, keep: Tensor | list[int]) -> nn.Linear:
    return linear(second.weight[:, keep], second.bias)


def cut_in_place(first: nn.Linear, second: nn.Linear, keep: Tensor) -> tuple:
    first.weight = nn.Parameter(first.weight[keep])
    first.bias = nn.Parameter(first.bias[keep])
    second.weight = nn.Parameter(second.weight[:, keep])
    return first, second


def zeroed_in_place(first: nn.Linear, second: nn.Linear, keep: Tensor) -> tuple:
    first.weight.data[~keep] = 0
    return remove_neurons(first, second, keep)


def without_second_bias(first: nn.Linear, second: nn.Linear, keep: Tensor) -> tuple:
    new = nn.Linear(int(keep.sum()), second.out_features, bias=False)
    new.weight.data = second.weight.data[:, keep]
    return new_first(first, keep), new


def bias_shared(first: nn.Linear, second: nn.Linear, keep: Tensor) -> tuple:
    new = new_second(second, keep)
    new.bias = second.bias
    return new_first(first, keep), new


def keep_inverted(first: nn.Linear, second: nn.Linear, keep: Tensor) -> tuple:
    result = remove_neurons(first, second, keep)
    keep.logical_not_()
    return result


def for_three_kept(first: nn.Linear, second: nn.Linear, keep: Tensor) -> tuple:
    places = [*keep.nonzero().flatten()[:2].tolist(), 3]
    return new_first(first, places), new_second(second, places)


NEURON_MISTAKES = {
    "3 neurons and 4 biases": (
        lambda f, s, k: (linear(f.weight[k], f.bias), new_second(s, k))
    ),
    "3 neurons and no biases": (
        lambda f, s, k: (
            nn.Linear(f.in_features, int(k.sum()), bias=False),
            new_second(s, k),
        )
    ),
    "still reads 4 inputs": lambda f, s, k: (new_first(f, k), copy.deepcopy(s)),
    "still has all 4 rows": lambda f, s, k: (copy.deepcopy(f), new_second(s, k)),
    "it cuts the *rows* of the second": (
        lambda f, s, k: (new_first(f, k), linear(s.weight[k], s.bias[k]))
    ),
    "is [4, 2]; it must be [3, 3]": (
        lambda f, s, k: (linear(f.weight[:, :2], f.bias), new_second(s, k))
    ),
    "has what should go, row 1": lambda f, s, k: remove_neurons(f, s, ~k),
    "was [4, 3] and is now [3, 3]": cut_in_place,
    "the old `first` has other numbers": zeroed_in_place,
    "row 1 of the first layer is zero": (
        lambda f, s, k: (
            linear(f.weight * k[:, None], f.bias * k),
            linear(s.weight * k, s.bias),
        )
    ),
    "the columns of the second layer are zero": (
        lambda f, s, k: (new_first(f, k), linear(s.weight * k, s.bias))
    ),
    "its row 0 must be [1.0, 2.0, 3.0]. A new nn.Linear starts with random numbers": (
        lambda f, s, k: (
            nn.Linear(f.in_features, int(k.sum())),
            nn.Linear(int(k.sum()), s.out_features),
        )
    ),
    "must be [13.0, 15.0, 16.0]": (
        lambda f, s, k: (
            linear(f.weight[k], torch.rand(int(k.sum()))),
            new_second(s, k),
        )
    ),
    "its row 0 must be [21.0, 23.0, 24.0]": (
        lambda f, s, k: (new_first(f, k), nn.Linear(int(k.sum()), s.out_features))
    ),
    "the new second layer has no biases; it must have all 4": without_second_bias,
    "the new second layer has 3 biases; it must have all 4": (
        lambda f, s, k: (new_first(f, k), linear(s.weight[:, k], s.bias[:3]))
    ),
    "the biases of the new second layer are [0.0, 0.0, 0.0, 0.0]": (
        lambda f, s, k: (new_first(f, k), linear(s.weight[:, k], 0 * s.bias))
    ),
    "the new first layer is torch.float64": (
        lambda f, s, k: (new_first(f, k).double(), new_second(s, k))
    ),
    "the new first layer is frozen": (
        lambda f, s, k: (new_first(f, k).requires_grad_(False), new_second(s, k))
    ),
    "out_features=4, but its weight is [3, 3]": (
        lambda f, s, k: cut_in_place(copy.deepcopy(f), copy.deepcopy(s), k)
    ),
    "the bias of the new second layer is the old one itself": bias_shared,
    "it has changed the `keep` it was given": keep_inverted,
    "['Tensor', 'Tensor']": lambda f, s, k: (f.weight[k], s.weight[:, k]),
    "it returns Linear; it must return two": lambda f, s, k: new_first(f, k),
    "its row 2 must be [9.0, 10.0]": for_three_kept,
}

EXERCISES = [
    Exercise(
        remove_neurons,
        "utils/surgery.py (remove_units)",
        mistakes=NEURON_MISTAKES,
        more=check_remove_neurons,
        also_right={
            "new parameters": """
                def remove_neurons(first, second, keep):
                    kept = int(keep.sum())
                    new_first = torch.nn.Linear(first.in_features, kept)
                    new_second = torch.nn.Linear(kept, second.out_features)
                    new_first.weight = torch.nn.Parameter(first.weight[keep])
                    new_first.bias = torch.nn.Parameter(first.bias[keep])
                    new_second.weight = torch.nn.Parameter(second.weight[:, keep])
                    new_second.bias = torch.nn.Parameter(second.bias.detach().clone())
                    return new_first, new_second
            """,
            "copy_": """
                def remove_neurons(first, second, keep):
                    kept = keep.nonzero().flatten()
                    new = (
                        torch.nn.Linear(first.in_features, len(kept)),
                        torch.nn.Linear(len(kept), second.out_features),
                    )
                    with torch.no_grad():
                        new[0].weight.copy_(first.weight.index_select(0, kept))
                        new[0].bias.copy_(first.bias.index_select(0, kept))
                        new[1].weight.copy_(second.weight.index_select(1, kept))
                        new[1].bias.copy_(second.bias)
                    return new
            """,
            "deepcopy, list": """
                def remove_neurons(first, second, keep):
                    import copy

                    a, b = copy.deepcopy(first), copy.deepcopy(second)
                    a.weight.data, a.bias.data, b.weight.data = (
                        a.weight.data[keep],
                        a.bias.data[keep],
                        b.weight.data[:, keep],
                    )
                    a.out_features = b.in_features = len(a.bias)
                    return [a, b]
            """,
            "state_dict": """
                def remove_neurons(first, second, keep):
                    smaller = torch.nn.Linear(first.in_features, int(keep.sum()))
                    smaller.load_state_dict(
                        {
                            name: tensor[keep]
                            for name, tensor in first.state_dict().items()
                        }
                    )
                    after = torch.nn.Linear(int(keep.sum()), second.out_features)
                    after.load_state_dict(
                        {"weight": second.weight[:, keep], "bias": second.bias}
                    )
                    return smaller, after
            """,
            "loop": """
                def remove_neurons(first, second, keep):
                    kept = [i for i in range(first.out_features) if keep[i]]
                    new_first = torch.nn.Linear(first.in_features, len(kept))
                    new_second = torch.nn.Linear(len(kept), second.out_features)
                    with torch.no_grad():
                        for new, old in enumerate(kept):
                            new_first.weight[new] = first.weight[old]
                            new_first.bias[new] = first.bias[old]
                            new_second.weight[:, new] = second.weight[:, old]
                        new_second.bias[:] = second.bias
                    return new_first, new_second
            """,
        },
    ),
    Exercise(
        leaves_with_a_filter,
        "lessons/04_neurons_and_filters/exercises.py",
        asked="their sum",
        cases=[
            Case(
                "for a 3 x 3 filter with 64 inputs and 128 next filters",
                (3, 64, 128),
                hint=(
                    "Count in three places: the filter, its BatchNorm, the next layer."
                ),
            ),
            Case(
                "for a 5 x 5 filter with 2 inputs and 3 next filters",
                (5, 2, 3),
                hint="Is a number written into the function?",
            ),
        ],
        mistakes={
            "that is the filter alone. Its BatchNorm channel goes too, and so does"
            " what the next layer reads from it": (
                lambda kernel, inputs, following: kernel**2 * inputs
            ),
            "that is the filter and its BatchNorm; each of the 128 next filters"
            " also had 3 x 3 weights for its output": (
                lambda kernel, inputs, following: kernel**2 * inputs + 4
            ),
            "BatchNorm is missing: 4 numbers a channel": (
                lambda kernel, inputs, following: kernel**2 * (inputs + following)
            ),
            "BatchNorm has 4 numbers a channel, not 2: the running mean and"
            " variance are stored too": (
                lambda kernel, inputs, following: kernel**2 * (inputs + following) + 2
            ),
            "the next layer loses 3 x 3 weights in each of its 128 filters, not in"
            " 64": lambda kernel, inputs, following: 2 * kernel**2 * inputs + 4,
            "only the BatchNorm of this filter loses a channel; the next layer keeps"
            " its own": (
                lambda kernel, inputs, following: kernel**2 * (inputs + following) + 8
            ),
            "BatchNorm has 4 numbers a channel, not 3": (
                lambda kernel, inputs, following: kernel**2 * (inputs + following) + 3
            ),
            "that is one too many. The convolution has no bias; BatchNorm has 4"
            " numbers a channel": (
                lambda kernel, inputs, following: kernel**2 * (inputs + following) + 5
            ),
            "a kernel of 3 has 3 x 3 = 9 positions": (
                lambda kernel, inputs, following: kernel * (inputs + following) + 4
            ),
            "each of the 128 next filters has 3 x 3 weights for this channel, not"
            " one": (
                lambda kernel, inputs, following: kernel**2 * inputs + 4 + following
            ),
            "every next filter keeps its weights for the other channels; only 3 x"
            " 3 of each leave": (
                lambda kernel, inputs, following: kernel**2 * inputs * following,
                lambda kernel, inputs, following: kernel**2 * inputs * (1 + following),
                lambda kernel, inputs, following: (
                    kernel**2 * inputs * (1 + following) + 4
                ),
            ),
            "a kernel of 3 x 3 is written into the function": (
                lambda kernel, inputs, following: 9 * (inputs + following) + 4
            ),
            "those are three numbers; return their sum": (
                lambda kernel, inputs, following: [
                    kernel**2 * inputs,
                    4,
                    kernel**2 * following,
                ]
            ),
        },
        also_right={
            "one product": """
                def leaves_with_a_filter(kernel, inputs, next_outputs):
                    return kernel * kernel * (inputs + next_outputs) + 4
            """,
            "numpy": """
                def leaves_with_a_filter(kernel, inputs, next_outputs):
                    return np.sum(
                        [kernel**2 * inputs, 1, 1, 1, 1, kernel**2 * next_outputs]
                    )
            """,
            "layers": """
                def leaves_with_a_filter(kernel, inputs, next_outputs):
                    def numbers(filters):
                        layers = [
                            torch.nn.Conv2d(inputs, filters, kernel, bias=False),
                            torch.nn.BatchNorm2d(filters),
                        ]
                        layers.append(
                            torch.nn.Conv2d(filters, next_outputs, kernel, bias=False)
                        )
                        return sum(
                            t.numel()
                            for layer in layers
                            for t in layer.state_dict().values()
                        )

                    return numbers(5) - numbers(4)
            """,
            "torch": """
                def leaves_with_a_filter(kernel, inputs, next_outputs):
                    return (
                        torch.tensor(kernel**2 * inputs) + 4 + kernel**2 * next_outputs
                    )
            """,
        },
    ),
]
