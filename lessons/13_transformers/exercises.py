"""The exercises of lab 13, and the mistakes that their checks know."""

from collections import Counter
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from utils.exercises import Case, Exercise, WrongAnswer


def most_frequent_pair(words: list[list[str]], counts: list[int]) -> tuple[str, str]:
    """The two neighbours that most often stand side by side within a word. A word
    counts as often as it occurs in the text; of equally frequent pairs the last in the
    alphabet."""
    pairs = Counter[tuple[str, str]]()
    for word, count in zip(words, counts, strict=True):
        for pair in pairwise(word):
            pairs[pair] += count
    return max(pairs, key=lambda pair: (pairs[pair], pair))


def wanda(weight: Tensor, inputs: Tensor, sparsity: float) -> Tensor:
    """The mask of Sun et al. 2024: `|w|` times the root mean square of the input that w
    multiplies, compared within each row, `[outputs, inputs]`."""
    score = weight.abs() * inputs.square().mean(0).sqrt()
    count = round(sparsity * weight.shape[1])
    order = score.argsort(dim=1).argsort(dim=1)  # the rank of each within its row
    return order >= count


def in_other_units(
    gains: Tensor, readers: list[Tensor], factors: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The same function with inputs that are `factors` times as large: gains of a norm
    `[width]` times the factors, the columns of all weights that read it divided by
    them."""
    return gains * factors, [weight / factors for weight in readers]


def refit_row(inputs: Tensor, weight: Tensor, kept: Tensor) -> Tensor:
    """The weights `[n]` of one output, zero where not kept, whose output on these
    inputs `[rows, n]` is nearest to the one that all of `weight` give."""
    wanted = inputs @ weight
    result = torch.zeros_like(weight)
    result[kept] = torch.linalg.lstsq(inputs[:, kept], wanted[:, None]).solution[:, 0]
    return result


# --------------------------------------------------------------------- what is mistaken


def pairs_of(words: list[list[str]], counts: list[int]) -> Counter:
    """How often each pair stands there, with each word as often as it counts."""
    pairs = Counter[tuple[str, str]]()
    for word, count in zip(words, counts, strict=True):
        for pair in pairwise(word):
            pairs[pair] += count
    return pairs


def first_of(pairs: Counter) -> tuple[str, str]:
    """The most frequent, the last in the alphabet of equal ones."""
    return max(pairs, key=lambda pair: (pairs[pair], pair))


def across_words(words: list[list[str]], counts: list[int]) -> tuple[str, str]:
    """As if the words stood in one row."""
    parts = [
        part for w, n in zip(words, counts, strict=True) for _ in range(n) for part in w
    ]
    return first_of(Counter(pairwise(parts)))


def first_in_order(words: list[list[str]], counts: list[int]) -> tuple[str, str]:
    """Of equal ones the first in the alphabet."""
    pairs = pairs_of(words, counts)
    return max(sorted(pairs), key=lambda pair: pairs[pair])


def of_sizes(score: Tensor, sparsity: float) -> Tensor:
    """The mask of a score, row by row, as the right answer makes it."""
    return score.argsort(dim=1).argsort(dim=1) >= round(sparsity * score.shape[1])


def rms(inputs: Tensor, axis: int = 0) -> Tensor:
    return inputs.square().mean(axis).sqrt()


def by_one_threshold(weight: Tensor, inputs: Tensor, sparsity: float) -> Tensor:
    """All weights of the layer compete."""
    score = (weight.abs() * rms(inputs)).flatten()
    ranks = score.argsort().argsort() >= round(sparsity * score.numel())
    return ranks.view(weight.shape)


def by_column(weight: Tensor, inputs: Tensor, sparsity: float) -> Tensor:
    """The weights of one input compete."""
    score = weight.abs() * rms(inputs)
    count = round(sparsity * score.shape[0])
    return score.argsort(dim=0).argsort(dim=0) >= count


def as_mask(got: Any) -> Any:
    """A mask; a score that was not made one is named."""
    if isinstance(got, Tensor) and got.is_floating_point() and got.ndim == 2:
        raise WrongAnswer(
            "it returns numbers, and a mask is asked for: True where a weight stays,"
            " False where it is pruned."
        )
    return got


def as_pair(got: Any) -> Any:
    """Two pieces, also as a list, or joined to one piece, which is named."""
    if isinstance(got, list) and all(isinstance(part, str) for part in got):
        return tuple(got)
    if isinstance(got, tuple) and len(got) == 2 and isinstance(got[0], tuple):
        raise WrongAnswer("it returns the pair and its count; return the pair alone.")
    return got


def as_both(got: Any) -> Any:
    """Gains and readers, of which a tuple will do for the list."""
    if isinstance(got, (tuple, list)) and len(got) == 2:
        gains, readers = got
        return gains, list(readers) if isinstance(readers, tuple) else readers
    return got


def unchanged(values: Tensor, kept: Tensor) -> Tensor:
    """Zero where not kept."""
    return torch.where(kept, values, 0.0)


def only_kept_part(inputs: Tensor, weight: Tensor, kept: Tensor) -> Tensor:
    """As if the pruned weights had never given anything."""
    shorter = inputs[:, kept]
    result = torch.zeros_like(weight)
    wanted = (shorter @ weight[kept])[:, None]
    result[kept] = torch.linalg.lstsq(shorter, wanted).solution[:, 0]
    return result


def to_match_the_mean(inputs: Tensor, weight: Tensor, kept: Tensor) -> Tensor:
    """One factor for all kept weights."""
    wanted, given = inputs @ weight, inputs @ unchanged(weight, kept)
    return unchanged(weight, kept) * (wanted @ given) / (given @ given)


def only_the_pruned(inputs: Tensor, weight: Tensor, kept: Tensor) -> Tensor:
    """What makes up for the pruned weights, without the weights themselves."""
    return refit_row(inputs, weight, kept) - unchanged(weight, kept)


WORDS = [list("then"), list("he"), list("in"), list("on")]
WEIGHT = torch.tensor(
    [
        [0.9, -0.4, 0.3, 0.2],
        [-0.1, 0.7, 0.6, -0.5],
        [2.0, 3.1, -2.2, 1.9],
        [0.05, 0.04, -0.03, 0.08],
    ]
)
# columns: of even size; rarely large; of even size, negative; small, often negative
INPUTS = torch.tensor(
    [
        [1.0, 0.0, -2.0, 0.5],
        [-1.0, 0.1, -2.0, 0.6],
        [1.0, 6.0, -2.0, 0.5],
        [-1.0, 0.1, -2.0, 0.4],
        [1.0, 0.0, -2.0, 0.5],
    ]
)
WIDE = torch.tensor(
    [[0.5, -1.0, 2.0, 0.1, -3.0, 1.5], [1.0, 0.9, -0.2, 4.0, 0.3, -2.0]]
)
WIDE_INPUTS = torch.tensor(
    [[1.0, 0.5, 0.0, 2.0, -0.1, 1.0], [3.0, -0.5, 0.4, 2.0, 0.1, -1.0]]
)
SQUARE = torch.tensor([[1.0, 2.0, 4.0], [3.0, -6.0, 8.0], [5.0, 10.0, -12.0]])
ALIKE = torch.tensor(
    [
        [1.0, 1.1, 0.0, 0.3],
        [2.0, 1.9, 1.0, -0.2],
        [-1.0, -1.2, 2.0, 0.4],
        [0.5, 0.6, -1.0, 0.9],
        [3.0, 3.1, 0.5, -0.7],
        [-2.0, -2.2, 1.5, 0.1],
    ]
)

EXERCISES = [
    Exercise(
        most_frequent_pair,
        "lessons/13_transformers/exercises.py",
        asked="the two pieces, as a pair",
        cases=[
            Case(
                "for the words t-h-e-n, h-e, i-n and o-n, met 2, 1, 4 and 1 times,",
                (WORDS, [2, 1, 4, 1]),
            ),
            Case(
                "for th-e and th-e-m, met 3 times and once,",
                ([["th", "e"], ["th", "e", "m"]], [3, 1]),
            ),
            Case(
                "for a-b and c-d, each met twice (the last in the alphabet wins),",
                ([["c", "d"], ["a", "b"]], [2, 2]),
                hint="Of equally frequent pairs take the largest.",
            ),
            Case("for t-h-e, met once,", ([["t", "h", "e"]], [1])),
            Case(
                "for a, met 6 times, and t-o, met twice,", ([["a"], ["t", "o"]], [6, 2])
            ),
        ],
        mistakes={
            "a word that occurs four times counts four times; add its count, not 1": (
                lambda words, counts: first_of(pairs_of(words, [1] * len(words)))
            ),
            "a pair does not reach from the end of one word into the next": (
                across_words
            ),
            "that is the rarest pair": lambda words, counts: min(
                pairs_of(words, counts), key=lambda p: (pairs_of(words, counts)[p], p)
            ),
            "of equally frequent pairs the last in the alphabet is wanted": (
                first_in_order
            ),
            "it returns the pair and its count": lambda words, counts: pairs_of(
                words, counts
            ).most_common(1)[0],
            "that is the joined piece; return its two parts, as a pair": (
                lambda words, counts: "".join(first_of(pairs_of(words, counts)))
            ),
        },
        read=as_pair,
        also_right={
            "loop": """
                def most_frequent_pair(words, counts):
                    found = {}
                    for word, count in zip(words, counts):
                        for place in range(len(word) - 1):
                            pair = (word[place], word[place + 1])
                            found[pair] = found.get(pair, 0) + count
                    return sorted(found.items(), key=lambda x: (x[1], x[0]))[-1][0]
            """,
            "two passes": """
                def most_frequent_pair(words, counts):
                    found = {}
                    for word, count in zip(words, counts):
                        for pair in zip(word, word[1:]):
                            found.setdefault(pair, []).append(count)
                    most = max(sum(each) for each in found.values())
                    return list(max(p for p in found if sum(found[p]) == most))
            """,
        },
    ),
    Exercise(
        wanda,
        "lessons/13_transformers/exercises.py (for all layers: utils.scores.activation,"
        " with scope='unit')",
        asked="a mask, True where a weight stays",
        cases=[
            Case(
                "for a layer of four outputs and four inputs, at half,",
                (WEIGHT, INPUTS, 0.5),
            ),
            Case("at 45%, which is 1.8 of four", (WEIGHT, INPUTS, 0.45)),
            Case("for two outputs, six inputs and 40%", (WIDE, WIDE_INPUTS, 0.4)),
        ],
        mistakes={
            "that takes the mean of the inputs, in which positive and negative ones"
            " cancel; take the root of the mean square": (
                lambda w, x, s: of_sizes(w.abs() * x.mean(0).abs(), s),
                lambda w, x, s: of_sizes(w.abs() * x.mean(0), s),
            ),
            "that takes the mean size of an input; a rare large input counts more in"
            " the root of the mean square": (
                lambda w, x, s: of_sizes(w.abs() * x.abs().mean(0), s)
            ),
            "all weights of the layer compete; Wanda prunes the same share of each row,"
            " that is of each output": by_one_threshold,
            "the weights of one column compete; those of one *row*, which make one"
            " output together, must": by_column,
            "it is turned round: True means kept": (
                lambda w, x, s: ~of_sizes(w.abs() * rms(x), s),
                lambda w, x, s: of_sizes(-w.abs() * rms(x), s),
            ),
            "the sign of the weight counts there; a large negative weight is large": (
                lambda w, x, s: of_sizes(w * rms(x), s)
            ),
            "that orders each row by magnitude alone: the size of an input belongs to a"
            " column": (
                lambda w, x, s: of_sizes(w.abs(), s),
                lambda w, x, s: of_sizes(w.abs() * rms(x)[:, None], s),
            ),
            "it divides by the size of the input; the product counts": (
                lambda w, x, s: of_sizes(w.abs() / rms(x), s)
            ),
            "it keeps the share that is to be pruned": (
                lambda w, x, s: of_sizes(w.abs() * rms(x), 1 - s)
            ),
            "it returns numbers, and a mask is asked for": (
                lambda w, x, s: w.abs() * rms(x)
            ),
        },
        read=as_mask,
        also_right={
            "topk": """
                def wanda(weight, inputs, sparsity):
                    score = weight.abs() * inputs.norm(dim=0)
                    n = weight.shape[1]
                    places = score.topk(n - round(sparsity * n), dim=1).indices
                    return torch.zeros_like(weight, dtype=torch.bool).scatter(
                        1, places, True
                    )
            """,
            "loop": """
                def wanda(weight, inputs, sparsity):
                    size = (inputs.double() ** 2).mean(0)
                    mask = torch.ones(weight.shape, dtype=torch.bool)
                    for row in range(weight.shape[0]):
                        score = weight[row].double() ** 2 * size
                        count = round(sparsity * len(score))
                        mask[row, score.argsort()[:count]] = False
                    return mask
            """,
        },
    ),
    Exercise(
        in_other_units,
        "lessons/13_transformers/exercises.py",
        asked="the new gains, and a list of the new weights",
        cases=[
            Case(
                "for gains 1, 2, 3, two readers and factors 2, 0.5, 4",
                (
                    torch.tensor([1.0, 2.0, 3.0]),
                    [SQUARE, SQUARE.flip(0)],
                    torch.tensor([2.0, 0.5, 4.0]),
                ),
            ),
            Case(
                "for one reader with two outputs",
                (
                    torch.tensor([1.0, 2.0, 3.0]),
                    [SQUARE[:2]],
                    torch.tensor([2.0, 0.5, 4.0]),
                ),
            ),
        ],
        mistakes={
            "each input must become `factors` times as large: the gains are multiplied,"
            " the columns divided, not the reverse": (
                lambda g, readers, f: (g / f, [w * f for w in readers])
            ),
            "the gains are right; the columns must be divided, or the network says"
            " something else": (
                lambda g, readers, f: (g * f, readers),
                lambda g, readers, f: (g * f, [w * f for w in readers]),
            ),
            "the columns are right; the gains must be multiplied, or the network says"
            " something else": (lambda g, readers, f: (g, [w / f for w in readers])),
            "it divides the rows; an input belongs to a column": (
                lambda g, readers, f: (
                    g * f,
                    [w / f[: len(w), None] for w in readers],
                )
            ),
            "only the first reader is divided; all that read this norm must be": (
                lambda g, readers, f: (g * f, [readers[0] / f, *readers[1:]])
            ),
            "it divides by one number, and each column has a factor of its own": (
                lambda g, readers, f: (g * f, [w / f.mean() for w in readers])
            ),
            "the factors are added, and they multiply": (
                lambda g, readers, f: (g + f, [w - f for w in readers])
            ),
        },
        read=as_both,
        also_right={
            "loop": """
                def in_other_units(gains, readers, factors):
                    gains = gains.clone()
                    readers = [weight.clone() for weight in readers]
                    for column, factor in enumerate(factors.tolist()):
                        gains[column] *= factor
                        for weight in readers:
                            weight[:, column] /= factor
                    return gains, readers
            """,
            "matrix": """
                def in_other_units(gains, readers, factors):
                    return gains * factors, tuple(
                        weight @ torch.diag(1 / factors) for weight in readers
                    )
            """,
        },
    ),
    Exercise(
        refit_row,
        "lessons/13_transformers/exercises.py (for a whole network: utils.refit.refit)",
        asked="all weights of the output, zero where they are not kept",
        cases=[
            Case(
                "for w = [1, 2, -1, 0.5] and the second weight pruned",
                (
                    ALIKE,
                    torch.tensor([1.0, 2.0, -1.0, 0.5]),
                    torch.tensor([True, False, True, True]),
                ),
            ),
            Case(
                "with two weights pruned",
                (
                    ALIKE,
                    torch.tensor([1.0, 2.0, -1.0, 0.5]),
                    torch.tensor([False, True, True, False]),
                ),
            ),
            Case(
                "with nothing pruned",
                (
                    ALIKE,
                    torch.tensor([0.3, 0.1, 0.2, -0.7]),
                    torch.tensor([True, True, True, True]),
                ),
            ),
        ],
        mistakes={
            "the kept weights are as they were, so they make up for nothing": (
                lambda x, w, kept: unchanged(w, kept),
                only_kept_part,
            ),
            "the pruned weight is not zero": (
                lambda x, w, kept: torch.where(kept, refit_row(x, w, kept), w)
            ),
            "it returns the kept weights alone; put them back at their places, with"
            " zeros between": lambda x, w, kept: refit_row(x, w, kept)[kept],
            "that scales all kept weights by one factor; each can have its own": (
                to_match_the_mean
            ),
            "that is what must be added to the kept weights, not the weights": (
                only_the_pruned
            ),
            "it keeps what is to be pruned, and prunes what is kept": (
                lambda x, w, kept: refit_row(x, w, ~kept)
            ),
        },
        also_right={
            "gram": """
                def refit_row(inputs, weight, kept):
                    x = inputs.double()
                    gram = x.T @ x
                    result = torch.zeros_like(weight)
                    result[kept] = torch.linalg.solve(
                        gram[kept][:, kept], (gram @ weight.double())[kept]
                    ).float()
                    return result
            """,
            "numpy": """
                def refit_row(inputs, weight, kept):
                    x, w, k = inputs.numpy(), weight.numpy(), kept.numpy()
                    found = np.linalg.lstsq(x[:, k], x @ w, rcond=None)[0]
                    result = np.zeros_like(w)
                    result[k] = found
                    return torch.from_numpy(result)
            """,
            "inverse": """
                def refit_row(inputs, weight, kept):
                    result = weight * 0
                    result[kept] = torch.linalg.pinv(inputs[:, kept]) @ (
                        inputs @ weight
                    )
                    return result
            """,
        },
    ),
]
