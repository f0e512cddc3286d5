"""The panel of a text network: every position of its controls, against masks, losses
and writing computed plainly; what it shows; its work in the background."""

import asyncio
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import models, scores, text
from utils.data import sample_batches
from utils.explorer import TextControls, TextExplorer, text_drawing
from utils.explorer import text as text_module
from utils.explorer.text_memory import (
    COUNT,
    GROUP,
    PATTERN,
    PROMPTS,
    STOPS,
    Loss,
    TextMemory,
)
from utils.generation import noise, write_plainly
from utils.layers import prunable
from utils.masks import NM, masked, masks_from_scores
from utils.models.gpt import GPT
from utils.problems import taken
from utils.scores import SCORES, Scores
from utils.training import losses

WINDOWS = 3


@pytest.fixture(scope="module")
def texts():
    return text.load()


@pytest.fixture(scope="module")
def batches(texts):
    return sample_batches(texts.train, 2, batch_size=1)


def network(**options) -> GPT:
    """In training mode, as a learner may leave it."""
    torch.manual_seed(0)
    shape = dict(
        width=16,
        blocks=1,
        heads=2,
        head_width=8,
        neurons=16,
        deviation=0.3,
        dropout=0.5,
    )
    return models.gpt(**(shape | options))


@pytest.fixture
def panel(texts, batches):
    made = TextExplorer(network(), texts, batches, windows=WINDOWS)
    yield made
    made.close()
    taken()


@pytest.fixture(scope="module")
def shared(texts, batches):
    """For what only asks it."""
    return TextExplorer(network(), texts, batches, windows=WINDOWS)


def every_position(panel: TextExplorer) -> list[TextControls]:
    memory = panel.memory
    return [
        TextControls(stop, score, scope)
        for score, scope in product(memory.scores(), memory.scopes())
        for stop in memory.stops(scope)
    ]


# ----------------------------------------------------------------------- every position


def test_every_position_of_every_control_has_a_picture_and_words(shared):
    positions = every_position(shared)
    assert len(positions) > 12 * 6 * 2
    for controls in positions:
        state = shared.state(controls)
        assert len(state.dense) == len(state.pruned) == COUNT
        svg = ET.fromstring(shared.svg(state))
        shown = "".join(svg.itertext())
        assert text_drawing.setting(state) in shown and parting_words(state) in shown
        assert svg.get("aria-label") == shared.describe(state)
        ET.fromstring(shared.html(state))
        kept = round((1 - controls.sparsity) * state.weights)
        # a layer or a unit rounds for itself
        assert abs(state.kept - kept) <= 0.04 * state.weights
        if not controls.sparsity:
            assert (state.pruned, state.kept) == (state.dense, state.weights)
            assert state.loss is not None and state.loss.more == state.loss.margin == 0


def parting_words(state) -> str:
    same = next((i for i in range(COUNT) if state.dense[i] != state.pruned[i]), COUNT)
    return f"All {COUNT}" if same == COUNT else f"part after {same} of {COUNT} pieces"


def plainly_masked(controls, batches) -> GPT:
    model = network().eval()
    if not controls.sparsity:
        return model
    found = scores.score(controls.score, model, batches)
    pattern = None
    if controls.scope == PATTERN:
        pattern = NM(round(GROUP * (1 - controls.sparsity)), GROUP)
    masks = masks_from_scores(
        found,
        controls.sparsity,
        scope="global" if pattern else controls.scope,
        pattern=pattern,
        allow_empty=True,
    )
    return masked(model, masks)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_a_state_is_what_masks_writing_and_losses_give_plainly(
    shared, texts, batches, data
):
    position = data.draw(st.sampled_from(every_position(shared)))
    controls = replace(position, prompt=data.draw(st.sampled_from(PROMPTS)), draw=3)
    state, model = shared.state(controls), plainly_masked(controls, batches)
    words, added = text.vocabulary(), noise(COUNT, 1024, 0.6, seed=3)
    plain = write_plainly(model, words.encode(controls.prompt), added)
    assert state.pruned == tuple(words.pieces[i] for i in plain)
    dense = write_plainly(network(), words.encode(controls.prompt), added)
    assert state.dense == tuple(words.pieces[i] for i in dense)
    assert state.kept == sum(int(w.count_nonzero()) for w in prunable(model).values())
    check_loss(state, model, texts)


def check_loss(state, model, texts) -> None:
    places = torch.linspace(0, len(texts.validation) - 1, WINDOWS).long()
    windows = text.Windows(
        texts.validation.images[places], texts.validation.labels[places], places
    )
    own, dense = (losses(each, windows).mean(1).double() for each in (model, network()))
    found = state.loss
    assert found.mean == pytest.approx(own.mean().item(), rel=1e-5)
    assert state.before.mean == pytest.approx(dense.mean().item(), rel=1e-5)
    assert found.more == pytest.approx((own - dense).mean().item(), abs=1e-5)
    error = 1.96 * (own - dense).std().item() / WINDOWS**0.5
    assert found.margin == pytest.approx(error, abs=1e-5)
    assert found.pieces == windows.labels.numel()
    bits = text.bits_per_character(found.mean, windows)
    assert found.bits == pytest.approx(bits, rel=1e-6)


