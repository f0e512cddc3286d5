"""Kept weights that make up for those that leave: against least squares solved row by
row, and against what is known of the optimal brain surgeon."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tests.strategies import Net
from utils import models, refit
from utils.layers import prunable
from utils.masks import NM, magnitude_masks, masked, masks_from_scores
from utils.scores import random
from utils.text import Windows

quickly = settings(deadline=None, max_examples=30)
seeds = st.integers(0, 10_000)


def correlated(rows: int, inputs: int, seed: int) -> torch.Tensor:
    """`[rows, inputs]` float64, inputs that resemble each other."""
    generator = torch.Generator().manual_seed(seed)
    few = torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    mix = torch.randn(2, inputs, generator=generator, dtype=torch.float64)
    own = torch.randn(rows, inputs, generator=generator, dtype=torch.float64)
    return few @ mix + 0.3 * own


def layer(units: int, inputs: int, seed: int, share: float = 0.5):
    """A weight and a mask, `[units, inputs]` each, and rows of inputs."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(units, inputs, generator=generator, dtype=torch.float64)
    mask = torch.rand(units, inputs, generator=generator) >= share
    return weight, mask, correlated(6 * inputs, inputs, seed + 1)


def by_lstsq(weight, mask, rows):
    """Each output by itself, with LAPACK's own least squares."""
    result = torch.zeros_like(weight)
    for unit, kept in enumerate(mask):
        if kept.any():
            goal = (rows @ weight[unit])[:, None]
            found = torch.linalg.lstsq(rows[:, kept], goal, driver="gelsd").solution
            result[unit, kept] = found[:, 0]
    return result


def text_network() -> nn.Module:
    torch.manual_seed(0)
    return models.gpt(
        pieces=16, width=8, blocks=2, heads=2, head_width=4, neurons=12, deviation=0.5
    ).eval()


def windows(count: int = 12) -> list[tuple[torch.Tensor, torch.Tensor]]:
    pieces = torch.randint(
        16, (count * 10 + 1,), generator=torch.Generator().manual_seed(1)
    )
    split = Windows.of(pieces, context=10)
    return list(zip(split.images.split(4), split.labels.split(4), strict=True))


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4))


def pictures(rows: int = 60) -> list[tuple[torch.Tensor, torch.Tensor]]:
    inputs = correlated(rows, 6, seed=0).float()
    return [(inputs, torch.zeros(rows, dtype=torch.int64))]


# -------------------------------------------------------------------------- one layer


@quickly
@given(st.integers(1, 5), st.integers(1, 9), seeds, st.floats(0, 1))
def test_least_squares_equal_those_of_each_row_by_itself(units, inputs, seed, share):
    weight, mask, rows = layer(units, inputs, seed, share)
    found = refit.least_squares(weight, mask, rows.T @ rows, ridge=0)
    assert (found[~mask] == 0).all()
    torch.testing.assert_close(found, by_lstsq(weight, mask, rows))


@quickly
@given(seeds, st.sampled_from([0.0, 1e-3, 0.1, 10.0]))
def test_a_ridge_is_rows_that_hold_the_kept_weights(seed, ridge):
    """The same problem with rows added, one for each input: the kept weights should
    reproduce what they were there."""
    weight, mask, rows = layer(3, 6, seed)
    strength = (ridge * rows.square().sum(0).mean()).sqrt()
    found = refit.least_squares(weight, mask, rows.T @ rows, ridge)
    for unit, kept in enumerate(mask):
        anchor = strength * torch.eye(6, dtype=torch.float64)[kept]
        goal = torch.cat([rows @ weight[unit], anchor @ weight[unit]])
        both = torch.cat([rows, anchor])[:, kept]
        expected = torch.linalg.lstsq(both, goal[:, None]).solution[:, 0]
        torch.testing.assert_close(found[unit, kept], expected)


