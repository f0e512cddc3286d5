"""Smaller shapes of a text network: cut out of a trained one, or made from scratch."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils import data, deploy, models, scores, surgery
from utils.data import Batches
from utils.deploy import OnnxWriter
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
LORA = replace(HEALING, learning_rate=1e-2)
LENGTHS = (120, 240, 480, 1017)  # steps of healing; the last see the whole text once
GROUP = 64  # weights that share a scale


def rate_of(way: str) -> float:
    """The highest learning rate of a way to heal."""
    own = {"from scratch": 3e-3, "LoRA": LORA.learning_rate}
    return own.get(way, HEALING.learning_rate)


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


Worth = dict[str, Tensor]  # of heads by their attention, of neurons by their layer


def importance(model: GPT, batches: Batches) -> Worth:
    """What heads and neurons are worth: how fast the loss changes when one fades, which
    is the gradient of a gate of 1 on what it puts out (`scores.head_score`; of a ReLU
    neuron it is `unit_taylor`)."""
    neurons = scores.score("taylor", model, batches, units=True)
    heads = scores.head_score("gate", model, batches)
    return heads | {name: neurons[name] for name in neurons if name.endswith(NEURONS)}


NEURONS = "mlp.up.weight"  # the layers whose rows are neurons


def drawn_by_lot(model: GPT, seed: int) -> Worth:
    """Numbers in place of `importance`, drawn from a seed."""
    dice = torch.Generator().manual_seed(seed)
    sizes = {name: layer.heads for name, layer in scores.attentions(model).items()}
    sizes |= {
        name: len(weight)
        for name, weight in model.named_parameters()
        if name.endswith(NEURONS)
    }
    return {name: torch.rand(size, generator=dice) for name, size in sizes.items()}


def narrowed(model: GPT, worth: Worth, shape: Shape) -> GPT:
    """A copy with the most worthy heads and neurons of each block."""
    keep = {
        name: _best(each, shape.neurons if name.endswith(NEURONS) else shape.heads)
        for name, each in worth.items()
    }
    heads = {name: mask for name, mask in keep.items() if not name.endswith(NEURONS)}
    neurons = {name: mask for name, mask in keep.items() if name.endswith(NEURONS)}
    masks = surgery.head_masks(model, heads) | neurons
    return _gpt(surgery.remove_units(model, EXAMPLE, masks))


EXAMPLE = torch.zeros(1, 8, dtype=torch.int64)  # a short window


def _best(values: Tensor, count: int) -> Tensor:
    """True where the largest are."""
    mask = torch.zeros(len(values), dtype=torch.bool)
    mask[values.topk(count).indices] = True
    return mask


def without(model: GPT, blocks: Sequence[int]) -> GPT:
    """A copy in which these blocks add nothing."""
    names = [f"blocks.{k}" for k in blocks]
    return _gpt(surgery.remove_blocks(model, EXAMPLE, names))


def _gpt(network: nn.Module) -> GPT:
    """What surgery leaves of a GPT is one."""
    assert isinstance(network, GPT)
    return network


def worst_blocks(model: GPT, count: int, batches: Batches) -> tuple[int, ...]:
    """Of all choices of so many blocks the one whose absence costs least on these
    batches."""

    @torch.no_grad()
    def loss(gone: tuple[int, ...]) -> float:
        smaller = without(model, gone)
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
        for part in list(network.blocks.modules()):
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
    for part in list(network.modules()):
        for name, layer in list(part.named_children()):
            if isinstance(layer, LowRank):
                weight = (layer.weight + layer.up @ layer.down).detach()
                plain = nn.Linear(*reversed(weight.shape), bias=False)
                plain.weight = nn.Parameter(weight)
                setattr(part, name, plain)
    return network.requires_grad_(True)


# --------------------------------------------------------------------------- its files


def exported(
    networks: Mapping[str, GPT],
) -> tuple[dict[str, int], dict[str, OnnxWriter]]:
    """Each network as a file for ONNX Runtime, and the last one in 8 and 4 bits, too
    (its name with that number): their bytes, and what writes with them."""
    with TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.onnx" for name in networks}
        sizes = {n: deploy.step_to_onnx(networks[n], path) for n, path in paths.items()}
        last = list(networks)[-1]
        for bits in (8, 4):
            paths[f"{last}{bits}"] = path = Path(folder) / f"{last}{bits}.onnx"
            sizes[f"{last}{bits}"] = deploy.step_to_bits(paths[last], path, bits)
        return sizes, {name: OnnxWriter(path) for name, path in paths.items()}
