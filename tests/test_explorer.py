"""The explorer's panel: every position of its controls, its numbers against independent
ones, its widgets and errors, networks and pictures of the learner's own. (Work in the
background: test_explorer_background.)

LeNet-300-100 stands at every position that there is. The VGG and the ResNet stand at
all stops of each kind and scope with the kind's first score, and at one stop with every
other score and scope.
"""

import copy
import io
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from dataclasses import replace

import ipywidgets
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest
from torch import nn
from torch.nn import functional as F

from utils import lab, measure, surgery
from utils.baselines import baseline, to_bytes
from utils.data import Data, Split, sample_batches
from utils.explorer import Controls, Explorer, State, recorded
from utils.explorer import memory as memory_module
from utils.explorer import subject as subject_module
from utils.explorer.kinds import KINDS, STOPS
from utils.explorer.memory import PRUNED_AT_HAND, Memory
from utils.explorer.slider import StopSlider
from utils.explorer.subject import OWN
from utils.layers import prunable
from utils.masks import apply_masks, masks_from_scores, nm_masks
from utils.models import MODELS
from utils.scores import SCORES, Scores, score
from utils.training import evaluate, predict_logits

PICTURES = {"lenet300": 40, "vgg": 8, "resnet": 12}
WIDGET = "application/vnd.jupyter.widget-view+json"
SVG = "{http://www.w3.org/2000/svg}svg"


@pytest.fixture(scope="module")
def panels():
    """A panel for each network, made once; scores rest on 32 pictures, which is fast
    and tests as much."""
    made: dict[str, Explorer] = {}

    def panel(network: str) -> Explorer:
        if network not in made:
            made[network] = Explorer(network, pictures=PICTURES[network])
            subject = made[network].subject(network)
            subject.batches = sample_batches(subject.train, 2, 16)
        return made[network]

    return panel


@pytest.fixture
def quick(small, noise) -> Explorer:
    """A panel of a learner's own network, which allows every kind of pruning."""
    return Explorer(model=small, data=noise)


def counted(state: State) -> State:
    """The state without what was measured, to compare it with another."""
    return replace(
        state, time=None, csr=None, time_quartiles=(0.0, 0.0), csr_quartiles=(0.0, 0.0)
    )


# ----------------------------------------------------------------------- every position


def set_to(panel: Explorer, wanted: Controls) -> None:
    """Set the real widgets, as a learner would: from the left to the right."""
    for name in ("network", "kind", "score", "scope", "sparsity"):
        control = getattr(panel, name)
        if control.value != getattr(wanted, name):
            control.value = getattr(wanted, name)


def check_position(panel: Explorer, wanted: Controls) -> None:
    """The widgets take these controls, the picture is of them, and nothing goes
    wrong."""
    set_to(panel, wanted)
    assert panel.controls == wanted == panel.shown.controls
    assert panel.problems == [] and panel.trouble.value == ""
    root = ET.fromstring(panel.picture.value)
    assert root.tag == "div" and len(root.findall(f"div/{SVG}")) == 6


