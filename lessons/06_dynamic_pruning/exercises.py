"""The exercises of lab 06, and the mistakes that their checks know."""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.exercises import Case, Exercise, WrongAnswer
from utils.schedules import Cubic, rewire


def cubic_sparsity(progress: float, final: float) -> float:
    """`final * (1 - (1 - progress)**3)`: the sparsity due at `progress` 0..1; fast at
    first, ever slower."""
    return Cubic(final).level(progress)


def exchange(weight: Tensor, gradient: Tensor, mask: Tensor, count: int) -> Tensor:
    """A new mask: the `count` smallest of the kept weights go, and `count` of all
    others come, by largest `|g|`."""
    fraction = count / max(int(mask.sum()), 1)
    return rewire(weight, mask.clone(), fraction, gradient.abs())


# ----------------------------------------------------------------------------- exchange


def random_case(count: int) -> Case:
    generator = torch.Generator().manual_seed(count)
    mask = torch.rand(6, 7, generator=generator) < 0.4
    weight = torch.randn(6, 7, generator=generator) * mask
    gradient = torch.randn(6, 7, generator=generator)
    smallest = torch.where(mask, weight.abs(), torch.inf).flatten().argsort()[:count]
    # whether one that was just dropped may come back makes no difference then
    gradient.view(-1)[smallest] = 0
    return Case(
        f"it is right for a small weight and count = 2, but for [6, 7] and count ="
        f" {count}",
        (weight, gradient, mask, count),
        hint="Is a count or a size written into the function? Or does each row exchange"
        " for itself? It is the smallest of the whole layer that go.",
    )


EXCHANGES = [
    Case(
        (
            "of the kept weights -5, 0.25, 3, -0.5, 1 two must go, and of the others,"
            " with gradients 1, -7, 4, 2, 0.5, two come:"
        ),
        (
            torch.tensor([[-5.0, 0.0, 0.25, 0.0, 3.0], [0.0, -0.5, 0.0, 1.0, 0.0]]),
            torch.tensor([[0.7, 1.0, 0.6, -7.0, 0.04], [4.0, 0.55, 2.0, 9.0, 0.5]]),
            torch.tensor([[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]], dtype=torch.bool),
            2,
        ),
        hint="0.25 and -0.5 must go, the smallest, and those with -7 and 4 come.",
    ),
    random_case(1),
    random_case(5),
    Case(
        "of the kept weights 0, 1, 2 one must go, and one that is not kept comes:",
        (
            torch.tensor([[0.0, 1.0, 2.0, 0.0]]),
            torch.tensor([[0.0, 0.0, 0.0, 5.0]]),
            torch.tensor([[True, True, True, False]]),
            1,
        ),
        hint="It must drop 0. Ask the mask which are kept, not `weight != 0`.",
    ),
    Case(
        "at count = 0",
        (
            torch.tensor([[0.0, 1.0, 2.0, 0.0]]),
            torch.tensor([[0.0, 0.0, 0.0, 5.0]]),
            torch.tensor([[True, True, True, False]]),
            0,
        ),
        hint="Nothing is to change then. (`order[-0:]` is everything, not nothing.)",
    ),
]


def among(desire: Tensor, candidates: Tensor, count: int) -> Tensor:
    """The `count` of largest desire among the candidates."""
    order = (
        torch.where(candidates, desire, -torch.inf).flatten().argsort(descending=True)
    )
    chosen = torch.zeros(desire.numel(), dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen.view_as(desire)


def dropped(size: Tensor, mask: Tensor, count: int) -> Tensor:
    """The mask without the `count` smallest."""
    return mask & ~among(-size, mask, count)


def grown(mask: Tensor, desire: Tensor, count: int) -> Tensor:
    return mask | among(desire, ~mask, count)


def zeros_dropped(weight: Tensor, gradient: Tensor, mask: Tensor, count: int) -> Tensor:
    stay = mask & ~among(-weight.abs(), torch.ones_like(mask), count)
    return stay | among(gradient.abs(), ~mask, count)


def zeros_stay(weight: Tensor, gradient: Tensor, mask: Tensor, count: int) -> Tensor:
    size = torch.where(weight == 0, torch.inf, weight.abs())
    return grown(dropped(size, mask, count), gradient.abs(), count)


def from_the_end(weight: Tensor, gradient: Tensor, mask: Tensor, count: int) -> Tensor:
    stay = dropped(weight.abs(), mask, count).flatten()
    order = torch.where(stay, -1, gradient.abs().flatten()).argsort()
    stay[order[-count:]] = True
    return stay.view_as(mask)


def by_threshold(weight: Tensor, gradient: Tensor, mask: Tensor, count: int) -> Tensor:
    if count == 0:
        return mask.clone()
    size = torch.where(mask, weight.abs(), torch.inf)
    stay = mask & (size > size.flatten().sort().values[count - 1])
    desire = torch.where(stay, -1, gradient.abs())
    return stay | (desire >= desire.flatten().sort(descending=True).values[count - 1])


def check_ties(answer: Callable) -> None:
    """As many weights as before, though weights and gradients are equal."""
    mask = torch.tensor([[True, True, True, True, False, False]])
    weight = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0, 0.0]])
    kept = int(answer(weight, torch.zeros(1, 6), mask, 1).sum())
    if kept != 4:
        raise WrongAnswer(
            "of the kept weights 2, 1, 1, 1 one must go, and one of the others, all"
            f" with gradient 0, comes: 4 are kept, and it keeps {kept}. A threshold"
            " takes all that are equal; choose places (`argsort`, `topk`), as many as"
            " `count`."
        )


