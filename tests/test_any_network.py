"""Every function that takes a network, on networks as people bring them: the right
value, computed here in another way, or a ValueError of ours with the network as it was.

`NETWORKS=10000 pytest -s tests/test_any_network.py` draws that many in all, and tells
how many of each check were right and how many refused.
"""

import copy
import math
import os
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

import utils
from tests.any_network import CLASSES, Drawn, Residual, any_networks
from utils import compression, layers, masks, measure, quantization, scores, surgery
from utils.baselines import to_bytes
from utils.channels import follow
from utils.data import Data, Split
from utils.deploy import parity, to_onnx
from utils.distillation import Teacher
from utils.explorer import Explorer
from utils.files import DamagedFileError
from utils.schedules import SET, Cubic, Iterative, Movement, OneShot, RigL
from utils.training import (
    Recipe,
    evaluate,
    fit,
    predict_logits,
    reestimate_batchnorm,
)

PACKAGE = Path(utils.__file__).parent
COMPUTED = {"weight_norm", "torch prune"}

# a check, and the oddities that may make what it calls refuse
CHECKS: dict[str, tuple[Callable[[Drawn, st.DataObject], None], set[str], int]] = {}
ANY = {"any"}  # what it cannot do is said by name, whatever the network


def check(refuses: set[str] = COMPUTED, share: float = 1.0) -> Callable:
    """`share`: of the examples that an ordinary check gets, for slow ones."""

    def add(function: Callable) -> Callable:
        CHECKS[function.__name__] = (function, refuses, share)
        return function

    return add


def tolerance(drawn: Drawn) -> dict[str, float]:
    eps = torch.finfo(drawn.images.dtype).eps
    return {"rtol": 300 * eps, "atol": 100 * eps}


def close(drawn: Drawn, got: Tensor, wanted: Tensor) -> None:
    assert got.shape == wanted.shape
    assert torch.allclose(got.double(), wanted.double(), **tolerance(drawn))


def weights_of(drawn: Drawn) -> dict[str, Tensor]:
    return {n: layer.weight.detach() for n, layer in drawn.names().items()}


def outputs(model: nn.Module, images: Tensor) -> Tensor:
    """In eval mode, and each module in its own mode again."""
    modes = [m.training for m in model.modules()]
    model.eval()
    with torch.no_grad():
        result = model(images)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return result


# --------------------------------------------------------------------------- layers


@check()
def prunable(drawn, _):
    found = layers.prunable(drawn.model)
    assert {n: id(w) for n, w in found.items()} == {
        n: id(layer.weight) for n, layer in drawn.names().items()
    }


# -------------------------------------------------------------------------- measure


@check()
def sparsity(drawn, data):
    weights = weights_of(drawn)
    zero = sum(int((w == 0).sum()) for w in weights.values())
    total = sum(w.numel() for w in weights.values())
    assert measure.sparsity(drawn.model) == pytest.approx(zero / total)


@check(refuses=set())
def parameters(drawn, _):
    places = {id(p): p.numel() for p in drawn.model.parameters() if p.requires_grad}
    assert measure.parameters(drawn.model) == sum(places.values())


def macs_by_hand(drawn: Drawn, *, nonzero: bool = False) -> int:
    """Each kind of layer by its formula, each time it runs; of the linear and
    convolutional ones only the weights that are not zero, if asked."""
    total = 0

    def size(weight):
        return int(weight.count_nonzero()) if nonzero else weight.numel()

    def count(module, inputs, keywords, output):
        nonlocal total
        x = next(iter((*inputs, *keywords.values())), None)
        if isinstance(module, nn.Linear):
            total += x.numel() // module.in_features * size(module.weight)
        elif isinstance(module, nn.modules.conv._ConvTransposeNd):
            total += x.numel() * module.weight[0].numel()
        elif isinstance(module, nn.modules.conv._ConvNd):
            total += output.numel() // module.out_channels * size(module.weight)
        elif isinstance(module, nn.MultiheadAttention):
            tokens, width = x.shape[1:]
            total += 4 * tokens * width**2 + 2 * tokens**2 * width
        elif isinstance(module, nn.RNNBase):
            matrices = (p for p in module.parameters() if p.dim() == 2)
            total += x.shape[1] * sum(p.numel() for p in matrices)
        elif type(module).__name__ == "Functional":
            total += x.numel() * len(module.matrix)

    hooks = [
        m.register_forward_hook(count, with_kwargs=True) for m in drawn.model.modules()
    ]
    outputs(drawn.model, drawn.example)
    for hook in hooks:
        hook.remove()
    return total


