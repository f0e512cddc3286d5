"""Scores: each against a computation of its own, and the model left as it was."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tests.strategies import PICTURES, networks
from utils import scores
from utils.data import sample_batches
from utils.layers import prunable
from utils.scores import SCORES, UNIT_SCORES, Scores, score

BY_NAME = [(name, False) for name in SCORES] + [(name, True) for name in UNIT_SCORES]
NEED_PICTURES = [
    (n, u) for n, u in BY_NAME if n not in ("magnitude", "random", "l1", "l2")
]


def gradients(model: nn.Module, images, labels) -> dict[str, torch.Tensor]:
    """By `backward` on the training loss, in eval mode."""
    model.eval()
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    found = {
        name: dict(model.named_parameters())[name].grad.clone()
        for name in prunable(model)
    }
    model.zero_grad()
    return found


def mean_over(batches, of) -> torch.Tensor:
    return torch.stack([of(*batch) for batch in batches]).mean(0)


# ----------------------------------------------------------------------- single weights


def test_magnitude(cnn):
    got = score("magnitude", cnn)
    assert list(got) == list(prunable(cnn)) == ["0.weight", "3.weight", "7.weight"]
    assert all(
        torch.equal(got[name], weight.detach().abs())
        for name, weight in prunable(cnn).items()
    )
    assert got.pictures == 0


def test_magnitude_is_a_copy_that_does_not_follow_the_weights(cnn):
    got = score("magnitude", cnn)
    before = got["0.weight"].clone()
    with torch.no_grad():
        cnn[0].weight.add_(1)
    assert torch.equal(got["0.weight"], before)
    assert not got["0.weight"].requires_grad


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("gradient", lambda w, g: g.abs()),
        ("taylor", lambda w, g: (w * g).abs()),
    ],
)
def test_gradient_and_taylor_are_means_over_the_batches(cnn, batches, name, of):
    got = score(name, cnn, batches)
    for key, weight in prunable(cnn).items():
        wanted = mean_over(
            batches,
            lambda x, y, k=key, w=weight: of(w.detach(), gradients(cnn, x, y)[k]),
        )
        torch.testing.assert_close(got[key], wanted)
        assert wanted.abs().sum() > 0
    assert got.pictures == 32


def test_taylor_by_hand():
    """One weight a class, picture 1, logits w = (ln 3, 0), label 0: the probabilities
    are 3/4 and 1/4."""
    model = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[math.log(3)], [0.0]]))
    batch = (torch.ones(1, 1), torch.tensor([0]))
    assert score("gradient", model, [batch])[
        "weight"
    ].flatten().tolist() == pytest.approx([0.25, 0.25])
    assert score("taylor", model, [batch])[
        "weight"
    ].flatten().tolist() == pytest.approx([math.log(3) / 4, 0])
    assert score("snip", model, [batch])["weight"].flatten().tolist() == pytest.approx(
        [1, 0]
    )


def test_taylor_predicts_the_change_of_the_loss_for_a_small_weight(cnn, batches):
    cnn.eval()
    with torch.no_grad():
        cnn[7].weight[3, 5] = 1e-2
        before = F.cross_entropy(cnn(batches[0][0]), batches[0][1])
    predicted = score("taylor", cnn, batches[:1])["7.weight"][3, 5]
    with torch.no_grad():
        cnn[7].weight[3, 5] = 0
        after = F.cross_entropy(cnn(batches[0][0]), batches[0][1])
    assert abs(after - before) == pytest.approx(predicted.item(), rel=0.05)


def test_snip_uses_the_gradient_over_all_batches_and_sums_to_1(cnn, batches):
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    whole = gradients(cnn, images, labels)
    wanted = {
        name: (weight.detach() * whole[name]).abs()
        for name, weight in prunable(cnn).items()
    }
    total = sum(tensor.sum() for tensor in wanted.values())
    got = score("snip", cnn, batches)
    for name in wanted:
        torch.testing.assert_close(
            got[name], wanted[name] / total, rtol=1e-3, atol=1e-7
        )
    assert sum(tensor.sum().item() for tensor in got.values()) == pytest.approx(1)


def test_averages_can_hide_a_sign_and_snip_does_not():
    """Two batches whose gradients cancel: |g| averages to something, the gradient over
    both is zero."""
    model = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.5)
    both = [
        (torch.ones(1, 1), torch.tensor([0])),
        (torch.ones(1, 1), torch.tensor([1])),
    ]
    assert score("gradient", model, both)["weight"].flatten().tolist() == pytest.approx(
        [0.5, 0.5]
    )
    assert (
        scores._average_over_batches(model, both, lambda w, g: g)["weight"].abs().sum()
        == 0
    )


def test_activation_against_a_naive_loop(cnn, batches):
    """|w| times the root mean square of the input channel it multiplies, also where
    convolutions have groups."""
    cnn.eval()
    images = torch.cat([images for images, _ in batches])
    with torch.no_grad():
        inner = cnn[:3](images)
        last = cnn[:7](images)
    got = score("activation", cnn, batches)
    conv, grouped, linear = (weight.detach() for weight in prunable(cnn).values())
    wanted = torch.empty_like(grouped)
    for filter in range(6):
        for channel in range(2):
            # filters 0-2 see inputs 0 and 1, filters 3-5 see 2 and 3
            source = channel + 2 * (filter // 3)
            wanted[filter, channel] = (
                grouped[filter, channel].abs() * inner[:, source].square().mean().sqrt()
            )
    torch.testing.assert_close(got["3.weight"], wanted)
    torch.testing.assert_close(
        got["0.weight"], conv.abs() * images.square().mean().sqrt()
    )
    torch.testing.assert_close(
        got["7.weight"], linear.abs() * last.square().mean(0).sqrt()
    )
    assert got.pictures == 32


def test_random_is_reproducible_uniform_and_leaves_the_global_generator(cnn):
    state = torch.get_rng_state()
    got = score("random", cnn)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(
        torch.equal(got[name], again)
        for name, again in scores.random(cnn, seed=0).items()
    )
    assert not torch.equal(got["7.weight"], scores.random(cnn, seed=1)["7.weight"])
    assert 0.4 < got["7.weight"].mean() < 0.6


# -------------------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("l1", lambda row: row.abs().sum()),
        ("l2", lambda row: row.square().sum().sqrt()),
    ],
)
def test_unit_magnitudes_row_by_row(cnn, name, of):
    got = score(name, cnn, units=True)
    for key, weight in prunable(cnn).items():
        torch.testing.assert_close(
            got[key], torch.stack([of(row) for row in weight.detach()])
        )


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("gradient", lambda w, g: g.abs().sum()),
        ("taylor", lambda w, g: (w * g).sum().abs()),
        ("taylor squared", lambda w, g: (w * g).sum() ** 2),
    ],
)
def test_unit_gradient_scores_row_by_row(cnn, batches, name, of):
    got = score(name, cnn, batches, units=True)
    for key, weight in prunable(cnn).items():

        def rows(images, labels, key=key, weight=weight):
            pairs = zip(
                weight.detach(), gradients(cnn, images, labels)[key], strict=True
            )
            return torch.stack([of(w, g) for w, g in pairs])

        torch.testing.assert_close(got[key], mean_over(batches, rows))
    assert got.pictures == 32


def test_unit_activation_is_the_mean_output_after_relu(cnn, batches):
    cnn.eval()
    images = torch.cat([images for images, _ in batches])
    with torch.no_grad():
        outputs = {
            "0.weight": cnn[:1](images),
            "3.weight": cnn[:4](images),
            "7.weight": cnn(images),
        }
    got = score("activation", cnn, batches, units=True)
    for name, output in outputs.items():
        by_unit = output.clamp(min=0).transpose(0, 1).flatten(1).mean(1)
        torch.testing.assert_close(got[name], by_unit)


def test_activation_of_a_linear_layer_over_positions():
    """`[n, positions, features]` inputs, as in a transformer: the last dimension is the
    channel."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Flatten(), nn.Linear(20, 2))
    images = torch.randn(7, 4, 3)
    batch = [(images, torch.zeros(7, dtype=torch.long))]
    got = score("activation", model, batch)["0.weight"]
    torch.testing.assert_close(
        got, model[0].weight.detach().abs() * images.square().mean((0, 1)).sqrt()
    )
    assert score("activation", model, batch, units=True)["0.weight"].shape == (5,)