@quickly
@given(seeds, st.sampled_from([0.0, 0.01, 1.0, 100.0]))
def test_outputs_are_never_further_than_with_the_mask_alone(seed, ridge):
    weight, mask, rows = layer(4, 8, seed)
    gram = rows.T @ rows
    fitted = refit.least_squares(weight, mask, gram, ridge)
    before = refit.output_error(weight, weight * mask, gram)
    after = refit.output_error(weight, fitted, gram)
    assert after <= before * (1 + 1e-9)
    outputs = (rows @ (weight * mask - weight).T).square().sum()
    assert before == pytest.approx(float(outputs))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_a_mask_that_keeps_all_changes_no_bit(kind):
    weight, mask, rows = layer(4, 8, seed=0)
    mask[1:] = True
    weight = weight.to(kind)
    found = refit.least_squares(weight, mask, rows.T @ rows)
    assert found.dtype == kind and torch.equal(found[1:], weight[1:])
    assert not torch.equal(found[0][mask[0]], weight[0][mask[0]])


def test_few_systems_at_once_change_nothing(monkeypatch):
    weight, mask, rows = layer(20, 9, seed=3)
    mask[4] = False
    whole = refit.least_squares(weight, mask, rows.T @ rows)
    monkeypatch.setattr(refit, "AT_ONCE", 100)
    again = refit.least_squares(weight, mask, rows.T @ rows)
    torch.testing.assert_close(again, whole, rtol=1e-12, atol=1e-12)


@quickly
@given(st.integers(2, 8), seeds, st.data())
def test_the_surgeon_finds_what_least_squares_find(inputs, seed, data):
    weight, _, rows = layer(2, inputs, seed)
    gram, place = rows.T @ rows, data.draw(st.integers(0, inputs - 1))
    stepped = refit.surgeon_step(weight[0], gram, place)
    mask = torch.ones(1, inputs, dtype=torch.bool)
    mask[0, place] = False
    torch.testing.assert_close(stepped[None], by_lstsq(weight[:1], mask, rows))
    cost = refit.surgeon_cost(weight, gram)[0, place]
    assert float(cost) == pytest.approx(
        refit.output_error(weight[:1], stepped[None], gram), rel=1e-6
    )


@quickly
@given(seeds, st.permutations(range(6)), st.integers(1, 5))
def test_step_after_step_ends_where_least_squares_do(seed, order, count):
    """In any order: each step starts from the last one's weights, and forgets none."""
    weight, _, rows = layer(1, 6, seed)
    row, mask = weight[0], torch.ones(1, 6, dtype=torch.bool)
    for place in order[:count]:
        row = refit.surgeon_step(row, rows.T @ rows, place)
        mask[0, place] = False
        assert (row == 0).sum() == (~mask).sum()
    torch.testing.assert_close(row[None], by_lstsq(weight, mask, rows))


# --------------------------------------------------------------------------- SparseGPT


def slow_sweep(weight, mask, gram):
    """By its definition: when a weight leaves, the weights right of it move as the
    surgeon would have them, with the inverse of their own part of the Gram matrix."""
    new = weight.clone()
    for j in range(weight.shape[1]):
        inverse = torch.linalg.inv(gram[j:, j:])
        for unit in (~mask[:, j]).nonzero()[:, 0].tolist():
            new[unit, j:] -= new[unit, j] / inverse[0, 0] * inverse[:, 0]
    return new * mask


@quickly
@given(st.integers(1, 9), st.integers(1, 5), seeds, st.floats(0, 0.9))
def test_the_sweep_moves_the_later_weights_as_the_surgeon_would(
    columns, units, seed, sparsity
):
    weight, _, rows = layer(units, 9, seed)
    gram = rows.T @ rows
    new, mask = refit.sparse_sweep(weight, sparsity, gram, ridge=0, columns=columns)
    assert int((~mask).sum()) == round(sparsity * mask.numel())
    torch.testing.assert_close(new, slow_sweep(weight, mask, gram))
    assert torch.equal(new != 0, mask)


