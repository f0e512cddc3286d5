"""Masks: exact counts, the right weights, the same ones as PyTorch's own pruning, and
zeros that stay zero."""

import copy
import itertools
from contextlib import nullcontext
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from tests.strategies import networks, patterns, scores_by_layer, sparsities
from utils import masks as masks_module
from utils import models, selection
from utils.layers import prunable
from utils.masks import (
    NM,
    SCOPES,
    apply_masks,
    check_sparsity,
    hold,
    magnitude_masks,
    masked,
    masks_from_scores,
    nm_masks,
    report,
)
from utils.scores import SCORES as SCORE_NAMES
from utils.scores import score
from utils.selection import mark_largest
from utils.training import Recipe, fit

quickly = settings(deadline=None, max_examples=60)

# --------------------------------------------- an independent reference, slow and plain


def slow_group(scores: list[torch.Tensor], sparsity: float) -> list[torch.Tensor]:
    """Keep the largest of all `scores` together; of equal ones the first, as a stable
    sort leaves them."""
    flat = [value for score in scores for value in score.flatten().tolist()]
    order = sorted(range(len(flat)), key=lambda place: -flat[place])
    kept = set(order[: len(flat) - round(sparsity * len(flat))])
    all_of_them = torch.tensor(
        [place in kept for place in range(len(flat))], dtype=torch.bool
    )
    pieces = all_of_them.split([score.numel() for score in scores])
    return [
        piece.view(score.shape) for piece, score in zip(pieces, scores, strict=True)
    ]


def slow_masks(scores, sparsity, scope, exclude=()):
    names = [name for name in scores if name not in exclude]
    result = {
        name: torch.ones(score.shape, dtype=torch.bool)
        for name, score in scores.items()
    }
    groups = (
        [names]
        if scope == "global" and not isinstance(sparsity, dict)
        else [[name] for name in names]
    )
    for group in groups:
        fraction = sparsity[group[0]] if isinstance(sparsity, dict) else sparsity
        result.update(
            zip(
                group,
                slow_group([scores[name] for name in group], fraction),
                strict=True,
            )
        )
    return result


def sizes(**sample_and_chunk):
    """Small values of selection.SAMPLE and selection.CHUNK, so that small tensors take
    the path of large ones."""
    return mock.patch.multiple(selection, **sample_and_chunk)


def same(a, b) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


# --------------------------------------------------------------------------- properties


@quickly
@given(scores_by_layer(), sparsities, st.sampled_from(["global", "layerwise"]))
def test_the_number_pruned_is_exact(scores, sparsity, scope):
    got = masks_from_scores(scores, sparsity, scope=scope, allow_empty=True)
    pruned = {name: int((~mask).sum()) for name, mask in got.items()}
    if scope == "layerwise":
        assert pruned == {
            name: round(sparsity * score.numel()) for name, score in scores.items()
        }
    assert scope == "layerwise" or sum(pruned.values()) == round(
        sparsity * sum(s.numel() for s in scores.values())
    )
    assert all(
        mask.dtype == torch.bool and mask.shape == scores[name].shape
        for name, mask in got.items()
    )


@quickly
@given(networks(), sparsities, st.sampled_from(list(SCOPES)))
def test_every_scope_prunes_exactly_as_many_as_asked(network, sparsity, scope):
    """But for the one weight that "erdos-renyi" leaves in each layer."""
    sizes = {name: weight.numel() for name, weight in prunable(network).items()}
    chosen = magnitude_masks(network, sparsity, scope=scope, allow_empty=True)
    kept = {name: int(mask.sum()) for name, mask in chosen.items()}
    total = sum(sizes.values())
    if scope == "layerwise":
        assert kept == {n: size - round(sparsity * size) for n, size in sizes.items()}
    elif scope == "unit":
        for name, mask in chosen.items():
            inputs = mask[0].numel()
            stay = mask.flatten(1).sum(1)
            assert (stay == inputs - round(sparsity * inputs)).all(), name
    elif scope == "global":
        assert sum(kept.values()) == total - round(sparsity * total)
    else:
        assert sum(kept.values()) == max(total - round(sparsity * total), len(sizes))
        assert all(kept.values())


@quickly
@given(scores_by_layer(), sparsities)
def test_every_kept_score_is_at_least_every_pruned_score(scores, sparsity):
    got = masks_from_scores(scores, sparsity, allow_empty=True)
    kept = torch.cat([scores[name][mask] for name, mask in got.items()])
    pruned = torch.cat([scores[name][~mask] for name, mask in got.items()])
    assert not len(kept) or not len(pruned) or kept.min() >= pruned.max()


@quickly
@given(
    scores_by_layer(), sparsities, st.sampled_from(["global", "layerwise"]), st.data()
)
def test_equal_to_a_stable_sort_with_ties_and_layers_left_out(
    scores, sparsity, scope, data
):
    exclude = data.draw(
        st.lists(st.sampled_from(list(scores)), max_size=len(scores) - 1, unique=True)
    )
    got = masks_from_scores(
        scores, sparsity, scope=scope, exclude=exclude, allow_empty=True
    )
    assert same(got, slow_masks(scores, sparsity, scope, exclude))
    assert all(got[name].all() for name in exclude)


@quickly
@given(scores_by_layer(), st.data())
def test_each_layer_can_have_a_sparsity_of_its_own(scores, data):
    exclude = list(scores)[1:2]
    wanted = {name: data.draw(sparsities) for name in scores if name not in exclude}
    got = masks_from_scores(scores, wanted, exclude=exclude, allow_empty=True)
    assert same(got, slow_masks(scores, wanted, "layerwise", exclude))


