"""Hidden tests: other numbers than the check's, from the same table."""

import textwrap
from typing import Any

import numpy as np
import pytest
import torch

from utils import hidden
from utils.exercises import (
    WrongAnswer,
    find,
    lesson_exercises,
    listed,
    load,
    same_numbers,
)
from utils.hidden import Hidden, hidden_cases, hidden_test, points_reached, told

EXERCISES = {
    name: lesson_exercises(lesson)[name]
    for name, lesson in listed().items()
    if name != "my_pipeline"  # a file: nothing to compare
}
each = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
each_table = pytest.mark.parametrize(
    "exercise",
    [one for one in EXERCISES.values() if one.cases],
    ids=[name for name, one in EXERCISES.items() if one.cases],
)


@pytest.mark.parametrize("seed", ["a", "b"])
@each_table
def test_each_mistake_that_the_checks_calls_tell_is_told_by_the_hidden_ones(
    exercise, seed
):
    cases = hidden_cases(exercise, seed)
    assert not told(exercise, exercise.cases) - told(exercise, cases)


@each_table
def test_the_numbers_are_others_than_the_checks_and_those_of_another_seed(exercise):
    cases = hidden_cases(exercise, "a")
    shown = [case.arguments for case in exercise.cases]
    new = [
        case
        for case in cases
        if not any(same_numbers(case.arguments, old) for old in shown)
    ]
    # 0 stays 0, as the ends of a schedule do
    assert len(new) >= len(cases) / 2
    others = hidden_cases(exercise, "b")
    assert not same_numbers(
        [case.arguments for case in cases], [case.arguments for case in others]
    )
    again = hidden_cases(exercise, "a")
    assert all(
        same_numbers(one.arguments, two.arguments)
        for one, two in zip(cases, again, strict=True)
    )


@each
def test_every_way_to_write_it_passes(exercise):
    prepared = Hidden(exercise, "a")
    prepared.test(exercise.right)
    for source in exercise.also_right.values():
        scope: dict[str, Any] = {"torch": torch, "np": np}
        exec(textwrap.dedent(source), scope)
        prepared.test(scope[exercise.name])


def test_an_answer_to_the_checks_own_numbers_is_not_enough():
    def csr_bytes(rows, kept):
        return {(300, 1000): 9204, (1, 0): 8}.get((rows, kept), 0)

    find("csr_bytes").test(csr_bytes)
    with pytest.raises(WrongAnswer, match="csr_bytes: with other numbers it returns"):
        hidden_test(csr_bytes, "a")


def test_the_same_of_an_exercise_without_calls_in_its_table():
    ticket = find("ticket").right

    def answer(model, first_weights, masks):
        got = ticket(model, first_weights, masks)
        if first_weights["0.weight"][0, 0] != 1:
            got.load_state_dict(model.state_dict())
        return got

    answer.__name__ = "ticket"
    find("ticket").test(answer)
    with pytest.raises(WrongAnswer, match="with other numbers than those of the check"):
        hidden_test(answer, "a")


def test_what_is_not_written_has_not_passed():
    def noisy_labels(labels, fraction, generator):
        """Stub."""
        ...

    with pytest.raises(WrongAnswer, match="not written yet"):
        hidden_test(noisy_labels, "a")


def test_an_open_task_has_points_in_proportion_to_the_goals_met(monkeypatch):
    task = load("11_generalization", "task").TASK
    assert points_reached("11_generalization", ..., 3) == 0
    assert points_reached("11_generalization", task.reference, 3) == 3
    some = dict.fromkeys(task.goals(), 0.0) | {
        name: bound for name, (_, bound) in list(task.goals().items())[:1]
    }
    met = len(task.goals()) - len(task.missed(some))
    assert task.share_met(some) == pytest.approx(met / len(task.goals()))


def test_a_hidden_call_of_an_exercise_is_added():
    exercise = find("csr_bytes")
    more = hidden.dataclasses.replace(exercise, hidden=(exercise.cases[0],))
    assert hidden_cases(more, "a")[-1] is exercise.cases[0]
