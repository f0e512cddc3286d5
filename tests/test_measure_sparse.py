"""Weights without their zeros: nothing is lost, and the layers answer as the dense
ones."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from utils import baselines, models
from utils.masks import apply_masks, magnitude_masks
from utils.measure import SparseLayer, csr_state, with_sparse_layers


@pytest.fixture
def every_warning():
    """PyTorch shows some warnings once a process; a test must not depend on which came
    first."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_csr_holds_every_number_and_gives_the_weights_back(cnn, layout, every_warning):
    apply_masks(cnn, magnitude_masks(cnn, 0.7))
    with torch.no_grad():
        cnn[7].weight[2] = 0  # an empty row
    cnn.to(memory_format=layout)
    compressed = csr_state(cnn)
    for name, tensor in cnn.state_dict().items():
        if name not in ("0.weight", "3.weight", "7.weight"):
            assert torch.equal(compressed.pop(name), tensor)
            continue
        values, columns, rows = (
            compressed.pop(f"{name}.{part}") for part in ("values", "columns", "rows")
        )
        assert columns.dtype == rows.dtype == torch.int32
        assert len(values) == len(columns) == tensor.count_nonzero() == rows[-1]
        rebuilt = torch.zeros(len(tensor), tensor[0].numel())
        for row in range(len(tensor)):
            inside = slice(rows[row], rows[row + 1])
            rebuilt[row, columns[inside].long()] = values[inside]
        assert torch.equal(rebuilt.view(tensor.shape), tensor)
    assert compressed == {}


# --------------------------------------------------------------- layers that skip zeros


def thinned(layer: nn.Module, kept: float) -> nn.Module:
    """The layer with a random part of its weights, maybe none."""
    with torch.no_grad():
        layer.weight.mul_(torch.rand(layer.weight.shape) < kept)
    return layer


KEPT = st.sampled_from([0.0, 0.05, 0.5, 1.0])
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    KEPT,
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_a_sparse_linear_layer_answers_as_the_dense_one(
    inputs, outputs, shape, kept, bias
):
    torch.manual_seed(0)
    layer, x = (
        thinned(nn.Linear(inputs, outputs, bias=bias), kept),
        torch.randn(*shape, inputs),
    )
    with torch.no_grad():
        torch.testing.assert_close(
            SparseLayer(layer)(x), layer(x), atol=1e-5, rtol=1e-4
        )


@given(PAIRS, PAIRS, PAIRS, PAIRS, KEPT, st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_sparse_convolution_answers_as_the_dense_one(
    kernel, stride, padding, dilation, kept, bias, last
):
    torch.manual_seed(0)
    options = dict(stride=stride, padding=padding, dilation=dilation, bias=bias)
    layer, x = (
        thinned(nn.Conv2d(3, 5, kernel, **options), kept),
        torch.randn(2, 3, 9, 8),
    )
    layout = torch.channels_last if last else torch.contiguous_format
    with torch.no_grad():
        got = SparseLayer(layer.to(memory_format=layout))(
            x.contiguous(memory_format=layout)
        )
        torch.testing.assert_close(got, layer(x), atol=1e-5, rtol=1e-4)


def test_a_sparse_layer_holds_no_zero():
    layer = thinned(nn.Linear(40, 30), 0.1)
    matrix = SparseLayer(layer).matrix
    assert matrix.values().numel() == layer.weight.count_nonzero()
    assert torch.equal(matrix.to_dense(), layer.weight)


@pytest.mark.parametrize("name", models.MODELS)
def test_a_network_with_sparse_layers_answers_as_before(
    name, tiny, every_warning, unchanged
):
    network = baselines.baseline(name)
    apply_masks(network, magnitude_masks(network, 0.9))
    same = unchanged(network)
    sparse = with_sparse_layers(network)
    count = sum(isinstance(module, SparseLayer) for module in sparse.modules())
    assert count == sum(
        isinstance(module, (nn.Linear, nn.Conv2d)) for module in network.modules()
    )
    with torch.no_grad():
        torch.testing.assert_close(
            sparse(tiny.images[:3]), network(tiny.images[:3]), atol=1e-3, rtol=1e-3
        )
    same()


def test_what_cannot_skip_zeros_stays_dense(cnn):
    """Grouped convolutions, other paddings than zeros, padding given by a word, other
    dimensions."""
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 6, 3),
        nn.Flatten(2),
        nn.Conv1d(6, 6, 3),
    )
    x = torch.randn(2, 4, 8, 8)
    sparse = with_sparse_layers(network)
    assert [type(module) for module in sparse] == [nn.Conv2d] * 3 + [
        SparseLayer,
        nn.Flatten,
        nn.Conv1d,
    ]
    with torch.no_grad():
        torch.testing.assert_close(sparse(x), network(x), atol=1e-5, rtol=1e-4)


def test_a_lone_layer_becomes_a_sparse_one():
    assert isinstance(with_sparse_layers(nn.Linear(4, 3)), SparseLayer)


