"""The panel of one visitor of `make explorer`, and what every such panel begins with.

The kernels of the visitors are forked from a process that is `warming` (see
tools/start/warm.py), so all of them share what it has found out. Where none could be
forked, a panel finds it out by itself.
"""

import functools
import secrets
from collections.abc import Iterator
from pathlib import Path

from IPython.display import display

from utils.explorer import drawing
from utils.explorer.memory import Memory
from utils.explorer.panel import Explorer
from utils.explorer.state import Controls

FOLDER = "explorer"  # of the workspace: what visitors keep


@functools.lru_cache(maxsize=1)
def found_out() -> Memory:
    """What this process knows of the course's networks; a panel goes on with it."""
    return Memory()


def warming() -> Iterator[None]:
    """Find out what visitors ask first, in slices. The first is what the page begins
    with; then come, network by network, each kind of pruning at all stops with its
    first score, and the other scores."""
    memory = found_out()
    begin = _at_rest(memory, memory.networks[0], "weights")[0]
    memory.curve(begin)
    _draw(memory, begin)
    for network in memory.networks:
        yield
        memory.subject(network).keep_drawn(0)  # else each who fine-tunes has a copy
        for name in memory.kinds(network):
            first, *others = _at_rest(memory, network, name)
            for place in memory.places(first):
                yield
                for _ in memory.refined(*memory.look(place)):
                    yield
            for other in others:
                yield
                memory.look(other)


def _draw(memory: Memory, chosen: Controls) -> None:
    """Draw once, for what drawing imports. No widget is made: every kernel would have
    it."""
    state, model = memory.look(chosen)
    subject = memory.subject(chosen.network)
    drawing.parts(subject, state, memory.known(chosen), model)


def _at_rest(memory: Memory, network: str, name: str) -> list[Controls]:
    """The controls of that kind at sparsity 0, a setting for each score."""
    kind = memory.kind(network, name)
    return [
        Controls(0.0, score, kind.scopes[0], name, network) for score in kind.scores()
    ]


class Visit(Explorer):
    """The explorer as a page: shown at once, not when everything is measured; what is
    kept goes to a file of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(FOLDER, f"findings_{secrets.token_hex(4)}.csv")

    def _remembered(self, *_: object, **__: object) -> Memory:
        return found_out()

    def _ipython_display_(self) -> None:
        self._guarded(self.refresh)()
        display(self.panel)
