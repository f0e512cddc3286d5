"""Text that a network writes: the noise, the fast writer against the plain one, what
surgery leaves, masks, and what is refused."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from utils import generation, masks, models
from utils.generation import CONTEXT, Writer, noise, write_plainly
from utils.layers import prunable
from utils.models.gpt import GPT, MLP, Attention, GatedMLP

PIECES = 13
# of a block that lost all its heads or neurons
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element")


@st.composite
def networks(draw) -> GPT:
    """GPTs of any shape: in each block other heads and neurons, some without blocks, or
    parts of one. Weights are large, so that what is read decides what is written."""
    sizes = st.integers(1, 3)
    width, head_width = 4 * draw(sizes), draw(st.sampled_from([1, 4, 5]))
    network = models.gpt(
        pieces=PIECES,
        width=width,
        blocks=draw(sizes),
        heads=3,
        head_width=head_width,
        neurons=8,
        gated=draw(st.booleans()),
        deviation=1.0,
    )
    for block in network.blocks:
        keep = draw(st.lists(st.integers(0, 2), unique=True, max_size=3))
        block.attention = without_heads(block.attention, sorted(keep))
        block.mlp = without_neurons(block.mlp, draw(st.integers(0, 8)))
    for norm in network.modules():
        if isinstance(norm, nn.LayerNorm):
            nn.init.uniform_(norm.weight, 0.5, 2.0)
    return drop_parts(draw, network).eval()


def drop_parts(draw, network: GPT) -> GPT:
    number = draw(st.integers(0, len(network.blocks) - 1))
    match draw(st.sampled_from(["nothing", "block", "gone", "attention", "mlp"])):
        case "block":
            network.blocks[number] = nn.Identity()
        case "gone":
            del network.blocks[number]
        case "attention":
            network.blocks[number].attention = Zeros()
        case "mlp":
            network.blocks[number].mlp = Zeros()
    return network


class Zeros(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def without_heads(attention: Attention, keep: list[int]) -> Attention:
    width, size = attention.out.out_features, attention.head_width
    rows = [size * head + i for head in keep for i in range(size)]
    thin = Attention(width, len(keep), size)
    with torch.no_grad():
        for name in ("query", "key", "value"):
            thin.get_submodule(name).weight.copy_(
                attention.get_submodule(name).weight[rows]
            )
        thin.out.weight.copy_(attention.out.weight[:, rows])
    return thin


def without_neurons(mlp: MLP | GatedMLP, keep: int) -> nn.Module:
    thin = type(mlp)(mlp.down.out_features, keep)
    with torch.no_grad():
        for name, layer in thin.named_children():
            if isinstance(layer, nn.Linear):
                weight = mlp.get_submodule(name).weight
                layer.weight.copy_(
                    weight[:, :keep] if name == "down" else weight[:keep]
                )
    return thin


def small(**options) -> GPT:
    torch.manual_seed(0)
    shape = dict(
        pieces=PIECES,
        width=16,
        blocks=2,
        heads=2,
        head_width=8,
        neurons=32,
        deviation=0.5,
    )
    return models.gpt(**(shape | options)).eval()


def prompt_of(length: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, PIECES, (length,), generator=generator)


# ---------------------------------------------------------------------------- the noise


def test_noise_draws_each_piece_with_its_probability():
    logits = torch.tensor([1.0, 0.0, -1.0])
    for temperature in (1.0, 0.5):
        drawn = (logits + noise(20_000, 3, temperature, seed=0)).argmax(1)
        found = torch.bincount(drawn, minlength=3) / len(drawn)
        # four standard errors of a fraction of 20,000
        assert torch.allclose(found, (logits / temperature).softmax(0), atol=0.015)
    assert not noise(4, 3, 0.0, seed=0).any()
    assert noise(4, 3, 1.0, seed=1).equal(noise(4, 3, 1.0, seed=1))
    assert not noise(4, 3, 1.0, seed=1).equal(noise(4, 3, 1.0, seed=2))


@pytest.mark.parametrize("temperature", [-0.1, math.nan, math.inf, True, "1"])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature="):
        noise(1, 2, temperature, seed=0)


# ---------------------------------------------------------------------- the same pieces


@settings(deadline=None, max_examples=60)
@given(networks(), st.sampled_from([0.0, 0.7]), st.integers(1, 20), st.integers(1, 12))
def test_a_writer_writes_what_reading_everything_again_writes(
    network, temperature, length, count
):
    prompt, added = prompt_of(length), noise(count, PIECES, temperature, seed=length)
    writer = Writer(network)
    expected = write_plainly(network, prompt, added)
    assert writer.write(prompt, added).equal(expected)
    # what was written before is not in the cache of what is written next
    assert writer.write(prompt, added).equal(expected)


@settings(deadline=None, max_examples=30)
@given(networks(), st.integers(1, 40))
def test_reading_gives_the_networks_logits(network, length):
    text = prompt_of(length)
    with torch.no_grad():
        expected = network(text[None])[0]
    found = Writer(network).read(text)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max())


@pytest.mark.parametrize("length", [1, 100, CONTEXT - 1, CONTEXT])
def test_up_to_the_last_place_of_the_context(length):
    network, count = small(), min(40, CONTEXT + 1 - length)
    prompt, added = prompt_of(length), noise(count, PIECES, 0.7, seed=0)
    assert (
        Writer(network)
        .write(prompt, added)
        .equal(write_plainly(network, prompt, added))
    )


def test_the_whole_context_is_written_from_one_piece():
    network, prompt = small(), prompt_of(1)
    added = noise(CONTEXT, PIECES, 0.7, seed=0)
    written = Writer(network).write(prompt, added)
    assert written.equal(write_plainly(network, prompt, added))
    assert len(written.unique()) > 3


def test_text_written_is_like_the_longer_one_as_far_as_it_goes():
    writer, added = Writer(small()), noise(30, PIECES, 0.7, seed=0)
    whole = writer.write(prompt_of(5), added)
    assert writer.write(prompt_of(5), added[:7]).equal(whole[:7])


def test_a_gate_that_closes_altogether_is_zero_and_no_warning():
    network = small(gated=True)
    with torch.no_grad():
        network.blocks[0].mlp.gate.weight *= 1e4
    prompt, added = prompt_of(4), noise(5, PIECES, 0.0, seed=0)
    assert (
        Writer(network)
        .write(prompt, added)
        .equal(write_plainly(network, prompt, added))
    )


def test_an_untied_head_is_used():
    network = small()
    network.head.weight = nn.Parameter(torch.randn(PIECES, 16))
    text = prompt_of(9)
    with torch.no_grad():
        assert torch.allclose(
            Writer(network).read(text), network(text[None])[0], atol=1e-3
        )


def test_a_writer_is_a_copy():
    network, prompt = small(), prompt_of(3)
    writer, added = Writer(network), noise(9, PIECES, 0.7, seed=0)
    before = writer.write(prompt, added)
    state = copy.deepcopy(network.state_dict())
    writer.apply_masks({"embedding.weight": np.zeros((PIECES, 16), bool)})
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    writer.apply_masks({})
    with torch.no_grad():
        network.blocks[0].mlp.up.weight.zero_()
    assert writer.write(prompt, added).equal(before)


def test_training_mode_and_random_numbers_are_left_alone():
    network = small(dropout=0.5).train()
    state = torch.get_rng_state()
    prompt, added = prompt_of(3), noise(9, PIECES, 0.7, seed=0)
    written = Writer(network).write(prompt, added)
    assert torch.equal(torch.get_rng_state(), state) and network.training
    assert written.equal(write_plainly(network, prompt, added)) and network.training


# -------------------------------------------------------------------------------- masks


@settings(deadline=None, max_examples=30)
@given(networks(), st.lists(st.floats(0, 0.95), min_size=1, max_size=3))
def test_masks_prune_what_it_writes_and_the_last_ones_count(network, sparsities):
    writer, weights = Writer(network), block_weights(network)
    for number, sparsity in enumerate(sparsities):
        generator = torch.Generator().manual_seed(number)
        chosen = {
            name: torch.rand(weight.shape, generator=generator) >= sparsity
            for place, (name, weight) in enumerate(weights.items())
            if (place + number) % 3  # others each time
        }
        writer.apply_masks(chosen)
        check_same(writer, masks.masked(network, chosen))
    writer.apply_masks({})
    check_same(writer, network)


def block_weights(network: GPT) -> dict[str, nn.Parameter]:
    return {
        name: weight
        for name, weight in network.named_parameters()
        if weight.dim() == 2 and name.startswith("blocks")
    }


def check_same(writer: Writer, network: nn.Module) -> None:
    text = prompt_of(11)
    with torch.no_grad():
        expected = network(text[None])[0]
    tolerance = 1e-4 * expected.abs().max()
    assert torch.allclose(writer.read(text), expected, rtol=1e-4, atol=tolerance)


def test_infinite_weights_that_a_mask_prunes_are_zero():
    network = small()
    with torch.no_grad():
        network.blocks[0].mlp.up.weight[0, 0] = math.inf
    mask = torch.ones(32, 16, dtype=torch.bool)
    mask[0, 0] = False
    writer = Writer(network)
    writer.apply_masks({"blocks.0.mlp.up.weight": mask})
    assert writer.read(prompt_of(3)).isfinite().all()


def test_wrong_masks_are_refused_and_nothing_is_changed():
    network = small()
    writer, good = Writer(network), torch.zeros(32, 16, dtype=torch.bool)
    name = "blocks.0.mlp.up.weight"
    for wrong, message in (
        ({name: good, "blocks.9.mlp.up.weight": good}, "'blocks.9.mlp.up.weight'"),
        ({name: good, "blocks.1.mlp.up.weight": good.T}, r"\[16, 32\]; .* \[32, 16\]"),
        ({name: good, "blocks.1.mlp.up.weight": good.float()}, "float32"),
    ):
        with pytest.raises(ValueError, match=message):
            writer.apply_masks(wrong)
        check_same(writer, network)


def test_every_prunable_weight_goes_by_its_name():
    network = small(gated=True)
    writer = Writer(network)
    writer.apply_masks(
        {n: torch.ones(w.shape, dtype=torch.bool) for n, w in prunable(network).items()}
    )
    check_same(writer, network)


# ---------------------------------------------------------------------- what is refused


def test_more_than_the_context_is_refused_by_the_writer_and_slides_plainly():
    network, added = small(), noise(3, PIECES, 0.7, seed=0)
    writer = Writer(network)
    with pytest.raises(ValueError, match=r"255 pieces, and 3 are .* write at most 2"):
        writer.write(prompt_of(255), added)
    with pytest.raises(ValueError, match="cut it"):
        writer.write(prompt_of(300), added)
    with pytest.raises(ValueError, match="257 pieces"):
        writer.read(prompt_of(257))
    assert len(write_plainly(network, prompt_of(300), added)) == 3


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (torch.zeros(0, dtype=torch.int64), "prompt is empty"),
        (torch.tensor([1, PIECES]), f"piece {PIECES}.* 0 to {PIECES - 1}"),
        (torch.tensor([-1, 1]), "piece -1"),
        (torch.tensor([[1]]), r"\[1, 1\]"),
        (torch.tensor([1.0]), "float32"),
        ([1, 2], "list"),
    ],
)
def test_a_prompt_that_is_none_is_refused_by_both(prompt, message):
    network, added = small(), noise(2, PIECES, 0.0, seed=0)
    for write in (Writer(network).write, lambda *given: write_plainly(network, *given)):
        with pytest.raises(ValueError, match=message):
            write(prompt, added)


@pytest.mark.parametrize(
    "added", [torch.zeros(0, PIECES), torch.zeros(2, PIECES + 1), torch.zeros(2), None]
)
def test_noise_of_another_shape_is_refused(added):
    with pytest.raises(ValueError, match=f"added is .* {PIECES}"):
        Writer(small()).write(prompt_of(2), added)


def test_a_network_that_it_does_not_know_is_refused():
    with pytest.raises(ValueError, match="Linear"):
        Writer(nn.Linear(2, 2))
    network = small()
    network.blocks[1].mlp = nn.Linear(16, 16)
    with pytest.raises(ValueError, match=r"blocks\.1\.mlp is a Linear"):
        Writer(network)
    network.blocks[1] = nn.ReLU()
    with pytest.raises(ValueError, match=r"blocks\.1 is a ReLU"):
        Writer(network)
    biased = small()
    biased.blocks[0].mlp.up = nn.Linear(16, 32)
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.up .*no bias"):
        Writer(biased)


# --------------------------------------------------------------------------- one thread


def test_the_number_of_threads_is_put_back():
    read, write = generation._blas_threads()
    before = read()
    try:
        write(2)
        wanted = read()  # 2, or 1 where the library cannot be told
        with generation.one_blas_thread():
            assert read() == 1
        assert read() == wanted
    finally:
        write(before)
