"""The exercises of lab 11, and the mistakes that their checks know."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.data import CLASSES, noisy_labels
from utils.exercises import Case, Exercise, WrongAnswer


def changed(dense_predictions: Tensor, pruned_predictions: Tensor) -> Tensor:
    """Whose most frequent answer is another after pruning: `[networks, pictures]` twice
    -> bool `[pictures]`.

    These are the *pruning identified exemplars* of Hooker et al. 2019, sec. 2. Of
    equally frequent answers the smallest class counts.
    """
    return dense_predictions.mode(dim=0).values != pruned_predictions.mode(dim=0).values


# ------------------------------------------------------------------------- noisy_labels


def check_noisy_labels(answer: Callable) -> None:
    """Typical mistakes: all ten classes drawn, in place, a probability, drawn with
    replacement, always one class on."""
    labels = torch.arange(9000) % len(CLASSES)
    results = [
        _noisy(answer, labels.clone(), 0.3, seed) for seed in (0, 1, 2, 3, 4, 5, 6, 7)
    ]
    if not torch.equal(_noisy(answer, labels.clone(), 0.3, 0), results[0]):
        raise WrongAnswer(
            "with the same seed it gives other labels the second time: somewhere"
            " `generator=generator` is missing."
        )
    differs = torch.stack([result != labels for result in results])
    _check_count(differs.sum(1).tolist())
    if all(torch.equal(row, differs[0]) for row in differs):
        raise WrongAnswer(
            "it always changes the same pictures, whatever the generator. Draw them: "
            "`torch.randperm(len(labels), generator=generator)[:count]`."
        )
    for row in differs:
        _check_places(row)
    for result, row in zip(results, differs, strict=True):
        _check_uniform(labels[row], result[row])
    _check_other_noise(answer)


def _noisy(answer: Callable, labels: Tensor, fraction: float, seed: int) -> Tensor:
    """One answer, if it is new labels at all."""
    before = labels.clone()
    got = answer(labels, fraction, torch.Generator().manual_seed(seed))
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, Tensor) or got.shape != labels.shape:
        shape = (
            f"shape {list(got.shape)}"
            if isinstance(got, Tensor)
            else type(got).__name__
        )
        raise WrongAnswer(
            f"for {len(labels)} labels it returns {shape}; it must be one label a"
            " picture."
        )
    if got.dtype != torch.int64:
        raise WrongAnswer(
            f"it returns {got.dtype}; labels are whole numbers, torch.int64."
        )
    if not torch.equal(labels, before) or (
        len(got) and got.data_ptr() == labels.data_ptr()
    ):
        raise WrongAnswer(
            "it changes the labels it was given: the right ones are lost. Work on"
            " `labels.clone()`."
        )
    if len(got) and not 0 <= int(got.min()) <= int(got.max()) < len(CLASSES):
        raise WrongAnswer(
            f"its labels go from {int(got.min())} to {int(got.max())}; classes are 0 to"
            f" 9. Beyond 9 begin again at 0: `% {len(CLASSES)}`."
        )
    return got


def _check_count(counts: list[int]) -> None:
    """How many of 9,000 changed at fraction 0.3, in eight draws: the mean tells how
    they were drawn."""
    if all(count == 2700 for count in counts):
        return
    mean = sum(counts) / len(counts)
    reasons = [
        (0, 0.5, "it changes no label"),
        (
            2410,
            2450,
            (
                "a label that is drawn from all ten classes is the old one again in one"
                " of ten cases"
            ),
        ),
        (
            2310,
            2356,
            (
                "some pictures were drawn twice. `randint` does that; `randperm` gives"
                " each once"
            ),
        ),
        (6299, 6301, "that is the part that should stay"),
        (
            2650,
            2750,
            (
                "each label by itself with a probability makes it some more or less."
                " Count first, then draw so many"
            ),
        ),
    ]
    found = [reason for low, high, reason in reasons if low <= mean <= high]
    raise WrongAnswer(
        "of 9,000 labels at fraction 0.3 exactly 2,700 must be wrong; in eight draws"
        f" it was {min(counts):,} to {max(counts):,}"
        + (f": {found[0]}." if found else ".")
    )


def _check_places(differs: Tensor) -> None:
    """Whether 2,700 of 9,000 places look drawn: by chance 810 of them have a neighbour
    behind them, give or take 24 (one standard deviation)."""
    pairs = int((differs[1:] & differs[:-1]).sum())
    if abs(pairs - 810) > 160:
        where = "side by side" if pairs > 810 else "at regular distances"
        raise WrongAnswer(
            f"the pictures whose labels it changes stand {where}: pictures that follow"
            " one another may have something in common. Draw each by itself:"
            " `torch.randperm(len(labels), generator=generator)[:count]`."
        )


def _check_uniform(old: Tensor, new: Tensor) -> None:
    """Each of the nine other classes is as likely, whatever the class was."""
    # how far each label moved: 1 to 9
    steps = torch.bincount((new - old) % len(CLASSES), minlength=len(CLASSES))[1:]
    targets = torch.bincount(new, minlength=len(CLASSES))
    if int((steps > 0).sum()) == 1:
        raise WrongAnswer(
            f"every wrong label is {int(steps.argmax()) + 1} further than the right"
            " one: a network could learn that as a rule. Draw how far, from 1 to 9,"
            " for each label."
        )
    if int((targets > 0).sum()) == 1:
        raise WrongAnswer(
            f"every wrong label is {int(targets.argmax())}. Draw a class for each"
            " picture, not one for all."
        )
    for what, counts, mean in (("move by", steps, 300), ("become", targets, 270)):
        if (counts - mean).abs().max() > 6 * mean**0.5:
            worst = int((counts - mean).abs().argmax())
            name = worst + 1 if what == "move by" else worst
            raise WrongAnswer(
                f"of 2,700 wrong labels {int(counts[worst])} {what} {name}; about"
                f" {mean} should. Each of the nine other classes must be as likely:"
                " draw from 1 to 9 (`torch.randint(1, 10, ...)`; 10 is not drawn)."
            )


def _check_other_noise(answer: Callable) -> None:
    for size, fraction, right in ((100, 0.29, 29), (10, 0.33, 3), (40, 0.5, 20)):
        labels = torch.arange(size) % len(CLASSES)
        count = int((_noisy(answer, labels, fraction, 1) != labels).sum())
        if count == 28:
            raise WrongAnswer(
                "100 labels at 0.29: it changes 28. 0.29 * 100 is 28.999...; `int`"
                " cuts, `round` rounds."
            )
        if (size, count) == (10, 4):
            raise WrongAnswer(
                "10 labels at 0.33: it changes 4. 3.3 is nearer to 3; `ceil` goes up,"
                " `round` rounds."
            )
        if count != right:
            raise WrongAnswer(
                f"{size} labels at fraction {fraction:g}: it changes {count}; it must"
                f" be {right}."
            )
    labels = torch.zeros(500, dtype=torch.int64)
    got = _noisy(answer, labels, 1.0, 0)
    if int((got != labels).sum()) != 500 or len(got.unique()) != 9:
        raise WrongAnswer(
            f"500 pictures of class 0, all to be wrong: {int((got != labels).sum())}"
            f" are, and the labels that occur are {got.unique().tolist()}. It must be 1"
            " to 9: there are ten classes, also where not all occur."
        )


def noised(draw: Callable, choose: Callable | None = None) -> Callable:
    """An answer that gives the labels that are chosen what is drawn. `choose` has the
    labels, how many, and the generator; `draw` what the chosen ones are."""

    def answer(labels: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
        count = round(fraction * len(labels))
        order = torch.randperm(len(labels), generator=generator)
        chosen = choose(labels, count, generator) if choose else order[:count]
        noisy = labels.clone()
        noisy[chosen] = draw(labels[chosen], generator)
        return noisy

    return answer


def further(low: int, high: int, classes: int | None = 10) -> Callable:
    """Labels so many classes further, from low to below high."""

    def draw(old: Tensor, generator: torch.Generator | None) -> Tensor:
        new = old + torch.randint(low, high, old.shape, generator=generator)
        return new % classes if classes else new

    return draw


def in_place(labels: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    return labels.copy_(noisy_labels(labels, fraction, generator))


def among_those_that_occur(
    labels: Tensor, fraction: float, generator: torch.Generator
) -> Tensor:
    return noised(further(1, 10, int(labels.max()) + 1))(labels, fraction, generator)


NOISY_MISTAKES = {
    "the old one again in one of ten cases": (
        noised(lambda old, g: torch.randint(10, old.shape, generator=g))
    ),
    "it changes the labels it was given: the right ones are lost": in_place,
    "each label by itself with a probability": (
        lambda labels, fraction, g: torch.where(
            torch.rand(len(labels), generator=g) < fraction,
            further(1, 10)(labels, g),
            labels,
        )
    ),
    "some pictures were drawn twice": noised(
        further(1, 10),
        lambda labels, n, g: torch.randint(len(labels), (n,), generator=g),
    ),
    "that is the part that should stay": (
        lambda labels, fraction, g: noisy_labels(labels, 1 - fraction, g)
    ),
    "it changes no label": lambda labels, fraction, g: labels.clone(),
    "every wrong label is 1 further than the right": noised(further(1, 2)),
    "every wrong label is 3": noised(
        lambda old, g: torch.full_like(old, 3),
        lambda labels, n, g: (
            (labels != 3).nonzero()[
                torch.randperm(int((labels != 3).sum()), generator=g)
            ]
        )[:n, 0],
    ),
    "0 move by 9; about 300 should": noised(further(1, 9)),
    "classes are 0 to 9. Beyond 9 begin again at 0": noised(further(1, 10, None)),
    "it always changes the same pictures": noised(
        further(1, 10), lambda labels, n, g: torch.arange(n)
    ),
    "somewhere `generator=generator` is missing": (
        lambda labels, fraction, g: noised(further(1, 10))(labels, fraction, None)
    ),
    "there are ten classes, also where not all occur": among_those_that_occur,
    "0.29 * 100 is 28.999...; `int` cuts, `round` rounds": (
        lambda labels, fraction, g: noisy_labels(
            labels, int(fraction * len(labels)) / len(labels), g
        )
    ),
    "100 labels at fraction 0.29: it changes 30": (
        lambda labels, fraction, g: noisy_labels(labels, 0.3, g)
    ),
    "`ceil` goes up, `round` rounds": (
        lambda labels, fraction, g: noisy_labels(
            labels, math.ceil(round(fraction * len(labels), 6)) / len(labels), g
        )
    ),
    "labels it changes stand side by side": noised(
        further(1, 10),
        lambda labels, n, g: (
            (torch.arange(n) + torch.randint(len(labels), (1,), generator=g))
            % len(labels)
        ),
    ),
    "labels it changes stand at regular distances": noised(
        further(1, 10),
        lambda labels, n, g: (
            (3 * torch.arange(n) + torch.randint(len(labels), (1,), generator=g))
            % len(labels)
        ),
    ),
    "it returns torch.float32; labels are whole numbers": (
        lambda *arguments: noisy_labels(*arguments).float()
    ),
    "it returns shape [2700]; it must be one label a picture": (
        lambda labels, fraction, g: noisy_labels(labels, fraction, g)[
            : round(fraction * len(labels))
        ]
    ),
    "it returns list; it must be one label a picture": (
        lambda labels, fraction, g: labels.tolist()
    ),
}

# ------------------------------------------------------------------------------ changed

ONE_EACH = "one True or False a picture"
DENSE = torch.tensor(  # five networks, ten pictures
    [
        [1, 1, 3, 2, 4, 6, 0, 1, 5, 6],
        [1, 1, 3, 7, 4, 6, 8, 1, 5, 6],
        [1, 1, 3, 7, 9, 6, 8, 1, 5, 6],
        [1, 1, 3, 7, 4, 6, 8, 1, 5, 6],
        [1, 1, 3, 7, 4, 6, 8, 1, 5, 6],
    ]
)
PRUNED = torch.tensor(
    [
        [1, 1, 5, 7, 9, 1, 8, 2, 7, 6],
        [1, 2, 5, 7, 9, 2, 0, 3, 6, 6],
        [1, 1, 5, 7, 4, 6, 8, 4, 6, 1],
        [1, 1, 3, 7, 9, 6, 0, 5, 6, 2],
        [1, 1, 3, 2, 9, 3, 8, 5, 7, 9],
    ]
)


def other_populations() -> list[Case]:
    """Other numbers of networks on each side; only pictures where no two answers are
    equally frequent."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    for dense, pruned in ((1, 3), (6, 4)):
        both = [
            torch.randint(0, 4, (networks, 200), generator=generator)
            for networks in (dense, pruned)
        ]
        counts = [F.one_hot(each, 4).sum(0).sort(1).values for each in both]
        clear = torch.stack([each[:, -1] > each[:, -2] for each in counts]).all(0)
        said = (
            "it is right for five networks of each, but for"
            f" {dense} dense and {pruned} pruned"
        )
        cases.append(Case(said, tuple(each[:, clear] for each in both)))
    return cases


