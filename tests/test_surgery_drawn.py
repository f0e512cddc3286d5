"""Surgery on networks as people write them: removed equals silenced by hooks, or a
refusal that names the reason; the network stays as it was."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.fx import wrap
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune

from tests.strategies import randomise
from utils import surgery
from utils.channels import follow
from utils.scores import score

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
# with these zero stays zero, so that hooks can silence a unit
ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Hardswish, nn.PReLU]


class Unit(nn.Module):
    """A layer, BatchNorm and activation, called by position or by name."""

    def __init__(self, layer, norm, activation, by_name):
        super().__init__()
        self.layer, self.norm, self.activation = layer, norm, activation
        self.by_name = by_name

    def forward(self, x):
        if self.by_name:
            return self.activation(input=self.norm(input=self.layer(input=x)))
        return self.activation(self.norm(self.layer(x)))


HEADS = {
    "flatten": lambda x: x.flatten(1),
    "flatten by name": lambda x: torch.flatten(start_dim=1, input=x),
    "view": lambda x: x.view(x.size(0), -1),
    "view to sizes": lambda x: x.flatten(2).view(
        x.size(0), x.size(1) * x.flatten(2).size(2)
    ),
    "view by name": lambda x: x.view(size=(x.size(0), -1)),
    "reshape by name": lambda x: torch.reshape(shape=(x.shape[0], -1), input=x),
    "divided by the width": lambda x: (x / x.shape[1]).flatten(1),
}


class Drawn(nn.Module):
    def __init__(self, draw, dims):
        super().__init__()
        self.by_name, self.dims, width = draw(st.booleans()), dims, 8
        stages = st.sampled_from(
            ["plain", "residual", "dense", "depthwise", "grouped", "twice", "pool"]
        )
        self.kinds = ["plain", *draw(st.lists(stages, max_size=3))]
        self.head = draw(st.sampled_from(sorted(HEADS)))
        self.two = draw(st.booleans())
        self.units = nn.ModuleList()
        before = 2
        for kind in self.kinds:
            after, groups = width, 1
            if kind == "depthwise":
                after = groups = before
            elif kind == "grouped":
                groups = 2
            elif kind in ("residual", "twice"):
                after = before
            layer = CONV[dims](
                before,
                after,
                3,
                padding=1,
                groups=groups,
                bias=draw(st.booleans()),
                padding_mode=draw(st.sampled_from(["zeros", "circular"])),
            )
            norm = NORM[dims](after) if draw(st.booleans()) else nn.Identity()
            act = draw(st.sampled_from(ACTIVATIONS))()
            self.units.append(Unit(layer, norm, act, self.by_name))
            before = before + after if kind == "dense" else after
        self.pool = POOL[dims](2)
        size = 1 if self.head == "mean" else 2**dims
        self.hidden = Unit(
            nn.Linear(before * size, 6), nn.Identity(), nn.ReLU(), self.by_name
        )
        self.last, self.other = nn.Linear(6, 3), nn.Linear(before * size, 2)

    def joined(self, kind, unit, x):
        y = unit(x=x) if self.by_name else unit(x)
        if kind == "residual":
            return torch.add(input=x, other=y, alpha=0.5) if self.by_name else x + y
        if kind == "dense":
            if self.by_name:
                return torch.cat(dim=1, tensors=[x, y])
            return torch.cat([x, y], -1 - self.dims)
        return x + unit(y) if kind == "twice" else y

    def forward(self, x):
        for kind, unit in zip(self.kinds, self.units, strict=True):
            x = self.joined(kind, unit, x)
        if self.head == "mean":
            x = x.mean(dim=tuple(range(2, 2 + self.dims)))
        else:
            x = HEADS[self.head](self.pool(x))
        out = self.last(self.hidden(x))
        return (out, self.other(x)) if self.two else out


@st.composite
def drawn(draw):
    """A network and three inputs for it, of one dtype."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    dims = draw(st.sampled_from([1, 2, 3]))
    network = randomise(Drawn(draw, dims)).eval().double()
    return network, torch.randn(3, 2, *[5] * dims, dtype=torch.double)


