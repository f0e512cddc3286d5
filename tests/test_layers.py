"""What a network consists of: each tensor once, who has it, and why not."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from utils import models
from utils.layers import (
    answer,
    copied,
    lay_out,
    parameter,
    prunable,
    prunable_layers,
    shared,
    watching,
    weights,
)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[1].weight = model[0].weight
    return model


def test_a_tied_weight_is_there_once_with_both_names_and_layers():
    model = tied()
    found = weights(model)
    assert list(found) == list(prunable(model)) == ["0.weight", "2.weight"]
    assert found["0.weight"].names == ["0.weight", "1.weight"]
    assert found["0.weight"].layers == {"0": model[0], "1": model[1]}
    assert list(prunable_layers(model)) == ["0", "1", "2"]


def test_one_memory_under_two_parameters_is_one_weight():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = nn.Parameter(model[0].weight.data)
    assert [w.names for w in weights(model).values()] == [["0.weight", "1.weight"]]


def test_a_shared_layer_has_two_names_and_runs_as_one():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert weights(model)["0.weight"].names == ["0.weight", "2.weight"]
    assert list(prunable_layers(model)) == ["0"]
    assert shared(model) == [["0.weight", "2.weight"], ["0.bias", "2.bias"]]


@pytest.mark.parametrize("order", [["in", "out", "body"], ["body", "out", "in"]])
def test_a_weight_tied_to_an_embedding_is_left_out_in_any_order(order):
    layers = {
        "in": nn.Embedding(9, 4),
        "out": nn.Linear(4, 9),
        "body": nn.Linear(4, 4),
    }
    layers["out"].weight = layers["in"].weight
    model = nn.ModuleDict({name: layers[name] for name in order})
    assert list(prunable(model)) == ["body.weight"]
    tie = next(weight for weight in weights(model).values() if len(weight.names) == 2)
    assert tie.why_not == "is tied to Embedding 'in', whose weights are not pruned"
    assert list(prunable_layers(model)) == [n for n in order if n != "in"]
    with pytest.raises(ValueError, match=r"nothing to prune.*tied to Embedding 'in'"):
        del model["body"]
        prunable(model)


def test_what_is_tied_and_left_out_can_still_be_named():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert parameter(model, "1.weight") is parameter(model, "0.weight")
    assert list(prunable(model)) == ["2.weight"]


def test_a_layer_tied_to_one_inside_an_attention_is_left_out():
    model = nn.ModuleDict({"a": nn.MultiheadAttention(4, 2), "b": nn.Linear(4, 4)})
    model["b"].weight = model["a"].out_proj.weight
    found = weights(model)["a.out_proj.weight"]
    assert found.names == ["a.out_proj.weight", "b.weight"]
    assert "'a.out_proj', whose weights are not pruned" in found.why_not


def test_a_text_network_is_pruned_but_for_its_pieces_and_places():
    model = models.gpt(width=8, blocks=2, heads=2, head_width=4, neurons=12)
    linear = [f"{n}.weight" for n, m in model.named_modules() if type(m) is nn.Linear]
    assert list(prunable(model)) == [name for name in linear if name != "head.weight"]


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.ConvTranspose2d(2, 3, 2), "ConvTranspose2d"),
        (nn.LSTM(2, 3), "LSTM"),
        (nn.Embedding(3, 2), "Embedding"),
        (nn.Bilinear(2, 3, 4), "Bilinear"),
        (nn.MultiheadAttention(4, 2), "MultiheadAttention"),
    ],
)
def test_what_cannot_be_pruned_is_listed_and_says_why(layer, kind):
    model = nn.Sequential(nn.Linear(3, 3), layer)
    others = {n: w for n, w in weights(model).items() if n != "0.weight"}
    matrices = [p for p in layer.parameters() if p.dim() >= 2]
    assert len(others) == len(matrices)
    assert all(kind in weight.why_not for weight in others.values())
    assert list(prunable(model)) == ["0.weight"]
    assert list(prunable_layers(model)) == ["0"]
    with pytest.raises(ValueError, match=f"nothing to prune.*{kind}"):
        prunable(nn.Sequential(layer))


def pruned_by_torch() -> nn.Module:
    layer = nn.Linear(4, 4)
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: parametrizations.weight_norm(nn.Linear(4, 4)), "is computed"),
        (lambda: parametrizations.orthogonal(nn.Linear(4, 4)), "is computed"),
        (pruned_by_torch, "is computed"),
        (lambda: nn.LazyLinear(4), "is not made yet"),
        (lambda: nn.Linear(4, 4, device="meta"), "has no values"),
    ],
)
def test_a_weight_that_cannot_be_pruned_yet_is_refused_by_name(layer, words):
    model = nn.Sequential(nn.Linear(4, 4), layer())
    with pytest.raises(ValueError, match=f"1.weight {words}"):
        prunable(model)


def test_made_permanent_it_can_be_pruned():
    layer = pruned_by_torch()
    prune.remove(layer, "weight")
    assert list(prunable(layer)) == ["weight"]


def test_a_computed_weight_is_listed_with_its_value():
    layer = pruned_by_torch()
    (weight,) = weights(layer).values()
    assert weight.name == "weight" and weight.tensor.count_nonzero() == 8


def test_frozen_weights_say_so():
    model = tied()
    model[2].requires_grad_(False)
    assert [w.trained for w in weights(model).values()] == [True, False]


def test_what_is_no_network_is_refused():
    with pytest.raises(ValueError, match="is no network"):
        prunable(nn.Linear)


def test_an_answer_that_fails_names_the_argument_and_what_was_said():
    model = nn.Linear(4, 2)
    assert answer(model, torch.zeros(3, 4)).shape == (3, 2)
    with pytest.raises(ValueError, match=r"cannot take batches\[0\] \[3, 5\].*shapes"):
        answer(model, torch.zeros(3, 5), "batches[0]")


def test_a_parameter_is_the_one_that_has_the_name_now():
    model = tied()
    assert parameter(model, "1.weight") is model[0].weight
    model[1] = nn.Linear(4, 4)
    assert parameter(model, "1.weight") is model[1].weight
    for name in ("3.weight", "1", "1.extra", "weight", ""):
        with pytest.raises(ValueError, match=f"states name {name!r}.*It has: 0.weight"):
            parameter(model, name, "states")
    for other, words in (
        (pruned_by_torch(), "is computed"),
        (nn.LazyLinear(4), "is not made yet"),
        (nn.Linear(4, 4, device="meta"), "has no values"),
    ):
        with pytest.raises(ValueError, match=f"0.weight {words}"):
            parameter(nn.Sequential(other), "0.weight")


def test_a_copy_shares_nothing_or_is_refused():
    model = tied()
    twin = copied(model)
    assert twin[0].weight is twin[1].weight is not model[0].weight
    model[1].weight = nn.Parameter(model[0].weight.data)  # one memory, two parameters
    twin = copied(model)
    assert twin[0].weight.data_ptr() == twin[1].weight.data_ptr()
    assert twin[0].weight.data_ptr() != model[0].weight.data_ptr()
    bad = nn.Sequential(pruned_by_torch())
    bad(torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"0.weight is computed .*remove"):
        copied(bad)


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(input=x)


@pytest.mark.parametrize("compiled", [False, True])
def test_watching_sees_what_runs_by_keyword_and_compiled(compiled):
    inner, seen, x = ByKeyword(), [], torch.randn(3, 4)
    model = torch.compile(inner, backend="eager") if compiled else inner
    with torch.no_grad():
        model(x)  # what was compiled here knows of no hook
        with watching(prunable_layers(model), lambda *what: seen.append(what)):
            output = model(x)
    ((name, layer, inputs, out),) = seen
    assert name.endswith("layer") and layer is inner.layer
    assert inputs[0] is x and torch.equal(out, output)
    assert not inner.layer._forward_hooks


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_lay_out_leaves_the_values_and_refuses_nothing(dimensions):
    kinds = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    model = nn.Sequential(kinds[dimensions](3, 4, 3), nn.Linear(2, 2))
    before = copy.deepcopy(model[0].weight)
    lay_out(model, torch.channels_last)
    assert torch.equal(model[0].weight, before)
    assert model[0].weight.is_contiguous() == (dimensions != 2)
    lay_out(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyLinear(2)), torch.channels_last)
