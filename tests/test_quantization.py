"""Quantization: PyTorch's own rounding as the oracle, folding that changes nothing,
training that holds its zeros."""

import copy

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from tests.strategies import PICTURES, Net, networks, randomise, weights
from utils.layers import prunable, prunable_layers
from utils.masks import hold, magnitude_masks
from utils.models import lenet300, resnet, vgg
from utils.quantization import (
    Grid,
    QuantizedConv2d,
    QuantizedLinear,
    activation_grid,
    fold_batchnorm,
    input_ranges,
    plain,
    quantize_weights,
    quantized,
    weight_grid,
)
from utils.training import Recipe, evaluate, fit

quickly = settings(deadline=None, max_examples=60)
TINY = torch.finfo(torch.float32).tiny


# -------------------------------------------------------------------------- the weights


def torch_snap(weight: torch.Tensor, grid: Grid, per_channel: bool) -> torch.Tensor:
    """PyTorch's own, which multiplies by 1/scale where we divide."""
    if per_channel:
        zeros = torch.zeros(len(weight), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            weight, grid.scale.flatten(), zeros, 0, grid.lowest, grid.highest
        )
    zero = torch.zeros((), dtype=torch.int32)
    return torch.fake_quantize_per_tensor_affine(
        weight, grid.scale, zero, grid.lowest, grid.highest
    )


def equal_but_for_ties(found, expected, position, scale) -> bool:
    """Equal, or one step apart where rounding of the division decides between two
    neighbours."""
    near_tie = (
        (position - position.floor()) - 0.5
    ).abs() < 1e-6 * position.abs().clamp(min=1)
    steps = ((found.double() - expected.double()) / scale.double()).abs()
    return bool(
        (
            torch.isclose(found, expected, rtol=1e-6, atol=0)
            | (near_tie & (steps < 1.01))
        ).all()
    )


@quickly
@given(weights(), st.integers(2, 8), st.booleans())
def test_weights_snap_as_in_pytorch(weight, bits, per_channel):
    grid = weight_grid(weight, bits, per_channel=per_channel)
    ours, theirs = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    found, expected = grid.snap(ours), torch_snap(theirs, grid, per_channel)
    assert equal_but_for_ties(
        found, expected, weight.double() / grid.scale.double(), grid.scale
    )
    upstream = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    found.backward(upstream)
    expected.backward(upstream)
    # nothing saturates: the largest weight is on the grid
    assert torch.equal(theirs.grad, upstream)
    assert torch.allclose(ours.grad, upstream, rtol=1e-5, atol=0)


@quickly
@given(weights(), st.integers(2, 8), st.booleans())
def test_a_weight_moves_by_half_a_step_at_most_and_zeros_stay(
    weight, bits, per_channel
):
    grid = weight_grid(weight, bits, per_channel=per_channel)
    assert grid.scale.shape == (
        (len(weight), *[1] * (weight.dim() - 1)) if per_channel else ()
    )
    assert (grid.scale > 0).all() and grid.scale.isfinite().all()
    snapped = grid.snap(weight)
    assert (
        (snapped.double() - weight.double()).abs() <= 0.500001 * grid.scale.double()
    ).all()
    assert (snapped[weight == 0] == 0).all()
    assert (snapped * weight >= 0).all()  # no sign changes
    integers = grid.integers(weight)
    assert (
        integers.dtype == torch.int16
        and integers.abs().max() <= grid.highest == 2 ** (bits - 1) - 1
    )
    assert torch.allclose(grid.values(integers), snapped, rtol=1e-6, atol=0)
    assert torch.equal(grid.integers(grid.values(integers)), integers)  # round trip
    rows = weight if per_channel else weight[None]
    used = rows.flatten(1).abs().amax(1) > TINY * 128
    whole = integers if per_channel else integers[None]
    # the whole width is used
    assert (whole.flatten(1).abs().amax(1)[used] == grid.highest).all()


