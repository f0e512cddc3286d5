"""A word that is in no list is found, wherever it stands; code is not read."""

import json

import pytest

pytest.importorskip("spellchecker", reason="comes with the next `make test`")

from tools import spelling


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The *mask's* shape", ["The", "mask", "shape"]),
        ("`nmae` of `x.nmae()`", []),
        ("in utils/nmae.py, see https://nmae.org", ["see"]),
        ("GPTs and an MLP", ["and"]),
        ("<b title='nmae'>bold</b> &amp; neighbours’ ones",
         ["bold", "neighbours", "ones"]),
        ("Léonard", ["Léonard"]),
        ("<script>nmae()</script> text", ["text"]),
    ],
)  # fmt: skip
def test_words_are_what_a_reader_reads(text, words):
    assert list(spelling.words(text)) == words


def test_a_misspelled_word_is_found_and_a_term_is_not():
    pairs = [("here", "Sparsities of the netwrok."), ("there", "The netwrok.")]
    assert spelling.unknown(iter(pairs)) == {"netwrok": "here"}


def test_all_that_a_quiz_says_is_read():
    answer = {"answer": "a1", "right": True, "feedback": "f1", "why": "counted"}
    quiz = [{"question": "q", "answers": [answer]}, {"model": "m", "rubric": ["r"]}]
    assert list(spelling.said(json.loads(json.dumps(quiz)))) == [
        "q", "a1", "f1", "m", "r",
    ]  # fmt: skip


def test_the_course_has_no_unknown_word():
    assert spelling.unknown(spelling.prose(spelling.ROOT)) == {}


def test_the_list_says_no_word_twice():
    lines = spelling.LIST.read_text("utf-8").splitlines()
    words = [w.lower() for line in lines for w in line.partition("#")[0].split()]
    assert len(words) == len(set(words))
