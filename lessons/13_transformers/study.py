"""The long runs that lab 13 quotes."""

import copy
import itertools
import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from utils import generation, layers, masks, scores, text, training
from utils.data import Batches, Split, sample_batches
from utils.exercises import load
from utils.models.gpt import GPT
from utils.refit import refit, sparsegpt
from utils.studies import SEEDS, Material, Run, Shipped, Work, study
from utils.training import Recipe

minilm = load("13_transformers", "minilm")
NETWORKS = ("gpt", "gpt_early", "gpt_early_1", "gpt_early_2")
READ = 8  # windows of calibration
SCOPES = ("global", "layerwise", "unit")
FIXED = 48  # validation windows, the same for every run


def judged(work: Work) -> Split:
    """The validation windows on which every run is judged, evenly spaced."""
    everything = work.data.validation
    step = max(1, len(everything) // FIXED)
    return everything[torch.arange(FIXED) * step]


def is_probe(work: Work) -> bool:
    """Whether the windows are the short ones of a probe."""
    return work.train.images.shape[1] < text.CONTEXT


class Table:
    """What a run measured: by name the mean rise of the loss and its standard error
    over the windows."""

    def __init__(self, work: Work) -> None:
        self.work, self.windows = work, judged(work)
        self.dense = training.losses(work.model, self.windows).mean(1)  # [windows]
        self.rises: dict[str, list[float]] = {}
        work.found["validation_loss"] = round(self.dense.mean().item(), 4)

    def add(self, name: str, model: nn.Module) -> None:
        """Note what a network costs."""
        rise = training.losses(model, self.windows).mean(1) - self.dense
        error = rise.std().item() / len(rise) ** 0.5
        self.rises[name] = [round(rise.mean().item(), 4), round(error, 4)]
        self.work.signs.append(rise.mean().item())

    def close(self) -> None:
        """Hand it to the run."""
        self.work.found["rises"] = self.rises


def shares_of(score: scores.Scores, sparsity: float) -> dict[str, float]:
    """The sparsity of each layer when all weights compete; one that would lose all of
    its weights keeps one."""
    chosen = masks.masks_from_scores(score, sparsity, allow_empty=True)
    return {
        row.name: min(row.sparsity, 1 - 1 / row.weights)
        for row in masks.report(chosen)[:-1]
    }


@dataclass(frozen=True)
class ScoreAll:
    """Every score and scope at 60%, and some at 50% and 70%."""

    draw: int

    def carry_out(self, work: Work) -> None:
        table, model = Table(work), work.model
        batches = sample_batches(work.data.train, READ, batch_size=1, seed=self.draw)
        by = {
            "magnitude": scores.magnitude(model),
            "Wanda": scores.activation(model, batches),
            "w*g": scores.taylor(model, batches),
        }
        chance = scores.random(model, seed=self.draw)

        def add(name: str, chosen: masks.Masks) -> None:
            table.add(name, masks.masked(model, chosen))

        for name, score in by.items():
            for scope in SCOPES:
                chosen = masks.masks_from_scores(
                    score, 0.6, scope=scope, allow_empty=True
                )
                add(f"{name}, {scope}", chosen)
        add(
            "random, layerwise", masks.masks_from_scores(chance, 0.6, scope="layerwise")
        )
        shares = shares_of(by["w*g"], 0.6)
        for name, score in (("magnitude", by["magnitude"]), ("random", chance)):
            chosen = masks.masks_from_scores(score, shares, allow_empty=True)
            add(f"{name}, shares of w*g", chosen)
        for name, scope in (
            ("magnitude", "layerwise"),
            ("Wanda", "unit"),
            ("w*g", "global"),
        ):
            for sparsity in (0.5, 0.7):
                chosen = masks.masks_from_scores(
                    by[name], sparsity, scope=scope, allow_empty=True
                )
                add(f"{name}, {scope}, {sparsity:.0%}", chosen)
        table.close()


@study
def text_scores() -> Iterator[Run]:
    """Text networks pruned once, by every score and with every rule of who competes;
    the seed draws the calibration and the random masks."""
    for network in NETWORKS:
        for seed in SEEDS:
            settings = {"network": network, "seed": seed}
            yield Run(settings, Shipped(network), (ScoreAll(seed),), text=True)


# ------------------------------------------------------------------------ second order


@dataclass(frozen=True)
class MakeUp:
    """Kept weights that make up for pruned ones, at 70% and for 2:4."""

    draw: int

    def carry_out(self, work: Work) -> None:
        table, model = Table(work), work.model
        batches = sample_batches(work.data.train, READ, batch_size=1, seed=self.draw)
        all_names = list(layers.prunable(model))
        # a probe prunes the first block only: it is the solving that takes time
        exclude = all_names[6:] if is_probe(work) else []
        by = {
            "magnitude": scores.magnitude(model),
            "Wanda": scores.activation(model, batches),
            "random": scores.random(model, seed=self.draw),
        }
        for name, scope, pattern in (
            ("magnitude", "layerwise", None),
            ("Wanda", "unit", None),
            ("random", "layerwise", None),
            ("magnitude", "layerwise", masks.NM(2, 4)),
            ("Wanda", "layerwise", masks.NM(2, 4)),
        ):
            sparsity = 0.5 if pattern else 0.7
            chosen = masks.masks_from_scores(
                by[name], sparsity, scope=scope, pattern=pattern, exclude=exclude
            )
            said = f"{name}, 2:4" if pattern else name
            table.add(said, masks.masked(model, chosen))
            if (name, pattern) != ("Wanda", masks.NM(2, 4)):
                table.add(f"{said}, refitted", refit(model, chosen, batches))
        for said, sparsity, pattern in (
            ("SparseGPT", 0.7, None),
            ("SparseGPT, 2:4", 0.5, masks.NM(2, 4)),
        ):
            pruned, _ = sparsegpt(
                model, sparsity, batches, pattern=pattern, exclude=exclude
            )
            table.add(said, pruned)
        table.close()


@study
def text_refit() -> Iterator[Run]:
    """Text networks pruned once, the kept weights then refitted by least squares, and
    SparseGPT."""
    for network in NETWORKS:
        settings = {"network": network, "seed": 0}
        yield Run(settings, Shipped(network), (MakeUp(0),), text=True)


# ------------------------------------------------------------------------- calibration


def shuffled(windows: Split, generator: torch.Generator) -> Tensor:
    """The pieces of each window in random order, `[n, t]`."""
    order = torch.rand(windows.images.shape, generator=generator).argsort(1)
    return windows.images.gather(1, order)


def own_writing(model: GPT, count: int, length: int, seed: int) -> Tensor:
    """What the network writes after the end of a paragraph, `[count, length]`."""
    vocabulary = text.vocabulary()
    writer, begin = generation.Writer(model), vocabulary.encode("\n")
    rows = []
    for number in range(count):
        luck = generation.noise(length, len(vocabulary), 1.0, 100 * seed + number)
        rows.append(writer.write(begin, luck))
    return torch.stack(rows)


def some(windows: Split, count: int, seed: int) -> Split:
    """So many windows, drawn by lot."""
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed))
    return windows[order[:count]]