def test_a_small_example_by_hand():
    grid = weight_grid(
        torch.tensor([[3.0, -1.4, 0.0, 0.6], [-30.0, 14.9, 15.1, 5.0]]), bits=3
    )
    assert grid.scale.tolist() == [[1.0], [10.0]] and (grid.lowest, grid.highest) == (
        -3,
        3,
    )
    weight = torch.tensor([[3.0, -1.4, 0.0, 0.6], [-30.0, 14.9, 15.1, 5.0]])
    # 5.0 is a tie: to the even one
    assert grid.integers(weight).tolist() == [[3, -1, 0, 1], [-3, 1, 2, 0]]
    assert grid.snap(weight).tolist() == [
        [3.0, -1.0, 0.0, 1.0],
        [-30.0, 10.0, 20.0, 0.0],
    ]
    whole = weight_grid(weight, bits=3, per_channel=False)
    assert whole.scale.item() == 10.0
    assert whole.snap(weight).tolist() == [
        [0.0, 0.0, 0.0, 0.0],
        [-30.0, 10.0, 20.0, 0.0],
    ]


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6, 1e-7, 1e-20, 1e-37, 1e-44, 0.0])
@pytest.mark.parametrize("per_channel", [True, False])
def test_zeros_stay_zero_in_every_type(dtype, size, per_channel):
    """Smaller than float16 can hold, its scale would become 0, and 0 / 0 is no
    number."""
    values = torch.tensor(
        [[size, 0.0, -size], [0.0, 0.0, size / 2]], dtype=torch.float64
    ).to(dtype)
    for grid in (
        weight_grid(values, 8, per_channel=per_channel),
        activation_grid(-size, size),
    ):
        snapped = grid.snap(values)
        assert (
            (grid.scale > 0).all()
            and snapped.dtype == dtype
            and snapped.isfinite().all()
        )
        assert (snapped[values == 0] == 0).all() and (snapped * values >= 0).all()
        integers = grid.integers(values)
        assert (integers[values == 0] == grid.zero_point).all()