def test_the_first_columns_lose_what_costs_least():
    weight, _, rows = layer(5, 8, seed=2)
    gram = rows.T @ rows
    _, mask = refit.sparse_sweep(weight, 0.5, gram, ridge=0, columns=8)
    factor = torch.linalg.cholesky(torch.linalg.inv(gram), upper=True)
    cost = weight.square() / factor.diagonal().square()
    assert cost[mask].min() >= cost[~mask].max()


def test_the_next_columns_are_judged_by_what_they_have_become():
    weight, _, rows = layer(5, 8, seed=2)
    gram = rows.T @ rows
    _, mask = refit.sparse_sweep(weight, 0.5, gram, ridge=0, columns=4)
    only_first = mask.index_fill(1, torch.arange(4, 8), True)
    moved = slow_sweep(weight, only_first, gram)[:, 4:]
    factor = torch.linalg.cholesky(torch.linalg.inv(gram), upper=True)
    for values, same in ((moved, True), (weight[:, 4:], False)):
        cost = values.square() / factor.diagonal()[4:].square()
        kept, gone = cost[mask[:, 4:]], cost[~mask[:, 4:]]
        assert bool(kept.min() >= gone.max()) == same


@quickly
@given(seeds, st.sampled_from([0.25, 0.5, 0.75]))
def test_its_error_lies_between_refit_and_the_mask_alone(seed, sparsity):
    weight, _, rows = layer(12, 16, seed)
    gram = rows.T @ rows
    new, mask = refit.sparse_sweep(weight, sparsity, gram, ridge=0)
    alone, swept, fitted = (
        refit.output_error(weight, each, gram)
        for each in (
            weight * mask,
            new,
            refit.least_squares(weight, mask, gram, ridge=0),
        )
    )
    plain = weight.abs() >= weight.abs().flatten().sort().values[round(sparsity * 192)]
    assert fitted <= swept * (1 + 1e-9) and swept < alone
    assert swept < refit.output_error(weight, weight * plain, gram)


def test_a_pattern_is_kept_in_each_group():
    weight, _, rows = layer(5, 12, seed=0)
    gram = rows.T @ rows
    new, mask = refit.sparse_sweep(weight, 0.5, gram, pattern=NM(2, 4), ridge=0)
    assert (mask.view(5, 3, 4).sum(2) == 2).all()
    torch.testing.assert_close(new, slow_sweep(weight, mask, gram))
    for pattern, sparsity, words in [
        (NM(2, 4), 0.4, "does not go with"),
        (NM(2, 5), 0.6, "m=5 does not divide"),
    ]:
        with pytest.raises(ValueError, match=words):
            refit.sparse_sweep(weight, sparsity, gram, pattern=pattern)


# --------------------------------------------------------------------- whole networks


def seen_by(model: nn.Module, name: str, images: torch.Tensor) -> torch.Tensor:
    """The inputs of a layer, `[rows, inputs]` float64."""
    found = []
    module = model.get_submodule(name.removesuffix(".weight"))
    handle = module.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    with torch.no_grad():
        model(images)
    handle.remove()
    (inputs,) = found
    return inputs.flatten(0, -2).double()


def test_grams_are_products_of_what_each_layer_gets(unchanged):
    model, batches = text_network(), windows()
    check = unchanged(model)
    found = refit.grams(model, batches)
    check()
    assert list(found) == list(prunable(model))
    images = torch.cat([images for images, _ in batches])
    for name, gram in found.items():
        rows = seen_by(model, name, images)
        torch.testing.assert_close(gram, rows.T @ rows, rtol=1e-5, atol=1e-4)
    one = refit.grams(model, batches, "blocks.1.mlp.up.weight")
    assert torch.equal(one["blocks.1.mlp.up.weight"], found["blocks.1.mlp.up.weight"])