def positions(memory: Memory, network: str, *, every: bool) -> Iterator[Controls]:
    for kind, stops in memory.kinds(network).items():
        for place, name in enumerate(KINDS[kind].scores()):
            for scope in KINDS[kind].scopes:
                for stop in (
                    stops if every or not place else stops[len(stops) // 2 :][:1]
                ):
                    yield Controls(stop, name, scope, kind, network)


@pytest.mark.parametrize("network", MODELS)
def test_every_position_of_the_controls_has_its_picture(panels, network):
    panel = panels(network)
    panel.refresh()
    seen = set()
    for wanted in positions(panel.memory, network, every=network == "lenet300"):
        check_position(panel, wanted)
        seen.add((wanted.kind, wanted.score, wanted.scope))
    assert (
        len(seen)
        == {"lenet300": 12 + 1 + 14, "vgg": 12 + 1 + 14 + 3, "resnet": 12 + 1 + 14 + 3}[
            network
        ]
    )
    lab.finish()


def test_every_kind_that_there_is_no_way_to_do_is_explained(panels):
    offered = {
        network: set(panels(network).memory.kinds(network)) for network in MODELS
    }
    assert (
        offered["vgg"]
        == offered["resnet"]
        == set(KINDS)
        == {"weights", "nm", "channels", "blocks"}
    )
    assert offered["lenet300"] == {"weights", "nm", "channels"}
    refusals = panels("lenet300").memory.refusals("lenet300")
    assert list(refusals) == ["blocks"] and "shape" in refusals["blocks"]


def test_the_stops_of_each_kind(panels):
    stops = panels("resnet").memory.kinds("resnet")
    assert stops["weights"] == STOPS
    assert stops["nm"] == (0.0, 0.25, 0.5, 0.75)
    assert stops["blocks"] == (0.0, 0.25, 0.5, 0.75, 1.0)
    # 16 filters: one must stay
    assert stops["channels"] == tuple(stop for stop in STOPS if round(16 * stop) < 16)


def test_after_another_network_or_kind_what_goes_with_it_is_offered(panels):
    panel = panels("lenet300")
    set_to(panel, Controls(0.9, "taylor", "layerwise"))
    panel.kind.value = "channels"
    # the same where it is possible
    assert panel.controls == Controls(0.9, "taylor", "layerwise", "channels")
    panel.score.value = "l2"
    panel.kind.value = "nm"
    # else the nearest, and the first
    assert panel.controls == Controls(0.75, "magnitude", "in each group", "nm")
    assert panel.score.disabled and panel.scope.disabled
    panel.network.value = "resnet"
    panel.kind.value = "blocks"
    panel.sparsity.value = 0.5
    panel.network.value = "lenet300"
    assert panel.controls == Controls(0.5, "magnitude", "global", "weights")
    assert [value for _, value in panel.kind.options] == ["weights", "nm", "channels"]
    assert panel.problems == []


# -------------------------------------------------------------- numbers: single weights


def masked_states(model: nn.Module, scores: dict, scope: str):
    """For each stop: the model's state with the lowest scores zeroed, by one stable
    sort; and the weights kept."""
    weights = {name: weight.detach() for name, weight in prunable(model).items()}
    groups = [list(weights)] if scope == "global" else [[name] for name in weights]
    orders = [
        torch.cat([scores[n].flatten() for n in g]).argsort(
            descending=True, stable=True
        )
        for g in groups
    ]
    for stop in STOPS:
        state = copy.copy(model.state_dict())
        kept = {}
        for group, order in zip(groups, orders, strict=True):
            keep = torch.zeros(len(order), dtype=torch.bool)
            keep[order[: len(order) - round(stop * len(order))]] = True
            for name, mask in zip(
                group, keep.split([weights[n].numel() for n in group]), strict=True
            ):
                kept[name] = int(mask.sum())
                state[name] = torch.where(
                    mask.view_as(weights[name]), weights[name], 0.0
                )
        yield stop, state, kept


@pytest.mark.parametrize("scope", KINDS["weights"].scopes)
@pytest.mark.parametrize("name", SCORES)
def test_every_stop_shows_what_is_true_of_the_network(panels, course_data, name, scope):
    memory, dense = panels("lenet300").memory, baseline("lenet300")
    subject = memory.subject("lenet300")
    pictures = course_data.validation[:40]
    twin = copy.deepcopy(dense)
    total = sum(weight.numel() for weight in prunable(dense).values())
    for stop, masked, kept in masked_states(
        dense, SCORES[name](dense, subject.batches), scope
    ):
        controls = Controls(stop, name, scope)
        state = subject.first_look(controls, memory.prune(controls))
        twin.load_state_dict(masked)
        with torch.no_grad():
            right = int((twin(pictures.images).argmax(1) == pictures.labels).sum())
        assert state.accuracy == pytest.approx(right / 40, abs=1e-6)
        assert {row.name: row.kept for row in state.layers} == {
            **kept,
            "all": sum(kept.values()),
        }
        assert state.weights == sum(kept.values()) / total
        nonzero = sum(int(weight.count_nonzero()) for weight in prunable(twin).values())
        assert state.macs == nonzero / total  # in linear layers a MAC is a weight
        assert state.saved == 1 and state.time is None and state.zipped is None


@pytest.mark.parametrize("stop", STOPS)
def test_the_fraction_of_weights_is_one_minus_the_sparsity_to_the_weight(panels, stop):
    panel = panels("lenet300")
    whole = panel.state(Controls(stop)).layers[-1]
    assert whole.weights == 266_200
    assert whole.kept == whole.weights - round(stop * whole.weights)
    for layer in panel.state(Controls(stop, scope="layerwise")).layers[:-1]:
        assert layer.kept == layer.weights - round(stop * layer.weights)


# ------------------------------------------------------------------ numbers: every kind

BLOCKS = {"vgg": ["3", "10"], "resnet": ["3.0", "3.1", "4.1", "5.1"]}
SOME = [
    Controls(0.9, "taylor", "global", "weights", "lenet300"),
    Controls(0.5, "magnitude", "in each group", "nm", "lenet300"),
    Controls(0.7, "l2", "layerwise", "channels", "lenet300"),
    Controls(0.99, "activation", "global", "channels", "lenet300"),
    Controls(0.8, "magnitude", "layerwise", "weights", "vgg"),
    Controls(0.75, "magnitude", "in each group", "nm", "vgg"),
    Controls(0.5, "taylor", "global", "channels", "vgg"),
    Controls(0.5, "loss without it", "whole network", "blocks", "vgg"),
    Controls(1.0, "last to first", "whole network", "blocks", "vgg"),
    Controls(0.95, "snip", "global", "weights", "resnet"),
    Controls(0.25, "magnitude", "in each group", "nm", "resnet"),
    Controls(0.6, "l1", "layerwise", "channels", "resnet"),
    Controls(0.75, "loss without it", "whole network", "blocks", "resnet"),
    Controls(0.5, "first to last", "whole network", "blocks", "resnet"),
    Controls(0.25, "last to first", "whole network", "blocks", "resnet"),
]


def without(network: nn.Sequential, name: str) -> nn.Sequential:
    """A copy in which one block only hands on what it gets."""
    result = copy.deepcopy(network)
    parent, _, own = name.rpartition(".")
    result.get_submodule(parent)[int(own)] = nn.Identity()
    return result


@torch.no_grad()
def mean_loss(network: nn.Module, batches: list) -> float:
    return float(
        torch.stack(
            [F.cross_entropy(network(images), labels) for images, labels in batches]
        ).mean()
    )


def pruned(controls: Controls, batches: list) -> nn.Module:
    """The same network by the functions of the course, without the explorer."""
    network, example = baseline(controls.network), batches[0][0][:1]
    # else gradients differ in the last digits
    network.to(memory_format=torch.channels_last)
    if controls.kind == "channels":
        scores = score(controls.score, network, batches, units=True)
        return surgery.shrink(
            network, example, scores, controls.sparsity, scope=controls.scope, least=1
        )
    if controls.kind == "blocks":
        order = list(BLOCKS[controls.network])
        if controls.score == "loss without it":
            order.sort(key=lambda name: mean_loss(without(network, name), batches))
        if controls.score == "last to first":
            order = order[::-1]
        for name in order[: round(controls.sparsity * len(order))]:
            network = without(network, name)
        return network
    if controls.kind == "weights":
        scores = score(controls.score, network, batches)
        masks = masks_from_scores(
            scores, controls.sparsity, scope=controls.scope, allow_empty=True
        )
    else:
        first = [
            name for name, weight in prunable(network).items() if weight.shape[1] == 1
        ]
        masks = nm_masks(network, round(4 - 4 * controls.sparsity), 4, exclude=first)
    apply_masks(network, masks)
    return network


@pytest.mark.parametrize(
    "controls", SOME, ids=lambda c: f"{c.network}-{c.kind}-{c.score}-{c.sparsity:g}"
)
def test_numbers_of_every_kind_equal_those_of_the_courses_functions(
    panels, course_data, controls
):
    panel = panels(controls.network)
    state, dense = panel.state(controls), baseline(controls.network)
    wanted = pruned(controls, panel.subject(controls.network).batches)
    validation = course_data.validation[: PICTURES[controls.network]]
    example = validation.images[:1]
    assert state.accuracy == pytest.approx(evaluate(wanted, validation), abs=1e-6)
    assert (
        list(state.predicted)
        == predict_logits(wanted, validation.images).argmax(1).tolist()
    )
    whole, left = prunable(dense), prunable(wanted)
    kept = {
        name: int(left[name].count_nonzero()) if name in left else 0 for name in whole
    }
    assert {layer.name: layer.kept for layer in state.layers[:-1]} == kept
    assert [layer.weights for layer in state.layers[:-1]] == [
        weight.numel() for weight in whole.values()
    ]
    assert state.weights == sum(kept.values()) / sum(
        weight.numel() for weight in whole.values()
    )
    assert state.macs == measure.macs(wanted, example, nonzero=True) / measure.macs(
        dense, example
    )
    assert state.saved == measure.file_bytes(wanted) / measure.file_bytes(dense)
    assert state.zipped == measure.zipped_bytes(wanted, level=1) / measure.file_bytes(
        dense
    )
    assert (state.saved == 1) == KINDS[controls.kind].zeros


def test_nothing_pruned_is_the_dense_network_in_every_kind(panels, course_data):
    wanted = evaluate(baseline("resnet"), course_data.validation[:12])
    for kind in KINDS:
        state = panels("resnet").state(
            Controls(
                0.0, KINDS[kind].scores()[0], KINDS[kind].scopes[0], kind, "resnet"
            )
        )
        assert (state.weights, state.macs, state.saved) == (1, 1, 1)
        assert state.accuracy == pytest.approx(wanted, abs=1e-6)


def test_the_curve_has_every_stop_of_the_slider(panels):
    panel = panels("lenet300")
    set_to(panel, Controls())
    states = panel.curve(Controls(0.9, "magnitude", "layerwise"))
    assert [state.controls.sparsity for state in states] == list(STOPS)
    assert {state.controls.scope for state in states} == {"layerwise"}
    assert [stop for _, stop in panel.sparsity.options] == list(STOPS)


# ---------------------------------------------------------------------------- computing


def test_a_state_does_not_depend_on_what_was_shown_before(small, noise):
    first, second = Explorer(model=small, data=noise), Explorer(model=small, data=noise)
    controls = [
        Controls(0.9, network=OWN),
        Controls(0.5, "gradient", network=OWN),
        Controls(0.5, "l1", "global", "channels", OWN),
        Controls(1.0, "loss without it", "whole network", "blocks", OWN),
        Controls(0.9, "random", "layerwise", network=OWN),
    ]
    forwards = [first.state(choice) for choice in controls]
    backwards = [second.state(choice) for choice in reversed(controls)]
    assert forwards == backwards[::-1]
    assert [first.state(choice) for choice in controls] == forwards


def test_a_state_leaves_the_networks_alone(small, noise, unchanged):
    same = unchanged(small)
    panel = Explorer(model=small, data=noise)
    same_dense = unchanged(panel.subject(OWN).dense)
    for kind in KINDS:
        for name in KINDS[kind].scores():
            panel.timed(Controls(0.5, name, KINDS[kind].scopes[0], kind, OWN), rounds=1)
    panel._repr_mimebundle_()
    same()
    same_dense()


def test_a_score_is_computed_once_while_the_slider_moves(quick, monkeypatch):
    calls = []
    monkeypatch.setitem(
        SCORES,
        "counting",
        lambda model, batches: calls.append(1) or SCORES["taylor"](model, batches),
    )
    for stop in (0.0, 0.5, 0.9):
        quick.state(Controls(stop, "counting", network=OWN))
        quick.state(Controls(stop, "counting", "layerwise", network=OWN))
    assert calls == [1]


# --------------------------------------------------------------------- a first estimate


def test_the_first_look_at_a_large_network_rests_on_few_pictures_and_the_rest_follows(
    course_data, monkeypatch
):
    monkeypatch.setattr(recorded, "predictions", lambda content: b"")
    memory = Memory(pictures=100)
    controls = Controls(0.9, "magnitude", "layerwise", network="vgg")
    state, model = memory.look(controls)
    states = list(memory.refined(state, model))
    sizes = [state.pictures for state in states]
    assert 16 <= sizes[0] < 60 and sizes == sorted(sizes) and sizes[-1] == 100
    assert sizes[0] < sizes[1] < 100  # afterwards the zipped file is counted
    for state in (states[0], states[-1]):
        wanted = evaluate(model, course_data.validation[: state.pictures])
        assert state.accuracy == pytest.approx(wanted, abs=1e-6)
    assert states[0].margin > states[-1].margin


def test_a_small_network_answers_all_pictures_up_to_2000_at_once(course_data):
    memory = Memory()
    state, model = memory.look(Controls(0.5))
    assert state.pictures == 2000
    *_, state = memory.refined(state, model)
    assert state.pictures == 5000
    assert state.accuracy == pytest.approx(
        evaluate(model, course_data.validation), abs=1e-6
    )


def test_the_picture_says_first_estimate_until_all_pictures_are_in(
    small, noise, monkeypatch
):
    monkeypatch.setattr(subject_module, "FIRST_PICTURES", 25)
    panel = Explorer(model=small, data=noise)
    panel.refresh()
    assert "first estimate, 25 pictures" in panel.picture.value
    panel.settle()
    assert (
        "first estimate, " not in panel.picture.value
        and "points: 60 pictures" in panel.picture.value
    )
    assert panel.shown.pictures == 60
    assert panel.shown.accuracy == pytest.approx(
        evaluate(small.eval(), noise.validation)
    )


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_the_margin_is_half_of_wilsons_interval(counts):
    pictures, right = counts
    state = State(Controls(), bytes(pictures), right / pictures, 1, 1, 1, ())
    interval = binomtest(right, pictures).proportion_ci(
        confidence_level=0.95, method="wilson"
    )
    assert state.margin == pytest.approx((interval.high - interval.low) / 2, rel=1e-3)


# --------------------------------------------------------------------------------- time


def test_the_time_of_a_masked_network_is_a_plausible_ratio(panels):
    panel = panels("lenet300")
    before = panel.state(Controls(0.9))
    timed = panel.timed(Controls(0.9), rounds=9)
    assert 0.2 < timed.time < 5 and 0.02 < timed.csr < 50
    for middle, (low, high) in (
        (timed.time, timed.time_quartiles),
        (timed.csr, timed.csr_quartiles),
    ):
        assert low <= middle <= high
    assert panel.state(Controls(0.9)) == before and before.time is None
    assert f"time for one picture {timed.time:.0%} of the dense" in panel.describe(
        timed
    )
    assert f"CSR kernel {timed.csr:.0%}" in panel.describe(timed)
    assert "not measured yet" in panel.describe(before)
    assert "measuring ..." in panel.svg(before) and "measuring ..." not in panel.svg(
        timed
    )


@pytest.mark.parametrize("kind", KINDS)
def test_when_the_slider_rests_the_times_are_measured(small, noise, kind):
    panel = Explorer(model=small, data=noise, kind=kind)
    panel.sparsity.index = 1
    assert panel.shown.time is None and "measuring ..." in panel.picture.value
    panel.settle()
    assert panel.shown.time > 0 and "measuring ..." not in panel.picture.value
    assert panel.shown.zipped > 0 and "counting ..." not in panel.picture.value
    assert (panel.shown.csr is not None) == (kind in ("weights", "nm"))
    assert ("CSR" in panel.picture.value) == (kind in ("weights", "nm"))
    assert panel.describe(panel.shown) in html_text(panel.status.value)
    assert panel.problems == []


def html_text(content: str) -> str:
    return "".join(ET.fromstring(content).itertext())


@pytest.mark.parametrize("kind", KINDS)
def test_the_race_is_run_by_the_network_of_these_controls(quick, kind, monkeypatch):
    seen = {}

    class Look(measure.Race):
        def __init__(self, models, inputs, **options):
            sizes = {
                name: sum(
                    int(p.count_nonzero()) for p in model.parameters() if p.dim() > 1
                )
                for name, model in models.items()
                if name != "csr"
            }
            seen.update(models=list(models), sizes=sizes, example=inputs.shape)
            super().__init__(models, inputs, **options)

    monkeypatch.setattr(measure, "Race", Look)
    stops = quick.memory.kinds(OWN)[kind]
    wanted = Controls(
        stops[1], KINDS[kind].scores()[0], KINDS[kind].scopes[0], kind, OWN
    )
    state = quick.timed(wanted, rounds=1)
    assert seen["models"] == [
        "dense",
        "pruned",
        *(["csr"] if KINDS[kind].zeros else []),
    ]
    assert seen["sizes"] == {
        "dense": state.layers[-1].weights,
        "pruned": state.layers[-1].kept,
    }
    assert seen["example"] == (1, 3, 8, 8)


# ------------------------------------------------------------------------------ widgets


def test_moving_the_real_controls_changes_the_picture(quick):
    quick.refresh()
    pictures = [quick.picture.value]
    changes = [
        ("sparsity", 0.9),
        ("score", "random"),
        ("scope", "layerwise"),
        ("kind", "channels"),
        ("kind", "blocks"),
    ]
    for name, value in changes:
        getattr(quick, name).value = value
        pictures.append(quick.picture.value)
    assert len(set(pictures)) == 6
    assert quick.problems == [] and quick.trouble.value == ""
    lab.finish()


def test_the_panel_begins_where_it_is_told_to(small, noise):
    panel = Explorer(
        model=small,
        data=noise,
        kind="channels",
        score="l2",
        scope="global",
        sparsity=0.5,
    )
    assert panel.controls == Controls(0.5, "l2", "global", "channels", OWN)
    panel.sparsity.value = 0.7
    panel.kind.value = "nm"
    panel.reset.click()
    assert (
        panel.controls
        == panel.shown.controls
        == Controls(0.5, "l2", "global", "channels", OWN)
    )


def test_the_description_says_everything_in_words(quick):
    state = quick.state(Controls(0.9, "taylor", "layerwise", network=OWN))
    text = quick.describe(state)
    for part in (
        "your network",
        "single weights",
        "taylor score",
        "layerwise",
        "sparsity 90%",
        "left 10%",
    ):
        assert part in text
    assert f"accuracy {state.accuracy:.1%} on 60 validation pictures" in text
    assert f"MACs {state.macs:.0%}" in text and f"zipped {state.zipped:.0%}" in text
    assert "file as saved 100%" in text and "not measured yet" in text
    assert "not counted yet" in quick.describe(replace(state, zipped=None))
    assert "fine-tuned on 1,234 pictures" in quick.describe(replace(state, tuned=1234))


def test_the_picture_is_drawn_where_there_is_no_kernel(quick):
    bundle, metadata = quick._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) >= {"image/png", "text/plain", WIDGET}
    assert bundle[WIDGET]["model_id"] == quick.panel.model_id
    assert bundle["image/png"].startswith(b"\x89PNG\r\n\x1a\n")
    image = Image.open(io.BytesIO(bundle["image/png"]))
    drawn = ET.fromstring(quick.svg(quick.shown))
    assert image.width == 920
    assert image.height == pytest.approx(
        920 * float(drawn.get("height")) / float(drawn.get("width")), abs=1
    )
    # text and curves, not a blank sheet
    assert len(image.convert("RGB").getcolors(1 << 20)) > 50
    text = bundle["text/plain"]
    assert text.startswith(
        "Pruning explorer. your network, single weights, magnitude score, global,"
        " sparsity 0%: "
    )
    assert "not measured" not in text and metadata["image/png"]["alt"] == text


