"""The explorer's work in the background, in slices between the kernel's messages:
floods of changes, fine-tuning, two panels at once, errors on the way.
"""

import asyncio
import copy
import gc
import sys
import threading
import xml.etree.ElementTree as ET
from dataclasses import replace

import psutil
import pytest
import torch
from torch import nn

from utils import lab
from utils.baselines import baseline
from utils.data import Data
from utils.explorer import Controls, Explorer, State
from utils.explorer import panel as panel_module
from utils.explorer import subject as subject_module
from utils.explorer.kinds import STOPS
from utils.explorer.memory import Memory
from utils.explorer.subject import OWN
from utils.layers import prunable
from utils.training import evaluate


@pytest.fixture
def quick(small, noise) -> Explorer:
    """A panel of a learner's own network, which allows every kind of pruning."""
    return Explorer(model=small, data=noise)


def counted(state: State) -> State:
    """The state without what was measured, to compare it with another."""
    return replace(
        state, time=None, csr=None, time_quartiles=(0.0, 0.0), csr_quartiles=(0.0, 0.0)
    )


def check_red(panel: Explorer, message: str) -> None:
    shown = ET.fromstring(panel.trouble.value)
    assert shown.get("role") == "alert" and "#B00020" in shown.get("style")
    assert "".join(shown.itertext()) == f"Error: {message}"
    assert "Traceback" in panel.problems[-1]


# ----------------------------------------------------------- in the kernel's event loop


async def rest(*panels: Explorer) -> None:
    """Wait until the panels have nothing left to do, and a moment more for what was
    overtaken."""
    while any(panel.slow_work.busy or panel.fine_tuning.busy for panel in panels):
        await asyncio.sleep(0.005)
    await asyncio.sleep(panel_module.REST + 0.05)


def run(work) -> None:
    """Run a coroutine as the kernel would; nothing may be left behind, and it must come
    to an end."""

    async def all_of_it() -> None:
        await asyncio.wait_for(work(), 120)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(all_of_it())


@pytest.fixture
def races(monkeypatch) -> list[Controls]:
    """The controls whose times were measured, in order."""
    seen, race = [], Memory.race
    monkeypatch.setattr(
        Memory,
        "race",
        lambda self, controls, model: (
            seen.append(controls) or race(self, controls, model)
        ),
    )
    return seen


def test_a_flood_of_changes_ends_at_the_last_one_and_only_that_is_measured(
    small, noise, races
):
    async def work():
        panel = Explorer(model=small, data=noise)
        panel.refresh()
        for number in range(200):
            panel.sparsity.index = (5 * number + 1) % len(STOPS)
            # each is drawn at once
            assert panel.shown.controls.sparsity == STOPS[panel.sparsity.index]
        panel.sparsity.value = 0.7
        assert races == []
        await rest(panel)
        assert races == [Controls(0.7, network=OWN)] == [panel.shown.controls]
        assert panel.shown.time is not None and "measuring" not in panel.picture.value
        assert counted(panel.shown) == Explorer(model=small, data=noise).state(
            Controls(0.7, network=OWN)
        )
        assert len(panel.memory.states) == len(STOPS) and panel.problems == []

    run(work)


def test_changes_from_another_thread_while_the_slow_work_goes_on(
    small, noise, monkeypatch
):
    """JupyterLab delivers what the learner moves in a thread of its own."""
    # so that slices and changes really mix
    monkeypatch.setattr(panel_module, "REST", 0.0)

    async def work():
        panel = Explorer(model=small, data=noise)
        panel.refresh()
        kinds = ["weights", "nm", "channels", "blocks"]

        def move() -> None:
            for number in range(200):
                if number % 10 == 0:
                    panel.kind.value = kinds[number // 10 % 4]
                panel.sparsity.index = number % len(panel.sparsity.names)
            panel.kind.value = "channels"
            panel.sparsity.value = 0.5

        await asyncio.to_thread(move)
        await rest(panel)
        assert panel.problems == [] and panel.trouble.value == ""
        assert panel.controls == panel.shown.controls and panel.controls.sparsity == 0.5
        assert counted(panel.shown) == Explorer(model=small, data=noise).state(
            panel.controls
        )
        assert panel.shown.time is not None and "measuring" not in panel.picture.value

    run(work)


def test_the_slow_work_leaves_the_loop_free_in_between(quick, small, noise):
    async def work():
        panel = Explorer(model=small, data=noise)
        panel.refresh()
        turns = 0
        while panel.slow_work.busy:
            turns += 1
            await asyncio.sleep(0.001)
        await rest(panel)
        assert turns > 20

    run(work)


def test_a_thousand_moves_leave_no_memory_behind(noise):
    torch.manual_seed(0)
    panel = Explorer(
        model=nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), data=noise, kind="nm"
    )

    def move(times: int) -> tuple[int, int]:
        for number in range(times):
            panel.sparsity.index = number % 4
        gc.collect()
        return sys.getallocatedblocks(), psutil.Process().memory_info().rss

    blocks, memory = move(100)
    blocks_after, memory_after = move(1000)
    assert len(panel.memory.states) == 4 and panel.memory.tuned == {}
    assert blocks_after - blocks < 1000  # less than one small object a move
    assert memory_after - memory < 4e6  # 1,000 pictures would be 30 MB


