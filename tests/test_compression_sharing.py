"""Shared weights: k-means as it should be, and values that stay shared while they are
trained."""

import copy
import itertools
import math

import pytest
import torch
from compressed import Weights, same, sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from utils.compression import (
    SharedWeight,
    apply_shared,
    hold_shared,
    load_compressed,
    read_compressed,
    save_compressed,
    share_weights,
    stages,
)
from utils.masks import apply_masks, magnitude_masks
from utils.training import Recipe, fit

quickly = settings(deadline=None, max_examples=60)


def one(model: nn.Module, *arguments, **options) -> SharedWeight:
    return share_weights(model, *arguments, **options)["layers.0.weight"]


def error(weight: torch.Tensor, each: SharedWeight) -> float:
    """The objective of k-means (Han et al. 2016, eq. 2), in double precision."""
    return float((weight.double() - each.dense().double()).square().sum())


def slow_lloyd(values: list[float], most: int, iterations: int) -> list[float]:
    """Every value looks at every centroid; centroids that nobody takes stay where they
    are, and are left out last."""
    low, high = min(values), max(values)
    centroids = [low + (high - low) * i / (most - 1) for i in range(most)]

    def nearest(value: float) -> int:
        return min(range(most), key=lambda i: abs(value - centroids[i]))

    for _ in range(iterations):
        members = [[] for _ in range(most)]
        for value in values:
            members[nearest(value)].append(value)
        centroids = [
            math.fsum(m) / len(m) if m else old
            for m, old in zip(members, centroids, strict=True)
        ]
    return [centroids[i] for i in sorted({nearest(value) for value in values})]


@pytest.mark.parametrize("bits", [1, 2, 3, 5])
@pytest.mark.parametrize("iterations", [0, 1, 2, 7, 300])
def test_shared_values_equal_a_slow_lloyd(bits, iterations):
    weight = sparse(30, 20, seed=bits)
    values = weight[weight != 0].tolist()
    expected = slow_lloyd(values, 2**bits, min(iterations, 60))
    each = one(Weights(weight), bits, iterations=iterations)
    assert torch.allclose(each.codebook, torch.tensor(expected), rtol=1e-6, atol=0)
    nearest = (weight[..., None] - each.codebook).abs().argmin(-1) + 1
    assert torch.equal(each.indices.long(), nearest * (weight != 0))


@quickly
@given(
    st.integers(0, 2**32),
    st.integers(1, 8),
    st.sampled_from([1, 3, 100, 10**6]),
    st.floats(0.05, 1),
)
def test_k_means_is_monotone_and_no_worse_than_evenly_spread_values(
    seed, bits, levels, density
):
    weight = (sparse(12, 17, density=density, seed=seed) * levels).round() / levels
    network = Weights(weight)
    errors = [
        error(weight, one(network, bits, iterations=n))
        for n in (0, 1, 2, 3, 5, 20, 300)
    ]
    scale = float(weight.double().square().sum()) * 1e-12
    assert all(
        after <= before * (1 + 1e-6) + scale
        for before, after in itertools.pairwise(errors)
    )
    assert len(one(network, bits).codebook) <= 2**bits


@quickly
@given(st.integers(1, 8), st.data())
def test_few_different_weights_are_kept_exactly(bits, data):
    values = data.draw(
        st.lists(
            st.floats(-(2.0**100), 2.0**100, width=32).filter(bool),
            min_size=1,
            max_size=2**bits,
            unique=True,
        )
    )
    chosen = data.draw(
        st.lists(st.sampled_from([0.0, -0.0, *values]), min_size=1, max_size=50)
    )
    weight = torch.tensor([chosen])
    each = one(Weights(weight), bits)
    assert each.codebook.tolist() == sorted(set(chosen) - {0.0})
    assert torch.equal(each.dense(), weight)