def test_a_panel_that_is_closed_takes_only_its_own_widgets_away(small, noise):
    panel, other, slider = quick_two(small, noise)
    panel.close()
    assert panel.panel.comm is None and panel.sparsity.comm is None
    assert (
        other.panel.comm is not None
        and other.sparsity.comm is not None
        and slider.comm is not None
    )


def quick_two(
    small: nn.Module, noise: Data
) -> tuple[Explorer, Explorer, ipywidgets.IntSlider]:
    return (
        Explorer(model=small, data=noise),
        Explorer(model=small, data=noise),
        ipywidgets.IntSlider(),
    )


def test_a_panel_that_is_closed_works_no_more(quick):
    quick.refresh()
    quick.tune.click()
    quick.close()
    quick.settle()
    assert (
        quick.shown.time is None and quick.memory.tuned == {} and quick.problems == []
    )


# ----------------------------------------------------------------- errors in a callback


def check_red(panel: Explorer, message: str) -> None:
    shown = ET.fromstring(panel.trouble.value)
    assert shown.get("role") == "alert" and "#B00020" in shown.get("style")
    assert "".join(shown.itertext()) == f"Error: {message}"
    assert "Traceback" in panel.problems[-1]


def broken(model, batches=()):
    raise KeyError("no <such> score")


