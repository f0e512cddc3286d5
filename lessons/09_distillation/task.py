"""The open task of lab 09: few labelled pictures, a trained network, little work."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from utils import baselines, data, measure, training
from utils.arguments import fraction, one_of, real, whole
from utils.data import Data
from utils.distillation import soft_loss
from utils.schedules import Cubic
from utils.tasks import Task
from utils.training import Recipe

TEACHERS = {"LeNet": "lenet300", "thin VGG": "vgg_thin", "ResNet": "resnet"}
FEW = 2000  # labelled pictures


@cache
def _pictures() -> Data:
    return data.load()


@cache
def _outputs(teacher: str) -> Tensor:
    """What a teacher answers to the few pictures, each once."""
    network = baselines.baseline(TEACHERS[teacher])
    return training.predict_logits(network, _pictures().train[:FEW].images)


@cache
def _rows() -> dict[int, int]:
    """Where each of the few pictures stands."""
    few = _pictures().train[:FEW].images
    return {hash(image.tobytes()): row for row, image in enumerate(few.numpy())}


def _checked(choice: Any) -> tuple[str, float, float, int]:
    """The four parts of a choice."""
    parts = {"teacher", "temperature", "weight", "epochs"}
    if not isinstance(choice, Mapping) or set(choice) != parts:
        raise ValueError(f"my_choice must be a dict of {', '.join(sorted(parts))}.")
    one_of("teacher", choice["teacher"], TEACHERS)
    temperature = choice["temperature"]
    if not real(temperature) or not 0.1 <= temperature <= 100:
        raise ValueError(f"temperature={temperature!r} must be from 0.1 to 100.")
    fraction("weight", choice["weight"], example="0 = labels only, 1 = teacher only")
    whole("epochs", choice["epochs"], 1, 20)
    return choice["teacher"], temperature, choice["weight"], choice["epochs"]


def work(teacher: str | None, epochs: int) -> float:
    """Billions of multiply-accumulates: three passes of the student's for each picture
    that it learns from, and one of the teacher's for each of the few."""
    one = torch.zeros(1, 1, 28, 28)
    learning = 3 * measure.macs(baselines.build("lenet300"), one) * FEW * epochs
    asked = measure.macs(baselines.build(TEACHERS[teacher]), one) if teacher else 0
    return (learning + asked * FEW) / 1e9


def taught(choice: Any) -> dict[str, float]:
    """LeNet, pruned to 98% while it learns from the few pictures."""
    teacher, temperature, weight, epochs = _checked(choice)
    student, validation = baselines.baseline("lenet300"), _pictures().validation

    def loss(logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        rows = [_rows()[hash(x.tobytes())] for x in images.contiguous().numpy()]
        soft = soft_loss(logits, _outputs(teacher)[rows], temperature)
        return weight * soft + (1 - weight) * F.cross_entropy(logits, labels)

    recipe = Recipe(epochs=epochs, batch_size=32, learning_rate=1e-3, flip=False)
    training.fit(
        student,
        _pictures().train[:FEW],
        recipe,
        schedule=Cubic(0.98, end=0.6),
        loss=loss if weight else None,
        progress=False,
    )
    logits = training.predict_logits(student, validation.images)
    right = (logits.argmax(1) == validation.labels).float().mean().item()
    return {
        "accuracy, %": 100 * right,
        "log loss": F.cross_entropy(logits, validation.labels).item(),
        "work, billion MACs": work(teacher if weight else None, epochs),
    }


def _choice(teacher: str, temperature: float, weight: float, epochs: int) -> dict:
    parts = {"teacher": teacher, "temperature": temperature}
    return parts | {"weight": weight, "epochs": epochs}


TASK = Task(
    measure=taught,
    reference=_choice("LeNet", 1.5, 0.9, 12),
    at_least={"accuracy, %": 83.6},
    at_most={"log loss": 0.465, "work, billion MACs": 22},
    naive={
        "labels alone": _choice("LeNet", 1.0, 0.0, 12),
        "temperature 4, the usual": _choice("LeNet", 4.0, 0.9, 12),
        "the best teacher": _choice("ResNet", 1.0, 0.9, 12),
        "a third of the epochs": _choice("LeNet", 1.5, 0.9, 4),
    },
)