def test_a_half_precision_network_computes_numbers(tiny):
    """Its activations are so small that their scale is 0 in float16."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.Linear(4, 2))
    with torch.no_grad():
        network[1].weight.fill_(1e-12)
        network[1].bias.zero_()
    result = quantized(network, [(tiny.images[:8], tiny.labels[:8])]).half()
    assert result(tiny.images[:8].half()).isfinite().all()


@pytest.mark.parametrize("shape", [(5, 0), (5, 0, 3, 3), (5, 2, 0, 3), (0,)])
def test_a_unit_without_weights_has_no_grid(shape):
    for per_channel in (True, False):
        with pytest.raises(
            ValueError, match=r"weight has the shape \[.*0.*at least one number a unit"
        ):
            weight_grid(torch.zeros(shape), per_channel=per_channel)
    assert weight_grid(torch.zeros(0, 5)).scale.shape == (0, 1)


def test_quantize_weights_moves_weights_only(cnn, unchanged):
    check = unchanged(cnn)
    result = quantize_weights(cnn, bits=4)
    check()
    for name, tensor in result.state_dict().items():
        before = cnn.state_dict()[name]
        if name in prunable(cnn):
            assert torch.equal(
                tensor, weight_grid(before, 4).snap(before)
            ) and not torch.equal(tensor, before)
            assert all(len(row.unique()) <= 15 for row in tensor)
        else:
            assert torch.equal(tensor, before)


# ---------------------------------------------------------------------- the activations

RANGES = st.tuples(
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.floats(-(2.0**100), 2.0**100, width=32),
).map(sorted)


@quickly
@given(RANGES, st.integers(2, 8), st.integers(0, 2**31))
@example((0.0, 0.0), 8, 0)
@example((0.0, 1e-44), 8, 0)
@example((-1e-45, 0.0), 2, 0)
@example((3.0, 3.0), 8, 0)
@example((-3.0, -2.0), 8, 0)
def test_activations_move_by_half_a_step_and_zero_is_on_the_grid(bounds, bits, seed):
    low, high = bounds
    grid = activation_grid(low, high, bits)
    assert grid.scale > 0 and (grid.lowest, grid.highest) == (0, 2**bits - 1)
    assert (
        0 <= grid.zero_point <= grid.highest
        and grid.zero_point == grid.zero_point.round()
    )
    zero = torch.zeros(1)
    assert (
        grid.snap(zero).item() == 0.0 and grid.values(grid.integers(zero)).item() == 0.0
    )
    between = (
        torch.rand(
            200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        * (high - low)
        + low
    )
    values = torch.cat([between.float(), torch.tensor([low, high])])
    assert (
        (grid.snap(values).double() - values.double()).abs()
        <= 0.5001 * grid.scale.double()
    ).all()
    integers = torch.arange(grid.lowest, grid.highest + 1, dtype=torch.int16)
    assert torch.equal(grid.integers(grid.values(integers)), integers)
    assert torch.equal(grid.snap(grid.values(integers)), grid.values(integers))


@quickly
@given(st.integers(-3, 3), st.integers(0, 255), st.integers(2, 8))
def test_ties_and_saturation_are_those_of_pytorch(exponent, zero_point, bits):
    """A scale that is a power of two, so that a tie is a tie in every arithmetic; a
    quarter of a step at a time."""
    highest = 2**bits - 1
    grid = Grid(
        torch.tensor(2.0**exponent),
        torch.tensor(float(min(zero_point, highest))),
        0,
        highest,
    )
    positions = torch.arange(-4 * highest, 8 * highest) / 4
    ours = ((positions - grid.zero_point) * grid.scale).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    found = grid.snap(ours)
    zero_points = grid.zero_point.to(torch.int32)
    expected = torch.fake_quantize_per_tensor_affine(
        theirs, grid.scale, zero_points, 0, highest
    )
    assert torch.equal(found, expected) and torch.equal(
        grid.values(grid.integers(ours)), expected
    )
    found.sum().backward()
    expected.sum().backward()
    # ours is 1; PyTorch's 0 where it rounds outwards
    edge = (positions == highest + 0.5) | (positions == -0.5)
    assert torch.equal(ours.grad[~edge], theirs.grad[~edge])
    assert set(ours.grad.tolist()) == {0.0, 1.0}


@given(RANGES, st.integers(2, 8))
@quickly
def test_any_range_agrees_with_pytorch(bounds, bits):
    low, high = bounds
    grid = activation_grid(low, high, bits)
    if grid.scale < 1e-37:  # PyTorch's 1/scale would be infinite
        return
    values = torch.linspace(-1.5, 1.5, 301) * max(abs(low), abs(high), 1e-37)
    zero_points = grid.zero_point.to(torch.int32)
    expected = torch.fake_quantize_per_tensor_affine(
        values, grid.scale, zero_points, 0, grid.highest
    )
    position = values.double() / grid.scale.double() + grid.zero_point
    near = (
        torch.full_like(position, 0.5)
        * ((position - position.floor() - 0.5).abs() < 1e-4)
        + position.floor()
    )
    assert equal_but_for_ties(grid.snap(values), expected, near, grid.scale)


def test_what_is_infinite_saturates():
    grid = activation_grid(-1.0, 1.0)
    found = grid.snap(torch.tensor([float("inf"), -float("inf"), 1e38]))
    assert torch.allclose(found, torch.tensor([1.0, -1.0, 1.0]), atol=0.01)


@pytest.mark.parametrize("bits", [1, 9, 0, -8, 8.0, True, "8", None])
def test_bits_must_be_2_to_8(cnn, batches, bits):
    for call in (
        lambda: weight_grid(torch.ones(2, 2), bits),
        lambda: activation_grid(0.0, 1.0, bits),
        lambda: quantized(cnn, batches, bits=bits),
        lambda: quantized(cnn, batches, activation_bits=bits),
    ):
        with pytest.raises(ValueError, match=r"bits=.* whole number from 2 to 8"):
            call()
    with pytest.raises(ValueError, match=r"^activation_bits="):
        quantized(cnn, batches, activation_bits=bits)
    with pytest.raises(ValueError, match=r"^bits="):
        quantized(cnn, batches, bits=bits)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_only_finite_numbers_fit(value):
    with pytest.raises(ValueError, match="not finite"):
        weight_grid(torch.tensor([[1.0, value]]))
    for bounds in ((0.0, value), (value, 0.0)):
        with pytest.raises(ValueError, match="finite"):
            activation_grid(*bounds)
    with pytest.raises(ValueError, match="must not be above"):
        activation_grid(1.0, 0.5)
    for bounds in ((0, 1e300), (-1e308, 1e308)):
        with pytest.raises(ValueError, match=r"low=.*high=1e\+30.*too far apart"):
            activation_grid(*bounds)
    assert activation_grid(-3e38, 3e38).scale.isfinite()


@quickly
@given(
    weights(),
    st.integers(0, 2**31),
    st.integers(2, 8),
    st.sampled_from([(-1.0, 3.0), (0.0, 6.0), (-2.0, -1.0)]),
)
def test_integer_arithmetic_gives_the_product_of_the_snapped_numbers(
    weight, seed, bits, bounds
):
    """sum (qx - z) * qw in 32 bits, then one multiplication: Jacob et al. 2018, eq.
    4."""
    weight = weight.flatten(1)
    low, high = bounds
    inputs = (
        torch.rand(3, weight.shape[1], generator=torch.Generator().manual_seed(seed))
        * (high - low)
        + low
    )
    on_inputs, on_weight = activation_grid(low, high), weight_grid(weight, bits)
    qx, qw = (
        on_inputs.integers(inputs).to(torch.int32),
        on_weight.integers(weight).to(torch.int32),
    )
    correction = on_inputs.zero_point.to(torch.int32) * qw.sum(1, dtype=torch.int32)
    accumulated = qx @ qw.T - correction
    assert accumulated.dtype == torch.int32
    found = accumulated.double() * on_inputs.scale.double() * on_weight.scale.double().T
    expected = on_inputs.snap(inputs).double() @ on_weight.snap(weight).double().T
    room = (
        on_inputs.snap(inputs).double().abs() @ on_weight.snap(weight).double().abs().T
    )
    assert ((found - expected).abs() <= 1e-6 * room).all()


# ---------------------------------------------------------------------------- BatchNorm


def norms(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / a.abs().max()).item()


@pytest.fixture(params=["vgg", "resnet", "strided resnet"])
def untrained(request) -> nn.Module:
    """A small network of the course, its BatchNorms as after a training, in training
    mode."""
    torch.manual_seed(0)
    make = {
        "vgg": lambda: vgg(((4, 6), (8,))),
        "resnet": lambda: resnet((4,), blocks=2),
        "strided resnet": lambda: resnet((4, 6), blocks=1),
    }
    return randomise(make[request.param]())


def test_folding_changes_no_output_and_not_the_model(untrained, tiny, unchanged):
    check = unchanged(untrained)
    folded = fold_batchnorm(untrained)
    check()
    assert untrained.training and not any(
        module.training for module in folded.modules()
    )
    assert not norms(folded)
    assert [n for n, _ in folded.named_modules()] == [
        n for n, _ in untrained.named_modules()
    ]
    with torch.no_grad():
        assert (
            relative(untrained.eval()(tiny.images[:20]), folded(tiny.images[:20]))
            < 1e-5
        )
    assert not {t.data_ptr() for t in folded.parameters()} & {
        t.data_ptr() for t in untrained.parameters()
    }


@settings(deadline=None, max_examples=40)
@given(networks())
def test_folding_changes_no_output_of_any_network(network):
    folded = fold_batchnorm(network)
    with torch.no_grad():
        assert relative(network(PICTURES), folded(PICTURES)) < 1e-4
    assert len(norms(folded)) < len(norms(network))  # the first one always can


def conv() -> nn.Conv2d:
    return nn.Conv2d(2, 2, 3, padding=1)


def bn() -> nn.BatchNorm2d:
    return nn.BatchNorm2d(2)


def hooked(module: nn.Module, *, before: bool = False) -> nn.Module:
    """The module, and a hook that doubles what it gives (or gets)."""
    if before:
        module.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
    else:
        module.register_forward_hook(lambda module, inputs, output: 2 * output)
    return module


STAYS = {
    "a BatchNorm first": lambda: nn.Sequential(bn(), conv()),
    "after a ReLU": lambda: nn.Sequential(conv(), nn.ReLU(), bn()),
    "after a ReLU in place": lambda: nn.Sequential(conv(), nn.ReLU(inplace=True), bn()),
    "after a pooling": lambda: nn.Sequential(conv(), nn.AvgPool2d(2), bn()),
    "after a transposed convolution": lambda: nn.Sequential(
        nn.ConvTranspose2d(2, 2, 3), bn()
    ),
    "a layer used twice": lambda: Net(lambda s, x: s.b(s.c(s.c(x))), c=conv(), b=bn()),
    "a BatchNorm used twice": lambda: Net(
        lambda s, x: s.b(s.c(x)) + s.b(s.d(x)), c=conv(), d=conv(), b=bn()
    ),
    "both used twice": lambda: Net(
        lambda s, x: s.b(s.c(s.b(s.c(x)))), c=conv(), b=bn()
    ),
    "an addition": lambda: Net(lambda s, x: s.b(s.c(x) + x), c=conv(), b=bn()),
    "a short cut around it": lambda: Net(
        lambda s, x: (lambda y: s.b(y) + y)(s.c(x)), c=conv(), b=bn()
    ),
    "two after one layer": lambda: Net(
        lambda s, x: (lambda y: s.a(y) - s.b(y))(s.c(x)), c=conv(), a=bn(), b=bn()
    ),
    "given out too": lambda: Net(
        lambda s, x: (lambda y: (s.b(y), y))(s.c(x)), c=conv(), b=bn()
    ),
    "given out too, by name": lambda: Net(
        lambda s, x: (lambda y: {"outputs": [s.b(y)], "inner": {"c": y}})(s.c(x)),
        c=conv(),
        b=bn(),
    ),
    "its weight used elsewhere": lambda: Net(
        lambda s, x: s.b(s.c(x)) + F.conv2d(x, s.c.weight, padding=1), c=conv(), b=bn()
    ),
    "a hook of the layer": lambda: nn.Sequential(hooked(conv()), bn()),
    "a hook before the BatchNorm": lambda: nn.Sequential(
        conv(), hooked(bn(), before=True)
    ),
    "a hook of the BatchNorm": lambda: nn.Sequential(conv(), hooked(bn())),
    "by keyword": lambda: Net(lambda s, x: s.b(input=s.c(input=x)), c=conv(), b=bn()),
    "of the batch always": lambda: nn.Sequential(
        conv(), nn.BatchNorm2d(2, track_running_stats=False)
    ),
}


@pytest.mark.parametrize("case", STAYS)
def test_what_cannot_be_folded_stays(case):
    torch.manual_seed(0)
    network = STAYS[case]()
    if case != "of the batch always":
        randomise(network)
    pictures = torch.randn(4, 2, 6, 6)
    folded = fold_batchnorm(network)
    assert norms(folded) == norms(network) != []
    with torch.no_grad():
        expected, found = (
            tree_leaves(network.eval()(pictures)),
            tree_leaves(folded(pictures)),
        )
    assert len(found) == len(expected) and all(map(torch.equal, found, expected))


FOLDS = {
    "grouped": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, groups=2, bias=False), nn.BatchNorm2d(4)
        ),
        (2, 6, 6),
    ),
    "no scale and shift": (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(2, affine=False)),
        (2, 6, 6),
    ),
    "linear": (
        lambda: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.ReLU()),
        (5,),
    ),
    "linear without bias": (
        lambda: nn.Sequential(nn.Linear(5, 3, bias=False), nn.BatchNorm1d(3)),
        (5,),
    ),
    "padding by name": (
        lambda: nn.Sequential(nn.Conv2d(2, 2, 3, padding="same"), bn()),
        (2, 6, 6),
    ),
    "two BatchNorms": (lambda: nn.Sequential(conv(), bn(), bn()), (2, 6, 6)),
}


@pytest.mark.parametrize("case", FOLDS)
def test_what_can_be_folded_is(case):
    make, shape = FOLDS[case]
    torch.manual_seed(0)
    network, inputs = randomise(make()), torch.randn(4, *shape)
    folded = fold_batchnorm(network)
    assert isinstance(folded[1], nn.Identity)
    with torch.no_grad():
        assert relative(network.eval()(inputs), folded(inputs)) < 1e-5


# ----------------------------------------------------------------------- whole networks


def by_hand(
    layer: nn.Module, x: torch.Tensor, low: float, high: float, bits: int
) -> torch.Tensor:
    """A layer on snapped numbers, with PyTorch's rounding."""
    grid = activation_grid(low, high)
    x = torch.fake_quantize_per_tensor_affine(
        x, grid.scale, grid.zero_point.to(torch.int32), 0, 255
    )
    weight = torch_snap(layer.weight, weight_grid(layer.weight, bits), True)
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, layer.bias)
    return F.conv2d(
        x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
    )


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_network_is_the_folded_one_on_its_grids(cnn, batches, bits):
    randomise(cnn)
    folded = fold_batchnorm(cnn)
    ranges = input_ranges(folded, batches)
    x = torch.cat([images for images, _ in batches])
    assert ranges["0"] == (x.min().item(), x.max().item())
    found = quantized(cnn, batches, bits=bits)
    with torch.no_grad():
        expected = x
        for name, layer in folded.named_children():
            inside = name in ranges
            expected = (
                by_hand(layer, expected, *ranges[name], bits)
                if inside
                else layer(expected)
            )
        # a number on the edge may fall to either side
        assert relative(expected, found(x)) < 0.02
        error = relative(cnn.eval()(x), found(x))
    assert 0 < error < {8: 0.05, 4: 0.5}[bits]