def test_an_error_in_a_callback_is_shown_kept_and_fails_the_lab(
    small, noise, monkeypatch
):
    monkeypatch.setitem(SCORES, "broken", broken)
    panel = Explorer(model=small, data=noise)
    panel.sparsity.value = 0.5
    before = panel.picture.value
    panel.score.value = "broken"
    check_red(panel, "KeyError: 'no <such> score'")
    assert "in broken" in panel.problems[0]
    assert panel.picture.value == before
    with pytest.raises(
        RuntimeError,
        match="A panel of this lab had an error: KeyError: 'no <such> score'",
    ):
        lab.finish()


def test_the_red_goes_when_the_next_change_works_but_the_lab_still_fails(
    small, noise, monkeypatch
):
    monkeypatch.setitem(SCORES, "broken", broken)
    panel = Explorer(model=small, data=noise)
    panel.score.value = "broken"
    assert panel.trouble.value
    panel.score.value = "taylor"
    assert panel.trouble.value == "" and panel.shown.controls.score == "taylor"
    assert len(panel.problems) == 1
    with pytest.raises(RuntimeError, match="KeyError"):
        lab.finish()
    lab.finish()


def test_an_error_while_drawing_is_shown_too(quick, monkeypatch):
    monkeypatch.setattr(quick, "parts", lambda *_: 1 / 0)
    quick.sparsity.value = 0.5
    check_red(quick, "ZeroDivisionError: division by zero")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        lab.finish()


