"""The explorer: every position of its controls against numbers computed apart from it, its picture, its widgets."""

import copy
import io
import xml.etree.ElementTree as ET
import zlib

import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from utils import explorer, lab
from utils.explorer import SCOPES, STOPS, Controls, Explorer
from utils.models import baseline
from utils.scores import SCORES, prunable, sample_batches

PICTURES = 200
WIDGET = "application/vnd.jupyter.widget-view+json"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def panel() -> Explorer:
    """One explorer for all tests that leave its widgets alone."""
    return Explorer("lenet300", pictures=PICTURES)


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    return baseline("lenet300")


@pytest.fixture
def own() -> nn.Module:
    """A learner's own network, in training mode."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3, stride=3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(162, 10))


def quick(model: nn.Module) -> Explorer:
    """An explorer with live widgets whose states take a millisecond."""
    return Explorer(model=model, pictures=20)


def saved(state: dict) -> bytes:
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()})


def masked_states(model: nn.Module, scores: dict, scope: str):
    """For each stop: the model's state with the lowest scores zeroed, by one stable sort; and the weights kept."""
    weights = {name: weight.detach() for name, weight in prunable(model).items()}
    groups = [list(weights)] if scope == "global" else [[name] for name in weights]
    orders = [torch.cat([scores[n].flatten() for n in g]).argsort(descending=True, stable=True) for g in groups]
    for stop in STOPS:
        state = copy.copy(model.state_dict())
        kept = {}
        for group, order in zip(groups, orders, strict=True):
            keep = torch.zeros(len(order), dtype=torch.bool)
            keep[order[: len(order) - round(stop * len(order))]] = True
            for name, mask in zip(group, keep.split([weights[n].numel() for n in group]), strict=True):
                kept[name] = int(mask.sum())
                state[name] = torch.where(mask.view_as(weights[name]), weights[name], 0.0)
        yield stop, state, kept


# ------------------------------------------------------------------------------------------------ every slider position


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", SCORES)
def test_every_stop_shows_what_is_true_of_the_network(panel, dense, course_data, name, scope):
    scores = SCORES[name](dense, sample_batches(course_data.train, count=4))
    pictures = course_data.validation[:PICTURES]
    twin, size = copy.deepcopy(dense), len(saved(dense.state_dict()))
    total = sum(weight.numel() for weight in prunable(dense).values())
    for stop, masked, kept in masked_states(dense, scores, scope):
        state = panel.state(Controls(stop, name, scope))
        twin.load_state_dict(masked)
        with torch.no_grad():
            right = int((twin(pictures.images).argmax(1) == pictures.labels).sum())
        assert state.accuracy == pytest.approx(right / PICTURES, abs=1e-6)
        assert {row.name: row.kept for row in state.layers} == {**kept, "all": sum(kept.values())}
        assert state.weights == sum(kept.values()) / total
        nonzero = sum(int(weight.count_nonzero()) for weight in prunable(twin).values())
        assert state.macs == nonzero / total  # in linear layers a MAC is a weight
        assert state.zipped == len(zlib.compress(saved(masked), 1)) / size
        assert state.saved == len(saved(masked)) / size == 1
        assert state.time is None
        check_picture(panel, state)


@pytest.mark.parametrize("stop", STOPS)
def test_the_fraction_of_weights_is_one_minus_the_sparsity_to_the_weight(panel, stop):
    whole = panel.state(Controls(stop)).layers[-1]
    assert whole.weights == 266_200
    assert whole.kept == whole.weights - round(stop * whole.weights)
    for layer in panel.state(Controls(stop, scope="layerwise")).layers[:-1]:
        assert layer.kept == layer.weights - round(stop * layer.weights)


def check_picture(panel: Explorer, state: explorer.State) -> None:
    """The picture is well-formed, and says in words what it shows."""
    root = ET.fromstring(panel.svg(state))
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    assert root.get("aria-label") == panel.describe(state)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert f"{state.accuracy:.1%}" in texts
    assert f"accuracy at {100 * state.controls.sparsity:g}% sparsity" in texts
    for layer in state.layers[:-1]:
        assert f"{layer.name.removesuffix('.weight')}: {layer.kept:,} of {layer.weights:,}" in texts
    dots = root.findall(f"{SVG}circle")
    assert len(dots) == len(STOPS) + 1
    here, ring = dots[STOPS.index(state.controls.sparsity)], dots[-1]
    assert (here.get("cx"), here.get("cy")) == (ring.get("cx"), ring.get("cy"))


def test_the_description_says_everything_in_words(panel):
    state = panel.state(Controls(0.9, "taylor", "layerwise"))
    text = panel.describe(state)
    for part in ("lenet300", "taylor score", "layerwise", "sparsity 90%", f"accuracy {state.accuracy:.1%}", "left 10%"):
        assert part in text
    assert "200 validation pictures" in text and "not measured yet" in text


