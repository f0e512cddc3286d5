"""Studies that take too long for a lab: runs as data, what they found, and whether that
still holds. `make results` carries them out.

A lesson's `study.py` says what is run; `results/NAME.json` beside it holds what came of
it. A lab says which of its numbers come from there, and runs a part of them again.

    @study
    def widths() -> Iterator[Run]:
        \"\"\"What it is about.\"\"\"
        for seed in SEEDS:
            yield Run(
                {"method": "dense", "seed": seed},
                Untrained("lenet300", seed),
                (Train(Recipe(epochs=12), seed),),
            )

A run is known by `identity`: every number it depends on, in words. What the code makes
of these numbers is known by `probe`: the same run on very few pictures. A recorded run
whose identity or probe is another today is stale.
"""

import copy
import importlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cache, lru_cache, partial
from hashlib import sha256
from pathlib import Path
from statistics import mean
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from utils import baselines, data, masks, measure, text, training
from utils.data import Data, Split
from utils.distillation import Teacher
from utils.files import DamagedFileError, read_sealed
from utils.schedules import Schedule
from utils.text import Texts, Windows
from utils.training import Loss, Recipe

LESSONS = Path(__file__).resolve().parents[1] / "lessons"
SEEDS = (0, 1, 2)

# ------------------------------------------------------------------- what the labs read


def runs(name: str, **where: object) -> list[dict]:
    """The recorded runs of one study; only those whose entries equal `where`.

    Raises:
        DamagedFileError: the file is missing or damaged; names it and the repair.
        ValueError: no run is like `where`, or `where` names something that runs do not
            have.
    """
    everything = _recorded(name)
    entries = set.intersection(*map(set, everything)) if everything else set()
    if unknown := where.keys() - entries:
        raise ValueError(
            f"runs of {name} have no {', '.join(sorted(unknown))}. They have:"
            f" {', '.join(sorted(entries))}."
        )
    found = [
        run
        for run in everything
        if all(run[key] == value for key, value in where.items())
    ]
    if not found:
        raise ValueError(f"{name} has no run with {where!r}.")
    return found


def _recorded(name: str) -> list[dict]:
    places = {path.stem: path for path in LESSONS.glob("*/results/*.json")}
    path = places.get(name, LESSONS / "*" / "results" / f"{name}.json")
    repair = f"`git checkout -- lessons`, or `make results ARGS={name}`."
    try:
        return [dict(run) for run in read_sealed(path, repair)["runs"]]
    except (ValueError, KeyError, TypeError):
        raise DamagedFileError(f"{path} is damaged. Repair: {repair}") from None


@dataclass(frozen=True)
class Spread:
    """The mean over the seeds, and the lowest and highest of them."""

    mean: float
    low: float
    high: float
    seeds: int


def spread(name: str, entry: str = "validation_accuracy", **where: object) -> Spread:
    """Mean, lowest and highest of an entry over the seeds of the runs that are like
    `where`.

    Raises:
        ValueError: no such run or entry, or two runs of one seed: `where` does not
            single out one setting.
    """
    found = runs(name, **where)
    if any(entry not in run for run in found):
        raise ValueError(
            f"entry={entry!r} is not in the runs of {name}. They have:"
            f" {', '.join(found[0])}."
        )
    if len({run["seed"] for run in found}) != len(found):
        raise ValueError(
            f"{where!r} does not single out one setting of {name}: a seed occurs twice."
        )
    values = [run[entry] for run in found]
    return Spread(mean(values), min(values), max(values), len(values))


def bands(spreads: Mapping[object, Spread]) -> tuple[list[float], list[float]]:
    """Lower and upper ends, as `plots.lines(spread=...)` takes them."""
    return [each.low for each in spreads.values()], [
        each.high for each in spreads.values()
    ]


# ---------------------------------------------------------------------------- the parts

# What a run has before it: `Data`, or of a text `Texts`. Each part says which it takes.
Material = Any


@dataclass
class Work:
    """What a run has in hand: its network, what it learns from, and what it found.

    hold: makes, for a network, what `fit` calls after each step.  losses: mean training
    loss of each epoch.  signs: numbers that a probe compares too.
    """

    model: nn.Module
    train: Split
    data: Material
    hold: Callable[[nn.Module], Callable[[], None]] | None = None
    losses: list[float] = field(default_factory=list)
    history: list[float] = field(default_factory=list)
    signs: list[float] = field(default_factory=list)
    found: dict[str, object] = field(default_factory=dict)