@quickly
@given(
    st.lists(st.sampled_from([1, 2, 3, 7, 12]), min_size=3, max_size=3),
    sparsities,
    st.sampled_from([1, 3, 100]),
    st.sampled_from([torch.float64, torch.float16, torch.int64, torch.bool]),
    st.booleans(),
    st.integers(0, 99),
)
def test_in_each_unit_the_largest_stay_and_of_equal_ones_the_first(
    shape, sparsity, levels, kind, magnitude, seed
):
    """Against the slow reference, row by row; a convolution has a kernel, too."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-levels, levels + 1, (4, *shape), generator=generator)
    scores = scores.to(kind)
    if magnitude and kind is not torch.bool:
        layer = nn.Conv2d(1, 1, 1)
        layer.weight = nn.Parameter(scores, requires_grad=False)
        masks = magnitude_masks(layer, sparsity, scope="unit", allow_empty=True)
        scores = scores.abs()
    else:
        masks = masks_from_scores(
            {"weight": scores}, sparsity, scope="unit", allow_empty=True
        )
    for row, mask in zip(scores, masks["weight"], strict=True):
        assert torch.equal(mask, slow_group([row], sparsity)[0])


def test_in_each_unit_goes_with_shares_and_what_is_left_out(monkeypatch):
    monkeypatch.setattr(selection, "CHUNK", 16)  # a few rows at once
    generator = torch.Generator().manual_seed(0)
    scores = {n: torch.rand(9, 8, generator=generator) for n in "abc"}
    shares = {"a": 0.25, "c": 0.75}
    masks = masks_from_scores(scores, shares, scope="unit", exclude="b")
    assert [set(mask.sum(1).tolist()) for mask in masks.values()] == [{6}, {8}, {2}]
    scores["b"][4, 3] = torch.nan
    with pytest.raises(ValueError, match="scores of b contain NaN"):
        masks_from_scores(scores, 0.5, scope="unit")
    with pytest.raises(ValueError, match=r"would empty a, c"):
        masks_from_scores(scores, 0.95, scope="unit", exclude="b")


def test_in_each_unit_is_no_question_to_units():
    with pytest.raises(ValueError, match=r"of a have shape \[4\]; .*scope='unit'"):
        masks_from_scores(SCORES, 0.25, scope="unit")


@pytest.mark.parametrize("name", SCORE_NAMES)
@pytest.mark.parametrize("pattern", [None, NM(2, 4)])
def test_a_text_network_takes_any_score_in_each_unit(name, pattern):
    text = models.gpt(
        pieces=16, width=8, blocks=1, heads=2, head_width=4, neurons=12, deviation=0.5
    )
    pieces = torch.randint(16, (3, 6), generator=torch.Generator().manual_seed(0))
    scores = score(name, text, [(pieces, pieces)])
    masks = masks_from_scores(scores, 0.5, scope="unit", pattern=pattern)
    assert list(masks) == list(prunable(text))
    for weight, mask in masks.items():
        assert (2 * mask.sum(1) == mask.shape[1]).all(), weight
        if pattern:
            assert (mask.unflatten(1, (-1, 4)).sum(2) == 2).all(), weight


@quickly
@given(
    scores_by_layer(), sparsities, sparsities, st.sampled_from(["global", "layerwise"])
)
def test_a_higher_sparsity_prunes_a_superset(scores, a, b, scope):
    few, many = (
        masks_from_scores(scores, s, scope=scope, allow_empty=True)
        for s in sorted((a, b))
    )
    assert not any((many[name] & ~few[name]).any() for name in scores)


@quickly
@given(scores_by_layer(), sparsities)
def test_an_error_exactly_when_a_layer_would_be_empty(scores, sparsity):
    empty = [
        name
        for name, mask in slow_masks(scores, sparsity, "global").items()
        if not mask.any()
    ]
    if not empty:
        assert same(
            masks_from_scores(scores, sparsity), slow_masks(scores, sparsity, "global")
        )
        return
    with pytest.raises(ValueError, match="would empty") as caught:
        masks_from_scores(scores, sparsity)
    assert all(name in str(caught.value) for name in empty)


@quickly
@given(
    scores_by_layer(longest=18),
    sparsities,
    st.sampled_from([(16, 8), (64, 16), (64, 1000)]),
)
def test_small_samples_and_chunks_change_nothing(scores, sparsity, small):
    with sizes(SAMPLE=small[0], CHUNK=small[1]):
        got = masks_from_scores(scores, sparsity, allow_empty=True)
        arrays = {name: score.flatten().numpy() for name, score in scores.items()}
        count = sum(map(len, arrays.values()))
        kept = count - round(sparsity * count)
        signed = {
            name: torch.from_numpy(marks).view(scores[name].shape)
            for name, marks in mark_largest(arrays, kept, magnitude=True).items()
        }
    assert same(got, slow_masks(scores, sparsity, "global"))
    assert same(
        signed,
        slow_masks(
            {name: score.abs() for name, score in scores.items()}, sparsity, "global"
        ),
    )


@pytest.mark.parametrize("sparsity", [0.0, 0.001, 0.3, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("levels", [3, 100, 10**6])
def test_the_bracket_settles_most_and_the_rest_is_sorted(sparsity, levels):
    generator = torch.Generator().manual_seed(1)
    scores = {
        name: torch.randint(levels, (size,), generator=generator) / 8
        for name, size in (("a", 3000), ("b", 77))
    }
    with (
        sizes(SAMPLE=256, CHUNK=100),
        mock.patch.object(selection, "compare", wraps=selection.compare) as compare,
        mock.patch.object(selection, "largest", wraps=selection.largest) as largest,
    ):
        got = masks_from_scores(scores, sparsity, allow_empty=True)
    assert same(got, slow_masks(scores, sparsity, "global"))
    assert compare.call_count == 1
    if levels > 10:
        assert len(largest.call_args.args[0]) < 2000  # of 3,077


@pytest.mark.parametrize(
    ("outlier", "sparsity"),
    [(1000, 0.5), (1000, 0.9), (1000, 0.98), (-1000, 0.5), (-1000, 0.02)],
)
def test_a_misleading_sample_changes_nothing(outlier, sparsity):
    """What the sample sees, every 64th score, lies far above (or below) all the
    others."""
    scores = torch.rand(64 * 256, generator=torch.Generator().manual_seed(0))
    scores[::64] = outlier + torch.arange(256)
    layers = {"a": scores[: 64 * 100], "b": scores[64 * 100 :].view(64, -1)}
    with (
        sizes(SAMPLE=256, CHUNK=50),
        mock.patch.object(selection, "compare", wraps=selection.compare) as compare,
    ):
        got = masks_from_scores(layers, sparsity, allow_empty=True)
    assert same(got, slow_masks(layers, sparsity, "global"))
    assert compare.call_count == 2


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_scores_at_the_real_sample_size(threads, monkeypatch):
    """More scores than SAMPLE and than one chunk, all different: the threshold is
    known."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    count = selection.SAMPLE * 3 + 5
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).float()
    got = masks_from_scores({"a": order[:1000], "b": order[1000:]}, 0.7)
    assert torch.equal(torch.cat([got["a"], got["b"]]), order >= round(0.7 * count))


