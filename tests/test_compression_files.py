"""Compressed files: what is saved comes back to the bit, and every byte is accounted
for."""

import copy
import math
import struct
import zlib
from unittest import mock

import numpy as np
import pytest
import torch
from compressed import Weights, entries_of, same, slow_decode, sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from utils import baselines
from utils.compression import (
    apply_shared,
    byte_bill,
    hold_shared,
    load_compressed,
    read_compressed,
    save_compressed,
    share_weights,
    stages,
    writing,
)
from utils.compression.format import DTYPES, PARTS, RAW, SHARED, SPARSE
from utils.compression.huffman import write_stream
from utils.masks import apply_masks, hold, magnitude_masks
from utils.training import Recipe, evaluate, fit

quickly = settings(deadline=None, max_examples=60)


NUMPY = ["<f4", "<f8", "<f2", None, "<i8", "<i4", "<i2", "i1", "u1", "?"]


def slow_fixed(data, width, count):
    bits = "".join(f"{byte:08b}" for byte in data)
    return [int(bits[i * width : (i + 1) * width] or "0", 2) for i in range(count)]


def slow_stream(table_width, table, data, alphabet, count):
    if not table_width:
        return slow_fixed(data, (alphabet - 1).bit_length() if alphabet else 0, count)
    lengths = slow_fixed(table, table_width, alphabet)
    if sum(map(bool, lengths)) == 1:
        return [lengths.index(1)] * count
    return slow_decode(data, lengths, count)


