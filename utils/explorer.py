"""The pruning explorer: slide the sparsity, and see what changes and what does not.

`Explorer` computes (`state`), draws (`svg`) and describes (`describe`) without any widget; the widgets are a thin
shell around these three. Everything is computed from the real network on validation pictures. Counted numbers and
measured ones are marked as such.
"""

import copy
import html
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import ipywidgets
import matplotlib
import numpy as np
import resvg_py
from torch import nn

from utils import data, measure
from utils.lab import record_problem
from utils.masks import LayerSparsity, apply_masks, masks_from_scores, report
from utils.models import baseline
from utils.plots import PALETTE
from utils.scores import SCORES, Scores, prunable, sample_batches, score
from utils.training import evaluate

STOPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
SCOPES = ("global", "layerwise")
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@dataclass(frozen=True)
class Controls:
    """What the learner has chosen."""

    sparsity: float = 0.0
    score: str = "magnitude"
    scope: str = "global"


@dataclass(frozen=True)
class State:
    """What the panel shows for some controls. Fractions are of the dense network, which is 1."""

    controls: Controls
    accuracy: float
    weights: float
    macs: float
    zipped: float
    saved: float
    layers: tuple[LayerSparsity, ...]
    time: float | None = None  # median time of the masked network over the dense one's; None: not measured yet
    time_quartiles: tuple[float, float] = (0.0, 0.0)


