"""The capstone's ranking, from the scores that learners' machines kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.classroom.handed_in import Learner, Skipped
from utils.capstone.openings import SCORES
from utils.capstone.rules import BUDGET, Cost, points
from utils.quizzes import is_number

ROUNDED = 0.011  # of points, which are kept with two digits
SENSIBLE = 1e12  # bytes and speedup are below that


@dataclass(frozen=True)
class Place:
    """A learner's best score. opened: how often the test set was opened, for all of
    them and refused files too."""

    place: int
    learner: str
    points: float
    cost: Cost
    opened: int

    def met(self) -> bool:
        """Whether it lies within the budget."""
        return BUDGET.met(self.cost)


def ranking(learners: Sequence[Learner]) -> tuple[list[Place], list[Skipped]]:
    """The best score of each learner who has one, most points first; equal points share
    a place. And the entries that were skipped."""
    best: list[tuple[float, Cost, Learner]] = []
    skipped = []
    for learner in learners:
        scored = [entry for entry in learner.scores if "refused" not in entry]
        costs = [cost for entry in scored if (cost := read(entry))]
        if wrong := len(scored) - len(costs):
            why = f"{wrong} of its scores: the points do not follow from the numbers"
            skipped.append(Skipped(learner.name, f"{learner.name}/{SCORES.name}", why))
        if costs:
            cost = max(costs, key=points)
            best.append((points(cost), cost, learner))
    best.sort(key=lambda each: -each[0])
    values = [value for value, _, _ in best]
    places = [
        Place(values.index(value) + 1, learner.name, value, cost, len(learner.scores))
        for value, cost, learner in best
    ]
    return places, skipped


def read(entry: Mapping[str, object]) -> Cost | None:
    """What a kept score says it cost; None where its points do not follow from that."""
    numbers = [entry.get(key) for key in ("bytes", "speedup", "accuracy", "points")]
    sound = [float(number) for number in numbers if is_number(number)]
    if len(sound) < len(numbers):
        return None
    size, speedup, accuracy, said = sound
    if not (1 <= size < SENSIBLE and 0 < speedup < SENSIBLE and 0 <= accuracy <= 1):
        return None
    cost = Cost(int(size), speedup, accuracy)
    return cost if abs(points(cost) - said) < ROUNDED else None
