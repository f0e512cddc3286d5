"""The exercises of lab 11, their checks and the mistakes that are told apart."""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.data import CLASSES, noisy_labels
from utils.exercises import Exercise, WrongAnswer


def changed(dense_predictions: Tensor, pruned_predictions: Tensor) -> Tensor:
    """Whose most frequent answer is another after pruning: `[networks, pictures]` twice
    -> bool `[pictures]`.

    These are the *pruning identified exemplars* of Hooker et al. 2019, sec. 2. Of
    equally frequent answers the smallest class counts.
    """
    return dense_predictions.mode(dim=0).values != pruned_predictions.mode(dim=0).values


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
    for size, fraction, right in ((100, 0.29, 29), (40, 0.5, 20), (60, 0.0, 0)):
        labels = torch.arange(size) % len(CLASSES)
        count = int((_noisy(answer, labels, fraction, 1) != labels).sum())
        if count == 28:
            raise WrongAnswer(
                "100 labels at 0.29: it changes 28. 0.29 * 100 is 28.999...; `int`"
                " cuts, `round` rounds."
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


DENSE = torch.tensor(  # five networks, nine pictures
    [
        [1, 1, 3, 2, 4, 6, 0, 1, 5],
        [1, 1, 3, 7, 4, 6, 8, 1, 5],
        [1, 1, 3, 7, 9, 6, 8, 1, 5],
        [1, 1, 3, 7, 4, 6, 8, 1, 5],
        [1, 1, 3, 7, 4, 6, 8, 1, 5],
    ]
)
PRUNED = torch.tensor(
    [
        [1, 1, 5, 7, 9, 1, 8, 2, 7],
        [1, 2, 5, 7, 9, 2, 0, 3, 6],
        [1, 1, 5, 7, 4, 6, 8, 4, 6],
        [1, 1, 3, 7, 9, 6, 0, 5, 6],
        [1, 1, 3, 2, 9, 3, 8, 5, 7],
    ]
)


def check_changed(answer: Callable) -> None:
    """Typical mistakes: any disagreement, all must agree, the mode along the wrong
    axis, mean or median, positions."""
    dense, pruned = DENSE.clone(), PRUNED.clone()
    got = answer(dense, pruned)
    _check_mask(got, DENSE.shape)
    if not (torch.equal(dense, DENSE) and torch.equal(pruned, PRUNED)):
        raise WrongAnswer(
            "it has changed the predictions it was given. Only look at them."
        )
    right, usual = changed(DENSE, PRUNED), DENSE.mode(0).values
    reasons = [
        (
            ~right,
            (
                "that is upside down: True must be where the most frequent answers"
                " *differ*"
            ),
        ),
        (
            (usual != PRUNED).any(0),
            (
                "one network that differs is enough for it; the *most frequent* answer"
                " counts"
            ),
        ),
        (
            (usual != PRUNED).all(0),
            (
                "it asks that *every* pruned network differs; the most frequent answer"
                " counts"
            ),
        ),
        (DENSE[0] != PRUNED[0], "it compares the first network of each alone"),
        (
            DENSE.median(0).values != PRUNED.median(0).values,
            "that is the median; classes have no order. Use `mode`",
        ),
        (
            _rounded(DENSE) != _rounded(PRUNED),
            "that is the mean; half-way between a shirt and a bag is no class",
        ),
        (
            DENSE.mode(0).indices != PRUNED.mode(0).indices,
            "it compares `.indices` of the mode; take `.values`",
        ),
    ]
    for wrong, reason in reasons:
        if torch.equal(got, wrong):
            raise WrongAnswer(
                f"it finds the pictures {_where(got)}, and {_where(right)} is right:"
                f" {reason}."
            )
    if not torch.equal(got, right):
        raise WrongAnswer(
            f"of nine pictures it finds {_where(got)}; it must find {_where(right)}."
        )
    _check_other_populations(answer)


def _rounded(predictions: Tensor) -> Tensor:
    return predictions.float().mean(0).round()


def _where(mask: Tensor) -> str:
    return (
        ", ".join(str(position) for position in mask.nonzero().flatten().tolist())
        or "none"
    )


def _check_mask(got: object, shape: tuple[int, ...]) -> None:
    networks, pictures = shape
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, Tensor):
        raise WrongAnswer(
            f"it returns {type(got).__name__}; it must return a tensor, one True or"
            " False a picture."
        )
    if got.shape == (networks,) and networks != pictures:
        raise WrongAnswer(
            f"for {networks} networks and {pictures} pictures it returns one value a"
            " *network*. The mode is over the networks, `dim=0`; `mode` takes the last"
            " dimension unless told."
        )
    if got.dtype != torch.bool:
        raise WrongAnswer(
            f"it returns {got.dtype}; it must be boolean: for each picture, changed or"
            " not."
        )
    if got.shape != (pictures,):
        raise WrongAnswer(
            f"for {pictures} pictures it returns shape {list(got.shape)}; it must be"
            f" [{pictures}]."
        )


def _check_other_populations(answer: Callable) -> None:
    """Other numbers of networks on each side; only pictures where no two answers are
    equally frequent count."""
    generator = torch.Generator().manual_seed(0)
    for dense_networks, pruned_networks in ((1, 3), (6, 4)):
        dense = torch.randint(0, 4, (dense_networks, 200), generator=generator)
        pruned = torch.randint(0, 4, (pruned_networks, 200), generator=generator)
        clear = torch.ones(200, dtype=torch.bool)
        for each in (dense, pruned):
            counts = torch.nn.functional.one_hot(each, 4).sum(0).sort(1).values
            clear &= counts[:, -1] > counts[:, -2]
        try:
            got = answer(dense, pruned)
        except (RuntimeError, ValueError) as error:
            raise WrongAnswer(
                f"with {dense_networks} dense and {pruned_networks} pruned networks it"
                f" stops: {error}. There need not be equally many."
            ) from None
        _check_mask(got, dense.shape)
        if not torch.equal(got[clear], changed(dense, pruned)[clear]):
            raise WrongAnswer(
                f"it is right for five networks of each, not for {dense_networks} dense"
                f" and {pruned_networks} pruned."
            )


EXERCISES = [
    Exercise(noisy_labels, "utils/data.py (noisy_labels)", more=check_noisy_labels),
    Exercise(changed, "lessons/11_generalization/exercises.py", more=check_changed),
]