def test_the_curve_has_every_stop_of_the_slider(panel):
    states = panel.curve(Controls(0.9, "magnitude", "layerwise"))
    assert [state.controls.sparsity for state in states] == list(STOPS)
    assert {state.controls.scope for state in states} == {"layerwise"}
    assert [stop for _, stop in panel.sparsity.options] == list(STOPS)


# --------------------------------------------------------------------------------------------------------- computing


def test_a_state_does_not_depend_on_what_was_shown_before(own):
    first, second = quick(own), quick(own)
    controls = [Controls(0.9), Controls(0.5, "gradient"), Controls(0.0), Controls(0.9, "random", "layerwise")]
    forwards = [first.state(choice) for choice in controls]
    backwards = [second.state(choice) for choice in reversed(controls)]
    assert forwards == backwards[::-1]
    assert [first.state(choice) for choice in controls] == forwards


def test_a_state_leaves_the_networks_alone(own, unchanged):
    same = unchanged(own)
    panel = quick(own)
    same_dense = unchanged(panel.dense)
    for choice in (Controls(0.9, name, scope) for name in SCORES for scope in SCOPES):
        panel.timed(choice, rounds=1)
    panel._repr_mimebundle_()
    same()
    same_dense()


def test_the_time_of_a_masked_network_is_a_plausible_ratio(panel):
    counted = panel.state(Controls(0.9))
    timed = panel.timed(Controls(0.9))
    assert 0.2 < timed.time < 5
    low, high = timed.time_quartiles
    assert low <= timed.time <= high
    assert panel.state(Controls(0.9)) == counted and counted.time is None
    assert f"time for one picture {timed.time:.0%} of the dense" in panel.describe(timed)
    assert "measuring ..." in panel.svg(counted) and "measuring ..." not in panel.svg(timed)


def test_timing_runs_the_network_of_these_controls(own, monkeypatch):
    panel = quick(own)
    panel.state(Controls(0.9))
    panel.state(Controls(0.0))
    seen = {}
    latency = explorer.measure.latency

    def look(models, *arguments, **options):
        seen.update({name: int(model[0].weight.count_nonzero()) for name, model in models.items()})
        return latency(models, *arguments, **options)

    monkeypatch.setattr(explorer.measure, "latency", look)
    panel.timed(Controls(0.9, scope="layerwise"), rounds=1)
    assert seen == {"masked": 2, "dense": 18}


# ----------------------------------------------------------------------------------------------------------- widgets


def test_moving_the_real_controls_changes_the_picture(own):
    panel = quick(own)
    panel.refresh()
    pictures = [panel.picture.value]
    for control, value in ((panel.sparsity, 0.9), (panel.score, "random"), (panel.scope, "layerwise")):
        control.value = value
        pictures.append(panel.picture.value)
        ET.fromstring(panel.picture.value)
    assert panel.controls == Controls(0.9, "random", "layerwise")
    assert len(set(pictures)) == 4
    assert "accuracy at 90% sparsity" in pictures[-1] and "random score, layerwise" in pictures[-1]
    assert panel.trouble.value == "" and panel.problems == []
    lab.finish()


def test_every_stop_of_the_real_slider(own):
    panel = quick(own)
    for label, stop in [*panel.sparsity.options, panel.sparsity.options[0]]:
        panel.sparsity.value = stop
        if stop or panel.picture.value:
            assert f"accuracy at {label} sparsity" in panel.picture.value
    assert panel.problems == []


def test_the_picture_is_drawn_where_there_is_no_kernel(panel):
    bundle, metadata = panel._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) >= {"image/png", "text/plain", WIDGET}
    assert bundle[WIDGET]["model_id"] == panel.panel.model_id
    assert bundle["image/png"].startswith(b"\x89PNG\r\n\x1a\n")
    image = Image.open(io.BytesIO(bundle["image/png"]))
    assert image.size == (920, 392)
    assert len(image.convert("RGB").getcolors(1 << 20)) > 50  # text and curves, not a blank sheet
    assert bundle["text/plain"].startswith("Pruning explorer. lenet300, magnitude score, global, sparsity 0%: accuracy")
    assert metadata["image/png"]["alt"] == bundle["text/plain"]


# ------------------------------------------------------------------------------------------------ errors in a callback


def broken(model, batches=()):
    raise KeyError("no <such> score")