# ------------------------------------------------------------------- what holds for all


@pytest.mark.parametrize(("name", "units"), BY_NAME)
def test_shapes_names_and_signs(cnn, batches, name, units):
    got = score(name, cnn, batches, units=units)
    weights = prunable(cnn)
    assert isinstance(got, Scores) and set(got) == set(weights)
    for key, tensor in got.items():
        assert tensor.shape == (weights[key].shape[:1] if units else weights[key].shape)
        assert tensor.isfinite().all() and (tensor >= 0).all() and tensor.max() > 0
        assert not tensor.requires_grad


@pytest.mark.parametrize(("name", "units"), BY_NAME)
@settings(
    deadline=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(network=networks(), count=st.integers(1, 3))
def test_every_score_of_any_network(unchanged, name, units, network, count):
    check = unchanged(network)
    got = score(
        name, network, [(PICTURES, torch.arange(len(PICTURES)))] * count, units=units
    )
    check()
    for key, weight in prunable(network).items():
        assert got[key].shape == (weight.shape[:1] if units else weight.shape), key
        assert got[key].isfinite().all() and (got[key] >= 0).all(), key


@pytest.mark.parametrize(("name", "units"), BY_NAME)
@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(cnn, batches, unchanged, name, units, training):
    cnn.train(training)
    cnn[1].eval()  # a learner's frozen BatchNorm stays frozen
    cnn[0].weight.grad = torch.ones_like(cnn[0].weight)
    check = unchanged(cnn)
    score(name, cnn, batches, units=units)
    check()


@pytest.mark.parametrize(("name", "units"), NEED_PICTURES)
def test_the_model_is_left_as_it_was_by_an_error_too(cnn, unchanged, name, units):
    cnn.train()
    check = unchanged(cnn)
    with pytest.raises(RuntimeError, match=r"."):
        score(
            name,
            cnn,
            [(torch.zeros(2, 3, 28, 28), torch.zeros(2, dtype=torch.long))],
            units=units,
        )
    check()


@pytest.mark.parametrize(("name", "units"), NEED_PICTURES)
def test_no_batches_is_an_error_that_says_how_to_get_some(cnn, name, units):
    for empty in ((), []):
        with pytest.raises(ValueError, match=r"batches is empty.*sample_batches"):
            score(name, cnn, empty, units=units)


@pytest.mark.parametrize(("name", "units"), BY_NAME)
def test_a_model_that_is_one_layer_has_the_name_of_its_parameter(name, units):
    batch = [(torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1]))]
    assert list(score(name, nn.Linear(4, 3), batch, units=units)) == ["weight"]


