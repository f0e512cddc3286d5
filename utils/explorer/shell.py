"""What every explorer is around its controls: a callback's error is shown and kept, and
where there is no kernel a picture and words stand in for the live panel."""

import functools
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import matplotlib
import resvg_py
from IPython.display import display

from utils.explorer import drawing
from utils.explorer.background import Background
from utils.plots import in_words
from utils.problems import record_problem

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
REST = 0.2  # seconds without a key press after which the slow work begins


class Shell:
    """The base of an explorer, which says what it shows, draws it, and does the slow
    work of its setting.

    title: what it is, in a sentence's middle.  lock: held by whoever touches the panel.
    trouble: where an error is shown.  problems: the errors so far.
    """

    title: str
    lock: threading.RLock
    problems: list[str]
    panel: ipywidgets.Widget
    trouble: ipywidgets.HTML
    slow_work: Background
    _shown: Any = None

    @property
    def shown(self) -> Any:
        """The state that the picture shows; drawn now if nothing was."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Compute anew what the controls say, draw it, and begin the slow work."""
        raise NotImplementedError

    def settle(self) -> None:
        """Do the slow work now, and wait for it."""
        raise NotImplementedError

    def describe(self, state: Any) -> str:
        """A state in words."""
        raise NotImplementedError

    def svg(self, state: Any) -> str:
        """The picture of a state as one SVG."""
        raise NotImplementedError

    # ------------------------------------------------------------------------ callbacks

    def _guarded(self, work: Callable) -> Callable:
        """An exception in a callback would vanish: show it in red, keep it, and let the
        lab's last cell fail."""

        @functools.wraps(work)
        def guarded(*arguments: object) -> None:
            try:
                with self.lock:
                    work(*arguments)
            except Exception as error:  # noqa: BLE001 - shown in red, and kept
                self._fail(error)

        return guarded

    def _fail(self, error: Exception) -> None:
        summary = drawing.readable(f"{type(error).__name__}: {error}")
        trace = "".join(traceback.format_exception(error))
        self.problems.append(drawing.readable(trace))
        record_problem(summary)
        self.trouble.value = (
            '<p role="alert" style="color:#B00020"><b>Error:</b>'
            f" {drawing.escaped(summary)}</p>"
        )

    def _finish_shown(self) -> None:
        """Complete what is shown; other work goes on."""
        if self._shown is None:
            self.refresh()
        self.slow_work.finish()

    # -------------------------------------------------------------------------- display

    def still(self) -> None:
        """Display a picture of the panel as it stands, which does not move with it."""
        self._finish_shown()
        put_out(*self._picture(f"The {self.title}. {self.describe(self.shown)}"))

    def _ipython_display_(self) -> None:
        """The panel, and below it, for where there is no kernel, what it shows in
        words."""
        put_out(*self._repr_mimebundle_())

    def _repr_mimebundle_(self, **_: object) -> tuple[dict, dict]:
        """The live panel; beside it a picture and a description for where there is no
        kernel."""
        self._guarded(self.refresh)()
        self.settle()
        live, title = self.panel._repr_mimebundle_() or {}, self.title.capitalize()
        if self.trouble.value:
            return {**live, "text/plain": f"{title}. {self.problems[-1]}"}, {}
        words = (
            f"{title}. {self.describe(self.shown)} Run the notebook to move the"
            " sliders."
        )
        bundle, metadata = self._picture(words)
        return {**live, **bundle}, metadata

    def _picture(self, words: str) -> tuple[dict, dict]:
        bundle = {"image/png": self.png(self.shown), "text/plain": words}
        return bundle, {"image/png": {"alt": words}}

    def png(self, state: Any) -> bytes:
        """The picture of a state as PNG."""
        svg = self.svg(state)
        return bytes(
            resvg_py.svg_to_bytes(svg_string=svg, width=920, font_dirs=[str(FONTS)])
        )


def put_out(bundle: dict, metadata: dict) -> None:
    """Display a bundle, and its words for where no picture is shown."""
    display(bundle, metadata=metadata, raw=True)
    display(in_words(bundle["text/plain"]), raw=True)


def all_in(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """A widget and all that it holds, the innermost first."""
    for child in getattr(widget, "children", ()):
        yield from all_in(child)
    yield widget


def row(*widgets: ipywidgets.Widget) -> ipywidgets.HBox:
    """Side by side, as far as there is room."""
    return ipywidgets.HBox(widgets, layout={"flex_flow": "row wrap", "width": "100%"})


def dropdown(name: str, options: list[str]) -> ipywidgets.Dropdown:
    """A selection with its name beside it."""
    style = {"description_width": "initial"}
    return ipywidgets.Dropdown(
        options=options, description=name, style=style, layout={"width": "auto"}
    )


def offer(
    control: ipywidgets.Dropdown, options: list[tuple[str, str]], value: str
) -> None:
    """Let a selection offer these options, and stand at this value."""
    if tuple(control.options) != tuple(options):
        control.options = options
    control.value = value
    control.disabled = len(options) < 2
