"""What a network costs: counts against brute force and published figures, times as
ratios, energy by hand."""

import gc
import re
import time
import zlib

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from utils import baselines, measure, models
from utils.masks import apply_masks, magnitude_masks
from utils.measure import (
    Race,
    SparseLayer,
    csr_state,
    energy_estimate,
    latency,
    layer_macs,
    macs,
    measured_energy,
    with_sparse_layers,
)
from utils.torchvision_repair import import_torchvision

PICTURE = torch.zeros(1, 1, 28, 28)


# ------------------------------------------------------------------------------ counted


def test_parameters_nonzeros_and_sparsity():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0, 0, 0]] * 3))
        model[0].bias.copy_(torch.tensor([0.0, 1, 2]))
    assert measure.parameters(model) == 12 + 3 + 6
    assert measure.nonzeros(model) == 3 + 2 + 3  # BatchNorm's bias starts at zero
    assert measure.sparsity(model) == 0.75


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_macs_equal_torchvisions_published_figures(name):
    torchvision = import_torchvision()
    get_model = torchvision.models.get_model
    get_model_weights = torchvision.models.get_model_weights

    published = get_model_weights(name).DEFAULT.meta
    with torch.device("meta"):
        model, picture = get_model(name), torch.zeros(1, 3, 224, 224)
    assert macs(model, picture) == pytest.approx(published["_ops"] * 1e9, rel=1e-3)
    assert measure.parameters(model) == published["num_params"]


def count_by_touching(
    model: nn.Module, layer: nn.Module, example: torch.Tensor, only_nonzero: bool
) -> int:
    """Multiplications one by one: with ones for weights and inputs and no padding, an
    output counts its products."""
    caught = []
    handle = layer.register_forward_hook(
        lambda module, inputs, output: caught.append(inputs[0])
    )
    with torch.no_grad():
        model.eval()(example)
    handle.remove()
    alone = type(layer)(**arguments(layer))
    weight = (
        (layer.weight != 0).float() if only_nonzero else torch.ones_like(layer.weight)
    )
    with torch.no_grad():
        alone.weight.copy_(weight)
        return int(alone(torch.ones_like(caught[0][:1])).sum())


def arguments(layer):
    if isinstance(layer, nn.Linear):
        return dict(
            in_features=layer.in_features, out_features=layer.out_features, bias=False
        )
    return dict(
        in_channels=layer.in_channels,
        out_channels=layer.out_channels,
        kernel_size=layer.kernel_size,
        stride=layer.stride,
        groups=layer.groups,
        bias=False,
    )


@pytest.mark.parametrize("only_nonzero", [False, True])
def test_macs_against_brute_force(cnn, only_nonzero):
    apply_masks(cnn, magnitude_masks(cnn, 0.6))
    layers = {
        name: module for name, module in cnn.named_modules() if name in ("0", "3", "7")
    }
    wanted = sum(
        count_by_touching(cnn, layer, PICTURE, only_nonzero)
        for layer in layers.values()
    )
    assert macs(cnn, PICTURE, nonzero=only_nonzero) == wanted


def test_macs_by_hand():
    assert macs(models.lenet300(), PICTURE) == 784 * 300 + 300 * 100 + 100 * 10
    padded = nn.Conv2d(3, 8, 3, padding=1, stride=2)  # [1, 3, 8, 8] -> [1, 8, 4, 4]
    assert layer_macs(padded, torch.zeros(1, 3, 8, 8)) == {"": 4 * 4 * 8 * 3 * 9}
    assert macs(padded, torch.zeros(1, 3, 8, 8), nonzero=True) == 4 * 4 * 8 * 3 * 9
    assert layer_macs(nn.Linear(5, 7), torch.zeros(1, 11, 5)) == {"": 11 * 5 * 7}


def test_macs_are_for_one_input_whatever_the_batch(cnn):
    assert layer_macs(cnn, PICTURE.expand(5, -1, -1, -1)) == layer_macs(cnn, PICTURE)


def test_a_layer_used_twice_counts_twice():
    layer = nn.Linear(4, 4)
    assert macs(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(1, 4)) == 32


