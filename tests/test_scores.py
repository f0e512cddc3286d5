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
from utils.masks import masks_from_scores
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
        scores._from_gradients(model, both, lambda w, g: g)["weight"].abs().sum() == 0
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
    with pytest.raises(ValueError, match=r"cannot take batches\[0\] \[2, 3, 28, 28\]"):
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


# ------------------------------------------------------------ means over the pictures

NETWORK_LABELS = torch.arange(12) % 5
NETWORK_PICTURES = torch.randn(
    12, 2, 12, 12, generator=torch.Generator().manual_seed(2)
)


def cut(sizes: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The first pictures in batches of these sizes."""
    total = sum(sizes)
    return list(
        zip(
            NETWORK_PICTURES[:total].split(sizes),
            NETWORK_LABELS[:total].split(sizes),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    ("name", "units"), [("snip", False), ("activation", False), ("activation", True)]
)
@settings(deadline=None, max_examples=15)
@given(network=networks(), sizes=st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_how_the_pictures_are_cut_into_batches_changes_nothing(
    name, units, network, sizes
):
    if sum(sizes) == 0:
        sizes = [*sizes, 2]
    whole = score(name, network, cut([sum(sizes)]), units=units)
    parts = score(name, network, cut(sizes), units=units)
    assert parts.pictures == whole.pictures == sum(sizes)
    for key, tensor in whole.items():
        torch.testing.assert_close(parts[key], tensor, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "units", "of"),
    [
        ("gradient", False, lambda w, g: g.abs()),
        ("taylor", False, lambda w, g: (w * g).abs()),
        ("gradient", True, lambda w, g: g.abs().flatten(1).sum(1)),
        ("taylor", True, lambda w, g: (w * g).flatten(1).sum(1).abs()),
        ("taylor squared", True, lambda w, g: (w * g).flatten(1).sum(1).square()),
    ],
)
@settings(deadline=None, max_examples=8)
@given(network=networks(), sizes=st.lists(st.integers(1, 4), min_size=2, max_size=3))
def test_a_batch_counts_by_its_pictures(name, units, of, network, sizes):
    """As if each batch were there once for each of its pictures."""
    parts = cut(sizes)
    found = score(name, network, parts, units=units)
    for key, weight in prunable(network).items():
        each = [of(weight.detach(), gradients(network, *pair)[key]) for pair in parts]
        weighted = [value * n for value, n in zip(each, sizes, strict=True)]
        wanted = torch.stack(weighted).sum(0) / sum(sizes)
        torch.testing.assert_close(found[key], wanted)


@pytest.mark.parametrize(("name", "units"), NEED_PICTURES)
def test_batches_may_come_once_and_some_be_empty(cnn, batches, name, units):
    wanted = score(name, cnn, batches, units=units)
    empty = (torch.zeros(0, 1, 28, 28), torch.zeros(0, dtype=torch.long))
    found = score(name, cnn, iter([empty, *map(list, batches)]), units=units)
    assert all(torch.equal(found[key], tensor) for key, tensor in wanted.items())
    assert found.pictures == 32
    with pytest.raises(ValueError, match="batches is empty"):
        score(name, cnn, [empty, empty], units=units)


BAD_BATCHES = {
    "no pair": (lambda x, y: x, "batches[1] is [16, 1, 28, 28]; it must be a pair"),
    "three": (lambda x, y: (x, y, y), "[16, 1, 28, 28], [16], [16]; it must be a pair"),
    "no tensors": (lambda x, y: (x, y.tolist()), "[16, 1, 28, 28], list; it must"),
    "fewer labels": (lambda x, y: (x, y[:3]), "[16, 1, 28, 28], [3]; it must be"),
    "one label": (lambda x, y: (x, y[0]), "[16, 1, 28, 28], []; it must be a pair"),
    "meta": (lambda x, y: (x.to("meta"), y), "it must be a pair of tensors"),
    "other pictures": (lambda x, y: (x[..., :2], y), "cannot take batches[1]"),
}
BAD_LABELS = {
    "float": (lambda x, y: (x, y.float()), "labels of batches[1] are torch.float32"),
    "soft": (lambda x, y: (x, F.one_hot(y, 10).float()), "whose labels are [16, 10]"),
    "too large": (lambda x, y: (x, y + 5), "batches[1] go from 5 to 13; they must lie"),
    "ignored": (lambda x, y: (x, y.clone().fill_(-100)), "go from -100 to -100"),
    "nan pictures": (
        lambda x, y: (x * float("nan"), y),
        "the gradient of 0.weight for batches[1] is not finite",
    ),
}


@pytest.mark.parametrize("case", BAD_BATCHES | BAD_LABELS)
@pytest.mark.parametrize(("name", "units"), NEED_PICTURES)
def test_a_batch_that_cannot_be_is_named(cnn, batches, unchanged, name, units, case):
    change, words = (BAD_BATCHES | BAD_LABELS)[case]
    if name == "activation" and case in BAD_LABELS:  # labels are not looked at
        words = "for batches[1] is not finite"
        if case != "nan pictures":
            return
    check = unchanged(cnn.train())
    with pytest.raises(ValueError, match=r"batches\[1\]") as caught:
        score(name, cnn, [batches[0], change(*batches[1])], units=units)
    assert words in str(caught.value)
    check()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_whole_labels_of_any_type(cnn, batches, dtype):
    wanted = score("taylor", cnn, batches)
    found = score("taylor", cnn, [(x, y.to(dtype)) for x, y in batches])
    assert all(torch.equal(found[key], tensor) for key, tensor in wanted.items())


class Answers(nn.Module):
    """A network whose output is what `of` makes of it."""

    def __init__(self, of):
        super().__init__()
        self.layer, self.of = nn.Linear(4, 6), of

    def forward(self, x):
        return self.of(self.layer(x))


PAIR = (torch.randn(5, 4), torch.arange(5) % 3)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (lambda y: (y, y), "the network gives tuple for batches[0]"),
        (lambda y: {"logits": y}, "the network gives dict"),
        (lambda y: y[:, 0], "gives [5] for batches[0], whose labels are [5]"),
        (lambda y: y[:3], "gives [3, 6] for batches[0]"),
        (lambda y: y.view(5, 3, 2), "gives [5, 3, 2] for batches[0], whose labels are"),
        (lambda y: y.argmax(1), "the network gives torch.int64"),
        (lambda y: torch.complex(y, y), "the network gives torch.complex64"),
        (lambda y: y.detach(), "uses none of its prunable layers"),
        (lambda y: y.detach().requires_grad_(), "uses none of its prunable layers"),
    ],
)
def test_an_output_without_a_loss_is_refused(of, words, unchanged):
    model = Answers(of)
    check = unchanged(model)
    with pytest.raises(ValueError, match=r".") as caught:
        score("taylor", model, [PAIR])
    assert words in str(caught.value)
    check()


def test_a_class_for_each_place_is_averaged_over_the_places():
    model = nn.Conv2d(1, 3, 1)
    images, labels = torch.randn(4, 1, 2, 2), torch.randint(3, (4, 2, 2))
    whole = score("snip", model, [(images, labels)])["weight"]
    parts = [(images[:3], labels[:3]), (images[3:], labels[3:])]
    torch.testing.assert_close(score("snip", model, parts)["weight"], whole)


# -------------------------------------------------------------- layers, as they come


class Shared(nn.Module):
    """One layer on two parts of the picture, another tied to it, and one by keyword."""

    def __init__(self):
        super().__init__()
        self.twice, self.tied, self.last = (
            nn.Linear(4, 3, bias=False),
            nn.Linear(4, 3, bias=False),
            nn.Linear(3, 2),
        )
        self.tied.weight = self.twice.weight

    def parts(self, x):
        return x[:, :4], x[:, 4:8], x.view(-1, 3, 4)

    def forward(self, x):
        first, second, third = self.parts(x)
        hidden = self.twice(first) + self.twice(second) + self.tied(third).sum(1)
        return self.last(input=hidden)


def test_a_layer_used_twice_and_one_tied_to_it_share_one_mean():
    torch.manual_seed(0)
    model, x = Shared(), torch.randn(7, 12)
    pairs = [(x[:4], torch.arange(4) % 2), (x[4:], torch.arange(3) % 2)]
    rows = torch.cat([part.reshape(-1, 4) for part in model.parts(x)])
    weight = model.twice.weight.detach()
    found = score("activation", model, pairs)
    assert list(found) == ["twice.weight", "last.weight"]
    torch.testing.assert_close(
        found["twice.weight"], weight.abs() * rows.square().mean(0).sqrt()
    )
    torch.testing.assert_close(
        score("activation", model, pairs, units=True)["twice.weight"],
        (rows @ weight.T).relu().mean(0),
    )
    whole = gradients(model, x, torch.tensor([0, 1, 0, 1, 0, 1, 0]))["twice.weight"]
    found = score("snip", model, pairs)
    ratio = found["twice.weight"] / (weight * whole).abs()
    torch.testing.assert_close(ratio, ratio.mean().expand(3, 4))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("batched", [True, False])
def test_activations_of_convolutions_against_their_own_sums(
    groups, dimensions, batched
):
    """The output of a layer whose weights are all one, for squared inputs: `w` times
    the root of the mean square, by the convolution itself."""
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    torch.manual_seed(dimensions)
    layer = kind(4, 8, 1, groups=groups, bias=False)

    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            out = self.layer(x) if batched else torch.stack([self.layer(i) for i in x])
            return out.flatten(2).mean(2)

    images = torch.randn(3, 4, *[5] * dimensions)
    pairs = [(images, torch.arange(3))]
    found = score("activation", Alone(), pairs)["layer.weight"]
    mean = images.square().flatten(2).mean((0, 2))  # [4]
    for unit in range(8):
        for place in range(4 // groups):
            source = place + (4 // groups) * (unit // (8 // groups))
            wanted = layer.weight[unit, place].abs() * mean[source].sqrt()
            torch.testing.assert_close(found[unit, place], wanted.detach())
    found = score("activation", Alone(), pairs, units=True)["layer.weight"]
    wanted = layer(images).relu().transpose(0, 1).flatten(1).mean(1)
    torch.testing.assert_close(found, wanted.detach())


def test_a_transformer_s_linear_layers_are_scored_and_its_attention_is_not():
    torch.manual_seed(0)
    inner = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(inner, nn.Flatten(), nn.Linear(40, 3))
    pairs = [(torch.randn(6, 5, 8), torch.arange(6) % 3)]
    for name, units in BY_NAME:
        found = score(name, model, pairs, units=units)
        assert list(found) == ["0.linear1.weight", "0.linear2.weight", "2.weight"]
        assert found.left_out == ()
        assert all(tensor.sum() > 0 for tensor in found.values()), name


class Auxiliary(nn.Module):
    """A head that only training uses, and a layer that some pictures skip."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
        self.extra, self.rare = nn.Linear(6, 3), nn.Linear(6, 6)

    def forward(self, x):
        hidden = self.body(x).relu()
        if len(x) == 2:
            hidden = self.rare(hidden)
        return self.head(hidden) + (self.extra(hidden) if self.training else 0)


@pytest.mark.parametrize(("name", "units"), NEED_PICTURES)
def test_a_layer_that_the_pictures_do_not_reach_is_left_out(name, units, unchanged):
    torch.manual_seed(0)
    model = Auxiliary()
    check = unchanged(model)
    pairs = [PAIR, (PAIR[0][:2], PAIR[1][:2])]
    found = score(name, model, pairs, units=units)
    assert list(found) == ["body.weight", "head.weight", "rare.weight"]
    assert found.left_out == ("extra.weight",)
    assert repr(found).endswith("; none of extra.weight")
    if not units:
        assert list(masks_from_scores(found, 0.5)) == list(found)
    check()


def test_a_layer_that_some_batches_skip_has_no_gradient_there():
    torch.manual_seed(0)
    model, few = Auxiliary(), (PAIR[0][:2], PAIR[1][:2])
    found = score("gradient", model, [PAIR, few])
    alone = score("gradient", model, [few])
    torch.testing.assert_close(found["rare.weight"], alone["rare.weight"] * 2 / 7)


BY_GRADIENT = [(n, u) for n, u in NEED_PICTURES if n != "activation"]


@pytest.mark.parametrize(("name", "units"), BY_NAME)
def test_a_frozen_layer_has_no_score_by_gradient(cnn, batches, unchanged, name, units):
    cnn[3].requires_grad_(False)
    check = unchanged(cnn)
    if (name, units) in BY_GRADIENT:
        with pytest.raises(ValueError, match=r"3\.weight is frozen: a gradient score"):
            score(name, cnn, batches, units=units)
    else:
        assert len(score(name, cnn, batches, units=units)) == 3
    check()


@pytest.mark.parametrize(("name", "units"), BY_GRADIENT)
def test_weights_made_in_inference_mode_are_refused(name, units):
    with torch.inference_mode():
        model = nn.Linear(4, 3)
    with pytest.raises(ValueError, match=r"weight was made in torch\.inference_mode"):
        score(name, model, [PAIR], units=units)


@pytest.mark.parametrize(("name", "units"), BY_NAME)
def test_scores_are_computed_inside_inference_mode_too(name, units):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    outside = score(name, model, [PAIR], units=units)
    with torch.inference_mode():
        pictures = PAIR[0].clone()
        inside = score(name, model, [(pictures, PAIR[1])], units=units)
    assert all(torch.equal(outside[key], inside[key]) for key in outside)


@pytest.mark.parametrize(("name", "units"), NEED_PICTURES)
def test_random_numbers_that_a_network_draws_are_given_back(name, units):
    model = Answers(lambda y: F.dropout(y, 0.5, training=True))
    state = torch.get_rng_state()
    score(name, model, [PAIR], units=units)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_gradient_that_cannot_be_computed_is_refused(unchanged):
    def spoiled(y):
        y = y.exp()
        z = y.clone()
        y.mul_(2)  # `exp` needs what it gave
        return z + y

    model = Answers(spoiled)
    check = unchanged(model)
    with pytest.raises(
        ValueError, match=r"has no gradient for batches\[0\]: .*inplace"
    ):
        score("taylor", model, [PAIR])
    check()


# ------------------------------------------------------------------------ other numbers


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "units"), BY_NAME)
def test_other_types_of_weights(name, units, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    exact = score(name, model, [PAIR], units=units)
    pairs = [(PAIR[0].to(dtype), PAIR[1])]
    found = score(name, model.to(dtype), pairs, units=units)
    for key, tensor in exact.items():
        assert found[key].dtype in (torch.float32, torch.float64)
        torch.testing.assert_close(
            found[key].float(), tensor, rtol=0.1, atol=0.02 * tensor.max().item()
        )


def test_scores_of_half_precision_do_not_overflow():
    model = nn.Linear(4, 3, bias=False).half()
    pairs = [(torch.full((2, 4), 1000.0).half(), torch.arange(2))]
    found = score("activation", model, pairs)["weight"]
    torch.testing.assert_close(found, model.weight.detach().abs().float() * 1000)


def test_complex_weights_by_magnitude_and_by_what_their_loss_loses():
    class Power(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(4, 3, bias=False, dtype=torch.complex128)

        def forward(self, x):
            return self.layer(x).abs().square()

    model = Power()
    pair = (torch.randn(6, 4, dtype=torch.complex128), torch.arange(6) % 3)
    weight = model.layer.weight.detach()
    assert torch.equal(score("magnitude", model)["layer.weight"], weight.abs())
    for name, of in (("l1", torch.sum), ("l2", torch.linalg.vector_norm)):
        rows = torch.stack([of(row) for row in weight.abs()])
        torch.testing.assert_close(score(name, model, units=True)["layer.weight"], rows)
    rms = pair[0].abs().square().mean(0).sqrt()
    torch.testing.assert_close(
        score("activation", model, [pair])["layer.weight"], weight.abs() * rms
    )
    found, step = score("taylor", model, [pair])["layer.weight"], 1e-6
    for place in [(0, 0), (2, 3)]:  # by a small step towards zero
        changed = Power()
        changed.layer.weight.data[place] *= 1 - step
        before, after = (F.cross_entropy(m(pair[0]), pair[1]) for m in (model, changed))
        assert abs(after - before).item() / step == pytest.approx(
            found[place].item(), rel=1e-3
        )
    with pytest.raises(ValueError, match=r"cannot take batches\[0\]"):
        score("activation", model, [pair], units=True)


def test_whole_weights_have_a_magnitude():
    model = nn.Linear(2, 2, bias=False)
    values = torch.tensor([[-128, 5], [127, 0]], dtype=torch.int8)
    model.weight = nn.Parameter(values, requires_grad=False)
    assert score("magnitude", model)["weight"].tolist() == [[128, 5], [127, 0]]
    assert score("l1", model, units=True)["weight"].tolist() == [133, 127]


def test_snip_of_a_network_whose_loss_depends_on_nothing_is_zero():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    nn.init.zeros_(model[2].weight)
    found = score("snip", model, [PAIR])
    assert all(torch.equal(t, torch.zeros_like(t)) for t in found.values())


@pytest.mark.parametrize("name", UNIT_SCORES)
def test_units_without_inputs_are_worth_nothing(name):
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.empty, self.layer = nn.Linear(0, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(x) + self.empty(x[:, :0])

    with pytest.warns(UserWarning, match="zero-element"):
        model = Half()
    nn.init.constant_(model.empty.bias, -1)
    found = score(name, model, [PAIR], units=True)
    assert found["empty.weight"].tolist() == [0, 0, 0]
    assert found["layer.weight"].sum() > 0


# --------------------------------------------------------------- a score of one's own


def own(change):
    def mine(model, batches):
        return change({name: w.detach().abs() for name, w in prunable(model).items()})

    return mine


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict, "the score 'mine' gives a dict; return Scores"),
        (lambda s: list(s.values()), "gives a list; return Scores"),
        (lambda s: None, "gives a NoneType; return Scores"),
        (
            lambda s: Scores({n: s[n] for n in list(s)[1:]}),
            "it must give those of '0.w",
        ),
        (lambda s: Scores({}), "gives scores of nothing"),
        (lambda s: Scores({**s, "0.bias": s["0.weight"]}), "'0.bias'; it must give"),
        (
            lambda s: Scores({n: t.flatten(1).sum(1) for n, t in s.items()}),
            "the score 'mine' of 0.weight has shape [4]; it must be [4, 1, 3, 3]",
        ),
        (lambda s: Scores({n: t.tolist() for n, t in s.items()}), "0.weight is list"),
        (
            lambda s: Scores({n: torch.complex(t, t) for n, t in s.items()}),
            "0.weight is torch.complex64; give a tensor of real numbers",
        ),
    ],
)
def test_what_a_score_of_ones_own_gives_is_checked(cnn, monkeypatch, change, words):
    monkeypatch.setitem(SCORES, "mine", own(change))
    with pytest.raises(ValueError, match=r".") as caught:
        score("mine", cnn)
    assert words in str(caught.value)


def test_a_score_of_ones_own_may_name_what_it_leaves_out(cnn, monkeypatch):
    rule = own(lambda s: Scores({"0.weight": s["0.weight"]}, 0, list(s)[1:]))
    monkeypatch.setitem(SCORES, "mine", rule)
    assert score("mine", cnn).left_out == ("3.weight", "7.weight")


@pytest.mark.parametrize("seed", [-1, 1.5, "1", 2**64])
def test_a_seed_that_is_none_is_named(cnn, seed):
    for function in (scores.random, scores.unit_random):
        with pytest.raises(ValueError, match=f"seed={seed!r}"):
            function(cnn, seed=seed)


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
