"""Hidden tests: the calls of an exercise's check with other numbers, drawn from a seed.

They come from the table that the check uses: a call is taken when the right answer
works on it, and enough are taken that each mistake which the check's calls tell from
the right answer is told by these, too. Where a check has no calls, it stands for them.
"""

import copy
import dataclasses
import math
import random
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.exercises import (
    Case,
    Exercise,
    WrongAnswer,
    close,
    find,
    is_untouched,
    load,
    same_numbers,
)
from utils.exercises import told as told_of
from utils.tasks import Task

TRIES = 60  # candidates drawn from each call of the check
FEW = 8  # an integer below it may be a count of heads, bits or classes
SAID = "with other numbers"


# ------------------------------------------------------------------------ other numbers


class Numbers:
    """One way to make other numbers of a call's: the same for all its arguments.

    >>> Numbers(random.Random(1)).other("text")
    'text'
    """

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.scale = 2.0 ** source.choice([0, 0, 0, -1, -2, 1])  # exact
        self.spread = source.choice([0.0, 0.05, 0.4])
        self.order = source.choice(["kept", "common", "own"])
        self.counts = source.choice([True, False])
        self.small = source.choice([True, False])
        self.shares = source.choice([True, False])
        self._orders: dict[tuple[int, ...], list[Tensor]] = {}

    def other(self, value: Any) -> Any:
        """A value of the same form with other numbers."""
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, (list, tuple)):
            return type(value)([self.other(part) for part in value])
        if isinstance(value, dict):
            return {key: self.other(part) for key, part in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [each.name for each in dataclasses.fields(value)]
            parts = {name: self.other(getattr(value, name)) for name in names}
            return dataclasses.replace(value, **parts)
        return self._single(value)

    def change(self, value: Any) -> None:
        """Put other numbers into the tensors of an argument, in place."""
        if isinstance(value, torch.nn.Module):
            value = list(value.parameters())
        if isinstance(value, Tensor):
            value.data.copy_(self._tensor(value.detach()))
            self.change(value.grad)
        parts = value.values() if isinstance(value, dict) else value
        for part in parts if isinstance(value, (dict, list, tuple)) else ():
            self.change(part)

    def _single(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return value
        if isinstance(value, int):
            changes = self.counts if value >= FEW else self.small and value > 0
            low, high = (value // 2, 2 * value) if value >= FEW else (1, value + 2)
            return self.source.randint(low, high) if changes else value
        if 0 < value < 1 and self.shares:
            return round(self.source.uniform(0.05, 0.95), 2)
        return value * self.scale * self._factor()

    def _factor(self) -> float:
        return 1 + self.spread * self.source.uniform(-1, 1)

    def _tensor(self, value: Tensor) -> Tensor:
        moved = value
        for axis, order in enumerate(self._order(tuple(value.shape))):
            moved = moved.index_select(axis, order)
        if not value.is_floating_point():
            return moved
        factors = [self.scale * self._factor() for _ in range(value.numel())]
        moved = moved.detach() * torch.tensor(factors).to(value).view_as(value)
        return moved.requires_grad_(value.requires_grad)

    def _order(self, shape: tuple[int, ...]) -> list[Tensor]:
        """The order of the entries along each axis; that of a shape is the same for
        every tensor of that shape, where it is common."""
        if self.order == "kept":
            return []
        if self.order == "own" or shape not in self._orders:
            self._orders[shape] = [
                torch.tensor(self.source.sample(range(size), size)) for size in shape
            ]
        return self._orders[shape]


# -------------------------------------------------------------------------------- cases


def hidden_cases(exercise: Exercise, seed: str) -> list[Case]:
    """Calls with other numbers than those of the check; the same for the same seed.

    seed: kept by the teacher; whoever knows it knows the numbers.
    """
    taken: list[Case] = []
    spare: list[Case] = []
    for number, case in enumerate(exercise.cases):
        wanted, most = told(exercise, [case]), -1
        best = case  # where there are no other numbers, as of a range from 0 to 0
        for candidate in _candidates(exercise, case, f"{seed} {number}"):
            tells = len(told(exercise, [candidate]) & wanted)
            if tells > most:
                spare += [best] if best is not case else []
                best, most = candidate, tells
            if tells == len(wanted):
                break
        taken.append(best)
    left = told(exercise, exercise.cases) - told(exercise, taken)
    for case in spare if left else ():
        if tells := told(exercise, [case]) & left:
            taken.append(case)
            left -= tells
    return [*taken, *exercise.hidden]


def _candidates(exercise: Exercise, case: Case, seed: str) -> Iterator[Case]:
    for number in range(TRIES):
        numbers = Numbers(random.Random(f"{exercise.name} {seed} {number}"))
        candidate = Case(SAID, numbers.other(case.arguments), case.hint)
        if works(exercise, candidate, case):
            yield candidate


def works(exercise: Exercise, candidate: Case, case: Case) -> bool:
    """Whether its numbers are others, and all right ways give the same finite ones."""
    if same_numbers(candidate.arguments, case.arguments):
        return False
    try:
        right = exercise.outcome(exercise.right, candidate)
        if right is None or not finite(right):  # it refuses such numbers
            return False
        return all(
            exercise.same(exercise.outcome(way, candidate), right, *candidate.arguments)
            for way in [exercise.right, *ways(exercise)]
        )
    except Exception:  # noqa: BLE001 - the numbers may make no sense at all
        return False


def ways(exercise: Exercise) -> list[Callable]:
    """The other right ways to write it, as functions."""
    scopes: list[dict[str, Any]] = []
    for source in exercise.also_right.values():
        scopes.append({"torch": torch, "np": np})
        exec(textwrap.dedent(source), scopes[-1])
    return [scope[exercise.name] for scope in scopes]


def told(exercise: Exercise, cases: Sequence[Case]) -> set[int]:
    """Which mistakes give something else than the right answer in one of the calls."""
    found = set()
    for case in cases:
        right = exercise.outcome(exercise.right, case)
        for number, (_, mistake) in enumerate(exercise.known_mistakes()):
            if number not in found and not exercise.same(
                exercise.outcome(mistake, case), right, *case.arguments
            ):
                found.add(number)
    return found


def finite(value: Any) -> bool:
    """Whether every number in it is."""
    if isinstance(value, Tensor):
        return bool(value.isfinite().all())
    if isinstance(value, (list, tuple)):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


# ---------------------------------------------------------------------------- to grade


def hidden_test(answer: Callable, seed: str) -> None:
    """Nothing, if the answer is right with other numbers, too.

    Raises:
        WrongAnswer: it is not; says why.
        ValueError: no exercise of that name.
    """
    if is_untouched(answer):
        raise WrongAnswer(f"{answer.__name__}: not written yet.")
    exercise = find(answer.__name__)
    try:
        Hidden(exercise, seed).test(answer)
    except Exception as problem:  # noqa: BLE001 - any, it is told
        raise told_of(exercise.name, problem) from None


class Hidden:
    """The hidden test of an exercise: drawn once, for many answers."""

    def __init__(self, exercise: Exercise, seed: str) -> None:
        cases = tuple(hidden_cases(exercise, seed))
        self.exercise = dataclasses.replace(exercise, cases=cases, more=None)
        self.calls = hidden_calls(exercise, seed)

    def test(self, answer: Callable) -> None:
        """Nothing, if the answer is right.

        Raises:
            WrongAnswer: it is not; says why.
        """
        self.exercise.test(answer)
        for arguments in self.calls:
            _compare(self.exercise, answer, arguments)


def hidden_calls(exercise: Exercise, seed: str) -> list[tuple]:
    """Of an exercise that has no calls in its table: those that its check makes, with
    other numbers. None where what comes out is drawn by lot, or is a file."""
    if exercise.cases or exercise.more is None:
        return []
    made: list[tuple] = []

    def right(*given: Any) -> Any:
        if any(isinstance(one, (torch.Generator, Path)) for one in given):
            raise _ByLot
        made.append(_twin(given))
        return exercise.right(*given)

    try:
        exercise.more(right)
    except _ByLot:
        return []
    for number, given in enumerate(made):
        Numbers(random.Random(f"{exercise.name} {seed} {number}")).change(given)
    return made


def _twin(arguments: tuple) -> tuple:
    """A copy of its own of all arguments, with the gradients of the tensors."""
    twin = copy.deepcopy(arguments)
    for old, new in zip(arguments, twin, strict=True):
        if isinstance(old, Tensor) and old.grad is not None:
            new.grad = old.grad.clone()
    return twin


class _ByLot(Exception):  # noqa: N818 - it stops a check that is of no use
    """A call of which nothing can be compared."""


def _compare(exercise: Exercise, answer: Callable, arguments: tuple) -> None:
    """Whether an answer gives, and leaves of its arguments, what the right one does."""
    ours, theirs = _twin(arguments), _twin(arguments)
    right, got = exercise.right(*ours), answer(*theirs)
    for value, better in ((got, right), (theirs, ours)):
        if not alike(value, better):
            raise WrongAnswer(
                f"{SAID} than those of the check it does something else. Is one of the"
                " check's numbers written into the function?"
            )


def alike(value: Any, other: Any) -> bool:
    """Whether two values hold the same numbers, but for rounding."""
    if isinstance(other, torch.nn.Module):
        same_kind = isinstance(value, torch.nn.Module)
        return same_kind and alike(value.state_dict(), other.state_dict())
    if isinstance(other, dict):
        alike_keys = isinstance(value, dict) and value.keys() == other.keys()
        return alike_keys and all(alike(value[key], other[key]) for key in other)
    if isinstance(other, (list, tuple)):
        long = isinstance(value, (list, tuple)) and len(value) == len(other)
        return long and all(map(alike, value, other))
    return close(value, other) if isinstance(other, (Tensor, int, float)) else True


def points_reached(lesson: str, choice: Any, points: float) -> float:
    """The points of a choice at the open task: in proportion to the goals that it
    meets; none for no choice."""
    if choice is ...:
        return 0.0
    task: Task = load(lesson, "task").TASK
    return points * task.share_met(task.measure(choice))
