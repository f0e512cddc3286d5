"""The long runs that lab 15 quotes."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils import baselines, quantization, training
from utils.data import Split
from utils.exercises import load
from utils.preflight import cross_entropy
from utils.studies import SEEDS, All, Material, Run, Shipped, Start, Step, Work, study
from utils.text import Texts, Windows
from utils.training import Loss, Recipe

shapes, payers = (load("15_healing", part) for part in ("shapes", "payers"))
_, NARROW, SHALLOW = shapes.SHAPES
NEVER = Shipped("gpt_early")  # never pruned: what is paired with
KEPT_OUT_NOVEL = "the novel kept out"
KEPT_OUT = 64  # windows of the novel that is kept out

# --------------------------------------------------------------------------- the start


@dataclass(frozen=True)
class Cut:
    """A smaller copy of a shipped network: its best blocks, and their best heads and
    neurons; with `lot`, heads and neurons drawn by lot."""

    network: Shipped
    shape: str
    lot: int | None = None

    def model(self, data: Material) -> nn.Module:
        return copy.deepcopy(_cut(self, data))


@lru_cache(maxsize=8)
def _cut(cut: Cut, texts: Texts) -> nn.Module:
    network, shape = cut.network.model(texts), shapes.SHAPES[cut.shape]
    many = shapes.DENSE.blocks - shape.blocks
    if many:
        batches = shapes.some(texts.train, 8)
        network = shapes.without(network, shapes.worst_blocks(network, many, batches))
    elif cut.lot is None:
        worth = shapes.importance(network, shapes.some(texts.train))
        network = shapes.narrowed(network, worth, shape)
    else:
        network = shapes.narrowed(network, shapes.drawn_by_lot(network, cut.lot), shape)
    return shapes.without_dropout(network)


@dataclass(frozen=True)
class Scratch:
    """The same shape with weights drawn from a seed."""

    shape: str
    seed: int

    def model(self, data: Material) -> nn.Module:  # noqa: ARG002 (a Start)
        network = shapes.made(shapes.SHAPES[self.shape], self.seed)
        return shapes.without_dropout(network)


@dataclass(frozen=True)
class Passages:
    """So many windows of the training text, as eight long passages."""

    count: int
    seed: int

    def of(self, data: Material) -> Windows:
        return shapes.passages(data.train, self.count, self.seed)


# ------------------------------------------------------------------------- what is told


@dataclass(frozen=True)
class Told:
    """What a network hears beside the labels.

    weight: of the teacher's part of the loss.
    change: "", its answers as they are; "shuffled", at each place the other pieces'
    probabilities in random order; "frequencies", at each place the label has the
    teacher's mean probability, and the others share the rest by how often they stand in
    the text.
    where: "", at all places; "unsure" or "sure", at the half of the places of a step
    where the teacher's answer has more, or less, entropy. Elsewhere the labels alone.
    """

    teacher: Shipped
    seed: int = 0
    temperature: float = 1.0
    weight: float = 0.9
    change: str = ""
    where: str = ""

    def loss(self, train: Split) -> Loss:  # noqa: ARG002 (a Lesson)
        return _Telling(self)


class _Telling:
    def __init__(self, told: Told) -> None:
        self.told, self.network = told, baselines.baseline(told.teacher.name)
        self.dice = torch.Generator().manual_seed(told.seed)

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        told = self.told
        with torch.no_grad():
            said = F.log_softmax(self.network(images) / told.temperature, -1)
            entropy = -(said.exp() * said).sum(-1)  # [n, t]
            said = self.changed(said, labels)
        own = F.log_softmax(logits / told.temperature, -1)
        far = (said.exp() * (said - own)).sum(-1) * told.temperature**2
        weight = torch.full_like(far, told.weight)
        if told.where:
            unsure = entropy > entropy.median()
            weight *= unsure if told.where == "unsure" else ~unsure
        return (weight * far + (1 - weight) * cross_entropy(logits, labels)).mean()

    def changed(self, said: Tensor, labels: Tensor) -> Tensor:
        """Log-probabilities `[n, t, pieces]` that the student hears."""
        where = labels[..., None]
        if self.told.change == "shuffled":
            order = torch.randperm(said.shape[-1], generator=self.dice)
            other = said[..., order]
            # the label keeps its own; what came to its place goes where its own went
            back = order.argsort()[labels][..., None]
            mixed = other.scatter(-1, back, other.gather(-1, where))
            return mixed.scatter(-1, where, said.gather(-1, where))
        if self.told.change == "frequencies":
            sure = said.gather(-1, where).exp().mean()
            often = (payers.frequency() + 1.0).expand_as(said)
            others = often.scatter(-1, where, 0.0)
            others = others / others.sum(-1, keepdim=True) * (1 - sure)
            return others.scatter(-1, where, sure.expand(where.shape)).log()
        return said


# ------------------------------------------------------------------------- what is done


@dataclass(frozen=True)
class Heal(Step):
    """A short training; with `rank`, of thin matrices beside the frozen layers, which
    are merged at its end."""

    recipe: Recipe
    seed: int
    told: Told | None = None
    rank: int = 0

    def carry_out(self, work: Work) -> None:
        network = work.model
        if self.rank:
            network = shapes.with_lora(network, self.rank, seed=self.seed)
        told = self.told.loss(work.train) if self.told else None
        history = training.fit(
            network, work.train, self.recipe, seed=self.seed, loss=told, progress=False
        )
        work.losses += history.train_loss
        work.model = shapes.merged(network) if self.rank else network


@dataclass(frozen=True)
class Judge(Step):
    """Note the loss on the validation windows, on each group of their places and on the
    novel that is kept out; and of each the difference to a network that was never
    pruned, window by window, with its error."""

    never: Shipped

    def carry_out(self, work: Work) -> None:
        own, other = _losses(work.model, work.data)
        one, foreign = _losses_of_shipped(self.never, work.data)
        groups = payers.groups(work.data.validation)
        whole = {KEPT_OUT_NOVEL: torch.ones_like(other, dtype=torch.bool)}
        found = payers.paired(own - one, groups) | payers.paired(other - foreign, whole)
        lost = payers.means(own, groups) | payers.means(other, whole)
        work.found |= {
            "validation_loss": round(float(own.mean()), 4),
            "groups": {k: round(v, 4) for k, v in lost.items()},
            "paired": {k: [round(v, 4) for v in both] for k, both in found.items()},
        }
        work.signs.append(float(own.mean()))


def _losses(network: nn.Module, texts: Texts) -> tuple[Tensor, Tensor]:
    """On the validation windows and on some of the novel that is kept out, `[n, t]`
    each."""
    apart = max(len(texts.kept_out) // KEPT_OUT, 1)
    other = texts.kept_out[slice(0, apart * KEPT_OUT, apart)]
    return training.losses(network, texts.validation), training.losses(network, other)


@lru_cache(maxsize=4)
def _losses_of_shipped(network: Shipped, texts: Texts) -> tuple[Tensor, Tensor]:
    return _losses(baselines.baseline(network.name), texts)


@dataclass(frozen=True)
class AtBits(Step):
    """Note the loss on every seventh validation window with the weights of the blocks,
    and the tables, in 32, 8 or 4 bits."""

    def carry_out(self, work: Work) -> None:
        windows = work.data.validation[::7]
        work.found["bits"] = {
            f"{bits}, {table}": round(
                float(
                    training.losses(rounded(work.model, bits, table), windows).mean()
                ),
                4,
            )
            for bits in (32, 8, 4)
            for table in (32, 8, 4)
        }


def rounded(network: nn.Module, bits: int, table: int) -> nn.Module:
    """A copy with weights of so many bits, and tables (embedding and positions) of so
    many."""
    copies = {
        b: network
        if b == 32
        else quantization.quantize_weights(network, b, group=shapes.GROUP)
        for b in {bits, table}
    }
    result = copy.deepcopy(copies[bits])
    with torch.no_grad():
        for name in ("embedding.weight", "position.weight"):
            result.get_parameter(name).copy_(copies[table].get_parameter(name))
    return result


# ---------------------------------------------------------------------------- the runs

RATE, LARGER = shapes.HEALING.learning_rate, 3e-3
STEPS, *LONGER, WHOLE = shapes.LENGTHS


def settings_of(  # noqa: PLR0913 - what the lab finds a run by
    network: str, shape: str, way: str, steps: int, rate: float, seed: int
) -> Mapping[str, object]:
    return {
        "network": network,
        "shape": shape,
        "way": way,
        "steps": steps,
        "rate": rate,
        "seed": seed,
    }


def healed(  # noqa: PLR0913 - a run, by keywords
    way: str,
    seed: int,
    *,
    network: str = "gpt",
    shape: str = NARROW,
    steps: int = STEPS,
    rate: float | None = None,
) -> Run:
    """A network that was cut and healed, in one of several ways."""
    dense = Shipped(network)
    starts: dict[str, Start] = {
        "by lot": Cut(dense, shape, lot=seed),
        "from scratch": Scratch(shape, seed),
    }
    told = {
        "taught": Told(dense),
        "shuffled": Told(dense, seed, change="shuffled"),
        "frequencies": Told(dense, change="frequencies"),
        "unsure": Told(dense, where="unsure"),
        "sure": Told(dense, where="sure"),
        "temperature 2": Told(dense, temperature=2.0),
        "half of the loss": Told(dense, weight=0.5),
    }
    rate = rate or float(shapes.rate_of(way))
    recipe = replace(shapes.HEALING, learning_rate=rate)
    heal = Heal(recipe, seed, told.get(way), rank=8 if way == "LoRA" else 0)
    found: tuple[Step, ...] = (Judge(NEVER),)
    if way == "taught" and not seed and (rate == RATE or steps == WHOLE):
        found += (AtBits(),)
    return Run(
        settings_of(network, shape, way, steps, rate, seed),
        starts.get(way, Cut(dense, shape)),
        (heal, *found),
        All() if steps == WHOLE else Passages(4 * steps, seed),
        text=True,
    )


def unhealed(network: str, shape: str) -> Run:
    """A shipped network, or one that was cut and not healed."""
    start = Shipped(network) if shape == "dense" else Cut(Shipped(network), shape)
    return Run(
        settings_of(network, shape, "not healed", 0, 0.0, 0),
        start,
        (Judge(NEVER), AtBits()),
        text=True,
    )


def compared(network: str) -> Iterator[Run]:
    """The same comparisons for each network that is cut."""
    yield unhealed(network, "dense")
    yield unhealed(network, NARROW)
    for way in ("labels alone", "taught"):
        for seed in SEEDS:
            yield healed(way, seed, network=network)


def longer() -> Iterator[Run]:
    """More steps of healing, with labels and with the teacher."""
    for steps in (*LONGER, WHOLE):
        for way in ("labels alone", "taught"):
            yield healed(way, 0, steps=steps)


def tried() -> Iterator[Run]:
    """What could have been chosen instead: rates, and how the teacher is heard."""
    for rate in (LARGER, 3e-4):
        for way in ("labels alone", "taught"):
            yield healed(way, 0, rate=rate)
    yield healed("taught", 0, steps=WHOLE, rate=LARGER)
    for rate in (RATE, LARGER, 3e-2):
        yield healed("LoRA", 0, rate=rate)
    for way in ("temperature 2", "half of the loss"):
        yield healed(way, 0)


@study
def healing() -> Iterator[Run]:
    """gpt cut by half and trained for 120 steps of four windows, in several ways; its
    controls; and two other shapes. Then the same with gpt_early."""
    yield from compared("gpt")
    for way in ("unsure", "sure", "shuffled", "frequencies", "by lot", "LoRA"):
        yield healed(way, 0)
    yield healed("from scratch", 0)
    yield healed("labels alone", 0, shape="dense")
    yield unhealed("gpt", SHALLOW)
    for way in ("labels alone", "taught"):
        yield healed(way, 0, shape=SHALLOW)
    for way in ("by lot", "unsure", "sure"):
        for seed in SEEDS[1:]:
            yield healed(way, seed)
    yield from longer()
    yield from tried()
    for way in ("labels alone", "taught"):
        for seed in SEEDS[1:]:
            yield healed(way, seed, shape=SHALLOW)
    yield unhealed("gpt_small", "dense")
    yield from compared("gpt_early")
