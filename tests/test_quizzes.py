"""Quizzes: committed, kept, then explained; text without a kernel."""

import copy
import errno
import json
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import lab, problems, quizzes, record
from utils.exercises import LESSONS
from utils.files import DamagedFileError
from utils.quizzes import Quiz, is_right, number_in, quiz, what_is_wrong

LESSON = "13_new"
WIDGET = "application/vnd.jupyter.widget-view+json"
CHOICE = {
    "question": "Is 1 < 2?",
    "about": "01",
    "answers": [
        {"answer": "a < b", "right": True, "feedback": "<b>yes</b> & so"},
        {"answer": "c", "right": False, "feedback": "no & never", "why": "counted"},
        {"answer": "d", "right": False, "feedback": "nor this"},
    ],
}
NUMBER = {
    "question": "In your own run, how much?",
    "number": {"claim": "It is so", "times": 100, "unit": "%", "within": 0.1},
    "feedback": "It lies in the <file>.",
    "why": "measured: It is so",
}
SENTENCE = {
    "question": "Why, in a sentence?",
    "model": "Because <x> & y.",
    "rubric": ["names <x>", "says y"],
}
QUESTIONS = [CHOICE, NUMBER, SENTENCE]


def asked() -> Quiz:
    """The quiz of the three, as a run of its cell makes it."""
    return Quiz(LESSON, copy.deepcopy(QUESTIONS))


def restarted() -> Quiz:
    """The same after a restart of the kernel."""
    record.forget()
    record.begin(LESSON)
    return asked()


@pytest.fixture
def measured():
    """The claim of the number has measured 0.25, in this kernel."""
    record.begin(LESSON)
    record.note("claims", "It is so", {"measured": 0.25, "held": True})


# ------------------------------------------------------------------------------- choice


def test_nothing_is_chosen_for_the_learner_and_nothing_explained():
    choice = asked().panels[0]
    assert choice.options.value is None and choice.feedback.value == ""
    choice.button.click()
    assert "Choose an answer first." in choice.feedback.value
    assert not choice.answered and record.kept() == {}


def test_a_right_choice_gets_its_own_feedback_alone():
    choice = asked().panels[0]
    choice.options.value = "a < b"
    assert choice.feedback.value == ""  # to choose is not to commit
    choice.button.click()
    said = choice.feedback.value
    assert "<b>Right.</b> &lt;b&gt;yes&lt;/b&gt; &amp; so" in said
    assert "never" not in said and "Right is" not in said
    assert choice.options.disabled and choice.button.disabled
    assert choice.button.description == "Committed"


def test_a_wrong_choice_gets_its_feedback_and_the_right_ones():
    choice = asked().panels[0]
    choice.options.value = "c"
    choice.button.click()
    said = choice.feedback.value
    assert said.startswith('<div role="status"><b>Not right.</b> no &amp; never')
    assert "<b>Right is:</b> <i>a &lt; b</i> &lt;b&gt;yes&lt;/b&gt; &amp; so" in said
    assert "nor this" not in said


def test_the_first_try_stays_through_a_restart_and_a_second_run():
    choice = asked().panels[0]
    choice.options.value = "c"
    choice.commit()
    choice.options.value = "a < b"
    choice.commit()
    for again in (asked(), restarted()):
        choice = again.panels[0]
        assert choice.options.value == "c" and choice.options.disabled
        assert "<b>Not right.</b>" in choice.feedback.value
        choice.options.value = "a < b"
        choice.button.disabled = False
        choice.button.click()
    assert record.entry(LESSON, "quiz", "Is 1 < 2?") == {"answer": "c"}


def test_what_another_kernel_committed_meanwhile_is_the_first_try():
    late, early = asked().panels[0], asked().panels[0]
    early.options.value, late.options.value = "c", "a < b"
    early.commit()
    late.commit()
    assert late.options.value == "c" and "Not right" in late.feedback.value


def test_an_answer_that_is_no_longer_there_is_open_again():
    record.note("quiz", "Is 1 < 2?", {"answer": "once"}, lesson=LESSON)
    choice = restarted().panels[0]
    assert not choice.answered and not choice.button.disabled
    choice.options.value = "d"
    choice.commit()
    assert restarted().panels[0].answered["answer"] == "d"


# ------------------------------------------------------------------------------- number


def test_a_number_needs_the_claims_cell_first():
    number = asked().panels[1]
    number.field.value = "25"
    number.button.click()
    assert "cell first, in this lab" in number.feedback.value
    assert "“It is so”" in number.feedback.value
    assert not number.answered and record.kept() == {}