EXCHANGE_MISTAKES = {
    "the mask is as it was: what went came back. Drop first; then grow where the"
    " *gradient* is largest, not the weight (what is pruned or just dropped has"
    " the smallest)": (lambda w, g, m, n: m.clone()),
    "some came, none went. A pruned weight is 0, the smallest of all; look for the"
    " smallest among the *kept* ones": (zeros_dropped),
    "some went, none came. Grow as many as you drop": (
        lambda w, g, m, n: dropped(w.abs(), m, n)
    ),
    "now one less is kept. The largest gradient, 9, belongs to a weight that is"
    " kept: it cannot come once more. Grow among the *others*": (
        lambda w, g, m, n: (
            dropped(w.abs(), m, n) | among(g.abs(), torch.ones_like(m), n)
        )
    ),
    "now one more is kept; 2 must go and 2 come": (
        lambda w, g, m, n: grown(dropped(w.abs(), m, n), g.abs(), n + 1)
    ),
    "it drops -5 and 3, the largest. The smallest go": (
        lambda w, g, m, n: grown(dropped(-w.abs(), m, n), g.abs(), n)
    ),
    "it drops -5 and -0.5. By magnitude -5 is the largest of the kept weights."
    " Compare |w|, not w": (lambda w, g, m, n: grown(dropped(w, m, n), g.abs(), n)),
    "it drops 3 and -0.5, where the *gradients* are smallest. What goes is chosen"
    " by weight": (lambda w, g, m, n: grown(dropped(g.abs(), m, n), g.abs(), n)),
    "it drops 3 and 0.25, where |w * g| is smallest. That is the score of lab 02;"
    " here what goes is chosen by the size of the weight alone": (
        lambda w, g, m, n: grown(dropped((w * g).abs(), m, n), g.abs(), n)
    ),
    "it grows where the gradient is 4 and 2, and passes over -7. A large gradient"
    " counts in either direction: compare |g|": (
        lambda w, g, m, n: grown(dropped(w.abs(), m, n), g, n)
    ),
    "it grows where the gradient is smallest": (
        lambda w, g, m, n: grown(dropped(w.abs(), m, n), -g.abs(), n),
        lambda w, g, m, n: dropped(w.abs(), m, n) | among(-g.abs(), ~m, n),
    ),
    "A threshold takes all that are equal": by_threshold,
    "2 is written into the function": (
        lambda w, g, m, n: grown(dropped(w.abs(), m, 2), g.abs(), 2)
    ),
    "it does not drop 0. A weight that has just come is 0 and kept all the same:"
    " ask the mask which are kept, not `weight != 0`": (zeros_stay),
    "nothing is to change at count = 0. `order[-0:]` is everything, not nothing": (
        from_the_end
    ),
}

CUBIC_CASES = ((0.25, 0.8), (0.0, 0.8), (1.0, 0.8), (0.5, 0.96))

