"""The exercises of lab 05, and the mistakes that their checks know."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from utils.exercises import Case, Exercise, WrongAnswer, show
from utils.masks import nm_masks


def work_left(ratio: float) -> float:
    """Fraction of a convolution's MACs that is left when this fraction of the channels
    is removed in every layer."""
    return (1 - ratio) ** 2


def nm_mask(weight: Tensor, n: int, m: int) -> Tensor:
    """Boolean mask of the shape `[units, inputs]`: of each `m` neighbours in a row the
    `n` of largest `|w|`."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return nm_masks(layer, n, m)["weight"]


# ------------------------------------------------------------------------------ nm_mask

# of all 32 weights the 16 largest fill some groups of four and leave others empty
WEIGHT = torch.tensor(
    [
        [-9.0, 8.0, 7.0, -6.0, 1.0, -3.0, 0.5, 2.0],
        [0.1, -0.2, 0.3, 0.4, -0.45, 0.6, 0.7, -0.8],
        [-10.0, 11.0, -12.0, 13.0, 14.0, -15.0, 16.0, 17.0],
        [2.5, -1.5, 4.0, 5.0, 6.5, -7.5, 0.25, 3.5],
    ]
)


def first_wrong_group(
    mask: Tensor, other: Tensor, weight: Tensor, _: int, m: int
) -> str:
    """What the mask keeps of the first group where it is another than `other`."""
    if not isinstance(mask, Tensor) or not isinstance(other, Tensor):
        return show(mask, other)
    if mask.shape != other.shape or not mask.dtype == other.dtype == torch.bool:
        return show(mask, other)
    groups = weight.reshape(-1, m)
    wrong = int((mask != other).reshape(-1, m).any(dim=1).nonzero()[0])
    kept = groups[wrong][mask.reshape(-1, m)[wrong]]
    return f"a mask that keeps {show(kept, None)} of {show(groups[wrong], None)}"


def check_ties(answer: Callable) -> None:
    """How many are kept where it does not matter which."""
    for row in ([1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 5.0, 1.0]):
        kept = int(answer(torch.tensor([row]), 2, 4).sum())
        if kept != 2:
            raise WrongAnswer(
                f"of {row} it keeps {kept}; it must keep exactly 2. A threshold cannot"
                " split equal weights: choose by position (`topk`, `argsort`)."
            )


def largest(values: Tensor, count: int) -> Tensor:
    """Boolean: the `count` largest of each row."""
    places = values.topk(min(count, values.shape[-1]), dim=-1).indices
    return torch.zeros_like(values, dtype=torch.bool).scatter_(-1, places, True)


def in_groups(size: Tensor, n: int, m: int) -> Tensor:
    """The `n` largest of each `m` neighbours."""
    return largest(size.reshape(-1, m), n).reshape(size.shape)


def from_threshold(weight: Tensor, n: int, m: int) -> Tensor:
    groups = weight.abs().reshape(-1, m)
    limits = groups.sort(dim=1, descending=True).values[:, n - 1 : n]
    return (groups >= limits).reshape(weight.shape)


def above_threshold(weight: Tensor, n: int, m: int) -> Tensor:
    groups = weight.abs().reshape(-1, m)
    limits = groups.sort(dim=1).values[:, m - n - 1 : m - n]
    return (groups > limits).reshape(weight.shape)