def check_other_populations(answer: Callable) -> None:
    for case in other_populations():
        try:
            Exercise(changed, "", ONE_EACH, [case]).test(answer)
        except (RuntimeError, ValueError) as error:
            raise WrongAnswer(
                f"{case.said} it stops: {error}. There need not be equally many."
            ) from None


def strict_majority(dense: Tensor, pruned: Tensor) -> Tensor:
    """Changed only where more than half of the pruned networks agree."""
    usual = pruned.mode(0).values
    return changed(dense, pruned) & ((pruned == usual).double().mean(0) > 0.5)


CHANGED_MISTAKES = {
    "that is upside down: True must be where the most frequent answers *differ*": (
        lambda d, p: ~changed(d, p)
    ),
    "one network that differs is enough for it; the *most frequent* answer counts": (
        lambda d, p: (d.mode(0).values != p).any(0)
    ),
    "it asks that *every* pruned network differs; the most frequent answer counts": (
        lambda d, p: (d.mode(0).values != p).all(0)
    ),
    "it asks how many pruned networks *differ*. They may do so in different ways; ask"
    " what they say most often": (
        lambda d, p: (p != d.mode(0).values).double().mean(0) > 0.5,
        lambda d, p: (p != d.mode(0).values).double().mean(0) >= 0.5,
    ),
    "it asks for more than half of the networks; the most frequent answer may have"
    " fewer": strict_majority,
    "it compares the first network of each alone": lambda d, p: d[0] != p[0],
    "that is the median; classes have no order. Use `mode`": (
        lambda d, p: d.median(0).values != p.median(0).values
    ),
    "that is the mean; half-way between a shirt and a bag is no class": (
        lambda d, p: d.double().mean(0).round() != p.double().mean(0).round()
    ),
    "it compares `.indices` of the mode; take `.values`": (
        lambda d, p: d.mode(0).indices != p.mode(0).indices
    ),
    "that is one value a *network*. The mode is over the networks, `dim=0`; `mode`"
    " takes the last dimension unless told": (
        lambda d, p: d.mode().values != p.mode().values
    ),
    "those are positions; wanted is for each picture, changed or not": (
        lambda d, p: changed(d, p).nonzero().flatten()
    ),
    "that is how many; wanted is for each picture, changed or not": (
        lambda d, p: changed(d, p).sum().item()
    ),
    "that is each network by itself": lambda d, p: d != p,
    "There need not be equally many": (
        lambda d, p: torch.stack([d, p]).mode(1).values.diff(dim=0)[0] != 0
    ),
}

