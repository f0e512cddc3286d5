"""The open task of a lab: a choice of the learner's, judged by what it achieves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from utils import record
from utils.exercises import load


@dataclass(frozen=True)
class Task:
    """Something to decide, with goals and without a formula; a lesson's is `TASK` in
    its task.py.

    measure: what a choice achieves, by the name of what is measured; raises ValueError
        with a sentence for a choice that makes no sense.
    at_least, at_most: the goals.
    reference: a choice that meets them all.
    naive: choices that come to mind first, and miss a goal, by name.
    """

    measure: Callable[[Any], Mapping[str, float]]
    reference: Any
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    naive: Mapping[str, Any] = field(default_factory=dict)

    def goals(self) -> dict[str, tuple[str, float]]:
        """What is asked of each thing measured: `at least` or `at most`, and what."""
        least = {name: ("at least", bound) for name, bound in self.at_least.items()}
        return least | {
            name: ("at most", bound) for name, bound in self.at_most.items()
        }

    def missed(self, measured: Mapping[str, float]) -> list[str]:
        """The names of the goals that are not met."""
        return [
            name
            for name, (way, bound) in self.goals().items()
            if not (
                measured[name] >= bound
                if way == "at least"
                else measured[name] <= bound
            )
        ]

    def share_met(self, measured: Mapping[str, float]) -> float:
        """The goals that are met, as a share of all, 0 to 1."""
        return 1 - len(self.missed(measured)) / len(self.goals())


def decide(lesson: str, choice: Any) -> None:
    """Measure what a choice achieves at the open task of a lesson, beside its goals;
    then say what a good one reached, and keep that the task is met. `...` is no choice
    yet.

    Raises:
        ValueError: the choice makes no sense; says what would.
    """
    task: Task = load(lesson, "task").TASK
    if choice is ...:
        for name, (way, bound) in task.goals().items():
            print(f"Asked: {name}, {way} {bound:g}. Nothing chosen yet.")
        return
    measured = dict(task.measure(choice))
    missed = task.missed(measured)
    keep(lesson, not missed)
    for name, (way, bound) in task.goals().items():
        verdict = "missed" if name in missed else "met"
        print(
            f"{name}: measured {measured[name]:.4g}, asked {way} {bound:g}: {verdict}"
        )
    if missed:
        print(f"Not yet: {len(missed)} of {len(task.goals())} goals are missed.")
        return
    print("All goals are met. For comparison, a good answer of ours:")
    for name, value in task.measure(task.reference).items():
        print(f"{name}: {value:.4g}")


def keep(lesson: str, met: bool) -> None:
    """Keep in the learner's record that the open task was tried, and whether it was
    met; met once, it stays so."""
    before = record.entry(lesson, "task", "task").get("met") is True
    record.note("task", "task", {"met": met or before}, lesson=lesson)
    record.save()
