"""A score for a deployed network, from its file alone. Built for lessons/12_capstone.

The file is opened in a fresh, isolated process, with limits on its time and memory
(`process`), and judged on the test set (`judge`): how many bytes it really has, how
much faster it is than the dense VGG in PyTorch, and how many pictures it gets right
(`rules`). Nothing that was computed in the notebook counts. Each opening of the test
set is kept (`openings`). `examine` does the same on other pictures.

What it cannot find out: whether a network was trained on the test pictures, or corrects
a few of them (up to about one in thirty) from a list, or is a table of them that was
made against the questions asked here (the best one tried: 70 kB, 11.3 points; plain
tables are refused, see lessons/12_capstone). And whoever edits `utils/` can make it say
anything: a run on a clean copy is what counts.
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