@check(refuses=set())
def macs(drawn, _):
    assert measure.macs(drawn.model, drawn.example) == macs_by_hand(drawn)


@check(refuses=set())
def layer_macs(drawn, _):
    counts = measure.layer_macs(drawn.model, drawn.example)
    assert sum(counts.values()) == macs_by_hand(drawn)


@check()
def nonzero_macs(drawn, data):
    with torch.no_grad():
        for layer in drawn.names().values():
            layer.weight[torch.rand(layer.weight.shape) < 0.5] = 0
    got = measure.macs(drawn.model, drawn.example, nonzero=True)
    assert got == macs_by_hand(drawn, nonzero=True)


@check(refuses=set())
def energy_estimate(drawn, _):
    found = measure.energy_estimate(drawn.model, drawn.images)
    assert 0 < found.total < 1


@check(refuses=set())
def file_bytes(drawn, _):
    read = safetensors.torch.load(to_bytes(drawn.model))
    state = drawn.model.state_dict()
    places = {(t.data_ptr(), t.shape): t for t in state.values() if t.numel()}
    for name, tensor in read.items():
        assert torch.equal(tensor, state[name])
    held = {(state[name].data_ptr(), state[name].shape) for name in read}
    assert held >= set(places)
    size = measure.file_bytes(drawn.model)
    assert size >= sum(t.nbytes for t in places.values())
    assert measure.zipped_bytes(drawn.model) > 0


@check()
def csr_state(drawn, _):
    state = measure.csr_state(drawn.model)
    for name, weight in weights_of(drawn).items():
        parts = [state[f"{name}.{part}"] for part in ("values", "columns", "rows")]
        dense = torch.zeros_like(weight).flatten(1)
        for unit in range(len(dense)):
            here = slice(int(parts[2][unit]), int(parts[2][unit + 1]))
            dense[unit, parts[1][here].long()] = parts[0][here]
        assert torch.equal(dense.view(weight.shape), weight)


@check()
def with_sparse_layers(drawn, _):
    sparse = measure.with_sparse_layers(drawn.model)
    close(
        drawn,
        outputs(sparse, drawn.images),
        outputs(drawn.model, drawn.images),
    )


@check(refuses=set(), share=0.1)
def latency(drawn, _):
    found = measure.latency({"it": drawn.model}, drawn.example, rounds=5)
    assert found["it"].relative == 1


# --------------------------------------------------------------------------- scores


def gradients(drawn: Drawn) -> list[tuple[float, dict[str, Tensor | None]]]:
    """Of each batch: its share of the pictures, and the gradient of its mean loss."""
    result = []
    for images, labels in drawn.batches:
        drawn.model.eval()
        names = drawn.names()
        loss = F.cross_entropy(drawn.model(images), labels)
        found = torch.autograd.grad(
            loss, [layer.weight for layer in names.values()], allow_unused=True
        )
        share = len(labels) / len(drawn.labels)
        result.append((share, dict(zip(names, found, strict=True))))
    return result


def check_gradient_score(drawn: Drawn, name: str, of: Callable, units: bool) -> None:
    mode = [m.training for m in drawn.model.modules()]
    got = scores.score(name, drawn.model, drawn.batches, units=units)
    assert [m.training for m in drawn.model.modules()] == mode
    reference = gradients(drawn)
    for module, training in zip(drawn.model.modules(), mode, strict=True):
        module.training = training
    assert got.pictures == len(drawn.labels)
    for layer, weight in weights_of(drawn).items():
        found = [(share, each[layer]) for share, each in reference]
        if found[0][1] is None:
            assert layer not in got
            continue
        wanted = sum(share * of(weight, g) for share, g in found)
        if name == "snip":
            wanted = wanted.abs()
        wanted = wanted.double()
        if name != "snip":  # scaled to sum 1
            close(drawn, got[layer], wanted)
        elif wanted.sum() > 0:
            ratio = got[layer].double() / wanted.where(wanted > 0, 1)
            assert got[layer].sum() <= 1.01 and ratio.isfinite().all()


GRADIENT = COMPUTED | {"frozen"}


