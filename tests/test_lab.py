"""What every lab uses, without a kernel: predict, claim, quiz, finish, and whether a
stub is untouched."""

import functools
import re

import pytest

from utils import lab
from utils.exercises import LESSONS, is_untouched
from utils.lab import (
    Guess,
    claim,
    finish,
    predict,
    quiz,
)
from utils.problems import record_problem

WIDGET = "application/vnd.jupyter.widget-view+json"
QUIZZES = sorted(LESSONS.glob("*/quiz.json"))


# ------------------------------------------------------------------------------ predict


def test_a_guess_is_open_until_it_is_locked_and_then_stays():
    guess = Guess("How much?", 0, 100, unit="%")
    assert guess.value is None and not guess.slider.disabled
    guess.slider.value = 30
    guess.lock()
    assert guess.value == 30
    assert guess.slider.disabled and guess.button.disabled
    assert guess.status.value == "Locked: 30 %"
    guess.slider.value = 70
    guess.lock()
    guess.lock(50)
    assert guess.value == 30


def test_the_button_locks_what_the_slider_shows():
    guess = Guess("How much?", 1, 20, step=0.5)
    guess.slider.value = 4.5
    guess.button.click()
    assert guess.value == 4.5


def test_a_guess_of_zero_is_a_guess():
    guess = Guess("How much?", 0, 100)
    guess.lock(0)
    guess.lock(5)
    assert guess.value == 0


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [(1, 1, 1), (2, 1, 1), (float("nan"), 1, 1), (0, 1, 0), (0, 1, -1), (0, 1, 2)],
)
def test_bounds_that_make_no_sense_are_named(low, high, step):
    with pytest.raises(ValueError, match=f"low={low!r}, high={high!r}, step={step!r}"):
        Guess("How much?", low, high, step=step)


def test_a_guess_is_text_where_there_is_no_kernel():
    text = repr(Guess("How much?", 0, 150, unit="%"))
    assert text == "Predict. How much? (A guess from 0 to 150 %.)"
    # no address, no widget id
    assert text == repr(Guess("How much?", 0, 150, unit="%"))


def test_a_guess_shows_the_slider_and_text_beside_it():
    guess = Guess("How much?", 0, 100)
    bundle = guess._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/plain"] == repr(guess)
    assert bundle[WIDGET]["model_id"] == guess.panel.model_id


def test_a_question_is_escaped_where_it_becomes_html():
    guess = Guess('Is 1 < 2 & "so" on?', 0, 1)
    title = guess.panel.children[0].value
    assert "1 &lt; 2 &amp;" in title and "1 < 2" not in title
    assert "1 < 2" in repr(guess)


def test_predict_shows_the_guess_and_hands_it_back(monkeypatch):
    shown = []
    monkeypatch.setattr(lab, "display", shown.append)
    guess = predict("How much?", 0, 10, unit="s", step=2)
    assert shown == [guess]
    assert (guess.low, guess.high, guess.unit, guess.slider.step) == (0, 10, "s", 2)


def test_predict_prints_text_without_a_kernel(capsys):
    predict("How much?", 0, 10)
    assert "Predict. How much?" in capsys.readouterr().out


# -------------------------------------------------------------------------------- claim


def test_a_claim_that_holds_prints_the_same_whatever_was_measured(capsys):
    printed = set()
    for value in (0.8, 0.93, 1, 1.25):
        claim("Masks do not make it faster", value, between=(0.8, 1.25))
        printed.add(capsys.readouterr().out)
    claim("Masks do not make it faster", 5, at_least=4)
    claim("Masks do not make it faster", 3, at_most=4)
    printed |= set(capsys.readouterr().out.splitlines(keepends=True))
    assert printed == {"Holds: Masks do not make it faster.\n"}


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
        assert capsys.readouterr().out == "Holds: It is so.\n"
    for value in outside:
        claim("It is so", value, **bounds)
        line = (
            f"DOES NOT HOLD HERE: It is so. Measured {value:.4g}, expected {wanted}.\n"
        )
        assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    "bounds", [{"between": (0, 1)}, {"at_least": 0}, {"at_most": 1}]
)
def test_a_value_that_is_no_number_does_not_hold(bounds, capsys):
    claim("It is so", float("nan"), **bounds)
    assert "Measured nan" in capsys.readouterr().out


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
    made = lab.Quiz([{"question": "Is 1 < 2?", "answers": answers}])
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