def test_an_error_where_there_is_no_kernel_is_said_in_place_of_the_picture(
    quick, monkeypatch
):
    monkeypatch.setattr(Memory, "race", lambda *_: 1 / 0)
    bundle, _ = quick._repr_mimebundle_()
    assert "ZeroDivisionError" in bundle["text/plain"] and "image/png" not in bundle


def test_a_score_that_is_not_a_number_is_an_error_not_a_picture(
    small, noise, monkeypatch
):
    def not_a_number(model, batches=()):
        return Scores(
            {
                name: weight.detach() * float("nan")
                for name, weight in prunable(model).items()
            }
        )

    monkeypatch.setitem(SCORES, "nan", not_a_number)
    panel = Explorer(model=small, data=noise)
    panel.score.value = "nan"
    assert "NaN" in panel.trouble.value


# ---------------------------------------------------------------- a learner's own score


def test_a_score_added_before_is_offered(small, noise, monkeypatch):
    monkeypatch.setitem(
        SCORES,
        "mine",
        lambda model, batches: Scores(
            {n: -w.detach().abs() for n, w in prunable(model).items()}
        ),
    )
    panel = Explorer(model=small, data=noise)
    assert [value for _, value in panel.score.options] == list(SCORES)
    panel.sparsity.value = 0.9
    largest = panel.picture.value
    panel.score.value = "mine"
    assert panel.picture.value != largest and panel.shown.controls.score == "mine"
    kept = panel.memory.prune(panel.controls)[7].weight
    dense = panel.subject(OWN).dense[7].weight
    assert kept[kept != 0].abs().max() < dense.abs().median()
    assert panel.problems == []