def test_names_stay_and_the_model_too(untrained, tiny, unchanged):
    batches = [(tiny.images[:8], tiny.labels[:8])]
    check = unchanged(untrained)
    network = quantized(untrained, batches)
    check()
    assert prunable(network).keys() == prunable(untrained).keys()
    layers = prunable_layers(network).values()
    assert all(
        isinstance(layer, (QuantizedConv2d, QuantizedLinear)) for layer in layers
    )
    assert not any(module.training for module in network.modules())
    assert not any(parameter.is_meta for parameter in network.parameters())
    for name, weight in prunable(untrained).items():
        assert prunable(network)[name].shape == weight.shape
    with torch.no_grad():
        assert (
            relative(untrained.eval()(tiny.images[:8]), network(tiny.images[:8])) < 0.1
        )


def test_it_computes_the_same_in_training_and_in_eval_mode(untrained, tiny):
    network = quantized(untrained, [(tiny.images[:8], tiny.labels[:8])], bits=4)
    with torch.no_grad():
        evaluated = network.eval()(tiny.images[:30])
        assert torch.equal(network.train()(tiny.images[:30]), evaluated)


def test_the_gradient_flows_to_every_parameter(untrained, tiny):
    network = quantized(untrained, [(tiny.images[:8], tiny.labels[:8])], bits=3).train()
    F.cross_entropy(network(tiny.images[:32]), tiny.labels[:32]).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.count_nonzero(), name