EXERCISES = [
    Exercise(
        cubic_sparsity,
        "utils/schedules.py (Cubic)",
        asked="a sparsity",
        cases=[
            Case(f"at progress {progress:g}, final {final:g},", (progress, final))
            for progress, final in CUBIC_CASES
        ],
        mistakes={
            "that is a straight line. The cubic schedule prunes most at first,"
            " while there is much to spare": (lambda p, final: final * p),
            "that is slow at first and fast at the end. It must be the other way"
            " round: what is still to prune shrinks as (1 - progress)**3": (
                lambda p, final: final * p**3
            ),
            "that falls from 0.8 at the start to 0 at the end. It is what is still"
            " *to prune*; take it from the final sparsity": (
                lambda p, final: final * (1 - p) ** 3
            ),
            "that ends at 1, everything pruned. It must end at `final`, 0.8": (
                lambda p, final: 1 - (1 - p) ** 3
            ),
            "that starts at 0.2, not at 0: `final` must scale the whole bracket, 1"
            " - (1 - progress)**3": (lambda p, final: 1 - final * (1 - p) ** 3),
            "that is -0.2 at progress 0, and must be 0: `final` must scale the cube,"
            " too": (lambda p, final: final - (1 - p) ** 3),
            "that is 0.8 at progress 0. The cube is of 1 - progress, not of progress": (
                lambda p, final: final * (1 - p**3)
            ),
            "that is a square; the schedule is cubic, power 3": (
                lambda p, final: final * (1 - (1 - p) ** 2)
            ),
            "that is percent; a sparsity is a fraction": (
                lambda p, final: 100 * final * (1 - (1 - p) ** 3)
            ),
            "the final sparsity, 0.8, is written into the function": (
                lambda p, final: 0.8 * (1 - (1 - p) ** 3)
            ),
        },
        also_right={
            "as in the paper": """
                def cubic_sparsity(progress, final):
                    first = 0
                    return final + (first - final) * (1 - progress) ** 3
            """,
            "multiplied out": """
                def cubic_sparsity(progress, final):
                    return final * (3 * progress - 3 * progress**2 + progress**3)
            """,
            "numpy": """
                def cubic_sparsity(progress, final):
                    return final - final * np.power(1 - progress, 3)
            """,
            "torch": """
                def cubic_sparsity(progress, final):
                    return final * (1 - torch.tensor(1 - progress) ** 3)
            """,
        },
    ),
    Exercise(
        exchange,
        "utils/schedules.py (rewire)",
        asked="a boolean mask of the same shape, True = kept",
        cases=EXCHANGES,
        mistakes=EXCHANGE_MISTAKES,
        more=check_ties,
        also_right={
            "topk": """
                def exchange(weight, gradient, mask, count):
                    new = mask.clone().flatten()
                    size = weight.abs().masked_fill(~mask, float("inf")).flatten()
                    new[size.topk(count, largest=False).indices] = False
                    desire = gradient.abs().flatten().masked_fill(new, -1)
                    new[desire.topk(count).indices] = True
                    return new.view_as(mask)
            """,
            "as hinted": """
                def exchange(weight, gradient, mask, count):
                    new = mask.flatten().clone()
                    new[
                        torch.where(mask, weight.abs(), torch.inf)
                        .flatten()
                        .argsort()[:count]
                    ] = False
                    new[
                        torch.where(new, -1, gradient.flatten().abs())
                        .topk(count)
                        .indices
                    ] = True
                    return new.reshape(mask.shape)
            """,
            "just dropped stay away": """
                def exchange(weight, gradient, mask, count):
                    new = mask.clone()
                    kept, pruned = mask.nonzero(), (~mask).nonzero()
                    for i, j in kept[weight[mask].abs().argsort()[:count]]:
                        new[i, j] = False
                    for i, j in pruned[
                        gradient[~mask].abs().argsort(descending=True)[:count]
                    ]:
                        new[i, j] = True
                    return new
            """,
            "loop": """
                def exchange(weight, gradient, mask, count):
                    new = mask.clone()
                    for _ in range(count):
                        new[
                            min(
                                map(tuple, new.nonzero().tolist()),
                                key=lambda p: abs(weight[p]),
                            )
                        ] = False
                    for _ in range(count):
                        new[
                            max(
                                map(tuple, (~new).nonzero().tolist()),
                                key=lambda p: abs(gradient[p]),
                            )
                        ] = True
                    return new
            """,
            "numpy": """
                def exchange(weight, gradient, mask, count):
                    new = mask.numpy().copy().ravel()
                    kept = np.flatnonzero(new)
                    new[
                        kept[np.argsort(np.abs(weight.numpy().ravel()[kept]))[:count]]
                    ] = False
                    others = np.flatnonzero(~new)
                    new[
                        others[
                            np.argsort(-np.abs(gradient.numpy().ravel()[others]))[
                                :count
                            ]
                        ]
                    ] = True
                    return torch.from_numpy(new.reshape(mask.shape))
            """,
            "ranks": """
                def exchange(weight, gradient, mask, count):
                    def ranks(values):
                        return values.flatten().argsort().argsort().view_as(mask)

                    stay = mask & (
                        ranks(torch.where(mask, weight.abs(), torch.inf)) >= count
                    )
                    return stay | (
                        ranks(torch.where(stay, torch.inf, -gradient.abs())) < count
                    )
            """,
        },
    ),
]
