"""The search of lab 12: what a pipeline may be, and what comes of one. `make sweep`
carries it out (tools/sweep.py), and keeps every trial in results/sweep.json.

A pipeline takes a shipped network, or a new one, brings it to five widths, trains it in
two rounds, and writes it in 32, 8 or 4 bits. All pipelines see as many pictures, so
that a trial takes ten to twenty seconds of one core.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any

import torch
from torch import Tensor, nn

from utils import baselines, deploy, measure, models, quantization, surgery, training
from utils.data import Data, Split, sample_batches
from utils.exercises import load
from utils.files import read_sealed
from utils.scores import score
from utils.training import Recipe

Widths = tuple[int, int, int, int, int]
Record = dict[str, Any]

ROUND = 10_240  # training pictures of each of the two rounds, seen once
CHOOSING = 2500  # validation pictures that the search sees; the others are held back
SHOWN = 0.9  # accuracy below which nobody would look at a file
RESULTS = Path(__file__).parent / "results"
REPAIR = "`git checkout -- lessons`, or `make sweep`."


@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`, evenly on a logarithmic scale."""

    low: float
    high: float


# What the search chooses from: words or numbers; a range of numbers in order; or a
# continuum. The widths of the thin VGG are 8, 16, 32, 48 and 64.
SPACE: dict[str, tuple | range | Between] = {
    "start": ("vgg_thin", "vgg_half", "scratch"),
    "width_1": range(4, 13, 2),
    "width_2": range(8, 25, 4),
    "width_3": range(16, 41, 4),
    "width_4": range(24, 65, 8),
    "width_5": range(32, 97, 8),
    "score": ("l1", "taylor", "random"),
    "cuts": (1, 2),
    "learning_rate": Between(0.003, 0.1),
    "calmer": Between(0.03, 1.0),
    "shift": (0, 1),
    "bits": (32, 8, 4),
    "rounding": ("after", "in training"),
}

# of each round, but for the rate and the shift
RECIPE = Recipe(
    epochs=1,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.05,
    weight_decay=2e-4,
    bf16=True,
)


@dataclass(frozen=True)
class Pipeline:
    """One choice from the space.

    start: a shipped network, or "scratch".  widths: channels of the five convolutions;
        where the start has fewer, it keeps its own.  score: by which channels leave.
    cuts: 1, all that leave do so before the first round; 2, half way before the first,
        the rest before the second.
    learning_rate: of the first round; the second has it times `calmer`.  shift: pixels
        by which pictures are moved at most.
    bits: of a weight in the file.  rounding: after training, or in its second round,
        too (32 bits know none).
    """

    start: str
    widths: Widths
    score: str
    cuts: int
    learning_rate: float
    calmer: float
    shift: int
    bits: int
    rounding: str

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "Pipeline":
        """From a choice by the names of the space."""
        rest = {k: v for k, v in parameters.items() if not k.startswith("width_")}
        return cls(widths=tuple(parameters[f"width_{i}"] for i in range(1, 6)), **rest)

    def recipe(self, second: bool) -> Recipe:
        """Of a round."""
        rate = self.learning_rate * (self.calmer if second else 1)
        options = vars(RECIPE) | {"learning_rate": rate, "shift": self.shift}
        return Recipe(**options)


def carry_out(pipeline: Pipeline, seed: int, pictures: Data, path: Path) -> Record:
    """Write the file of a pipeline; what it has and gives: bytes, widths, MACs, and the
    accuracy on the validation pictures that the search sees, and on the others.

    The same pipeline and seed give the same file on one machine, with as many threads.
    """
    train = drawn(pictures.train, seed)
    network = trained(pipeline, seed, train)
    size = written(network, pipeline.bits, train, path)
    return {
        "bytes": size,
        "widths": list(widths(network)),
        "macs": measure.macs(network, train.images[:1]),
        **accuracies(path, pictures.validation),
    }


def accuracies(path: Path, validation: Split) -> dict[str, float]:
    """Of a file, on the pictures that the search sees and on those held back."""
    session, cut = deploy.Session(path), CHOOSING
    parts = {"validation": validation[:cut], "held_back": validation[cut:]}
    return {
        f"{name}_accuracy": round(training.evaluate(session, part), 4)
        for name, part in parts.items()
    }


