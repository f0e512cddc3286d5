"""The long runs that lab 08 quotes."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from utils import compression, masks, measure, training
from utils.data import Data, sample_batches
from utils.quantization import plain, quantized
from utils.schedules import Cubic
from utils.studies import (
    SEEDS,
    Magnitude,
    Prune,
    Run,
    Shipped,
    Step,
    Taught,
    Train,
    Validate,
    Work,
    study,
)
from utils.training import Recipe

LENET = Shipped("lenet300")
# two of these make a run: equal cost for both orders
HALF_WAY = Recipe(epochs=2, learning_rate=1e-3)
PRUNE = Recipe(epochs=32)
TUNE_SHARED = Recipe(epochs=2, learning_rate=3e-3, weight_decay=0.0)


@dataclass(frozen=True)
class Quantize:
    """From now on weights have so many bits, activations 8; training goes through
    that."""

    bits: int

    def carry_out(self, work: Work) -> None:
        size = min(256, len(work.train) // 4)
        batches = sample_batches(work.train, 4, size)
        work.model = quantized(work.model, batches, bits=self.bits)


@dataclass(frozen=True)
class OnGrid:
    """The largest weights stay, by what lies on the grid: many have one magnitude."""

    sparsity: float

    def masks(self, model: nn.Module, data: Data) -> masks.Masks:
        return Magnitude(self.sparsity).masks(plain(model), data)


@dataclass(frozen=True)
class CountZeros:
    """Note the fraction of weights that are zero."""

    def carry_out(self, work: Work) -> None:
        work.found["zeros"] = round(measure.sparsity(plain(work.model)), 4)


@dataclass(frozen=True)
class Compress:
    """Share the values that are left, fine-tune them, write the file; the bytes after
    each step of the paper.

    What is judged is what comes out of the file. The test set is opened once.
    """

    bits: int
    tune: Train
    other: str = "float16"

    def carry_out(self, work: Work) -> None:
        shared = compression.share_weights(work.model, self.bits)
        work.hold = partial(compression.hold_shared, shared=shared)
        work.hold(work.model)
        Validate("shared_accuracy").carry_out(work)
        self.tune.carry_out(work)
        sizes = compression.stages(work.model, shared=shared, other=self.other)
        work.found["bytes"] = sizes
        work.signs += sizes.values()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lenet"
            work.found["file_bytes"] = compression.save_compressed(
                work.model, path, shared=shared, other=self.other
            )
            compression.load_compressed(path, work.model)
        Validate("file_accuracy").carry_out(work)
        test = training.evaluate(work.model, work.data.test)
        work.found["test_accuracy"] = round(test, 4)


def orders(seed: int) -> list[tuple[str, int, float, tuple[Step, ...]]]:
    """Method, bits, sparsity, and what is done."""
    first, second = Train(HALF_WAY, seed), Train(HALF_WAY, seed + 100)
    rounded, zeros = Validate("rounded_accuracy"), CountZeros()
    four, prune = Quantize(4), Prune(Magnitude(0.9))
    on_grid = Prune(OnGrid(0.9))
    # the controls of both questions: as many epochs in float; the same order, with the
    # masks of the floats behind the grid; no grid at all before pruning; and the grid
    # from the first step on
    return [
        ("quantized", 4, 0.0, (four, rounded, first, second)),
        ("quantized", 3, 0.0, (Quantize(3), rounded, first, second)),
        ("pruned", 32, 0.9, (prune, first, second, zeros)),
        ("prune, then quantize", 4, 0.9, (prune, first, four, second, zeros)),
        ("quantize, then prune", 4, 0.9, (four, first, on_grid, second, zeros)),
        ("trained on, 32 bits", 32, 0.0, (first, second)),
        ("quantize, then prune floats", 4, 0.9, (four, first, prune, second, zeros)),
        ("float, then both", 4, 0.9, (first, prune, four, second, zeros)),
        ("both at once", 4, 0.9, (prune, four, first, second, zeros)),
    ]


@study
def quantization() -> Iterator[Run]:
    """LeNet-300-100 from the shipped baseline: 90% zeros and 4 bits, in either order,
    with controls; Deep Compression to a file."""
    for seed in SEEDS:
        for method, bits, sparsity, steps in orders(seed):
            settings = {"method": method, "bits": bits, "sparsity": sparsity}
            yield Run(settings | {"seed": seed}, LENET, steps)
    teacher = Taught(LENET, temperature=1.0)
    for seed in SEEDS:
        yield Run(
            {"method": "Deep Compression", "bits": None, "sparsity": 0.94}
            | {"seed": seed},
            LENET,
            (
                Train(PRUNE, seed, Cubic(0.94, end=0.6), teacher),
                Validate("pruned_accuracy"),
                Compress(3, Train(TUNE_SHARED, seed + 100, lesson=teacher)),
            ),
        )
