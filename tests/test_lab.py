"""What every lab uses, without a kernel: claim, check, finish, and whether a stub is
untouched."""

import configparser
import functools
import re

import pytest
import torch

from tests.conftest import PROJECT
from utils import exercises, record
from utils.exercises import is_untouched
from utils.guesses import plain
from utils.lab import check, claim, figures, finish, forget
from utils.problems import record_problem

# -------------------------------------------------------------------------------- claim


def sanitized(text: str) -> str:
    """What nbval compares."""
    rules = configparser.ConfigParser(interpolation=None)
    rules.read(PROJECT / "tests" / "nbval_sanitize.cfg")
    for name in rules.sections():
        text = re.sub(rules[name]["regex"], rules[name]["replace"], text)
    return text


def test_only_the_number_of_a_claim_that_holds_may_differ(capsys):
    printed = []
    for value in (0.8, 0.93, 1, 1.2345, 1.25e0):
        claim("Masks (dense; sparse) do not make it faster", value, between=(0.8, 1.25))
        printed.append(capsys.readouterr().out)
    assert len(set(printed)) == 4 + 1 and len(set(map(sanitized, printed))) == 1
    assert "(measured 1.23; 0.8 to 1.25)" in printed[3]
    claim("Masks (dense; sparse) do not make it faster", -3e-9, at_most=4)
    other = capsys.readouterr().out
    assert "(measured -3e-09; at most 4)" in other
    assert sanitized(other) != sanitized(printed[0])


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "wanted"),
    [
        ({"between": (0.8, 1.25)}, [0.8, 1.25], [0.79999, 1.25001], "0.8 to 1.25"),
        ({"between": (0, 0)}, [0], [-1e-9, 1e-9], "0 to 0"),
        ({"at_least": 0.5}, [0.5, 1e9], [0.49999, -1], "at least 0.5"),
        ({"at_most": 0}, [0, -5], [1e-9], "at most 0"),
    ],
)
def test_bounds_are_inclusive_and_a_miss_says_what_was_measured(
    bounds, inside, outside, wanted, capsys
):
    for value in inside:
        claim("It is so", value, **bounds)
        line = f"Holds: It is so (measured {plain(value)}; {wanted}).\n"
        assert capsys.readouterr().out == line
    for value in outside:
        claim("It is so", value, **bounds)
        line = f"DOES NOT HOLD HERE: It is so (measured {plain(value)}; {wanted}).\n"
        assert capsys.readouterr().out == line


@pytest.mark.parametrize("strict", [False, True])
def test_a_quartile_counts_where_notebooks_are_built(strict, monkeypatch, capsys):
    """A learner's busy machine needs the median alone."""
    if strict:
        monkeypatch.setenv("PRUNING_STRICT", "1")
    claim("It is so", (2.0, 1.6, 2.4), at_least=1.5)
    claim("It is so", (2.0, 1.4, 2.4), at_least=1.5)
    claim("It is so", (2.0, 1.6, 2.6), at_most=2.5)
    claim("It is so", (1.0, 1.6, 2.4), at_least=1.5)
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "Holds: It is so (measured 2; at least 1.5)."
    assert [line.startswith("DOES NOT HOLD") for line in others] == [
        strict,
        strict,
        True,
    ]
    assert not strict or "; quartiles [1.4, 2.4])." in others[0]


@pytest.mark.parametrize(
    "bounds", [{"between": (0, 1)}, {"at_least": 0}, {"at_most": 1}]
)
def test_a_value_that_is_no_number_does_not_hold(bounds, capsys):
    claim("It is so", float("nan"), **bounds)
    assert "(measured nan;" in capsys.readouterr().out


@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"at_least": 0, "at_most": 1},
        {"between": (0, 1), "at_least": 0},
        {"between": None},
    ],
)
def test_a_claim_has_exactly_one_bound(bounds):
    with pytest.raises(ValueError, match="exactly one of between"):
        claim("It is so", 1, **bounds)


# ------------------------------------------------------------------------- what is kept


@pytest.fixture
def some_exercise(monkeypatch):
    """An exercise `double` of a lesson 13_new."""

    def double(x):
        return 2 * x

    one = exercises.Exercise(double, "here", cases=[exercises.Case("for 3", (3,))])
    monkeypatch.setattr(exercises, "find", lambda name: one)
    monkeypatch.setattr(exercises, "listed", lambda: {"double": "13_new"})
    return double


def test_a_right_answer_is_kept_and_an_untouched_one_is_not(some_exercise, capsys):
    def double(x): ...

    assert check(double) is some_exercise
    assert check(some_exercise) is some_exercise
    assert record.kept() == {}

    def double(x):
        return x * x

    for count in (1, 2):
        with pytest.raises(exercises.WrongAnswer):
            check(double)
        record.forget()
        assert record.kept() == {"13_new": {"exercises": {"double": {"wrong": count}}}}

    def double(x):
        return x + x

    assert check(double) is double
    record.forget()  # a new kernel
    assert record.kept() == {
        "13_new": {"exercises": {"double": {"wrong": 2, "right": True}}}
    }
    assert "double: right" in capsys.readouterr().out


