"""The explorer's widgets: a thin shell around `memory`, `drawing` and `findings`.

A key press computes a first estimate and draws it, at once. What takes longer (the
other dots of the curve, the rest of the pictures, the zipped file, the time) is done
slice by slice when the slider rests (`background`).
"""

import copy
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import ipywidgets
from torch import nn

from utils import data
from utils.arguments import whole
from utils.explorer import drawing, findings
from utils.explorer.background import Background, Work
from utils.explorer.kinds import KINDS
from utils.explorer.links import link_of, read_link
from utils.explorer.memory import ROUNDS, Memory
from utils.explorer.shell import REST, Shell, all_in, dropdown, offer, row
from utils.explorer.slider import StopSlider
from utils.explorer.state import Controls, State
from utils.explorer.subject import OWN, Subject

REDRAW = 0.25  # seconds between two drawings of work that goes on


class Explorer(Shell):
    """A panel that joins network, kind of pruning, score, scope and sparsity to what
    they cost and gain.

    Args:
        network: "lenet300", "vgg" or "resnet"; ignored when `model` is given.
        kind: "weights", "nm", "channels" (neurons of a linear network) or "blocks".
        score, scope, sparsity: where the controls stand at first; by default the kind's
            first ones, and 0.
        model: a network of your own; it takes `data`'s pictures and puts out
            `[pictures, classes]`.
        data: your own `utils.data.Data` for your own model; Fashion-MNIST otherwise.
        pictures: validation pictures that accuracies rest on, at most.
    Raises:
        ValueError: a kind, score, scope or sparsity that the network does not offer, a
            model with nothing to prune or one that cannot take the pictures, data that
            do not fit. The message says what would be right.
    """

    title = "pruning explorer"

    def __init__(  # noqa: PLR0913 - given by keyword, most of them left out
        self,
        network: str = "lenet300",
        kind: str = "weights",
        *,
        score: str | None = None,
        scope: str | None = None,
        sparsity: float = 0.0,
        model: nn.Module | None = None,
        data: data.Data | None = None,
        pictures: int = 5000,
    ) -> None:
        whole("pictures", pictures, 1, 5000)
        if data is not None and model is None:
            raise ValueError(
                "data needs a model of your own: the course's networks know"
                " Fashion-MNIST only."
            )
        own = None if model is None else Subject(OWN, model, data, pictures)
        self.memory = self._remembered(own, pictures)
        self.problems: list[str] = []
        self.path = Path(findings.FILE)
        self.findings: list[findings.Row] = []
        self._unsaved: list[findings.Row] = []
        self._shown: State | None = None
        self._drawn = 0.0  # when
        self._notice = ""  # stands before the description until the next action
        # held by whoever touches the panel
        self.lock = threading.RLock()
        self.slow_work = Background(self.lock, self._fail)
        self.fine_tuning = Background(self.lock, self._fail_tuning)
        name = network if own is None else OWN
        self._start = self._complete(
            Controls(sparsity, score or "", scope or "", kind, name)
        )
        self._make_widgets()

    @classmethod
    def from_link(cls, link: str, *, pictures: int = 5000) -> "Explorer":
        """The explorer with the setting of a link from the course's start page.

        Args:
            link: the page's address, or what stands in it behind `#`.
            pictures: validation pictures that accuracies rest on, at most; the page has
                the first of them.
        Raises:
            ValueError: no such link (`links.read_link`), or a setting that the network
                does not offer.
        """
        return cls(**read_link(link), pictures=pictures)

    @property
    def link(self) -> str:
        """The end of the start page's address that opens the same setting there.

        Raises:
            ValueError: a network of your own, which the page does not have.
        """
        if self.controls.network == OWN:
            raise ValueError("a network of your own is on no page: it has no link.")
        return link_of(self.controls)

    def _remembered(self, own: Subject | None, pictures: int) -> Memory:
        """What the panel begins with: nothing that was found out before."""
        return Memory(own, pictures)

    # -------------------------------------------------------------- what it can answer

    def subject(self, network: str) -> Subject:
        """The network of that name with its data; loaded when it is first asked
        for."""
        return self.memory.subject(network)

    def state(self, controls: Controls) -> State:
        """Everything counted and evaluated for these controls, on all pictures; the
        time is not measured."""
        with self.lock:
            return self.memory.state(controls)

    def curve(self, controls: Controls) -> list[State]:
        """The states at every stop of the slider, other controls as they are."""
        with self.lock:
            return self.memory.curve(controls)

    def timed(self, controls: Controls, rounds: int = ROUNDS) -> State:
        """The state with its time: one picture, one thread, pruned and dense network in
        turn."""
        with self.lock:
            return self.memory.timed(controls, rounds)

    def describe(self, state: State) -> str:
        """A state in words, for a screen reader and where there is no picture."""
        return drawing.describe(self.subject(state.controls.network), state)

    def parts(self, state: State, model: nn.Module | None = None) -> list[drawing.Part]:
        """The parts of the picture of a state."""
        chosen = state.controls
        model = self.memory.look(chosen)[1] if model is None else model
        curve = self.memory.known(chosen)
        return drawing.parts(self.subject(chosen.network), state, curve, model)

    def svg(self, state: State) -> str:
        """The panel's picture as one SVG."""
        return drawing.svg_of(self.parts(state), self.describe(state))

    # -------------------------------------------------------------------------- widgets

    def _make_widgets(self) -> None:
        self._make_controls()
        self._make_buttons()
        self.status, self.picture = ipywidgets.HTML(), ipywidgets.HTML()
        self.trouble, self.found = ipywidgets.HTML(), ipywidgets.HTML()
        self.cost = dropdown("Cost", list(findings.COSTS))
        self.cost.layout.align_self = "flex-start"
        self.cost.observe(self._guarded(lambda _: self._show_findings()), names="value")
        self.finds = ipywidgets.VBox(
            [self.cost, self.found], layout={"display": "none"}
        )
        rows = [
            row(self.network, self.kind, self.score, self.scope),
            self.sparsity,
            row(self.tune, self.cancel, self.reset, self.find),
        ]
        self.panel = ipywidgets.VBox(
            [*rows, self.status, self.trouble, self.picture, self.finds]
        )

    def _make_controls(self) -> None:
        self.network = dropdown("Network", self.memory.networks)
        self.kind, self.score, self.scope = (
            dropdown(name, []) for name in ("Kind", "Score", "Scope")
        )
        self.sparsity = StopSlider(
            "Sparsity", ["0%"], [0.0], layout={"width": "100%", "max_width": "560px"}
        )
        self._set_controls(self._start)
        for control in (self.network, self.kind, self.score, self.scope):
            control.observe(self._on_change, names="value")
        self.sparsity.observe(self._on_change, names="index")

    def _make_buttons(self) -> None:
        self.tune = self._button(
            "Fine-tune", "Train this pruned network for a short while", self._on_tune
        )
        self.cancel = self._button("Cancel", "Stop fine-tuning", self._on_cancel)
        self.cancel.disabled = True
        self.reset = self._button(
            "Reset", "Back to the start; forget what was fine-tuned", self._on_reset
        )
        self.find = self._button(
            "What did I find?",
            "Keep this setting as a row of the table below",
            self._on_find,
        )

    def _button(
        self, name: str, tip: str, work: Callable[[], None]
    ) -> ipywidgets.Button:
        button = ipywidgets.Button(
            description=name, tooltip=tip, layout={"width": "auto"}
        )
        button.on_click(self._guarded(lambda _: work()))
        return button

    @property
    def controls(self) -> Controls:
        """What the panel is set to: the widgets' values, taken as a whole.

        A widget may hold its new value while its callback still waits for the lock;
        then the values of all of them may not go together, and are not taken yet.
        """
        return self._controls

    @property
    def shown(self) -> State:
        """What the picture shows; drawn now if nothing was."""
        return self._shown or self._refreshed()

    def _complete(self, wanted: Controls) -> Controls:
        """The controls with the first of what the kind offers wherever nothing is
        said; raises ValueError for what is not offered."""
        kind = self.memory.kind(wanted.network, wanted.kind)
        scores, scopes = kind.scores(), kind.scopes
        whole = replace(
            wanted, score=wanted.score or scores[0], scope=wanted.scope or scopes[0]
        )
        self.memory.check(whole)
        stops = self.memory.kinds(whole.network)[whole.kind]
        if whole.sparsity not in stops:
            raise ValueError(
                f"sparsity={whole.sparsity!r} is no stop of kind={whole.kind!r} for"
                f" {whole.network}. Stops: {', '.join(f'{stop:g}' for stop in stops)}."
            )
        return whole

    def _set_controls(self, wanted: Controls) -> None:
        """Let the widgets offer what goes with this network and kind, and set them,
        without a callback in between."""
        self._controls = wanted
        subject, kind = self.subject(wanted.network), KINDS[wanted.kind]
        kinds = self.memory.kinds(wanted.network)
        self._setting = True
        try:
            self.network.value = wanted.network
            offer(self.kind, [(KINDS[name].label, name) for name in kinds], wanted.kind)
            offer(
                self.score,
                [(drawing.readable(name), name) for name in kind.scores()],
                wanted.score,
            )
            offer(self.scope, [(name, name) for name in kind.scopes], wanted.scope)
            stops = kinds[wanted.kind]
            self.sparsity.set_stops(
                [kind.say(subject, stop) for stop in stops], stops, wanted.sparsity
            )
        finally:
            self._setting = False

    def _taken(self) -> Controls:
        """What the widgets are set to, as a whole that is offered: after another
        network or kind, the same if it goes with it, else the first."""
        network = str(self.network.value)
        kinds = self.memory.kinds(network)
        name = _same_or_first(str(self.kind.value), list(kinds))
        kind, sparsity = KINDS[name], self.sparsity.value
        return Controls(
            min(kinds[name], key=lambda stop: abs(stop - sparsity)),
            _same_or_first(str(self.score.value), kind.scores()),
            _same_or_first(str(self.scope.value), kind.scopes),
            name,
            network,
        )

    def refresh(self) -> None:
        """Compute a first estimate of what the controls say, draw it, and begin the
        slow work."""
        self._refreshed()

    def _refreshed(self) -> State:
        with self.lock:
            if not self.memory.has_score(self.controls):
                self._say(f"Computing the {self.controls.score} score ...")
            state, model = self.memory.look(self.controls)
            self._draw(state, model)
            self.slow_work.start(self._settle(state, model), REST)
            return state

    def settle(self) -> None:
        """Do the slow work now, and wait for it; the fine-tuning too."""
        self.fine_tuning.finish()
        self.slow_work.finish()

    def close(self) -> None:
        """Stop all work and take the widgets away."""
        self.fine_tuning.stop()
        self.slow_work.stop()
        for widget in all_in(self.panel):
            widget.close()

    def _settle(self, state: State, model: nn.Module) -> Work:
        """The slow work of one setting: the curve, all pictures, the zipped file, the
        time."""
        memory, chosen = self.memory, state.controls
        for place in memory.places(chosen):
            if place not in memory.states:
                memory.look(place)
                yield
        state = yield from self._complete_shown(state, model)
        race = memory.race(chosen, model)
        while race.rounds < ROUNDS:
            yield
            race.round()
        subject = memory.subject(chosen.network)
        if not subject.heavy:  # all pictures for the other dots, too
            for place in memory.places(chosen):
                yield
                memory.refine(place)
        self._draw(subject.with_times(state, race), model)
        if not self.fine_tuning.busy:
            self._say_shown()  # at rest only: a screen reader reads it out

    def _complete_shown(
        self, state: State, model: nn.Module
    ) -> Generator[None, None, State]:
        """All pictures and the zipped file, drawn now and then."""
        for better in self.memory.refined(state, model):
            state = better
            if time.perf_counter() - self._drawn > REDRAW:
                self._draw(state, model)
            yield
        if state.zipped is None or state is not self._shown:
            state = self.memory.zipped(state, model)
            self._draw(state, model)
            yield
        return state

    def _draw(self, state: State, model: nn.Module) -> None:
        self._shown, self._drawn = state, time.perf_counter()
        self.picture.value = drawing.html_of(self.parts(state, model))

    def _say_shown(self) -> None:
        """Describe what is shown; a notice that stands comes first."""
        if self._shown is not None:
            self._say(f"{self._notice} {self.describe(self._shown)}".lstrip())

    def _say(self, words: str, done: float | None = None) -> None:
        bar = (
            ""
            if done is None
            else (
                f' <progress max="1" value="{done:.3f}"'
                ' aria-label="Fine-tuning"></progress>'
            )
        )
        self.status.value = (
            '<div role="status" style="line-height:1.35;max-width:60em">'
            f"{drawing.escaped(words)}{bar}</div>"
        )

    # ------------------------------------------------------------------------ callbacks

    def _on_change(self, _: dict) -> None:
        self._guarded(self._changed)()

    def _changed(self) -> None:
        # asked with the lock held: only the panel's own setting is passed over, not
        # what another thread sets meanwhile
        if self._setting:
            return
        self._notice = ""
        self.slow_work.stop()
        self._set_controls(self._taken())
        self.refresh()
        self.trouble.value = ""

    def _fail_tuning(self, error: Exception) -> None:
        self._end_tuning()
        self._fail(error)

    def _on_tune(self) -> None:
        if self.fine_tuning.busy:
            return
        self._notice = ""
        state, model = self.memory.look(self.controls)
        self.tune.disabled, self.cancel.disabled = True, False
        self.fine_tuning.start(self._tune(state, model))

    def _tune(self, state: State, model: nn.Module) -> Work:
        """Fine-tune a copy of what these controls gave, in slices; at its end, a star
        on the curve."""
        subject, copied = self.subject(state.controls.network), copy.deepcopy(model)
        try:
            yield from self._train(state, copied)
            tuned = subject.first_look(
                state.controls, copied, tuned=state.tuned + subject.tune_pictures
            )
            for better in subject.refine(tuned, copied):
                tuned = better
                yield
            self.memory.keep(tuned, copied)
        finally:
            self._end_tuning()
        self.refresh()

    def _train(self, state: State, model: nn.Module) -> Work:
        """The steps of a fine-tuning; says now and then how far it is."""
        count = self.subject(state.controls.network).tune_pictures
        started, said = time.perf_counter(), 0.0
        for done in self.memory.tune(state, model):
            passed = time.perf_counter() - started
            if passed - said > REDRAW or not said:
                said = passed
                self._say(
                    f"Fine-tuning on {count:,} pictures: about"
                    f" {passed / done - passed:.0f} s left.",
                    done,
                )
            yield

    def _end_tuning(self) -> None:
        self.tune.disabled, self.cancel.disabled = False, True
        self._say_shown()

    def _on_cancel(self) -> None:
        self.fine_tuning.stop()
        self._notice = "Fine-tuning was cancelled; the network is as it was before."
        self._end_tuning()

    def _on_reset(self) -> None:
        self._notice = ""
        self.fine_tuning.stop()
        self._end_tuning()
        self.slow_work.stop()
        self.memory.forget_tuned()
        self._set_controls(self._start)
        self.refresh()
        self.trouble.value = ""

    def _on_find(self) -> None:
        self._finish_shown()
        found = findings.row_of(self.subject(self.shown.controls.network), self.shown)
        row = {column: drawing.readable(entry) for column, entry in found.items()}
        self.findings.append(row)
        self._unsaved.append(row)
        try:
            self.findings = findings.append(self.path, self._unsaved)
            self._unsaved = []
        finally:
            self._show_findings()

    def _show_findings(self) -> None:
        self.finds.layout.display = "" if self.findings else "none"
        cost = str(self.cost.value)
        picture = drawing.html_of([findings.draw_front(self.findings, cost)])
        table = findings.table(self.findings, cost, str(self.path))
        self.found.value = picture + table


def _same_or_first(name: str, offered: Sequence[str]) -> str:
    return name if name in offered else offered[0]