RECIPE = Recipe(epochs=3, batch_size=50, learning_rate=3e-3, flip=False)


@pytest.fixture(scope="module")
def trained(course_data):
    """A small LeNet that knows the pictures a bit, and batches to calibrate it with."""
    torch.manual_seed(0)
    network = lenet300((30, 20))
    fit(network, course_data.train[:3000], RECIPE, progress=False)
    return network, [(course_data.train.images[:200], course_data.train.labels[:200])]


@pytest.mark.parametrize("held", [True, False])
def test_masks_hold_through_training(trained, tiny, held):
    network, batches = trained
    masks = magnitude_masks(network, 0.8)
    pruned = copy.deepcopy(network)
    hold(pruned, masks)()
    aware = quantized(pruned, batches, bits=4)
    zero_again = hold(aware, masks)
    fit(aware, tiny, RECIPE, after_step=zero_again if held else None, progress=False)
    zeros = all(
        (weight[~masks[name]] == 0).all() for name, weight in prunable(aware).items()
    )
    assert zeros == held
    if held:
        final = plain(aware)
        assert all(
            (weight[~masks[name]] == 0).all()
            for name, weight in prunable(final).items()
        )
        assert all(weight.count_nonzero() for weight in prunable(final).values())


def test_training_through_the_rounding_helps(trained, course_data):
    network, batches = trained
    train, validation = course_data.train[:3000], course_data.validation
    aware = quantized(network, batches, bits=3)

    def loss(model: nn.Module) -> float:
        with torch.no_grad():
            return F.cross_entropy(model(train.images), train.labels).item()

    rounded, before, accuracy = loss(network), loss(aware), evaluate(aware, validation)
    assert before > rounded + 0.02  # three bits cost something
    fit(aware, train, RECIPE, progress=False)
    assert loss(aware) < before - 0.05
    assert evaluate(aware, validation) > accuracy - 0.01
    for weight, layer in zip(
        prunable(aware).values(), prunable_layers(aware).values(), strict=True
    ):
        assert all(
            len(row.unique()) <= 7 for row in layer.weight_grid().snap(weight).detach()
        )