@pytest.mark.parametrize("attends", [False, True])
def test_layers_whose_weights_are_read_by_others_keep_working(attends):
    """PyTorch's attention reads the weight of its last layer, and its encoder those of
    all, without calling them."""
    torch.manual_seed(0)
    if attends:
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        layer, call = attention, lambda module, x: module(x, x, x)[0]
    else:
        layer, call = (
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
            lambda module, x: module(x),
        )
    layer.eval()
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            call(with_sparse_layers(layer), x), call(layer, x), atol=1e-5, rtol=1e-4
        )


# ------------------------------------------------------------ a weight that has changed


def load(sparse, dense):
    sparse.load_state_dict(with_sparse_layers(dense).state_dict())


def assign(sparse, dense):
    sparse.load_state_dict(with_sparse_layers(dense).state_dict(), assign=True)


def mask(sparse, dense):
    for network in (sparse, dense):
        apply_masks(network, magnitude_masks(network, 0.5))


def step(sparse, dense):
    for network in (sparse, dense):
        network.load_state_dict(STATE if network is dense else SPARSE_STATE)
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        with torch.enable_grad():
            network(INPUTS).square().sum().backward()
        optimizer.step()


def data(sparse, dense):
    for network in (sparse, dense):
        for parameter in network.parameters():
            parameter.data = torch.full_like(parameter, 0.5)


def double(sparse, dense):
    load(sparse, dense)
    sparse.double(), dense.double()


def half(sparse, dense):
    load(sparse, dense)
    sparse.bfloat16(), dense.bfloat16()


def small(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 4, bias=False))


INPUTS = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
STATE = small(5).state_dict()
SPARSE_STATE = with_sparse_layers(small(5)).state_dict()


@pytest.mark.parametrize("change", [load, assign, mask, step, data, double, half])
def test_a_sparse_layer_follows_its_weight(change):
    sparse, dense = with_sparse_layers(small(0)), small(0)
    if change in (load, assign, double, half):
        dense = small(1)
    with torch.no_grad():
        sparse(INPUTS)
        change(sparse, dense)
        inputs = INPUTS.to(dense[0].weight.dtype)
        torch.testing.assert_close(sparse(inputs), dense(inputs))
        twin = copy.deepcopy(sparse)
        twin[0].layer.weight.zero_()
        assert not torch.equal(twin(inputs), sparse(inputs))


def test_the_rows_are_made_once_while_nothing_changes():
    layer = SparseLayer(thinned(nn.Linear(4, 3), 0.5))
    matrix = layer.matrix
    assert layer.matrix is matrix
    with torch.no_grad():
        layer.layer.weight.add_(0)
    assert layer.matrix is not matrix


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_a_sparse_layer_of_any_type_answers_as_the_dense_one(dtype, bias):
    kind = getattr(torch, dtype)
    for layer, shape in (
        (nn.Linear(6, 4, bias), (3, 6)),
        (nn.Conv2d(2, 3, 2), (2, 5, 5)),
    ):
        dense, inputs = layer.to(kind), torch.randn(shape).to(kind)
        with torch.no_grad():
            torch.testing.assert_close(with_sparse_layers(dense)(inputs), dense(inputs))


def test_gradients_reach_the_weight_of_a_sparse_layer():
    dense = small(0)
    sparse = with_sparse_layers(dense)
    for network in (dense, sparse):
        network(INPUTS).square().sum().backward()
    for one, other in zip(dense.parameters(), sparse.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.filterwarnings("ignore:Initializing zero-element:UserWarning")
def test_an_empty_layer_stays_empty():
    sparse = with_sparse_layers(nn.Sequential(nn.Linear(4, 0), nn.Linear(0, 3)))
    with torch.no_grad():
        assert torch.equal(sparse(torch.ones(2, 4)), sparse[1].bias.expand(2, 3))


def test_tied_weights_stay_tied_and_are_stored_once():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    sparse = with_sparse_layers(network)
    assert sparse[0].layer.weight is sparse[1].layer.weight
    state = csr_state(network)
    assert state["0.weight.values"] is state["1.weight.values"]
    assert "1.weight" not in state
    twice = nn.Sequential(network[0], network[0])
    assert len({id(module) for module in with_sparse_layers(twice)}) == 1


def test_what_would_be_lost_is_refused(unchanged):
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    prune.l1_unstructured(network[1], "weight", 0.5)
    check = unchanged(network)
    for work in (with_sparse_layers, csr_state):
        with pytest.raises(ValueError, match=r"1\.weight is computed.*prune\.remove"):
            work(network)
    check()
    with pytest.raises(ValueError, match="cannot skip zeros"):
        SparseLayer(nn.Conv2d(2, 2, 3, groups=2))
    hooked = nn.Linear(4, 4)
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert isinstance(with_sparse_layers(nn.Sequential(hooked))[0], nn.Linear)