def test_bytes_are_counted(shared):
    state = shared.state(TextControls(0.5))
    model = network()
    every = sum(p.numel() for p in model.parameters())
    assert state.saved == 4 * every
    rest = every - state.weights
    assert state.packed == 4 * (rest + state.kept) + -(-state.weights // 8)
    assert state.cache == 256 * 2 * 16 * 4


def test_the_curve_has_every_stop(shared):
    found = shared.curve(TextControls(0.3, "random"))
    assert [state.controls.sparsity for state in found] == list(STOPS)
    assert found[3] == shared.state(TextControls(0.3, "random"))
    words = shared.parts(found[3])[2].words
    assert all(f"{100 * stop:g}%: " in words for stop in STOPS)


def test_the_model_is_left_as_it_was(texts, batches):
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    panel = TextExplorer(model, texts, batches, windows=2)
    panel.state(TextControls(0.9, "taylor"))
    panel.sparsity.value = 0.5
    assert model.training
    assert all(v.equal(before[n]) for n, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


# ------------------------------------------------------------------------------ prompts


@pytest.mark.parametrize(
    ("given_prompt", "read", "remark"),
    [
        ("Emma was ", "Emma was", "space at the end"),
        ("Emma   ", "Emma", "space at the end"),
        ("", "\n", "empty"),
        ("   ", "\n", "empty"),
        ("Emma \u20ac<&>", "Emma", "'<', '>', '\u20ac'"),
        ("Emma", "Emma", ""),
        ("Emma\x00", "Emma", r"'\x00'"),
    ],
)
def test_a_prompt_is_put_right_and_that_is_said(panel, given_prompt, read, remark):
    panel.prompt.value = given_prompt
    assert panel.problems == []
    assert panel.shown.prompt.startswith(read) and remark in panel.shown.remark
    assert bool(panel.shown.remark) == bool(remark)
    if remark:
        said = "".join(ET.fromstring(panel.status.value).itertext())
        assert panel.shown.remark == said
    ET.fromstring(panel.picture.value)


def test_only_the_end_of_a_long_prompt_is_read(panel):
    panel.prompt.value = PROMPTS[0] * 40
    room = 256 + 1 - COUNT
    assert f"last {room} pieces" in panel.shown.remark and panel.problems == []
    assert len(text.vocabulary().encode(panel.shown.prompt)) >= room
    assert PROMPTS[0] * 40 == panel.prompt.value


@settings(deadline=None, max_examples=25)
@given(st.text(max_size=300))
def test_no_prompt_raises_or_breaks_the_picture(shared, prompt):
    state = shared.memory.look(TextControls(0.5, prompt=prompt))
    ET.fromstring(shared.svg(state))
    ET.fromstring(shared.html(state))


# ---------------------------------------------------------------------------- the texts


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text("abcW m\n.", max_size=60), st.sampled_from("ab"))),
    st.integers(20, 300),
)
def test_wrapped_lines_fit_and_lose_nothing(runs, width):
    lines = text_drawing.wrapped(runs, width)
    given_words = "".join(words for words, _ in runs).replace("\n", "\u00b6 ")
    assert "".join(words for line in lines for words, _ in line) == given_words
    for line in lines:
        wide = sum(map(text_drawing._wide, "".join(w for w, _ in line).rstrip(" ")))
        assert wide <= width or len("".join(w for w, _ in line)) == 1


def test_what_differs_is_marked_by_more_than_colour(shared):
    state = shared.state(TextControls(0.8))
    assert 0 <= state.same < COUNT
    figure = ET.fromstring(shared.svg(state))
    spans = [each for each in figure.iter() if each.tag.endswith("tspan")]
    underlined = "".join(
        each.text or "" for each in spans if each.get("text-decoration")
    )
    rest = "".join(state.pruned[state.same :]).replace("\n", "\u00b6 ")
    assert rest.startswith(underlined.removesuffix(" ...")) and len(underlined) > 50
    assert [each.text for each in spans].count("|") == 2
    same = shared.state(TextControls(0.0))
    assert "|" not in "".join(
        (each.text or "")
        for each in ET.fromstring(shared.svg(same)).iter()
        if each.tag.endswith("tspan")
    ).replace(same.prompt, "")


def test_a_loss_beyond_the_axis_is_said(shared):
    state = shared.state(TextControls(0.5))
    curve = {0.0: Loss(2.0, 0.0, 0.0, 9, 1.0), 0.5: Loss(30.0, 1.0, 0.0, 9, 1.0)}
    part = text_drawing.draw_curve(state, curve, STOPS)
    assert any("\u219130.0" in mark for mark in part.marks)