def half_overall(weight: Tensor, n: int, m: int) -> Tensor:
    size = weight.abs().flatten()
    return largest(size, n * len(size) // m).reshape(weight.shape)


NM_MISTAKES = {
    "it is upside down: True means kept, the *largest* stay": (
        lambda w, n, m: ~in_groups(w.abs(), n, m)
    ),
    "of -9, 8, 7, -6 it prunes -9, the largest by magnitude. Compare |w|, not w": (
        in_groups
    ),
    "its groups run down the columns: it compares -9, 0.1, -10, 2.5. Neighbours"
    " stand in a *row*, the inputs of one unit": (
        lambda w, n, m: in_groups(w.abs().T, n, w.shape[0] if m > w.shape[0] else m).T
    ),
    "that is 2 of the 8 weights in each row. A row has two groups of 4: keep 4": (
        lambda w, n, m: largest(w.abs(), n)
    ),
    "half of each row is kept, but not of each group. Choose 2 in *each* group of"
    " 4 by itself": (lambda w, n, m: largest(w.abs(), n * w.shape[1] // m)),
    "16 of 32 are kept, which is right overall, but no group may have 3 or 4": (
        half_overall
    ),
    "that keeps the first ones of each group, whatever their size": (
        lambda w, n, m: (torch.arange(w.shape[1]) % m < n).expand(w.shape)
    ),
    "`argsort` gives the places in order, not the rank of each weight: use the places"
    " in `scatter_`, or argsort twice": (
        lambda w, n, m: (
            w.abs().reshape(-1, m).argsort(dim=1, descending=True) < n
        ).reshape(w.shape)
    ),
    "it prunes n of each m weights; n is how many it must keep": (
        lambda w, n, m: in_groups(w.abs(), m - n, m)
    ),
    "2 is written into the function": lambda w, n, m: in_groups(w.abs(), 2, m),
    "4 is written into the function": lambda w, n, m: in_groups(w.abs(), n, 4),
    "of [1.0, -1.0, 1.0, 1.0] it keeps 4; it must keep exactly 2": from_threshold,
    "of [1.0, -1.0, 1.0, 1.0] it keeps 0; it must keep exactly 2": above_threshold,
    "of [0.0, 0.0, 0.0, 0.0] it keeps 0; it must keep exactly 2": (
        lambda w, n, m: in_groups(w.abs(), n, m) & (w != 0)
    ),
}

EXERCISES = [
    Exercise(
        work_left,
        "lessons/05_structured_pruning/exercises.py",
        asked="the fraction of the work that is left",
        cases=[
            Case(
                "with 30% of the channels removed",
                (0.3,),
                hint="70% of the filters stay, each with 70% of its inputs.",
            ),
            *(
                Case(
                    f"it is right at 0.3, but at {ratio:g}",
                    (ratio,),
                    hint="Is a number written into the function?",
                )
                for ratio in (0.0, 0.5, 0.95)
            ),
        ],
        mistakes={
            "that is the ratio itself": lambda ratio: ratio,
            "that counts only the filters that stay. The layer before loses"
            " channels too, so each filter also reads only 70% of its inputs": (
                lambda ratio: 1 - ratio
            ),
            "that squares the ratio removed, 0.3; square what is left, 0.7": (
                lambda ratio: 1 - ratio**2
            ),
            "that squares the ratio removed, and 70% of the filters with 70% of"
            " the inputs are left": (lambda ratio: ratio**2),
            "that is the work saved; return what is left": (
                lambda ratio: 1 - (1 - ratio) ** 2
            ),
            "that takes 30% away twice. The second 30% is of what is left, 70%:"
            " multiply": (lambda ratio: 1 - 2 * ratio),
            "that is percent; the course writes fractions": (
                lambda ratio: 100 * (1 - ratio) ** 2
            ),
            "0.3 is a fraction already; do not divide it by 100": (
                lambda ratio: (1 - ratio / 100) ** 2
            ),
            "that is a cube; two things shrink, filters and inputs": (
                lambda ratio: (1 - ratio) ** 3
            ),
        },
        also_right={
            "product": """
                def work_left(ratio):
                    return (1 - ratio) * (1 - ratio)
            """,
            "multiplied out": """
                def work_left(ratio):
                    return 1 - 2 * ratio + ratio**2
            """,
            "numpy": """
                def work_left(ratio):
                    return np.float32(1 - ratio) ** 2
            """,
            "torch": """
                def work_left(ratio):
                    return torch.tensor(1 - ratio).square()
            """,
            "channels": """
                def work_left(ratio):
                    filters = inputs = 10000
                    return (
                        round(filters * (1 - ratio))
                        * round(inputs * (1 - ratio))
                        / (filters * inputs)
                    )
            """,
        },
    ),
    Exercise(
        nm_mask,
        "utils/masks.py (nm_masks)",
        asked="a boolean mask of the weight's shape, True = kept",
        cases=[
            Case("for 2:4", (WEIGHT, 2, 4), hint="The largest by magnitude stay."),
            *(
                Case(
                    f"it is right for 2:4, but for {n}:{m}",
                    (WEIGHT, n, m),
                    hint="Is a number written into the function?",
                )
                for n, m in ((1, 4), (2, 8), (3, 4), (1, 2))
            ),
        ],
        mistakes=NM_MISTAKES,
        more=check_ties,
        show=first_wrong_group,
        also_right={
            "topk": """
                def nm_mask(weight, n, m):
                    groups = weight.abs().reshape(-1, m)
                    mask = torch.zeros_like(groups, dtype=torch.bool)
                    mask.scatter_(1, groups.topk(n, dim=1).indices, True)
                    return mask.reshape(weight.shape)
            """,
            "ranks": """
                def nm_mask(weight, n, m):
                    groups = weight.abs().unflatten(1, (-1, m))
                    return (groups.argsort(dim=2).argsort(dim=2) >= m - n).flatten(1)
            """,
            "numpy": """
                def nm_mask(weight, n, m):
                    groups = np.abs(weight.numpy()).reshape(-1, m)
                    mask = np.zeros(groups.shape, dtype=bool)
                    np.put_along_axis(
                        mask, np.argsort(-groups, axis=1)[:, :n], True, axis=1
                    )
                    return torch.from_numpy(mask.reshape(weight.shape))
            """,
            "loop": """
                def nm_mask(weight, n, m):
                    mask = torch.zeros(weight.shape, dtype=torch.bool)
                    for unit in range(weight.shape[0]):
                        for start in range(0, weight.shape[1], m):
                            best = weight[unit, start : start + m].abs().topk(n).indices
                            mask[unit, start + best] = True
                    return mask
            """,
            "as hinted": """
                def nm_mask(weight, n, m):
                    positions = (
                        weight.reshape(-1, m)
                        .abs()
                        .argsort(dim=1, descending=True, stable=True)
                    )
                    mask = torch.zeros(positions.shape, dtype=torch.bool)
                    mask.scatter_(1, positions[:, :n], True)
                    return mask.reshape(weight.shape)
            """,
            "by columns": """
                def nm_mask(weight, n, m):
                    parts = [part.abs() for part in weight.split(m, dim=1)]
                    return torch.cat(
                        [
                            part.argsort(1, descending=True).argsort(1) < n
                            for part in parts
                        ],
                        dim=1,
                    )
            """,
        },
    ),
]