def test_while_a_slice_runs_a_callback_waits(quick):
    quick.refresh()
    order = []

    def move() -> None:
        quick.sparsity.index = 3
        order.append("moved")

    with quick.lock:
        thread = threading.Thread(target=move)
        thread.start()
        thread.join(0.05)
        order.append("slice ended")
    thread.join()
    assert (
        order == ["slice ended", "moved"] and quick.shown.controls.sparsity == STOPS[3]
    )


def test_while_a_callback_draws_no_slice_runs(quick, monkeypatch):
    taken, parts = [], quick.parts

    def take() -> None:
        taken.append(quick.lock.acquire(blocking=False))

    def look(*arguments):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
        return parts(*arguments)

    monkeypatch.setattr(quick, "parts", look)
    quick.sparsity.index = 3
    quick.kind.value = "channels"
    quick.reset.click()
    assert len(taken) == 3 and not any(taken) and quick.problems == []


def test_an_error_in_the_slow_work_is_shown_too(small, noise, monkeypatch):
    def cannot(*_):
        raise ValueError("no <race> today")

    monkeypatch.setattr(Memory, "race", cannot)

    async def work():
        panel = Explorer(model=small, data=noise)
        panel.sparsity.value = 0.5
        assert panel.problems == []
        await rest(panel)
        check_red(panel, "ValueError: no <race> today")
        assert len(panel.problems) == 1 and not panel.slow_work.busy
        assert panel.shown.zipped is not None and "measuring ..." in panel.picture.value

    run(work)
    with pytest.raises(RuntimeError, match="no <race> today"):
        lab.finish()


# -------------------------------------------------------------------------- fine-tuning


@pytest.fixture
def lenet(course_data, tiny):
    """Make a panel of LeNet-300-100 with 600 pictures to train on: three steps."""

    def make(**options) -> Explorer:
        pictures = Data(tiny, course_data.validation[:100], course_data.test[:1])
        return Explorer(model=baseline("lenet300"), data=pictures, **options)

    return make


def drive(panel: Explorer, slices: int) -> None:
    """Some slices of the fine-tuning, as the event loop would run them."""
    for _ in range(slices):
        panel.fine_tuning.step()


def network_of(panel: Explorer, controls: Controls | None = None) -> nn.Module:
    return panel.memory.look(controls or panel.controls)[1]


def test_buttons_before_and_during_fine_tuning(lenet):
    panel = lenet(sparsity=0.95)
    panel.refresh()
    assert not panel.tune.disabled and panel.cancel.disabled
    panel.tune.click()
    drive(panel, 1)
    assert panel.tune.disabled and not panel.cancel.disabled
    assert "Fine-tuning on 600 pictures" in panel.status.value
    bar = ET.fromstring(panel.status.value).find("progress")
    assert float(bar.get("value")) == pytest.approx(1 / 3, abs=1e-3) and bar.get(
        "aria-label"
    )
    panel.settle()
    assert (
        not panel.tune.disabled
        and panel.cancel.disabled
        and "<progress" not in panel.status.value
    )