def test_plain_puts_the_weights_on_their_grids(untrained, tiny, unchanged):
    network = quantized(
        untrained, [(tiny.images[:8], tiny.labels[:8])], bits=5, per_channel=False
    )
    check = unchanged(network)
    result = plain(network)
    check()
    assert {type(layer) for layer in prunable_layers(result).values()} == {
        nn.Conv2d,
        nn.Linear,
    }
    grids = {
        name: layer.weight_grid() for name, layer in prunable_layers(network).items()
    }
    for name, layer in prunable_layers(result).items():
        before = network.get_submodule(name)
        assert torch.equal(layer.weight, grids[name].snap(before.weight))
        assert torch.equal(layer.bias, before.bias)
    assert not any(module.training for module in result.modules())
    expected = quantize_weights(fold_batchnorm(untrained), 5, per_channel=False)
    with torch.no_grad():
        assert torch.equal(result(tiny.images[:9]), expected(tiny.images[:9]))


def test_the_type_of_the_network_stays(tiny):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 3)
    ).double()
    images = tiny.images[:8].double()
    result = quantized(network, [(images, tiny.labels[:8])])
    assert {p.dtype for p in plain(result).parameters()} == {torch.float64}
    assert plain(result)(images).dtype == result(images).dtype == torch.float64


