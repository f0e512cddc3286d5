"""Surgery on text networks: heads, neurons, gates, the residual stream, blocks and
their parts; each checked against a computation that knows nothing of surgery."""

import copy
import math
from operator import iadd

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from utils import models, scores, surgery
from utils.channels import Nothing, follow

PIECES = 11


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Weights large enough that each of them matters, and gains that differ; float64
    and eval mode."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator).double()
            gain = parameter.dim() == 1
            parameter.copy_(1 + 0.5 * noise if gain else 0.6 * noise)
    return network


def small_gpt(seed: int = 0, **sizes) -> models.GPT:
    chosen = {
        "pieces": PIECES,
        "width": 6,
        "blocks": 2,
        "heads": 3,
        "head_width": 4,
        "neurons": 5,
    } | sizes
    network = randomise(models.gpt(**chosen), seed)
    assert isinstance(network, models.GPT)
    return network


def windows(count: int = 3, places: int = 7, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, PIECES, (count, places), generator=generator)


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(windows(n, seed=n), windows(n, seed=n + 9)) for n in (3, 2)]


@st.composite
def gpts(draw) -> models.GPT:
    return small_gpt(
        draw(st.integers(0, 999)),
        width=draw(st.integers(2, 9)),
        blocks=draw(st.integers(1, 3)),
        heads=draw(st.integers(1, 4)),
        head_width=draw(st.integers(1, 4)),
        neurons=draw(st.integers(1, 7)),
        gated=draw(st.booleans()),
    )


def kept(draw, count: int) -> Tensor:
    """A mask that keeps one at least."""
    mask = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    mask[draw(st.integers(0, count - 1))] = True
    return torch.tensor(mask)


def drawn_masks(draw, network: models.GPT) -> tuple[dict, dict]:
    """Which heads and which neurons stay, by attention and by the weight of up."""
    heads, neurons = {}, {}
    for number, block in enumerate(network.blocks):
        if draw(st.booleans()):
            heads[f"blocks.{number}.attention"] = kept(draw, block.attention.heads)
        if draw(st.booleans()):
            mask = kept(draw, len(block.mlp.up.weight))
            neurons[f"blocks.{number}.mlp.up.weight"] = mask
    return heads, neurons


def silenced(network: models.GPT, heads: dict, neurons: dict) -> nn.Module:
    """Nobody listens to them: their columns of out and of down are zero."""
    result = copy.deepcopy(network)
    for name, mask in heads.items():
        attention = result.get_submodule(name)
        for head in torch.nonzero(~mask).flatten().tolist():
            first = head * attention.head_width
            attention.out.weight.data[:, first : first + attention.head_width] = 0
    for name, mask in neurons.items():
        mlp = result.get_submodule(name.removesuffix(".up.weight"))
        mlp.down.weight.data[:, ~mask] = 0
    return result


# ------------------------------------------------------------------ heads and neurons