@pytest.mark.parametrize(
    ("typed", "word"),
    [("25", "Right."), ("27,5 %", "Right."), ("22.5", "Right."), ("22.4", "Not right."),
     ("27.6", "Not right."), ("0.25", "Not right."), ("-25", "Not right.")],
)  # fmt: skip
def test_a_number_is_compared_with_the_learners_own(measured, typed, word):
    number = asked().panels[1]
    number.field.value = typed
    number.button.click()
    assert f"<b>{word}</b> Your run measured 25 %." in number.feedback.value
    assert "It lies in the &lt;file&gt;." in number.feedback.value
    assert number.field.disabled


@pytest.mark.parametrize("typed", ["", "much", "nan", "inf", "1e400", "5 6", "%"])
def test_what_is_no_number_is_said_and_can_be_mended(measured, typed):
    number = asked().panels[1]
    number.field.value = typed
    number.button.click()
    assert "is no number" in number.feedback.value and not number.answered
    number.field.value = "25"
    number.button.click()
    assert number.answered


def test_a_number_is_compared_with_an_earlier_run(measured):
    record.save()
    number = restarted().panels[1]
    number.field.value = "25"
    number.commit()
    assert "<b>Right.</b>" in number.feedback.value


def test_a_later_run_does_not_change_what_was_right(measured):
    number = asked().panels[1]
    number.field.value = "25"
    number.commit()
    record.note("claims", "It is so", {"measured": 0.9, "held": True}, lesson=LESSON)
    record.save()
    again = restarted().panels[1]
    assert "<b>Right.</b> Your run measured 25 %." in again.feedback.value
    assert again.field.value == "25"


@given(
    st.floats(-1e9, 1e9, allow_subnormal=False).filter(lambda x: not 0 < abs(x) < 1e-9),
    st.floats(0.01, 0.5),
    st.floats(-1, 1),
)
def test_right_is_within_that_share_of_the_measured(value, within, share):
    number = {"question": "?", "number": {"within": within}, "feedback": "."}
    entry = {"answer": value * (1 + 2 * share * within), "measured": value}
    if abs(abs(share) - 0.5) > 1e-6:
        assert is_right(number, entry) == (abs(share) < 0.5 or value == 0)


# ----------------------------------------------------------------------------- sentence


def test_a_sentence_is_committed_before_the_model_is_seen():
    sentence = asked().panels[2]
    assert len(sentence.panel.children) == 4
    for typed in ("", "  \n"):
        sentence.field.value = typed
        sentence.button.click()
        assert "Write a sentence first." in sentence.feedback.value
        assert "Because" not in sentence.feedback.value and not sentence.answered
    sentence.field.value = "I think <so>."
    sentence.button.click()
    assert "Because &lt;x&gt; &amp; y." in sentence.feedback.value
    assert sentence.panel.children[-2:] == tuple(sentence.ticks)
    assert [tick.description for tick in sentence.ticks] == SENTENCE["rubric"]
    assert not any(tick.value for tick in sentence.ticks)


def test_what_the_learner_ticks_is_kept():
    sentence = asked().panels[2]
    sentence.field.value = "So."
    sentence.commit()
    for tick in sentence.ticks:
        tick.value = True
    for ticked in ([True, True], [False, True], [False, False]):
        again = restarted().panels[2]
        assert [tick.value for tick in again.ticks] == [True, True]
        again.ticks[0].value, again.ticks[1].value = ticked
        third = restarted().panels[2]
        assert [tick.value for tick in third.ticks] == ticked
        assert third.field.value == "So." and third.field.disabled
        third.ticks[0].value = third.ticks[1].value = True


def test_a_long_text_is_kept_as_far_as_it_is_one():
    sentence = asked().panels[2]
    sentence.field.value = "x" * 100_000
    sentence.commit()
    assert len(restarted().panels[2].field.value) == quizzes.LONGEST


# ------------------------------------------------------------------ what may go wrong