@check(refuses=GRADIENT)
def gradient(drawn, _):
    check_gradient_score(drawn, "gradient", lambda _, g: g.abs(), units=False)


@check(refuses=GRADIENT)
def taylor(drawn, _):
    check_gradient_score(drawn, "taylor", lambda w, g: (w * g).abs(), units=False)


@check(refuses=GRADIENT)
def snip(drawn, _):
    check_gradient_score(drawn, "snip", lambda w, g: w * g, units=False)


@check(refuses=GRADIENT)
def unit_taylor(drawn, _):
    check_gradient_score(
        drawn, "taylor", lambda w, g: (w * g).flatten(1).sum(1).abs(), units=True
    )


@check()
def unit_l1(drawn, _):
    got = scores.score("l1", drawn.model, units=True)
    for name, weight in weights_of(drawn).items():
        close(drawn, got[name], weight.double().abs().flatten(1).sum(1))


@check(refuses=COMPUTED)
def activation(drawn, _):
    seen: dict[int, list[Tensor]] = {}

    def note(module, inputs, keywords, _):
        x = (*inputs, *keywords.values())[0].double()
        axis = -1 if isinstance(module, nn.Linear) else 1
        rows = x.movedim(axis, -1).reshape(-1, x.shape[axis])
        seen.setdefault(id(module.weight), []).append(rows)

    got = scores.score("activation", drawn.model, drawn.batches)
    called = {id(m): m for m in drawn.layers}.values()
    hooks = [m.register_forward_hook(note, with_kwargs=True) for m in called]
    for images, _ in drawn.batches:
        outputs(drawn.model, images)
    for hook in hooks:
        hook.remove()
    for name, layer in drawn.names().items():
        if id(layer.weight) not in seen:
            assert name not in got
            continue
        rms = torch.cat(seen[id(layer.weight)]).square().mean(0).sqrt()
        weight, groups = layer.weight.detach().double(), getattr(layer, "groups", 1)
        wanted = weight.abs().clone()
        for unit in range(len(weight)):
            first = unit // (len(weight) // groups) * weight.shape[1]
            for i in range(weight.shape[1]):
                wanted[unit, i] *= rms[first + i]
        close(drawn, got[name], wanted)


# ---------------------------------------------------------------------------- masks


@check()
def magnitude_masks(drawn, data):
    share = data.draw(st.sampled_from([0.0, 0.3, 0.5, 0.9]))
    got = masks.magnitude_masks(drawn.model, share, allow_empty=True)
    weights = weights_of(drawn)
    flat = torch.cat([w.double().abs().flatten() for w in weights.values()])
    kept = len(flat) - round(share * len(flat))
    wanted = torch.zeros(len(flat), dtype=torch.bool)
    wanted[torch.argsort(-flat, stable=True)[:kept]] = True
    assert list(got) == list(weights)
    assert torch.equal(torch.cat([m.flatten() for m in got.values()]), wanted)