def test_counting_leaves_the_model_as_it_was(cnn, unchanged):
    cnn.train()
    cnn[1].eval()
    check = unchanged(cnn)
    macs(cnn, PICTURE, nonzero=True)
    energy_estimate(cnn, PICTURE)
    csr_state(cnn)
    measure.file_bytes(cnn)
    check()
    with pytest.raises(RuntimeError, match="channels"):
        macs(cnn, torch.zeros(1, 3, 28, 28))
    check()


@pytest.mark.parametrize("count", [macs, layer_macs, energy_estimate])
def test_a_model_with_no_layer_to_count_is_refused(count):
    with pytest.raises(ValueError, match=r"ReLU.*nothing to prune"):
        count(nn.ReLU(), PICTURE)


# -------------------------------------------------------------------------------- bytes


def test_file_bytes_equal_a_real_file(cnn, tmp_path):
    cnn.to(memory_format=torch.channels_last)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in cnn.state_dict().items()}, path
    )
    assert (
        measure.file_bytes(cnn)
        == path.stat().st_size
        == measure.file_bytes(cnn.state_dict())
    )
    assert measure.zipped_bytes(cnn) == len(zlib.compress(path.read_bytes()))
    assert measure.zipped_bytes(cnn, 9) == len(zlib.compress(path.read_bytes(), 9))


def test_zeros_do_not_shrink_the_file_but_the_zipped_and_the_csr_one():
    dense, pruned = baselines.build("lenet300"), baselines.build("lenet300")
    apply_masks(pruned, magnitude_masks(pruned, 0.95))
    assert measure.file_bytes(pruned) == measure.file_bytes(dense)
    assert measure.zipped_bytes(pruned) < 0.2 * measure.zipped_bytes(dense)
    assert measure.file_bytes(csr_state(pruned)) < 0.2 * measure.file_bytes(dense)
    assert measure.file_bytes(csr_state(dense)) > 1.9 * measure.file_bytes(dense)


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


# ------------------------------------------------------------------------------ latency


def sleeper(seconds):
    return lambda inputs: time.sleep(seconds)


def test_three_times_the_work_is_a_third_of_the_speed():
    got = latency(
        {"quick": sleeper(0.004), "slow": sleeper(0.012), "double": sleeper(0.008)},
        PICTURE,
        rounds=7,
    )
    assert list(got) == ["quick", "slow", "double"]
    assert got["quick"].speedup == 1 and got["quick"].speedup_quartiles == (1, 1)
    assert 0.22 < got["slow"].speedup < 0.5
    assert 0.35 < got["double"].speedup < 0.75
    assert 0.012 <= got["slow"].median < 0.1
    for timing in got.values():
        assert timing.quartiles[0] <= timing.median <= timing.quartiles[1]
        assert (
            timing.speedup_quartiles[0] <= timing.speedup <= timing.speedup_quartiles[1]
        )
        assert (timing.batch, timing.threads) == (1, 1)


def test_models_take_turns_after_a_warm_up():
    calls = []
    named = {
        name: lambda inputs, name=name: (calls.append(name), time.sleep(0.002))
        for name in "abc"
    }
    latency(named, PICTURE, rounds=4, shortest=1e-3)
    assert "".join(calls[-12:]) == "abccbaabccba"  # nobody always comes first
    assert len(calls) > 12


def test_a_fast_model_is_called_often_enough():
    calls = []
    latency({"fast": calls.append}, PICTURE, rounds=3, shortest=1e-3)
    assert len(calls) > 300


def test_medians_and_quartiles_by_hand():
    timing = measure._timing(
        "x", [2.0, 4.0, 8.0, 1.0, 2.0], [4.0, 4.0, 4.0, 4.0, 4.0], batch=8, threads=2
    )
    assert (timing.median, timing.quartiles) == (2.0, (2.0, 4.0))
    assert (timing.speedup, timing.speedup_quartiles) == (2.0, (1.0, 2.0))
    assert measure._timing("x", [2.0], [4.0], 1, 1).quartiles == (2.0, 2.0)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9), st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_the_relative_time_is_the_inverse_of_the_speedup(seconds, first):
    timing = measure._timing("x", seconds, [first] * len(seconds), 1, 1)
    assert timing.relative * timing.speedup == pytest.approx(1)
    low, high = timing.relative_quartiles
    assert low <= timing.relative * (1 + 1e-9) and timing.relative <= high * (1 + 1e-9)
    if len(seconds) % 4 == 1:  # the quartiles are then values of the list
        ordered = sorted(seconds)
        quarter = len(seconds) // 4
        assert timing.relative == pytest.approx(ordered[2 * quarter] / first)
        assert (low, high) == pytest.approx(
            (ordered[quarter] / first, ordered[3 * quarter] / first)
        )


