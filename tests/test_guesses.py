"""Guesses: typed, locked once, kept on disk, and compared with what was measured."""

import errno
import json
import os
from pathlib import Path

import pytest

from utils import guesses, problems, record
from utils.guesses import FILE, Guess, kept_guesses, predict

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """A learner's folder in which nothing was guessed."""
    monkeypatch.chdir(tmp_path)


def test_a_guess_is_open_until_it_is_locked_and_then_stays():
    guess = Guess("How much?", 0, 100, unit="%")
    assert guess.value is None and not guess.field.disabled
    guess.field.value = "30"
    guess.button.click()
    assert guess.value == 30
    assert guess.field.disabled and guess.button.disabled
    assert guess.status.value == "Locked: 30 %"
    guess.field.value = "70"
    guess.lock()
    guess.lock(50)
    assert guess.value == 30


def test_nothing_typed_is_no_guess():
    guess = Guess("How much?", 0, 100)
    guess.button.click()
    assert guess.value is None and not Path(FILE).exists()
    assert "'' is no number from 0 to 100" in guess.status.value


@pytest.mark.parametrize("typed", ["much", "101", "-1", "nan", "inf", "1e9", "5 6"])
def test_what_is_no_number_in_the_range_is_said_and_can_be_mended(typed):
    guess = Guess("How much?", 0, 100)
    guess.field.value = typed
    guess.lock()
    assert guess.value is None and repr(typed) in guess.status.value
    guess.field.value = "4"
    guess.lock()
    assert guess.value == 4


@pytest.mark.parametrize(
    ("typed", "value"), [("0", 0), ("2,5", 2.5), (" 30 % ", 30), ("100", 100)]
)
def test_numbers_as_people_type_them(typed, value):
    guess = Guess("How much?", 0, 100)
    guess.field.value = typed
    guess.lock()
    assert guess.value == value


def test_a_guess_of_zero_is_a_guess(capsys):
    guess = Guess("How much?", 0, 100)
    guess.lock(0)
    guess.lock(5)
    assert guess.value == 0
    guess.compare(50)
    assert "Your guess, 0, was 50 too low" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("low", "high"), [(1, 1), (2, 1), (float("nan"), 1), (0, float("inf"))]
)
def test_bounds_that_make_no_sense_are_named(low, high):
    with pytest.raises(ValueError, match=f"low={low!r}, high={high!r}"):
        Guess("How much?", low, high)


# ----------------------------------------------------------------------------- kept


def test_a_guess_survives_a_restart_and_a_second_run_of_its_cell():
    Guess("How much?", 0, 100, "%").lock(30)
    Guess("How many?", 0, 9).lock(3)
    again = Guess("How much?", 0, 100, "%")
    assert again.value == 30 and again.field.disabled and again.field.value == "30"
    assert again.status.value == "Locked: 30 %"
    assert Guess("Another?", 0, 100).value is None
    again.compare(55)
    assert kept_guesses() == {
        "How much?": {"guess": 30, "measured": 55, "low": 0, "high": 100, "unit": "%"},
        "How many?": {"guess": 3, "low": 0, "high": 9},
    }


def test_a_guess_knows_its_lesson_and_its_hopeful_end():
    record.begin("03_weight_pruning")
    Guess("How much?", 0, 100, better="low").lock(30)
    kept = kept_guesses()["How much?"]
    assert (kept["lesson"], kept["better"]) == ("03_weight_pruning", "low")
    with pytest.raises(ValueError, match="better='up' must be 'high', 'low' or ''"):
        Guess("How much?", 0, 100, better="up")


def test_guesses_that_an_older_course_kept_are_read():
    old = {"How much?": {"guess": 30, "measured": 55, "low": 0, "high": 100}}
    Path(FILE).write_text(json.dumps(old))
    assert Guess("How much?", 0, 100, "%").value == 30
    assert kept_guesses() == old


def test_an_error_of_the_button_is_kept_and_shown(monkeypatch):
    guess = Guess("How much?", 0, 100)
    monkeypatch.setattr(guess, "lock", lambda: 1 / 0)
    guess.button.click()
    assert problems.taken() == ["ZeroDivisionError: division by zero"]
    assert "<b>Error:</b> ZeroDivisionError" in guess.panel.children[-1].value


def test_a_kept_number_that_is_not_in_the_range_is_open_again():
    Guess("How much?", 0, 100).lock(90)
    assert Guess("How much?", 0, 10).value is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"How much?": 3}'],
)
def test_a_damaged_file_stops_nothing(content):
    Path(FILE).write_bytes(content)
    guess = Guess("How much?", 0, 100)
    assert guess.value is None
    guess.lock(3)
    assert json.loads(Path(FILE).read_text())["How much?"]["guess"] == 3
    assert Path("my_guesses.damaged").read_bytes() == content  # nothing is lost


def test_a_full_disk_stops_nothing_and_is_said(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(guesses, "write_atomically", full)
    guess = Guess("How much?", 0, 100)
    guess.lock(3)
    assert guess.value == 3
    assert "not kept: No space left" in guess.status.value


# ------------------------------------------------------------------------- compared


@pytest.mark.parametrize(
    ("value", "measured", "words"),
    [
        (30, 55, "Measured: 55 %. Your guess, 30 %, was 25 too low. What had you"),
        (55, 30, "Measured: 30 %. Your guess, 55 %, was 25 too high. What had you"),
        (30, 34, "Measured: 34 %. Your guess, 30 %, was close. What did it rest on?"),
        (30, 25, "Your guess, 30 %, was close."),
        (30, 24.9, "Your guess, 30 %, was 5.1 too high."),
    ],
)
def test_a_comparison_says_how_far_off(value, measured, words, capsys):
    guess = Guess("How much?", 0, 100, "%")
    guess.lock(value)
    guess.compare(measured)
    assert words in capsys.readouterr().out


def test_without_a_guess_the_measurement_is_told_and_nothing_kept(capsys):
    Guess("How much?", 0, 100).compare(12.345)
    assert capsys.readouterr().out == "Measured: 12.3. You locked no guess.\n"
    assert not Path(FILE).exists()


# ---------------------------------------------------------------------------- shown


def test_a_guess_is_text_where_there_is_no_kernel():
    text = repr(Guess("How much?", 0, 150, unit="%"))
    assert text == "Predict. How much? (A guess from 0 to 150 %.)"
    # no address, no widget id
    assert text == repr(Guess("How much?", 0, 150, unit="%"))


def test_a_guess_shows_the_field_and_text_beside_it():
    guess = Guess("How much?", 0, 100)
    bundle = guess._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/plain"] == repr(guess)
    assert bundle[WIDGET]["model_id"] == guess.panel.model_id
    assert guess.field.description == "My guess"  # its accessible name


def test_a_question_is_escaped_where_it_becomes_html():
    guess = Guess('Is 1 < 2 & "so" on?', 0, 1)
    title = guess.panel.children[0].value
    assert "1 &lt; 2 &amp;" in title and "1 < 2" not in title
    assert "1 < 2" in repr(guess)


def test_predict_shows_the_guess_and_hands_it_back(monkeypatch):
    shown = []
    monkeypatch.setattr(guesses, "display", shown.append)
    guess = predict("How much?", 0, 10, unit="s")
    assert shown == [guess]
    assert (guess.low, guess.high, guess.unit) == (0, 10, "s")


def test_predict_prints_text_without_a_kernel(capsys):
    predict("How much?", 0, 10)
    assert "Predict. How much?" in capsys.readouterr().out