def silenced(network: nn.Module, masks: dict) -> nn.Module:
    """A copy whose hooks set those units to zero where they come out."""
    twin = copy.deepcopy(network)
    for name, unit in twin.named_modules():
        if isinstance(unit, Unit):
            mask = masks[f"{name}.layer.weight"].double()

            def hook(_, __, output, mask=mask):
                return output * mask.view(-1, *[1] * (output.dim() - 2))

            unit.register_forward_hook(hook)
    return twin


@given(
    case=drawn(),
    ratio=st.floats(0.1, 0.8),
    scope=st.sampled_from(["layerwise", "global"]),
)
@settings(max_examples=150, deadline=None)
def test_removed_equals_silenced(case, ratio, scope):
    network, inputs = case
    same = copy.deepcopy(network.state_dict())
    scores = score("random", network, units=True)
    masks = surgery.unit_masks(network, inputs[:1], scores, ratio, scope=scope, least=1)
    small = surgery.remove_units(network, inputs[:1], masks)
    with torch.no_grad():
        wanted, got = silenced(network, masks)(inputs), small(inputs)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)
    for name, mask in masks.items():
        assert len(small.get_parameter(name)) == mask.sum()
    assert network.state_dict().keys() == same.keys()
    assert all(torch.equal(network.state_dict()[n], t) for n, t in same.items())


# ------------------------------------------------------------------ written in the code


class Written(nn.Module):
    """Two layers and what the code does with them."""

    def __init__(self, code, **parts):
        super().__init__()
        self.a, self.b = (nn.Conv2d(i, 8, 3, padding=1) for i in (2, 8))
        self.h = nn.Linear(8, 3)
        for name, part in parts.items():
            setattr(self, name, part)
        self.code = code

    def forward(self, x):
        return self.code(self, x)


IMAGES = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def relu(x):
    """Of the name of a known operation, and something else."""
    return x.flip(1)


wrap("relu")


def pooled(x):
    return F.adaptive_avg_pool2d(x, 1)


PINNED = {  # what depends on how many there are
    "a reshape by name": lambda s, x: s.h(
        torch.reshape(shape=(-1, 8), input=pooled(s.b(s.a(x))))
    ),
    "a view by name": lambda s, x: s.h(pooled(s.b(s.a(x))).view(size=(-1, 8))),
    "a division by the width": lambda s, x: (
        lambda y: s.h((y / y.size(1)).mean((2, 3)))
    )(s.b(s.a(x))),
    "a division by the size": lambda s, x: (
        lambda y: s.h((y / y.numel()).mean((2, 3)))
    )(s.b(s.a(x))),
    "a softmax": lambda s, x: s.h(F.softmax(s.b(s.a(x)), dim=1).mean((2, 3))),
}


@pytest.mark.parametrize("code", PINNED.values(), ids=PINNED.keys())
def test_a_width_that_the_code_uses_stays(code):
    network = Written(code).eval()
    small = surgery.shrink(network, IMAGES[:1], score("l1", network, units=True), 0.5)
    assert (len(small.a.weight), len(small.b.weight)) == (4, 8)
    assert small(IMAGES).shape == (2, 3)