def random_masks(drawn: Drawn) -> dict[str, Tensor]:
    """By name; of a weight that is not there where none can be pruned."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(layer.weight.shape, generator=generator) < 0.5
        for name, layer in drawn.names().items()
    } or {"head.weight": torch.ones(1, dtype=torch.bool)}


def places(model: nn.Module) -> dict[str, int]:
    """Where each tensor lies, by name."""
    return {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}


def check_pruned(drawn: Drawn, before: dict, after: dict, chosen: dict) -> None:
    """What lies where a mask says so is zero, under whatever name; the rest stays."""
    at = places(drawn.model)
    of_place = {at[name]: mask for name, mask in chosen.items()}
    for name, tensor in before.items():
        mask = of_place.get(at[name])
        wanted = tensor if mask is None else tensor.where(mask, 0)
        assert torch.equal(after[name], wanted), name


@check()
def apply_masks(drawn, _):
    chosen, before = random_masks(drawn), copy.deepcopy(drawn.model.state_dict())
    masks.apply_masks(drawn.model, chosen)
    check_pruned(drawn, before, drawn.model.state_dict(), chosen)


@check()
def masked(drawn, _):
    chosen = random_masks(drawn)
    pruned = masks.masked(drawn.model, chosen).state_dict()
    check_pruned(drawn, drawn.model.state_dict(), pruned, chosen)


@check()
def hold(drawn, _):
    chosen = random_masks(drawn)
    again = masks.hold(drawn.model, chosen)
    with torch.no_grad():
        for parameter in drawn.model.parameters():
            parameter.fill_(1.0)
    again()
    for name, layer in drawn.names().items():
        assert torch.equal(layer.weight != 0, chosen[name])


@check(refuses=ANY)
def nm_masks(drawn, _):
    got = masks.nm_masks(drawn.model, 1, 2)
    for name, weight in weights_of(drawn).items():
        rows = weight.abs().movedim(1, -1).reshape(-1, 2)
        mask = got[name].movedim(1, -1).reshape(-1, 2)
        assert torch.equal(mask[:, 0], rows[:, 0] >= rows[:, 1])
        assert (mask.sum(1) == 1).all()


# --------------------------------------------------------------- training and recovery


def trained_how(drawn: Drawn, **options) -> None:
    split = Split(drawn.images, drawn.labels)
    model = drawn.model
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    recipe = Recipe(epochs=2, batch_size=4, learning_rate=0.01, flip=False)
    history = fit(model, split, recipe, progress=False, **options)
    assert len(history.train_loss) == 2 and all(map(math.isfinite, history.train_loss))
    assert not any(m.training for m in model.modules())
    moved = set()
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all() and not parameter.is_inference()
        if not torch.equal(parameter, before[name]):
            moved.add(name)
            # a schedule may prune what is frozen
            assert parameter.requires_grad or "schedule" in options
    assert moved


@check(refuses={"float16", "frozen"})
def training(drawn, _):
    evaluate(drawn.model, Split(drawn.images, drawn.labels))
    trained_how(drawn)


@check(refuses=COMPUTED | {"frozen", "float16"})
def schedules(drawn, data):
    kind = data.draw(st.sampled_from([OneShot, Iterative, Cubic, Movement, SET, RigL]))
    names = list(drawn.names())
    # with one threshold a small layer may be emptied, which is refused
    trained_how(drawn, schedule=kind(0.5, scope="layerwise"))
    weights = [dict(drawn.model.named_parameters())[n] for n in names]
    wanted = sum(round(0.5 * w.numel()) for w in weights)
    zero = sum(int((w == 0).sum()) for w in weights)
    assert wanted - len(weights) <= zero
    if kind in (OneShot, Iterative, Cubic):
        assert zero <= wanted + 1  # one that training left at zero


@check(refuses=set())
def evaluation(drawn, _):
    wanted = outputs(drawn.model, drawn.images)
    close(drawn, predict_logits(drawn.model, drawn.images, batch_size=3), wanted)
    share = (wanted.argmax(1) == drawn.labels).float().mean().item()
    got = evaluate(drawn.model, Split(drawn.images, drawn.labels))
    assert got == pytest.approx(share) or "half" in drawn.odd


@check(refuses={"half"})
def batchnorm(drawn, _):
    norms = [m for m in drawn.model.modules() if isinstance(m, _BatchNorm)]
    seen: dict[int, list[Tensor]] = {}
    hooks = [
        m.register_forward_pre_hook(
            lambda m, x: seen.setdefault(id(m), []).append(x[0].detach().double())
        )
        for m in norms
    ]
    try:
        reestimate_batchnorm(drawn.model, drawn.batches)
    finally:
        for hook in hooks:
            hook.remove()
    for norm in norms:
        inputs = seen[id(norm)]
        if len(inputs) != len(drawn.batches):
            continue  # used twice
        total = sum(map(len, inputs))
        mean = var = 0
        for x in inputs:
            rows = x.movedim(1, -1).reshape(-1, x.shape[1])
            mean = mean + len(x) / total * rows.mean(0)
            var = var + len(x) / total * rows.var(0)
        close(drawn, norm.running_mean, mean)
        close(drawn, norm.running_var, var)


@check(refuses=COMPUTED)
def teacher(drawn, _):
    loss = Teacher(drawn.model, temperature=2.0, weight=0.5)
    student = torch.randn(len(drawn.labels), CLASSES, dtype=drawn.images.dtype)
    got = loss(student, drawn.labels, drawn.images).double()
    theirs = (outputs(drawn.model, drawn.images).double() / 2).softmax(1)
    ours = (student.double() / 2).log_softmax(1)
    soft = (theirs * (theirs.log() - ours)).sum(1).mean() * 4
    hard = F.cross_entropy(student.double(), drawn.labels)
    assert torch.allclose(got, (soft + hard) / 2, rtol=0.05, atol=0.05)


# ------------------------------------------------------------ quantization and coding


@check()
def quantize_weights(drawn, data):
    bits = data.draw(st.integers(2, 8))
    before, chosen = weights_of(drawn), drawn.names()
    result = quantization.quantize_weights(drawn.model, bits)
    highest = 2 ** (bits - 1) - 1
    after = dict(result.named_parameters())
    for name, weight in before.items():
        rows = weight.flatten(1).double()
        largest = rows.abs().amax(1, keepdim=True)
        scale = largest.where(largest > 0, 1) / highest
        wanted = ((rows / scale).round() * scale).view(weight.shape)
        got = after[name].detach().double()
        step = scale.max() * 0.51 + 1e-2 * largest.max() * ("half" in drawn.odd)
        assert ((got - weight.double()).abs() <= step).all()
        assert all(len(row.unique()) <= 2 * highest + 1 for row in got.flatten(1))
        # a number in the middle of two steps may go either way
        near = torch.isclose(got, wanted, rtol=1e-2, atol=1e-6)
        assert near.float().mean() >= 0.9
    assert len(chosen) == len(before)


@check(refuses=ANY)
def quantized(drawn, _):
    model = quantization.quantized(drawn.model, drawn.batches)
    got, wanted = (outputs(m, drawn.images) for m in (model, drawn.model))
    assert got.shape == wanted.shape and got.isfinite().all()
    assert (got - wanted).abs().max() <= 0.3 * max(1.0, wanted.abs().max().item())
    twin = quantization.plain(model)
    assert outputs(twin, drawn.images).shape == wanted.shape


@check(refuses=COMPUTED)
def fold_batchnorm(drawn, _):
    folded = quantization.fold_batchnorm(drawn.model)
    close(drawn, outputs(folded, drawn.images), outputs(drawn.model, drawn.images))


@check()
def share_weights(drawn, data):
    bits = data.draw(st.integers(1, 3))
    shared = compression.share_weights(drawn.model, bits)
    before = {n: w.clone() for n, w in weights_of(drawn).items()}
    compression.apply_shared(drawn.model, shared)
    for name, weight in weights_of(drawn).items():
        values = weight[before[name] != 0].unique()
        assert len(values) <= 2**bits
        assert not weight[before[name] == 0].any()
        # no weight is further away than the widest gap between two
        spread = (before[name].max() - before[name].min()).double()
        far = (weight.double() - before[name].double()).abs().max()
        assert far <= spread / 2 + 1e-2 * spread


@check()
def compressed(drawn, _):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        size = compression.save_compressed(drawn.model, path, bits=8)
        assert size == path.stat().st_size
        wanted = copy.deepcopy(drawn.model)
        shared = compression.share_weights(drawn.model, 8)
        compression.apply_shared(wanted, shared)
        other = copy.deepcopy(drawn.model)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        compression.load_compressed(path, other)
    first, second = wanted.state_dict(), other.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@check(refuses=ANY, share=0.03)
def onnx(drawn, _):
    with tempfile.TemporaryDirectory() as folder:
        assert to_onnx(drawn.model, drawn.example, Path(folder) / "it.onnx") > 0


@check(refuses={"half"})
def agreement(drawn, _):
    found = parity(drawn.model, drawn.model, drawn.images)
    assert found.agreement == 1 and found.difference <= 1e-5


# -------------------------------------------------------------------------- surgery


@check(refuses=ANY)
def shrink(drawn, data):
    ratio = data.draw(st.sampled_from([0.3, 0.6]))
    found = scores.score("l2", drawn.model, units=True)
    chosen = surgery.unit_masks(drawn.model, drawn.example, found, ratio, least=1)
    small = surgery.remove_units(drawn.model, drawn.example, chosen)
    zeroed = surgery.zero_units(drawn.model, drawn.example, chosen)
    close(drawn, outputs(small, drawn.images), outputs(zeroed, drawn.images))
    fewer = sum(p.numel() for p in small.parameters())
    assert fewer <= sum(p.numel() for p in drawn.model.parameters())


@check(refuses=ANY)
def channels(drawn, _):
    for name, each in follow(drawn.model, drawn.example).layers.items():
        weight = getattr(drawn.model.get_submodule(name), "weight", None)
        if each.inputs is not None and weight is not None:
            assert len(each.outputs) == len(weight)


@check(refuses=COMPUTED)
def blocks(drawn, data):
    names = surgery.removable_blocks(drawn.model, drawn.example)
    if not names:
        return
    gone = drawn.model.get_submodule(data.draw(st.sampled_from(names)))
    name = next(n for n, m in drawn.model.named_modules() if m is gone)
    small = surgery.remove_blocks(drawn.model, drawn.example, [name])
    # what is only added to what it has read leaves by adding nothing
    around = [m for m in drawn.model.modules() if gone in m.children()]
    added = all(isinstance(m, Residual) for m in around)
    hook = gone.register_forward_hook(
        lambda _, inputs, keywords, __: (
            (*inputs, *keywords.values())[0] * (0 if added else 1)
        ),
        with_kwargs=True,
    )
    wanted = outputs(drawn.model, drawn.images)
    hook.remove()
    close(drawn, outputs(small, drawn.images), wanted)
    losses = surgery.block_losses(drawn.model, [name], drawn.batches)
    before = outputs(drawn.model, drawn.images)
    rise = F.cross_entropy(wanted.double(), drawn.labels) - F.cross_entropy(
        before.double(), drawn.labels
    )
    assert losses[name] == pytest.approx(rise.item(), rel=0.05, abs=0.05)


# ------------------------------------------------------------------------- explorer


@check(refuses=ANY, share=0.2)
def explorer(drawn, data):
    split = Split(drawn.images, drawn.labels)
    panel = Explorer(model=drawn.model, data=Data(split, split, split))
    weights = {n: w.clone() for n, w in weights_of(drawn).items()}
    state = panel.state(replace(panel.controls, sparsity=0.5))
    total = sum(w.numel() for w in weights.values())
    assert state.weights == pytest.approx(1 - round(0.5 * total) / total)
    pruned = masks.masked(drawn.model, masks.magnitude_masks(drawn.model, 0.5))
    share = measure.macs(pruned, drawn.example, nonzero=True) / macs_by_hand(drawn)
    assert state.macs == pytest.approx(share)
    got = evaluate(pruned, split)
    assert state.accuracy == pytest.approx(got) or "half" in drawn.odd


# ----------------------------------------------------------------------- how it is done


def everything(model: nn.Module) -> dict:
    """What a refused call must leave alone."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {
        "numbers": {n: t.detach().clone() for n, t in tensors},
        "which": [(n, id(t), t.data_ptr(), t.stride()) for n, t in tensors],
        "trained": [p.requires_grad for p in model.parameters()],
        "gradients": [p.grad is None for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()
        ],
        "process": (torch.is_grad_enabled(), torch.get_default_dtype()),
    }


