"""What every lab uses, without a kernel: claim, quiz, finish, and whether a stub is
untouched."""

import configparser
import functools
import re

import pytest
import torch

from tests.conftest import PROJECT
from utils.exercises import LESSONS, is_untouched
from utils.files import DamagedFileError
from utils.lab import (
    Quiz,
    claim,
    finish,
    forget,
    quiz,
)
from utils.problems import record_problem

QUIZZES = sorted(LESSONS.glob("*/quiz.json"))


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
        line = f"Holds: It is so (measured {value:.3g}; {wanted}).\n"
        assert capsys.readouterr().out == line
    for value in outside:
        claim("It is so", value, **bounds)
        line = f"DOES NOT HOLD HERE: It is so (measured {value:.3g}; {wanted}).\n"
        assert capsys.readouterr().out == line


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


# --------------------------------------------------------------------------------- quiz


def test_an_unknown_lesson_lists_the_known():
    with pytest.raises(ValueError, match="lesson='99_nothing' has no quiz") as caught:
        quiz("99_nothing")
    assert all(path.parent.name in str(caught.value) for path in QUIZZES)


def test_each_answer_unfolds_and_is_escaped():
    answers = [
        {"answer": "a < b", "right": True, "feedback": "<b>yes</b> & so"},
        {"answer": "c", "right": False, "feedback": "no"},
    ]
    made = Quiz([{"question": "Is 1 < 2?", "answers": answers}])
    html = made._repr_html_()
    assert (
        html.count("<details>")
        == html.count("</details>")
        == html.count("<summary>")
        == 2
    )
    assert (
        "a &lt; b" in html
        and "Is 1 &lt; 2?" in html
        and "&lt;b&gt;yes&lt;/b&gt; &amp; so" in html
    )
    assert "<b>Yes.</b> &lt;b&gt;" in html and "<b>No.</b> no" in html
    assert repr(made) == "1. Is 1 < 2?\n   a) a < b\n   b) c"


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


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"question": "Why?"}]', "3"])
def test_a_quiz_that_is_damaged_is_named(tmp_path, monkeypatch, text):
    (tmp_path / "13_new").mkdir()
    (tmp_path / "13_new" / "quiz.json").write_text(text)
    monkeypatch.setattr("utils.lab.LESSONS", tmp_path)
    with pytest.raises(DamagedFileError, match=r"quiz\.json is damaged"):
        quiz("13_new")