def test_infinite_scores_are_ordinary_largest_and_smallest_ones():
    scores = {"a": torch.tensor([1.0, float("inf"), -float("inf"), 2.0, float("inf")])}
    assert same(
        masks_from_scores(scores, 0.6),
        {"a": torch.tensor([False, True, False, False, True])},
    )
    assert same(
        masks_from_scores(scores, 0.2),
        {"a": torch.tensor([True, True, False, True, True])},
    )


# --------------------------------------------------------- against torch.nn.utils.prune


def untied(model: nn.Module) -> nn.Module:
    """Give every weight of the model a magnitude of its own."""
    count = sum(p.numel() for p in model.parameters())
    values = (
        torch.randperm(count, generator=torch.Generator().manual_seed(0)) + 1.0
    ) / count
    values *= (
        torch.randint(0, 2, (count,), generator=torch.Generator().manual_seed(1)) * 2
        - 1
    )
    torch.nn.utils.vector_to_parameters(values, model.parameters())
    return model


def torch_masks(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        f"{name}.weight": m.weight_mask.bool()
        for name, m in model.named_modules()
        if hasattr(m, "weight_mask")
    }


def prunable_modules(model):
    return [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.77, 0.95])
@pytest.mark.parametrize("small", [False, True])
def test_global_masks_equal_global_unstructured(cnn, sparsity, small):
    ours = untied(cnn)
    theirs = copy.deepcopy(ours)
    prune.global_unstructured(
        [(m, "weight") for m in prunable_modules(theirs)],
        pruning_method=prune.L1Unstructured,
        amount=sparsity,
    )
    with sizes(SAMPLE=64, CHUNK=32) if small else nullcontext():
        assert same(
            magnitude_masks(ours, sparsity, allow_empty=True), torch_masks(theirs)
        )


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.77])
def test_layerwise_masks_equal_l1_unstructured(cnn, sparsity):
    ours = untied(cnn)
    theirs = copy.deepcopy(ours)
    for module in prunable_modules(theirs):
        prune.l1_unstructured(module, "weight", amount=sparsity)
    assert same(magnitude_masks(ours, sparsity, scope="layerwise"), torch_masks(theirs))


def test_large_models_equal_global_unstructured():
    ours = untied(nn.Sequential(nn.Linear(700, 400), nn.Linear(400, 10)))
    theirs = copy.deepcopy(ours)
    prune.global_unstructured(
        [(m, "weight") for m in prunable_modules(theirs)],
        pruning_method=prune.L1Unstructured,
        amount=0.9,
    )
    assert sum(p.numel() for p in ours.parameters()) > 2 * selection.SAMPLE
    assert same(magnitude_masks(ours, 0.9), torch_masks(theirs))


# -------------------------------------------------------------------- layouts and types


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_layout_and_type_of_weight(cnn, dtype, layout):
    cnn = cnn.to(dtype=dtype, memory_format=layout)
    got = magnitude_masks(cnn, 0.6, allow_empty=True)
    magnitudes = {
        name: dict(cnn.named_parameters())[name].detach().abs().double() for name in got
    }
    assert same(got, slow_masks(magnitudes, 0.6, "global"))
    expected = {
        name: p.detach() * got[name] if name in got else p.detach()
        for name, p in cnn.named_parameters()
    }
    apply_masks(cnn, got)
    assert all(torch.equal(p, expected[name]) for name, p in cnn.named_parameters())


def test_transposed_and_strided_scores():
    base = torch.rand(6, 8, generator=torch.Generator().manual_seed(0))
    scores = {
        "turned": base.T,
        "every other": base[::2, 1::2],
        "widened": base[:1].expand(3, 8),
    }
    assert same(masks_from_scores(scores, 0.4), slow_masks(scores, 0.4, "global"))


def test_unit_scores_and_whole_numbers():
    scores = {"a": torch.tensor([3, 1, 2]), "b": torch.tensor([5, 4])}
    assert same(
        masks_from_scores(scores, 0.4),
        {"a": torch.tensor([True, False, False]), "b": torch.tensor([True] * 2)},
    )


def test_magnitude_masks_leave_the_model_alone(cnn, unchanged):
    check = unchanged(cnn)
    magnitude_masks(cnn, 0.5)
    check()


def test_scores_are_left_alone():
    scores = {"a": torch.tensor([-3.0, 1.0, 2.0])}
    masks_from_scores(scores, 0.4)
    assert scores["a"].tolist() == [-3.0, 1.0, 2.0]


# --------------------------------------------------------------- n of each m neighbours