def test_an_error_in_a_callback_is_shown_kept_and_fails_the_lab(own, monkeypatch):
    monkeypatch.setitem(SCORES, "broken", broken)
    panel = quick(own)
    panel.sparsity.value = 0.5
    before = panel.picture.value
    panel.score.value = "broken"
    shown = ET.fromstring(panel.trouble.value)
    assert shown.get("role") == "alert" and "#B00020" in shown.get("style")
    assert "".join(shown.itertext()) == "Error: KeyError: 'no <such> score'"
    assert "Traceback" in panel.problems[0] and "in broken" in panel.problems[0]
    assert panel.picture.value == before
    with pytest.raises(RuntimeError, match="A panel of this lab had an error: KeyError: 'no <such> score'"):
        lab.finish()


def test_the_red_goes_when_the_next_change_works_but_the_lab_still_fails(own, monkeypatch):
    monkeypatch.setitem(SCORES, "broken", broken)
    panel = quick(own)
    panel.score.value = "broken"
    assert panel.trouble.value
    panel.score.value = "taylor"
    assert panel.trouble.value == "" and "taylor score" in panel.picture.value
    assert len(panel.problems) == 1
    with pytest.raises(RuntimeError, match="KeyError"):
        lab.finish()
    lab.finish()


def test_an_error_while_drawing_is_shown_too(own, monkeypatch):
    panel = quick(own)
    monkeypatch.setattr(panel, "svg", lambda state: 1 / 0)
    panel.sparsity.value = 0.5
    assert "ZeroDivisionError" in panel.trouble.value
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        lab.finish()


def test_a_score_that_is_not_a_number_is_an_error_not_a_picture(own, monkeypatch):
    def not_a_number(model, batches=()):
        return {name: weight.detach() * float("nan") for name, weight in prunable(model).items()}

    monkeypatch.setitem(SCORES, "nan", not_a_number)
    panel = quick(own)
    panel.score.value = "nan"
    assert "NaN" in panel.trouble.value


# ----------------------------------------------------------------------------------------- a learner's own score, model


def test_a_score_added_before_is_offered(own, monkeypatch):
    monkeypatch.setitem(
        SCORES, "mine", lambda model, batches: {n: -w.detach().abs() for n, w in prunable(model).items()}
    )
    panel = quick(own)
    assert list(panel.score.options) == list(SCORES)
    panel.sparsity.value = 0.9
    largest = panel.picture.value
    panel.score.value = "mine"
    assert panel.picture.value != largest and "mine score" in panel.picture.value
    assert panel.problems == []


def test_a_score_added_after_works_in_code_and_is_offered_by_a_new_panel(own, monkeypatch):
    panel = quick(own)
    monkeypatch.setitem(SCORES, "mine", SCORES["magnitude"])
    assert "mine" not in panel.score.options
    mine, known = panel.state(Controls(0.9, "mine")), panel.state(Controls(0.9))
    assert (mine.accuracy, mine.layers) == (known.accuracy, known.layers)
    assert "mine" in quick(own).score.options


def test_a_learners_own_network(own):
    own.train()
    panel = quick(own)
    state = panel.state(Controls(0.5))
    assert [row.name for row in state.layers] == ["0.weight", "4.weight", "all"]
    assert state.weights == 0.5
    # 81 positions for each weight of the convolution, one for each of the linear layer
    conv, linear, _ = state.layers
    assert state.macs == (81 * conv.kept + linear.kept) / (81 * conv.weights + linear.weights)
    assert panel.describe(state).startswith("your network, ")
    check_picture(panel, state)
    assert own.training and not panel.dense.training


def test_a_network_with_many_layers_stays_inside_the_picture(course_data):
    layers = [nn.Flatten(), nn.Linear(784, 10), *(nn.Linear(10, 10) for _ in range(11))]
    panel = quick(nn.Sequential(*layers))
    root = ET.fromstring(panel.svg(panel.state(Controls(0.5))))
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("y") or 0) + float(box.get("height")) <= 392
        assert float(box.get("height")) > 0
    assert all(float(text.get("y")) <= 392 for text in root.iter(f"{SVG}text"))


def test_a_model_with_nothing_to_prune_is_refused():
    with pytest.raises(ValueError, match="nothing to prune"):
        Explorer(model=nn.Sequential(nn.Flatten(), nn.ReLU()))


@pytest.mark.parametrize("pictures", [0, -1, 5001])
def test_a_number_of_pictures_that_there_are_not_is_refused(pictures):
    with pytest.raises(ValueError, match=rf"pictures={pictures} must be between 1 and 5,000"):
        Explorer(pictures=pictures)


def test_unknown_names_are_refused(panel):
    with pytest.raises(ValueError, match="magnitude, taylor"):
        panel.state(Controls(0.5, "nothing"))
    with pytest.raises(ValueError, match="global, layerwise"):
        panel.state(Controls(0.5, scope="nowhere"))
    with pytest.raises(ValueError, match=r"sparsity=1\.0"):
        panel.state(Controls(1.0))
    with pytest.raises(ValueError, match="lenet300"):
        Explorer("alexnet")