class Explorer:
    """A panel for one network and unstructured pruning (single weights, the network masked, not retrained).

    Args:
        network: "lenet300", "vgg" or "resnet"; ignored when `model` is given.
        model: a network of your own that takes Fashion-MNIST pictures.
        pictures: how many validation pictures the accuracy rests on.
    Raises:
        ValueError: the model has nothing to prune, or `pictures` is not between 1 and 5,000.
    """

    def __init__(self, network: str = "lenet300", *, model: nn.Module | None = None, pictures: int = 2000) -> None:
        splits = data.load()
        if not 1 <= pictures <= len(splits.validation):
            raise ValueError(f"pictures={pictures!r} must be between 1 and {len(splits.validation):,}.")
        self.name = "your network" if model is not None else network
        self.dense = copy.deepcopy(model).eval() if model is not None else baseline(network)
        prunable(self.dense)
        self.masked = copy.deepcopy(self.dense)
        self.validation = splits.validation[:pictures]
        self.batches = sample_batches(splits.train, count=4)
        self._scores: dict[str, Scores] = {}
        self._states: dict[Controls, State] = {}
        self.problems: list[str] = []
        self._make_widgets()

    # -------------------------------------------------------------------------------------------------- computing

    def state(self, controls: Controls) -> State:
        """Everything that can be counted or evaluated for these controls; remembered, so that it is done once."""
        if controls not in self._states:
            layers = self._mask(controls)
            example = self.validation.images[:1]
            self._states[controls] = State(
                controls,
                evaluate(self.masked, self.validation),
                weights=layers[-1].kept / layers[-1].weights,
                macs=measure.macs(self.masked, example, nonzero=True) / measure.macs(self.dense, example),
                zipped=measure.zipped_bytes(self.masked, level=1) / measure.file_bytes(self.dense),
                saved=measure.file_bytes(self.masked) / measure.file_bytes(self.dense),
                layers=tuple(layers),
            )
        return self._states[controls]

    def curve(self, controls: Controls) -> list[State]:
        """The states at every stop of the slider, other controls as they are."""
        return [self.state(replace(controls, sparsity=stop)) for stop in STOPS]

    def timed(self, controls: Controls, rounds: int = 15) -> State:
        """The state with latency: one picture, one thread, the masked network against the dense one, interleaved."""
        state = self.state(controls)
        self._mask(controls)
        models = {"masked": self.masked, "dense": self.dense}
        dense = measure.latency(models, self.validation.images[:1], rounds=rounds, shortest=5e-4)["dense"]
        return replace(state, time=dense.speedup, time_quartiles=dense.speedup_quartiles)  # time masked / time dense

    def _mask(self, controls: Controls) -> list[LayerSparsity]:
        if controls.score not in self._scores:
            self._scores[controls.score] = score(controls.score, self.dense, self.batches)
        scores = self._scores[controls.score]
        masks = masks_from_scores(scores, controls.sparsity, scope=controls.scope, allow_empty=True)
        self.masked.load_state_dict(self.dense.state_dict())
        apply_masks(self.masked, masks)
        return report(masks)

    # ---------------------------------------------------------------------------------------------------- drawing

    def svg(self, state: State) -> str:
        """The panel's picture. Text in it says what colour and place say too."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 392" width="100%" style="max-width:920px" '
            f'role="img" aria-label="{html.escape(self.describe(state))}" '
            f'font-family="DejaVu Sans, Verdana, sans-serif" font-size="13" fill="#222">',
            '<rect width="920" height="392" fill="white"/>',
            *_draw_curve(self.curve(state.controls), state, self.name),
            *_draw_number(state, len(self.validation)),
            *_draw_bars(state),
            *_draw_layers(state.layers),
            "</svg>",
        ]
        return "".join(parts)

    def describe(self, state: State) -> str:
        """The same in words, for a screen reader and where there is no picture."""
        controls = state.controls
        time = "not measured yet" if state.time is None else f"{state.time:.0%} of the dense network's"
        return (
            f"{self.name}, {controls.score} score, {controls.scope}, sparsity {controls.sparsity:.0%}: "
            f"accuracy {state.accuracy:.1%} on {len(self.validation):,} validation pictures, "
            f"weights left {state.weights:.0%}, file as saved {state.saved:.0%}, zipped {state.zipped:.0%}, "
            f"time for one picture {time}."
        )

    # ---------------------------------------------------------------------------------------------------- widgets

    def _make_widgets(self) -> None:
        names = {f"{100 * stop:g}%": stop for stop in STOPS}
        self.sparsity = ipywidgets.SelectionSlider(
            options=list(names.items()), description="Sparsity", layout={"width": "380px"}
        )
        self.score = ipywidgets.Dropdown(options=list(SCORES), description="Score", layout={"width": "195px"})
        self.scope = ipywidgets.Dropdown(options=SCOPES, description="Scope", layout={"width": "195px"})
        self.picture = ipywidgets.HTML()
        self.trouble = ipywidgets.HTML()
        for control in (self.sparsity, self.score, self.scope):
            control.observe(self._on_change, names="value")
        row = ipywidgets.HBox([self.sparsity, self.score, self.scope], layout={"flex_flow": "row wrap"})
        self.panel = ipywidgets.VBox([row, self.picture, self.trouble])

    @property
    def controls(self) -> Controls:
        """What the widgets are set to."""
        return Controls(self.sparsity.value, self.score.value, self.scope.value)

    def refresh(self) -> None:
        """Compute, measure and draw what the controls say."""
        self.shown = self.timed(self.controls)
        self.picture.value = self.svg(self.shown)

    def _on_change(self, _: object) -> None:
        """An exception in a callback would vanish: show it in red, keep it, and let the lab's last cell fail."""
        try:
            self.refresh()
            self.trouble.value = ""
        except Exception as error:
            summary = f"{type(error).__name__}: {error}"
            self.problems.append(traceback.format_exc())
            record_problem(summary)
            self.trouble.value = f'<p role="alert" style="color:#B00020"><b>Error:</b> {html.escape(summary)}</p>'

    def _repr_mimebundle_(self, **_: object) -> tuple[dict, dict]:
        """The live panel; beside it a picture and a description for where there is no kernel."""
        self._on_change(None)
        bundle = self.panel._repr_mimebundle_()
        if self.trouble.value:
            return {**bundle, "text/plain": f"Pruning explorer. {self.problems[-1]}"}, {}
        state = self.shown
        description = f"Pruning explorer. {self.describe(state)} Run the notebook to move the sliders."
        png = resvg_py.svg_to_bytes(svg_string=self.svg(state), width=920, font_dirs=[str(FONTS)])
        return {**bundle, "image/png": bytes(png), "text/plain": description}, {"image/png": {"alt": description}}


# ------------------------------------------------------------------------------------------------- parts of the picture

BLUE, ORANGE, GREY = PALETTE[0], PALETTE[1], "#666666"