def test_layers_of_one_weight_share_a_gram_and_a_layer_of_two_paths_counts_once():
    first = nn.Linear(4, 4, bias=False)
    other = nn.Linear(4, 4, bias=False)
    other.weight = first.weight
    model = nn.Sequential(first, other, first)
    images = torch.randn(7, 4)
    found = refit.grams(model, [(images, images)])["0.weight"].float()
    inputs = [images, first(images), first(first(images))]
    torch.testing.assert_close(found, sum(x.T @ x for x in inputs).detach())


def test_each_layer_is_fitted_to_what_it_gets_from_fitted_ones(unchanged):
    model, batches = text_network(), windows()
    check = unchanged(model)
    masks = masks_from_scores(random(model), 0.5, scope="layerwise")
    fitted = refit.refit(model, masks, batches, ridge=1e-6)
    check()
    images = torch.cat([images for images, _ in batches])
    for name, mask in masks.items():
        new, old = (prunable(each)[name].detach() for each in (fitted, model))
        assert torch.equal(new != 0, mask), name
        rows = seen_by(fitted, name, images)
        expected = by_lstsq(old.double(), mask, rows)
        torch.testing.assert_close(new.double(), expected, rtol=1e-2, atol=1e-2)
    for name, tensor in fitted.named_parameters():
        if name not in masks:
            assert torch.equal(tensor, model.get_parameter(name)), name
    again = refit.refit(model, masks, batches, ridge=1e-6)
    assert all(
        map(torch.equal, fitted.state_dict().values(), again.state_dict().values())
    )


def distance(model: nn.Module, other: nn.Module, batches) -> float:
    with torch.no_grad():
        return sum(float((model(x) - other(x)).square().sum()) for x, _ in batches)


def test_whole_networks_come_nearer_to_what_they_were():
    model, batches = small(), pictures()
    masks = magnitude_masks(model, 0.5, scope="layerwise")
    swept, chosen = refit.sparsegpt(model, 0.5, batches)
    fitted = refit.refit(model, masks, batches)
    alone = distance(model, masked(model, masks), batches)
    assert distance(model, fitted, batches) < 0.5 * alone
    assert distance(model, swept, batches) < distance(
        model, masked(model, chosen), batches
    )


def test_nothing_pruned_changes_nothing():
    model, batches = text_network(), windows()
    whole = {name: torch.ones_like(w) > 0 for name, w in prunable(model).items()}
    for masks in (whole, {}):
        fitted = refit.refit(model, masks, batches)
        assert fitted is not model
        assert all(
            map(torch.equal, fitted.state_dict().values(), model.state_dict().values())
        )
    swept, masks = refit.sparsegpt(model, 0.0, batches)
    assert all(mask.all() for mask in masks.values())
    assert all(
        map(torch.equal, swept.state_dict().values(), model.state_dict().values())
    )


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.9])
def test_sparsegpt_is_exact_in_each_layer_and_leaves_the_network(sparsity, unchanged):
    model, batches = text_network(), windows()
    check = unchanged(model)
    swept, masks = refit.sparsegpt(
        model, sparsity, batches, exclude="blocks.0.mlp.up.weight"
    )
    check()
    assert list(masks) == list(prunable(model))
    for name, mask in masks.items():
        weight = prunable(swept)[name]
        gone = round(sparsity * mask.numel()) * (name != "blocks.0.mlp.up.weight")
        assert int((~mask).sum()) == gone, name
        assert (weight[~mask] == 0).all() and weight[mask].all(), name
    assert swept.head.weight is swept.embedding.weight