@pytest.mark.parametrize(
    ("kind", "sparsity"), [("weights", 0.95), ("nm", 0.75), ("channels", 0.9)]
)
def test_fine_tuning_raises_the_accuracy_and_keeps_what_was_pruned(
    lenet, unchanged, kind, sparsity
):
    panel = lenet(kind=kind, sparsity=sparsity)
    same = unchanged(panel.subject(OWN).dense)
    panel.refresh()
    before, old = panel.state(panel.controls), network_of(panel)
    panel.tune.click()
    panel.settle()
    after, new = panel.shown, network_of(panel)
    assert after.tuned == 600 and before.tuned == 0
    assert after.accuracy > before.accuracy
    assert after.accuracy == pytest.approx(
        evaluate(new, panel.subject(OWN).validation), abs=1e-6
    )
    for name, weight in prunable(old).items():
        assert new.get_parameter(name).shape == weight.shape
        if kind != "channels":
            assert torch.equal(new.get_parameter(name) == 0, weight == 0), name
        assert not torch.equal(new.get_parameter(name), weight), name
    assert (after.weights, after.macs, after.layers) == (
        before.weights,
        before.macs,
        before.layers,
    )
    assert not new.training and after.time is not None
    same()
    assert panel.problems == []


def stars(panel: Explorer) -> int:
    return panel.picture.value.count('class="tuned"')


def test_fine_tuning_leaves_a_star_on_the_curve(lenet):
    panel = lenet(sparsity=0.95)
    panel.refresh()
    panel.tune.click()
    panel.settle()
    assert stars(panel) == 1 and "fine-tuned on 600" in panel.picture.value
    assert "fine-tuned on 600 pictures" in panel.status.value
    panel.sparsity.value = 0.5
    assert (
        stars(panel) == 1
        and "not retrained" in panel.picture.value
        and panel.shown.tuned == 0
    )
    panel.scope.value = "layerwise"
    assert stars(panel) == 0
    panel.scope.value = "global"
    panel.sparsity.value = 0.95
    assert panel.shown.tuned == 600


def test_a_second_run_goes_on_from_the_first(lenet):
    panel = lenet(sparsity=0.95)
    panel.refresh()
    panel.tune.click()
    panel.settle()
    first, network = panel.shown, copy.deepcopy(network_of(panel))
    panel.tune.click()
    panel.settle()
    assert panel.shown.tuned == 1200 and stars(panel) == 1
    assert not torch.equal(network_of(panel)[1].weight, network[1].weight)
    assert torch.equal(network_of(panel)[1].weight == 0, network[1].weight == 0)
    assert panel.shown.accuracy > first.accuracy - 0.05


def test_fine_tuning_is_the_same_each_time(lenet):
    results = []
    for _ in range(2):
        panel = lenet(sparsity=0.95)
        panel.tune.click()
        panel.settle()
        results.append(network_of(panel)[1].weight)
    assert torch.equal(*results)


def test_starting_twice_does_nothing(lenet):
    panel = lenet(sparsity=0.95)
    panel.refresh()
    panel.tune.click()
    drive(panel, 1)
    panel.tune.click()
    panel.tune.click()
    panel.settle()
    assert panel.shown.tuned == 600


def test_cancelling_after_any_number_of_slices_leaves_everything_as_before(
    lenet, monkeypatch
):
    # so that evaluating it takes slices too
    monkeypatch.setattr(subject_module, "FIRST_PICTURES", 25)
    panel = lenet(sparsity=0.95)
    before = panel.state(panel.controls)
    for slices in range(7):
        panel.refresh()
        panel.tune.click()
        drive(panel, slices)
        assert panel.fine_tuning.busy
        panel.cancel.click()
        assert (
            not panel.fine_tuning.busy
            and not panel.tune.disabled
            and panel.cancel.disabled
        )
        assert "cancelled" in panel.status.value
        panel.refresh()
        assert counted(panel.state(panel.controls)) == before, f"after {slices} slices"
        assert stars(panel) == 0
    panel.tune.click()
    panel.settle()
    assert panel.shown.tuned == 600 and panel.problems == []


def test_that_it_was_cancelled_stays_said_until_the_next_action(lenet):
    panel = lenet(sparsity=0.95)
    panel.refresh()  # its slow work is still to do
    panel.tune.click()
    drive(panel, 2)
    panel.cancel.click()
    panel.settle()  # ends by describing what is shown
    assert "cancelled" in panel.status.value and "accuracy" in panel.status.value
    panel.sparsity.index -= 1
    panel.settle()
    assert "cancelled" not in panel.status.value


def test_cancelling_a_second_run_keeps_the_first(lenet):
    panel = lenet(sparsity=0.95)
    panel.tune.click()
    panel.settle()
    state, before = panel.shown, copy.deepcopy(network_of(panel).state_dict())
    panel.tune.click()
    drive(panel, 2)
    panel.cancel.click()
    assert all(
        torch.equal(tensor, before[name])
        for name, tensor in network_of(panel).state_dict().items()
    )
    panel.refresh()
    assert counted(panel.shown) == counted(state) and panel.shown.tuned == 600