class Start(Protocol):
    """Where a run begins. Like all parts a frozen dataclass: its `repr` says all."""

    def model(self, data: Material) -> nn.Module:
        """A network of the run's own."""
        ...


class Step(Protocol):
    """What a run does."""

    def carry_out(self, work: Work) -> None:
        """Do it, and note in `work` what came of it."""
        ...


class Pictures(Protocol):
    """What a run learns from."""

    def of(self, data: Material) -> Split:
        """Pictures and labels, or windows of text."""
        ...


class Rule(Protocol):
    """Which weights are pruned."""

    def masks(self, model: nn.Module, data: Material) -> masks.Masks:
        """Masks for the model."""
        ...


class Lesson(Protocol):
    """What a network is taught beside the labels."""

    def loss(self, train: Split) -> Loss:
        """A loss for one training run on these pictures."""
        ...


@dataclass(frozen=True)
class All:
    """All training pictures, or all windows of the training text."""

    def of(self, data: Material) -> Split:
        return data.train


@dataclass(frozen=True)
class Untrained:
    """A network of the course with weights drawn from a seed."""

    name: str
    seed: int

    def model(self, data: Material) -> nn.Module:  # noqa: ARG002 (a Start)
        return baselines.build(self.name, self.seed)


@dataclass(frozen=True)
class Shipped:
    """A network that comes with the course; its `repr` has its sha256."""

    name: str

    def model(self, data: Material) -> nn.Module:  # noqa: ARG002 (a Start)
        return baselines.baseline(self.name)

    def __repr__(self) -> str:
        digest = str(baselines.baseline_facts(self.name)["sha256"])
        return f"Shipped({self.name!r}, sha256={digest[:16]!r})"


@dataclass(frozen=True)
class Trained:
    """What comes out of other steps, done once for all runs that begin with it."""

    start: Start
    steps: tuple[Step, ...]
    pictures: Pictures = All()

    def model(self, data: Material) -> nn.Module:
        return copy.deepcopy(self.work(data).model)

    def work(self, data: Material) -> Work:
        """The finished work, which nobody may change."""
        return _worked(self, data)


@dataclass(frozen=True)
class Train:
    """Training that validates after each epoch; what is pruned stays so."""

    recipe: Recipe
    seed: int
    schedule: Schedule | None = None
    lesson: Lesson | None = None

    def carry_out(self, work: Work) -> None:
        history = training.fit(
            work.model,
            work.train,
            self.recipe,
            validation=work.data.validation,
            seed=self.seed,
            after_step=work.hold(work.model) if work.hold else None,
            schedule=copy.deepcopy(self.schedule),
            loss=self.lesson.loss(work.train) if self.lesson else None,
            progress=False,
        )
        work.losses += history.train_loss
        reads = isinstance(work.data, Texts)
        kept = history.validation_loss if reads else history.validation_accuracy
        work.history += [round(value, 4) for value in kept]
        entry = "validation_loss" if reads else "validation_accuracy"
        work.found[entry] = work.history[-1]


@dataclass(frozen=True)
class Validate:
    """Note the validation accuracy under this name."""

    entry: str

    def carry_out(self, work: Work) -> None:
        accuracy = training.evaluate(work.model, work.data.validation)
        work.found[self.entry] = round(accuracy, 4)


@dataclass(frozen=True)
class ValidateLoss:
    """Note the mean validation loss under this name, in nats."""

    entry: str = "validation_loss"

    def carry_out(self, work: Work) -> None:
        losses = training.losses(work.model, work.data.validation)
        work.found[self.entry] = round(losses.mean().item(), 4)
        work.signs.append(losses.mean().item())


@dataclass(frozen=True)
class Prune:
    """Prune at once, and hold it from now on."""

    rule: Rule

    def carry_out(self, work: Work) -> None:
        mask = self.rule.masks(work.model, work.data)
        masks.apply_masks(work.model, mask)
        work.hold = partial(masks.hold, masks=mask)


@dataclass(frozen=True)
class Magnitude:
    """The largest weights stay, of all layers together."""

    sparsity: float

    def masks(
        self,
        model: nn.Module,
        data: Material,  # noqa: ARG002 (a Rule)
    ) -> masks.Masks:
        return masks.magnitude_masks(model, self.sparsity)


@dataclass(frozen=True)
class Taught:
    """A shipped network teaches, and sees each picture as the student does."""

    teacher: Shipped
    temperature: float
    weight: float = 0.9

    def loss(self, train: Split) -> Loss:  # noqa: ARG002 (a Lesson)
        network = baselines.baseline(self.teacher.name)
        return Teacher(network, temperature=self.temperature, weight=self.weight)


