"""Smaller shapes of a text network: cut out of a trained one, or made from scratch."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils import data, models
from utils.data import Batches
from utils.models.gpt import GPT
from utils.preflight import cross_entropy
from utils.text import Windows
from utils.training import Recipe


@dataclass(frozen=True)
class Shape:
    """So many heads and neurons in each of so many blocks."""

    blocks: int = 6
    heads: int = 6
    neurons: int = 768


DENSE, NARROW, SHALLOW = Shape(), Shape(heads=3, neurons=384), Shape(blocks=3)
SHAPES = {  # by the name that the lab gives them
    "dense": DENSE,
    "3 heads, 384 neurons": NARROW,
    "3 of 6 blocks": SHALLOW,
}
HEALING = Recipe(
    epochs=1, batch_size=4, learning_rate=1e-3, weight_decay=0.01, flip=False
)
LORA = replace(HEALING, learning_rate=3e-3)


def made(shape: Shape, seed: int) -> GPT:
    """A network of this shape with weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return models.gpt(blocks=shape.blocks, heads=shape.heads, neurons=shape.neurons)


def some(windows: Windows, count: int = 32) -> Batches:
    """Windows to score by, four a batch."""
    return data.sample_batches(windows, count // 4, 4)


def passages(windows: Windows, count: int, seed: int) -> Windows:
    """So many windows, or as many as half of the text has, as eight long passages at
    equal distances; the seed says where the first begins."""
    context = windows.images.shape[1]
    apart = (len(windows.pieces) - 1) // 8
    length = min(count * context // 8, apart // 2)
    dice = torch.Generator().manual_seed(seed)
    first = int(torch.randint(apart - length, (1,), generator=dice))
    pieces = windows.pieces[first:].unfold(0, length, apart)[:8].flatten()
    return Windows.of(torch.cat([pieces, windows.pieces[:1]]), context)


def importance(model: GPT, batches: Batches) -> list[tuple[Tensor, Tensor]]:
    """Of each block what its heads and its neurons are worth, `[heads]` and
    `[neurons]`: how fast the loss changes when one fades, which is the gradient of a
    gate of 1 on what it puts out; the mean size over the batches (Michel et al. 2019).

    A head's output is linear in its rows of `value`, and a ReLU neuron's in its row of
    `up`: the gate's gradient is the sum of weight times gradient over these rows.
    """
    parts = [p for b in model.blocks for p in (b.attention.value, b.mlp.up)]
    found = [torch.zeros(len(part.weight)) for part in parts]
    for images, labels in batches:
        loss = cross_entropy(model(images), labels).mean()
        slopes = torch.autograd.grad(loss, [part.weight for part in parts])
        for place, (part, slope) in enumerate(zip(parts, slopes, strict=True)):
            rows = (part.weight.detach() * slope).sum(1)  # [units]
            if place % 2 == 0:  # a head has several rows; each gets the head's number
                width = model.blocks[place // 2].attention.head_width
                rows = rows.view(-1, width).sum(1).repeat_interleave(width)
            found[place] += rows.abs() / len(batches)
    widths = [block.attention.head_width for block in model.blocks]
    return [(found[2 * k][::width], found[2 * k + 1]) for k, width in enumerate(widths)]


def drawn_by_lot(model: GPT, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Numbers in place of `importance`, drawn from a seed."""
    dice = torch.Generator().manual_seed(seed)
    return [
        (
            torch.rand(block.attention.heads, generator=dice),
            torch.rand(block.mlp.up.out_features, generator=dice),
        )
        for block in model.blocks
    ]


def narrowed(model: GPT, worth: list[tuple[Tensor, Tensor]], shape: Shape) -> GPT:
    """A copy with the most worthy heads and neurons of each block."""
    smaller = copy.deepcopy(model)
    for block, (heads, neurons) in zip(smaller.blocks, worth, strict=True):
        width = block.attention.head_width
        best = heads.topk(shape.heads).indices.sort().values
        rows = (best[:, None] * width + torch.arange(width)).flatten()
        for layer in (
            block.attention.query,
            block.attention.key,
            block.attention.value,
        ):
            keep_rows(layer, rows)
        keep_columns(block.attention.out, rows)
        best = neurons.topk(shape.neurons).indices.sort().values
        keep_rows(block.mlp.up, best)
        keep_columns(block.mlp.down, best)
    return smaller


def keep_rows(layer: nn.Linear, rows: Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight.detach()[rows].clone())
    layer.out_features = len(rows)


def keep_columns(layer: nn.Linear, columns: Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight.detach()[:, columns].clone())
    layer.in_features = len(columns)


def shortened(model: GPT, keep: tuple[int, ...]) -> GPT:
    """A copy with these blocks only."""
    smaller = copy.deepcopy(model)
    smaller.blocks = nn.Sequential(*[smaller.blocks[k] for k in keep])
    return smaller


def best_blocks(model: GPT, count: int, batches: Batches) -> tuple[int, ...]:
    """Of all choices of so many blocks the one that loses least on these batches."""

    @torch.no_grad()
    def loss(keep: tuple[int, ...]) -> float:
        smaller = shortened(model, keep)
        return float(sum(cross_entropy(smaller(x), y).mean() for x, y in batches))

    return min(combinations(range(len(model.blocks)), count), key=loss)


def without_dropout(model: GPT) -> GPT:
    """The same network; it drops nothing while it is trained."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return model


@torch.no_grad()
def entropy(logits: Tensor) -> Tensor:
    """How much each answer leaves open, nats: `[..., classes]` -> `[...]`."""
    return torch.special.entr(logits.softmax(-1)).sum(-1)


# ------------------------------------------------------------- thin matrices beside it

Beside = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def beside(x: Tensor, weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """What a frozen layer and the two thin matrices beside it put out together. Built
    in lessons/15_healing."""
    return F.linear(x, weight) + F.linear(F.linear(x, down), up)


class LowRank(nn.Module):
    """A frozen linear layer and two thin matrices beside it that learn (LoRA; Hu et al.
    2021). `up` begins at zero, so that nothing changes at the start."""

    def __init__(self, layer: nn.Linear, rank: int, together: Beside) -> None:
        super().__init__()
        outputs, inputs = layer.weight.shape
        self.weight = nn.Parameter(layer.weight.detach(), requires_grad=False)
        self.down = nn.Parameter(torch.randn(rank, inputs) / math.sqrt(inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.together = together

    def forward(self, x: Tensor) -> Tensor:
        return self.together(x, self.weight, self.down, self.up)


def with_lora(
    model: GPT, rank: int = 8, together: Beside = beside, seed: int = 0
) -> GPT:
    """A copy that is frozen but for thin matrices beside each layer of its blocks."""
    network = copy.deepcopy(model).requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for block in network.blocks:
            for part in (block.attention, block.mlp):
                for name, layer in list(part.named_children()):
                    if isinstance(layer, nn.Linear):
                        setattr(part, name, LowRank(layer, rank, together))
    return network


def learning(model: nn.Module) -> int:
    """How many parameters are not frozen."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def merged(model: GPT) -> GPT:
    """A plain copy: the product of the thin matrices beside a layer is added to its
    weight."""
    network = copy.deepcopy(model)
    for block in network.blocks:
        for part in (block.attention, block.mlp):
            for name, layer in list(part.named_children()):
                if isinstance(layer, LowRank):
                    weight = (layer.weight + layer.up @ layer.down).detach()
                    plain = nn.Linear(*reversed(weight.shape), bias=False)
                    plain.weight = nn.Parameter(weight)
                    setattr(part, name, plain)
    return network.requires_grad_(True)