def test_a_score_added_after_works_in_code_and_is_offered_by_a_new_panel(
    quick, small, noise, monkeypatch
):
    monkeypatch.setitem(SCORES, "mine", SCORES["magnitude"])
    assert ("mine", "mine") not in quick.score.options
    mine, known = (
        quick.state(Controls(0.9, "mine", network=OWN)),
        quick.state(Controls(0.9, network=OWN)),
    )
    assert (mine.accuracy, mine.layers) == (known.accuracy, known.layers)
    assert ("mine", "mine") in Explorer(model=small, data=noise).score.options


def test_a_score_that_is_written_anew_under_its_old_name_counts_as_new(
    quick, monkeypatch
):
    """A learner corrects a score, and runs that cell again but not the panel's."""
    wrong = SCORES["magnitude"](quick.subject(OWN).dense)
    monkeypatch.setitem(
        SCORES,
        "mine",
        lambda model, batches: Scores({name: -each for name, each in wrong.items()}),
    )
    chosen = Controls(0.9, "mine", network=OWN)
    quick.state(chosen)
    monkeypatch.setitem(SCORES, "mine", SCORES["magnitude"])
    again, known = quick.state(chosen), quick.state(replace(chosen, score="magnitude"))
    assert again.layers == known.layers and again.predicted == known.predicted


def test_after_a_score_was_written_anew_what_is_found_out_is_remembered_again(
    quick, monkeypatch
):
    chosen = Controls(0.9, "mine", network=OWN)
    for rule in (SCORES["random"], SCORES["magnitude"]):
        monkeypatch.setitem(SCORES, "mine", rule)
        states = quick.curve(chosen)
    others = [each for each in quick.memory.states if each.score == "mine"]
    assert len(others) == len(states) == len(STOPS)
    assert all(quick.memory.look(each.controls)[0] is each for each in states)


def test_a_state_that_is_known_needs_no_pruned_network(quick, monkeypatch):
    chosen = Controls(0.9, network=OWN)
    known = quick.state(chosen)
    monkeypatch.setattr(Memory, "prune", lambda *_: 1 / 0)
    assert quick.state(chosen) is known


def test_the_zipped_file_is_counted_in_slices_that_a_key_can_come_between(
    quick, monkeypatch
):
    """As many bytes as at once, and no slice takes more of the file than it may."""
    monkeypatch.setattr(measure.counting, "ZIPPED_AT_ONCE", 512)
    state, model = quick.memory.look(Controls(0.5, network=OWN))
    content = measure.file_bytes(model)
    *slices, last = quick.memory.refined(state, model)
    assert len(slices) > content / 512
    assert all(each.zipped is None for each in slices)
    whole = len(zlib.compress(to_bytes(model), 1))
    assert last.zipped == whole / measure.file_bytes(quick.subject(OWN).dense)
    assert quick.memory.states[state.controls] is last


def test_a_slider_that_goes_to_and_fro_prunes_each_stop_once(quick, monkeypatch):
    pruned, prune = [], Memory.prune
    monkeypatch.setattr(
        Memory, "prune", lambda self, c: pruned.append(c) or prune(self, c)
    )
    places = quick.memory.places(Controls(network=OWN))
    models = [quick.memory.look(place)[1] for place in places]
    for place, model in zip(reversed(places), reversed(models), strict=True):
        assert quick.memory.look(place)[1] is model
    assert pruned == places and len({id(model) for model in models}) == len(places)
    # no more of them than that are held, and none that is large
    for place in quick.memory.places(Controls(network=OWN, score="random")):
        quick.memory.look(place)
    assert len(quick.memory._pruned) == PRUNED_AT_HAND
    assert quick.memory.look(places[-1])[1] is not models[-1]
    monkeypatch.setattr(memory_module, "LARGEST_AT_HAND", 0)
    large = Controls(0.5, "taylor", network=OWN)
    assert quick.memory.look(large)[1] is not quick.memory.look(large)[1]


# ----------------------------------------------------- a learner's own network and data


def test_an_own_network_on_the_courses_pictures(course_data):
    torch.manual_seed(0)
    own = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=3),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(162, 10),
    )
    panel = Explorer(model=own, pictures=20)
    state = panel.state(Controls(0.5, network=OWN))
    assert [row.name for row in state.layers] == ["0.weight", "4.weight", "all"]
    assert state.weights == 0.5 and state.pictures == 20
    # 81 positions for each weight of the convolution, one for each of the linear layer
    conv, linear, _ = state.layers
    assert state.macs == (81 * conv.kept + linear.kept) / (
        81 * conv.weights + linear.weights
    )
    assert panel.describe(state).startswith("your network, ")
    assert own.training and not panel.subject(OWN).dense.training
    assert "Ankle boot" in panel.svg(state)


