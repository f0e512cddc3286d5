"""The exercises of lab 09, their checks and the mistakes that are told apart."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.distillation import soft_loss, soft_targets
from utils.exercises import Exercise, WrongAnswer


def softened(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities at a temperature: outputs `[pictures, classes]` -> `softmax(logits
    / temperature)`, each row 1."""
    return soft_targets(logits, temperature)


def distillation_loss(
    logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float,
    weight: float,
) -> Tensor:
    """`weight * T**2 * KL(teacher || student)` at temperature T, and `1 - weight` times
    the labels' cross-entropy."""
    soft = soft_loss(logits, teacher_logits, temperature)
    return weight * soft + (1 - weight) * F.cross_entropy(logits, labels)


def check_softened(answer: Callable) -> None:
    """Typical mistakes: times T, T forgotten, T too late, over the batch, logarithms,
    rows that are not 1."""
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.5]], dtype=torch.float64)
    before = logits.clone()
    got = answer(logits, 2.0)
    _check_tensor(got, (2, 3), "probabilities, one row a picture, one column a class")
    if not torch.equal(logits, before):
        raise WrongAnswer(
            "it has changed the `logits` it was given (`/=` does that). Write `logits /"
            " temperature`."
        )
    right = softened(logits, 2.0)
    reasons = [
        (
            (2 * logits).softmax(1),
            (
                "that is more certain than without a temperature: divide by it, do not"
                " multiply"
            ),
        ),
        (logits.softmax(1), "that is the plain softmax; the temperature is missing"),
        (
            logits.softmax(1) / 2,
            "the outputs are to be divided by the temperature, not the probabilities",
        ),
        (
            (logits / 2).softmax(0),
            (
                "its columns add up to 1: that compares pictures. Softmax over the"
                " classes, `dim=1`"
            ),
        ),
        (
            (logits / 2).flatten().softmax(0).view(2, 3),
            "all six numbers together add up to 1; each row must",
        ),
        (
            right.log(),
            (
                "those are logarithms of probabilities: log_softmax. Here softmax"
                " itself is meant"
            ),
        ),
        ((logits / 2).exp(), "its rows do not add up to 1: divide by their sums"),
        (
            (logits / 2).sigmoid(),
            "that is a sigmoid, each class by itself; the classes must share 1",
        ),
        (
            (logits.softmax(1) / 2).softmax(1),
            "that is a softmax of a softmax; give it the outputs as they are",
        ),
        (right.softmax(1), "that is a softmax of a softmax; one is enough"),
        ((logits / 4).softmax(1), "that is temperature 4: divided once too often"),
    ]
    for wrong, reason in reasons:
        if _close(got, wrong):
            raise WrongAnswer(
                f"for outputs 2, 1, -1 at temperature 2 it returns {_row(got)}, and"
                f" {_row(right)} is right: {reason}."
            )
    if not _close(got, right):
        raise WrongAnswer(
            f"for outputs 2, 1, -1 at temperature 2 it returns {_row(got)}; it must be"
            f" {_row(right)}."
        )
    _check_other_softened(answer)


