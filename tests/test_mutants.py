"""No answer that is one step from a right one is taken for right: each exercise's right
answers are changed in one place after the other, and its check must refuse each.

A change that changes nothing is listed in equivalent_mutants.toml, with the reason.
"""

import inspect
import math
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mutants import mutants

from utils import exercises, limits
from utils.exercises import Exercise
from utils.limits import within

SECONDS = 3  # for a check of a changed answer; one that takes longer is refused, too
LISTED = tomllib.loads(
    Path(__file__).with_name("equivalent_mutants.toml").read_text(encoding="utf-8")
)
# without one right answer: its check asks for the rules, and a score how good it is
OPEN = {"my_pipeline"}
NAMES = {n: lesson for n, lesson in exercises.listed().items() if n not in OPEN}


def right_answers(exercise: Exercise) -> Iterator[tuple[str, dict]]:
    """(source, what it may use) of each answer that is known to be right."""
    module = exercises.load(NAMES[exercise.name])
    yield textwrap.dedent(inspect.getsource(exercise.right)), dict(vars(module))
    for source in exercise.also_right.values():
        yield textwrap.dedent(source), {"torch": torch, "np": np}


def is_taken(exercise: Exercise, source: str, scope: dict) -> bool:
    """Whether an answer passes its check. One that stops with an error does not."""
    scope = scope | {"math": math}
    try:
        exec(source, scope)
        within(SECONDS, exercise.test, scope[exercise.name])
    except (Exception, SystemExit):
        return False
    return True


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")  # a changed answer may warn
def test_what_is_one_step_from_right_is_refused(name, monkeypatch):
    monkeypatch.setattr(limits, "GRACE", 0.5)
    exercise, known = exercises.find(name), LISTED.get(name, {})
    taken, tried = [], 0
    for source, scope in right_answers(exercise):
        for said, changed in mutants(source):
            tried += 1
            said = " ".join(said.split())
            if said not in known and is_taken(exercise, changed, scope):
                taken.append(said)
    assert tried >= 15
    assert not taken


def test_what_is_listed_is_made_and_has_a_reason():
    for name, known in LISTED.items():
        made = {
            " ".join(said.split())
            for source, _ in right_answers(exercises.find(name))
            for said, _ in mutants(source)
        }
        assert set(known) <= made, name
        assert all(len(reason.split()) >= 3 for reason in known.values()), name


def test_the_mutator_makes_the_mistakes_that_it_is_for():
    source = "def f(a, b):\n    c = a.abs() + 1\n    return round(c * b) >= g(a, dim=0)"
    made = [said for said, _ in mutants(source)]
    for each in (
        "a.abs() + 1 -> a.abs() - 1",
        "a.abs() + 1 -> a.abs() + 2",
        "a.abs() -> a",
        "c = a.abs() + 1 -> left out",
        "c * b -> c / b",
        "round(c * b) -> math.floor(c * b)",
        "g(a, dim=0) -> g(a)",
    ):
        assert any(each in said for said in made), each