def test_sharing_describes_and_changes_nothing(cnn, unchanged):
    apply_masks(cnn, magnitude_masks(cnn, 0.5))
    check = unchanged(cnn)
    shared = share_weights(cnn, 3)
    check()
    assert list(shared) == ["0.weight", "3.weight", "7.weight"]
    for name, each in shared.items():
        weight = cnn.get_parameter(name)
        assert (
            each.codebook.dtype == torch.float32 and each.indices.dtype == torch.uint8
        )
        assert each.indices.shape == weight.shape
        assert torch.equal(each.indices == 0, weight == 0)
        assert each.indices.max() == len(each.codebook) <= 8
        assert each.codebook.tolist() == sorted(each.codebook.tolist())
        assert torch.equal(
            torch.unique(each.indices[each.indices > 0]),
            torch.arange(1, len(each.codebook) + 1),
        )


def test_a_weight_in_the_middle_goes_to_the_lower_value():
    network = Weights(torch.tensor([[3.0, 2.0, 1.0]]))
    assert one(network, 1, iterations=0).dense().tolist() == [[3.0, 1.0, 1.0]]
    assert one(network, 1).dense().tolist() == [[3.0, 1.5, 1.5]]


def test_256_values_and_a_zero():
    weight = torch.arange(0, 300.0).view(1, -1)
    each = one(Weights(weight), 8)
    assert len(each.codebook) == 256 and each.indices.dtype == torch.int16
    assert torch.equal(torch.unique(each.indices), torch.arange(257))


def test_an_empty_layer_has_an_empty_codebook():
    each = one(Weights(torch.zeros(3, 4)), 5)
    assert len(each.codebook) == 0 and torch.equal(each.dense(), torch.zeros(3, 4))


def test_each_layer_can_have_bits_of_its_own(cnn):
    shared = share_weights(cnn, {"0.weight": 1, "3.weight": 2, "7.weight": 8})
    assert [len(each.codebook) for each in shared.values()][:2] == [2, 4]
    assert len(shared["7.weight"].codebook) > 100


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_type_and_layout_of_weight(cnn, dtype, layout, tmp_path):
    network = cnn.to(dtype=dtype, memory_format=layout)
    apply_masks(network, magnitude_masks(network, 0.5))
    shared = share_weights(network, 2)
    size = save_compressed(network, tmp_path / "net", shared=shared)
    apply_shared(network, shared)
    assert save_compressed(network, tmp_path / "again", shared=shared) == size
    other = copy.deepcopy(network)
    nn.init.normal_(other[3].weight)
    load_compressed(tmp_path / "net", other)
    assert same(other.state_dict(), network.state_dict())
    assert all(
        a.stride() == b.stride()
        for a, b in zip(other.parameters(), network.parameters(), strict=True)
    )
    for name, each in shared.items():
        assert torch.equal(network.get_parameter(name), each.dense().to(dtype))
        assert len(torch.unique(network.get_parameter(name))) <= 5


BAD_BITS = [0, 9, -1, 2.0, True, "4", None]


@pytest.mark.parametrize("bits", BAD_BITS)
def test_bad_bits_are_named(cnn, bits, tmp_path):
    calls = [
        lambda: share_weights(cnn, bits),
        lambda: share_weights(cnn, {"0.weight": 4, "3.weight": 4, "7.weight": bits}),
        lambda: save_compressed(cnn, tmp_path / "net", bits=bits),
        lambda: stages(cnn, bits),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"bits(\[.*\])?={bits!r} must .*1 to 8"):
            call()
    assert not list(tmp_path.iterdir())


