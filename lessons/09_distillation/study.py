"""The long runs that lab 09 quotes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils import baselines, training
from utils.data import Data, Split
from utils.distillation import Teacher, soft_targets
from utils.schedules import Cubic
from utils.studies import (
    SEEDS,
    Lesson,
    Run,
    Shipped,
    Start,
    Train,
    Trained,
    Untrained,
    Work,
    study,
)
from utils.training import Loss, Recipe

LENET, RESNET = Shipped("lenet300"), Shipped("resnet")
RECIPE = Recipe(epochs=12, learning_rate=1e-3)
Change = Callable[[Tensor, Tensor], Tensor]  # of outputs [n, 10], with labels [n]


class Remembered:
    """A network that has computed the outputs of each picture and of its mirror image:
    flips alone give no others, in all epochs."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        both = (images, images.flip(3))
        self.outputs = torch.cat([training.predict_logits(network, x) for x in both])
        rows = (hash(image.tobytes()) for x in both for image in x.numpy())
        self.row = {key: row for row, key in enumerate(rows)}

    def __call__(self, images: Tensor) -> Tensor:
        """Outputs `[n, 10]`."""
        return self.outputs[[self.row[hash(x.tobytes())] for x in images.numpy()]]


@cache
def _remembered(name: str, train: Split) -> Remembered:
    return Remembered(baselines.baseline(name), train.images)


class _FromMemory:
    """`Teacher`, with outputs that are remembered, and may be changed before the
    student hears of them."""

    def __init__(self, network: Remembered, temperature: float, change: Change) -> None:
        self.network, self.change = network, change
        # takes outputs in place of pictures
        self.teacher = Teacher(nn.Identity(), temperature=temperature)

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """The mean loss of a batch."""
        outputs = self.change(self.network(images), labels)
        return self.teacher(logits, labels, outputs)


@dataclass(frozen=True)
class Remembering:
    """A shipped network teaches from memory."""

    teacher: Shipped
    temperature: float

    def loss(self, train: Split) -> Loss:
        network = _remembered(self.teacher.name, train)
        return _FromMemory(network, self.temperature, self.change(train))

    def change(self, train: Split) -> Change:  # noqa: ARG002 (others use it)
        """What the student hears: here the outputs as they are."""
        return lambda outputs, labels: outputs  # noqa: ARG005 (a Change)


@dataclass(frozen=True)
class OthersShuffled(Remembering):
    """Each picture's nine outputs for other classes than the label's in random order,
    anew each time."""

    seed: int

    def change(self, train: Split) -> Change:  # noqa: ARG002 (others use it)
        generator = torch.Generator().manual_seed(self.seed)

        def change(outputs: Tensor, labels: Tensor) -> Tensor:
            draw = torch.rand(len(labels), 9, generator=generator).argsort(1)
            others = torch.ones_like(outputs, dtype=torch.bool)  # [n, 10]
            others.scatter_(1, labels[:, None], False)
            shuffled = outputs[others].view(-1, 9).gather(1, draw)
            return outputs.masked_scatter(others, shuffled)

        return change


@dataclass(frozen=True)
class Smoothing(Remembering):
    """Label smoothing as a teacher (Yuan et al. 2020): the label has the teacher's mean
    probability, the others share."""

    def change(self, train: Split) -> Change:
        network = baselines.baseline(self.teacher.name)
        logits = training.predict_logits(network, train.images)
        softened = soft_targets(logits, self.temperature)
        label = softened.gather(1, train.labels[:, None]).mean()
        gap = self.temperature * (9 * label / (1 - label)).log()
        return lambda outputs, labels: gap * F.one_hot(labels, 10)  # noqa: ARG005


def lessons(seed: int) -> list[tuple[str, float | None, Lesson | None]]:
    """Method, temperature, and what is taught."""
    warm = [("LeNet teaches", t, Remembering(LENET, t)) for t in (2.0, 4.0, 8.0)]
    return [
        ("labels alone", None, None),
        ("LeNet teaches", 1.0, Remembering(LENET, 1.0)),
        ("LeNet, other classes shuffled", 1.0, OthersShuffled(LENET, 1.0, seed)),
        ("label smoothing", 1.0, Smoothing(LENET, 1.0)),
        *warm,
        *(("ResNet teaches", t, Remembering(RESNET, t)) for t in (4.0, 1.0)),
    ]


@study
def distillation() -> Iterator[Run]:
    """LeNet-300-100 pruned gradually from the shipped baseline, 12 epochs, with labels
    alone and with teachers."""
    schedule = Cubic(0.98, end=0.6)
    for seed in SEEDS:
        for method, temperature, lesson in lessons(seed):
            settings = {"method": method, "sparsity": 0.98, "temperature": temperature}
            step = Train(RECIPE, seed, schedule, lesson)
            yield Run(settings | {"seed": seed}, LENET, (step,))


# ----------------------------------------------------------------- independent teachers


def independent_lenet(seed: int) -> Trained:
    """A LeNet trained as the shipped one was, from another seed."""
    (recipe,) = baselines.BASELINES["lenet300"].stages
    return Trained(Untrained("lenet300", seed), (Train(recipe, seed),))


@lru_cache(maxsize=4)
def _outputs_of(teacher: Start, data: Data) -> Remembered:
    return Remembered(teacher.model(data), data.train.images)


@dataclass(frozen=True)
class _Given:
    """A network that is there already teaches."""

    network: Remembered
    temperature: float

    def loss(self, train: Split) -> Loss:  # noqa: ARG002 (a Lesson)
        return _FromMemory(self.network, self.temperature, lambda z, y: z)  # noqa: ARG005


@dataclass(frozen=True)
class TrainTaughtBy(Train):
    """Training with a teacher that a study makes itself; its accuracy is noted."""

    teacher: Start = LENET
    temperature: float = 1.0

    def carry_out(self, work: Work) -> None:
        network = self.teacher.model(work.data)
        accuracy = training.evaluate(network, work.data.validation)
        work.found["teacher_accuracy"] = round(accuracy, 4)
        lesson = _Given(_outputs_of(self.teacher, work.data), self.temperature)
        Train(self.recipe, self.seed, self.schedule, lesson).carry_out(work)


@study
def independent() -> Iterator[Run]:
    """Three LeNets, alike but for their seeds (the first is the shipped one): the first
    two pruned as in the study `distillation`, with labels alone or taught at
    temperature 1. What the first does alone and taught by itself is in that study."""
    networks: dict[str, Start] = {"first": LENET}
    networks |= {"second": independent_lenet(1), "third": independent_lenet(2)}
    pairs = [
        ("first", "second"),
        ("second", "none"),
        ("second", "second"),
        ("second", "first"),
        ("first", "third"),
    ]
    schedule = Cubic(0.98, end=0.6)
    for seed in SEEDS:
        for student, teacher in pairs:
            step = Train(RECIPE, seed, schedule)
            if teacher != "none":
                step = TrainTaughtBy(RECIPE, seed, schedule, teacher=networks[teacher])
            settings = {"student": student, "teacher": teacher, "seed": seed}
            yield Run(settings, networks[student], (step,))