def test_a_race_is_run_a_round_at_a_time():
    race = Race({"quick": sleeper(0.002), "slow": sleeper(0.006)}, torch.zeros(3, 4))
    assert race.rounds == 0
    for rounds in range(1, 6):
        race.round()
        assert race.rounds == rounds
    got = race.timings()
    assert list(got) == ["quick", "slow"] and got["quick"].relative == 1
    assert 2 < got["slow"].relative < 4.5
    assert (got["slow"].batch, got["slow"].threads) == (3, 1)
    race.round()
    assert race.rounds == 6 and race.timings()["slow"].relative == pytest.approx(
        got["slow"].relative, rel=0.5
    )


def test_in_a_race_nobody_always_comes_first():
    calls = []
    named = {
        name: lambda inputs, name=name: (calls.append(name), time.sleep(0.002))
        for name in "abc"
    }
    race = Race(named, PICTURE, shortest=1e-3)
    calls.clear()
    for _ in range(3):
        race.round()
    assert "".join(calls) == "abccbaabc"


def test_between_two_rounds_everything_is_as_it_was(cnn, unchanged):
    threads = torch.get_num_threads()
    cnn.train()
    same = unchanged(cnn)
    seen = []
    race = Race(
        {"a": cnn, "b": lambda inputs: seen.append(torch.get_num_threads())},
        PICTURE,
        threads=threads + 1,
    )
    for _ in range(3):
        same()
        assert (
            torch.get_num_threads() == threads
            and gc.isenabled()
            and torch.is_grad_enabled()
        )
        race.round()
    assert set(seen) == {threads + 1}


@pytest.mark.parametrize(
    ("models_raced", "threads", "words"),
    [({}, 1, "needs a model"), ({"a": sleeper(0)}, 0, "threads=0")],
)
def test_a_race_that_cannot_be_is_refused(models_raced, threads, words):
    with pytest.raises(ValueError, match=words):
        Race(models_raced, PICTURE, threads=threads)


def test_what_a_timing_says():
    timing = measure.Timing("dense", 1.5e-3, (1.4e-3, 1.7e-3), 2.0, (1.9, 2.1), 256, 2)
    assert (
        str(timing)
        == "dense: 1,500 us (quartiles 1,400-1,700), 2.00x the first (batch 256, 2"
        " threads)"
    )


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("collecting", [True, False])
def test_threads_modes_gradients_and_garbage_collection_are_restored(
    cnn, unchanged, fails, collecting
):
    seen = []

    def probe(inputs):
        seen.append(
            (
                torch.get_num_threads(),
                gc.isenabled(),
                torch.is_grad_enabled(),
                cnn.training,
            )
        )
        if fails:
            raise KeyError("a broken model")

    threads = torch.get_num_threads()
    cnn.train()
    cnn[1].eval()
    check = unchanged(cnn)
    (gc.enable if collecting else gc.disable)()
    try:
        if fails:
            with pytest.raises(KeyError, match="broken"):
                latency(
                    {"network": cnn, "probe": probe},
                    PICTURE,
                    threads=threads + 1,
                    rounds=2,
                )
        else:
            latency(
                {"network": cnn, "probe": probe}, PICTURE, threads=threads + 1, rounds=2
            )
        assert gc.isenabled() == collecting
    finally:
        gc.enable()
    assert set(seen) == {(threads + 1, False, False, False)}
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    check()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(models={}), "model"),
        (dict(rounds=0), "rounds=0"),
        (dict(threads=0), "threads=0"),
        (dict(threads=-1), "threads=-1"),
    ],
)
def test_a_run_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        latency(**({"models": {"a": sleeper(0)}, "inputs": PICTURE} | arguments))


# ------------------------------------------------------------------------------- energy