def slow_read(content: bytes) -> dict[str, np.ndarray]:
    """The file read as the module's docstring describes it, bit by bit, without a look
    at the code."""
    assert content[:8] == b"\x89PRUNED\x01"
    assert struct.unpack("<I", content[-4:])[0] == zlib.crc32(content[:-4])
    rest = list(content[8:-4])

    def take(count):
        taken, rest[:count] = bytes(rest[:count]), []
        assert len(taken) == count
        return taken

    def number():
        digit = take(1)[0]
        return digit if digit < 128 else digit - 128 + 128 * number()

    entries = []
    for _ in range(number()):
        name = take(number()).decode()
        dtype, kind, dims = take(3)
        shape = [number() for _ in range(dims)]
        entries.append(
            (name, dtype, kind, shape, [number() for _ in range([0, 0, 5, 8][kind])])
        )
    tensors = {}
    for name, dtype, kind, shape, numbers in entries:
        elements = math.prod(shape)
        if kind < 2:
            stored = np.dtype("<f2" if kind else NUMPY[dtype])
            tensors[name] = np.frombuffer(
                take(elements * stored.itemsize), stored
            ).reshape(shape)
            continue
        weights, symbols, width, table_width, size = numbers[:5]
        table = take(-(-(2**width) * table_width // 8))
        if kind == 3:
            entries_of_codebook, index_table_width, index_size = numbers[5:]
            index_table = take(-(-entries_of_codebook * index_table_width // 8))
        gaps = slow_stream(table_width, table, take(size), 2**width, symbols)
        values = struct.unpack(f"<{weights}f", take(4 * weights)) if kind == 2 else ()
        if kind == 3:
            codebook = struct.unpack(
                f"<{entries_of_codebook}f", take(4 * entries_of_codebook)
            )
            coded = slow_stream(
                index_table_width,
                index_table,
                take(index_size),
                entries_of_codebook,
                weights,
            )
            values = [codebook[index] for index in coded]
        dense, remaining = [], list(values)
        for gap in gaps:
            dense += [0.0] * gap + ([] if gap == 2**width - 1 else [remaining.pop(0)])
        assert not remaining and len(dense) <= elements
        tensors[name] = np.array(
            dense + [0.0] * (elements - len(dense)), dtype=np.float32
        ).reshape(shape)
    assert not rest
    return tensors


@st.composite
def weight_tensors(draw):
    """Sparse tensors of two or four dimensions: empty, dense, of one value, with long
    gaps, of one element."""
    shape = draw(
        st.one_of(
            st.tuples(*[st.integers(1, 30)] * 2), st.tuples(*[st.integers(1, 5)] * 4)
        )
    )
    if draw(st.integers(0, 9)) == 0:
        shape = (3, 3000)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    density = draw(st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 1.0]))
    levels = draw(st.sampled_from([0, 1, 2, 5, 1000]))
    values = (
        torch.randint(-levels, levels + 1, shape, generator=generator) / 8
        if levels
        else torch.full(shape, -0.3)
    )
    weight = values * (torch.rand(shape, generator=generator) < density)
    if draw(st.booleans()):
        weight.view(-1)[-1] = 1.75  # a weight in the last place, after a long gap
    return weight


@quickly
@given(st.lists(weight_tensors(), min_size=1, max_size=3), st.integers(1, 8))
def test_what_is_saved_comes_back_to_the_bit(tmp_path_factory, tensors, bits):
    path = tmp_path_factory.mktemp("compression") / "net"
    network = Weights(*tensors)
    shared = share_weights(network, bits)
    size = save_compressed(network, path, bits=bits)
    content = path.read_bytes()
    assert size == len(content)
    expected = copy.deepcopy(network)
    apply_shared(expected, shared)
    back = read_compressed(path)
    assert list(back) == list(network.state_dict()) and same(
        back, expected.state_dict()
    )
    blank = Weights(*(torch.full_like(tensor, float("nan")) for tensor in tensors))
    load_compressed(path, blank)
    assert same(blank.state_dict(), expected.state_dict())
    slow = slow_read(content)
    assert all(
        np.array_equal(slow[name], tensor.numpy()) for name, tensor in back.items()
    )
    bill = byte_bill(path)
    assert sum(sum(part.values()) for part in bill.values()) == size


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("density", [0.001, 0.01, 0.1, 0.3, 0.9, 1.0])
def test_the_width_of_gaps_is_the_best_one(density, seed):
    places = np.flatnonzero(sparse(40, 100, density=density, seed=seed))
    symbols, width = writing.gap_symbols(places, True)
    gaps = np.diff(places, prepend=-1) - 1

    def size(width):
        top = 2**width - 1
        slow = [s for gap in gaps for s in [top] * (gap // top) + [gap % top]]
        stream = write_stream(np.array(slow, dtype=np.uint8), 2**width)
        return len(stream.table) + len(stream.codes), slow

    sizes = {w: size(w)[0] for w in range(1, 9)}
    assert sizes[width] == min(sizes.values())
    assert symbols.tolist() == size(width)[1]


def test_each_kind_is_used_where_it_is_smallest(tmp_path):
    different = torch.rand(5, 40, generator=torch.Generator().manual_seed(0)) + 0.1
    network = Weights(
        sparse(60, 60),
        different,
        different * (sparse(5, 40, density=0.1) != 0),
        torch.zeros(9, 9),
    )
    save_compressed(network, tmp_path / "net", bits=8)
    kinds = [
        entry.kind
        for name, entry in entries_of(tmp_path / "net").items()
        if "weight" in name
    ]
    assert kinds == [SHARED, RAW, SPARSE, SPARSE]
    assert entries_of(tmp_path / "net")["layers.3.weight"].sizes == {
        "code tables": 0,
        "gaps": 0,
        "values": 0,
    }


def test_outputs_are_equal_after_load(cnn, batches, tmp_path):
    apply_masks(cnn, magnitude_masks(cnn, 0.6))
    fit_batchnorm = cnn(batches[0][0])  # moves the statistics away from 0 and 1
    assert fit_batchnorm.isfinite().all()
    cnn.eval()
    shared = share_weights(cnn, 3)
    save_compressed(cnn, tmp_path / "net", shared=shared)
    other = copy.deepcopy(cnn)
    for tensor in other.state_dict().values():
        tensor.fill_(7)
    load_compressed(tmp_path / "net", other)
    apply_shared(cnn, shared)
    assert torch.equal(other(batches[1][0]), cnn(batches[1][0]))
    assert other[1].num_batches_tracked == 1


def test_loading_changes_the_numbers_and_nothing_else(cnn, unchanged, tmp_path):
    save_compressed(cnn, tmp_path / "net", bits=8)
    cnn[0].weight.requires_grad_(False)
    load_compressed(tmp_path / "net", cnn)
    check = unchanged(cnn)
    load_compressed(tmp_path / "net", cnn)
    check()
    assert cnn.training and not cnn[0].weight.requires_grad


def test_saving_changes_nothing_in_the_model_and_makes_the_folder(
    cnn, unchanged, tmp_path
):
    check = unchanged(cnn)
    save_compressed(cnn, str(tmp_path / "new" / "net"))
    stages(cnn, 4)
    check()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["net"]
    load_compressed(str(tmp_path / "new" / "net"), cnn)


def test_other_tensors_in_half_precision(cnn, tmp_path):
    full = save_compressed(cnn, tmp_path / "full", bits=2)
    half = save_compressed(cnn, tmp_path / "half", bits=2, other="float16")
    shared = share_weights(cnn, 2)
    floats = [
        n
        for n, t in cnn.state_dict().items()
        if n not in shared and t.is_floating_point()
    ]
    assert full - half == 2 * sum(cnn.state_dict()[name].numel() for name in floats)
    a, b = read_compressed(tmp_path / "full"), read_compressed(tmp_path / "half")
    for name in a:
        assert b[name].dtype == a[name].dtype
        assert torch.equal(
            b[name], a[name].half().float() if name in floats else a[name]
        )
    assert same(
        {name: a[name] for name in floats},
        {name: cnn.state_dict()[name] for name in floats},
    )
    load_compressed(tmp_path / "half", cnn)
    cnn[1].running_var[0] = 70_000
    with pytest.raises(ValueError, match=r"1\.running_var.*too large for float16"):
        save_compressed(cnn, tmp_path / "half", other="float16")
    for bad in ("int8", None, torch.float16):
        with pytest.raises(ValueError, match=r"other=.*Known: float32, float16"):
            save_compressed(cnn, tmp_path / "x", other=bad)


def test_tensors_of_every_type_are_stored_as_they_are(tmp_path):
    network = Weights(sparse(4, 4))
    for number, dtype in enumerate(DTYPES):
        values = torch.tensor([[0.0, 1.0, 3.0]]) - (
            1.5 if dtype.is_floating_point else 0
        )
        network.register_buffer(f"buffer{number}", values.to(dtype))
    network.register_buffer("numbers", torch.tensor([-(2**63), 2**63 - 1]))
    network.register_buffer("odd", torch.tensor([float("nan"), float("inf"), -0.0]))
    network.register_buffer("none", torch.empty(0, 3))
    network.register_buffer("turned", torch.arange(6.0).view(2, 3).T)
    save_compressed(network, tmp_path / "net", bits=8)
    back = read_compressed(tmp_path / "net")
    for name, tensor in network.state_dict().items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape
        assert torch.equal(back[name].nan_to_num(), tensor.nan_to_num())
    assert (
        back["odd"].isnan().tolist() == [True, False, False]
        and back["odd"].signbit()[2]
    )


def test_a_layer_that_is_used_twice_comes_back_shared(tmp_path):
    layer = nn.Linear(20, 20)
    network = nn.Sequential(layer, nn.ReLU(), layer)
    shared = share_weights(network, 2)
    save_compressed(network, tmp_path / "net", shared=shared)
    load_compressed(tmp_path / "net", network)
    assert torch.equal(layer.weight, shared["0.weight"].dense())


@pytest.mark.parametrize("shape", [(6, 6), (6, 4)])
def test_weights_tied_by_transposition_keep_each_its_order(tmp_path, shape):
    """Square ones lie in one place and have one shape; only their strides differ."""
    encoder, decoder = (
        nn.Linear(*shape, bias=False),
        nn.Linear(*shape[::-1], bias=False),
    )
    decoder.weight = nn.Parameter(encoder.weight.detach().t())
    network = nn.Sequential(encoder, decoder)
    shared = share_weights(network, 8)
    save_compressed(network, tmp_path / "net", shared=shared)
    back = read_compressed(tmp_path / "net")
    assert torch.equal(back["0.weight"], encoder.weight) and torch.equal(
        back["1.weight"], encoder.weight.t()
    )
    load_compressed(tmp_path / "net", network)
    assert torch.equal(encoder.weight, back["0.weight"]) and torch.equal(
        decoder.weight, back["1.weight"]
    )


def test_a_buffer_that_reads_a_weight_as_whole_numbers_is_no_weight(tmp_path):
    network = Weights(sparse(4, 4))
    network.register_buffer("bits", network.layers[0].weight.detach().view(torch.int32))
    save_compressed(network, tmp_path / "net", bits=1)
    assert torch.equal(read_compressed(tmp_path / "net")["bits"], network.bits)


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"a": 1}

    def set_extra_state(self, state):
        pass


def expanded() -> nn.Module:
    network = Weights(sparse(4, 4))
    network.register_buffer("wide", torch.ones(1).expand(5))
    return network


UNFIT = {
    "extra state": (lambda: Extra(4, 4), r"_extra_state \(dict\)"),
    "lazy": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(3)),
        r"1\.weight \(UninitializedParameter\)",
    ),
    "meta": (
        lambda: nn.Linear(4, 4, device="meta"),
        r"weight \(torch\.float32, meta\)",
    ),
    "expanded": (expanded, "wide is expanded.*clone it"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_model_that_cannot_be_filled_is_named_before_anything_is_changed(
    case, tmp_path
):
    make, words = UNFIT[case]
    save_compressed(expanded(), tmp_path / "net")  # an expanded buffer can be stored
    assert torch.equal(read_compressed(tmp_path / "net")["wide"], torch.ones(5))
    network = make()
    ready = [
        p for p in network.parameters() if not nn.parameter.is_lazy(p) and not p.is_meta
    ]
    for parameter in ready:
        nn.init.constant_(parameter, 3)
    with pytest.raises(ValueError, match=words):
        load_compressed(tmp_path / "net", network)
    assert all((parameter == 3).all() for parameter in ready)
    if case != "expanded":
        with pytest.raises(ValueError, match=words):
            save_compressed(network, tmp_path / "other")
        assert not (tmp_path / "other").exists()


def test_tensors_that_cannot_be_stored(tmp_path):
    complex_one, long_name, deep = (Weights(sparse(4, 4)) for _ in range(3))
    complex_one.register_buffer("wave", torch.zeros(3, dtype=torch.complex64))
    long_name.register_buffer("n" * 1001, torch.zeros(3))
    deep.register_buffer("deep", torch.zeros([1] * 17))
    for network, words in (
        (complex_one, "wave.*complex64"),
        (long_name, "longer than 1000"),
        (deep, "deep.*cannot"),
    ):
        with pytest.raises(ValueError, match=words):
            save_compressed(network, tmp_path / "net")
    with (
        mock.patch.object(writing, "MAX_TENSORS", 2),
        pytest.raises(ValueError, match="3 tensors; a file holds at most 2"),
    ):
        save_compressed(Weights(sparse(4, 4)), tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_shared_values_must_have_the_zeros_of_the_model(cnn, tmp_path):
    apply_masks(cnn, magnitude_masks(cnn, 0.5))
    shared = share_weights(cnn, 3)
    apply_masks(cnn, magnitude_masks(cnn, 0.6))
    with pytest.raises(ValueError, match=r"other zeros in .*make it anew"):
        save_compressed(cnn, tmp_path / "net", shared=shared)
    shared = share_weights(cnn, 3)
    cnn[7].weight.data[cnn[7].weight == 0] = 0.1
    with pytest.raises(ValueError, match=r"other zeros in 7\.weight"):
        stages(cnn, shared=shared)


def test_a_shared_value_may_be_zero(tmp_path):
    network = Weights(torch.tensor([[-1.0, 1.0, 0.0, 50.0, 49.0]]))
    shared = share_weights(network, 1)
    assert shared["layers.0.weight"].codebook.tolist() == [0.0, 49.5]
    for _ in range(2):
        save_compressed(network, tmp_path / "net", shared=shared)
        assert read_compressed(tmp_path / "net")["layers.0.weight"].tolist() == [
            [0.0, 0.0, 0.0, 49.5, 49.5]
        ]
        apply_shared(network, shared)


# ----------------------------------------------------------------- every byte accounted


def test_the_bill_names_every_part_of_every_tensor(cnn, tmp_path):
    apply_masks(cnn, magnitude_masks(cnn, 0.3))
    size = save_compressed(cnn, tmp_path / "net", bits=2)
    bill = byte_bill(tmp_path / "net")
    assert (
        tuple(bill) == PARTS
        and sum(sum(part.values()) for part in bill.values()) == size
    )
    names = list(cnn.state_dict())
    assert list(bill["header"]) == [*names, "file"] and bill["header"]["file"] == 9
    assert bill["checksum"] == {"file": 4}
    assert (
        bill["raw"]["1.running_mean"] == 16
        and bill["raw"]["1.num_batches_tracked"] == 8
    )
    coded = [
        name
        for name, entry in entries_of(tmp_path / "net").items()
        if entry.kind == SHARED
    ]
    assert coded and all(bill["codebooks"][name] == 16 for name in coded)
    assert list(bill["gaps"]) == list(bill["indices"]) == coded and bill["values"] == {}
    assert bill["header"]["1.bias"] == 1 + 6 + 3 + 1


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_stages_never_grow_and_are_files(density, bits, tmp_path):
    network = Weights(
        sparse(50, 60, density=density), sparse(4, 4, 3, 3, density=density)
    )
    got = stages(network, bits)
    assert list(got) == ["dense", "pruned", "shared", "huffman"]
    assert list(got.values()) == sorted(got.values(), reverse=True)
    assert got["huffman"] == save_compressed(network, tmp_path / "net", bits=bits)
    shared = share_weights(network, bits)
    assert stages(network, shared=shared) == got
    expected = copy.deepcopy(network)
    for stage, kinds, each, huffman_too in (
        ("dense", (RAW,), None, True),
        ("pruned", (RAW, SPARSE), None, False),
        ("shared", (RAW, SPARSE, SHARED), shared, False),
    ):
        if each is not None:
            apply_shared(expected, each)
        path = tmp_path / stage
        path.write_bytes(
            writing.content(network, each, "float32", kinds=kinds, huffman=huffman_too)
        )
        assert path.stat().st_size == got[stage] and same(
            read_compressed(path), expected.state_dict()
        )


def test_stages_by_hand():
    """60 weights in 600 places, each after 9 zeros: 4 bits a gap; 4 values: 2 bits;
    each value equally often."""
    weight = torch.zeros(20, 30)
    weight.view(-1)[9::10] = torch.tensor([1.0, 2.0, 3.0, 4.0]).repeat(15)
    got = stages(Weights(weight), 2)
    head = (
        9
        + (1 + len("layers.0.weight") + 3 + 2)
        + (1 + len("bias") + 3 + 1)
        + (1 + len("steps") + 3)
        + 12
        + 8
        + 4
    )
    assert got["dense"] == head + 2400
    assert got["pruned"] == head + 5 + 60 * 4 + 30
    assert got["shared"] == head + 8 + 16 + 30 + 15
    # the gaps, all alike, cost 16 code lengths of one bit and no code
    assert got["huffman"] == head + 8 + 16 + 2 + 15


# ----------------------------------------------------------------------------- for real


@pytest.fixture(scope="module")
def pruned(course_data):
    """The shipped LeNet-300-100, 90% of its weights pruned, fine-tuned for a moment."""
    network = baselines.baseline("lenet300")
    zero_again = hold(network, magnitude_masks(network, 0.9))
    fit(
        network,
        course_data.train[:20_000],
        Recipe(epochs=1),
        after_step=zero_again,
        progress=False,
    )
    return network


def test_lenet_is_30_times_smaller_and_as_accurate(pruned, course_data, tmp_path):
    size = save_compressed(pruned, tmp_path / "net", bits=4)
    got = stages(pruned, 4)
    assert 4 * sum(p.numel() for p in pruned.parameters()) / size > 30
    assert (
        got["huffman"] == size
        and got["dense"] > 8 * got["pruned"]
        and got["pruned"] > 3.5 * got["shared"]
    )
    other = baselines.build("lenet300", seed=1)
    load_compressed(tmp_path / "net", other)
    assert (
        abs(
            evaluate(other, course_data.validation)
            - evaluate(pruned, course_data.validation)
        )
        < 0.01
    )
    shared = share_weights(pruned, 4)
    expected = copy.deepcopy(pruned)
    apply_shared(expected, shared)
    assert same(other.state_dict(), expected.state_dict())


def test_fine_tuning_the_values_wins_accuracy_back(pruned, course_data, tmp_path):
    network = copy.deepcopy(pruned)
    shared = share_weights(network, 2)
    share_again = hold_shared(network, shared)
    before = evaluate(network, course_data.validation)
    recipe = Recipe(epochs=1, learning_rate=0.03)
    fit(
        network,
        course_data.train[:20_000],
        recipe,
        after_step=share_again,
        progress=False,
    )
    after = evaluate(network, course_data.validation)
    assert after > before + 0.02
    save_compressed(network, tmp_path / "net", shared=shared)
    other = baselines.build("lenet300", seed=1)
    load_compressed(tmp_path / "net", other)
    assert evaluate(other, course_data.validation) == after
