"""A slider over named stops. A native `<input type=range>`: the ipywidgets slider's
handle has no accessible name."""

from collections.abc import Sequence

import anywidget
import traitlets

from utils.explorer.dark import CSS

SCRIPT = """
let made = 0;
export default {
  render({ model, el }) {
    const id = `stops-${Date.now()}-${made++}`;
    const label = document.createElement("label");
    const range = document.createElement("input");
    const shown = document.createElement("output");
    label.htmlFor = range.id = id;
    shown.htmlFor = id;
    range.type = "range";
    range.min = 0;
    range.step = 1;
    el.classList.add("stop-slider");
    // else JupyterLab takes the arrow keys: they fold and unfold headings
    range.dataset.lmSuppressShortcuts = "true";
    el.append(label, range, shown);
    const draw = () => {
      const names = model.get("names"), index = model.get("index");
      label.textContent = model.get("label");
      range.max = names.length - 1;
      range.value = index;
      range.disabled = names.length < 2;
      shown.textContent = names[index];
      range.setAttribute("aria-valuetext", names[index]);
    };
    range.addEventListener("input", () => {
      model.set("index", Number(range.value));
      model.save_changes();
      draw();
    });
    model.on("change:names change:index change:label", draw);
    draw();
  },
};
"""
STYLE = """
.stop-slider {
  display: flex; align-items: center; gap: 8px; flex-wrap: wrap; padding: 2px;
}
.stop-slider input {
  flex: 1 1 160px; min-width: 120px; height: 28px; accent-color: #0072B2;
}
.stop-slider input:focus-visible { outline: 3px solid #D55E00; outline-offset: 2px; }
.stop-slider output { min-width: 4.5em; font-weight: bold; }
"""


class StopSlider(anywidget.AnyWidget):
    """A slider whose positions are `stops`, shown under their `names`.

    Attributes:
        index: the position, what to observe.  value: the stop there; set it to a stop.
            options: `(name, stop)` pairs.
    """

    _esm = SCRIPT
    _css = STYLE + CSS
    label = traitlets.Unicode().tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        label: str,
        names: Sequence[str],
        stops: Sequence[float],
        **options: object,
    ) -> None:
        self._positions: tuple[float, ...] = tuple(stops)
        super().__init__(label=label, names=list(names), **options)

    @property
    def options(self) -> list[tuple[str, float]]:
        return list(zip(self.names, self._positions, strict=True))

    @property
    def value(self) -> float:
        # another thread may set the index while the stops become fewer
        return self._positions[min(self.index, len(self._positions) - 1)]

    @value.setter
    def value(self, stop: float) -> None:
        if stop not in self._positions:
            raise ValueError(
                f"value={stop!r} is no stop of the slider. Stops:"
                f" {', '.join(map(str, self._positions))}."
            )
        self.index = self._positions.index(stop)

    def set_stops(
        self, names: Sequence[str], stops: Sequence[float], value: float
    ) -> None:
        """Other stops; the slider goes to the one nearest to `value`."""
        self._positions = tuple(stops)
        nearest = min(range(len(stops)), key=lambda i: abs(stops[i] - value))
        with self.hold_sync(), self.hold_trait_notifications():
            self.names = list(names)
            self.index = nearest

    @traitlets.validate("index")
    def _inside(self, proposal: dict) -> int:
        return max(0, min(len(self._positions) - 1, proposal["value"]))