REFUSED = [
    (lambda s, x: s.h(torch.cat([s.a(x), s.a(x)], 0).mean((2, 3))), "along axis 0"),
    (lambda s, x: s.a(x).mean(1).flatten(1), "calls mean"),
    (lambda s, x: s.h(s.a(x).permute(0, 2, 3, 1).mean((1, 2))), "calls permute"),
    (lambda s, x: s.h(s.a(x).mean((2, 3)).T.T), "calls T,"),
    (lambda s, x: s.h(s.a(x)[:, :8].mean((2, 3))), "calls getitem"),
    (lambda s, x: s.h(s.a(x).cumsum(1).mean((2, 3))), "calls cumsum"),
    (lambda s, x: s.h(s.a(x).roll(1, 1).mean((2, 3))), "calls roll"),
    (lambda s, x: s.h(F.pad(s.a(x), (0, 0, 0, 0, 1, -1)).mean((2, 3))), "calls pad"),
    (lambda s, x: s.h(F.normalize(s.a(x)).mean((2, 3))), "calls normalize"),
    (lambda s, x: s.h(F.layer_norm(s.a(x).mean((2, 3)), (8,))), "calls layer_norm"),
    (lambda s, x: s.h(torch.cat(s.a(x).chunk(2, 1), 1).mean((2, 3))), "splits"),
    (lambda s, x: s.h(F.max_pool2d(s.a(x), 2, return_indices=True)[0]), "splits"),
    (
        lambda s, x: s.h(torch.clamp(s.a(x), s.b(s.a(x))).mean((2, 3))),
        "calls clamp with several tensors",
    ),
    (lambda s, x: s.h(torch.abs(s.a(x), out=s.a(x)).mean((2, 3))), "with out="),
    (lambda s, x: s.h((s.a(x) * torch.ones(1)).mean((2, 3))), "buffer or constant"),
    (lambda s, x: s.h(relu(s.a(x)).mean((2, 3))), "drawn.relu, and what that does"),
    (
        lambda s, x: s.h(
            s.a(x).view(-1, 2, 4, 6, 6).transpose(1, 2).reshape(-1, 8, 6, 6)
        ),
        "not into",
    ),
    (
        lambda s, x: s.h((s.b(s.a(x)) / s.a.out_channels).mean((2, 3))),
        "computes with the size of a layer",
    ),
    (
        lambda s, x: s.h(pooled(s.b(s.a(x))).view(x.size(0), -1, 1).view(-1, 1, 8)),
        "not into",
    ),
]


@pytest.mark.parametrize(("code", "reason"), REFUSED)
def test_code_that_cannot_be_followed_is_refused(code, reason):
    network = Written(code).eval()
    before = dict(vars(network))
    with pytest.raises(ValueError, match=reason):
        surgery.shrink(network, IMAGES[:1], score("l1", network, units=True), 0.5)
    assert vars(network) == before  # no constants, no notes of the tracing


def test_what_would_not_run_is_refused_before_it_is_built(monkeypatch):
    """The width at axis 2 is 4 by chance as wide as high: with fewer channels the view
    gives something else."""
    network = Written(
        lambda s, x: (lambda y: s.h(y.view(y.size(0), -1, y.size(1)).mean(2)))(s.b(x)),
        b=nn.Conv2d(2, 8, (1, 3), padding=(0, 1)),
    ).eval()
    inputs, mask = torch.randn(1, 2, 4, 2), torch.arange(8) > 3
    assert network(inputs).shape == (1, 3)
    monkeypatch.setattr(copy, "deepcopy", lambda *_: pytest.fail("something was built"))
    with pytest.raises(ValueError, match=r"cannot lose these units: .* view gives"):
        surgery.remove_units(network, inputs, {"b.weight": mask})


def test_what_the_code_notes_while_it_is_traced_is_put_back():
    def code(s, x):
        s.seen.append(x)
        s.last, s.calls = x, s.calls + 1
        s.count += 1
        return s.h(s.b(s.a(x)).mean((2, 3)))

    network = Written(code, seen=[], last=None, calls=0).eval()
    network.register_buffer("count", torch.zeros(1))
    small = surgery.shrink(network, IMAGES[:1], score("l1", network, units=True), 0.5)
    assert (network.seen, network.last, network.calls) == ([], None, 0)
    assert network.count == 0
    assert len(small.b.weight) == 4


# ---------------------------------------------------------------------- odd layers


def three() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)
    ).eval()


class Doubled(nn.Module):
    def forward(self, values):
        return 2 * values


def hooked(network):
    network[1].register_forward_hook(lambda *_: None)


def replaced(network):
    network[1].forward = lambda x: x.flip(1)


def compiled(network):
    network[0] = torch.compile(network[0])


def held(shape):
    return lambda network: network[0].register_buffer("table", torch.ones(shape))


def one_bias(network):
    network[2].bias = network[0].bias


def one_memory(network):
    network[2].bias = nn.Parameter(network[0].weight.data.view(-1)[5:11])


