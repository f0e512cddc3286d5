"""The pruning explorer: slide the sparsity, and see what changes and what does not.

    state     what the learner has chosen, and what is known of it
    admission what a learner's own network and data must be
    guarded   a score of the learner's own, which changes nothing here
    links     a setting as the address of the course's start page
    subject   a network with its data, and what can be counted and evaluated of it
    kinds     what "prune it" means: weights, N:M, channels, blocks
    memory    what has been found out so far, and what a new score makes worthless
    drawing   the picture, as SVG
    dark      the same in JupyterLab's dark theme
    findings  the table of what the learner kept, and its Pareto front
    slider    the slider, a native one with an accessible name
    panel     the widgets around all this, and the work done while nobody presses a key
    visit     the panel of one visitor of `make explorer`

Of a text network, which is not among those above:

    text_memory   what is left of it at each stop, what it writes, its loss, its speed
    text_drawing  the picture of that
    text          the widgets

Everything is computed from the real network. Counted numbers and measured ones are
marked as such.
"""

from utils.explorer.panel import Explorer
from utils.explorer.state import Controls, State
from utils.explorer.text import TextExplorer
from utils.explorer.text_memory import TextControls, TextState

__all__ = [
    "Controls",
    "Explorer",
    "State",
    "TextControls",
    "TextExplorer",
    "TextState",
]