def test_cancelling_in_the_event_loop(lenet):
    async def work():
        panel = lenet(sparsity=0.95)
        before = panel.state(panel.controls)
        panel.refresh()
        panel.tune.click()
        while "<progress" not in panel.status.value:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(panel.cancel.click)
        assert not panel.tune.disabled and panel.cancel.disabled
        await rest(panel)
        assert (
            counted(panel.shown) == before
            and stars(panel) == 0
            and panel.problems == []
        )

    run(work)


def test_the_result_belongs_to_the_controls_where_the_run_began(lenet):
    async def work():
        panel = lenet(sparsity=0.95)
        panel.refresh()
        panel.tune.click()
        began = panel.controls
        for index in (5, 3, 9, 3):
            await asyncio.sleep(0.002)
            panel.sparsity.index = index
        await rest(panel)
        assert panel.shown.controls.sparsity == STOPS[3] and panel.shown.tuned == 0
        assert stars(panel) == 1
        assert panel.state(began).tuned == 600
        assert panel.state(replace(began, sparsity=STOPS[3])).tuned == 0

    run(work)


def test_an_older_result_does_not_take_the_place_of_a_newer_one(lenet, monkeypatch):
    """The slow work for the first result goes on while a second run ends."""
    monkeypatch.setattr(subject_module, "FIRST_PICTURES", 25)
    panel = lenet(sparsity=0.95)
    panel.tune.click()
    panel.fine_tuning.finish()
    panel.tune.click()
    while panel.fine_tuning.busy and panel.memory.look(panel.controls)[0].tuned != 1200:
        drive(panel, 1)
    panel.slow_work.finish()
    panel.fine_tuning.finish()
    assert panel.state(panel.controls).tuned == 1200


def test_reset_stops_a_run_and_forgets_what_was_fine_tuned(lenet):
    panel = lenet(sparsity=0.5)
    untouched = panel.state(panel.controls)
    panel.sparsity.value = 0.95
    panel.tune.click()
    panel.settle()
    panel.tune.click()
    drive(panel, 2)
    panel.reset.click()
    assert (
        not panel.fine_tuning.busy and not panel.tune.disabled and panel.cancel.disabled
    )
    assert panel.controls == untouched.controls == panel.shown.controls
    panel.settle()
    assert counted(panel.shown) == untouched and stars(panel) == 0
    assert panel.state(replace(panel.controls, sparsity=0.95)).tuned == 0


class Breaks(nn.Module):
    """A network that cannot be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(192, 4)

    def forward(self, x):
        if self.training:
            raise RuntimeError("no <training>")
        return self.linear(x.flatten(1))


def test_an_error_while_fine_tuning_is_shown_and_the_button_comes_back(noise):
    panel = Explorer(model=Breaks(), data=noise)
    before = panel.state(panel.controls)
    panel.refresh()
    panel.tune.click()
    panel.settle()
    check_red(
        panel,
        "ValueError: model (Breaks) cannot take train.images [256, 3, 8, 8]:"
        " RuntimeError: no <training>",
    )
    assert (
        not panel.tune.disabled and panel.cancel.disabled and not panel.fine_tuning.busy
    )
    assert counted(panel.shown) == before
    with pytest.raises(RuntimeError, match="no <training>"):
        lab.finish()


def test_two_panels_at_once_do_not_disturb_each_other(small, lenet, noise):
    async def work():
        first, second = (
            lenet(sparsity=0.95),
            Explorer(model=small, data=noise, kind="channels", sparsity=0.5),
        )
        alone = lenet(sparsity=0.95)
        for panel in (first, second):
            panel.refresh()
        first.tune.click()
        for index in range(8):
            await asyncio.sleep(0.002)
            second.sparsity.index = index
            first.sparsity.index = 10 - index
        second.tune.click()
        first.sparsity.value = 0.95
        await rest(first, second)
        alone.tune.click()
        await rest(alone)
        assert torch.equal(network_of(first)[1].weight, network_of(alone)[1].weight)
        assert counted(first.shown) == counted(alone.shown)
        assert (
            second.controls
            == Controls(STOPS[7], "l1", "layerwise", "channels", OWN)
            == second.shown.controls
        )
        assert second.shown.tuned == 256 and second.shown.time is not None
        assert first.problems == second.problems == []

    run(work)