ODD = [
    (hooked, "1 cannot be followed: it has a hook on its forward pass"),
    (replaced, "1 cannot be changed: its forward was replaced"),
    (compiled, "0 is compiled"),
    (held(16), r"0 cannot be followed: it holds table \[16\]"),
    (held(6), r"0 cannot be followed: it holds table \[6\]"),
    (one_bias, r"2\.bias shares its memory with 0\.bias"),
    (one_memory, r"2\.bias shares its memory with 0\.weight"),
    (
        lambda n: prune.l1_unstructured(n[0], "bias", amount=2),
        "0 cannot be followed: it has a hook",
    ),
    (
        lambda n: parametrize.register_parametrization(n[0], "bias", Doubled()),
        "0 cannot be followed: ParametrizedLinear",
    ),
    (
        lambda n: parametrize.register_parametrization(n[0], "weight", Doubled()),
        r"0\.weight is computed from other tensors",
    ),
    (
        lambda n: setattr(n[0], "bias", nn.Parameter(torch.ones(1))),
        r"0 cannot be followed: its bias is \[1\], which does not fit its 6 units",
    ),
    (lambda n: n.to("meta"), r"0\.weight has no values"),
    (lambda n: n.double(), r"example \[1, 4\] does not fit .* takes torch\.float64"),
    (lambda n: setattr(n, "last", n(torch.ones(1, 4))), "last is computed"),
]


# torch.compile imports what is deprecated
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("change", "reason"), ODD)
def test_a_layer_with_more_than_its_own_weights_is_refused(change, reason):
    network = three()
    change(network)
    with pytest.raises(ValueError, match=reason):
        surgery.remove_units(
            network, torch.ones(1, 4), {"0.weight": torch.arange(6) > 1}
        )


@pytest.mark.parametrize(
    "example", [None, [torch.ones(1, 4)], torch.ones(1, 4).to_sparse()]
)
def test_an_example_that_is_not_one_tensor_is_refused(example):
    with pytest.raises(ValueError, match="give one tensor"):
        follow(three(), example)


def test_one_number_for_the_whole_layer_stays():
    network = three()
    held(1)(network)
    small = surgery.remove_units(
        network, torch.ones(1, 4), {"0.weight": torch.arange(6) > 1}
    )
    assert torch.equal(small[0].table, torch.ones(1)) and len(small[0].bias) == 4


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.double])
def test_numbers_of_other_types(dtype):
    network = three().to(dtype)
    small = surgery.remove_units(
        network, torch.ones(1, 4, dtype=dtype), {"0.weight": torch.arange(6) > 1}
    )
    assert torch.equal(small[0].weight, network[0].weight[2:])
    assert torch.equal(small[2].weight, network[2].weight[:, 2:])


# ------------------------------------------------------------------------------- scores

INF = float("inf")


@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_an_infinite_score_is_first_or_last_and_judges_no_other(scope):
    scores = {
        "0.weight": torch.tensor([INF, 4.0, 3.0, 5.0, -INF, 6.0]),
        "2.weight": torch.tensor([1.0, 0.01, 1.0, 1.0, 0.02, 1.0]),
        "4.weight": torch.ones(2),
    }
    masks = surgery.unit_masks(three(), torch.ones(1, 4), scores, 1 / 3, scope=scope)
    gone = {n: torch.nonzero(~m).flatten().tolist() for n, m in masks.items()}
    assert gone == {"0.weight": [2, 4], "2.weight": [1, 4], "4.weight": []}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (torch.ones(6) + 1j, "are complex"),
        (None, "must be a tensor of 6 values"),
        (torch.ones(6, device="meta"), "must be a tensor of 6 values"),
        (torch.arange(6) + 2**60, r"must lie within 9e\+15"),
        (torch.full((6,), 1e306, dtype=torch.double), r"must lie within 1e\+300"),
    ],
)
def test_scores_without_an_order_are_refused(values, reason):
    scores = {**score("l1", three(), units=True), "0.weight": values}
    with pytest.raises(ValueError, match=reason):
        surgery.unit_masks(three(), torch.ones(1, 4), scores, 0.5)