def slow_nm(weight: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Of each m neighbouring inputs the n of largest magnitude; of equal ones the
    first, as `sorted` leaves them."""
    mask = torch.zeros(weight.shape, dtype=torch.bool)
    for place in itertools.product(
        *(range(size) for size in (weight.shape[0], *weight.shape[2:]))
    ):
        # the inputs of one unit at one place of the kernel
        row = (place[0], slice(None), *place[1:])
        values = weight[row].tolist()
        for start in range(0, len(values), m):
            for each in sorted(range(start, start + m), key=lambda k: -abs(values[k]))[
                :n
            ]:
                mask[(place[0], each, *place[1:])] = True
    return mask


@quickly
@given(patterns())
def test_exactly_n_of_each_m_neighbours_stay_and_they_are_the_largest(pattern):
    network, n, m = pattern
    weights = {
        name: p.detach()
        for name, p in network.named_parameters()
        if name.endswith("weight")
    }
    got = nm_masks(network, n, m)
    assert list(got) == list(weights)
    for name, mask in got.items():
        assert mask.dtype == torch.bool and mask.shape == weights[name].shape
        kept, sizes = (
            t.movedim(1, -1).reshape(-1, m) for t in (mask, weights[name].abs())
        )
        assert (kept.sum(1) == n).all()
        smallest_kept = sizes.masked_fill(~kept, float("inf")).amin(1)
        assert (smallest_kept >= sizes.masked_fill(kept, -1.0).amax(1)).all()
        assert torch.equal(mask, slow_nm(weights[name], n, m))


@pytest.mark.parametrize("name", SCORE_NAMES)
@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_any_score_goes_with_a_pattern(cnn, batches, name, scope):
    exclude = ["0.weight", "3.weight"]
    scores = score(name, cnn, batches)
    chosen = masks_from_scores(
        scores, 0.5, pattern=NM(2, 4), scope=scope, exclude=exclude
    )
    assert torch.equal(chosen["7.weight"], slow_nm(scores["7.weight"], 2, 4))
    assert all(chosen[each].all() for each in exclude)
    if name == "magnitude":
        assert same(chosen, nm_masks(cnn, 2, 4, exclude=exclude))


def test_a_pattern_of_long_groups_is_found_by_sorting():
    """Of many neighbours; equal ones among them."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(5, (6, 40), generator=generator).float()
    mask = masks_from_scores({"a": scores}, 0.85, pattern=NM(3, 20))["a"]
    for row, kept in zip(scores.view(12, 20), mask.view(12, 20), strict=True):
        assert torch.equal(kept, slow_group([row], 0.85)[0])


def test_a_pattern_takes_signed_scores_as_they_are():
    scores = {"a": torch.tensor([[-9.0, 1.0, 2.0, -1.0]])}
    got = masks_from_scores(scores, 0.5, pattern=NM(2, 4))["a"]
    assert got.tolist() == [[False, True, True, False]]


def test_two_of_four_by_hand():
    layer = nn.Linear(8, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(
            torch.tensor([[1.0, -4, 2, -3, 0, 0, 0, 9], [5, 5, 5, 5, -1, 1, -2, 1]])
        )
    assert nm_masks(layer)["weight"].int().tolist() == [
        [0, 1, 0, 1, 1, 0, 0, 1],
        [1, 1, 0, 0, 1, 0, 1, 0],
    ]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_neighbours_in_a_convolution_are_input_channels_at_one_place(layout):
    """Not neighbouring places of one channel: graphics processors multiply along the
    channels."""
    layer = nn.Conv2d(2, 1, (1, 2)).to(memory_format=layout)
    with torch.no_grad():
        # channel 0: left 3, right 4; channel 1: 2, 5
        layer.weight.copy_(torch.tensor([[[[3.0, 4.0]], [[2.0, 5.0]]]]))
    assert nm_masks(layer, 1, 2)["weight"].flatten().tolist() == [
        True,
        False,
        False,
        True,
    ]


def test_excluded_layers_keep_everything(cnn):
    got = nm_masks(cnn, 1, 2, exclude=["0.weight", "7.weight"])
    assert got["0.weight"].all() and got["7.weight"].all()
    assert got["3.weight"].sum() == got["3.weight"].numel() // 2


def test_an_excluded_row_need_not_be_divided(cnn):
    got = nm_masks(cnn, 2, 4, exclude=["0.weight", "3.weight"])
    assert torch.equal(got["7.weight"], slow_nm(cnn[7].weight.detach(), 2, 4))


def test_the_pattern_can_be_applied_and_held(cnn, tiny):
    chosen = nm_masks(cnn, 1, 2, exclude="0.weight")
    recipe = Recipe(epochs=1, batch_size=64, learning_rate=0.01)
    fit(cnn, tiny, recipe, after_step=hold(cnn, chosen), progress=False)
    assert revived(cnn, chosen) == 0
    # what stayed is not zero, so it is found again
    assert same(nm_masks(cnn, 1, 2, exclude="0.weight"), chosen)


def test_a_pattern_leaves_the_model_alone(cnn, batches, unchanged):
    nn.functional.cross_entropy(cnn(batches[0][0]), batches[0][1]).backward()
    check = unchanged(cnn)
    nm_masks(cnn, 1, 2, exclude="0.weight")
    with pytest.raises(ValueError, match="does not divide"):
        nm_masks(cnn)
    check()


@pytest.mark.parametrize(
    ("n", "m"),
    [
        (4, 4),
        (5, 4),
        (0, 4),
        (-1, 4),
        (1, 1),
        (1, 0),
        (-3, -2),
        (2.0, 4),
        (2, 4.0),
        ("2", 4),
        (2, None),
    ],
)
def test_a_pattern_that_makes_no_sense_is_named(cnn, unchanged, n, m):
    check = unchanged(cnn)
    with pytest.raises(ValueError, match="1 <= n < m") as caught:
        nm_masks(cnn, n, m)
    assert f"n={n!r}, m={m!r}" in str(caught.value)
    check()


def test_a_row_that_m_does_not_divide_is_named_with_its_length(cnn):
    with pytest.raises(
        ValueError, match=r"0\.weight has 1 inputs, which m=4 does not divide"
    ):
        nm_masks(cnn)
    with pytest.raises(ValueError, match=r"3\.weight has 2 inputs, which m=4"):
        nm_masks(cnn, exclude="0.weight")
    with pytest.raises(ValueError, match=r"0\.weight has 1 inputs, which m=32"):
        nm_masks(cnn, 1, 32)  # longer than the row


def test_a_pattern_for_no_layer_is_refused(cnn):
    with pytest.raises(
        ValueError, match=r"exclude names '1\.weight'.*0\.weight, 3\.weight, 7\.weight"
    ):
        nm_masks(cnn, 1, 3, exclude=["1.weight"])
    with pytest.raises(ValueError, match="nothing to prune"):
        nm_masks(cnn, 1, 3, exclude=["0.weight", "3.weight", "7.weight"])
    with pytest.raises(ValueError, match=r"ReLU.*nothing to prune"):
        nm_masks(nn.ReLU())


# -------------------------------------------------------------------------- apply, hold


def test_apply_zeroes_what_is_pruned_and_nothing_else(cnn):
    before = copy.deepcopy(cnn.state_dict())
    chosen = magnitude_masks(cnn, 0.5)
    apply_masks(cnn, chosen)
    for name, value in cnn.state_dict().items():
        assert torch.equal(
            value, before[name] * chosen[name] if name in chosen else before[name]
        )
    assert all(p.requires_grad for p in cnn.parameters())


def test_a_masked_copy_is_pruned_and_the_network_is_not(cnn, unchanged):
    check = unchanged(cnn)
    chosen = magnitude_masks(cnn, 0.5)
    copied = masked(cnn, chosen)
    check()
    twin = copy.deepcopy(cnn)
    apply_masks(twin, chosen)
    assert same(copied.state_dict(), twin.state_dict())
    assert copied.training == cnn.training
    with pytest.raises(ValueError, match="does not have"):
        masked(cnn, {"9.weight": chosen["7.weight"]})


def test_pruned_infinities_and_nans_become_plain_zero():
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[float("nan"), float("inf")], [-1.0, -2.0]]))
    apply_masks(layer, {"weight": torch.tensor([[False, False], [False, True]])})
    assert layer.weight.tolist() == [[0, 0], [0, -2]]
    assert not layer.weight.signbit()[1, 0]