def test_sparsegpt_takes_patterns_and_shares():
    model, batches = text_network(), windows()
    _, masks = refit.sparsegpt(model, 0.5, batches, pattern=NM(2, 4))
    for mask in masks.values():
        assert (mask.unflatten(1, (-1, 4)).sum(2) == 2).all()
    shares = dict.fromkeys(prunable(model), 0.25) | {"blocks.0.mlp.up.weight": 0.75}
    _, masks = refit.sparsegpt(model, shares, batches)
    assert {n: 1 - m.float().mean().item() for n, m in masks.items()} == shares
    with pytest.raises(ValueError, match="sparsity by layer must name exactly blocks"):
        refit.sparsegpt(model, {"blocks.0.mlp.up.weight": 0.5}, batches)


@pytest.mark.parametrize(
    "options", [{}, dict(stride=2, padding=1), dict(dilation=(2, 1), padding=(0, 2))]
)
def test_convolutions_are_fitted_by_their_unfolded_inputs(options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, **options), nn.ReLU(), nn.Flatten())
    images = torch.randn(20, 3, 8, 8)
    gram = refit.grams(model, [(images, images)])["0.weight"]
    weight = model[0].weight.detach().double().flatten(1)
    outputs = F.conv2d(images.double(), model[0].weight.double(), None, **options)
    assert ((weight @ gram) * weight).sum().item() == pytest.approx(
        outputs.square().sum().item(), rel=1e-5
    )
    masks = magnitude_masks(model, 0.5)
    fitted = refit.refit(model, masks, [(images, images)])
    assert torch.equal(fitted[0].weight != 0, masks["0.weight"])
    with torch.no_grad():
        goal = model[0](images)
        near = (fitted[0](images) - goal).square().sum()
        far = (masked(model, masks)[0](images) - goal).square().sum()
    assert near < far
    with pytest.raises(ValueError, match=r"0\.weight is a convolution.s; NM"):
        refit.sparsegpt(model, 0.5, [(images, images)], pattern=NM(1, 2))


def test_batchnorm_and_dropout_rest_meanwhile():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
    ).train()
    before = copy.deepcopy(model.state_dict())
    fitted = refit.refit(model, magnitude_masks(model, 0.5), pictures())
    assert fitted.training and fitted[1].num_batches_tracked == 0
    assert all(map(torch.equal, before.values(), model.state_dict().values()))
    again = refit.refit(model, magnitude_masks(model, 0.5), pictures())
    assert torch.equal(fitted[3].weight, again[3].weight)


# ------------------------------------------------------------------ what makes no sense


def idle() -> nn.Module:
    return Net(lambda self, x: self.a(x), a=nn.Linear(6, 4), b=nn.Linear(6, 4))


def twice() -> nn.Module:
    return Net(lambda self, x: self.a(self.a(x)), a=nn.Linear(6, 6))


GRAMS = {
    "no batches": (small, [], "batches is empty"),
    "an empty batch": (
        small,
        [(torch.zeros(0, 6), torch.zeros(0))],
        "batches is empty",
    ),
    "no pairs": (small, [torch.zeros(4, 6)], r"batches\[0\] is a Tensor.*pair"),
    "other inputs": (small, [(torch.zeros(4, 5), 0)], r"cannot take batches"),
    "infinite": (
        small,
        [(torch.full((4, 6), torch.inf), 0)],
        r"what 0\.weight multiplies is not finite",
    ),
    "an idle layer": (idle, pictures(), r"layer of b\.weight never runs"),
    "no linear layers": (nn.ReLU, pictures(), "nothing to prune"),
    "a grouped convolution": (
        lambda: nn.Conv2d(4, 4, 3, groups=2),
        pictures(),
        r"weight belongs to the model, Conv2d\(.*only nn.Linear",
    ),
    "no network": (lambda: 3, pictures(), "model=3 is no network"),
}


@pytest.mark.parametrize("case", GRAMS)
def test_a_gram_of_what_makes_no_sense_is_refused(case):
    make, batches, words = GRAMS[case]
    with pytest.raises(ValueError, match=words):
        refit.grams(make(), batches)


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"'2' is no weight here; .* 0.weight, 2.wei"):
        refit.grams(small(), pictures(), "2")
    with pytest.raises(ValueError, match=r"'embedding.weight' is tied to Embedding"):
        refit.grams(text_network(), windows(), ["embedding.weight"])