EXERCISES = [
    Exercise(
        noisy_labels,
        "utils/data.py (noisy_labels)",
        mistakes=NOISY_MISTAKES,
        more=check_noisy_labels,
        watch=False,
        also_right={
            "as hinted": """
                def noisy_labels(labels, fraction, generator):
                    chosen = torch.randperm(len(labels), generator=generator)[
                        : round(fraction * len(labels))
                    ]
                    noisy = labels.clone()
                    noisy[chosen] = (
                        labels[chosen]
                        + torch.randint(1, 10, (len(chosen),), generator=generator)
                    ) % 10
                    return noisy
            """,
            "rand": """
                def noisy_labels(labels, fraction, generator):
                    chosen = torch.rand(
                        len(labels), generator=generator
                    ).argsort() < round(fraction * len(labels))
                    steps = torch.randint(9, labels.shape, generator=generator) + 1
                    return torch.where(chosen, labels + steps, labels) % 10
            """,
            "among the nine": """
                def noisy_labels(labels, fraction, generator):
                    noisy = labels.clone()
                    for i in torch.randperm(len(labels), generator=generator)[
                        : round(fraction * len(labels))
                    ].tolist():
                        others = [c for c in range(10) if c != labels[i]]
                        noisy[i] = others[torch.randint(9, (1,), generator=generator)]
                    return noisy
            """,
            "multinomial": """
                def noisy_labels(labels, fraction, generator):
                    wrong = (
                        torch.ones(len(labels), 10)
                        .scatter_(1, labels[:, None], 0)
                        .multinomial(1, generator=generator)[:, 0]
                    )
                    order = torch.randperm(len(labels), generator=generator)
                    return torch.where(
                        order < round(fraction * len(labels)), wrong, labels
                    )
            """,
        },
    ),
    Exercise(
        changed,
        "lessons/11_generalization/exercises.py",
        asked=ONE_EACH,
        cases=[Case("for five networks of each and ten pictures", (DENSE, PRUNED))],
        mistakes=CHANGED_MISTAKES,
        more=check_other_populations,
        also_right={
            "as hinted": """
                def changed(dense_predictions, pruned_predictions):
                    return (
                        dense_predictions.mode(dim=0).values
                        != pruned_predictions.mode(dim=0).values
                    )
            """,
            "counts": """
                def changed(dense_predictions, pruned_predictions):
                    def usual(predictions):
                        return (
                            torch.nn.functional.one_hot(predictions, 10)
                            .sum(0)
                            .argmax(1)
                        )

                    return usual(dense_predictions) != usual(pruned_predictions)
            """,
            "loop, other ties": """
                def changed(dense_predictions, pruned_predictions):
                    from collections import Counter

                    def usual(predictions):
                        return [
                            Counter(column).most_common(1)[0][0]
                            for column in zip(*predictions.tolist())
                        ]

                    return torch.tensor(
                        [
                            a != b
                            for a, b in zip(
                                usual(dense_predictions), usual(pruned_predictions)
                            )
                        ]
                    )
            """,
            "transposed": """
                def changed(dense_predictions, pruned_predictions):
                    dense, _ = torch.mode(dense_predictions.T)
                    pruned, _ = torch.mode(pruned_predictions.T)
                    return ~torch.eq(dense, pruned)
            """,
        },
    ),
]