def test_bits_and_iterations_that_make_no_sense(cnn):
    with pytest.raises(
        ValueError,
        match=(
            r"bits must name exactly 0\.weight, 3\.weight, 7\.weight; it names"
            r" 0\.weight"
        ),
    ):
        share_weights(cnn, {"0.weight": 4})
    for bad in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f"iterations={bad!r}"):
            share_weights(cnn, 4, iterations=bad)
    with pytest.raises(ValueError, match="nothing to prune"):
        share_weights(nn.ReLU(), 4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_must_be_finite(cnn, bad, tmp_path):
    shared = share_weights(cnn, 4)
    cnn[3].weight.data[0, 0, 0, 0] = bad
    for call in (lambda: share_weights(cnn, 4), lambda: stages(cnn, shared=shared)):
        with pytest.raises(ValueError, match=r"3\.weight are not all finite"):
            call()
    shared["0.weight"].codebook[0] = bad
    with pytest.raises(
        ValueError, match=r"codebook of 0\.weight must be at most 256 finite"
    ):
        save_compressed(cnn, tmp_path / "net", shared=shared)


# ------------------------------------------------------------------ apply and fine-tune


def bad_shared(good):
    first = good["0.weight"]
    yield (
        {name: each for name, each in good.items() if name != "0.weight"},
        "must name exactly",
    )
    yield good | {"9.weight": first}, "must name exactly"
    yield (
        good | {"0.weight": SharedWeight(first.codebook, first.indices[0])},
        r"must be \[4, 1, 3, 3\]",
    )
    yield (
        good | {"0.weight": SharedWeight(first.codebook[:-1], first.indices)},
        r"must be 0\.\.3",
    )
    yield (
        good | {"0.weight": SharedWeight(first.codebook, first.indices.int() - 2)},
        r"must be 0\.\.4",
    )
    yield good | {"0.weight": SharedWeight(first.codebook / 0, first.indices)}, "finite"
    yield (
        good | {"0.weight": SharedWeight(torch.rand(257), first.indices)},
        "at most 256",
    )
    yield (
        good | {"0.weight": SharedWeight(first.codebook[:, None], first.indices)},
        r"codebook of 0\.weight.*\[4, 1\]",
    )
    yield (
        good
        | {
            "0.weight": SharedWeight(
                first.codebook.clone().requires_grad_(), first.indices
            )
        },
        "without gradient",
    )
    yield (
        good | {"0.weight": SharedWeight(first.codebook, first.indices.float())},
        "float32; it must be .*whole numbers",
    )
    yield (
        good | {"0.weight": SharedWeight(first.codebook, None)},
        r"shared\['0\.weight'\].*of two tensors",
    )
    yield (
        good | {"0.weight": 3},
        r"shared\['0\.weight'\] \(int\) must be a SharedWeight",
    )
    yield list(good), r"shared \(list\) must be what share_weights gives"


@pytest.mark.parametrize("case", range(13))
@pytest.mark.parametrize("function", [apply_shared, hold_shared, "save"])
def test_shared_that_does_not_fit_is_refused_and_nothing_is_changed(
    cnn, unchanged, function, case, tmp_path
):
    check = unchanged(cnn)
    wrong, words = list(bad_shared(share_weights(cnn, 2)))[case]
    with pytest.raises(ValueError, match=words):
        (
            save_compressed(cnn, tmp_path / "x", shared=wrong)
            if function == "save"
            else function(cnn, wrong)
        )
    check()
    assert not list(tmp_path.iterdir())


def test_a_shared_value_must_be_finite_in_the_weight_s_type(tmp_path):
    layer = nn.Linear(4, 4).half()
    before, shared = layer.weight.detach().clone(), share_weights(layer, 2)
    shared["weight"].codebook[0] = 1e30  # infinite in float16
    for use in (
        apply_shared,
        hold_shared,
        lambda model, each: save_compressed(model, tmp_path / "net", shared=each),
    ):
        with pytest.raises(
            ValueError,
            match=r"codebook of weight .* finite numbers, also as torch\.float16",
        ):
            use(layer, shared)
    assert torch.equal(layer.weight, before) and not list(tmp_path.iterdir())


def distinct(weight: torch.Tensor) -> int:
    return len(torch.unique(weight[weight != 0]))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_weights_stay_shared_and_pruned_through_fit(cnn, tiny, optimizer, tmp_path):
    apply_masks(cnn, magnitude_masks(cnn, 0.5))
    shared = share_weights(cnn, 2)
    before = copy.deepcopy(shared)
    share_again, steps = hold_shared(cnn, shared), []

    def after_step():
        moved = [
            distinct(cnn.get_parameter(name)) > len(each.codebook)
            for name, each in shared.items()
        ]
        zeros = [int((cnn.get_parameter(name) == 0).sum()) for name in shared]
        steps.append((moved, zeros))
        share_again()
        for name, each in shared.items():
            assert torch.equal(cnn.get_parameter(name), each.dense())
            assert distinct(cnn.get_parameter(name)) == len(each.codebook) == 4

    recipe = Recipe(epochs=2, batch_size=64, optimizer=optimizer, learning_rate=0.003)
    fit(cnn, tiny, recipe, after_step=after_step, progress=False)
    # the optimizer did move them
    assert len(steps) == 20 and all(moved == [True, True, True] for moved, _ in steps)
    assert any(sum(zeros) == 0 for _, zeros in steps)  # and revived the pruned ones
    for name, each in shared.items():
        assert torch.equal(each.indices, before[name].indices)
        assert not torch.isclose(each.codebook, before[name].codebook, rtol=1e-5).any()
    save_compressed(cnn, tmp_path / "net", shared=shared)
    assert same(read_compressed(tmp_path / "net"), cnn.state_dict())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "weight_decay": 0.05},
    ],
    ids=["plain", "momentum", "nesterov", "weight decay"],
)
def test_sharing_again_equals_training_the_values_with_mean_gradients(
    cnn, batches, options
):
    """The values as parameters of their own, weights looked up in them; autograd adds
    up the gradients of a cluster."""
    apply_masks(cnn, magnitude_masks(cnn, 0.5))
    shared = share_weights(cnn, 3)
    indices = {name: each.indices.long() for name, each in shared.items()}
    values = {
        name: each.codebook.clone().requires_grad_() for name, each in shared.items()
    }
    rest = {
        n: p.detach().clone().requires_grad_()
        for n, p in cnn.named_parameters()
        if n not in shared
    }
    theirs = torch.optim.SGD([*values.values(), *rest.values()], lr=0.1, **options)
    reference = copy.deepcopy(cnn)

    share_again = hold_shared(cnn, shared)
    ours = torch.optim.SGD(cnn.parameters(), lr=0.1, **options)
    for images, labels in batches * 3:
        ours.zero_grad()
        nn.functional.cross_entropy(cnn(images), labels).backward()
        ours.step()
        share_again()

        weights = {
            n: torch.cat([torch.zeros(1), value])[indices[n]]
            for n, value in values.items()
        }
        theirs.zero_grad()
        output = torch.func.functional_call(reference, weights | rest, images)
        nn.functional.cross_entropy(output, labels).backward()
        for name, value in values.items():
            value.grad /= torch.bincount(indices[name].flatten())[1:]
        theirs.step()

    for name, each in shared.items():
        assert torch.allclose(each.codebook, values[name], rtol=1e-4, atol=1e-6)
        assert torch.equal(cnn.get_parameter(name), each.dense())
    assert all(
        torch.allclose(cnn.get_parameter(n), p, rtol=1e-4, atol=1e-6)
        for n, p in rest.items()
    )