@given(network=gpts(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_without_heads_and_neurons_it_is_as_if_nobody_listened_to_them(network, data):
    heads, neurons = drawn_masks(data.draw, network)
    before = {n: t.clone() for n, t in network.state_dict().items()}
    masks = surgery.head_masks(network, heads) | neurons
    text = windows()
    small = surgery.remove_units(network, text[:1], masks)
    zeroed = surgery.zero_units(network, text[:1], masks)
    with torch.no_grad():
        wanted = silenced(network, heads, neurons)(text)
        torch.testing.assert_close(small(text), wanted, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(zeroed(text), wanted, rtol=1e-9, atol=1e-9)
    for number, block in enumerate(small.blocks):
        old = network.blocks[number]
        attention = heads.get(f"blocks.{number}.attention")
        stays = old.attention.heads if attention is None else int(attention.sum())
        assert block.attention.heads == stays
        rows = stays * old.attention.head_width
        assert (
            block.attention.out.in_features == rows == len(block.attention.key.weight)
        )
        mask = neurons.get(f"blocks.{number}.mlp.up.weight")
        assert block.mlp.down.in_features == (
            old.mlp.up.out_features if mask is None else mask.sum()
        )
    assert small.head.weight is small.embedding.weight
    assert all(torch.equal(network.state_dict()[n], t) for n, t in before.items())


def test_what_leaves_with_a_head_and_with_a_channel_of_the_stream():
    channels = follow(small_gpt(blocks=1, gated=True), windows(1))
    assert channels.takes("blocks.0.attention.key", 5) == {
        f"blocks.0.attention.{side}": [4, 5, 6, 7]
        for side in ("query outputs", "key outputs", "value outputs", "out inputs")
    }
    assert channels.takes("blocks.0.mlp.up", 2) == {
        "blocks.0.mlp.gate outputs": [2],
        "blocks.0.mlp.up outputs": [2],
        "blocks.0.mlp.down inputs": [2],
    }
    stream = channels.takes("embedding", 3)
    assert set(stream) == {
        *("embedding outputs", "position outputs", "head inputs", "norm outputs"),
        *(f"blocks.0.{each} outputs" for each in ("norm1", "norm2")),
        *(f"blocks.0.{each} outputs" for each in ("attention.out", "mlp.down")),
        *(f"blocks.0.attention.{each} inputs" for each in ("query", "key", "value")),
        *(f"blocks.0.mlp.{each} inputs" for each in ("gate", "up")),
    }
    assert set(map(tuple, stream.values())) == {(3,)}
    sizes = {name: len(units) for name, units in channels.sets().items()}
    assert sizes == {
        "embedding": 6,
        "blocks.0.attention.query": 3,
        "blocks.0.mlp.gate": 5,
    }


def test_half_a_head_cannot_leave():
    network, mask = small_gpt(), torch.arange(12) != 5
    with pytest.raises(ValueError, match=r"disagree about unit 4 of .* by a head"):
        surgery.remove_units(
            network, windows(1), {"blocks.1.attention.value.weight": mask}
        )


@pytest.mark.parametrize("part", ["up", "gate"])
def test_neurons_leave_as_torch_pruning_takes_them(part):
    tp = pytest.importorskip("torch_pruning")
    network, text = small_gpt(gated=part == "gate"), windows()
    mask = torch.tensor([True, False, True, False, True])
    small = surgery.remove_units(
        network, text[:1], {f"blocks.1.mlp.{part}.weight": mask}
    )
    theirs = copy.deepcopy(network)
    graph = tp.DependencyGraph().build_dependency(theirs, example_inputs=text[:1])
    layer = theirs.get_submodule(f"blocks.1.mlp.{part}")
    graph.get_pruning_group(layer, tp.prune_linear_out_channels, idxs=[1, 3]).prune()
    shapes = [
        {n: p.shape for n, p in each.named_parameters()} for each in (small, theirs)
    ]
    assert shapes[0] == shapes[1]
    with torch.no_grad():
        torch.testing.assert_close(small(text), theirs(text), rtol=1e-9, atol=1e-9)


def of_blocks(found: dict) -> dict:
    return {name: each for name, each in found.items() if name.startswith("blocks.")}


@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_scores_choose_heads_and_neurons_and_leave_the_stream_alone(scope):
    network, text = small_gpt(heads=4, neurons=8), windows(1)
    found = of_blocks(scores.score("l1", network, units=True))
    small = surgery.shrink(network, text, found, 0.5, scope=scope, least=1)
    assert small.embedding.embedding_dim == 6
    units = [(b.attention.heads, b.mlp.up.out_features) for b in small.blocks]
    assert sum(map(sum, units)) == 12
    if scope == "layerwise":
        assert units == [(2, 4), (2, 4)]
    rows = sum(
        found[f"blocks.0.attention.{part}.weight"].view(4, -1).sum(1)
        for part in ("query", "key", "value")
    )
    best = rows.argsort()[4 - units[0][0] :].sort().values
    wanted = network.blocks[0].attention.query.weight.view(4, 4, -1)[best].flatten(0, 1)
    assert torch.equal(small.blocks[0].attention.query.weight, wanted)


# ------------------------------------------------------------------ the residual stream


def normalised(x: Tensor, gain: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain


def attended(layer: models.Attention, x: Tensor, stays: Tensor) -> Tensor:
    """What attention adds to the channels that stay, head by head."""
    width, added = layer.head_width, torch.zeros_like(x)
    past = torch.ones(x.shape[1], x.shape[1]).tril().bool()
    for first in range(0, len(layer.query.weight), width):
        rows = slice(first, first + width)
        query, key, value = (
            x @ each.weight[rows][:, stays].T
            for each in (layer.query, layer.key, layer.value)
        )
        fits = (query @ key.transpose(1, 2) / math.sqrt(width)).masked_fill(
            ~past, -math.inf
        )
        added = added + fits.softmax(-1) @ value @ layer.out.weight[stays][:, rows].T
    return added


def on_channels(network: models.GPT, text: Tensor, stays: Tensor) -> Tensor:
    """What the network computes with these channels of its stream only."""
    table, places = network.embedding.weight, network.position.weight
    x = table[text][..., stays] + places[: text.shape[1]][:, stays]
    for block in network.blocks:
        x = x + attended(
            block.attention, normalised(x, block.norm1.weight[stays]), stays
        )
        y, mlp = normalised(x, block.norm2.weight[stays]), block.mlp
        neurons = y @ mlp.up.weight[:, stays].T
        if isinstance(mlp, models.GatedMLP):
            gate = y @ mlp.gate.weight[:, stays].T
            neurons = neurons * gate * gate.sigmoid()
        else:
            neurons = neurons.clamp(min=0)
        x = x + neurons @ mlp.down.weight[stays].T
    return normalised(x, network.norm.weight[stays]) @ table[:, stays].T


@given(network=gpts(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_narrower_stream_computes_on_the_channels_that_stay(network, data):
    text = windows()
    stays = kept(data.draw, network.embedding.embedding_dim)
    heads, neurons = drawn_masks(data.draw, network)
    masks = surgery.head_masks(network, heads) | neurons | {"embedding.weight": stays}
    small = surgery.remove_units(network, text[:1], masks)
    with torch.no_grad():
        wanted = on_channels(silenced(network, heads, neurons), text, stays)
        torch.testing.assert_close(small(text), wanted, rtol=1e-8, atol=1e-8)
    width = int(stays.sum())
    assert small.head.weight is small.embedding.weight
    assert small.embedding.embedding_dim == small.position.embedding_dim == width
    assert small.head.in_features == width and small.norm.normalized_shape == (width,)
    assert small.head.out_features == small.embedding.num_embeddings == PIECES


def test_a_narrower_network_trains_with_its_head_still_tied():
    masks = {"embedding.weight": torch.arange(6) != 2}
    small = surgery.remove_units(small_gpt(), windows(1), masks).train()
    F.cross_entropy(small(windows()).flatten(0, 1), windows().flatten()).backward()
    torch.optim.SGD(small.parameters(), 0.1).step()
    assert small.head.weight is small.embedding.weight
    assert [n for n, _ in small.named_parameters()][:2] == [
        "embedding.weight",
        "position.weight",
    ]


def test_a_head_of_its_own_follows_the_stream():
    network = small_gpt()
    network.head = nn.Linear(6, PIECES, bias=False).double()
    stays = torch.arange(6) != 2
    text = windows()
    small = surgery.remove_units(network, text[:1], {"embedding.weight": stays})
    assert torch.equal(small.head.weight, network.head.weight[:, stays])
    assert torch.equal(small.embedding.weight, network.embedding.weight[:, stays])


class NoStream(nn.Module):
    """Only the weight ties what the head reads to the columns of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.a = nn.Embedding(PIECES, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, PIECES, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.a(self.embedding(x)).relu())


def test_what_a_tied_head_reads_leaves_with_the_columns_of_the_embedding():
    network, stays = randomise(NoStream(), 0), torch.arange(6) != 2
    for name in ("embedding.weight", "a.weight"):
        small = surgery.remove_units(network, windows(1), {name: stays})
        assert small.head.weight is small.embedding.weight
        assert torch.equal(small.head.weight, network.head.weight[:, stays])
        table, a = network.embedding.weight[:, stays], network.a
        hidden = table[windows()] @ a.weight[stays][:, stays].T + a.bias[stays]
        wanted = hidden.clamp(min=0) @ table.T
        torch.testing.assert_close(small(windows()), wanted, rtol=1e-9, atol=1e-9)


def test_two_parameters_of_one_memory_are_tied_too():
    network = small_gpt()
    network.head.weight = nn.Parameter(network.embedding.weight.data)
    masks = {"embedding.weight": torch.arange(6) != 2}
    small = surgery.remove_units(network, windows(1), masks)
    assert small.head.weight.data_ptr() == small.embedding.weight.data_ptr()
    with torch.no_grad():
        wanted = on_channels(network, windows(), masks["embedding.weight"])
        torch.testing.assert_close(small(windows()), wanted, rtol=1e-8, atol=1e-8)


def test_the_stream_cannot_be_zeroed():
    masks = {"embedding.weight": torch.arange(6) != 2}
    with pytest.raises(ValueError, match=r"norm1, a LayerNorm, sees.*use remove_units"):
        surgery.zero_units(small_gpt(), windows(1), masks)


def test_the_stream_leaves_where_it_is_named():
    network, text = small_gpt(), windows(1)
    found = of_blocks(scores.score("random", network, units=True))
    columns = torch.tensor([5.0, 1, 4, 3, 2, 6])
    # down and out write to the stream: their scores count there, too
    equal = {name: torch.ones_like(each) for name, each in found.items()}
    named = equal | {"embedding.weight": columns}
    small = surgery.shrink(network, text, named, 0.5)
    assert torch.equal(small.embedding.weight, network.embedding.weight[:, [0, 2, 5]])
    ratio = {"embedding.weight": 0.5}
    small = surgery.shrink(network, text, named, ratio)
    assert small.embedding.embedding_dim == 3 and small.blocks[0].attention.heads == 3
    small = surgery.shrink(network, text, found, {"blocks.0.mlp.down.weight": 1 / 3})
    assert small.embedding.embedding_dim == 4


def test_the_pieces_cannot_leave():
    with pytest.raises(ValueError, match=r"unit of head\.weight that cannot leave"):
        surgery.remove_units(
            small_gpt(), windows(1), {"head.weight": torch.arange(PIECES) > 2}
        )


class Reader(nn.Module):
    """Reads numbers `[n, t, 3]` in place of pieces, and puts out a number for each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(3, 6), nn.LayerNorm(6)
        self.attention, self.last = models.Attention(6, 3, 2), nn.Linear(6, 2)
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.attention(self.norm(x))
        return self.last(x + self.two(F.gelu(self.one(x))).contiguous())


def test_other_networks_with_attention():
    network, x = randomise(Reader(), 0), torch.randn(2, 4, 3).double()
    found = scores.score("l2", network, units=True)
    masks = surgery.unit_masks(network, x[:1], found, 1 / 3)
    small, zeroed = (
        f(network, x[:1], masks) for f in (surgery.remove_units, surgery.zero_units)
    )
    assert small.attention.heads == 2 and len(small.one.weight) == 5
    assert len(small.stem.weight) == 6  # a LayerNorm sees it
    torch.testing.assert_close(small(x), zeroed(x), rtol=1e-9, atol=1e-9)
    named = surgery.shrink(network, x[:1], found, {"stem.weight": 1 / 3})
    assert named.norm.normalized_shape == (4,) and named(x).shape == (2, 4, 2)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        ({"blocks.0": torch.ones(3).bool()}, "'blocks.0', which is no attention"),
        (
            {"blocks.0.attention": torch.ones(2).bool()},
            r"torch\.bool \[2\]; it must be",
        ),
        ({"blocks.0.attention": torch.ones(3)}, r"float32 \[3\]; it must be"),
        ({"blocks.0.attention": [True, True, False]}, "must be a tensor"),
        ({"blocks.0.attention": torch.zeros(3).bool()}, "keeps no head.*remove_blocks"),
        ([torch.ones(3).bool()], "keep is a list"),
    ],
)
def test_masks_of_heads_that_make_no_sense_are_refused(keep, reason):
    with pytest.raises(ValueError, match=reason):
        surgery.head_masks(small_gpt(), keep)


def test_all_rows_of_the_heads_cannot_leave():
    masks = {"blocks.0.attention.query.weight": torch.zeros(12).bool()}
    with pytest.raises(
        ValueError, match=r"every unit of blocks\.0\.attention.*whole block"
    ):
        surgery.remove_units(small_gpt(), windows(1), masks)


class Coded(nn.Module):
    """An embedding, and then what the code does."""

    def __init__(self, code, **parts):
        super().__init__()
        self.embedding, self.code = nn.Embedding(PIECES, 8), code
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 3)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.b(self.code(self, self.a(self.embedding(x))))


REFUSED = {
    "normalises more": (
        lambda s, x: s.part(x),
        nn.LayerNorm([7, 8]),
        r"LayerNorm over \[7, 8\], more than the axis",
    ),
    "pools the width": (
        lambda s, x: s.part(x),
        nn.MaxPool1d(3, 1, 1),
        "mix the channels",
    ),
    "pools by function": (
        lambda s, x: F.avg_pool1d(x, 3, 1, 1),
        None,
        "mix the channels",
    ),
    "BatchNorm on places": (
        lambda s, x: s.part(x),
        nn.BatchNorm1d(7),
        "BatchNorm1d, which takes axis 1 .* they are on axis 2",
    ),
    "convolution of places": (
        lambda s, x: s.part(x),
        nn.Conv1d(7, 7, 3, padding=1),
        "Conv1d, which takes axis 1",
    ),
    "transposes": (lambda s, x: x.transpose(1, 2).transpose(1, 2), None, "transpose"),
    "flattens": (lambda s, x: x.flatten(1).view(-1, 7, 8), None, "not into"),
    "places side by side": (
        lambda s, x: torch.cat([x, x], 1),
        None,
        "along axis 1, and only that of the channels",
    ),
    "mean of the width": (lambda s, x: x * x.mean(2, True), None, "calls mean"),
    "packed attention": (
        lambda s, x: s.part(x, x, x)[0],
        nn.MultiheadAttention(8, 2, batch_first=True),
        "several tensors|MultiheadAttention|splits",
    ),
    "an embedding that scales": (
        lambda s, x: x + s.part(torch.arange(x.shape[1], device=x.device)),
        nn.Embedding(7, 8, max_norm=1.0),
        "max_norm",
    ),
    "places added to the width": (
        lambda s, x: x.transpose(0, 1) + torch.arange(x.shape[1], device=x.device),
        None,
        "transpose",
    ),
}


@pytest.mark.parametrize(
    ("code", "part", "reason"), REFUSED.values(), ids=REFUSED.keys()
)
def test_text_networks_that_cannot_be_followed_are_refused(code, part, reason):
    network = Coded(code, part=part or nn.Identity()).eval()
    with pytest.raises(ValueError, match=f"cannot be followed: .*(?:{reason})"):
        follow(network, windows(1))


def test_side_by_side_in_the_width_is_followed():
    network = Coded(lambda s, x: s.part(torch.cat([x, x.relu()], -1)))
    network.part = nn.Linear(16, 8)
    network, text = randomise(network, 0), windows()
    masks = {"a.weight": torch.arange(8) > 2}
    small, zeroed = (
        f(network, text[:1], masks) for f in (surgery.remove_units, surgery.zero_units)
    )
    assert small.part.in_features == 10
    torch.testing.assert_close(small(text), zeroed(text), rtol=1e-9, atol=1e-9)


def test_a_width_that_the_code_reads_stays_and_a_length_does_not_pin():
    network = Coded(lambda s, x: x / x.shape[-1]).eval()
    with pytest.raises(ValueError, match="cannot leave"):
        surgery.remove_units(network, windows(1), {"a.weight": torch.arange(8) > 2})
    network = Coded(lambda s, x: x / x.shape[1] + x / x.size(0)).eval()
    small = surgery.remove_units(network, windows(1), {"a.weight": torch.arange(8) > 2})
    assert small.b.in_features == 5


def test_an_attention_with_other_layers_is_refused():
    network = small_gpt()
    network.blocks[0].attention.value = nn.Sequential(network.blocks[0].attention.value)
    with pytest.raises(ValueError, match="Linear, Linear, Sequential, Linear"):
        follow(network, windows(1))
    network = small_gpt()
    network.blocks[0].attention.key = nn.Linear(6, 8, bias=False).double()
    with pytest.raises(ValueError, match=r"\[12, 8, 12\] rows"):
        follow(network, windows(1))


def test_an_example_of_pictures_does_not_fit():
    with pytest.raises(ValueError, match=r"embedding takes torch\.int64, and gets"):
        follow(small_gpt(), torch.zeros(1, 7))


# ---------------------------------------------------------------------- scores of heads


def mean_loss(network: nn.Module) -> Tensor:
    rows = [(network(x).flatten(0, 1), y.flatten()) for x, y in batches()]
    return F.cross_entropy(*(torch.cat(part) for part in zip(*rows, strict=True)))


@pytest.mark.parametrize("name", scores.HEAD_SCORES)
def test_a_score_of_heads_leaves_the_network_as_it_was(name, unchanged):
    network = small_gpt().train()
    same = unchanged(network)
    found = scores.head_score(name, network, batches())
    same()
    assert list(found) == ["blocks.0.attention", "blocks.1.attention"]
    assert all(each.shape == (3,) and (each > 0).all() for each in found.values())
    assert all(not m._forward_pre_hooks for m in network.modules())
    assert all(p.grad is None for p in network.parameters())


def test_the_gate_is_the_slope_of_the_loss_and_w_times_g_of_value():
    network = small_gpt()
    one = batches()[:1]
    found = scores.head_score("gate", network, one)
    for parameter in network.parameters():
        parameter.requires_grad_()
    loss = F.cross_entropy(network(one[0][0]).flatten(0, 1), one[0][1].flatten())
    loss.backward()
    for name, each in found.items():
        value = network.get_submodule(name).value.weight
        rows = (value * value.grad).view(3, -1).sum(1).abs()
        torch.testing.assert_close(each, rows, rtol=1e-6, atol=1e-9)
        out = network.get_submodule(name).out.weight.data
        for head in range(3):
            columns, before, sides = slice(4 * head, 4 * head + 4), out.clone(), []
            for gate in (1 + 1e-5, 1 - 1e-5):
                out[:, columns] = before[:, columns] * gate
                logits = network(one[0][0]).flatten(0, 1)
                sides.append(F.cross_entropy(logits, one[0][1].flatten()).item())
            out.copy_(before)
            assert each[head] == pytest.approx(
                abs(sides[0] - sides[1]) / 2e-5, rel=1e-4
            )


def test_the_gate_is_a_mean_over_windows_of_absolute_values():
    network = small_gpt()
    parts = [scores.head_score("gate", network, [batch]) for batch in batches()]
    whole = scores.head_score("gate", network, batches())
    for name, each in whole.items():
        wanted = (3 * parts[0][name] + 2 * parts[1][name]) / 5
        torch.testing.assert_close(each, wanted)


def test_the_output_is_what_a_head_adds_to_the_stream():
    network = small_gpt(blocks=1)
    seen = {}
    attention = network.blocks[0].attention
    attention.register_forward_hook(lambda *each: seen.update(x=each[1][0], y=each[2]))
    found = scores.head_score("output", network, batches())["blocks.0.attention"]
    total = torch.zeros(3)
    for text, _ in batches():
        network(text)
        for head in range(3):
            keep = {"blocks.0.attention": torch.arange(3) == head}
            alone = silenced(network, keep, {}).blocks[0].attention
            alone._forward_hooks.clear()
            total[head] += alone(seen["x"]).norm(dim=-1).sum().item()
    torch.testing.assert_close(found.double(), (total / (5 * 7)).double())


def test_the_magnitude_is_that_of_the_map_from_stream_to_stream():
    network = small_gpt()
    for name, each in scores.head_score("magnitude", network).items():
        layer = network.get_submodule(name)
        for head in range(3):
            places = range(4 * head, 4 * head + 4)
            way = sum(
                torch.outer(layer.out.weight[:, p], layer.value.weight[p])
                for p in places
            )
            assert each[head].item() == pytest.approx(way.square().sum().sqrt().item())


def test_chance_has_a_seed():
    network = small_gpt()
    first, same, other = (scores.head_random(network, seed=s) for s in (1, 1, 2))
    for name, each in first.items():
        assert torch.equal(each, same[name]) and not torch.equal(each, other[name])
    assert not torch.equal(*first.values())


def test_scores_of_heads_that_make_no_sense_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"name='l1'.*gate"):
        scores.head_score("l1", small_gpt())
    with pytest.raises(ValueError, match=r"has no models\.Attention"):
        scores.head_score("magnitude", nn.Linear(2, 2))
    with pytest.raises(ValueError, match="batches is empty"):
        scores.head_score("gate", small_gpt())
    monkeypatch.setitem(
        scores.HEAD_SCORES, "mine", lambda *_: {"blocks.0.attention": torch.ones(2)}
    )
    with pytest.raises(ValueError, match=r"'mine' must give \[3\] numbers"):
        scores.head_score("mine", small_gpt())


def test_the_loss_without_each_head_is_that_of_the_smaller_network(unchanged):
    network = small_gpt()
    same = unchanged(network)
    losses = surgery.head_losses(network, batches())
    same()
    assert all(not m._forward_pre_hooks for m in network.modules())
    with torch.no_grad():
        dense = mean_loss(network)
        for name, rises in losses.items():
            for head, rise in enumerate(rises.tolist()):
                masks = surgery.head_masks(network, {name: torch.arange(3) != head})
                small = surgery.remove_units(network, windows(1), masks)
                wanted = (mean_loss(small) - dense).item()
                assert rise == pytest.approx(wanted, abs=1e-9)


# ------------------------------------------------------------------------------- blocks


def by_hand(network: models.GPT, text: Tensor, without: set[str]) -> Tensor:
    """The stream, with what these add to it left out."""
    x = network.embedding(text) + network.position.weight[: text.shape[1]]
    for number, block in enumerate(network.blocks):
        if f"blocks.{number}" in without:
            continue
        if f"blocks.{number}.attention" not in without:
            x = x + block.attention(block.norm1(x))
        if f"blocks.{number}.mlp" not in without:
            x = x + block.mlp(block.norm2(x))
    return network.head(network.norm(x))


@given(network=gpts(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_block_or_a_part_of_one_that_is_gone_adds_nothing(network, data):
    every = [
        f"blocks.{number}{part}"
        for number in range(len(network.blocks))
        for part in ("", ".attention", ".mlp")
    ]
    names = data.draw(st.lists(st.sampled_from(every), unique=True))
    text = windows()
    small = surgery.remove_blocks(network, text[:1], names)
    with torch.no_grad():
        wanted = by_hand(network, text, set(names))
        torch.testing.assert_close(small(text), wanted, rtol=1e-9, atol=1e-9)


def test_blocks_of_a_text_network_and_what_they_are_worth():
    network = small_gpt(blocks=3)
    names = ["blocks.0", "blocks.1", "blocks.2"]
    assert surgery.removable_blocks(network, windows(1)) == names
    names = [*names[1:], "blocks.0.attention", "blocks.2.mlp"]
    losses = surgery.block_losses(network, names, batches())
    rows = torch.cat([x for x, _ in batches()]), torch.cat([y for _, y in batches()])
    with torch.no_grad():
        for name, rise in losses.items():
            without = by_hand(network, rows[0], {name})
            loss = F.cross_entropy(without.flatten(0, 1), rows[1].flatten())
            wanted = (loss - mean_loss(network)).item()
            assert rise == pytest.approx(wanted, abs=1e-9)


def test_what_is_left_can_be_cut_again():
    network, text = small_gpt(), windows()
    parts = ["blocks.0.attention", "blocks.1.mlp"]
    small = surgery.remove_blocks(network, text[:1], parts)
    assert isinstance(small.blocks[0].attention, Nothing)
    stays = torch.arange(6) != 2
    masks = surgery.head_masks(small, {"blocks.1.attention": torch.arange(3) != 1})
    masks |= {"embedding.weight": stays}
    smaller = surgery.remove_units(small, text[:1], masks)
    silent = silenced(network, {"blocks.1.attention": torch.arange(3) != 1}, {})
    silent.blocks[0].attention.out.weight.data.zero_()
    silent.blocks[1].mlp.down.weight.data.zero_()
    with torch.no_grad():
        wanted = on_channels(silent, text, stays)
        torch.testing.assert_close(smaller(text), wanted, rtol=1e-8, atol=1e-8)


class Stream(nn.Module):
    """A module `f`, a norm, dropout, and what the code does with them."""

    def __init__(self, code):
        super().__init__()
        self.f, self.g = nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm, self.dropout = nn.LayerNorm(4), nn.Dropout()
        self.several, self.code = nn.ModuleList([nn.Linear(4, 4)]), code
        self.inner = nn.ModuleDict({"a": nn.ModuleList([nn.Linear(4, 4)])})

    def forward(self, x):
        return self.code(self, x)


ADDED = {
    "added": ("f", lambda s, x: x + s.f(x)),
    "added to": ("f", lambda s, x: s.f(x) + x),
    "by function": ("f", lambda s, x: torch.add(x, s.f(x))),
    "by method": ("f", lambda s, x: s.f(x).add(x)),
    "in place": ("f", lambda s, x: (lambda y: iadd(y, s.f(s.norm(y))))(s.g(x))),
    "side by side": ("f", lambda s, x: x + s.g(s.norm(x)) + s.f(s.norm(x))),
    "both, then added": ("f", lambda s, x: x + (s.g(s.norm(x)) + s.f(s.norm(x)))),
    "after a norm": ("f", lambda s, x: x + s.f(s.norm(x))),
    "after a norm, with dropout": ("f", lambda s, x: x + s.dropout(s.f(s.norm(x)))),
    "with dropout by function": ("f", lambda s, x: x + F.dropout(s.f(x), 0.1, False)),
    "with a factor": ("f", lambda s, x: x + 0.1 * s.f(x)),
    "after others": ("f", lambda s, x: (lambda y: y + s.f(s.norm(y)))(s.g(x).relu())),
    "twice": ("f", lambda s, x: (lambda y: y + s.f(y))(x + s.f(x))),
    "in a list": ("several.0", lambda s, x: x + s.several[0](s.norm(x))),
    "in a list of a dict": ("inner.a.0", lambda s, x: x + s.inner["a"][0](x)),
}
PASSED = {
    "in a row": ("f", lambda s, x: s.f(x)),
    "before others": ("f", lambda s, x: x + s.g(s.f(x))),
    "after others in its branch": ("f", lambda s, x: x + s.f(s.g(x))),
    "beside": ("f", lambda s, x: s.f(x) + s.g(x)),
    "the shortcut": ("f", lambda s, x: s.f(x) + s.g(s.norm(x))),
    "a curve": ("f", lambda s, x: x + s.f(x).sigmoid()),
    "used elsewhere": ("f", lambda s, x: (lambda y: x + y + s.g(y))(s.f(x))),
    "once added, once not": ("f", lambda s, x: s.f(x + s.f(x))),
}


@pytest.mark.parametrize(("name", "code"), ADDED.values(), ids=ADDED.keys())
def test_what_is_only_added_leaves_zeros(name, code):
    network, x = randomise(Stream(code), 0), torch.randn(3, 4).double()
    small = surgery.remove_blocks(network, x, [name])
    silent = copy.deepcopy(network)
    for parameter in silent.get_submodule(name).parameters():
        parameter.data.zero_()
    assert torch.equal(small(x), silent(x))


@pytest.mark.parametrize(("name", "code"), PASSED.values(), ids=PASSED.keys())
def test_all_else_passes_on_what_it_gets(name, code):
    network, x = randomise(Stream(code), 0), torch.randn(3, 4).double()
    small = surgery.remove_blocks(network, x, [name])
    through = copy.deepcopy(network)
    through.f = nn.Identity()
    assert torch.equal(small(x), through(x))


class Masked(nn.Module):
    """A block that is called with a mask, or with None."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, mask=None):
        y = self.two(self.one(x).relu())
        return x + (y if mask is None else y * mask)


class Caller(nn.Module):
    def __init__(self, code):
        super().__init__()
        self.layers, self.code = nn.ModuleList([Masked(), Masked()]), code
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        for layer in self.layers:
            x = self.code(layer, x)
        return self.last(x)


@pytest.mark.parametrize(
    "code",
    [
        lambda layer, x: layer(x, None),
        lambda layer, x: layer(x, mask=None),
        lambda layer, x: layer(x, x > 0),
        lambda layer, x: layer(x, mask=(x > 0)[:1]),
    ],
)
def test_a_block_with_more_arguments_leaves_and_passes_the_first_on(code):
    network, x = randomise(Caller(code), 0), torch.randn(3, 4).double()
    assert surgery.removable_blocks(network, x) == ["layers.0", "layers.1"]
    small = surgery.remove_blocks(network, x, ["layers.0"])
    assert torch.equal(small(x), network.last(code(network.layers[1], x)))
    labels = torch.tensor([0, 1, 1])
    rise = surgery.block_losses(network, ["layers.0"], [(x, labels)])["layers.0"]
    dense, without = (F.cross_entropy(each(x), labels) for each in (network, small))
    assert rise == pytest.approx((without - dense).item(), abs=1e-9)