def _check_other_softened(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    for pictures, classes, temperature in ((4, 10, 0.5), (3, 3, 7.0), (1, 5, 1.0)):
        logits = 3 * torch.randn(
            pictures, classes, generator=generator, dtype=torch.float64
        )
        if not _close(answer(logits, temperature), softened(logits, temperature)):
            raise WrongAnswer(
                f"it is right at temperature 2, but not for [{pictures}, {classes}]"
                f" outputs at {temperature:g}. Is a number written into the function?"
            )
    if not _close(
        answer(torch.tensor([[1000.0, 0.0]]), 1.0), torch.tensor([[1.0, 0.0]])
    ):
        raise WrongAnswer(
            "for outputs 1000, 0 it does not return 1, 0: `exp(1000)` is infinite."
            " `torch.softmax` subtracts the largest output first."
        )


def check_distillation_loss(answer: Callable) -> None:
    """Typical mistakes: T**2, the direction of the divergence, the weights, what is
    averaged over, T on the labels."""
    logits, teacher, labels = _example(4, 5, seed=3)
    given = teacher.clone()
    got = answer(logits.clone().requires_grad_(), given, labels, 3.0, 0.7)
    _check_one_number(got)
    if not torch.equal(given, teacher):
        raise WrongAnswer(
            "it has changed the `teacher_logits` it was given. Only look at them."
        )
    right = distillation_loss(logits, teacher, labels, 3.0, 0.7)
    text = (
        "for 4 pictures of 5 classes, temperature 3, weight 0.7, it returns"
        f" {got.item():.4f}"
    )
    for wrong, reason in _mistaken_mixtures(
        logits, teacher, labels
    ) + _mistaken_divergences(logits, teacher, labels):
        if _close(got, wrong):
            raise WrongAnswer(f"{text}, and {right.item():.4f} is right: {reason}.")
    if not _close(got, right):
        raise WrongAnswer(f"{text}; it must be {right.item():.4f}.")
    for pictures, classes, temperature, weight in (
        (6, 10, 1.0, 0.5),
        (2, 3, 5.0, 1.0),
        (3, 4, 2.0, 0.0),
    ):
        example = _example(pictures, classes, seed=pictures)
        if not _close(
            answer(*example, temperature, weight),
            distillation_loss(*example, temperature, weight),
        ):
            raise WrongAnswer(
                f"it is right for one example, but not for {pictures} pictures of"
                f" {classes} classes, temperature {temperature:g}, weight {weight:g}."
                " Is a number written into the function?"
            )


def _example(pictures: int, classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs of a student and of a teacher, and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits, teacher = 2 * torch.randn(
        2, pictures, classes, generator=generator, dtype=torch.float64
    )
    return logits, teacher, torch.randint(classes, (pictures,), generator=generator)


def _check_one_number(got: object) -> None:
    _check_tensor(got, (), "one number, the mean over the pictures")
    if not got.requires_grad:
        raise WrongAnswer(
            "no gradient can flow back through its result, so the student would learn"
            " nothing. Leave out `item`, `detach` and `no_grad`."
        )
    if got.isnan():
        raise WrongAnswer(
            "it returns nan. `F.kl_div` takes the student's *log*-probabilities, then"
            " the teacher's probabilities; their logarithms only with"
            " `log_target=True`."
        )


def _mistaken_mixtures(
    logits: Tensor, teacher: Tensor, labels: Tensor
) -> list[tuple[Tensor, str]]:
    """What each mistake in adding the parts gives at temperature 3, weight 0.7, and its
    reason."""
    kl, hard = soft_loss(logits, teacher, 3.0) / 9, F.cross_entropy(logits, labels)
    soft_labels = F.cross_entropy(logits / 3, labels)
    twice = F.cross_entropy(logits.softmax(1), labels)
    return [
        (
            0.7 * kl + 0.3 * hard,
            (
                "the factor T**2 is missing; without it the teacher's part fades as T"
                " rises"
            ),
        ),
        (
            0.7 * 3 * kl + 0.3 * hard,
            "the teacher's part has the factor T; it must be T**2",
        ),
        (0.7 * kl / 9 + 0.3 * hard, "the teacher's part is divided by T**2; multiply"),
        (9 * (0.7 * kl + 0.3 * hard), "T**2 belongs to the teacher's part only"),
        (
            0.3 * 9 * kl + 0.7 * hard,
            (
                "the weights are swapped: `weight` is the teacher's, the labels have"
                " the rest"
            ),
        ),
        (0.3 * kl + 0.7 * hard, "the weights are swapped, and T**2 is missing"),
        (
            9 * kl + hard,
            "both parts are there in full; `weight` and `1 - weight` are missing",
        ),
        (0.7 * 9 * kl, "the labels' part is missing"),
        (
            0.7 * ((teacher - logits) ** 2).mean() + 0.3 * hard,
            "that is the outputs' squared difference, no divergence",
        ),
        (0.3 * hard, "the teacher's part is missing"),
        (
            0.7 * 9 * kl + 0.3 * soft_labels,
            "the labels' part has no temperature: cross-entropy of the plain outputs",
        ),
        (
            0.7 * 9 * kl + 0.3 * twice,
            (
                "`F.cross_entropy` takes the outputs, not probabilities: it does the"
                " softmax"
            ),
        ),
    ]


def _mistaken_divergences(
    logits: Tensor, teacher: Tensor, labels: Tensor
) -> list[tuple[Tensor, str]]:
    """The same for mistakes in the divergence; for each, also without T**2."""
    hard, p, q = (
        F.cross_entropy(logits, labels),
        (teacher / 3).softmax(1),
        (logits / 3).softmax(1),
    )
    kl = _divergence(p, q)
    divergences = [
        (
            _divergence(q, p),
            (
                "the divergence is the wrong way round, KL(student || teacher). The"
                " teacher's is the target"
            ),
        ),
        (
            kl / 5,
            (
                "the divergence is averaged over the classes, too:"
                ' `reduction="batchmean"`, not "mean"'
            ),
        ),
        (
            4 * kl,
            (
                'the divergence is summed over the pictures: `reduction="batchmean"`,'
                ' not "sum"'
            ),
        ),
        (
            -(p * q.log()).sum(1).mean(),
            (
                "that is the cross-entropy of the soft targets. It has the same"
                " gradient, but is not 0 for a student that answers as its teacher; the"
                " divergence is"
            ),
        ),
        (
            (p * (p.log() - q)).sum(1).mean(),
            "`F.kl_div` takes the student's *log*-probabilities: `F.log_softmax`",
        ),
        (
            _divergence((3 * teacher).softmax(1), (3 * logits).softmax(1)),
            "outputs are divided by T, not multiplied",
        ),
        (
            _divergence(teacher.softmax(1), logits.softmax(1)),
            "the outputs are not divided by the temperature",
        ),
        (
            _divergence(p, logits.softmax(1)),
            "only the teacher's outputs are divided by the temperature",
        ),
        (
            _divergence(teacher.softmax(1), q),
            "only the student's outputs are divided by the temperature",
        ),
        (
            _divergence((teacher / 3).softmax(0), (logits / 3).softmax(0)),
            "the softmax is over the pictures; it must be over the classes, `dim=1`",
        ),
    ]
    with_factor = [
        (0.7 * 9 * wrong + 0.3 * hard, reason) for wrong, reason in divergences
    ]
    return with_factor + [
        (0.7 * wrong + 0.3 * hard, f"{reason}; and T**2 is missing")
        for wrong, reason in divergences
    ]


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q), the mean over the rows."""
    return (p * (p / q).log()).sum(1).mean()


def _check_tensor(got: object, shape: tuple[int, ...], meaning: str) -> None:
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if not isinstance(got, Tensor):
        raise WrongAnswer(f"it returns {type(got).__name__}; it must return a tensor.")
    if got.shape != shape:
        raise WrongAnswer(
            f"it returns shape {list(got.shape)}; it must be {list(shape)}: {meaning}."
        )


def _close(got: Tensor, other: Tensor) -> bool:
    return torch.allclose(
        got.detach().double(), other.detach().double(), rtol=1e-4, atol=1e-5
    )


def _row(values: Tensor) -> str:
    return ", ".join(f"{value:.3f}" for value in values[0].tolist())


EXERCISES = [
    Exercise(softened, "utils/distillation.py (soft_targets)", more=check_softened),
    Exercise(
        distillation_loss,
        "lessons/09_distillation/exercises.py (its soft part: utils.distillation.soft_loss)",
        more=check_distillation_loss,
    ),
]