# -------------------------------------------------------------------------------- a run


@dataclass(frozen=True)
class Run:
    """One run of a study.

    settings: what the labs find it by; numbers and words, the seed among them.
    start: the network it begins with.  steps: what is done to it, in order.
    pictures: what it learns from.  text: it has the novels before it, not pictures.
    """

    settings: Mapping[str, object]
    start: Start
    steps: tuple[Step, ...]
    pictures: Pictures = All()
    text: bool = False

    @property
    def setting(self) -> dict[str, object]:
        """The settings without the seed."""
        return {key: value for key, value in self.settings.items() if key != "seed"}


def material(run: Run) -> Material:
    """All that a run has before it."""
    return text.load() if run.text else data.load()


def carry_out(run: Run | Trained, data: Material) -> Work:
    """Do all steps of a run."""
    work = Work(run.start.model(data), run.pictures.of(data), data)
    for step in run.steps:
        step.carry_out(work)
    return work


@lru_cache(maxsize=4)
def _worked(trained: Trained, data: Material) -> Work:
    return carry_out(trained, data)


def identity(run: Run) -> str:
    """All that the run depends on, in words: start, steps and pictures with every
    number in them, the networks and the data with their sha256."""
    files = text.NOVELS | {"pieces": text.PIECES_SHA256} if run.text else data.PUBLISHED
    published = sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    parts = (run.start, run.steps, run.pictures)
    return f"{', '.join(map(repr, parts))}, data={published[:16]!r}"


# ------------------------------------------------------------------------------- probes

TOLERANCE = 2e-3  # between processors; a change of a rule shows more than that
SMALL = 320  # pictures to train on


def probe(run: Run) -> list[float]:
    """The run on a small scale, 20 steps for each training, as a few numbers: mean
    training losses, the norm of all weights, and the fraction of each layer that is
    not zero.

    Deterministic, on one thread, in float32: how bfloat16 is used depends on the
    processor.
    """
    with measure.pinned(1):
        work = carry_out(small(run), _few_windows() if run.text else _few())
    weights = [w.detach() for w in work.model.parameters() if w.dim() > 1]
    norm = torch.stack([weight.norm() for weight in weights]).norm().item()
    kept = [weight.count_nonzero().item() / weight.numel() for weight in weights]
    return [float(f"{x:.6g}") for x in (*work.losses, *work.signs, norm, *kept)]


def agree(one: list[float], other: list[float]) -> bool:
    """Whether two probes are of one and the same code and data."""
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        for a, b in zip(one, other, strict=True)
    )


@cache
def _few() -> Data:
    everything = data.load()
    return Data(everything.train[:SMALL], *(part[:200] for part in everything[1:]))


@cache
def _few_windows() -> Texts:
    """Short windows, so that a step is quick."""
    return Texts(*(Windows.of(part.pieces[:2049], context=32) for part in text.load()))


Part = TypeVar("Part")


def small(part: Part) -> Part:
    """The same part with each recipe in it made short; weights decay as much as in a
    longer run."""
    if isinstance(part, Recipe):
        decay = min(100 * part.weight_decay, 3.0)
        size = SMALL // 10
        # no window of text begins later than a short one is long
        changed = {"weight_decay": decay, "bf16": False, "shift": min(part.shift, 27)}
        return replace(part, epochs=2, batch_size=size, **changed)
    if isinstance(part, tuple):
        return type(part)(map(small, part))
    if is_dataclass(part) and not isinstance(part, (type, Schedule)):
        return replace(part, **{k: small(v) for k, v in vars(part).items()})
    return part


# ------------------------------------------------------------------------------ a study


@dataclass(frozen=True)
class Study:
    """The runs of one file of results."""

    name: str
    about: str
    runs: Callable[[], Iterator[Run]]
    path: Path


def study(function: Callable[[], Iterator[Run]]) -> Study:
    """Make a study of a function in a lesson's study.py: its name is the file's, its
    docstring says what it is about."""
    name = function.__name__
    path = Path(function.__code__.co_filename).parent / "results" / f"{name}.json"
    return Study(name, " ".join((function.__doc__ or "").split()), function, path)


def find() -> dict[str, Study]:
    """All studies of all lessons, by name."""
    modules = [
        importlib.import_module(f"lessons.{path.parent.name}.study")
        for path in sorted(LESSONS.glob("*/study.py"))
    ]
    values = [value for module in modules for value in vars(module).values()]
    return {each.name: each for each in values if isinstance(each, Study)}