@pytest.mark.parametrize(("name", "units"), BY_NAME)
def test_scores_are_computed_inside_no_grad_too(cnn, batches, name, units):
    outside = score(name, cnn, batches, units=units)
    with torch.no_grad():
        inside = score(name, cnn, batches, units=units)
    assert all(torch.equal(outside[key], inside[key]) for key in outside)


@pytest.mark.parametrize("units", [False, True])
def test_an_unknown_name_lists_the_known_ones(cnn, units):
    with pytest.raises(ValueError, match="name='magnitud'") as caught:
        score("magnitud", cnn, units=units)
    assert all(
        known in str(caught.value) for known in (UNIT_SCORES if units else SCORES)
    )


def test_a_score_of_ones_own_is_one_line(cnn, monkeypatch):
    monkeypatch.setitem(
        SCORES, "mine", lambda model, batches: Scores(prunable(model), len(batches))
    )
    assert score("mine", cnn, [1, 2]).pictures == 2


def test_what_a_score_says_of_itself():
    assert (
        repr(Scores({"a": torch.zeros(2, 3)}, 2560))
        == "Scores from 2,560 pictures: a [2, 3]"
    )


def test_prunable_are_weights_of_linear_and_convolutional_layers_only():
    model = nn.Sequential(
        nn.Conv1d(1, 1, 1),
        nn.BatchNorm1d(1),
        nn.Conv3d(1, 1, 1),
        nn.Embedding(3, 3),
        nn.Linear(1, 1),
    )
    assert list(prunable(model)) == ["0.weight", "2.weight", "4.weight"]
    assert prunable(model)["4.weight"] is model[4].weight


@pytest.mark.parametrize(("name", "units"), BY_NAME)
def test_a_model_with_nothing_to_prune_is_refused(name, units, batches):
    with pytest.raises(ValueError, match=r"Sequential.*nothing to prune"):
        score(name, nn.Sequential(nn.Flatten(), nn.ReLU()), batches, units=units)


# ----------------------------------------------------------------------- sample_batches


def test_sampled_batches_hold_different_pictures_of_the_training_set(tiny):
    got = sample_batches(tiny, 3, batch_size=200)
    assert [images.shape for images, _ in got] == [(200, 1, 28, 28)] * 3
    sums = torch.cat([images.double().sum((1, 2, 3)) for images, _ in got])
    assert torch.equal(
        sums.sort().values, tiny.images.double().sum((1, 2, 3)).sort().values
    )
    assert not torch.equal(got[0][0], tiny.images[:200])


def test_sampled_labels_belong_to_their_pictures(tiny):
    label_of = {
        image.numpy().tobytes(): label
        for image, label in zip(tiny.images, tiny.labels.tolist(), strict=True)
    }
    for images, labels in sample_batches(tiny, 2, batch_size=50):
        assert [
            label_of[image.numpy().tobytes()] for image in images
        ] == labels.tolist()


def test_samples_are_reproducible_differ_by_seed_and_leave_the_global_generator(tiny):
    state = torch.get_rng_state()
    first, again, other = (
        sample_batches(tiny, 1, 64, seed=seed)[0][1] for seed in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("count", "batch_size"), [(0, 10), (7, 100), (1, 601), (-1, 10), (1, 0), (-2, -10)]
)
def test_a_sample_that_cannot_be_is_refused(tiny, count, batch_size):
    with pytest.raises(
        ValueError, match=rf"count={count}.*batch_size={batch_size}.*600"
    ):
        sample_batches(tiny, count, batch_size)