def halves(model: nn.Module) -> dict[str, torch.Tensor]:
    return masks_from_scores(random(model), 0.5, scope="unit")


REFITS = {
    "nothing kept": (
        small,
        lambda model: {"0.weight": torch.zeros(9, 6) > 0},
        {},
        r"mask of 0\.weight keeps nothing",
    ),
    "another shape": (
        small,
        lambda model: {"0.weight": torch.ones(9, 5) > 0},
        {},
        r"mask of 0\.weight is torch.bool \[9, 5\]",
    ),
    "an unknown name": (
        small,
        lambda model: {"5.weight": torch.ones(9, 6) > 0},
        {},
        "masks name '5.weight'",
    ),
    "a negative ridge": (small, halves, dict(ridge=-1), "ridge=-1 must be 0 or more"),
    "no ridge": (small, halves, dict(ridge=None), "ridge=None must be 0 or more"),
    "run twice": (twice, halves, {}, r"a\.weight is used more than once"),
    "idle": (idle, halves, {}, r"layer of b\.weight never runs"),
    "different batches": (
        small,
        halves,
        dict(batches=[(torch.zeros(4, 6), 0), (torch.zeros(4, 1, 6), 0)]),
        "several kinds",
    ),
}


@pytest.mark.parametrize("case", REFITS)
def test_a_refit_that_makes_no_sense_is_refused(case, unchanged):
    make, masks, options, words = REFITS[case]
    model = make()
    check = unchanged(model)
    options = dict(batches=pictures()) | options
    with pytest.raises(ValueError, match=words):
        refit.refit(model, masks(model), **options)
    check()


@pytest.mark.parametrize("dead", [False, True])
def test_inputs_that_do_not_determine_the_weights_need_a_ridge(dead):
    """Fewer rows than kept inputs, or one that is always zero."""
    model = small()
    ((images, labels),) = pictures(60 if dead else 2)
    if dead:
        images = images.index_fill(1, torch.tensor([2]), 0.0)
    masks = {"0.weight": torch.tensor([[False, True, True, True, True, True]] * 9)}
    for function in (
        lambda **how: refit.refit(model, masks, [(images, labels)], **how),
        lambda **how: refit.sparsegpt(model, 0.5, [(images, labels)], **how)[0],
    ):
        with pytest.raises(
            ValueError, match=r"inputs of 0\.weight depend.*ridge above"
        ):
            function(ridge=0)
        assert function()(images).isfinite().all()


def test_a_layer_that_does_not_fit_is_refused():
    weight, gram = torch.ones(2, 3), torch.eye(3)
    for call in (
        lambda: refit.surgeon_cost(weight, torch.eye(2)),
        lambda: refit.surgeon_step(weight, gram, 0),
        lambda: refit.least_squares(weight[0], weight[0] > 0, gram),
        lambda: refit.output_error(weight, weight, torch.ones(3)),
        lambda: refit.sparse_sweep(weight, 0.5, torch.ones(2, 3)),
    ):
        with pytest.raises(ValueError, match=r"must be \[units, inputs\] and \[inputs"):
            call()
    with pytest.raises(ValueError, match=r"must be torch.bool \[2, 3\]"):
        refit.least_squares(weight, weight, gram)
    with pytest.raises(ValueError, match="place=3"):
        refit.surgeon_step(weight[0], gram, 3)
    with pytest.raises(ValueError, match="the layer depend on each other"):
        refit.surgeon_cost(weight, torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"sparsity=1"):
        refit.sparse_sweep(weight, 1, gram)


def test_weights_that_are_not_finite_are_refused():
    model = small()
    masks = halves(model)
    with torch.no_grad():
        model[0].weight[0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"0\.weight holds a number that is not"):
        refit.refit(model, masks, pictures())