def test_masks_of_any_layout_can_be_applied():
    layer = nn.Linear(3, 3, bias=False)
    before, mask = (
        layer.weight.detach().clone(),
        torch.tensor([[True, False, False], [True, True, False], [True] * 3]),
    )
    apply_masks(layer, {"weight": mask.T})
    assert torch.equal(layer.weight, before * mask.T)


OPTIMIZERS = {
    "sgd momentum nesterov": lambda p: torch.optim.SGD(
        p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2
    ),
    "adam weight decay": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def steps(
    model, optimizer, batch, count, after_backward=lambda: None, after_step=lambda: None
):
    images, labels = batch
    model.train()
    for _ in range(count):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        after_backward()
        optimizer.step()
        after_step()


def revived(model, chosen) -> int:
    return sum(
        int(p[~chosen[name]].count_nonzero())
        for name, p in model.named_parameters()
        if name in chosen
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_held_weights_are_exactly_zero_after_every_step(cnn, batches, name):
    optimizer = OPTIMIZERS[name](cnn.parameters())
    steps(cnn, optimizer, batches[0], 5)  # fills the momentum
    chosen = magnitude_masks(cnn, 0.5)
    zero_again = hold(cnn, chosen)
    assert revived(cnn, chosen) == 0

    def after_step():
        assert revived(cnn, chosen) > 0  # the optimizer did move them
        zero_again()
        assert revived(cnn, chosen) == 0

    steps(cnn, optimizer, batches[0], 25, after_step=after_step)
    kept = torch.cat(
        [p[chosen[name]] for name, p in cnn.named_parameters() if name in chosen]
    )
    assert kept.count_nonzero() > 0.95 * len(kept)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masking_the_gradients_alone_revives_zeros(cnn, batches, name):
    """The control: why `hold` acts on the weights."""
    optimizer = OPTIMIZERS[name](cnn.parameters())
    steps(cnn, optimizer, batches[0], 5)
    chosen = magnitude_masks(cnn, 0.5)
    apply_masks(cnn, chosen)

    def mask_gradients():
        for name, parameter in cnn.named_parameters():
            if name in chosen:
                parameter.grad.masked_fill_(~chosen[name], 0)

    steps(cnn, optimizer, batches[0], 1, after_backward=mask_gradients)
    assert revived(cnn, chosen) > 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_weights_are_held_through_fit(cnn, tiny, optimizer):
    """`fit` changes the memory layout of convolutions; what `hold` holds must be the
    weights that are trained."""
    chosen = magnitude_masks(cnn, 0.5)
    recipe = Recipe(epochs=2, batch_size=64, optimizer=optimizer, learning_rate=0.01)
    fit(cnn, tiny, recipe, after_step=hold(cnn, chosen), progress=False)
    assert revived(cnn, chosen) == 0


def test_hold_survives_a_change_of_type_and_of_layout(cnn):
    chosen = magnitude_masks(cnn, 0.5)
    zero_again = hold(cnn, chosen)
    cnn.to(dtype=torch.float64, memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in cnn.parameters():
            parameter.add_(1)
    zero_again()
    assert revived(cnn, chosen) == 0


def test_hold_needs_no_gradient_and_leaves_none(cnn, batches):
    zero_again = hold(cnn, magnitude_masks(cnn, 0.5))
    nn.functional.cross_entropy(cnn(batches[0][0]), batches[0][1]).backward()
    before = [p.grad.clone() for p in cnn.parameters()]
    zero_again()
    assert all(
        torch.equal(p.grad, old)
        for p, old in zip(cnn.parameters(), before, strict=True)
    )


# ------------------------------------------------------------------------------- report


def test_report_counts_each_layer_and_all():
    rows = report(
        {
            "a": torch.tensor([True, False, False, False]),
            "b": torch.ones(2, 3, dtype=torch.bool),
        }
    )
    assert [(row.name, row.weights, row.kept, row.sparsity) for row in rows] == [
        ("a", 4, 1, 0.75),
        ("b", 6, 6, 0.0),
        ("all", 10, 7, pytest.approx(0.3)),
    ]


# ---------------------------------------------------------------------------- bad input

BAD_SPARSITIES = [
    -0.1,
    1,
    1.0,
    1.5,
    float("nan"),
    float("inf"),
    True,
    False,
    "0.5",
    None,
]


@pytest.mark.parametrize("bad", BAD_SPARSITIES)
def test_a_bad_sparsity_is_named(cnn, bad, unchanged):
    check = unchanged(cnn)
    for call in (
        lambda: magnitude_masks(cnn, bad),
        lambda: magnitude_masks(cnn, bad, scope="layerwise"),
        lambda: masks_from_scores({"a": torch.rand(9)}, bad),
        lambda: check_sparsity(bad),
    ):
        with pytest.raises(ValueError, match="sparsity=") as caught:
            call()
        assert f"sparsity={bad!r} must be" in str(caught.value)
    check()


@pytest.mark.parametrize("bad", BAD_SPARSITIES)
def test_a_bad_sparsity_of_one_layer_is_named_with_the_layer(bad):
    scores = {"a": torch.rand(9), "b": torch.rand(9)}
    with pytest.raises(ValueError, match=r"sparsity\['b'\]="):
        masks_from_scores(scores, {"a": 0.5, "b": bad})


@pytest.mark.parametrize("good", [0, 0.0, 0.5, 1 - 1e-9])
def test_good_sparsities_pass(good):
    assert check_sparsity(good) == good


def test_numpy_numbers_are_sparsities():
    numpy = pytest.importorskip("numpy")
    assert (
        check_sparsity(numpy.float64(0.5)) == check_sparsity(numpy.float32(0.5)) == 0.5
    )


SCORES = {
    "a": torch.tensor([1.0, 2.0, 3.0, 4.0]),
    "b": torch.tensor([5.0, 6.0, 7.0, 8.0]),
}
BAD_CALLS = {
    "unknown scope": (
        dict(sparsity=0.5, scope="local"),
        ["scope='local'", "global", "layerwise"],
    ),
    "unknown scope beside sparsities by layer": (
        dict(sparsity={"a": 0.5, "b": 0.5}, scope="local"),
        ["scope='local'", "global", "layerwise"],
    ),
    "unknown layer excluded": (
        dict(sparsity=0.5, exclude=["c"]),
        ["exclude", "'c'", "a, b"],
    ),
    "unknown layer excluded, as text": (
        dict(sparsity=0.5, exclude="ab"),
        ["exclude", "'ab'"],
    ),
    "all excluded": (
        dict(sparsity=0.5, exclude=["a", "b"]),
        ["nothing to prune", "excluded"],
    ),
    "a layer's sparsity missing": (dict(sparsity={"a": 0.5}), ["sparsity", "a, b"]),
    "sparsity for an unknown layer": (
        dict(sparsity={"a": 0.5, "b": 0.5, "c": 0.5}),
        ["sparsity", "a, b", "c"],
    ),
    "sparsity for an excluded layer": (
        dict(sparsity={"a": 0.5, "b": 0.5}, exclude="b"),
        ["sparsity"],
    ),
    "an emptied layer": (dict(sparsity=0.5), ["would empty a", "sparsity"]),
    "two emptied layers": (dict(sparsity=0.9, scope="layerwise"), ["would empty a, b"]),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_call_that_makes_no_sense_is_refused_in_words(case):
    arguments, words = BAD_CALLS[case]
    with pytest.raises(ValueError, match=r".") as caught:
        masks_from_scores(SCORES, **arguments)
    assert [word for word in words if word not in str(caught.value)] == []


def test_no_scores_at_all_and_empty_layers():
    with pytest.raises(ValueError, match="nothing to prune"):
        masks_from_scores({}, 0.5)
    with pytest.raises(ValueError, match="nothing to prune"):
        masks_from_scores({"a": torch.empty(0, 3)}, 0.5)
    assert masks_from_scores({**SCORES, "none": torch.empty(0, 3)}, 0.25)[
        "none"
    ].shape == (0, 3)


def test_a_pattern_for_unit_scores_or_another_sparsity_is_refused():
    with pytest.raises(ValueError, match=r"scores of a have shape \[4\]; NM\(n=2, m=4"):
        masks_from_scores(SCORES, 0.5, pattern=NM(2, 4))
    scores = {"a": torch.rand(2, 8), "b": torch.rand(3, 4)}
    for sparsity in (0.0, 0.4, {"a": 0.5, "b": 0.6}):
        with pytest.raises(ValueError, match=r"does not go with NM\(n=2, m=4\)"):
            masks_from_scores(scores, sparsity, pattern=NM(2, 4))
    with pytest.raises(ValueError, match="does not go with"):
        masks_from_scores(scores, 0.5, pattern=NM(2, 4), scope="erdos-renyi")


def test_a_model_with_nothing_to_prune():
    with pytest.raises(ValueError, match=r"ReLU.*nothing to prune"):
        magnitude_masks(nn.ReLU(), 0.5)


@pytest.mark.parametrize("place", [0, 50, 99])
@pytest.mark.parametrize("small", [False, True])
def test_nan_scores_are_refused_wherever_they_are(place, small):
    scores = {"fine": torch.rand(100), "broken": torch.rand(100)}
    scores["broken"][place] = float("nan")
    with (
        sizes(SAMPLE=16, CHUNK=8) if small else nullcontext(),
        pytest.raises(ValueError, match=r"broken.*NaN"),
    ):
        masks_from_scores(scores, 0.5)


def test_nan_weights_are_refused(cnn):
    with torch.no_grad():
        cnn[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"0\.weight.*NaN"):
        magnitude_masks(cnn, 0.5)


def bad_masks(good):
    name, mask = next(reversed(good.items()))
    yield {**good, name: mask[:-1]}, [name, "must be torch.bool [10, 24]"]
    yield {**good, name: mask.T}, [name, "[24, 10]", "[10, 24]"]
    yield {**good, name: mask.any(1)}, [name, "[10]", "[10, 24]"]
    yield {**good, name: mask.float()}, [name, "torch.float32", "torch.bool"]
    yield {**good, "9.weight": mask}, ["'9.weight'", "does not have", name]


@pytest.mark.parametrize("case", range(5))
@pytest.mark.parametrize("function", [apply_masks, hold])
def test_masks_that_do_not_fit_are_refused_and_nothing_is_changed(
    cnn, unchanged, function, case
):
    check = unchanged(cnn)
    wrong, words = list(bad_masks(magnitude_masks(cnn, 0.5)))[case]
    with pytest.raises(ValueError, match=r".") as caught:
        function(cnn, wrong)
    assert [word for word in words if word not in str(caught.value)] == []
    check()


@pytest.mark.parametrize(("n", "m"), [(True, 4), (1, True)])
def test_a_pattern_of_booleans_is_refused(n, m):
    with pytest.raises(ValueError, match="give whole numbers"):
        nm_masks(nn.Linear(8, 2), n, m)


def test_a_pattern_of_nan_is_refused():
    layer = nn.Linear(8, 2)
    layer.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="weight contain NaN"):
        nm_masks(layer)


# ------------------------------------------------------------------------ other numbers

WHOLE = {
    torch.int8: 2**7 - 1,
    torch.uint8: 2**8 - 1,
    torch.int32: 2**31 - 1,
    torch.int64: 2**63 - 1,
    torch.uint64: 2**64 - 1,
}


@quickly
@given(
    st.lists(st.sampled_from(list(WHOLE)), min_size=1, max_size=3),
    st.integers(0, 2**32),
    sparsities,
)
def test_whole_scores_are_compared_as_they_are(dtypes, seed, sparsity):
    """Beside the end of their range, where float32 and float64 see but one number."""
    if torch.uint64 in dtypes and len(set(dtypes)) > 1:
        dtypes = [torch.int64 if each == torch.uint64 else each for each in dtypes]
    generator = torch.Generator().manual_seed(seed)
    scores = {}
    for place, dtype in enumerate(dtypes):
        below = torch.randint(0, 9, (7,), generator=generator).tolist()
        values = [WHOLE[dtype] - number for number in below]
        scores[f"layer{place}"] = torch.tensor(values, dtype=dtype)
    with sizes(SAMPLE=8, CHUNK=3):
        found = masks_from_scores(scores, sparsity, allow_empty=True)
    assert same(found, slow_masks(scores, sparsity, "global"))


def test_whole_scores_beside_others_are_exact_or_refused():
    real = torch.tensor([2.0**53 - 2, 0.5, 7.5])
    scores = {"a": torch.tensor([2**53 - 1, 1, 8]), "b": real.double()}
    assert same(masks_from_scores(scores, 0.5), slow_masks(scores, 0.5, "global"))
    scores = {"a": torch.tensor([2**53 + 1, 1, 8]), "b": real.double()}
    with pytest.raises(ValueError, match=r"scores of a go from 1 to 9007199254740993"):
        masks_from_scores(scores, 0.5)
    assert masks_from_scores(scores, 0.5, scope="layerwise", allow_empty=True)["a"][0]


def test_boolean_and_single_and_scalar_scores():
    scores = {
        "a": torch.tensor([True, False, True]),
        "b": torch.tensor([2]),
        "c": torch.tensor(0.5),
    }
    found = masks_from_scores(scores, 0.4, allow_empty=True)
    assert {n: mask.tolist() for n, mask in found.items()} == {
        "a": [True, False, True],
        "b": [True],
        "c": False,
    }


@pytest.mark.parametrize("pattern", [None, NM(1, 2)])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_weights_go_by_their_magnitude(pattern, dtype):
    torch.manual_seed(0)
    layer = nn.Linear(6, 4, bias=False, dtype=dtype)
    found = magnitude_masks(layer, 0.5, pattern=pattern)
    wanted = masks_from_scores({"weight": layer.weight.abs()}, 0.5, pattern=pattern)
    assert same(found, wanted)
    before = layer.weight.detach().clone()
    apply_masks(layer, found)
    assert torch.equal(layer.weight.detach(), before * found["weight"])


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.float64, torch.bool])
def test_weights_of_any_size_are_zeroed(dtype):
    layer = nn.Linear(3, 2, bias=False)
    values = torch.tensor([[1, 2, 3], [4, 5, 6]]).to(dtype)
    layer.weight = nn.Parameter(values, requires_grad=False)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    hold(layer, {"weight": mask})
    assert torch.equal(
        layer.weight, torch.where(mask, values, torch.zeros_like(values))
    )


def test_the_smallest_whole_number_has_the_largest_magnitude():
    layer = nn.Linear(4, 1, bias=False)
    values = torch.tensor([[-128, 127, 3, 2]], dtype=torch.int8)
    layer.weight = nn.Parameter(values, requires_grad=False)
    for choice in (dict(), dict(pattern=NM(2, 4))):
        found = magnitude_masks(layer, 0.5, **choice)["weight"]
        assert found.tolist() == [[True, True, False, False]]
    assert magnitude_masks(layer, 0.75)["weight"][0, 0]


BAD_SCORES = {
    "complex": (torch.zeros(2, dtype=torch.complex64), "scores of a are complex"),
    "meta": (torch.zeros(2, device="meta"), "scores of a are torch.strided on meta"),
    "sparse": (torch.eye(2).to_sparse(), "scores of a are torch.sparse_coo"),
    "a list": ([1.0, 2.0], "scores of a are a list, not a tensor"),
}


@pytest.mark.parametrize("case", BAD_SCORES)
def test_scores_that_cannot_be_ranked_are_named(case):
    bad, words = BAD_SCORES[case]
    with pytest.raises(ValueError, match=words):
        masks_from_scores({"fine": torch.rand(2), "a": bad}, 0.5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(scores=torch.rand(3)), "scores is a Tensor; it must hold tensors"),
        (dict(exclude=None), "exclude=None must be names of layers"),
        (dict(exclude=[0]), r"exclude=\[0\] must be names of layers"),
        (dict(pattern="2:4"), "pattern='2:4' is none; give NM"),
        (dict(pattern=lambda *_, **__: None), "what the pattern gives is a NoneType"),
        (dict(pattern=lambda *_, **__: {}), "the mask of a is None"),
        (
            dict(pattern=lambda s, *_, **__: {n: t[:1] > 0 for n, t in s.items()}),
            r"mask of a is torch.bool \[1\]; it must be torch.bool \[4\]",
        ),
    ],
)
def test_an_argument_of_another_kind_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        masks_from_scores(**dict(scores=SCORES, sparsity=0.25) | arguments)


