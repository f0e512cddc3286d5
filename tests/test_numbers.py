"""The numbers that pages and quizzes tell are numbers that were measured: each stands,
rounded as it is told, in an output of the lesson's notebooks, in its recorded results
or in the sources of the lab."""

import json
import re
from collections.abc import Iterable, Iterator

import nbformat
import pytest

from tools import notebooks, syllabus

LESSONS = [folder.name for folder in syllabus.folders(notebooks.LESSONS)]
NUMBER = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?<![\w.,])\d+(?:\.\d+)?")
TOLD = re.compile(  # a number with what it is of, so that it can be wrong
    rf"({NUMBER.pattern})(?:%| %| percent\b| points?\b| times\b|x\b| kB\b| bytes\b)"
)
# measured with what is not in the course: tables of the test pictures that attack its
# scorer, and what they would get without one of its questions
ELSEWHERE = {
    "12_capstone": {"10.4", "11.3", "11.6", "12.4", "6", "95.7", "99.5", "99.6"},
}
ANSWERS = "## What you will have found"


def numbers(text: str) -> Iterator[float]:
    """All numbers in a text."""
    for found in NUMBER.findall(text):
        yield float(found.replace(",", ""))


def in_data(part: object) -> Iterator[float]:
    """All numbers in what a JSON file holds."""
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from in_data(each)
    elif isinstance(part, (int, float)) and not isinstance(part, bool):
        yield float(part)


def measured(lesson: str) -> list[float]:
    """What a lesson's notebooks put out and its studies recorded; fractions as percent,
    too."""
    found: list[float] = []
    for lab in notebooks.labs(lesson):
        stored = nbformat.read(notebooks.NOTEBOOKS / f"{lab}.ipynb", as_version=4)
        for cell in stored.cells:
            found += numbers(cell.source)
            for output in cell.get("outputs", []):
                text = output.get("text", "") + str(
                    output.get("data", {}).get("text/plain", "")
                )
                found += numbers(text)
    folder = notebooks.LESSONS / lesson
    for path in (folder / "results").glob("*.json"):
        content = path.read_text(encoding="utf-8")
        found += in_data(json.loads(content[: content.rindex("}") + 1]))
    for name in ("exercises.py", "task.py", "figures.py", "study.py"):
        if (folder / name).is_file():
            found += numbers((folder / name).read_text(encoding="utf-8"))
    found = [value for value in found if value == value]
    return found + [100 * value for value in found]


def is_measured(told: str, values: Iterable[float]) -> bool:
    """Whether a number as it is told is one of these, rounded, or what is left of 100
    percent."""
    digits = len(told.partition(".")[2])
    number, step = float(told.replace(",", "")), 0.5 * 10**-digits + 1e-9
    return any(
        abs(value - number) <= step or abs(100 - value - number) <= step
        for value in values
    )


def told(lesson: str) -> Iterator[tuple[str, str]]:
    """(number, the words around it) in the second part of a page and in a quiz."""
    folder = notebooks.LESSONS / lesson
    text = (folder / "README.md").read_text(encoding="utf-8").partition(ANSWERS)[2]
    quiz = json.loads((folder / "quiz.json").read_text(encoding="utf-8"))
    for question in quiz:
        text += f" {question.get('feedback', '')} {question.get('model', '')}"
        for answer in question.get("answers", []):
            text += f" {answer['feedback']}"
    text = re.sub(r"\]\([^)]*\)", "]", text)
    for found in TOLD.finditer(text):
        yield found[1], text[max(0, found.start() - 60) : found.end() + 20]


@pytest.mark.parametrize("lesson", LESSONS)
def test_what_is_told_was_measured(lesson):
    values = measured(lesson)
    unmeasured = [
        words
        for number, words in told(lesson)
        if number not in ELSEWHERE.get(lesson, ()) and not is_measured(number, values)
    ]
    assert not unmeasured


def test_a_number_that_was_not_measured_is_found():
    assert is_measured("87.4", [0.1, 87.38]) and is_measured("62", [38.2])
    assert is_measured("1,732", [1732.0])
    assert not is_measured("87.4", [87.5, 8.74]) and not is_measured("63", [38.2])
    text = "It fell from 87.4% to 1,732 bytes, by 3.1 points in lab 04 of 2015."
    assert [found[1] for found in TOLD.finditer(text)] == ["87.4", "1,732", "3.1"]
