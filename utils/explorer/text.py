"""The explorer of a text network: slide the sparsity, and read what it still writes.

A key press prunes a copy of the network and lets it write, at once. Its loss and its
speed follow when the slider rests (`background`).
"""

import threading
from dataclasses import asdict, replace

import ipywidgets

from utils import text
from utils.baselines import baseline
from utils.data import Batches, sample_batches
from utils.explorer import drawing, text_drawing
from utils.explorer.background import Background, Work
from utils.explorer.links import link_of
from utils.explorer.shell import REST, Shell, all_in, dropdown, offer, row
from utils.explorer.slider import StopSlider
from utils.explorer.text_links import read_link
from utils.explorer.text_memory import PROMPTS, TextControls, TextMemory, TextState
from utils.models.gpt import GPT

CALIBRATION = 16  # windows, each a batch: scores average what each of them says


class TextExplorer(Shell):
    """A panel that joins sparsity, score and scope to what a text network writes, to
    its loss, its bytes and its speed.

    Args:
        model: a GPT of the course's pieces; by default the shipped "gpt".
        texts: `text.load()`, the default.
        batches: what scores are computed from; by default 16 windows of the training
            text, one a batch.
        score, scope, sparsity, prompt, draw: where the controls stand at first.
        windows: of the validation text, evenly spaced, on which the loss rests.
        temperature: of what is written.
    Raises:
        ValueError: a network that `generation.Writer` does not know, or of other
            pieces; a score, scope or sparsity that is not offered.
        DamagedFileError: no model is given, and the shipped one is missing.
    """

    title = "text explorer"

    def __init__(  # noqa: PLR0913 - given by keyword, most of them left out
        self,
        model: GPT | None = None,
        texts: text.Texts | None = None,
        batches: Batches | None = None,
        *,
        score: str = "magnitude",
        scope: str = "global",
        sparsity: float = 0.0,
        prompt: str = PROMPTS[0],
        draw: int = 0,
        windows: int = 16,
        temperature: float = 0.6,
    ) -> None:
        texts = text.load() if texts is None else texts
        if batches is None:
            batches = sample_batches(texts.train, CALIBRATION, batch_size=1)
        self.memory = TextMemory(
            _shipped() if model is None else model,
            texts,
            batches,
            windows=windows,
            temperature=temperature,
        )
        self._start = TextControls(sparsity, score, scope, prompt, draw)
        self.memory.check(self._start)
        self.problems: list[str] = []
        self._shown: TextState | None = None
        # held by whoever touches the panel
        self.lock = threading.RLock()
        self.slow_work = Background(self.lock, self._fail)
        self._make_widgets()

    @classmethod
    def from_link(cls, link: str) -> "TextExplorer":
        """The panel of the shipped network with the setting of a link from the page on
        which it writes.

        Raises:
            ValueError: no such link (`text_links.read_link`), or a setting that is not
                offered.
        """
        return cls(**asdict(read_link(link)))

    @property
    def link(self) -> str:
        """The end of that page's address that opens the same setting there."""
        return link_of(self.controls)

    # -------------------------------------------------------------- what it can answer

    def state(self, controls: TextControls) -> TextState:
        """Everything written, counted and evaluated for these controls; the speed only
        if it was measured."""
        with self.lock:
            return self.memory.state(controls)

    def curve(self, controls: TextControls) -> list[TextState]:
        """The states at every stop of the slider, other controls as they are."""
        with self.lock:
            return [
                self.memory.state(replace(controls, sparsity=stop))
                for stop in self.memory.stops(controls.scope)
            ]

    def describe(self, state: TextState) -> str:
        """A state in words, for a screen reader and where there is no picture."""
        return text_drawing.describe(state)

    def parts(self, state: TextState) -> list[drawing.Part]:
        """The parts of the picture of a state."""
        stops = self.memory.stops(state.controls.scope)
        return text_drawing.parts(state, self.memory.curve(state.controls), stops)

    def svg(self, state: TextState) -> str:
        """The panel's picture as one SVG."""
        return drawing.svg_of(self.parts(state), self.describe(state))

    def html(self, state: TextState) -> str:
        """The panel's picture as its parts side by side, as far as there is room."""
        return drawing.html_of(self.parts(state))

    # ------------------------------------------------------------------------- widgets

    def _make_widgets(self) -> None:
        self.score, self.scope = (dropdown(name, []) for name in ("Score", "Scope"))
        self.example = dropdown("Begin with", list(PROMPTS))
        self.prompt = ipywidgets.Text(
            description="Prompt",
            style={"description_width": "initial"},
            layout={"width": "100%", "max_width": "560px"},
        )
        self.sparsity = StopSlider(
            "Sparsity", ["0%"], [0.0], layout={"width": "100%", "max_width": "560px"}
        )
        self.again = ipywidgets.Button(
            description="Draw again",
            tooltip="Other noise, the same for both networks",
            layout={"width": "auto"},
        )
        self.status, self.trouble, self.picture = (ipywidgets.HTML() for _ in range(3))
        self._set_controls(self._start)
        self.sparsity.observe(self._on_change, names="index")
        for control in (self.score, self.scope, self.prompt):
            control.observe(self._on_change, names="value")
        self.example.observe(self._guarded(self._on_example), names="value")
        self.again.on_click(self._guarded(self._on_again))
        self.panel = ipywidgets.VBox(
            [
                row(self.score, self.scope, self.example, self.again),
                self.prompt,
                self.sparsity,
                self.status,
                self.trouble,
                self.picture,
            ]
        )

    @property
    def controls(self) -> TextControls:
        """What the panel is set to."""
        return self._controls

    @property
    def shown(self) -> TextState:
        """What the picture shows; drawn now if nothing was."""
        return self._shown or self._refreshed()

    def _set_controls(self, wanted: TextControls) -> None:
        """Set the widgets, and let the slider have the stops of this scope, without a
        callback in between."""
        self._controls = wanted
        self._setting = True
        try:
            offer(self.score, _named(self.memory.scores()), wanted.score)
            offer(self.scope, _named(self.memory.scopes()), wanted.scope)
            self.prompt.value = wanted.prompt
            stops = self.memory.stops(wanted.scope)
            names = [f"{100 * stop:g}%" for stop in stops]
            self.sparsity.set_stops(names, stops, wanted.sparsity)
        finally:
            self._setting = False

    def _taken(self) -> TextControls:
        """What the widgets are set to; after another scope, the nearest stop."""
        scope, sparsity = str(self.scope.value), self.sparsity.value
        stops = self.memory.stops(scope)
        nearest = min(stops, key=lambda stop: abs(stop - sparsity))
        given = str(self.score.value), scope, str(self.prompt.value)
        return TextControls(nearest, *given, self._controls.draw)

    # ------------------------------------------------------------------------ callbacks

    def _on_change(self, _: object) -> None:
        self._guarded(self._changed)()

    def _changed(self) -> None:
        # asked with the lock held: only the panel's own setting is passed over
        if not self._setting:
            self._go(self._taken())

    def _on_example(self, _: object) -> None:
        self._go(replace(self._taken(), prompt=str(self.example.value)))

    def _on_again(self, _: object) -> None:
        taken = self._taken()
        self._go(replace(taken, draw=taken.draw + 1))

    def _go(self, wanted: TextControls) -> None:
        self.slow_work.stop()
        self._set_controls(wanted)
        self._refreshed()
        self.trouble.value = ""

    def refresh(self) -> None:
        """Write anew what the controls say, draw it, and begin the slow work."""
        self._refreshed()

    def _refreshed(self) -> TextState:
        with self.lock:
            if not self.memory.ready(self.controls):
                self._say(f"Computing the {self.controls.score} score ...")
            state = self.memory.look(self.controls)
            self._draw(state)
            self._say(state.remark)
            self.slow_work.start(self._settle(state), REST)
            return state

    def settle(self) -> None:
        """Do the slow work now, and wait for it."""
        self.slow_work.finish()

    def close(self) -> None:
        """Stop all work and take the widgets away."""
        self.slow_work.stop()
        for widget in all_in(self.panel):
            widget.close()

    def _settle(self, state: TextState) -> Work:
        """The slow work of one setting: the loss, then the speed."""
        yield from self.memory.losses(state.controls)
        self._draw(self.memory.known(state))
        yield from self.memory.speeds(state.controls)
        self._draw(self.memory.known(state))
        # at rest only: it is read out
        self._say(text_drawing.summary(self.shown))

    def _draw(self, state: TextState) -> None:
        self._shown = state
        self.picture.value = self.html(state)

    def _say(self, words: str) -> None:
        self.status.value = (
            # as high without words, so that the picture stays where it is
            '<div role="status" style="line-height:1.35;min-height:2.7em;'
            'max-width:60em">'
            f"{drawing.escaped(words)}</div>"
        )


def _shipped() -> GPT:
    model = baseline("gpt")
    if not isinstance(model, GPT):
        raise ValueError('the network "gpt" is no GPT.')
    return model


def _named(names: list[str]) -> list[tuple[str, str]]:
    shown = text_drawing.SCORE_NAMES
    return [(drawing.readable(shown.get(name, name)), name) for name in names]