def test_a_scope_of_ones_own_that_groups_what_is_not_there(monkeypatch):
    monkeypatch.setitem(
        SCOPES, "mine", lambda w, s: [masks_module.Group(["a", "c"], s)]
    )
    with pytest.raises(ValueError, match="scope='mine' gives groups of a, c"):
        masks_from_scores(SCORES, 0.5, scope="mine")


def test_layers_without_weights_take_no_part():
    shapes = {"none": torch.empty(0, 3), "a": torch.rand(4, 5), "b": torch.rand(())}
    share = masks_module.erdos_renyi(shapes, 0.5)
    assert share["none"] == 0
    assert sum(share[n] * t.numel() for n, t in shapes.items()) == pytest.approx(10)
    assert masks_module.erdos_renyi({"none": torch.empty(0, 3)}, 0.5) == {"none": 0}
    found = masks_from_scores(shapes, 0.5, scope="erdos-renyi")
    assert found["none"].shape == (0, 3)
    assert {row.name: row.sparsity for row in report(found)}["none"] == 0


@pytest.mark.parametrize("count", [-1, 4, 1.5, True])
def test_more_than_there_are_cannot_be_marked(count):
    with pytest.raises(ValueError, match=f"count={count}"):
        mark_largest({"a": torch.rand(3).numpy()}, count)
    assert mark_largest({}, 0) == {}


