"""The reader of the course's prose finds what it is there to find."""

import json

import pytest

from tools import notebooks, prose
from tools.prose import sentences, style_problems, why_problem

MEASURED = ["Half of the weights are zero", "At 90% the VGG"]


def test_sentences_end_where_a_reader_ends_them():
    text = (
        "# A heading\n\nHan et al. 2015 prune 90.5% of it. It is *fast.* Is it? `a. b`"
        " c.\n- One\n- Two, because of x. <!-- why: counted -->\n\n![a b](x.png) End"
    )
    assert list(sentences(text)) == [
        ("A heading", []),
        ("Han et al. 2015 prune 90.5% of it.", []),
        ("It is *fast.*", []),
        ("Is it?", []),
        ("`a. b` c.", []),
        ("One", []),
        ("Two, because of x.", ["counted"]),
        ("a b End", []),
    ]


@pytest.mark.parametrize(
    "marker",
    ["measured: Half of the weights", "counted", "choice", "source: Han et al. 2015"],
)
def test_a_why_with_a_marker_is_taken(marker):
    text = f"It is small, because half is zero.\n<!-- why: {marker} -->"
    [(sentence, markers)] = sentences(text)
    assert why_problem(sentence, markers, MEASURED) == ""


@pytest.mark.parametrize(
    ("marker", "reason"),
    [
        ("", "no marker says how"),
        ("<!-- why: measured: Half of the neurons -->", "no claim of the lesson"),
        ("<!-- why: measured: -->", "no claim of the lesson"),
        ("<!-- why: measured -->", "no claim of the lesson"),
        ("<!-- why: source: somebody -->", "no source with its year"),
        ("<!-- why: conjecture -->", "does not say so"),
        ("<!-- why: clear -->", "unknown marker"),
    ],
)
def test_a_why_without_its_ground_is_found(marker, reason):
    [(sentence, markers)] = sentences(f"It is fast because half is zero. {marker}")
    assert reason in why_problem(sentence, markers, MEASURED)


@pytest.mark.parametrize(
    "word", ["Therefore it", "That is why it", "Thanks to it", "This explains, it"]
)
def test_every_causal_word_is_seen(word):
    assert why_problem(f"{word} is fast.", [], MEASURED)


def test_a_conjecture_that_says_so_is_taken():
    said = "It is likely fast because of the cache; we did not test that."
    assert why_problem(said, ["conjecture"], []) == ""


def test_the_marker_backs_its_own_sentence_alone():
    first, second = sentences("One, because x. Two, because y. <!-- why: counted -->")
    assert why_problem(*first, MEASURED) and not why_problem(*second, MEASURED)


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("Who prunes loses.", "a riddle"),
        ("Who prunes?", ""),
        ("Fine-tuning does this by the way.", "in passing"),
        ("This allows to prune.", "lets you prune"),
        ("The call `actually()` is fast.", ""),
        ("word " * 46 + "end.", "47 words"),
        ("A network of 90 weights is pruned.", ""),
    ],
)
def test_the_course_has_its_words(sentence, found):
    problems = style_problems(sentence)
    assert (found in problems[0]) if found else not problems


@pytest.fixture
def lesson(tmp_path):
    """A lesson with one claim, and a sentence in each file that has no ground."""
    (tmp_path / "lab.py").write_text(
        "# %% [markdown]\n# It is small because x. <!-- why: measured: A b -->\n"
        "# So far. Therefore it is fast.\n\n# %%\nclaim(f'A b {n}', 1)\n",
        encoding="utf-8",
    )
    (tmp_path / "README.md").write_text("It is small, thanks to x.", encoding="utf-8")
    answers = [
        {"answer": "a", "right": True, "feedback": "Because of x."},
        {"answer": "b", "right": False, "feedback": "Due to y.", "why": "counted"},
    ]
    questions = [{"question": "?", "answers": answers}]
    (tmp_path / "quiz.json").write_text(json.dumps(questions), encoding="utf-8")
    return tmp_path


def test_page_lab_and_quiz_are_read(lesson):
    assert prose.claims(lesson) == ["A b "]
    found = prose.problems_of(lesson)
    assert [line.partition(":")[0] for line in found] == [
        "README.md",
        "lab.py",
        "quiz.json",
    ]
    assert "'Therefore it is fast.'" in found[1] and "'Because of x.'" in found[2]


def test_a_notebook_carries_no_marker(tmp_path, monkeypatch):
    (tmp_path / "05_x").mkdir()
    text = "# %% [markdown]\n# It is so because x. <!-- why: counted -->\n# And y.\n"
    (tmp_path / "05_x" / "lab.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(notebooks, "LESSONS", tmp_path)
    [cell] = notebooks.source_notebook("05_x").cells
    assert cell.source == "It is so because x.\nAnd y."