READINGS: dict[str, Callable[[Work, int], Tensor]] = {
    "1 window": lambda work, seed: some(work.data.train, 1, seed).images,
    "8 windows": lambda work, seed: some(work.data.train, 8, seed).images,
    "32 windows": lambda work, seed: some(work.data.train, 32, seed).images,
    "the other novel": lambda work, seed: some(work.data.kept_out, 8, seed).images,
    "shuffled pieces": lambda work, seed: shuffled(
        some(work.data.train, 8, seed), torch.Generator().manual_seed(seed)
    ),
    "random pieces": lambda work, seed: torch.randint(
        len(text.vocabulary()),
        (8, work.train.images.shape[1]),
        generator=torch.Generator().manual_seed(seed),
    ),
    "its own writing": lambda work, seed: own_writing(
        cast(GPT, work.model), 8, work.train.images.shape[1], seed
    ),
}


@dataclass(frozen=True)
class Calibrate:
    """Wanda and SparseGPT at 70%, from one kind of reading."""

    reading: str
    draw: int

    def carry_out(self, work: Work) -> None:
        table, model = Table(work), work.model
        read = READINGS[self.reading](work, self.draw)
        # labels are not looked at
        batches: Batches = [(row[None], row[None]) for row in read]
        exclude = list(layers.prunable(model))[6:] if is_probe(work) else []
        score = scores.activation(model, batches)
        chosen = masks.masks_from_scores(score, 0.7, scope="unit")
        table.add("Wanda", masks.masked(model, chosen))
        pruned, _ = sparsegpt(model, 0.7, batches, exclude=exclude)
        table.add("SparseGPT", pruned)
        table.close()