def test_own_pictures_of_another_shape_work_in_every_kind(small, noise, unchanged):
    same = unchanged(small)
    panel = Explorer(model=small, data=noise)
    panel.refresh()
    assert (
        list(panel.memory.kinds(OWN)) == list(KINDS)
        and panel.memory.refusals(OWN) == {}
    )
    for wanted in positions(panel.memory, OWN, every=False):
        check_position(panel, wanted)
    for kind in KINDS:
        panel.kind.value = kind
        panel.sparsity.index = 1
        panel.tune.click()
        panel.settle()
        assert panel.shown.tuned == 256 and panel.shown.time is not None
    assert panel.problems == []
    same()


def test_classes_of_own_pictures_are_numbers(quick):
    assert list(quick.subject(OWN).classes) == ["0", "1", "2", "3"]
    assert "Ankle boot" not in quick.svg(quick.state(quick.controls))


def test_a_network_of_ones_own_is_the_only_one_offered(quick):
    assert quick.network.options == (OWN,) and quick.network.value == OWN


class Forking(nn.Module):
    """What it does depends on what it sees: no tracing can follow its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(192, 20), nn.Linear(20, 4)

    def forward(self, x):
        inner = self.first(x.flatten(1))
        return self.last(inner if inner.sum() > 0 else -inner)


def test_a_network_whose_channels_cannot_be_followed_is_not_offered_them(noise):
    panel = Explorer(model=Forking(), data=noise)
    assert list(panel.memory.kinds(OWN)) == ["weights", "nm"]
    assert [value for _, value in panel.kind.options] == ["weights", "nm"]
    assert "control flow" in panel.memory.refusals(OWN)["channels"]
    panel.sparsity.value = 0.9
    panel.settle()
    assert panel.problems == []
    with pytest.raises(
        ValueError,
        match=r"kind='channels' is not possible.*control flow.*Possible: weights, nm\.",
    ):
        Explorer(kind="channels", model=Forking(), data=noise)


def test_a_network_whose_first_layer_can_leave(noise):
    """[n, 3, 8, 8] -> [n, 3, 8, 8]: the first block hands on what it gets when it is
    removed; linear or not."""
    gray = Data(*(Split(split.images[:, :1], split.labels) for split in noise))
    for own, pictures in (
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)),
            gray,
        ),
        (
            nn.Sequential(
                nn.Conv2d(3, 3, 3, padding=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(192, 4),
            ),
            noise,
        ),
    ):
        panel = Explorer(model=own, data=pictures, kind="blocks", sparsity=1.0)
        panel.refresh()
        panel.settle()
        assert panel.problems == []
        assert panel.shown.layers[0].kept == 0


class Backwards(nn.Module):
    """Its layers are made in another order than they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Linear(100, 4), nn.Linear(192, 100)

    def forward(self, x):
        return self.last(self.first(x.flatten(1)).relu())


def test_a_network_that_makes_its_last_layer_first(noise):
    panel = Explorer(model=Backwards(), data=noise, kind="channels", sparsity=0.5)
    panel.refresh()
    panel.settle()
    assert panel.problems == []


def test_a_transformer_can_be_pruned(noise):
    torch.manual_seed(0)
    panel = Explorer(model=Attention(), data=noise)
    panel.sparsity.value = 0.9
    panel.settle()
    assert panel.problems == []
    assert panel.shown.csr is not None


