"""The explorer's widgets: a thin shell around `subject`, `drawing` and `findings`.

A key press computes a first estimate and draws it, at once. What takes longer (the
other dots of the curve, the rest of the pictures, the zipped file, the time) is done
slice by slice when the slider rests (`background`).
"""

import copy
import functools
import html
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import ipywidgets
import matplotlib
import resvg_py
from IPython.display import display
from torch import nn

from utils import data, measure
from utils.explorer import drawing, findings
from utils.explorer.background import Background
from utils.explorer.kinds import KINDS
from utils.explorer.slider import StopSlider
from utils.explorer.subject import OWN, Controls, State, Subject, networks
from utils.lab import record_problem
from utils.plots import in_words

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
REST = 0.2  # seconds without a key press after which the slow work begins
REDRAW = 0.25  # seconds between two drawings of work that goes on
ROUNDS = 15  # of timing


class Explorer:
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

    def __init__(
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
        if (
            isinstance(pictures, bool)
            or not isinstance(pictures, int)
            or not 1 <= pictures <= 5000
        ):
            raise ValueError(f"pictures={pictures!r} must be between 1 and 5,000.")
        if data is not None and model is None:
            raise ValueError(
                "data needs a model of your own: the course's networks know"
                " Fashion-MNIST only."
            )
        self.own = model is not None
        self._pictures = pictures
        self._subjects = (
            {OWN: Subject(OWN, model, data, pictures)} if model is not None else {}
        )
        self._states: dict[Controls, State] = {}
        self._tuned: dict[Controls, tuple[State, nn.Module]] = {}
        # the score that the states of a network and kind rest on
        self._rules: dict[tuple[str, str, str], object] = {}
        self._tuning: Controls | None = None
        self.problems: list[str] = []
        self.path = Path(findings.FILE)
        self.findings: list[findings.Row] = []
        self._unsaved: list[findings.Row] = []
        self.shown: State | None = None
        self._lock = threading.RLock()
        self._settling, self._running = (
            Background(self._lock, self._fail),
            Background(self._lock, self._fail_tuning),
        )
        name = OWN if self.own else network
        start = Controls(sparsity, score or "", scope or "", kind, name)
        self._start = self._complete(start)
        self.subject(name).check(self._start)
        if sparsity not in self.subject(name).kinds[kind]:
            known = ", ".join(f"{stop:g}" for stop in self.subject(name).kinds[kind])
            raise ValueError(
                f"sparsity={sparsity!r} is no stop of kind={kind!r} for {name}. Stops:"
                f" {known}."
            )
        self._make_widgets()

    # ------------------------------------------------------------------------ computing

    def subject(self, network: str) -> Subject:
        """The network of that name with all that is known of it; loaded when it is
        first asked for."""
        if network not in self._subjects:
            known = [OWN] if self.own else networks()
            if network not in known:
                raise ValueError(
                    f"network={network!r} is not offered here. Known:"
                    f" {', '.join(known)}."
                )
            self._subjects[network] = Subject(network, pictures=self._pictures)
        return self._subjects[network]

    def state(self, controls: Controls) -> State:
        """Everything counted and evaluated for these controls, on all pictures; the
        time is not measured."""
        with self._lock:
            state, model = self._look(controls)
            *_, state = self._refined(state, model)
            return self._zipped(state, model)

    def curve(self, controls: Controls) -> list[State]:
        """The states at every stop of the slider, other controls as they are."""
        stops = self.subject(controls.network).kinds[controls.kind]
        return [self.state(replace(controls, sparsity=stop)) for stop in stops]

    def timed(self, controls: Controls, rounds: int = ROUNDS) -> State:
        """The state with its time: one picture, one thread, pruned and dense network in
        turn."""
        with self._lock:
            state, subject = self.state(controls), self.subject(controls.network)
            race = subject.race(controls, self._look(controls)[1])
            for _ in range(rounds):
                race.round()
            return subject.with_times(state, race)

    def _look(self, controls: Controls) -> tuple[State, nn.Module]:
        """What is known of these controls (a first estimate if nothing was), and the
        network; fine-tuned if it was."""
        subject = self.subject(controls.network)
        self._forget_outdated(controls, subject.rule(controls))
        if controls in self._tuned:
            return self._tuned[controls]
        model = subject.prune(controls)
        if controls not in self._states:
            self._states[controls] = subject.first_look(controls, model)
        return self._states[controls], model

    def _forget_outdated(self, controls: Controls, rule: object) -> None:
        """A score that was written anew under its old name makes what was computed with
        the old one worthless."""
        place = (controls.network, controls.kind, controls.score)
        if self._rules.setdefault(place, rule) is not rule:
            self._rules[place] = rule
            for known in (self._states, self._tuned):
                for old in [
                    each
                    for each in known
                    if (each.network, each.kind, each.score) == place
                ]:
                    del known[old]

    def _keep(self, state: State, model: nn.Module) -> State:
        """Remember what was found out; the time is measured anew whenever the slider
        rests."""
        if state.tuned:
            self._tuned[state.controls] = state, model
        else:
            self._states[state.controls] = state
        return state

    def _refined(self, state: State, model: nn.Module) -> Iterator[State]:
        yield state
        for better in self.subject(state.controls.network).refine(state, model):
            yield self._keep(better, model)

    def _zipped(self, state: State, model: nn.Module) -> State:
        if state.zipped is None:
            saved = self.subject(state.controls.network).saved
            state = self._keep(
                replace(state, zipped=measure.zipped_bytes(model, level=1) / saved),
                model,
            )
        return state

    # -------------------------------------------------------------------------- drawing

    def describe(self, state: State) -> str:
        """A state in words, for a screen reader and where there is no picture."""
        chosen, subject = state.controls, self.subject(state.controls.network)
        kind = KINDS[chosen.kind]
        time_said = (
            "not measured yet"
            if state.time is None
            else f"{state.time:.0%} of the dense network's"
        )
        zipped = "not counted yet" if state.zipped is None else f"{state.zipped:.0%}"
        csr = f", with the CSR kernel {state.csr:.0%}" if state.csr is not None else ""
        tuned = f", fine-tuned on {state.tuned:,} pictures" if state.tuned else ""
        return (
            f"{subject.name}, {kind.label}, {chosen.score} score, {chosen.scope},"
            f" sparsity {kind.say(subject, chosen.sparsity)}{tuned}: accuracy"
            f" {state.accuracy:.1%} on {state.pictures:,} validation pictures, weights"
            f" left {state.weights:.0%}, MACs {state.macs:.0%}, file as saved"
            f" {state.saved:.0%}, zipped {zipped}, time for one picture"
            f" {time_said}{csr}."
        )

    def parts(self, state: State, model: nn.Module | None = None) -> list[drawing.Part]:
        """The parts of the picture of a state."""
        chosen, subject = state.controls, self.subject(state.controls.network)
        model = self._look(chosen)[1] if model is None else model
        places = {
            stop: replace(chosen, sparsity=stop) for stop in subject.kinds[chosen.kind]
        }
        curve = {
            stop: self._states[place]
            for stop, place in places.items()
            if place in self._states
        }
        tuned = {
            stop: self._tuned[place][0]
            for stop, place in places.items()
            if place in self._tuned
        }
        return drawing.parts(subject, state, curve, tuned, model)

    def svg(self, state: State) -> str:
        """The panel's picture as one SVG."""
        return drawing.svg_of(self.parts(state), self.describe(state))

    # -------------------------------------------------------------------------- widgets

    def _make_widgets(self) -> None:
        names = [OWN] if self.own else networks()
        self.network = _dropdown("Network", names)
        self.kind, self.score, self.scope = (
            _dropdown(name, []) for name in ("Kind", "Score", "Scope")
        )
        self.sparsity = StopSlider(
            "Sparsity", ["0%"], [0.0], layout={"width": "100%", "max_width": "560px"}
        )
        self.tune = self._button(
            "Fine-tune", "Train this pruned network for a short while", self._on_tune
        )
        self.cancel = self._button("Cancel", "Stop fine-tuning", self._on_cancel)
        self.reset = self._button(
            "Reset", "Back to the start; forget what was fine-tuned", self._on_reset
        )
        self.find = self._button(
            "What did I find?",
            "Keep this setting as a row of the table below",
            self._on_find,
        )
        self.cost = _dropdown("Cost", list(findings.COSTS))
        self.cost.layout.align_self = "flex-start"
        self.cancel.disabled = True
        self.status = ipywidgets.HTML()
        self.picture, self.trouble, self.found = (
            ipywidgets.HTML(),
            ipywidgets.HTML(),
            ipywidgets.HTML(),
        )
        self.finds = ipywidgets.VBox(
            [self.cost, self.found], layout={"display": "none"}
        )
        self._observed = (
            self.network,
            self.kind,
            self.score,
            self.scope,
            self.sparsity,
        )
        self._set_controls(self._start)
        for control in self._observed[:-1]:
            control.observe(self._on_change, names="value")
        self.sparsity.observe(self._on_change, names="index")
        self.cost.observe(self._guarded(lambda _: self._show_findings()), names="value")
        wrap = {"flex_flow": "row wrap", "width": "100%"}
        rows = [
            ipywidgets.HBox(
                [self.network, self.kind, self.score, self.scope], layout=wrap
            ),
            self.sparsity,
            ipywidgets.HBox(
                [self.tune, self.cancel, self.reset, self.find], layout=wrap
            ),
        ]
        self.panel = ipywidgets.VBox(
            [*rows, self.status, self.trouble, self.picture, self.finds]
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
        """What the widgets are set to."""
        return Controls(
            self.sparsity.value,
            self.score.value,
            self.scope.value,
            self.kind.value,
            self.network.value,
        )

    def _complete(self, wanted: Controls) -> Controls:
        """The controls with the first of what the kind offers wherever something is not
        offered."""
        subject = self.subject(wanted.network)
        if wanted.kind in subject.refusals or wanted.kind not in KINDS:
            subject.check(wanted)  # says why
        kind = KINDS[wanted.kind]
        scores, scopes = kind.scores(), kind.scopes
        return replace(
            wanted, score=wanted.score or scores[0], scope=wanted.scope or scopes[0]
        )

    def _set_controls(self, wanted: Controls) -> None:
        """Let the widgets offer what goes with this network and kind, and set them,
        without a callback in between."""
        subject, kind = self.subject(wanted.network), KINDS[wanted.kind]
        self._setting = True
        try:
            self.network.value = wanted.network
            _offer(
                self.kind,
                [(KINDS[name].label, name) for name in subject.kinds],
                wanted.kind,
            )
            _offer(self.score, [(name, name) for name in kind.scores()], wanted.score)
            _offer(self.scope, [(name, name) for name in kind.scopes], wanted.scope)
            stops = subject.kinds[wanted.kind]
            self.sparsity.set_stops(
                [kind.say(subject, stop) for stop in stops], stops, wanted.sparsity
            )
        finally:
            self._setting = False

    def _follow(self, changed: object) -> None:
        """After another network or kind, offer what goes with it: the same if possible,
        else the first."""
        if changed not in (self.network, self.kind):
            return
        subject = self.subject(self.network.value)
        name = (
            self.kind.value
            if self.kind.value in subject.kinds
            else next(iter(subject.kinds))
        )
        kind = KINDS[name]
        score = (
            self.score.value if self.score.value in kind.scores() else kind.scores()[0]
        )
        scope = self.scope.value if self.scope.value in kind.scopes else kind.scopes[0]
        self._set_controls(
            Controls(self.sparsity.value, score, scope, name, self.network.value)
        )

    def refresh(self) -> None:
        """Compute a first estimate of what the controls say, draw it, and begin the
        slow work."""
        if not self.subject(self.network.value).has_score(self.controls):
            self._say(f"Computing the {self.score.value} score ...")
        self.shown, model = self._look(self.controls)
        self._draw(model)
        self._settling.start(self._settle(self.shown, model), REST)

    def settle(self) -> None:
        """Do the slow work now, and wait for it; the fine-tuning too."""
        self._running.finish()
        self._settling.finish()

    def close(self) -> None:
        """Stop all work and take the widgets away."""
        self._running.stop()
        self._settling.stop()
        for widget in _all_in(self.panel):
            widget.close()

    def _settle(self, state: State, model: nn.Module) -> Iterator[None]:
        """The slow work of one setting: the curve, all pictures, the zipped file, the
        time."""
        chosen, subject = state.controls, self.subject(state.controls.network)
        drawn = time.perf_counter()
        for stop in subject.kinds[chosen.kind]:
            if replace(chosen, sparsity=stop) not in self._states:
                self._look(replace(chosen, sparsity=stop))
                yield
        for state in self._refined(state, model):  # noqa: B020
            if time.perf_counter() - drawn > REDRAW:
                self._draw(model, state)
                drawn = time.perf_counter()
            yield
        if state.zipped is None or state is not self.shown:
            state = self._zipped(state, model)
            self._draw(model, state)
            yield
        race = subject.race(chosen, model)
        while race.rounds < ROUNDS:
            yield
            race.round()
        if not subject.heavy:  # all pictures for the other dots, too
            for stop in subject.kinds[chosen.kind]:
                yield
                *_, _ = self._refined(*self._look(replace(chosen, sparsity=stop)))
        self._draw(model, subject.with_times(state, race))
        if self._tuning is None:
            # at rest only: a screen reader reads it out
            self._say(self.describe(self.shown))

    def _draw(self, model: nn.Module, state: State | None = None) -> None:
        self.shown = state or self.shown
        self.picture.value = drawing.html_of(self.parts(self.shown, model))

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
            '<div role="status"'
            f' style="line-height:1.35;max-width:60em">{html.escape(words)}{bar}</div>'
        )

    # ------------------------------------------------------------------------ callbacks

    def _on_change(self, change: dict) -> None:
        if not self._setting:
            self._guarded(self._changed)(change.get("owner"))

    def _changed(self, owner: object) -> None:
        self._settling.stop()
        self._follow(owner)
        self.refresh()
        self.trouble.value = ""

    def _guarded(self, work: Callable) -> Callable:
        """An exception in a callback would vanish: show it in red, keep it, and let the
        lab's last cell fail."""

        @functools.wraps(work)
        def guarded(*arguments: object) -> None:
            try:
                with self._lock:
                    work(*arguments)
            except Exception as error:
                self._fail(error)

        return guarded

    def _fail(self, error: Exception) -> None:
        summary = f"{type(error).__name__}: {error}"
        self.problems.append("".join(traceback.format_exception(error)))
        record_problem(summary)
        self.trouble.value = (
            '<p role="alert" style="color:#B00020"><b>Error:</b>'
            f" {html.escape(summary)}</p>"
        )

    def _fail_tuning(self, error: Exception) -> None:
        self._end_tuning()
        self._fail(error)

    def _on_tune(self) -> None:
        if self._running.busy:
            return
        chosen = self.controls
        state, model = self._look(chosen)
        self._tuning = chosen
        self.tune.disabled, self.cancel.disabled = True, False
        self._running.start(self._tune(state, model))

    def _tune(self, state: State, model: nn.Module) -> Iterator[None]:
        """Fine-tune a copy of what these controls gave, in slices; at its end, a star
        on the curve."""
        subject, copied = self.subject(state.controls.network), copy.deepcopy(model)
        count, started, said = subject.tune_pictures, time.perf_counter(), 0.0
        try:
            for done in subject.tune(state.controls, copied, run=state.tuned):
                passed = time.perf_counter() - started
                if passed - said > REDRAW or not said:
                    said = passed
                    self._say(
                        f"Fine-tuning on {count:,} pictures: about"
                        f" {passed / done - passed:.0f} s left.",
                        done,
                    )
                yield
            tuned = subject.first_look(
                state.controls, copied, tuned=state.tuned + count
            )
            for better in subject.refine(tuned, copied):
                tuned = better
                yield
            self._keep(tuned, copied)
        finally:
            self._end_tuning()
        self.refresh()

    def _end_tuning(self) -> None:
        self._tuning = None
        self.tune.disabled, self.cancel.disabled = False, True
        if self.shown is not None:
            self._say(self.describe(self.shown))

    def _on_cancel(self) -> None:
        self._running.stop()
        self._end_tuning()
        self._say("Fine-tuning was cancelled; the network is as it was before.")

    def _on_reset(self) -> None:
        self._running.stop()
        self._end_tuning()
        self._settling.stop()
        self._tuned.clear()
        self._set_controls(self._start)
        self.refresh()
        self.trouble.value = ""

    def _on_find(self) -> None:
        self._finish_shown()
        row = findings.row_of(self.subject(self.shown.controls.network), self.shown)
        self.findings.append(row)
        self._unsaved.append(row)
        try:
            self.findings = findings.append(self.path, self._unsaved)
            self._unsaved = []
        finally:
            self._show_findings()

    def _finish_shown(self) -> None:
        """Complete what is shown; a fine-tuning goes on."""
        if self.shown is None:
            self.refresh()
        self._settling.finish()

    def _show_findings(self) -> None:
        self.finds.layout.display = "" if self.findings else "none"
        table = findings.table(self.findings, self.cost.value)
        self.found.value = (
            drawing.html_of([findings.draw_front(self.findings, self.cost.value)])
            + table
        )

    # -------------------------------------------------------------------------- display

    def still(self) -> None:
        """Display a picture of the panel as it stands, which does not move with it."""
        self._finish_shown()
        words = f"The pruning explorer. {self.describe(self.shown)}"
        bundle, metadata = self._picture(words)
        display(bundle, metadata=metadata, raw=True)
        display(in_words(words), raw=True)

    def _ipython_display_(self) -> None:
        """The panel, and below it, for where there is no kernel, what it shows in
        words."""
        bundle, metadata = self._repr_mimebundle_()
        display(bundle, metadata=metadata, raw=True)
        display(in_words(bundle["text/plain"]), raw=True)

    def _repr_mimebundle_(self, **_: object) -> tuple[dict, dict]:
        """The live panel; beside it a picture and a description for where there is no
        kernel."""
        self._guarded(self.refresh)()
        self.settle()
        live = self.panel._repr_mimebundle_()
        if self.trouble.value:
            return {**live, "text/plain": f"Pruning explorer. {self.problems[-1]}"}, {}
        words = (
            f"Pruning explorer. {self.describe(self.shown)} Run the notebook to move"
            " the sliders."
        )
        bundle, metadata = self._picture(words)
        return {**live, **bundle}, metadata

    def _picture(self, words: str) -> tuple[dict, dict]:
        png = resvg_py.svg_to_bytes(
            svg_string=self.svg(self.shown), width=920, font_dirs=[str(FONTS)]
        )
        return {"image/png": bytes(png), "text/plain": words}, {
            "image/png": {"alt": words}
        }


def _all_in(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    for child in getattr(widget, "children", ()):
        yield from _all_in(child)
    yield widget


def _dropdown(name: str, options: list[str]) -> ipywidgets.Dropdown:
    style = {"description_width": "initial"}
    return ipywidgets.Dropdown(
        options=options, description=name, style=style, layout={"width": "auto"}
    )


def _offer(
    control: ipywidgets.Dropdown, options: list[tuple[str, str]], value: str
) -> None:
    if tuple(control.options) != tuple(options):
        control.options = options
    control.value = value
    control.disabled = len(options) < 2