def test_copies_and_state_dicts(untrained, tiny):
    batches = [(tiny.images[:8], tiny.labels[:8])]
    network = quantized(untrained, batches, bits=4)
    twin = copy.deepcopy(network)
    other = quantized(untrained, [(tiny.images[8:9], tiny.labels[8:9])], bits=4)
    for parameter in other.parameters():
        parameter.data.normal_()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        expected = network(tiny.images[:20])
        assert torch.equal(twin(tiny.images[:20]), expected)
        assert torch.equal(other(tiny.images[:20]), expected)
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(network(tiny.images[:20]), expected)
    assert "input_scale" in " ".join(network.state_dict())


def test_a_shared_layer_stays_shared():
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    network = nn.Sequential(layer, nn.ReLU(), layer)
    x = torch.randn(20, 4)
    result = quantized(network, [(x, torch.zeros(20))])
    assert result[0] is result[2] and isinstance(result[0], QuantizedLinear)
    with torch.no_grad():
        assert relative(network(x), result(x)) < 0.05
    assert plain(result)[0] is plain(result)[2] or plain(result)[0] is not None


def test_a_network_that_is_one_layer():
    torch.manual_seed(0)
    x = torch.randn(20, 4)
    layer = nn.Linear(4, 3, bias=False)
    result = quantized(layer, [(x, torch.zeros(20))])
    assert isinstance(result, QuantizedLinear) and result.bias is None
    assert type(plain(result)) is nn.Linear and plain(result).bias is None


def test_other_strides_paddings_dilations_and_groups():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=(1, 2), dilation=2, groups=2),
        nn.Conv2d(4, 3, (1, 3), padding="same"),
    )
    x = torch.randn(8, 2, 12, 12)
    result = quantized(network, [(x, torch.zeros(8))])
    with torch.no_grad():
        assert relative(network(x), result(x)) < 0.05
        assert relative(network(x), plain(result)(x)) < 0.05


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), "Conv2d"),
        (nn.Conv3d(1, 2, 1), "Conv3d"),
        (nn.Conv1d(1, 2, 1), "Conv1d"),
        (
            nn.modules.linear.NonDynamicallyQuantizableLinear(6, 6),
            "NonDynamicallyQuantizableLinear",
        ),
    ],
)
def test_other_layers_are_refused_by_name(layer, kind):
    x = torch.randn(2, 1, 6, 6)[
        (slice(None), None) if kind == "Conv3d" else (slice(None),)
    ]
    x = x[..., 0] if kind == "Conv1d" else x
    network = nn.Sequential(nn.Identity(), layer)
    with pytest.raises(ValueError, match=f"1 is a {kind}; only plain"):
        quantized(network, [(x, torch.zeros(2))])


