"""Pruning against torch.nn.utils.prune, and surgery against torch-pruning."""

import copy
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from tools.bench.machine import LARGE, bytes_per_second, peak_extra_bytes, timed
from tools.bench.table import Row, digits
from utils import baselines, masks, measure, surgery
from utils.layers import prunable, prunable_layers
from utils.scores import score
from utils.torchvision_repair import import_torchvision

T = TypeVar("T")

SPARSITY = 0.9
# torch needs about a minute for VGG-16
ROUNDS = {"ResNet-18": 3, "ResNet-50": 3, "VGG-16": 1}
CUT_ROUNDS = {"ResNet-50": 3, "VGG-16": 3, "DenseNet-121": 3}
EXAMPLE = torch.ones(1, 3, 224, 224)  # what the networks of torchvision take
# of a weight pruned: read it, write its mask; read the mask, read and write the weight
PASS_BYTES = 4 + 1 + 1 + 8


def network(name: str) -> nn.Module:
    """A network of torchvision with random weights, the same each time."""
    import_torchvision()
    from torchvision.models import densenet121, resnet18, resnet50, vgg16

    torch.manual_seed(0)
    return {
        "ResNet-18": resnet18,
        "ResNet-50": resnet50,
        "VGG-16": vgg16,
        "DenseNet-121": densenet121,
    }[name]()


def in_turn(
    ways: Mapping[str, Callable[[nn.Module], T]],
    model: nn.Module,
    rounds: int,
    least: Callable[[], float],
) -> tuple[dict[str, list[float]], dict[str, T], list[float]]:
    """Each way on a fresh copy of the model, then `least()`, and again: seconds by way,
    last results by way, bounds."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    found: dict[str, T] = {}
    bound = []

    def run(way: str, own: nn.Module) -> None:
        found[way] = ways[way](own)

    for _ in range(rounds):
        for way in ways:
            found.pop(way, None)  # so that freeing it is not timed
            seconds[way].append(timed(partial(run, way, copy.deepcopy(model))))
        bound.append(least())
    return seconds, found, bound


# ------------------------------------------------------------------------------ pruning


def prune_ours(model: nn.Module) -> dict[str, Tensor]:
    """Prune in place; the masks by parameter name."""
    found = masks.magnitude_masks(model, SPARSITY, allow_empty=True)
    masks.apply_masks(model, found)
    return found


def prune_torch(model: nn.Module) -> dict[str, Tensor]:
    """The same with PyTorch's own tool."""
    layers = prunable_layers(model)
    prune.global_unstructured(
        [(layer, "weight") for layer in layers.values()],
        prune.L1Unstructured,
        amount=SPARSITY,
    )
    return {
        f"{name}.weight": layer.get_buffer("weight_mask")
        for name, layer in layers.items()
    }


WAYS = {"ours": prune_ours, "torch": prune_torch}


def difference(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
) -> tuple[int, bool]:
    """How many mask elements differ, and whether all those weights are equally large:
    ties at the threshold."""
    unequal = [
        weights[name].detach()[ours[name] != theirs[name].bool()].abs() for name in ours
    ]
    magnitudes = torch.cat(unequal)
    return len(magnitudes), len(magnitudes.unique()) <= 1