def test_sharing_again_without_a_step_changes_nothing(cnn):
    shared = share_weights(cnn, 3)
    before = copy.deepcopy(shared)
    share_again = hold_shared(cnn, shared)
    for _ in range(3):
        share_again()
    assert all(
        torch.equal(shared[name].codebook, before[name].codebook) for name in shared
    )


def test_a_value_that_no_weight_takes_is_left_alone(cnn):
    shared = share_weights(cnn, 1)
    shared["7.weight"].codebook = torch.cat(
        [shared["7.weight"].codebook, torch.tensor([9.0])]
    )
    share_again = hold_shared(cnn, shared)
    share_again()
    assert shared["7.weight"].codebook[2] == 9


def test_shared_values_follow_weights_that_are_loaded_anew():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    again = hold_shared(model, share_weights(model, 2))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    again()
    assert all(len(layer.weight.unique()) <= 4 for layer in model)
    model[1] = nn.Linear(4, 3)
    before = model[0].weight.clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)
    with pytest.raises(ValueError, match=r"indices of 1\.weight are"):
        again()
    assert torch.equal(model[0].weight, before + 1)


def test_what_is_held_is_told_from_other_clusters():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5))
    names = [repr(hold_shared(model, share_weights(model, bits))) for bits in (2, 1, 1)]
    assert names[1] == names[2] != names[0]
