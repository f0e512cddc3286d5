"""Rounding and coding a text network: the embedding, which is the head too, is rounded
and stored once; windows calibrate as pictures do."""

import copy

import pytest
import torch
from compressed import entries_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from utils import models
from utils.compression import (
    apply_shared,
    load_compressed,
    save_compressed,
    share_weights,
)
from utils.data import Split
from utils.files import DamagedFileError
from utils.masks import apply_masks, magnitude_masks
from utils.models.gpt import GPT
from utils.quantization import (
    GROUPS,
    QuantizedEmbedding,
    fold_batchnorm,
    group_size,
    grouped,
    plain,
    quantizable,
    quantize_weights,
    quantized,
    weight_grid,
)
from utils.training import losses


def network(seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    shape = {"width": 24, "blocks": 2, "heads": 2, "head_width": 6, "neurons": 40}
    return models.gpt(pieces=30, deviation=0.3, **shape).eval()


def windows(count: int = 4, places: int = 12) -> Split:
    text = torch.randint(30, (count, places + 1))
    return Split(text[:, :-1].contiguous(), text[:, 1:].contiguous())


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    each = windows()
    return [(each.images, each.labels)]


def tied(model: nn.Module) -> bool:
    return model.head.weight.data_ptr() == model.embedding.weight.data_ptr()


# ------------------------------------------------------------------------------- groups


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 5),
    st.integers(1, 300),
    st.integers(2, 8),
    st.sampled_from(GROUPS),
    st.integers(0, 99),
)
def test_a_group_is_rounded_as_a_row_of_its_own(units, inputs, bits, most, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(units, inputs, generator=generator)
    size = group_size(inputs, bits, most)
    assert size in GROUPS and size <= most
    layer = nn.Linear(inputs, units)
    layer.weight.data = weight
    found = quantize_weights(layer, bits, group=most).weight
    highest = 2 ** (bits - 1) - 1
    for start in range(0, inputs, size):
        part = weight[:, start : start + size]
        scale = (part.abs().amax(1, keepdim=True) / highest).half().float()
        steps = (part / scale).round().clamp(-highest, highest)
        torch.testing.assert_close(found[:, start : start + size], scale * steps)


def test_fewer_inputs_share_a_scale_where_that_takes_fewer_bytes():
    for inputs in range(1, 400):
        sizes = {
            size: -(-inputs // size) * (size * 4 + 16) for size in GROUPS if size <= 128
        }
        assert sizes[group_size(inputs, 4, 128)] == min(sizes.values())


def test_zeros_stay_zero_in_groups():
    model = network()
    apply_masks(model, magnitude_masks(model, 0.6))
    rounded = dict(quantize_weights(model, 4, group=32).named_parameters())
    for name, weight in model.named_parameters():
        assert not rounded[name][weight == 0].any()


def test_weights_that_float16_cannot_scale():
    values, grid = grouped(torch.full((1, 16), 1e-9), 4, 16)
    assert not grid.snap(values).any()
    with pytest.raises(ValueError, match=r"0\.weight is too large"):
        layer = nn.Sequential(nn.Linear(16, 1))
        layer[0].weight.data.fill_(1e6)
        quantize_weights(layer, 4, group=16)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"group": 24}, r"group=24 must be one of 16, 32, 64, 128, 256"),
        ({"group": 32, "per_channel": False}, r"group=32.*leave per_channel=True"),
    ],
)
def test_groups_that_there_are_not(how, message):
    with pytest.raises(ValueError, match=message):
        quantize_weights(network(), 4, **how)


# --------------------------------------------------------------------------- the tables


def test_the_embedding_is_rounded_once_by_rows_and_stays_tied():
    model = network()
    rounded = quantize_weights(model, 4)
    assert tied(rounded)
    assert len(list(quantizable(model))) == 2 + 2 * 6  # two tables, six layers a block
    for name in ("embedding", "position"):
        weight = getattr(model, name).weight
        expected = weight_grid(weight, 4).snap(weight)
        assert torch.equal(getattr(rounded, name).weight, expected)
        assert not torch.equal(expected, weight)