def peak_copies(name: str, way: str, threads: int) -> float | None:
    """Peak extra memory of pruning a network, in copies of its weights, measured in a
    fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_copies_here, name, way, threads).result()


def _peak_copies_here(name: str, way: str, threads: int) -> float | None:
    torch.set_num_threads(threads)
    # so that neither thread pools nor lazy imports are counted
    WAYS[way](baselines.build("vgg"))
    model = network(name)
    size = sum(weight.nbytes for weight in prunable(model).values())
    extra = peak_extra_bytes(lambda: WAYS[way](model))
    return None if extra is None else extra / size


def pruning(threads: int) -> Iterator[Row]:
    """Global magnitude pruning at 90%, against torch.nn.utils.prune and against memory
    bandwidth."""
    for way in WAYS.values():
        way(baselines.build("vgg"))  # warm-up
    source, target = torch.ones(2, LARGE)
    for name, rounds in ROUNDS.items():
        yield _prune_one(name, rounds, threads, source, target)


def _prune_one(
    name: str, rounds: int, threads: int, source: Tensor, target: Tensor
) -> Row:
    model = network(name)
    weights = prunable(model)
    count = sum(weight.numel() for weight in weights.values())
    seconds, found, bound = in_turn(
        WAYS,
        model,
        rounds,
        lambda: PASS_BYTES * count / bytes_per_second(source, target),
    )
    remarks = [
        f"{count / 1e6:.1f} M weights",
        _sameness(*difference(found["ours"], found["torch"], weights)),
        f"peak extra memory in copies of the weights: {_memory(name, rounds, threads)}",
    ]
    return Row(
        f"prune {name}",
        seconds["ours"],
        "torch.nn.utils.prune",
        seconds["torch"],
        "50x, under 1 copy" if name == "ResNet-50" else "",
        bound,
        "; ".join(remarks),
    )


def _sameness(differing: int, ties: bool) -> str:
    if not differing:
        return "masks identical"
    return f"{differing} mask elements differ, {'all' if ties else 'NOT'} ties"


def _memory(name: str, rounds: int, threads: int) -> str:
    """Of torch only where it does not take a minute."""
    ways = WAYS if rounds > 1 else ("ours",)
    copies = {way: peak_copies(name, way, threads) for way in ways}
    said = [f"{way} {digits(c)}" for way, c in copies.items() if c is not None]
    return ", ".join(said) or "not measurable here"


# ------------------------------------------------------------------------------ surgery


def cut_ours(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy without half of the units of each layer, those of smallest L1 norm."""
    return surgery.shrink(model, example, score("l1", model, units=True), 0.5)


def cut_torch_pruning(model: nn.Module, example: Tensor) -> nn.Module:
    """As many with torch-pruning, in place. Its score counts the weights that read a
    unit too: others may leave."""
    import torch_pruning as tp

    *_, outputs = prunable_layers(model).values()
    tp.pruner.MagnitudePruner(
        model,
        example,
        importance=tp.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.5,
        ignored_layers=[outputs],
    ).step()
    return model


CUTS = {"ours": cut_ours, "torch-pruning": cut_torch_pruning}


def cutting(threads: int) -> Iterator[Row]:
    """Half of the channels removed, against torch-pruning and against memory
    bandwidth."""
    for cut in CUTS.values():
        cut(baselines.build("vgg").eval(), torch.ones(1, 1, 28, 28))  # warm-up
    source, target = torch.ones(2, LARGE)
    for name, rounds in CUT_ROUNDS.items():
        yield _cut_one(name, rounds, threads, source, target)


def _cut_one(
    name: str, rounds: int, threads: int, source: Tensor, target: Tensor
) -> Row:
    model = network(name).eval()
    ways = {way: partial(cut, example=EXAMPLE) for way, cut in CUTS.items()}
    seconds, found, speeds = in_turn(
        ways, model, rounds, lambda: bytes_per_second(source, target)
    )
    before, *after = (
        (measure.parameters(net), measure.macs(net, EXAMPLE))
        for net in (model, *(found[way] for way in CUTS))
    )
    # read all for the score, write what stays
    bound = [4 * (before[0] + after[0][0]) / speed for speed in speeds]
    remarks = f"{change(before, *after)}; {_quicker(found, threads)}"
    return Row(
        f"halve {name}",
        seconds["ours"],
        "torch-pruning",
        seconds["torch-pruning"],
        "3x",
        bound,
        remarks,
    )


def _quicker(found: Mapping[str, nn.Module], threads: int) -> str:
    """How fast our result is, with theirs as 1."""
    nets = {"theirs": found["torch-pruning"], "ours": found["ours"]}
    timing = measure.latency(nets, EXAMPLE, threads=threads)["ours"]
    low, high = map(digits, timing.speedup_quartiles)
    return (
        f"batch of 1: ours {digits(timing.speedup)}x as fast as theirs (quartiles"
        f" {low}-{high})"
    )


def change(
    before: tuple[int, int], ours: tuple[int, int], theirs: tuple[int, int]
) -> str:
    """What became of (parameters, MACs), and whether that is the same in both
    results."""
    old, new, other = (
        f"{digits(p / 1e6)} M parameters, {digits(m / 1e9)} GMACs"
        for p, m in (before, ours, theirs)
    )
    same = "the same in both" if ours == theirs else f"NOT the same: theirs {other}"
    return f"{old} -> {new}, {same}"
