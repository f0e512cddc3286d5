"""The exercises of lesson 14, and the mistakes that their checks know."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from utils.exercises import Case, Exercise, WrongAnswer, as_tensor

Matrices = tuple[Tensor, Tensor, Tensor, Tensor]
Cost = Callable[[Sequence[Any]], float]


def cut_head(weights: Sequence[Tensor], head: int, head_width: int) -> Matrices:
    """The weights of an attention without one head. `weights`: query, key and value,
    `[heads * head_width, width]` each, which lose its rows; and out, `[width, heads *
    head_width]`, which loses its columns."""
    query, key, value, out = weights
    keep = torch.arange(len(query)) // head_width != head
    return query[keep], key[keep], value[keep], out[:, keep]


def block_influence(before: Tensor, after: Tensor) -> float:
    """1 minus the cosine between what enters a block and what leaves it, `[n, t,
    width]` each, averaged over all pieces (Men et al. 2024)."""
    return 1 - F.cosine_similarity(before, after, dim=-1).mean().item()


def greedy(cost: Cost, parts: Sequence[Any], count: int) -> list[Any]:
    """`count` of the parts, one after the other: each time the one that costs least on
    top of those chosen before. `cost(list of parts)` is what leaving them out costs."""
    gone: list[Any] = []
    for _ in range(count):
        left = [part for part in parts if part not in gone]
        gone.append(min(left, key=lambda part: cost([*gone, part])))
    return gone


# ----------------------------------------------------------------------------- cut_head

NAMES = ("query", "key", "value", "out")


def _matrices(heads: int, head_width: int) -> Matrices:
    """Numbers that are all different; square, as in the network."""
    size = heads * head_width
    numbers = torch.arange(4.0 * size * size).reshape(4, size, size)
    query, key, value, out = numbers
    return query, key, value, out


def four(got: Any) -> Any:
    """What is returned, where the lab goes on with four tensors."""
    if isinstance(got, Tensor) or not isinstance(got, (tuple, list)) or len(got) != 4:
        raise WrongAnswer(
            "return four matrices, `return query, key, value, out`, each without the"
            " head."
        )
    return tuple(as_tensor(each) for each in got)


def first_wrong(got: Any, other: Any, *_: Any) -> str:
    """The first of four matrices that is not as in `other`: its shape, or its first
    column or row."""
    for name, one, two in zip(NAMES, got, other, strict=True):
        if not isinstance(one, Tensor) or one.shape != two.shape:
            return f"{name} {list(one.shape)}"
        if not torch.equal(one, two):
            line = one[0] if name == "out" else one[:, 0]
            which = "row" if name == "out" else "column"
            numbers = ", ".join(f"{x:g}" for x in line.tolist())
            return f"{name} whose first {which} is [{numbers}]"
    return "the same"


def _with(place: int) -> Callable[..., Matrices]:
    """All cut but one."""

    def mistaken(weights: Matrices, head: int, head_width: int) -> Any:
        cut = list(cut_head(weights, head, head_width))
        cut[place] = weights[place]
        return tuple(cut)

    return mistaken


def _by(
    choose: Callable[[Tensor, int, int], Tensor],
    rows: Callable[[Tensor, Tensor], Tensor] = lambda each, keep: each[keep],
    columns: Callable[[Tensor, Tensor], Tensor] = lambda each, keep: each[:, keep],
) -> Callable[..., Matrices]:
    """By another rule: which positions stay, of the positions, the head and its width;
    and what is done to query, key and value, and to out."""

    def mistaken(weights: Matrices, head: int, head_width: int) -> Any:
        *three, out = weights
        keep = choose(torch.arange(len(out)), head, head_width)
        return (*(rows(each, keep) for each in three), columns(out, keep))

    return mistaken


def _others(at: Tensor, head: int, head_width: int) -> Tensor:
    return at // head_width != head


rows_of_out = _by(_others, columns=lambda each, keep: each[keep])
columns_of_all = _by(_others, rows=lambda each, keep: each[:, keep])
turned = _by(_others, lambda each, keep: each[:, keep], lambda each, keep: each[keep])
zeroed = _by(
    _others,
    lambda each, keep: each.masked_fill(~keep[:, None], 0),
    lambda each, keep: each.masked_fill(~keep, 0),
)

CUT_MISTAKES = {
    "of `out` it removes rows, which write to the stream. The head's numbers come *in*"
    " there: remove columns": rows_of_out,
    "that removes columns of query, key and value. Columns read the stream; a head is"
    " rows of these three": columns_of_all,
    "rows and columns are the wrong way round: a head is rows of query, key and value,"
    " and columns of out": turned,
    "that is zeroing: each matrix must get smaller": zeroed,
    "it takes every third row, as if the heads were interleaved. The rows of a head"
    " stand together: head h has those from h * head_width on": _by(
        lambda at, h, w: at % (len(at) // w) != h
    ),
    "it keeps the head and removes the others": _by(lambda at, h, w: at // w == h),
    "it removes a single row; a head has head_width of them": _by(
        lambda at, h, _: at != h
    ),
    "it begins at row `head`; head h begins at h * head_width": _by(
        lambda at, h, w: (at < h) | (at >= h + w)
    ),
    "it removes one row too many; the last of a head is (head + 1) * head_width - 1": (
        _by(lambda at, h, w: (at < h * w) | (at > (h + 1) * w))
    ),
    "heads are counted from 0": _by(lambda at, h, w: at // w != h - 1),
    "`query` still has the head": _with(0),
    "`key` still has the head": _with(1),
    "`value` still has the head": _with(2),
    "`out` still has the head's columns, and would get fewer numbers than it reads": (
        _with(3)
    ),
}

# ---------------------------------------------------------------------- block_influence


def _streams(scale: float, seed: int, size: tuple[int, int, int]) -> list[Tensor]:
    """A stream, and the same after something was added to it; pieces of different
    length."""
    generator = torch.Generator().manual_seed(seed)
    before = torch.randn(size, generator=generator)
    before *= torch.rand(*size[:2], 1, generator=generator) * 5 + 0.2
    return [before, before + scale * torch.randn(size, generator=generator)]


def plain_number(got: Any) -> Any:
    """One number, in whatever clothes."""
    if isinstance(got, np.ndarray) and got.ndim == 0:
        return float(got)
    return got


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


INFLUENCE_MISTAKES = {
    "that is the cosine; influence is 1 minus it, small where the block changes"
    " little": lambda a, b: F.cosine_similarity(a, b, dim=-1).mean().item(),
    "`F.cosine_similarity` compares along dimension 1 unless told otherwise, and that"
    " is the text here. The numbers of a piece lie along the last one: dim=-1": (
        lambda a, b: 1 - F.cosine_similarity(a, b).mean().item()
    ),
    "that takes the whole text for one long vector. Take the cosine of each piece, then"
    " the mean": (
        lambda a, b: 1 - F.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()
    ),
    "that averages the pieces first. Take the cosine of each piece, then the mean": (
        lambda a, b: (
            1 - F.cosine_similarity(a.mean((0, 1)), b.mean((0, 1)), dim=0).item()
        )
    ),
    "it compares along dimension 0, one window with another. Use dim=-1": (
        lambda a, b: 1 - F.cosine_similarity(a, b, dim=0).mean().item()
    ),
    "a cosine is the product divided by both lengths": (
        lambda a, b: 1 - _dot(a, b).mean().item()
    ),
    "the product is divided by one length; a cosine needs both": (
        lambda a, b: 1 - (_dot(a, b) / a.norm(dim=-1)).mean().item(),
        lambda a, b: 1 - (_dot(a, b) / a.norm(dim=-1).square()).mean().item(),
    ),
    "that compares the stream with what the block *added*. `after` is the whole stream"
    " behind the block": (
        lambda a, b: 1 - F.cosine_similarity(a, b - a, dim=-1).mean().item()
    ),
    "that is the length of what was added, which grows with the stream. Use the cosine:"
    " it looks at the direction alone": (
        lambda a, b: (b - a).norm(dim=-1).mean().item()
    ),
    "that is the sum over the pieces; take the mean": (
        lambda a, b: (1 - F.cosine_similarity(a, b, dim=-1)).sum().item()
    ),
}

# ------------------------------------------------------------------------------- greedy


@dataclass(frozen=True)
class Table:
    """What sets of parts cost: each by itself, and what some pairs cost besides."""

    alone: dict[str, float]
    together: dict[frozenset[str], float]

    def __call__(self, parts: Sequence[str]) -> float:
        if isinstance(parts, str):
            raise WrongAnswer("hand `cost` a list of parts, `cost([*gone, part])`.")
        besides = sum(c for pair, c in self.together.items() if pair <= set(parts))
        return sum(self.alone[part] for part in set(parts)) + besides


# b and c are the cheapest, but stand in for one another; best together are a and d
FOUR = Table(
    {"a": 1.2, "b": 1.0, "c": 1.1, "d": 1.3},
    {frozenset("bc"): 2.0, frozenset("ad"): -1.0, frozenset("bd"): 0.5},
)
SUMS = Table({"a": 3.0, "b": 1.0, "c": 2.0, "d": 0.5}, {})


def cheapest_alone(cost: Cost, parts: Sequence[Any], count: int) -> list[Any]:
    return sorted(parts, key=lambda part: cost([part]))[:count]


def all_sets(cost: Cost, parts: Sequence[Any], count: int) -> list[Any]:
    return list(min(combinations(parts, count), key=lambda gone: cost(list(gone))))


def dearest(cost: Cost, parts: Sequence[Any], count: int) -> list[Any]:
    gone: list[Any] = []
    for _ in range(count):
        left = [part for part in parts if part not in gone]
        gone.append(max(left, key=lambda part: cost([*gone, part])))
    return gone


def same_again(cost: Cost, parts: Sequence[Any], count: int) -> list[Any]:
    gone: list[Any] = []
    for _ in range(count):
        gone.append(min(parts, key=lambda part: cost([*gone, part])))
    return gone


def what_stays(cost: Cost, parts: Sequence[Any], count: int) -> list[Any]:
    gone = greedy(cost, parts, count)
    return [part for part in parts if part not in gone]


def as_list(got: Any) -> Any:
    """The parts in a list."""
    return list(got) if isinstance(got, (tuple, set, frozenset)) else got


GREEDY_MISTAKES = {
    "those are the cheapest by themselves. After the first part is gone, ask again what"
    " each of the others costs *on top*": cheapest_alone,
    "that is the best of all sets, and better than greedy. But it tries every set: of"
    " 36 heads there are billions of sets of 18. Choose one part at a time": all_sets,
    "that takes the part that costs most": dearest,
    "it takes a part that is gone already": same_again,
    "those are the parts that stay; return those that leave": what_stays,
}

# ---------------------------------------------------------------------------- all three

EXERCISES = [
    Exercise(
        cut_head,
        "lessons/14_heads_and_blocks/exercises.py",
        asked="query, key, value and out without the head",
        cases=[
            Case(
                "for head 1 of three, each two numbers wide,",
                (_matrices(3, 2), 1, 2),
                hint="Rows 2 and 3 of query, key and value leave, and columns 2 and 3"
                " of out.",
            ),
            *(
                Case(
                    f"it is right for head 1 of three, but for head {head} of {heads},"
                    f" each {width} wide,",
                    (_matrices(heads, width), head, width),
                    hint="Is a number written into the function?",
                )
                for heads, width, head in ((3, 2, 0), (3, 2, 2), (2, 3, 1))
            ),
        ],
        mistakes=CUT_MISTAKES,
        read=four,
        show=first_wrong,
        also_right={
            "slices": """
                def cut_head(weights, head, head_width):
                    query, key, value, out = weights
                    a, b = head * head_width, (head + 1) * head_width
                    query, key, value = (
                        torch.cat([each[:a], each[b:]]) for each in (query, key, value)
                    )
                    return query, key, value, torch.cat([out[:, :a], out[:, b:]], dim=1)
            """,
            "mask": """
                def cut_head(weights, head, head_width):
                    query, key, value, out = weights
                    keep = torch.ones(len(query), dtype=torch.bool)
                    keep[head * head_width : (head + 1) * head_width] = False
                    return [query[keep], key[keep], value[keep], out[:, keep]]
            """,
            "heads as an axis": """
                def cut_head(weights, head, head_width):
                    query, key, value, out = weights
                    def without(each):
                        heads = each.unflatten(0, (-1, head_width))
                        left = [h for h in range(len(heads)) if h != head]
                        return heads[left].flatten(0, 1)
                    return (
                        without(query), without(key), without(value), without(out.T).T
                    )
            """,
            "numpy": """
                def cut_head(weights, head, head_width):
                    query, key, value, out = weights
                    gone = range(head * head_width, (head + 1) * head_width)
                    q, k, v = (
                        torch.from_numpy(np.delete(each.numpy(), gone, axis=0))
                        for each in (query, key, value)
                    )
                    o = torch.from_numpy(np.delete(out.numpy(), gone, axis=1))
                    return q, k, v, o
            """,
        },
    ),
    Exercise(
        block_influence,
        "lessons/14_heads_and_blocks/exercises.py",
        asked="1 minus the mean cosine",
        cases=[
            Case(
                "for a stream of two windows",
                (*_streams(0.5, 0, (2, 7, 5)),),
                hint="The cosine of each piece, along the last dimension; the mean; 1"
                " minus that.",
            ),
            Case(
                "it is right for two windows, but for three",
                (*_streams(2.0, 1, (3, 4, 6)),),
                hint="Is a number written into the function?",
            ),
        ],
        mistakes=INFLUENCE_MISTAKES,
        read=plain_number,
        same=lambda got, right, *_: _near(got, right),
        also_right={
            "by hand": """
                def block_influence(before, after):
                    product = (before * after).sum(-1)
                    lengths = before.norm(dim=-1) * after.norm(dim=-1)
                    return 1 - (product / lengths).mean()
            """,
            "normalised": """
                def block_influence(before, after):
                    a = torch.nn.functional.normalize(before, dim=-1)
                    b = torch.nn.functional.normalize(after, dim=-1)
                    return (1 - (a * b).sum(-1)).mean().item()
            """,
            "flattened": """
                def block_influence(before, after):
                    cosine = torch.cosine_similarity(
                        before.flatten(0, 1), after.flatten(0, 1)
                    )
                    return float(1 - cosine.mean())
            """,
            "numpy": """
                def block_influence(before, after):
                    a, b = before.numpy(), after.numpy()
                    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
                    return 1 - np.mean((a * b).sum(-1) / lengths)
            """,
        },
    ),
    Exercise(
        greedy,
        "lessons/14_heads_and_blocks/exercises.py",
        asked="the parts that leave, in a list",
        cases=[
            Case(
                "for parts that cost a 1.2, b 1, c 1.1, d 1.3 alone, two of them",
                (FOUR, ["a", "b", "c", "d"], 2),
                hint="First b. On top of b, a costs 1.2, c 3.1 and d 1.8.",
            ),
            Case(
                "it is right for two of them, but for three",
                (FOUR, ["a", "b", "c", "d"], 3),
                hint="Is a number written into the function?",
            ),
            Case(
                "it is right there, but for parts whose costs add up (a 3, b 1, c 2, d"
                " 0.5)",
                (SUMS, ["a", "b", "c", "d"], 2),
            ),
        ],
        mistakes=GREEDY_MISTAKES,
        read=as_list,
        same=lambda got, right, *_: _same_parts(got, right),
        also_right={
            "a loop": """
                def greedy(cost, parts, count):
                    gone = []
                    while len(gone) < count:
                        best, least = None, float("inf")
                        for part in parts:
                            if part in gone:
                                continue
                            now = cost(gone + [part])
                            if now < least:
                                best, least = part, now
                        gone.append(best)
                    return gone
            """,
            "differences": """
                def greedy(cost, parts, count):
                    gone, left = [], list(parts)
                    for _ in range(count):
                        before = cost(gone)
                        rises = [cost(gone + [part]) - before for part in left]
                        gone.append(left.pop(rises.index(min(rises))))
                    return tuple(gone)
            """,
        },
    ),
]


def _near(got: Any, right: float) -> bool:
    """Whether it is one number, equal but for float32's rounding."""
    try:
        value = float(got)
    except (TypeError, ValueError):
        return False
    return math.isclose(value, right, rel_tol=1e-4, abs_tol=1e-5)


def _same_parts(got: Any, right: list[Any]) -> bool:
    """Whether both lists name the same parts, in whatever order."""
    return isinstance(got, list) and sorted(map(str, got)) == sorted(map(str, right))