@study
def text_calibration() -> Iterator[Run]:
    """How much Wanda and SparseGPT must read, and what: the seed draws it."""
    for reading in READINGS:
        for seed in SEEDS:
            settings = {"reading": reading, "seed": seed}
            yield Run(settings, Shipped("gpt"), (Calibrate(reading, seed),), text=True)


# -------------------------------------------------------------------------- fine-tuning

TUNE = Recipe(epochs=1, batch_size=4, learning_rate=5e-4, weight_decay=0.1, flip=False)


@dataclass(frozen=True)
class Tune:
    """120 steps of four windows, the pruned weights held at zero."""

    method: str
    draw: int
    recipe: Recipe = TUNE

    def carry_out(self, work: Work) -> None:
        table, model = Table(work), work.model
        batches = sample_batches(work.data.train, READ, batch_size=1, seed=self.draw)
        hold = None
        if self.method != "dense":
            name = self.method.split(",")[0]
            score = scores.score(name, model, batches)
            chosen = masks.masks_from_scores(score, 0.7, scope="layerwise")
            exclude = list(chosen)[6:] if is_probe(work) else []
            chosen = {n: m for n, m in chosen.items() if n not in exclude}
            if self.method.endswith("refitted"):
                model = refit(model, chosen, batches)
            hold = masks.hold(model, chosen)
        else:
            model = copy.deepcopy(model)
        table.add("before", model)
        windows = some(work.train, 480, self.draw)
        history = training.fit(
            model,
            windows,
            self.recipe,
            seed=self.draw,
            after_step=hold,
            progress=False,
        )
        work.losses += history.train_loss
        table.add("after", model)
        table.close()


@study
def text_tuning() -> Iterator[Run]:
    """120 steps of fine-tuning after pruning to 70%, with and without a refit before,
    and of the dense network."""
    for method in ("dense", "magnitude", "magnitude, refitted"):
        settings = {"method": method, "seed": 0}
        yield Run(settings, Shipped("gpt"), (Tune(method, 0),), text=True)


# ------------------------------------------------------------------------------- MiniLM

SENTENCES = 64  # of calibration, and as many on which it is judged
SPARSITIES = (0.3, 0.5)
ENDS = re.compile(r'(?<=[.!?])(?<!Mr\.)(?<!Mrs\.)(?<!Dr\.)"?\s+')


@dataclass(frozen=True)
class Packaged:
    """MiniLM. A run of it can be carried out where its package is installed, and
    nowhere else; its `repr` has the sha256 of its weights. A probe has to work
    everywhere, and is given a small one, untrained, that spells every word.

    Raises:
        MissingFileError: its package is not installed; says how to get it.
    """

    sha256: str = minilm.SHA256["model.safetensors"][:16]

    def model(self, data: Material) -> nn.Module:
        if data.train.images.shape[1] == text.CONTEXT:
            return minilm.network()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            size = len(spelling().number)
            return minilm.MiniLM(size, width=64, blocks=2, neurons=128).eval()


def spelling() -> Any:
    """The pieces of a probe: each letter and sign is one."""
    marks, signs = ["[CLS]", "[SEP]", "[UNK]"], string.printable
    return minilm.WordPieces([*marks, *signs, *(f"##{sign}" for sign in signs)])


def sentences(pieces: Tensor) -> list[str]:
    """The sentences of a text, without very short and very long ones."""
    every = ENDS.split(text.vocabulary().decode(pieces))
    return [each for each in every if 40 <= len(each) <= 250]


