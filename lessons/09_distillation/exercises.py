"""The exercises of lab 09, and the mistakes that their checks know."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.distillation import soft_loss, soft_targets
from utils.exercises import Case, Exercise, WrongAnswer, close


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


# ----------------------------------------------------------------------------- softened


def other_outputs() -> list[Case]:
    generator = torch.Generator().manual_seed(0)
    return [
        Case(
            f"it is right at temperature 2, but for [{pictures}, {classes}] outputs at"
            f" {temperature:g}",
            (
                3 * torch.randn(pictures, classes, generator=generator).double(),
                temperature,
            ),
            hint="Is a number written into the function?",
        )
        for pictures, classes, temperature in ((4, 10, 0.5), (3, 3, 7.0), (1, 5, 1.0))
    ]


SOFTENED_CASES = [
    Case(
        "for outputs [2, 1, -1], [0, 3, 1.5] at temperature 2",
        (torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.5]], dtype=torch.float64), 2.0),
    ),
    *other_outputs(),
    Case(
        "for outputs 1000, 0",
        (torch.tensor([[1000.0, 0.0]]), 1.0),
        hint=(
            "`exp(1000)` is infinite. `torch.softmax` subtracts the largest output"
            " first."
        ),
    ),
]

SOFTENED_MISTAKES = {
    "that is more certain than without a temperature: divide by it, do not multiply": (
        lambda z, t: (z * t).softmax(1)
    ),
    "that is the plain softmax; the temperature is missing": lambda z, t: z.softmax(1),
    "the outputs are to be divided by the temperature, not the probabilities": (
        lambda z, t: z.softmax(1) / t
    ),
    "its columns add up to 1: that compares pictures. Softmax over the classes,"
    " `dim=1`": (lambda z, t: (z / t).softmax(0)),
    "all six numbers together add up to 1; each row must": (
        lambda z, t: (z / t).flatten().softmax(0).view_as(z)
    ),
    "those are logarithms of probabilities: log_softmax. Here softmax itself is"
    " meant": (lambda z, t: (z / t).log_softmax(1)),
    "its rows do not add up to 1: divide by their sums": (
        lambda z, t: (z / t).exp(),
        lambda z, t: z.softmax(1) ** (1 / t),
    ),
    "that is a sigmoid, each class by itself; the classes must share 1": (
        lambda z, t: (z / t).sigmoid()
    ),
    "that is a softmax of a softmax; give it the outputs as they are": (
        lambda z, t: (z.softmax(1) / t).softmax(1)
    ),
    "that is a softmax of a softmax; one is enough": (
        lambda z, t: (z / t).softmax(1).softmax(1)
    ),
    "that is temperature 4: divided once too often": (
        lambda z, t: (z / t**2).softmax(1)
    ),
    "temperature 2 is written into the function": lambda z, t: (z / 2).softmax(1),
    "that is computed in half precision, which keeps three digits; leave the outputs as"
    " they are": lambda z, t: (z.half() / t).softmax(1),
}

# -------------------------------------------------------------------- distillation_loss


OTHER = "it is right for one example, but "


def example(
    pictures: int, classes: int, temperature: float, weight: float, said: str = OTHER
) -> Case:
    """Outputs of a student, through which gradients flow, and of a teacher; labels."""
    generator = torch.Generator().manual_seed(3)
    logits, teacher = 2 * torch.randn(
        2, pictures, classes, generator=generator, dtype=torch.float64
    )
    labels = torch.randint(classes, (pictures,), generator=generator)
    labels[::2] = teacher.argmax(1)[::2]  # so that it is right at times
    said = (
        f"{said}for {pictures} pictures of {classes} classes, temperature"
        f" {temperature:g}, weight {weight:g},"
    )
    arguments = logits.clone().requires_grad_(), teacher, labels, temperature, weight
    return Case(said, arguments)


def one_loss(got: Any) -> Any:
    """What is returned, if a network can learn from it."""
    if isinstance(got, Tensor) and got.ndim:
        raise WrongAnswer(
            f"it returns shape {list(got.shape)}; it must be one number, the mean over"
            " the pictures."
        )
    if not isinstance(got, Tensor):
        raise WrongAnswer(
            f"it returns {type(got).__name__}; it must return a tensor, one number."
        )
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
    return got


def pull(loss: Tensor) -> Tensor | None:
    """The gradient of a loss with respect to the outputs that it was made of."""
    nodes = [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        if (outputs := getattr(node, "variable", None)) is not None:
            return torch.autograd.grad(loss, outputs, retain_graph=True)[0]
        nodes += [before for before, _ in node.next_functions]
    return None


def same_loss(got: Any, right: Any, *_: Any) -> bool:
    """Whether two losses have one value, and teach the student the same."""
    if not close(got, right):
        return False
    pulls = [pull(loss) for loss in (got, right) if isinstance(loss, Tensor)]
    if len(pulls) < 2 or any(each is None for each in pulls):
        return True
    return close(*pulls)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q), the mean over the rows."""
    return (p * (p / q).log()).sum(1).mean()


