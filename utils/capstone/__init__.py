"""A score for a deployed network, from its file alone. Built for lessons/12_capstone.

The file is opened in a fresh process, with limits on its time and memory (`process`),
and judged on the test set (`judge`): how many bytes it really has, how much faster it
is than the dense VGG in PyTorch, and how many pictures it gets right (`rules`). Nothing
that was computed in the notebook counts. Each opening of the test set is kept
(`openings`).

What it cannot find out: whether a network was trained on the test pictures, or corrects
a few of them (up to about one in thirty) from a list.
"""

from utils.capstone.judge import answers
from utils.capstone.process import examine, score
from utils.capstone.rules import BUDGET, Budget, Cost, Refused, Score, points

__all__ = [
    "BUDGET",
    "Budget",
    "Cost",
    "Refused",
    "Score",
    "answers",
    "examine",
    "points",
    "score",
]