@pytest.mark.parametrize("bad", ["text", 1j])
def test_only_real_numbers_are_marked(bad):
    array = torch.zeros(2).numpy().astype(type(bad))
    with pytest.raises(ValueError, match=r"scores of a are .*must be real"):
        mark_largest({"a": array}, 1)


@pytest.mark.parametrize("bad", [{"a": torch.ones(3)}, {"a": [True]}, torch.ones(3)])
def test_a_report_of_what_is_no_mask_is_refused(bad):
    with pytest.raises(ValueError, match=r"must (be|hold)"):
        report(bad)


# ------------------------------------------------------------------------- what is held


def moved(model: nn.Module) -> nn.Module:
    """As an optimizer would: no weight is zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    return model


def assign(model: nn.Module) -> None:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


def replace(model: nn.Module) -> None:
    model[7] = nn.Linear(24, 10)


@pytest.mark.parametrize("change", [assign, replace, lambda m: m.double(), lambda m: m])
def test_what_the_network_has_now_is_held(cnn, change):
    chosen = magnitude_masks(cnn, 0.5)
    zero_again = hold(cnn, chosen)
    change(cnn)
    moved(cnn)
    zero_again()
    assert same({n: p.detach() != 0 for n, p in prunable(cnn).items()}, chosen)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda m: setattr(m, "7", nn.Identity()),
            r"'7\.weight', which the model does",
        ),
        (lambda m: setattr(m, "7", nn.Linear(24, 9)), r"must be torch.bool \[9, 24\]"),
        (lambda m: m.to("meta"), r"0\.weight has no values"),
        (lambda m: setattr(m, "7", nn.LazyLinear(10)), r"7\.weight is not made yet"),
        (
            lambda m: nn.utils.parametrizations.weight_norm(m[7]),
            r"7\.weight is compute",
        ),
        (
            lambda m: prune.l1_unstructured(m[7], "weight", 0.5),
            r"7\.weight is computed",
        ),
    ],
)
@pytest.mark.parametrize("after", [True, False])
def test_masks_that_no_longer_fit_are_refused(cnn, change, words, after):
    chosen = magnitude_masks(cnn, 0.5)
    zero_again = hold(cnn, chosen)
    moved(cnn)
    change(cnn)
    calls = [zero_again] if after else [lambda: apply_masks(cnn, chosen)]
    calls += [] if after else [lambda: masked(cnn, chosen), lambda: hold(cnn, chosen)]
    for call in calls:
        with pytest.raises(ValueError, match=words):
            call()
    first = cnn[0].weight  # of all layers none is changed
    assert first.is_meta or first.all()


def test_a_network_that_torch_prunes_is_refused_before_it_is_copied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    mask = {"0.weight": torch.zeros(4, 4, dtype=torch.bool)}
    prune.l1_unstructured(model[1], "weight", 0.5)
    model(torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"1.weight is computed .*prune\.remove"):
        masked(model, mask)
    assert model[0].weight.all()
    prune.remove(model[1], "weight")
    assert not masked(model, mask)[0].weight.any()


@pytest.mark.parametrize("name", ["0.weight", "1.weight"])
def test_tied_weights_are_held_under_all_their_names(name):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    mask = torch.rand(4, 4) < 0.5
    zero_again = hold(model, {name: mask})
    assign(model)
    assert model[0].weight is not model[1].weight
    moved(model)
    zero_again()
    assert all(torch.equal(layer.weight != 0, mask) for layer in model)


def test_two_masks_for_one_tensor_are_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    mask = torch.rand(4, 4) < 0.5
    apply_masks(model, {"0.weight": mask, "1.weight": mask.clone()})
    assert torch.equal(model[0].weight != 0, mask)
    with pytest.raises(ValueError, match=r"0\.weight and 1\.weight are one tensor"):
        apply_masks(moved(model), {"0.weight": mask, "1.weight": ~mask})
    assert model[0].weight.all()


def test_a_shared_layer_is_masked_once():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    apply_masks(model, magnitude_masks(model, 0.5))
    assert int((layer.weight == 0).sum()) == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
def test_a_gradient_that_needs_the_values_before_is_refused_by_autograd(dtype):
    """Else it would be computed from the zeros, silently."""
    model = nn.Sequential(nn.Linear(4, 4, dtype=dtype), nn.Linear(4, 2, dtype=dtype))
    zero_again = hold(model, magnitude_masks(model, 0.5))
    loss = model(torch.randn(3, 4, dtype=dtype)).abs().sum()
    zero_again()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    model(torch.randn(3, 4, dtype=dtype)).abs().sum().backward()


def test_weights_that_share_one_number_are_refused():
    layer = nn.Linear(3, 2, bias=False)
    layer.weight = nn.Parameter(torch.ones(1).expand(2, 3))
    with pytest.raises(ValueError, match="weight has one number in memory for several"):
        apply_masks(layer, {"weight": torch.rand(2, 3) < 0.5})
    assert layer.weight.all()


def test_weights_of_inference_mode_are_zeroed_too():
    with torch.inference_mode():
        layer = nn.Linear(4, 2)
        chosen = magnitude_masks(layer, 0.5)
    apply_masks(layer, chosen)
    assert same({"weight": layer.weight != 0}, chosen)


@pytest.mark.parametrize("bad", [None, torch.ones(2, 2), [("weight", None)]])
@pytest.mark.parametrize("function", [apply_masks, masked, hold])
def test_masks_of_another_kind_are_refused(function, bad, unchanged):
    layer = nn.Linear(2, 2)
    check = unchanged(layer)
    with pytest.raises(ValueError, match=r"masks is a .*it must hold tensors"):
        function(layer, bad)
    with pytest.raises(ValueError, match="mask of weight is None; it must be a tensor"):
        function(layer, {"weight": None})
    with pytest.raises(ValueError, match=r"masks of weight are .* on meta"):
        function(layer, {"weight": torch.ones(2, 2, dtype=torch.bool, device="meta")})
    check()


def test_what_is_held_is_told_by_its_repr(cnn):
    chosen = magnitude_masks(cnn, 0.5)
    text = repr(hold(cnn, chosen))
    kept, total = report(chosen)[-1].kept, report(chosen)[-1].weights
    assert text.startswith(f"Held({kept:,} of {total:,} weights stay, sha256='")
    assert text == repr(hold(moved(copy.deepcopy(cnn)), dict(reversed(chosen.items()))))
    other = {name: mask.clone() for name, mask in chosen.items()}
    other["7.weight"][0, :2] = other["7.weight"][0, :2].flip(0)
    other["7.weight"][3, 3] ^= True
    assert text != repr(hold(cnn, other))
    assert text != repr(hold(cnn, {n: chosen[n] for n in list(chosen)[:2]}))
    layer, wide = nn.Linear(2, 3), nn.Linear(3, 2)
    assert len({repr(hold(m, magnitude_masks(m, 0))) for m in (layer, wide)}) == 2