# ------------------------------------------------------------------------------ widgets


def test_controls_move_the_panel_and_another_scope_has_other_stops(panel):
    panel.sparsity.value = 0.6
    panel.score.value = "taylor"
    assert panel.shown.controls == TextControls(0.6, "taylor")
    panel.scope.value = PATTERN
    assert panel.shown.controls == TextControls(0.5, "taylor", PATTERN)
    assert panel.sparsity.names == ["0%", "25%", "50%", "75%"]
    panel.scope.value = "layerwise"
    panel.example.value = PROMPTS[1]
    assert panel.prompt.value == panel.shown.prompt == PROMPTS[1]
    first = panel.shown
    panel.again.click()
    assert panel.shown.dense != first.dense and panel.shown.controls.draw == 1
    assert panel.problems == [] and panel.trouble.value == ""


def test_at_rest_it_shows_loss_and_speed_and_says_so(panel):
    panel.sparsity.value = 0.7
    assert panel.shown.loss is None and "..." in panel.parts(panel.shown)[1].words
    panel.settle()
    assert panel.shown.loss == panel.state(panel.controls).loss
    dense, pruned = panel.shown.rates
    assert dense.timing.threads == 1 and pruned.pieces == dense.pieces
    assert "times as fast" in panel.status.value
    panel.sparsity.value = 0.8
    panel.sparsity.value = 0.7  # is remembered
    assert panel.shown.loss is not None and panel.shown.rates == (dense, pruned)


def test_a_flood_of_changes_ends_at_the_last_one(panel, monkeypatch):
    monkeypatch.setattr(text_module, "REST", 0.02)
    evaluated = []
    original = TextMemory.losses
    monkeypatch.setattr(
        TextMemory,
        "losses",
        lambda self, controls: (
            evaluated.append(controls) or (yield from original(self, controls))
        ),
    )

    async def work():
        quick = TextExplorer(network(), text.load(), panel.memory.batches, windows=2)
        for number in range(30):
            quick.sparsity.index = (5 * number + 1) % len(STOPS)
            assert quick.shown.controls.sparsity == STOPS[quick.sparsity.index]
        quick.sparsity.value = 0.7
        while quick.slow_work.busy:
            await asyncio.sleep(0.01)
        assert evaluated == [TextControls(0.7)] and quick.problems == []
        assert quick.shown.loss == quick.state(TextControls(0.7)).loss

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_score_of_ones_own_and_the_next_of_that_name(panel, monkeypatch):
    def mine(model, _batches):
        return Scores({n: torch.ones_like(w) for n, w in prunable(model).items()})

    monkeypatch.setitem(SCORES, "mi<ne", mine)
    panel.refresh()
    panel._set_controls(panel.controls)  # offers it
    panel.sparsity.value = 0.5
    panel.score.value = "mi<ne"
    assert panel.problems == []
    first = panel.shown.pruned
    ET.fromstring(panel.picture.value)
    monkeypatch.setitem(SCORES, "mi<ne", scores.magnitude)
    panel.refresh()
    assert panel.shown.pruned != first
    expected = panel.memory.look(TextControls(0.5, "magnitude"))
    assert panel.shown.pruned == expected.pruned


def test_a_score_that_fails_is_shown_in_red_and_noted(panel, monkeypatch):
    def broken(model, _batches):
        raise RuntimeError("no <score> today")

    monkeypatch.setitem(SCORES, "broken", broken)
    panel._set_controls(panel.controls)
    panel.sparsity.value = 0.5
    panel.score.value = "broken"
    alert = ET.fromstring(panel.trouble.value)
    assert alert.get("role") == "alert"
    assert "no <score> today" in "".join(alert.itertext())
    assert "no <score> today" in taken()[0] and panel.problems
    panel.score.value = "magnitude"
    assert panel.trouble.value == ""


def test_the_bundle_has_a_picture_and_words(panel):
    bundle, metadata = panel._repr_mimebundle_()
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == bundle["text/plain"]
    assert panel.describe(panel.shown) in bundle["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in bundle


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 0.55}, "0.55.* no stop"),
        ({"scope": PATTERN, "sparsity": 0.9}, "0, 0.25, 0.5, 0.75"),
        ({"score": "best"}, "magnitude, taylor"),
        ({"scope": "everywhere"}, "global, layerwise"),
        ({"windows": 1}, "windows=1"),
    ],
)
def test_what_is_not_offered_is_refused(texts, batches, options, message):
    with pytest.raises(ValueError, match=message):
        TextExplorer(network(), texts, batches, **options)


def test_a_network_of_other_pieces_is_refused(texts, batches):
    with pytest.raises(ValueError, match=r"99 pieces.* 1024"):
        TextExplorer(network(pieces=99), texts, batches)
    with pytest.raises(ValueError, match="no GPT"):
        TextExplorer(torch.nn.Linear(2, 2), texts, batches)