def test_energy_estimate_by_hand():
    """A linear layer 4 -> 3, half of it zero, two pictures; Horowitz 2014 in
    picojoules."""
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2, 0, 0]] * 3))
    dense = energy_estimate(model, torch.zeros(2, 4))
    assert dense.arithmetic == pytest.approx(2 * 12 * 4.6e-12)
    assert dense.weights == pytest.approx(12 * 4 * 162.5e-12)
    assert dense.activations == pytest.approx(2 * 4 * (8 + 6) * 12.5e-12)
    assert dense.total == pytest.approx(
        dense.arithmetic + dense.weights + dense.activations
    )
    skipping = energy_estimate(model, torch.zeros(2, 4), skip_zeros=True)
    assert skipping.arithmetic == pytest.approx(dense.arithmetic / 2)
    # value and index: no gain at one half
    assert skipping.weights == pytest.approx(6 * 8 * 162.5e-12)
    assert skipping.activations == dense.activations


def test_energy_of_a_convolution_counts_its_positions():
    model = nn.Conv2d(1, 2, 3, bias=False)  # [1, 1, 4, 4] -> [1, 2, 2, 2]
    got = energy_estimate(model, torch.zeros(3, 1, 4, 4))
    assert got.arithmetic == pytest.approx(3 * 4 * 18 * 4.6e-12)
    assert got.activations == pytest.approx(2 * 4 * 3 * (16 + 8) * 12.5e-12)


def test_storing_zeros_is_never_dearer_than_needed():
    model = nn.Linear(4, 3)
    assert energy_estimate(
        model, torch.zeros(1, 4), skip_zeros=True
    ).weights == pytest.approx(12 * 4 * 162.5e-12)


def test_the_estimate_says_that_it_is_one_and_where_it_comes_from():
    text = str(energy_estimate(baselines.build("lenet300"), PICTURE))
    assert re.match(r"estimate: [\d,]+ uJ a batch", text)
    assert "Horowitz 2014" in text


def counter(folder, zone, name, energy, largest=1000):
    """One energy counter as Linux shows it: zones and their parts lie side by side in
    the class folder."""
    place = folder / zone
    place.mkdir()
    (place / "name").write_text(f"{name}\n")
    (place / "max_energy_range_uj").write_text(f"{largest}\n")
    (place / "energy_uj").write_text(f"{energy}\n")
    return place / "energy_uj"


def test_energy_is_the_sum_over_the_processors(tmp_path):
    first = counter(tmp_path, "intel-rapl:0", "package-0", 100)
    second = counter(tmp_path, "intel-rapl:1", "package-1", 500)

    def work():
        first.write_text("150")
        second.write_text("700")

    assert measured_energy(work, tmp_path) == pytest.approx(250e-6)


def test_a_counter_that_ran_over_is_understood(tmp_path):
    package = counter(tmp_path, "intel-rapl:0", "package-0", 900, largest=1000)
    assert measured_energy(lambda: package.write_text("50"), tmp_path) == pytest.approx(
        150e-6
    )


def test_parts_of_a_processor_are_not_counted_again(tmp_path):
    """The cores' counter is part of the package's; psys holds the package and the rest
    of the machine."""
    places = [
        counter(tmp_path, "intel-rapl:0", "package-0", 0),
        counter(tmp_path, "intel-rapl:0:0", "core", 0),
        counter(tmp_path, "intel-rapl:0:1", "uncore", 0),
        counter(tmp_path, "intel-rapl:1", "psys", 0),
    ]
    assert measured_energy(
        lambda: [place.write_text("100") for place in places], tmp_path
    ) == pytest.approx(100e-6)


def test_where_nothing_can_be_read_the_work_is_done_all_the_same(tmp_path):
    done = []
    assert measured_energy(lambda: done.append(1), tmp_path / "none") is None
    counter(tmp_path, "intel-rapl:0", "package-0", "no number")
    assert measured_energy(lambda: done.append(2), tmp_path) is None
    assert done == [1, 2]


def test_a_counter_that_this_user_may_not_read_is_passed_over(tmp_path, monkeypatch):
    refused = counter(tmp_path, "intel-rapl:0", "package-0", 1)
    readable = counter(tmp_path, "intel-rapl:1", "package-1", 1)
    read = measure.Path.read_text

    def read_text(path, *arguments, **options):
        if path == refused:
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **options)

    monkeypatch.setattr(measure.Path, "read_text", read_text)
    assert measure.energy_counters(tmp_path) == [readable]
