"""What a lesson's page asks: the guesses of its lab, and its quiz, as data that the
page's scripts read. Nothing is copied by hand: the questions are those of `lab.py` and
`quiz.json`, what was measured is what the notebook printed when it was built.
"""

import ast
import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace

from IPython.core.inputtransformer2 import TransformerManager

from tools.notebooks import labs
from tools.printed import ASKED, Asked, cells, read_guess
from utils import quizzes
from utils.guesses import CLOSE

MEASURED = re.compile(r"^Measured: (.*)\. You locked no guess\.$", re.MULTILINE)
CLAIMED = re.compile(r"^Holds: (.*) \(measured ([^;]*); .*\)\.$", re.MULTILINE)


def calls(code: str) -> list[ast.Call]:
    """All calls of a cell, in the order in which they stand."""
    tree = ast.parse(TransformerManager().transform_cell(code))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def asking(code: str) -> list[str]:
    """The variables to which a cell assigns guesses, in order.

    >>> asking('a = predict("?", 0, 1); print(a); b = predict("!", 0, 1)')
    ['a', 'b']
    """
    tree = ast.parse(TransformerManager().transform_cell(code))
    found = [
        (node.lineno, node.col_offset, node.targets[0].id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "predict"
    ]
    return [name for _, _, name in sorted(found)]


def comparing(code: str) -> list[str]:
    """The variables whose guesses a cell compares, in order.

    >>> comparing("a.compare(100 * b.mean())")
    ['a']
    """
    return [
        call.func.value.id
        for call in calls(code)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr == "compare"
        and isinstance(call.func.value, ast.Name)
    ]


def guesses(lesson: str) -> list[Asked]:
    """The guesses that the lab of a lesson asks for, as its notebook showed them, with
    what it measured."""
    asked: list[tuple[str, Asked]] = []
    measured: dict[str, str] = {}
    for code, outputs in cells(lesson):
        text = "\n".join(outputs)
        # where the names can't be told, as in a loop, the guess is asked all the same
        shown = [read_guess(*found) for found in ASKED.findall(text)]
        asked += zip(_as_many(asking(code), shown), shown, strict=True)
        found = MEASURED.findall(text)
        measured |= zip(_as_many(comparing(code), found), found, strict=True)
    return [replace(each, measured=measured.get(name, "")) for name, each in asked]


def _as_many(names: list[str], found: Sequence[object]) -> list[str]:
    return names if len(names) == len(found) else ["?"] * len(found)


def claimed(lesson: str) -> dict[str, float]:
    """What the notebooks of a lesson measured of each claim, when they were built."""
    return {
        statement: float(number.replace(",", ""))
        for lab in labs(lesson)
        for _, outputs in cells(lab)
        for text in outputs
        for statement, number in CLAIMED.findall(text)
    }


def questions(lesson: str) -> list[dict]:
    """The quiz of a lesson; a question for a number has what the notebook `measured`,
    in the question's unit."""
    found, claims = [], claimed(lesson)
    for asked in quizzes.read(lesson):
        if quizzes.kind_of(asked) == "number":
            number = asked["number"]
            value = claims[number["claim"]] * number.get("times", 1)
            asked = asked | {"measured": value}
        found.append(asked | {"kind": quizzes.kind_of(asked)})
    return found


# ------------------------------------------------------------------------ in the page


def data(name: str, content: object) -> str:
    """A script element that holds data, and runs nothing."""
    text = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json" class="{name}">{text}</script>'


def gate(lesson: str) -> str:
    """HTML for the place where the second part of a page is opened: the scripts fill
    it, and without them nothing is shut."""
    asked = [asdict(each) for each in guesses(lesson)]
    told = {"lesson": lesson, "close": CLOSE, "guesses": asked}
    return f'<div class="gate">{data("gate-data", told)}</div>'


def quiz(lesson: str) -> str:
    """HTML for the quiz of a lesson: without scripts its answers unfold."""
    asked = questions(lesson)
    plain = "".join(
        f"<p><b>{place}. {html.escape(quizzes.titled(each))}</b></p>"
        f"{quizzes.unfolding(each)}"
        for place, each in enumerate(asked, 1)
    )
    told = {"lesson": lesson, "questions": asked}
    return (
        f'<div class="quiz">{data("quiz-data", told)}'
        f'<div class="quiz-plain">{plain}</div></div>'
    )