def test_a_full_disk_stops_nothing_and_is_said(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(record, "write_atomically", full)
    choice = asked().panels[0]
    choice.options.value = "c"
    choice.button.click()
    assert "Not right." in choice.feedback.value
    assert "(not kept: No space left on device)" in choice.feedback.value
    assert not problems.taken()
    monkeypatch.undo()
    assert asked().panels[0].options.value == "c"  # this kernel still knows


def test_an_error_in_a_callback_is_kept_and_shown(monkeypatch):
    made = asked()
    for panel in made.panels:
        monkeypatch.setattr(panel, "_given", lambda: {}["<gone>"])
        panel.button.click()
        assert (
            "<b>Error:</b> KeyError: &#x27;&lt;gone&gt;&#x27;" in panel.feedback.value
        )
    with pytest.raises(
        RuntimeError, match="A panel of this lab had an error: KeyError"
    ):
        lab.finish()


def test_an_error_of_a_tick_is_kept_too(monkeypatch):
    sentence = asked().panels[2]
    sentence.field.value = "So."
    sentence.commit()
    monkeypatch.setattr(record, "note", lambda *_, **__: 1 / 0)
    sentence.ticks[0].value = True
    assert problems.taken() == ["ZeroDivisionError: division by zero"]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["answer", "measured", "ticked", "x"]), inner)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(JSON)
def test_whatever_is_kept_a_quiz_is_asked(entry):
    if isinstance(entry, dict):
        for question in QUESTIONS:
            record.note("quiz", question["question"], entry, lesson=LESSON)
    record.note("claims", "It is so", {"measured": entry}, lesson=LESSON)
    made = asked()
    made._repr_mimebundle_()
    for panel in made.panels:
        panel.commit()
    record.forget()


# -------------------------------------------------------------------------------- shown


def test_text_gives_nothing_away():
    assert repr(asked()) == (
        "1. Is 1 < 2? (Looks back to lesson 01.)\n   a) a < b\n   b) c\n   c) d\n"
        "2. In your own run, how much?\n3. Why, in a sentence?"
    )


def test_without_a_kernel_everything_unfolds_and_is_escaped():
    html = asked()._repr_html_()
    counts = {
        html.count(f"<{end}{t}>") for t in ("details", "summary") for end in ("", "/")
    }
    assert counts == {3 + 1 + 1}
    assert "1 &lt; 2" in html and "<x>" not in html and "<file>" not in html
    assert "<b>Yes.</b> &lt;b&gt;yes" in html and "<b>No.</b> no &amp; never" in html
    assert "What your run measured of “It is so”, times 100." in html
    outside = re.sub(r"(?s)</summary>.*?</details>", "", html)
    for hidden in ("yes", "never", "measured", "Because", "names"):
        assert hidden in html and hidden not in outside


def test_what_is_stored_does_not_depend_on_the_learner(measured):
    def stored(made: Quiz) -> dict:
        bundle = made._repr_mimebundle_(include=None, exclude=None)
        assert bundle.pop(WIDGET)["model_id"] == made.panel.model_id
        return bundle

    before = stored(asked())
    assert before.keys() == {"text/html", "text/plain"}
    made = asked()
    made.panels[0].options.value = "c"
    made.panels[1].field.value = "25"
    made.panels[2].field.value = "mine"
    for panel in made.panels:
        panel.commit()
        assert panel.answered
    assert stored(made) == stored(restarted()) == before


def test_what_is_asked_is_escaped_on_the_panel_and_named_for_a_reader():
    for place, panel in enumerate(asked().panels, 1):
        title = panel.panel.children[0].value
        assert "1 < 2" not in title and title.startswith(f"<b>{place}. ")
        assert panel.button.tooltip == f"Commit my answer to question {place}"


# ------------------------------------------------------------------------ as it is read


def test_a_lessons_quiz_makes_it_the_lesson_of_this_kernel():
    record.note("claims", "It is so", {"measured": 1, "held": True})
    made = quiz("00_start_here")
    assert (made.lesson, record.current()) == ("00_start_here", "00_start_here")
    record.forget()
    assert record.entry("00_start_here", "claims", "It is so")["held"] is True


def test_an_unknown_lesson_lists_the_known():
    with pytest.raises(ValueError, match="lesson='99_nothing' has no quiz") as caught:
        quiz("99_nothing")
    known = [path.parent.name for path in LESSONS.glob("*/quiz.json")]
    assert known and all(name in str(caught.value) for name in known)


def changed(question: dict, /, **changes: object) -> dict:
    """A question with other entries; without those that are `...`."""
    new = copy.deepcopy(question) | changes
    return {key: value for key, value in new.items() if value is not ...}


def other_answers(**changes: object) -> dict:
    """The choice, its second answer changed."""
    answers = copy.deepcopy(CHOICE["answers"])
    answers[1] = changed(answers[1], **changes)
    return changed(CHOICE, answers=answers)


def other_number(**changes: object) -> dict:
    """The question for a number, its facts changed."""
    return changed(NUMBER, number=changed(NUMBER["number"], **changes))