def input_sizes(score: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """By weight, the size of each of its inputs, `[inputs]`, as a multiple of the
    middle one; from `scores.activation`."""
    found = {}
    for name, plain in scores.magnitude(model).items():
        size = (score[name] / plain.clamp(min=1e-9)).amax(0)
        found[name] = size / size.median()
    return found


@torch.no_grad()
def vectors(model: nn.Module, asked: list[Tensor]) -> Tensor:
    """The vector of each sentence, `[sentences, width]`."""
    return torch.cat([model(pieces[None]) for pieces in asked])


@torch.no_grad()
def pytorch_vectors(model: Any, asked: list[Tensor]) -> Tensor:
    """The same from PyTorch's own encoder, with the weights of `model`."""
    width, heads = model.norm.normalized_shape[0], model.blocks[0].attention.heads
    neurons = model.blocks[0].mlp.up.out_features
    layer = nn.TransformerEncoderLayer(
        width, heads, neurons, activation="gelu", batch_first=True, layer_norm_eps=1e-12
    )
    encoder = nn.TransformerEncoder(
        layer, len(model.blocks), enable_nested_tensor=False
    )
    for theirs, ours in zip(encoder.layers, model.blocks, strict=True):
        look, own = cast(nn.TransformerEncoderLayer, theirs), ours.attention
        parts = (own.query, own.key, own.value)
        look.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        look.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        for into, out in (
            (look.self_attn.out_proj, own.out),
            (look.linear1, ours.mlp.up),
            (look.linear2, ours.mlp.down),
            (look.norm1, ours.norm1),
            (look.norm2, ours.norm2),
        ):
            into.load_state_dict(out.state_dict())
    encoder.eval()
    found = []
    for pieces in asked:
        places = torch.arange(len(pieces))
        x = model.norm(model.embedding(pieces) + model.position(places))
        found.append(encoder(x[None]).mean(1))
    return nn.functional.normalize(torch.cat(found), dim=-1)


@dataclass(frozen=True)
class TurnVectors:
    """How large its inputs are, and how far pruning turns the vectors of sentences that
    no score has read: the mean cosine to the dense network's, and its standard
    error."""

    draw: int

    def carry_out(self, work: Work) -> None:
        model, probing = work.model, is_probe(work)
        words = spelling() if probing else minilm.word_pieces()
        every = sentences(cast(text.Windows, work.train).pieces)
        lot = torch.Generator().manual_seed(self.draw)
        chosen = torch.randperm(len(every), generator=lot)[:SENTENCES].tolist()
        batches: Batches = [
            (words.encode(every[number])[None], torch.zeros(1, dtype=torch.int64))
            for number in chosen
        ]
        kept = sentences(work.data.validation.pieces)
        step = max(1, len(kept) // SENTENCES)
        asked = [words.encode(each) for each in kept[::step][:SENTENCES]]
        self.measure(work, model, batches, asked)

    def measure(
        self, work: Work, model: nn.Module, batches: Batches, asked: list[Tensor]
    ) -> None:
        """Note everything."""
        dense = vectors(model, asked)
        size, wanda = scores.magnitude(model), scores.activation(model, batches)
        inputs = input_sizes(wanda, model)
        by = {
            "magnitude": size,
            "Wanda": wanda,
            # of the inputs' sizes only those above, or below, the middle one count
            "large inputs": {n: w * inputs[n].clamp(min=1) for n, w in size.items()},
            "small inputs": {n: w * inputs[n].clamp(max=1) for n, w in size.items()},
            "random": scores.random(model, seed=self.draw),
        }
        cosines: dict[str, list[float]] = {}
        for name, scope in itertools.product(by, ("layerwise", "unit")):
            if "inputs" in name and scope == "layerwise":
                continue
            for sparsity in SPARSITIES:
                chosen = masks.masks_from_scores(by[name], sparsity, scope=scope)
                turned = vectors(masks.masked(model, chosen), asked)
                each = (turned * dense).sum(1)
                error = each.std().item() / len(each) ** 0.5
                said = f"{name}, {scope}, {sparsity:.0%}"
                cosines[said] = [round(each.mean().item(), 4), round(error, 4)]
                work.signs.append(each.mean().item())
        largest = {name: each.max().item() for name, each in inputs.items()}
        work.signs += largest.values()
        apart = (pytorch_vectors(model, asked) - dense).abs().max().item()
        others = (dense * dense.roll(1, 0)).sum(1)
        work.found |= {
            "cosines": cosines,
            "largest_inputs": {n: round(each, 3) for n, each in largest.items()},
            "differs_from_pytorch_by": apart,
            "cosine_of_two_sentences": round(others.mean().item(), 4),
            "sentences": len(asked),
        }


@study
def minilm_scores() -> Iterator[Run]:
    """MiniLM, a network that others trained, pruned once by scores; the seed draws the
    calibration and the random masks."""
    for seed in SEEDS:
        settings = {"network": "MiniLM", "seed": seed}
        yield Run(settings, Packaged(), (TurnVectors(seed),), text=True)
