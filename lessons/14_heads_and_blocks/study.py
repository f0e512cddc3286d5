"""The long measurements that lab 14 quotes: each network is looked at without some of
its parts. Only `text_starts` trains networks of its own.

A part that is left out is made to add nothing: its columns of what writes to the stream
become zero. For heads and neurons that is what removing gives (the lab shows it), and
it is quicker to undo.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils import baselines, data, scores, training
from utils.data import Batches, Split
from utils.models.gpt import CONTEXT
from utils.studies import SEEDS, Material, Run, Shipped, Train, Work, study
from utils.training import Recipe

NETWORKS = ("gpt", "gpt_early", "gpt_early_1", "gpt_early_2", "gpt_gated")
COUNTS = (9, 18, 22, 27)  # heads that leave
FRACTIONS = (0.25, 0.5, 0.75)  # of the neurons that leave
DRAWS = range(5)
WINDOWS, FEW = 48, 4  # of validation; those that greedy looks at
BATCHES, SIZE = 16, 2  # calibration: windows of the training text, 256 pieces each
Head = tuple[int, int]  # block, head
Network = Any  # a models.GPT, whose blocks Sequential hides from the type checker


# ------------------------------------------------------------------- leaving things out


@contextmanager
def zeroed(weight: nn.Parameter, columns: Tensor) -> Iterator[None]:
    """The weight without these columns, `[inputs]` bool; restored afterwards."""
    before = weight.detach().clone()
    with torch.no_grad():
        weight[:, columns] = 0
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(before)


@contextmanager
def without_heads(model: Network, heads: Iterable[Head]) -> Iterator[None]:
    """The network without these heads."""
    gone = set(heads)
    with ExitStack() as stack:
        for number, block in enumerate(model.blocks):
            attention = block.attention
            which = [(number, head) in gone for head in range(attention.heads)]
            columns = torch.tensor(which).repeat_interleave(attention.head_width)
            stack.enter_context(zeroed(attention.out.weight, columns))
        yield


@contextmanager
def without_neurons(model: Network, score: Tensor, fraction: float) -> Iterator[None]:
    """The network without this fraction of each block's neurons, those of lowest
    score, `[blocks, neurons]`."""
    count = round(fraction * score.shape[1])
    with ExitStack() as stack:
        for block, each in zip(model.blocks, score, strict=True):
            columns = torch.zeros(len(each), dtype=torch.bool)
            columns[each.argsort()[:count]] = True
            stack.enter_context(zeroed(block.mlp.down.weight, columns))
        yield


@contextmanager
def without_parts(
    model: Network, attention: Iterable[int] = (), mlp: Iterable[int] = ()
) -> Iterator[None]:
    """The network in which the attention, or the MLP, of these blocks adds nothing."""
    with ExitStack() as stack:
        for number in attention:
            stack.enter_context(_silent(model.blocks[number].attention.out.weight))
        for number in mlp:
            stack.enter_context(_silent(model.blocks[number].mlp.down.weight))
        yield


def _silent(weight: nn.Parameter) -> AbstractContextManager[None]:
    return zeroed(weight, torch.ones(weight.shape[1], dtype=torch.bool))


def lowest(score: Tensor, count: int) -> list[Head]:
    """The heads of lowest score, `[blocks, heads]`; the best of each block stays."""
    free = score.scatter(1, score.argmax(1, keepdim=True), torch.inf)
    places = free.flatten().argsort()[:count].tolist()
    return [divmod(place, score.shape[1]) for place in places]


def greedily(model: Network, windows: Split, count: int) -> list[Head]:
    """Heads one after the other, each time the one whose loss rises least on top of
    those that are gone; one stays in each block."""
    every = [(b, h) for b in range(len(model.blocks)) for h in range(6)]
    gone: list[Head] = []
    for _ in range(count):
        left = [head for head in every if head not in gone]
        free = [h for h in left if sum(other[0] == h[0] for other in left) > 1]
        costs = []
        for head in free:
            with without_heads(model, [*gone, head]):
                costs.append(loss(model, windows))
        gone.append(free[costs.index(min(costs))])
    return gone


def loss(model: nn.Module, windows: Split) -> float:
    """Nats a piece."""
    return training.losses(model, windows).mean().item()


# ------------------------------------------------------------------------------- scores


def neuron_weights(model: Network) -> Tensor:
    """The norm of what a neuron reads with (of both, if it has a gate) times that of
    what it writes with, `[blocks, neurons]`."""
    return torch.stack([_neuron_weights(block.mlp) for block in model.blocks]).detach()


def _neuron_weights(mlp: Any) -> Tensor:
    reads = mlp.up.weight.norm(dim=1) * mlp.down.weight.norm(dim=0)
    return reads * mlp.gate.weight.norm(dim=1) if hasattr(mlp, "gate") else reads


def neuron_gates(model: Network, batches: Batches) -> Tensor:
    """The gate gradient of each neuron, `[blocks, neurons]`."""
    found = scores.score("taylor", model, batches, units=True)
    return torch.stack(
        [each for n, each in found.items() if n.endswith("mlp.up.weight")]
    )


@torch.no_grad()
def firing(model: Network, pieces: Tensor) -> dict[str, Tensor]:
    """Of each neuron, `[blocks, neurons]`: its mean, its root mean square times the
    norm of what it writes with, and how often it fires (is above zero)."""
    hidden: list[Tensor] = []
    hooks = [
        block.mlp.down.register_forward_pre_hook(
            lambda *args: hidden.append(args[1][0])
        )
        for block in model.blocks
    ]
    model(pieces)
    for hook in hooks:
        hook.remove()
    values = torch.stack(hidden)  # [blocks, n, t, neurons]
    down = torch.stack([block.mlp.down.weight.norm(dim=0) for block in model.blocks])
    return {
        "mean": values.mean((1, 2)),
        "outgoing": values.square().mean((1, 2)).sqrt() * down,
        "fires": (values > 0).float().mean((1, 2)),
    }


def table(score: Mapping[str, Tensor]) -> Tensor:
    """Scores of heads, `[blocks, heads]`."""
    return torch.stack(list(score.values()))


@torch.no_grad()
def loss_with_table(model: Network, windows: Split) -> float:
    """The loss when the first MLP knows nothing but the piece: for each of the pieces
    it adds what it would add without attention, at the mean position."""
    first = model.blocks[0]
    piece = model.embedding.weight + model.position.weight.mean(0)  # [pieces, width]
    added = first.mlp(first.norm2(piece))
    total = 0.0
    for pieces, labels in zip(windows.images, windows.labels, strict=True):
        x = model.embedding(pieces) + model.position(torch.arange(len(pieces)))
        x = x + first.attention(first.norm1(x)[None])[0] + added[pieces]
        logits = model.head(model.norm(model.blocks[1:](x[None])[0]))
        total += F.cross_entropy(logits, labels).item()
    return total / len(windows.images)


@torch.no_grad()
def influence(model: Network, pieces: Tensor) -> list[float]:
    """Of each block 1 minus the mean cosine of what enters and what leaves it."""
    x = model.embedding(pieces) + model.position(torch.arange(pieces.shape[1]))
    found = []
    for block in model.blocks:
        after = block(x)
        found.append(1 - F.cosine_similarity(x, after, dim=-1).mean().item())
        x = after
    return found


# -------------------------------------------------------------------------------- steps


def _windows(work: Work, count: int) -> Split:
    """So many windows of validation; fewer where they are short, as in a probe."""
    few = max(1, count * work.data.validation.images.shape[1] // CONTEXT)
    return work.data.validation[:few]


def _rises(model: Network, windows: Split, dense: float, score: Tensor) -> list[float]:
    """Loss rise without the heads of lowest score, for each count."""
    found = []
    for count in COUNTS:
        with without_heads(model, lowest(score, count)):
            found.append(round(loss(model, windows) - dense, 4))
    return found


def _thinned(
    model: Network, windows: Split, dense: float, score: Tensor
) -> list[float]:
    """Loss rise without the neurons of lowest score, for each fraction."""
    found = []
    for fraction in FRACTIONS:
        with without_neurons(model, score, fraction):
            found.append(round(loss(model, windows) - dense, 4))
    return found


def _random(shape: Sequence[int], seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Truth:
    """Loss rises without each head, block, half of a block, pair and triple of blocks;
    without so many heads or neurons at random, by their weights, or by the truth."""

    windows: int = WINDOWS

    def carry_out(self, work: Work) -> None:
        model, windows = work.model.eval(), _windows(work, self.windows)
        dense = loss(model, windows)
        work.found["validation_loss"] = round(dense, 4)
        found: dict[str, Any] = {}
        for part in (self._heads, self._neurons, self._blocks):
            found |= part(model, windows, dense)
        found["first_mlp_as_table"] = round(loss_with_table(model, windows) - dense, 4)
        work.found |= found
        work.signs += [dense, *found["heads_truth"], *found["neurons_weights"]]
        work.signs += [*found["mlp_alone"], found["first_mlp_as_table"]]

    def _heads(self, model: Network, windows: Split, dense: float) -> dict[str, Any]:
        alone = torch.zeros(len(model.blocks), model.blocks[0].attention.heads)
        for block, head in itertools.product(*map(range, alone.shape)):
            with without_heads(model, [(block, head)]):
                alone[block, head] = loss(model, windows) - dense
        magnitude = table(scores.head_score("magnitude", model))
        shape = alone.shape
        return {
            "heads_alone": [[round(x, 4) for x in row] for row in alone.tolist()],
            "heads_truth": _rises(model, windows, dense, alone),
            "heads_magnitude": _rises(model, windows, dense, magnitude),
            "heads_random": [
                _rises(model, windows, dense, _random(shape, seed)) for seed in DRAWS
            ],
        }

    def _neurons(self, model: Network, windows: Split, dense: float) -> dict[str, Any]:
        weights = neuron_weights(model)
        shape = weights.shape
        return {
            "neurons_weights": _thinned(model, windows, dense, weights),
            "neurons_random": [
                _thinned(model, windows, dense, _random(shape, seed)) for seed in DRAWS
            ],
        }

    def _blocks(self, model: Network, windows: Split, dense: float) -> dict[str, Any]:
        every = range(len(model.blocks))

        def rise(attention: Iterable[int], mlp: Iterable[int]) -> float:
            with without_parts(model, attention, mlp):
                return round(loss(model, windows) - dense, 4)

        sets = {
            f"blocks_{count}": {
                " ".join(map(str, gone)): rise(gone, gone)
                for gone in itertools.combinations(every, count)
            }
            for count in (2, 3)
        }
        return {
            "blocks_alone": [rise([b], [b]) for b in every],
            "attention_alone": [rise([b], []) for b in every],
            "mlp_alone": [rise([], [b]) for b in every],
            "attention_all": rise(every, []),
            "attention_but_first": rise(every[1:], []),
            "mlp_but_first": rise([], every[1:]),
            "influence": [round(x, 4) for x in influence(model, windows.images)],
            **sets,
        }


@dataclass(frozen=True)
class Greedy:
    """Heads chosen greedily on a few windows, judged on all."""

    windows: int = WINDOWS
    few: int = FEW

    def carry_out(self, work: Work) -> None:
        model, windows = work.model.eval(), _windows(work, self.windows)
        order = greedily(model, _windows(work, self.few), COUNTS[-1])
        dense, found = loss(model, windows), []
        for count in COUNTS:
            with without_heads(model, order[:count]):
                found.append(round(loss(model, windows) - dense, 4))
        work.found |= {"heads_greedy": found, "order": [list(each) for each in order]}


@dataclass(frozen=True)
class Scored:
    """Loss rises without the heads and neurons that scores with calibration choose."""

    seed: int
    windows: int = WINDOWS

    def carry_out(self, work: Work) -> None:
        model, windows = work.model.eval(), _windows(work, self.windows)
        batches = data.sample_batches(work.train, BATCHES, SIZE, seed=self.seed)
        gate = table(scores.head_score("gate", model, batches))
        seen = firing(model, torch.cat([pieces for pieces, _ in batches]))
        dense = loss(model, windows)
        heads = {
            "gate": gate,
            "gate_by_block": gate / gate.norm(dim=1, keepdim=True),
            "output": table(scores.head_score("output", model, batches)),
        }
        neurons = {
            "taylor": neuron_gates(model, batches),
            "mean": seen["mean"],
            "outgoing": seen["outgoing"],
        }
        found = {
            f"heads_{n}": _rises(model, windows, dense, s) for n, s in heads.items()
        } | {
            f"neurons_{n}": _thinned(model, windows, dense, s)
            for n, s in neurons.items()
        }
        work.found |= found
        work.signs += [number for numbers in found.values() for number in numbers]
        work.found["gates"] = [[round(x, 6) for x in row] for row in gate.tolist()]
        work.found["fires"] = [round(x, 4) for x in seen["fires"].mean(1).tolist()]
        work.found["validation_loss"] = round(dense, 4)


@study
def text_truth() -> Iterator[Run]:
    """What leaves a text network at what cost, part by part: the truth."""
    for name in NETWORKS:
        yield Run(
            {"network": name, "seed": 0}, Shipped(name), (Truth(), Greedy()), text=True
        )


@study
def text_parts() -> Iterator[Run]:
    """What scores choose, by three draws of calibration text."""
    for name, seed in itertools.product(NETWORKS, SEEDS):
        yield Run(
            {"network": name, "seed": seed}, Shipped(name), (Scored(seed),), text=True
        )


# ------------------------------------------------------- why the first MLP costs much

# as `gpt` was trained, for one epoch
ONE = Recipe(
    epochs=1,
    batch_size=8,
    learning_rate=3e-3,
    weight_decay=0.1,
    flip=False,
    shift=255,
)
LOOKED_AT, BLOCKS = 24, 6  # windows of validation; blocks of the network


@dataclass(frozen=True)
class Sized:
    """An untrained `gpt` whose stream starts `times` as large: the embeddings of pieces
    and of positions are multiplied. A tied head is the same tensor and grows with it;
    one that is not tied stays as it was."""

    seed: int
    times: float
    tied: bool

    def model(self, data: Material) -> nn.Module:  # noqa: ARG002 (a Start)
        model: Network = baselines.build("gpt", self.seed)
        if not self.tied:
            model.head.weight = nn.Parameter(model.head.weight.detach().clone())
        with torch.no_grad():
            model.embedding.weight *= self.times
            model.position.weight *= self.times
        return model


@dataclass(frozen=True)
class WithoutEach:
    """Loss rises without the attention or the MLP of each block, and with a table in
    place of the first MLP; how large the stream is where it starts and behind the first
    block."""

    windows: int = LOOKED_AT

    def carry_out(self, work: Work) -> None:
        model, windows = work.model.eval(), _windows(work, self.windows)
        dense, every = loss(model, windows), range(BLOCKS)

        def rise(attention: Iterable[int], mlp: Iterable[int]) -> float:
            with without_parts(model, attention, mlp):
                return round(loss(model, windows) - dense, 4)

        tabled = loss_with_table(model, windows) - dense
        found = {
            "attention_alone": [rise([block], []) for block in every],
            "mlp_alone": [rise([], [block]) for block in every],
            "first_mlp_as_table": round(tabled, 4),
            "stream": [round(x, 4) for x in stream_sizes(model, windows.images)],
        }
        work.found |= found
        work.signs += [*found["attention_alone"], *found["mlp_alone"], tabled]
        work.signs += found["stream"]


@torch.no_grad()
def stream_sizes(model: Network, pieces: Tensor) -> list[float]:
    """Root mean square of the stream where it starts and behind the first block."""
    start = model.embedding(pieces) + model.position(torch.arange(pieces.shape[1]))
    both = (start, model.blocks[0](start))
    return [x.square().mean().sqrt().item() for x in both]


@study
def text_starts() -> Iterator[Run]:
    """Short trainings whose embeddings start as large as those of `gpt` or many times
    as large, with a head that is tied to the embedding or not: what each part costs
    then."""
    for seed, times, tied in (
        (0, 1, True),
        (0, 25, True),
        (0, 1, False),
        (0, 25, False),
        (1, 1, False),
        (1, 25, False),
    ):
        yield Run(
            {"times": times, "tied": tied, "seed": seed},
            Sized(seed, times, tied),
            (Train(ONE, seed), WithoutEach()),
            text=True,
        )