def test_a_quantized_text_network_computes_with_rounded_numbers():
    model, calibration = network(), batches()
    simulated = quantized(model, calibration, bits=4, activation_bits=8)
    assert simulated.embedding.weight is simulated.head.weight
    seen, rounded = {}, quantize_weights(model, 4)

    def note(name):
        def hook(layer, inputs, output):
            grid = layer.input_grid()
            weight = rounded.get_parameter(f"{name}.weight")
            seen[name] = F.linear(grid.snap(inputs[0]), weight)
            assert torch.equal(output, seen[name])

        return hook

    for name, module in simulated.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(note(name))
        if isinstance(module, QuantizedEmbedding):
            table = rounded.get_parameter(f"{name}.weight")
            module.register_forward_hook(
                lambda _, inputs, output, table=table: torch.testing.assert_close(
                    output, table[inputs[0]], atol=0, rtol=0
                )
            )
    simulated(windows().images)
    assert len(seen) == 2 * 6 + 1


def test_eight_bits_lose_little_of_a_text():
    model, given = network(), windows()
    simulated = quantized(model, [(given.images, given.labels)])
    rise = (losses(simulated, given) - losses(model, given)).abs().mean()
    assert 0 < rise < 0.05


def test_plain_brings_the_rounded_weights_back_tied():
    model = network()
    brought = plain(quantized(model, batches(), bits=3))
    assert type(brought.embedding) is nn.Embedding
    assert tied(brought)
    expected = dict(quantize_weights(model, 3).named_parameters())
    for name, weight in brought.named_parameters():
        torch.testing.assert_close(weight, expected[name], atol=0, rtol=0)


def test_the_rounded_table_is_trained_through():
    simulated = quantized(network(), batches(), bits=4)
    given = windows()
    outputs = simulated(given.images)
    F.cross_entropy(outputs.flatten(0, 1), given.labels.flatten()).backward()
    for name, weight in simulated.named_parameters():
        assert weight.grad is not None and weight.grad.any(), name


def test_nothing_is_traced_where_there_is_no_batchnorm():
    model = network()
    folded = fold_batchnorm(model)
    assert folded is not model and tied(folded)
    given = windows().images
    assert torch.equal(folded(given), model(given))


@pytest.mark.parametrize("kind", ["max_norm", "hook", "computed"])
def test_tables_that_cannot_be_rounded(kind):
    model = network()
    if kind == "max_norm":
        model.position.max_norm = 1.0
    elif kind == "hook":
        model.position.register_forward_hook(lambda *_: None)
    else:
        nn.utils.parametrize.register_parametrization(
            model.position, "weight", nn.Identity()
        )
    with pytest.raises(ValueError, match=r"position"):
        quantized(model, batches())


# ------------------------------------------------------------------- a compressed file


@pytest.fixture
def pruned():
    model = network()
    apply_masks(model, magnitude_masks(model, 0.7))
    return model


def test_a_text_network_comes_back_as_shared_and_tied(pruned, tmp_path):
    path, loaded = tmp_path / "net", network(seed=1)
    shared = share_weights(pruned, 4)
    size = save_compressed(pruned, path, shared=shared)
    assert size == path.stat().st_size
    load_compressed(path, loaded)
    expected = copy.deepcopy(pruned)
    apply_shared(expected, shared)
    assert tied(loaded)
    for (name, found), other in zip(
        loaded.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        assert torch.equal(found, other), name


def test_the_tied_tensor_is_stored_once_in_few_bits(pruned, tmp_path):
    save_compressed(pruned, tmp_path / "net", bits=4)
    entries = entries_of(tmp_path / "net")
    assert "embedding.weight" in entries and "head.weight" not in entries
    table = pruned.embedding.weight.numel()
    assert sum(entries["embedding.weight"].sizes.values()) < table


def test_damage_of_a_text_network_is_refused_and_nothing_changes(pruned, tmp_path):
    path, loaded = tmp_path / "net", network(seed=1)
    save_compressed(pruned, path, bits=4)
    content = bytearray(path.read_bytes())
    before = copy.deepcopy(loaded.state_dict())
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        changed = content.copy()
        place = int(torch.randint(len(content), (1,), generator=generator))
        changed[place] ^= 1 << int(torch.randint(8, (1,), generator=generator))
        path.write_bytes(changed)
        with pytest.raises(DamagedFileError, match=r"Repair"):
            load_compressed(path, loaded)
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"another network"):
        load_compressed(path, models.gpt(pieces=30, width=24, blocks=2))
    assert all(torch.equal(before[k], v) for k, v in loaded.state_dict().items())