@pytest.mark.parametrize("dtype", [torch.long, torch.half, torch.bfloat16, torch.int8])
def test_scores_of_any_type_rank(dtype):
    scores = {n: torch.arange(6).to(dtype) for n in ("0.weight", "2.weight")}
    scores["4.weight"] = torch.ones(2)
    masks = surgery.unit_masks(three(), torch.ones(1, 4), scores, 0.5)
    assert masks["0.weight"].tolist() == [False] * 3 + [True] * 3


def test_tied_units_cannot_be_first_and_last():
    network = Written(lambda s, x: s.h((lambda y: y + s.b(y))(s.a(x)).mean((2, 3))))
    scores = {"a.weight": torch.full((8,), INF), "b.weight": torch.full((8,), -INF)}
    scores["h.weight"] = torch.ones(3)
    with pytest.raises(ValueError, match="both inf and -inf"):
        surgery.unit_masks(network, IMAGES[:1], scores, 0.5)


# ------------------------------------------------------------------------------- blocks


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, given, more=None):
        return given + self.two(self.one(given).relu())


class Around(nn.Module):
    def __init__(self, code):
        super().__init__()
        self.block, self.last, self.code = Block(), nn.Linear(4, 2), code

    def forward(self, x):
        return self.last(self.code(self.block, x))


BLOCKS = {
    "one tensor": (lambda block, x: block(x), True),
    "twice": (lambda block, x: block(block(x)), True),
    "by name": (lambda block, x: block(given=x), False),
    "two tensors": (lambda block, x: block(x, 2 * x), True),
    "more by name": (lambda block, x: block(x, more=None), True),
    "its parts are used": (lambda block, x: block(x) * block.one.in_features, False),
}


@pytest.mark.parametrize(("code", "leaves"), BLOCKS.values(), ids=BLOCKS.keys())
def test_the_blocks_that_are_listed_are_those_that_can_leave(code, leaves):
    network, x = Around(code), torch.randn(3, 4)
    assert ("block" in surgery.removable_blocks(network, x)) == leaves
    if not leaves:
        with pytest.raises(ValueError, match=r"block"):
            surgery.remove_blocks(network, x, ["block"])
        return
    small = surgery.remove_blocks(network, x, ["block"])
    assert torch.equal(small(x), network.last(code(lambda x, *_, **__: x, x)))
    assert isinstance(network.block, Block)


def test_a_block_that_changes_the_shape_at_one_of_its_calls_stays():
    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.pool = nn.Conv1d(2, 2, 1), nn.AdaptiveAvgPool1d(1)

        def forward(self, x):
            return self.pool(self.mix(x))

    network = nn.Sequential(pooling := Pooling(), pooling, nn.Flatten())
    with pytest.raises(ValueError, match=r"0 cannot leave: it turns \[2, 5\] into"):
        surgery.remove_blocks(network, torch.ones(1, 2, 5), ["0"])


def test_the_loss_is_a_mean_over_pictures():
    network, x = Around(lambda block, x: block(x)), torch.randn(16, 4)
    labels = torch.arange(16) % 2
    whole = surgery.block_losses(network, ["block"], [(x, labels)])
    parts = [(x[:15], labels[:15]), (x[15:], labels[15:])]
    assert surgery.block_losses(network, ["block"], iter(parts)) == pytest.approx(
        whole, abs=1e-6
    )


@pytest.mark.parametrize(
    ("batches", "reason"),
    [
        ([], "no pictures"),
        (None, "must be pairs"),
        ([torch.ones(3, 4)], "must be pairs"),
        ([(torch.ones(2, 4), torch.tensor([0, 7]))], "no classes"),
        ([(torch.ones(2, 3), torch.tensor([0, 1]))], r"cannot take images \[2, 3\]"),
    ],
)
def test_batches_that_make_no_sense_are_refused(batches, reason):
    with pytest.raises(ValueError, match=reason):
        surgery.block_losses(Around(lambda block, x: block(x)), ["block"], batches)