def test_without_batches_there_is_no_range(cnn):
    with pytest.raises(ValueError, match="batches is empty"):
        quantized(cnn, [])
    with pytest.raises(ValueError, match="nothing to prune"):
        quantize_weights(nn.ReLU())


X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
BAD_BATCHES = {
    "empty": (X[:0], r"batches\[1\] has the shape \[0, 6\]"),
    "NaN": (torch.where(X > 1, float("nan"), X), r"batches\[1\] is not finite"),
    "all NaN": (X * float("nan"), r"batches\[1\] is not finite"),
    "infinite": (X / 0, r"batches\[1\] is not finite"),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
@pytest.mark.parametrize("first", [True, False])
def test_batches_that_give_no_range_are_named(case, first, unchanged):
    bad, words = BAD_BATCHES[case]
    words = words.replace("1", "0", 1) if first else words
    network = nn.Sequential(
        nn.Linear(6, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)
    )
    check = unchanged(network)
    batches = [(bad, None), (X, None)] if first else [(X, None), (bad, None)]
    for use in (quantized, input_ranges):
        with pytest.raises(ValueError, match=words):
            use(network, batches)
    check()


class Logarithm(nn.Module):
    def forward(self, x):
        return x.log()  # of negative numbers: NaN; of 0: infinite


BAD_LAYERS = {
    "never runs": (
        Net(lambda s, x: s.a(x), a=nn.Linear(6, 2), b=nn.Linear(3, 3)),
        "b never runs on these batches",
    ),
    "gets nothing": (
        Net(lambda s, x: s.b(s.a(x)[:0]), a=nn.Linear(6, 3), b=nn.Linear(3, 3)),
        "b never runs",
    ),
    "has a hook": (
        nn.Sequential(hooked(nn.Linear(6, 3)), nn.Linear(3, 3)),
        "0 has forward hooks",
    ),
    "has a hook before": (
        nn.Sequential(nn.Linear(6, 3), hooked(nn.Linear(3, 3), before=True)),
        "1 has forward hooks",
    ),
    "gets NaN": (
        nn.Sequential(nn.Linear(6, 6), Logarithm(), nn.Linear(6, 2)),
        "goes into 2 is not finite",
    ),
    "gets infinity": (
        nn.Sequential(nn.ReLU(), Logarithm(), nn.Linear(6, 2)),
        "goes into 2 is not finite",
    ),
}


def test_a_layer_called_by_keyword_is_quantized_as_one_called_by_position():
    torch.manual_seed(0)
    layers = {"a": nn.Linear(6, 3), "b": nn.Linear(3, 3)}
    batches = [(torch.randn(8, 6), torch.zeros(8))]
    by_keyword, by_position = (
        quantized(Net(call, **copy.deepcopy(layers)), batches)(batches[0][0])
        for call in (lambda s, x: s.b(input=s.a(x)), lambda s, x: s.b(s.a(x)))
    )
    assert torch.equal(by_keyword, by_position)


@pytest.mark.parametrize("case", BAD_LAYERS)
def test_layers_without_a_range_are_named(case):
    network, words = BAD_LAYERS[case]
    with pytest.raises(ValueError, match=words):
        quantized(network, [(X, None)])
    if "never runs" in words:
        assert set(input_ranges(network, [(X, None)])) == {"a"}


def test_batches_may_come_one_by_one_and_with_a_gradient():
    network = nn.Sequential(nn.Linear(6, 2))
    batches = [(X[:2].clone().requires_grad_(), None), (10 * X[2:], None)]
    expected = quantized(network, batches)
    assert torch.equal(
        quantized(network, iter(batches))[0].input_scale, expected[0].input_scale
    )
    with pytest.raises(ValueError, match="batches is empty"):
        quantized(network, iter([]))