def test_claims_are_kept_under_the_lesson_whose_figures_are_drawn(monkeypatch):
    monkeypatch.setattr("utils.lab.load", lambda lesson, part: (lesson, part))
    claim("Before", 1, at_least=0)
    assert figures("13_new") == ("13_new", "figures")
    claim("It is so", 0.25, at_most=1)
    claim("It is not so", 3, at_most=1)
    claim("Nobody knows", float("nan"), at_most=1)
    finish()
    record.forget()
    assert record.kept()["13_new"]["claims"] == {
        "Before": {"measured": 1, "held": True},
        "It is so": {"measured": 0.25, "held": True},
        "It is not so": {"measured": 3, "held": False},
        "Nobody knows": {"measured": None, "held": False},
    }


def test_a_lesson_without_figures_is_named():
    record.begin("13_new")
    with pytest.raises(ValueError, match=r"there is no lessons/99_x/figures\.py"):
        figures("99_x")
    assert record.current() == "13_new"


def test_a_claim_of_no_known_lesson_is_written_nowhere(record_file):
    claim("It is so", 1, at_least=0)
    finish()
    assert not record_file.exists()


# ------------------------------------------------------------------------------- finish


def test_a_lab_in_which_all_went_well_ends_with_the_same_line(capsys):
    claim("It is so", 1, at_least=0)
    capsys.readouterr()
    finish()
    finish()
    assert (
        capsys.readouterr().out
        == "Done: every claim of this lab held on this machine.\n" * 2
    )


def test_a_recorded_problem_fails_the_last_cell_once(capsys):
    record_problem("KeyError: first")
    record_problem("ValueError: second")
    with pytest.raises(
        RuntimeError,
        match="A panel of this lab had an error: KeyError: first; ValueError: second",
    ):
        finish()
    capsys.readouterr()
    finish()
    assert capsys.readouterr().out.startswith("Done")


def test_claims_that_did_not_hold_are_counted_once(capsys):
    for value in (1, 2, 0):
        claim("It is zero", value, at_most=0)
    capsys.readouterr()
    finish()
    assert re.match(r"2 claim\(s\) did not hold here", capsys.readouterr().out)
    finish()
    assert capsys.readouterr().out.startswith("Done")


def test_a_problem_also_clears_the_claims(capsys):
    claim("It is zero", 1, at_most=0)
    record_problem("KeyError: it")
    with pytest.raises(RuntimeError):
        finish()
    capsys.readouterr()
    finish()
    assert capsys.readouterr().out.startswith("Done")


# ------------------------------------------------------------------------- is_untouched


def documented_only(x):
    """Says what it should do."""


def documented_and_dots(x: float, y: int = 3, *rest, key=None) -> float:
    """Says what it should do."""
    ...


def dots(x): ...


def passes(x):
    """Says what it should do."""
    pass


def returns_none(x):
    """Says what it should do."""
    return None  # noqa: RET501


def returns(x):
    return


def only_a_comment_added(x):
    """Says what it should do."""
    # I do not know yet
    ...


def with_free_variable():
    outer = 1

    def stub(x):
        """Says what it should do."""
        if False:
            print(outer)

    return stub


UNTOUCHED = [
    documented_only,
    documented_and_dots,
    dots,
    passes,
    returns_none,
    returns,
    only_a_comment_added,
    with_free_variable(),
    lambda x: None,
]


def missing_return(x):
    """Says what it should do."""
    x + 1


def only_prints(x):
    print(x)


def assigns(x):
    y = x + 1  # noqa: F841


def gives_dots(x):
    return ...


def gives_zero(x):
    return 0


def yields(x):
    yield


def raises(x):
    raise NotImplementedError


def closes_over(x):
    def inner():
        return x

    return inner


def same(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


class Callable:
    """Has no code of its own."""

    def __call__(self, x): ...


TOUCHED = [
    missing_return,
    only_prints,
    assigns,
    gives_dots,
    gives_zero,
    yields,
    raises,
    closes_over,
    closes_over(1),
    same(documented_only),
    lambda x: ...,
    lambda x: x,
    len,
    Callable(),
    functools.partial(documented_only, 1),
]


@pytest.mark.parametrize("function", UNTOUCHED)
def test_a_stub_is_untouched(function):
    assert is_untouched(function)


@pytest.mark.parametrize("function", TOUCHED)
def test_anything_that_was_written_counts(function):
    assert not is_untouched(function)


# --------------------------------------------------------- what an author may get wrong


@pytest.mark.parametrize(
    ("value", "bounds", "said"),
    [
        (1, {"between": (2, 1)}, "no number is from 2 to 1"),
        (1, {"between": ()}, r"between=\(\) must be two numbers"),
        (1, {"between": (1, 2, 3)}, "must be two numbers"),
        (1, {"at_least": float("nan")}, "no number is from nan to inf"),
        (torch.ones(2), {"at_least": 0}, "of 'It is so' must be one number"),
        ("much", {"at_least": 0}, "value='much' of 'It is so' must be one number"),
        (None, {"at_most": 0}, "value=None of"),
    ],
)
def test_a_claim_that_nothing_can_hold_or_of_no_number_is_refused(value, bounds, said):
    with pytest.raises(ValueError, match=said):
        claim("It is so", value, **bounds)
    finish()  # nothing was noted


def test_a_claim_about_nan_does_not_hold(capsys):
    claim("It is so", torch.tensor([float("nan")]), at_least=0)
    assert "DOES NOT HOLD HERE: It is so (measured nan;" in capsys.readouterr().out
    forget()
