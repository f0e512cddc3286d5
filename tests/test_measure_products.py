"""What a network multiplies, whoever asks for it: closed formulas, PyTorch's own
counter, and refusals by name."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import orthogonal, weight_norm
from torch.utils.flop_counter import FlopCounterMode

from tests.strategies import PICTURES, Net, networks
from utils.measure import energy_estimate, layer_macs, macs, with_sparse_layers
from utils.torchvision_repair import import_torchvision

quickly = settings(max_examples=40, deadline=None)
SIZE = st.integers(1, 5)


@settings(max_examples=15, deadline=None)
@given(networks())
def test_the_count_is_that_of_pytorchs_counter(network):
    one = PICTURES[:1]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(one)
    assert macs(network, PICTURES) == macs(network, one)
    assert 2 * macs(network, one) == counter.get_total_flops()


@quickly
@given(st.sampled_from(["LSTM", "GRU", "RNN"]), SIZE, SIZE, SIZE, SIZE, st.booleans())
def test_recurrent_layers(kind, inputs, units, time, layers, both):
    """Each gate of each direction multiplies its input and its state once a step."""
    gates, ways = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 1 + both
    widths = [inputs] + [ways * units] * (layers - 1)
    wanted = time * ways * sum(gates * units * (width + units) for width in widths)
    options = dict(num_layers=layers, bidirectional=both)
    layer = getattr(nn, kind)(inputs, units, batch_first=True, **options)
    assert macs(layer, torch.randn(1, time, inputs)) == wanted
    assert macs(layer, torch.randn(2, time, inputs)) == wanted
    assert macs(layer, torch.randn(1, time, inputs), nonzero=True) == wanted
    time_first = getattr(nn, kind)(inputs, units, **options)
    assert macs(time_first, torch.randn(time, 1, inputs)) == wanted
    if time not in (1, 3):  # [1, ...] is one input whatever it is
        assert macs(time_first, torch.randn(time, 3, inputs)) == wanted


def transformer(width: int, heads: int, inner: int, tokens: int) -> int:
    return tokens * (4 * width**2 + 2 * width * inner) + 2 * tokens**2 * width


@quickly
@given(SIZE, st.sampled_from([1, 2]), SIZE, st.integers(1, 7))
def test_attention(half, heads, inner, tokens):
    layer = nn.TransformerEncoderLayer(2 * half, heads, inner, batch_first=True)
    wanted = transformer(2 * half, heads, inner, tokens)
    assert macs(layer, torch.randn(1, tokens, 2 * half)) == wanted
    assert macs(layer, torch.randn(3, tokens, 2 * half)) == wanted
    first = nn.TransformerEncoderLayer(2 * half, heads, inner)
    assert macs(first, torch.randn(tokens, 1, 2 * half)) == wanted


def test_layers_of_an_attention_by_name():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert layer_macs(layer, torch.randn(1, 5, 8)) == {
        "self_attn": 5 * (8 * 24 + 8 * 8) + 2 * 5 * 5 * 8,
        "linear1": 5 * 8 * 16,
        "linear2": 5 * 8 * 16,
    }
    with torch.no_grad():  # only what has a weight can be skipped
        layer.self_attn.out_proj.weight.zero_()
    assert macs(layer, torch.randn(1, 5, 8), nonzero=True) == 2960 - 5 * 8 * 8


def test_a_vision_transformer_as_published():
    torchvision = import_torchvision()
    weights = torchvision.models.get_model_weights("vit_b_16").DEFAULT
    published = 1e9 * weights.meta["_ops"]
    with torch.device("meta"):
        model = torchvision.models.get_model("vit_b_16")
        picture = torch.zeros(1, 3, 224, 224)
    tokens, width = 197, 768
    blocks = 12 * transformer(width, 12, 4 * width, tokens)
    wanted = blocks + 196 * 768 * 3 * 16**2 + 768 * 1000
    assert macs(model, picture) == wanted
    assert wanted == pytest.approx(published, rel=0.01)


@quickly
@given(SIZE, SIZE, st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2]))
def test_transposed_convolutions(inputs, outputs, kernel, stride, groups):
    """Each place of the input is multiplied by the whole kernel of its group."""
    layer = nn.ConvTranspose2d(
        inputs * groups, outputs * groups, kernel, stride, groups=groups
    )
    wanted = 4 * 3 * groups * inputs * outputs * kernel**2
    assert macs(layer, torch.randn(1, inputs * groups, 4, 3)) == wanted


FUNCTIONAL = {
    "F.linear": lambda s, x: F.linear(x, s.w),
    "@": lambda s, x: x @ s.w.T,
    "einsum": lambda s, x: torch.einsum("bi,oi->bo", x, s.w),
    "a vector": lambda s, x: s.w @ x[0],
    "a weight computed": lambda s, x: F.linear(x, s.w * 2),
    "a convolution": lambda s, x: F.conv1d(x[..., None], s.w[..., None]),
    "a copy each": lambda s, x: torch.bmm(x[None], s.w.T[None]),
    "added": lambda s, x: torch.addmm(x.sum(), x, s.w.T),
}


@pytest.mark.parametrize("how", FUNCTIONAL)
def test_a_product_counts_whoever_asks_for_it(how):
    weight = nn.Parameter(torch.tensor([[0.0, 1, 2], [0, 0, 3]]))
    network = Net(FUNCTIONAL[how], w=weight)
    assert layer_macs(network, torch.randn(1, 3)) == {"": 6}
    assert macs(network, torch.randn(1, 3), nonzero=True) == 3


def half_zero(width: int) -> nn.Linear:
    layer = nn.Linear(width, width)
    with torch.no_grad():
        layer.weight[:, : width // 2] = 0
    return layer


def torch_pruned() -> nn.Module:
    layer = nn.Linear(4, 4)
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


def tied() -> nn.Module:
    one, two = half_zero(4), nn.Linear(4, 4)
    two.weight = one.weight
    return nn.Sequential(one, two)


NONZERO = {  # all, and those whose weight is not zero
    "pruned with torch": (torch_pruned, 16, 8),
    "weight_norm": (lambda: weight_norm(half_zero(4)), 16, 8),
    "tied": (tied, 32, 16),
    "used twice": (lambda: nn.Sequential(*[half_zero(4)] * 2), 32, 16),
    "sparse": (lambda: with_sparse_layers(half_zero(4)), 8, 8),
    "half precision": (
        lambda: Net(lambda s, x: s.l(x.half()), l=half_zero(4).half()),
        16,
        8,
    ),
    "empty": (lambda: nn.Linear(4, 0), 0, 0),
    "scripted": (lambda: torch.jit.script(nn.Sequential(half_zero(4))), 16, 8),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Initializing zero-element:UserWarning")
@pytest.mark.parametrize("case", NONZERO)
def test_zeros_of_any_weight_are_seen(case):
    make, whole, kept = NONZERO[case]
    network: Any = make()
    example = torch.randn(1, 4)
    assert macs(network, example) == whole
    assert macs(network, example, nonzero=True) == kept


def test_a_compiled_network_that_has_run():
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    compiled, example = torch.compile(network, backend="eager"), torch.randn(1, 4)
    with torch.no_grad():
        compiled(example)
    assert macs(compiled, example) == 48


REFUSED = {
    "bilinear": (
        lambda: Net(lambda s, x: s.b(x, x), b=nn.Bilinear(4, 4, 2)),
        r"MACs of b \(Bilinear\).*_trilinear",
    ),
    "fft": (lambda: Net(lambda s, x: torch.fft.fft(x).real), r"model \(Net\).*_fft"),
    "distances": (lambda: Net(lambda s, x: torch.cdist(x, x)), "_cdist_forward"),
    "orthogonal": (lambda: orthogonal(nn.Linear(4, 4)), r"parametrizations.*linalg_"),
    "lazy": (lambda: nn.LazyLinear(4), "weight is not made yet"),
    "nothing": (nn.ReLU, "ReLU.*nothing to prune or to count"),
    "another shape": (lambda: nn.Linear(5, 4), r"cannot take example \[1, 4\]"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
@pytest.mark.parametrize("count", [macs, layer_macs, energy_estimate])
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_counted_is_refused_by_name(case, count):
    make, words = REFUSED[case]
    network = make()
    before = {name: type(p) for name, p in network.named_parameters()}
    hooks = [len(m._forward_pre_hooks) for m in network.modules()]
    fast = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    with pytest.raises(ValueError, match=words):
        count(network, torch.randn(1, 4))
    assert {name: type(p) for name, p in network.named_parameters()} == before
    assert [len(m._forward_pre_hooks) for m in network.modules()] == hooks
    assert not any(m._forward_hooks for m in network.modules())
    assert fast == (
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.mkldnn.enabled,
    )


EXAMPLES = {
    "no tensor": (nn.Linear(4, 4), None, "must be a tensor of one input"),
    "none": (nn.Linear(4, 4), torch.randn(0, 4), "must be a tensor of one input"),
    "a picture without a batch": (nn.Conv2d(3, 2, 1), torch.randn(3, 4, 4), "channels"),
    "a sequence without a batch": (nn.LSTM(4, 3), torch.randn(5, 4), "single input"),
    "rows that meet": (
        Net(lambda s, x: x @ x.T),
        torch.randn(3, 4),
        "is not 3 inputs: it takes 36 MACs, and the first of them alone 4",
    ),
    "rows that become time": (
        Net(lambda s, x: s.l(x.reshape(6, 1, 4)), l=nn.LSTM(4, 3)),
        torch.randn(3, 2, 4),
        r"l takes \[6, 1, 4\], so the 3 rows",
    ),
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_an_example_whose_rows_are_no_inputs_is_refused(case):
    network, example, words = EXAMPLES[case]
    with pytest.raises(ValueError, match=words):
        macs(network, example)


def test_a_weight_without_values_has_no_zeros_to_count():
    layer, example = nn.Linear(4, 4, device="meta"), torch.zeros(1, 4, device="meta")
    assert macs(layer, example) == 16
    with pytest.raises(ValueError, match="has no values"):
        macs(layer, example, nonzero=True)


def test_the_energy_is_that_of_what_runs():
    """A tied weight is read once, and multiplied by twice."""
    found = energy_estimate(tied(), torch.zeros(2, 4))
    assert found.arithmetic == pytest.approx(2 * 32 * 4.6e-12)
    assert found.weights == pytest.approx(16 * 4 * 162.5e-12)
    assert found.activations == pytest.approx(2 * 4 * 2 * 12 * 12.5e-12)
    recurrent = energy_estimate(nn.GRU(3, 4, batch_first=True), torch.zeros(1, 5, 3))
    assert recurrent.weights == pytest.approx(12 * (3 + 4) * 4 * 162.5e-12)


def test_counting_does_not_load_the_compiler():
    """It would take 0.8 s and 40 MB of each process that counts."""
    code = (
        "import sys, torch; from utils import measure;"
        "print(measure.macs(torch.nn.Linear(3, 2), torch.ones(1, 3)),"
        " 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["6", "False"]
