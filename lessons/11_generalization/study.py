"""The long runs that lab 11 quotes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from utils import training
from utils.data import Data, Split, noisy_labels
from utils.models import lenet300
from utils.schedules import Cubic
from utils.studies import SEEDS, Run, Train, Trained, Untrained, Work, study
from utils.training import Recipe

# half of the training; the other half the same again
FEW = Recipe(epochs=20, batch_size=64, flip=False)
# the fraction of wrong labels
FEW_SETTINGS = {"2,000 pictures, 30% wrong labels": 0.3, "2,000 pictures": 0.0}
LEVELS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
ALL_FIRST = Recipe(epochs=8, batch_size=512, learning_rate=3e-3, flip=False)
ALL_AGAIN = Recipe(epochs=4, batch_size=512, learning_rate=1.5e-3, flip=False)
# on all pictures: six networks of each kind, each from a start of its own
STARTS = (*SEEDS, 3, 4, 5)
# hidden units in each of the two layers of small LeNets: about as accurate as the large
# one pruned to 95% and 98%
UNITS = (6, 8, 12, 20, 32)


@dataclass(frozen=True)
class Small:
    """A LeNet with so many units in each hidden layer, weights drawn from a seed."""

    units: int
    seed: int

    def model(self, data: Data) -> nn.Module:  # noqa: ARG002 (a Start)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return lenet300((self.units, self.units))


@dataclass(frozen=True)
class Few:
    """Training pictures drawn by a seed, a fraction of their labels wrong."""

    wrong: float
    seed: int
    count: int = 2000

    def of(self, data: Data) -> Split:
        return _few(self, data)[0]

    def right(self, data: Data) -> Tensor:
        """All their right labels, `[n]`."""
        return _few(self, data)[1]


@lru_cache(maxsize=2)
def _few(few: Few, data: Data) -> tuple[Split, Tensor]:
    generator = torch.Generator().manual_seed(few.seed)
    order = torch.randperm(len(data.train), generator=generator)
    drawn = data.train[order[: few.count]]
    wrong = noisy_labels(drawn.labels, few.wrong, generator)
    return Split(drawn.images, wrong), drawn.labels


@dataclass(frozen=True)
class Learned:
    """Note the accuracy on the training labels; of the wrong ones the fractions learned
    by heart, and answered rightly."""

    pictures: Few

    def carry_out(self, work: Work) -> None:
        train, right = work.train, self.pictures.right(work.data)
        predicted = training.predict_logits(work.model, train.images).argmax(1)
        wrong = train.labels != right
        work.found["training_accuracy"] = _fraction(predicted == train.labels)
        if wrong.any():
            by_heart = predicted[wrong] == train.labels[wrong]
            work.found["memorised"] = _fraction(by_heart)
            work.found["righted"] = _fraction(predicted[wrong] == right[wrong])


def _fraction(true: Tensor) -> float:
    return round(true.float().mean().item(), 4)


@dataclass(frozen=True)
class FirstHalf:
    """Note the learning curve of the network that the run began with."""

    start: Trained

    def carry_out(self, work: Work) -> None:
        work.found["first_half"] = self.start.work(work.data).history


@dataclass(frozen=True)
class Answers:
    """Note the answers to all validation pictures, a digit each, and the training
    accuracy."""

    def carry_out(self, work: Work) -> None:
        images = work.data.validation.images
        answers = training.predict_logits(work.model, images).argmax(1)
        work.found["predictions"] = "".join(map(str, answers.tolist()))
        accuracy = training.evaluate(work.model, work.train)
        work.found["training_accuracy"] = round(accuracy, 4)


@study
def generalization() -> Iterator[Run]:
    """LeNet-300-100 without flips, then pruned gradually: all pictures, 2,000, and
    2,000 with wrong labels. On all pictures also small LeNets that are never pruned."""
    for seed in STARTS:
        for sparsity in (0.0, 0.95, 0.98):
            yield _all_pictures(sparsity, seed)
    for units in UNITS:
        for seed in STARTS:
            yield _small(units, seed)
    for setting in FEW_SETTINGS:
        for seed in SEEDS:
            # at 0 nothing is pruned: the dense control, trained on for as long
            for sparsity in LEVELS:
                yield _overfitted_and_pruned(setting, sparsity, seed)
            yield _decayed(setting, seed)


def _again(recipe: Recipe, sparsity: float, seed: int) -> Train:
    return Train(recipe, seed + 100, Cubic(sparsity) if sparsity else None)


def _settings(setting: str, method: str, sparsity: float, seed: int) -> dict:
    return {"setting": setting, "method": method, "sparsity": sparsity, "seed": seed}


def _all_pictures(sparsity: float, seed: int) -> Run:
    dense = Trained(Untrained("lenet300", seed), (Train(ALL_FIRST, seed),))
    return Run(
        _settings("all pictures", "pruned", sparsity, seed),
        dense,
        (_again(ALL_AGAIN, sparsity, seed), Answers()),
    )


def _small(units: int, seed: int) -> Run:
    """Dense from the start, trained as long as the large one and its pruned copies."""
    return Run(
        _settings("all pictures", f"{units} hidden units", 0.0, seed),
        Small(units, seed),
        (Train(ALL_FIRST, seed), _again(ALL_AGAIN, 0.0, seed), Answers()),
    )


def _overfitted_and_pruned(setting: str, sparsity: float, seed: int) -> Run:
    few = Few(FEW_SETTINGS[setting], seed)
    dense = Trained(Untrained("lenet300", seed), (Train(FEW, seed),), few)
    return Run(
        _settings(setting, "pruned", sparsity, seed),
        dense,
        (_again(FEW, sparsity, seed), FirstHalf(dense), Learned(few)),
        few,
    )


def _decayed(setting: str, seed: int) -> Run:
    """As long in one go, dense, with 300 times the weight decay."""
    few = Few(FEW_SETTINGS[setting], seed)
    recipe = replace(FEW, epochs=2 * FEW.epochs, weight_decay=3.0)
    return Run(
        _settings(setting, "weight decay", 0.0, seed),
        Untrained("lenet300", seed),
        (Train(recipe, seed), Learned(few)),
        few,
    )