def masked(z: Tensor, v: Tensor, those: Tensor) -> Tensor:
    """The divergence of softened outputs, a sum over some of the pictures, divided by
    all."""
    p, q = v.softmax(1), z.softmax(1)
    return ((p * (p / q).log()).sum(1) * those).mean()


def mixed(
    soft: Callable | None = None,
    hard: Callable = lambda z, y, t: F.cross_entropy(z, y),
    factor: Callable = lambda t: t**2,
    weights: Callable = lambda w: (w, 1 - w),
) -> Callable:
    """The loss, but for the part that is given: the divergence of the outputs of
    student and teacher at a temperature, ..."""

    def answer(z: Tensor, teacher: Tensor, y: Tensor, t: float, w: float) -> Tensor:
        divergence = soft(z, teacher, t) if soft else soft_loss(z, teacher, t) / t**2
        return weights(w)[0] * factor(t) * divergence + weights(w)[1] * hard(z, y, t)

    return answer


def of_softened(divergence: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """The same, from what teacher and student have as probabilities at temperature
    T."""
    return lambda z, v, t: divergence((v / t).softmax(1), (z / t).softmax(1))


DIVERGENCES = {
    "the divergence is the wrong way round, KL(student || teacher). The teacher's"
    " is the target": (of_softened(lambda p, q: kl(q, p))),
    "the divergence is averaged over the classes, too:"
    ' `reduction="batchmean"`, not "mean"': (
        of_softened(lambda p, q: kl(p, q) / p.shape[1])
    ),
    'the divergence is summed over the pictures: `reduction="batchmean"`, not "sum"': (
        of_softened(lambda p, q: kl(p, q) * len(p))
    ),
    "that is the cross-entropy of the soft targets. It has the same gradient, but"
    " is not 0 for a student that answers as its teacher; the divergence is": (
        of_softened(lambda p, q: -(p * q.log()).sum(1).mean())
    ),
    "`F.kl_div` takes the student's *log*-probabilities: `F.log_softmax`": (
        of_softened(lambda p, q: (p * (p.log() - q)).sum(1).mean())
    ),
    "outputs are divided by T, not multiplied": (
        lambda z, v, t: kl((v * t).softmax(1), (z * t).softmax(1))
    ),
    "the outputs are not divided by the temperature": (
        lambda z, v, t: kl(v.softmax(1), z.softmax(1))
    ),
    "only the teacher's outputs are divided by the temperature": (
        lambda z, v, t: kl((v / t).softmax(1), z.softmax(1))
    ),
    "only the student's outputs are divided by the temperature": (
        lambda z, v, t: kl(v.softmax(1), (z / t).softmax(1))
    ),
    "the softmax is over the pictures; it must be over the classes, `dim=1`": (
        lambda z, v, t: kl((v / t).softmax(0), (z / t).softmax(0))
    ),
}


def plain(t: float) -> int:
    """No factor."""
    return 1


LOSS_MISTAKES = {
    "the factor T**2 is missing; without it the teacher's part fades as T rises": (
        mixed(factor=plain)
    ),
    "the teacher's part has the factor T; it must be T**2": mixed(factor=lambda t: t),
    "the teacher's part is divided by T**2; multiply": mixed(factor=lambda t: t**-2),
    "T**2 belongs to the teacher's part only": (
        lambda z, v, y, t, w: t**2 * mixed(factor=plain)(z, v, y, t, w)
    ),
    "the weights are swapped: `weight` is the teacher's, the labels have the rest": (
        mixed(weights=lambda w: (1 - w, w))
    ),
    "the weights are swapped, and T**2 is missing": (
        mixed(weights=lambda w: (1 - w, w), factor=plain)
    ),
    "both parts are there in full; `weight` and `1 - weight` are missing": (
        mixed(weights=lambda w: (1, 1))
    ),
    "the labels' part is missing": mixed(weights=lambda w: (w, 0)),
    "the teacher's part is missing": mixed(weights=lambda w: (0, 1 - w)),
    "that is the outputs' squared difference, no divergence": (
        mixed(soft=lambda z, v, t: F.mse_loss(z, v), factor=plain)
    ),
    "the labels' part has no temperature: cross-entropy of the plain outputs": (
        mixed(hard=lambda z, y, t: F.cross_entropy(z / t, y))
    ),
    "`F.cross_entropy` takes the outputs, not probabilities: it does the softmax": (
        mixed(hard=lambda z, y, t: F.cross_entropy(z.softmax(1), y))
    ),
    "temperature 3 is written into the function": (
        lambda z, v, y, t, w: distillation_loss(z, v, y, 3.0, w)
    ),
    "the teacher's part leaves out the pictures that the teacher gets wrong; it is the"
    " mean over all": (
        lambda z, v, y, t, w: (
            w * t**2 * masked(z / t, v / t, v.argmax(1) == y)
            + (1 - w) * F.cross_entropy(z, y)
        )
    ),
    "the value is, but the student learns nothing from the teacher: its outputs are"
    " detached there": (
        lambda z, v, y, t, w: (
            w * soft_loss(z.detach(), v, t) + (1 - w) * F.cross_entropy(z, y)
        )
    ),
    "the value is, but the student learns nothing from the labels: its outputs are"
    " detached there": (
        lambda z, v, y, t, w: (
            w * soft_loss(z, v, t) + (1 - w) * F.cross_entropy(z.detach(), y)
        )
    ),
    **{reason: mixed(soft=soft) for reason, soft in DIVERGENCES.items()},
    **{
        f"{reason}; and T**2 is missing": mixed(soft=soft, factor=plain)
        for reason, soft in DIVERGENCES.items()
    },
    "it returns nan. `F.kl_div` takes": lambda *a: distillation_loss(*a) * torch.nan,
    "no gradient can flow back": lambda *a: distillation_loss(*a).detach(),
    "it returns float; it must": lambda *a: distillation_loss(*a).item(),
    "it returns shape [4]; it must": lambda *a: distillation_loss(*a) + a[0].sum(1),
}

EXERCISES = [
    Exercise(
        softened,
        "utils/distillation.py (soft_targets)",
        asked="probabilities, one row a picture, one column a class",
        cases=SOFTENED_CASES,
        mistakes=SOFTENED_MISTAKES,
        also_right={
            "functional": """
                def softened(logits, temperature):
                    return torch.nn.functional.softmax(logits / temperature, dim=-1)
            """,
            "log first": """
                def softened(logits, temperature):
                    return torch.softmax(
                        torch.log_softmax(logits, dim=1) / temperature, dim=1
                    )
            """,
            "by hand": """
                def softened(logits, temperature):
                    scaled = logits / temperature
                    powers = (scaled - scaled.max(dim=1, keepdim=True).values).exp()
                    return powers / powers.sum(dim=1, keepdim=True)
            """,
            "powers": """
                def softened(logits, temperature):
                    powers = logits.softmax(1) ** (1 / temperature)
                    return powers / powers.sum(1, keepdim=True)
            """,
        },
    ),
    Exercise(
        distillation_loss,
        (
            "lessons/09_distillation/exercises.py (its soft part:"
            " utils.distillation.soft_loss)"
        ),
        asked="one number, the mean over the pictures",
        cases=[
            example(4, 5, temperature=3.0, weight=0.7, said=""),
            example(6, 10, temperature=1.0, weight=0.5),
            example(2, 3, temperature=5.0, weight=1.0),
            example(3, 4, temperature=2.0, weight=0.0),
        ],
        mistakes=LOSS_MISTAKES,
        read=one_loss,
        same=same_loss,
        also_right={
            "kl_div": """
                def distillation_loss(
                    logits, teacher_logits, labels, temperature, weight
                ):
                    from torch.nn import functional as F

                    soft = F.kl_div(
                        F.log_softmax(logits / temperature, 1),
                        F.softmax(teacher_logits / temperature, 1),
                        reduction="batchmean",
                    )
                    return weight * temperature**2 * soft + (
                        1 - weight
                    ) * F.cross_entropy(logits, labels)
            """,
            "log_target": """
                def distillation_loss(
                    logits, teacher_logits, labels, temperature, weight
                ):
                    student, teacher = (
                        torch.log_softmax(z / temperature, 1)
                        for z in (logits, teacher_logits)
                    )
                    soft = torch.nn.KLDivLoss(reduction="batchmean", log_target=True)(
                        student, teacher
                    )
                    return weight * soft * temperature * temperature + (
                        1 - weight
                    ) * torch.nn.CrossEntropyLoss()(logits, labels)
            """,
            "by hand": """
                def distillation_loss(
                    logits, teacher_logits, labels, temperature, weight
                ):
                    p, q = (
                        torch.softmax(z / temperature, dim=1)
                        for z in (teacher_logits, logits)
                    )
                    soft = (p * (p.log() - q.log())).sum(dim=1).mean()
                    hard = -torch.log_softmax(logits, dim=1)[
                        torch.arange(len(labels)), labels
                    ].mean()
                    return weight * temperature**2 * soft + (1 - weight) * hard
            """,
            "cross-entropy less entropy": """
                def distillation_loss(
                    logits, teacher_logits, labels, temperature, weight
                ):
                    from torch.nn.functional import cross_entropy

                    p = (teacher_logits / temperature).softmax(1)
                    soft = (
                        cross_entropy(logits / temperature, p)
                        - torch.special.entr(p).sum(1).mean()
                    )
                    return weight * temperature**2 * soft + (
                        1 - weight
                    ) * cross_entropy(logits, labels)
            """,
            "the course's": """
                def distillation_loss(
                    logits, teacher_logits, labels, temperature, weight
                ):
                    from torch.nn import functional as F
                    from utils.distillation import soft_loss

                    return weight * soft_loss(logits, teacher_logits, temperature) + (
                        1 - weight
                    ) * F.cross_entropy(logits, labels)
            """,
        },
    ),
]