DAMAGED = [
    ({}, "no list"), ([], "no list"), (3, "no list"), ([1], "no `question`"),
    ([changed(CHOICE, question=" ")], "question 1: it has no `question`"),
    ([CHOICE, changed(CHOICE, about=1)], "question 2: `about` and `why` must be text"),
    ([changed(NUMBER, why=1)], "must be text"),
    ([{"question": "Why?"}], "it has nothing; it must have answers or"),
    ([changed(CHOICE, model="x")], "it has answers, model; it must have"),
    ([changed(NUMBER, feedback=...)], "it has number; it must have"),
    ([changed(SENTENCE, rubric=...)], "it has model; it must have"),
    ([changed(CHOICE, answers="ab")], "must be a list of 2 to 6"),
    ([changed(CHOICE, answers=CHOICE["answers"][:1])], "must be a list of 2 to 6"),
    ([changed(CHOICE, answers=[1, 2])], "must have answer, right and feedback"),
    ([other_answers(feedback=...)], "must have answer, right and feedback"),
    ([other_answers(feedbak="x")], "must have answer, right and feedback"),
    ([other_answers(answer="")], "must be text"),
    ([other_answers(feedback=3)], "must be text"),
    ([other_answers(why=None)], "must be text"),
    ([other_answers(right=1)], "`right` must be true or false"),
    ([other_answers(right=True)], "exactly one answer must be right"),
    ([changed(CHOICE, answers=CHOICE["answers"][1:])], "exactly one answer"),
    ([other_answers(answer="d")], "two answers are the same"),
    ([changed(NUMBER, feedback=" ")], "`feedback` must be text"),
    ([changed(NUMBER, number=3)], "must have claim, times, unit and within"),
    ([other_number(more=3)], "must have claim, times, unit and within"),
    ([other_number(claim=...)], "`claim` must be the statement"),
    ([other_number(unit=3)], "`unit` must be text"),
    ([other_number(times=0)], "`times` must be a number, not 0"),
    ([other_number(times="100")], "`times` must be a number, not 0"),
    ([other_number(within=...)], "`within` must be a share"),
    ([other_number(within=1)], "`within` must be a share"),
    ([other_number(within=True)], "`within` must be a share"),
    ([changed(SENTENCE, model="")], "`model` must be text"),
    ([changed(SENTENCE, rubric=[])], "must be a list of texts"),
    ([changed(SENTENCE, rubric=["a", 1])], "must be a list of texts"),
    ([changed(SENTENCE, rubric=["a", "a"])], "two points of the rubric are the same"),
    ([CHOICE, SENTENCE, CHOICE], "two questions are the same"),
]  # fmt: skip


@pytest.mark.parametrize(("questions", "said"), DAMAGED)
def test_each_mistake_of_a_file_is_named(tmp_path, monkeypatch, questions, said):
    (tmp_path / LESSON).mkdir()
    (tmp_path / LESSON / "quiz.json").write_text(json.dumps(questions))
    monkeypatch.setattr(quizzes, "LESSONS", tmp_path)
    with pytest.raises(DamagedFileError, match=r"quiz\.json is damaged") as caught:
        quiz(LESSON)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "\ud800", "[" * 1000])
def test_what_is_no_json_is_named(tmp_path, monkeypatch, text):
    (tmp_path / LESSON).mkdir()
    content = text.encode("utf-8", "surrogatepass")
    (tmp_path / LESSON / "quiz.json").write_bytes(content)
    monkeypatch.setattr(quizzes, "LESSONS", tmp_path)
    with pytest.raises(DamagedFileError, match=r"quiz\.json is damaged"):
        quiz(LESSON)


@settings(deadline=None, max_examples=50)
@given(JSON)
def test_any_json_is_a_quiz_or_is_refused_in_words(content):
    assert what_is_wrong(content) and what_is_wrong([content])
    for question in QUESTIONS:
        for key in question:
            made = [question | {key: content}]
            if not what_is_wrong(made):
                Quiz(LESSON, made)._repr_mimebundle_()


def test_the_optional_parts_of_a_number_may_be_left_out():
    made = other_number(times=..., unit=...)
    assert what_is_wrong([made]) == ""
    record.note("claims", "It is so", {"measured": 3}, lesson=LESSON)
    number = Quiz(LESSON, [made]).panels[0]
    number.field.value = "3"
    number.commit()
    assert "<b>Right.</b> Your run measured 3." in number.feedback.value


@pytest.mark.parametrize(
    ("typed", "unit", "value"),
    [("2,5", "", 2.5), (" 30 % ", "%", 30), ("3.5x", "x", 3.5), ("4 ms", "ms", 4)],
)
def test_numbers_as_people_type_them(typed, unit, value):
    assert number_in(typed, unit) == value