class Attention(nn.Module):
    """Rows of the picture attend to each other; PyTorch reads the weights of its layers
    without calling them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = (
            nn.MultiheadAttention(8, 2, batch_first=True),
            nn.Linear(64, 4),
        )

    def forward(self, x):
        rows = x[:, 0]
        return self.head(self.attention(rows, rows, rows)[0].flatten(1))


# ----------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            dict(network="alexnet"),
            r"network='alexnet' is not offered here\. Known: lenet300, vgg, resnet\.",
        ),
        (
            dict(kind="rows"),
            r"kind='rows' is not known\. Known: weights, nm, channels, blocks\.",
        ),
        (
            dict(kind="blocks"),
            (
                r"kind='blocks' is not possible with lenet300: .*Possible: weights, nm,"
                r" channels\."
            ),
        ),
        (
            dict(score="l1"),
            r"score='l1' does not go with kind='weights'\. Known: magnitude, taylor, ",
        ),
        (
            dict(kind="channels", score="magnitude"),
            r"score='magnitude' does not go with kind='channels'\. Known: l1,",
        ),
        (
            dict(scope="nowhere"),
            (
                r"scope='nowhere' does not go with kind='weights'\. Known: global,"
                r" layerwise\."
            ),
        ),
        (
            dict(kind="nm", scope="global"),
            r"scope='global' does not go with kind='nm'\. Known: in each group\.",
        ),
        (
            dict(sparsity=0.33),
            (
                r"sparsity=0\.33 is no stop of kind='weights' for lenet300\. Stops: 0,"
                r" 0\.1, 0\.2,"
            ),
        ),
        (dict(sparsity=1.0), r"sparsity=1\.0 is no stop"),
        (dict(sparsity=float("nan")), r"sparsity=nan is no stop"),
        (
            dict(kind="nm", sparsity=0.9),
            r"sparsity=0\.9 is no stop of kind='nm' .*Stops: 0, 0\.25, 0\.5, 0\.75\.",
        ),
        (dict(pictures=0), r"pictures=0 must be a whole number from 1 to 5000"),
        (dict(pictures=-1), r"pictures=-1 must be"),
        (dict(pictures=5001), r"pictures=5001 must be"),
        (dict(pictures=True), r"pictures=True must be"),
        (dict(pictures=20.5), r"pictures=20\.5 must be"),
        (
            dict(
                data=Data(*[Split(torch.zeros(1, 1, 2, 2), torch.zeros(1).long())] * 3)
            ),
            r"data needs a model",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Explorer(**{"pictures": 20} | arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(sparsity=1.0), "sparsity"),
        (
            dict(score="nothing"),
            "score='nothing' does not go with kind='weights'. Known: magnitude, taylor",
        ),
        (dict(scope="nowhere"), "scope='nowhere'.*global, layerwise"),
        (dict(kind="rows"), "kind='rows'.*weights, nm"),
        (dict(network="alexnet"), "network='alexnet'.*lenet300"),
    ],
)
def test_controls_that_make_no_sense_are_refused_in_code(panels, change, message):
    with pytest.raises(ValueError, match=message):
        panels("lenet300").state(replace(Controls(0.5), **change))


def of(images, labels=None) -> Split:
    images = torch.as_tensor(images)
    return Split(
        images,
        (
            torch.zeros(len(images), dtype=torch.long)
            if labels is None
            else torch.tensor(labels)
        ),
    )


GOOD = of(torch.zeros(4, 3, 8, 8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("fashion", "data has no 'train'"),
        (Data(GOOD, None, GOOD), "data has no 'validation'"),
        (Data(GOOD, of(torch.zeros(0, 3, 8, 8)), GOOD), r"data\.validation has 0 "),
        (
            Data(of(torch.zeros(2, 3, 8, 8), [0, 1, 2]), GOOD, GOOD),
            r"data\.train has 2 .*3 labels",
        ),
        (
            Data(of(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)), GOOD, GOOD),
            r"torch\.uint8.*float32",
        ),
        (
            Data(GOOD, of(torch.zeros(2, 3, 9, 9)), GOOD),
            r"cannot take a picture of shape \[1, 3, 9, 9\]",
        ),
        (
            Data(of(torch.zeros(2, 3, 8, 8), [0, 4]), GOOD, GOOD),
            r"class number 4, but model has 4 outputs",
        ),
        (Data(GOOD, of(torch.zeros(2, 3, 8, 8), [0, -1]), GOOD), r"data.*-1"),
        (
            Data(*[of(torch.zeros(4, 192))] * 3),
            r"data.*\[4, 192\]|data.*\[1, 192\]|picture",
        ),
    ],
)
def test_data_that_do_not_fit_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        Explorer(model=nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), data=data)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.ReLU()), "nothing to prune"),
        (nn.Conv2d(3, 4, 3), r"model must put out \[pictures, classes\]"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(10, 4)),
            r"model \(Sequential\) cannot take a picture of shape \[1, 3, 8, 8\]",
        ),
        ("lenet300", "model='lenet300'"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(noise, model, message):
    with pytest.raises(ValueError, match=message):
        Explorer(model=model, data=noise)


def test_an_answer_beyond_256_classes_is_never_taken_for_a_right_one(noise):
    """A predicted class is kept in one byte."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 300))
    with torch.no_grad():
        model[1].bias[256:260] = 1e4
    try:
        panel = Explorer(model=model, data=noise)
    except ValueError as error:
        assert "300 outputs" in str(error)
    else:
        assert panel.state(panel.controls).accuracy == 0


# ------------------------------------------------------------------------------- slider


@pytest.fixture
def slider() -> StopSlider:
    return StopSlider("Sparsity", ["none", "half", "most"], [0.0, 0.5, 0.9])


def test_a_slider_of_stops_has_names_and_values(slider):
    assert slider.options == [("none", 0.0), ("half", 0.5), ("most", 0.9)]
    assert slider.value == 0.0 and slider.index == 0 and slider.label == "Sparsity"
    slider.index = 2
    assert slider.value == 0.9
    slider.value = 0.5
    assert slider.index == 1


def test_a_value_that_is_no_stop_is_refused_and_changes_nothing(slider):
    slider.value = 0.5
    with pytest.raises(
        ValueError,
        match=r"value=0\.6 is no stop of the slider\. Stops: 0\.0, 0\.5, 0\.9",
    ):
        slider.value = 0.6
    assert slider.value == 0.5


@given(st.integers(-5, 20))
def test_a_position_outside_is_the_nearest_end(index):
    slider = StopSlider("Sparsity", ["none", "half", "most"], [0.0, 0.5, 0.9])
    slider.index = index
    assert slider.index == min(max(index, 0), 2)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=15, unique=True),
    st.floats(0, 1),
    st.integers(0, 13),
)
def test_other_stops_keep_the_nearest_value(stops, value, before):
    slider = StopSlider("Sparsity", list(map(str, STOPS)), STOPS)
    slider.index = before
    slider.set_stops(list(map(str, sorted(stops))), sorted(stops), value)
    assert abs(slider.value - value) == min(abs(stop - value) for stop in stops)
    assert [stop for _, stop in slider.options] == sorted(stops)


def test_who_watches_the_slider_never_sees_a_position_without_a_name(slider):
    seen = []
    slider.index = 2
    slider.observe(
        lambda _: seen.append((slider.index, len(slider.names), slider.value)),
        names=["index", "names"],
    )
    slider.set_stops(["none", "all"], [0.0, 1.0], 0.9)
    assert seen and all(index < names and value == 1.0 for index, names, value in seen)