def drawn(train: Split, seed: int) -> Split:
    """The training pictures of both rounds."""
    generator = torch.Generator().manual_seed(seed)
    return train[torch.randperm(len(train), generator=generator)[: 2 * ROUND]]


def trained(pipeline: Pipeline, seed: int, train: Split) -> nn.Module:
    """The network of a pipeline after both rounds, without its roundings."""
    first, second = train[:ROUND], train[ROUND:]
    network = started(pipeline, seed, first)
    training.fit(network, first, pipeline.recipe(False), seed=seed, progress=False)
    network = narrowed(network, pipeline.widths, pipeline.score, seed, second)
    rounded = pipeline.rounding == "in training" and pipeline.bits < 32
    if rounded:
        bits = 7 if pipeline.bits == 8 else pipeline.bits  # as deploy.to_int8
        network = quantization.quantized(network, batches(second), bits=bits)
    recipe = pipeline.recipe(True)
    training.fit(network, second, recipe, seed=seed + 1, progress=False)
    return quantization.plain(network) if rounded else network


def started(pipeline: Pipeline, seed: int, train: Split) -> nn.Module:
    """The network as it enters the first round."""
    if pipeline.start == "scratch":
        a, b, c, d, e = pipeline.widths
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return models.vgg(((a, b), (c, d), (e,)))
    network = baselines.baseline(pipeline.start)
    goal = pipeline.widths
    if pipeline.cuts == 2:  # half way, on a logarithmic scale
        pairs = zip(goal, widths(network), strict=True)
        goal = tuple(round((wanted * there) ** 0.5) for wanted, there in pairs)
    return narrowed(network, goal, pipeline.score, seed, train)


def narrowed(
    network: nn.Module, goal: tuple[int, ...], by: str, seed: int, train: Split
) -> nn.Module:
    """A copy with these widths: the channels of highest score stay."""
    sizes = zip(widths(network), goal, strict=True)
    if all(there <= wanted for there, wanted in sizes):
        return network
    found = score(by, network, batches(train, seed), units=True)
    masks = {
        name: kept(found[name], wanted)
        for name, wanted in zip(convolutions(network), goal, strict=True)
    }
    return surgery.remove_units(network, train.images[:1], masks)


def kept(scores: Tensor, wanted: int) -> Tensor:
    """True for the `wanted` highest of `[units]` scores."""
    best = scores.argsort(descending=True, stable=True)[:wanted]
    return torch.zeros(len(scores), dtype=torch.bool).index_fill(0, best, True)


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """By the name of their weight."""
    return {
        f"{name}.weight": layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d)
    }


def widths(network: nn.Module) -> tuple[int, ...]:
    """Channels of each convolution."""
    return tuple(layer.out_channels for layer in convolutions(network).values())


def batches(train: Split, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Pictures to score channels with, or to calibrate."""
    return sample_batches(train, count=4, batch_size=128, seed=seed)


def written(network: nn.Module, bits: int, train: Split, path: Path) -> int:
    """Write the network as an ONNX file; its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        floats = Path(folder) / "floats.onnx"
        size = deploy.to_onnx(network, train.images[:1], floats)
        if bits == 8:
            return deploy.to_int8(floats, batches(train), path)
        if bits == 4:
            return load("12_capstone", "four_bits").to_four_bits(floats, path)
        copyfile(floats, path)
        return size


# --------------------------------------------------------------------- what was found


def trials(name: str = "sweep") -> list[Record]:
    """The kept trials, failed ones too; with "sweep_front", what was measured of the
    front.

    Raises:
        DamagedFileError: the file is missing or damaged; names the repair.
    """
    return read_sealed(RESULTS / f"{name}.json", REPAIR)["runs"]


def front(records: Iterable[Record]) -> list[Record]:
    """Those that no other one beats in bytes and accuracy, the smallest first."""
    done = [each for each in records if each["state"] == "complete"]
    found = {
        str(place): (each["bytes"], 1, each["validation_accuracy"])
        for place, each in enumerate(done)
    }
    names = load("12_capstone").pareto(found)
    best = [done[int(name)] for name in names]
    return sorted(best, key=lambda each: each["bytes"])