def assert_same(before: dict, after: dict) -> None:
    for part, old in before.items():
        if part != "numbers":
            assert after[part] == old, f"{part} changed"
    for name, old in before["numbers"].items():
        new = after["numbers"][name]
        assert torch.equal(new.nan_to_num(), old.nan_to_num()), f"{name} changed"


def is_ours(error: Exception) -> bool:
    """Whether a line of the package raised it, in words of its own."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    inside = PACKAGE in Path(last.filename).parents
    return inside and (last.line or "").startswith("raise")


ALL = int(os.environ.get("NETWORKS", "0"))
EACH = math.ceil(ALL / sum(share for *_, share in CHECKS.values())) if ALL else 8


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CHECKS)
def test_the_right_value_or_a_refusal_with_nothing_changed(name):
    function, refuses, share = CHECKS[name]

    @settings(
        max_examples=max(1, round(EACH * share)),
        deadline=None,
        derandomize=not ALL,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(any_networks(), st.data())
    def examine(drawn, data):
        before = everything(drawn.model)
        try:
            function(drawn, data)
        except (ValueError, DamagedFileError) as error:
            assert is_ours(error), f"raw: {error}"
            assert_same(before, everything(drawn.model))
            allowed = refuses is ANY or drawn.odd & refuses
            assert allowed, f"refused: {error}"
            ends["refused"] += 1
        else:
            ends["right"] += 1

    ends = Counter[str]()
    examine()
    if ALL:  # what the long run is for: nothing is always refused
        print(f"{name}: {ends['right']} right, {ends['refused']} refused")
        assert ends["right"]