def _text(x: float, y: float, content: str, **attributes: object) -> str:
    extra = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{extra}>{html.escape(content)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#DDDDDD", **attributes: object) -> str:
    extra = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{extra}/>'


def _draw_curve(states: list[State], now: State, name: str) -> list[str]:
    """Accuracy over sparsity: a dot for each stop (measured), thin dashes between them (not measured)."""
    left, right, top, bottom = 52, 440, 40, 330

    def at(index: float, accuracy: float) -> tuple[float, float]:
        return left + (right - left) * index / (len(states) - 1), bottom - (bottom - top) * accuracy

    parts = [_text(left, 22, f"Accuracy of {name}, masked, not retrained", font_weight="bold")]
    for percent in (0, 20, 40, 60, 80, 100):
        y = at(0, percent / 100)[1]
        parts += [_line(left, y, right, y), _text(left - 8, y + 4, f"{percent}%", text_anchor="end", fill=GREY)]
    for index, state in enumerate(states):
        label = f"{100 * state.controls.sparsity:g}"
        parts.append(_text(at(index, 0)[0], bottom + 18, label, text_anchor="middle", fill=GREY, font_size=11))
    parts.append(_text((left + right) / 2, bottom + 38, "sparsity in %, the stops of the slider", text_anchor="middle"))
    dense_y = at(0, states[0].accuracy)[1]
    parts.append(_line(left, dense_y, right, dense_y, GREY, stroke_dasharray="6 4"))
    points = [at(index, state.accuracy) for index, state in enumerate(states)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{BLUE}" stroke-dasharray="3 3"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{BLUE}"/>' for x, y in points]
    x, y = at(np.interp(now.controls.sparsity, STOPS, range(len(STOPS))), now.accuracy)
    parts.append(_line(x, top, x, bottom, ORANGE, stroke_width=1.5))
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="{ORANGE}" stroke-width="3"/>')
    return parts


def _draw_number(state: State, pictures: int) -> list[str]:
    """The accuracy, always in the same place, with the margin of a sample of so many pictures (95%)."""
    margin = 1.96 * (state.accuracy * (1 - state.accuracy) / pictures) ** 0.5
    return [
        _text(490, 48, f"{state.accuracy:.1%}", font_size=34, font_weight="bold", fill=ORANGE),
        _text(626, 33, f"accuracy at {100 * state.controls.sparsity:g}% sparsity"),
        _text(626, 51, f"± {100 * margin:.1f} points: {pictures:,} validation pictures", fill=GREY, font_size=11.5),
    ]


def _draw_bars(state: State) -> list[str]:
    """Fractions of the dense network as bars against a dashed 100% line."""
    rows = [
        ("weights not zero", state.weights, "counted"),
        ("multiplications not by zero", state.macs, "counted"),
        ("file, zipped", state.zipped, "counted"),
        ("file, as saved", state.saved, "counted"),
        ("time for one picture", state.time, "measured"),
    ]
    left, full, top = 690, 150, 84
    parts = [_text(490, top - 10, "Compared with the dense network", font_weight="bold")]
    for index, (label, value, tag) in enumerate(rows):
        y = top + 8 + 30 * index
        parts += [_text(490, y + 13, label), _text(490, y + 25, tag, fill=GREY, font_size=10)]
        if value is None:
            parts.append(_text(left + 4, y + 14, "measuring ..."))
            continue
        length, colour = min(value, 1.15) * full, ORANGE if tag == "measured" else BLUE
        parts.append(f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="15" fill="{colour}"/>')
        if tag == "measured":
            low, high = (left + full * min(q, 1.2) for q in state.time_quartiles)
            parts.append(_line(low, y + 9.5, high, y + 9.5, "#000000", stroke_width=2))
        parts.append(_text(left + 1.2 * full + 6, y + 14, f"{value:.0%}"))
    bottom = top + 8 + 30 * len(rows)
    parts.append(_line(left + full, top, left + full, bottom, "#333333", stroke_dasharray="5 4"))
    return parts


def _draw_layers(layers: tuple[LayerSparsity, ...]) -> list[str]:
    """What each layer keeps, at most eight layers."""
    left, full, top = 690, 150, 268
    shown = layers[:-1][:8]
    parts = [_text(490, top - 8, "Weights left in each layer", font_weight="bold")]
    step = min(22, 108 / max(len(shown), 1))
    for index, layer in enumerate(shown):
        y, kept = top + step * index, layer.kept / layer.weights
        parts.append(
            _text(
                490, y + 11, f"{layer.name.removesuffix('.weight')}: {layer.kept:,} of {layer.weights:,}", font_size=11
            )
        )
        parts.append(f'<rect x="{left}" y="{y + 2}" width="{full}" height="{step - 8:.1f}" fill="#EEEEEE"/>')
        parts.append(
            f'<rect x="{left}" y="{y + 2}" width="{full * kept:.1f}" height="{step - 8:.1f}" fill="{PALETTE[2]}"/>'
        )
        parts.append(_text(left + 1.2 * full + 6, y + 11, f"{kept:.1%}", font_size=11))
    return parts
