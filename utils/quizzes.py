"""Quizzes: each answer is committed, kept, and only then explained.

A lesson's questions are in its quiz.json, of three kinds. *Choice*: answers, each with
its own feedback. *Number*: one that the learner's own claim measured. *Sentence*: in
the learner's words, who compares it with a model answer and ticks what it holds.

Without a kernel a quiz is text, whose answers and feedback unfold.
"""

import html
import math
from collections.abc import Iterable
from typing import Any, TypeGuard

import ipywidgets

from utils import record
from utils.exercises import LESSONS
from utils.files import DamagedFileError, read_json
from utils.problems import guarded
from utils.record import Entry

Asked = dict[str, Any]  # a question as quiz.json has it

REPAIR = "`git checkout -- lessons`."
LETTERS = "abcdef"
# answers of more than one line
STYLE = (
    ".course-quiz .widget-radio-box label,.course-quiz .widget-checkbox label"
    "{display:flex;height:auto;line-height:1.5;white-space:normal}"
    ".course-quiz .widget-radio-box input{order:-1;flex:none}"
    ".course-quiz .widget-checkbox{height:auto}"
    ".course-quiz .widget-checkbox input{flex:none}"
    ".course-quiz .widget-html-content{line-height:1.5}"
)
LARGEST = 1e100  # what is called a number
WIDE = {"width": "auto"}  # as wide as the page
LONGEST = 2000  # characters of a sentence that are kept
KINDS = {  # the keys of a question of each kind, but for `question` and `about`
    "choice": {"answers"},
    "number": {"number", "feedback"},
    "sentence": {"model", "rubric"},
}


# ----------------------------------------------------------------------- its questions


def read(lesson: str) -> list[Asked]:
    """The questions of a lesson, from lessons/<lesson>/quiz.json.

    Raises:
        ValueError: no such lesson; lists the known ones.
        DamagedFileError: the file cannot be read as a quiz; says what is wrong.
    """
    path = LESSONS / lesson / "quiz.json"
    if not path.is_file():
        known = sorted(p.parent.name for p in LESSONS.glob("*/quiz.json"))
        raise ValueError(f"lesson={lesson!r} has no quiz. Known: {', '.join(known)}.")
    questions = read_json(path, REPAIR)
    if problem := what_is_wrong(questions):
        raise DamagedFileError(f"{path} is damaged ({problem}). Repair: {REPAIR}")
    return questions


def what_is_wrong(questions: object) -> str:
    """Half a sentence about the first question that cannot be one; empty when all
    can."""
    if not isinstance(questions, list) or not questions:
        return "it is no list of questions"
    for place, asked in enumerate(questions, 1):
        if problem := _question_problem(asked):
            return f"question {place}: {problem}"
    if _repeated(asked["question"] for asked in questions):
        return "two questions are the same"
    return ""


def _question_problem(asked: object) -> str:
    if not isinstance(asked, dict) or not _is_text(asked.get("question")):
        return "it has no `question`"
    if not _is_text(asked.get("about", "00")) or not _is_text(asked.get("why", "-")):
        return "`about` and `why` must be text"
    keys = set(asked) - {"question", "about", "why"}
    if keys not in KINDS.values():
        kinds = " or ".join(" and ".join(sorted(kind)) for kind in KINDS.values())
        return f"it has {', '.join(sorted(keys)) or 'nothing'}; it must have {kinds}"
    problems = {
        "choice": _choice_problem,
        "number": _number_problem,
        "sentence": _sentence_problem,
    }
    return problems[kind_of(asked)](asked)


def _choice_problem(asked: Asked) -> str:
    answers = asked["answers"]
    if not isinstance(answers, list) or not 2 <= len(answers) <= len(LETTERS):
        return f"`answers` must be a list of 2 to {len(LETTERS)}"
    for answer in answers:
        keys = set(answer) - {"why"} if isinstance(answer, dict) else set()
        if keys != {"answer", "right", "feedback"}:
            return "an answer must have answer, right and feedback"
        texts = (answer.get(key, "-") for key in ("answer", "feedback", "why"))
        if not all(map(_is_text, texts)):
            return "`answer`, `feedback` and `why` must be text"
        if not isinstance(answer["right"], bool):
            return "`right` must be true or false"
    if [answer["right"] for answer in answers].count(True) != 1:
        return "exactly one answer must be right"
    if _repeated(answer["answer"] for answer in answers):
        return "two answers are the same"
    return ""


def _number_problem(asked: Asked) -> str:
    number = asked["number"]
    if not _is_text(asked["feedback"]):
        return "`feedback` must be text"
    if not isinstance(number, dict) or not set(number) <= {
        "claim",
        "times",
        "unit",
        "within",
    }:
        return "`number` must have claim, times, unit and within"
    if not _is_text(number.get("claim")):
        return "`claim` must be the statement of a claim"
    if not isinstance(number.get("unit", ""), str):
        return "`unit` must be text"
    if not is_number(number.get("times", 1)) or not number.get("times", 1):
        return "`times` must be a number, not 0"
    if not is_number(number.get("within")) or not 0 < number["within"] < 1:
        return "`within` must be a share between 0 and 1"
    return ""


def _sentence_problem(asked: Asked) -> str:
    rubric = asked["rubric"]
    if not _is_text(asked["model"]):
        return "`model` must be text"
    if not isinstance(rubric, list) or not rubric or not all(map(_is_text, rubric)):
        return "`rubric` must be a list of texts"
    return "two points of the rubric are the same" if _repeated(rubric) else ""


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_number(value: object) -> TypeGuard[float]:
    """Whether what JSON gave is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -LARGEST < value < LARGEST


def _repeated(values: Iterable[str]) -> bool:
    values = list(values)
    return len(set(values)) < len(values)


def kind_of(asked: Asked) -> str:
    """`choice`, `number` or `sentence`."""
    return next(kind for kind, keys in KINDS.items() if keys <= set(asked))


# ------------------------------------------------------------------------- its answers


def is_answered(asked: Asked, entry: Entry) -> bool:
    """Whether what is kept is an answer to the question; it may be of an older one."""
    answer = entry.get("answer")
    kind = kind_of(asked)
    if kind == "choice":
        return any(answer == each["answer"] for each in asked["answers"])
    if kind == "number":
        return is_number(answer) and is_number(entry.get("measured"))
    return _is_text(answer)


def is_right(asked: Asked, entry: Entry) -> bool:
    """Whether an answer, to a choice or for a number, is right.

    >>> asked = {"question": "?", "number": {"claim": "It is so", "within": 0.1}}
    >>> is_right(asked | {"feedback": "."}, {"answer": 11, "measured": 10})
    True
    """
    if not is_answered(asked, entry):
        return False
    if kind_of(asked) == "choice":
        return entry["answer"] == right_answer(asked)["answer"]
    measured, within = entry["measured"], asked["number"]["within"]
    # a little more, for what is rounded
    return abs(entry["answer"] - measured) <= within * abs(measured) * (1 + 1e-9)


def right_answer(asked: Asked) -> dict:
    """The right one of a choice."""
    return next(answer for answer in asked["answers"] if answer["right"])


def own_measurement(lesson: str, asked: Asked) -> float | None:
    """What the learner's claim has measured, in the unit of the question; None before
    its cell ran."""
    number = asked["number"]
    value = record.entry(lesson, "claims", number["claim"]).get("measured")
    measured = value * number.get("times", 1) if is_number(value) else None
    return measured if is_number(measured) else None


# --------------------------------------------------------------------------- its panels


class Question:
    """One question, open until an answer is committed; committed once, the first try
    stays, through a restart of the kernel.

    lesson: its name.  place: in the quiz, from 1.  asked: the question.
    """

    def __init__(self, lesson: str, place: int, asked: Asked) -> None:
        self.lesson, self.asked = lesson, asked
        self.name: str = asked["question"]
        self.button = ipywidgets.Button(
            description="Commit my answer",
            tooltip=f"Commit my answer to question {place}",
            layout={"width": "max-content"},
        )
        self.feedback = ipywidgets.HTML()
        self.answered: Entry = {}
        self.button.on_click(guarded(lambda _: self.commit(), self._say))
        title = ipywidgets.HTML(f"<b>{place}. {escaped(titled(asked))}</b>")
        parts = [title, *self._fields(), self.button, self.feedback]
        self.panel = ipywidgets.VBox(parts, layout={"margin": "0 0 1.2em 0"})
        self._restore()

    def commit(self) -> None:
        """Keep the answer that is given, and explain. What is no answer says so, and is
        not kept; an answer that was kept before, in another kernel, stays."""
        if self.answered or self._restore():
            return
        given, problem = self._given()
        if problem:
            self._say(f'<div role="status">{escaped(problem)}</div>')
            return
        record.note("quiz", self.name, given, lesson=self.lesson)
        self._show(given, record.save())

    def _restore(self) -> bool:
        """Show the answer that is kept, if there is one."""
        entry = record.entry(self.lesson, "quiz", self.name)
        if is_answered(self.asked, entry):
            self._show(entry)
        return bool(self.answered)

    def _show(self, entry: Entry, trouble: str = "") -> None:
        self.answered = entry
        self.button.disabled = True
        self.button.description = "Committed"
        self._close()
        trouble = f" ({escaped(trouble)})" if trouble else ""
        self._say(f'<div role="status">{self._explained()}{trouble}</div>')

    def _say(self, content: str) -> None:
        self.feedback.value = content

    # ---- what differs by kind

    def _fields(self) -> list[ipywidgets.Widget]:
        """Where the answer is given."""
        raise NotImplementedError

    def _given(self) -> tuple[Entry, str]:
        """The answer as it is kept, or why it is none."""
        raise NotImplementedError

    def _close(self) -> None:
        """Show the kept answer where it was given, and let it be changed no more."""
        raise NotImplementedError

    def _explained(self) -> str:
        """What is said of the kept answer, as HTML."""
        raise NotImplementedError


class Choice(Question):
    """A question with answers to choose from."""

    def _fields(self) -> list[ipywidgets.Widget]:
        self.options = ipywidgets.RadioButtons(
            options=[answer["answer"] for answer in self.asked["answers"]],
            value=None,
            layout=WIDE,
        )
        return [self.options]

    def _given(self) -> tuple[Entry, str]:
        chosen = self.options.value
        return {"answer": chosen}, "" if chosen else "Choose an answer first."

    def _close(self) -> None:
        self.options.value = self.answered["answer"]
        self.options.disabled = True

    def _explained(self) -> str:
        chosen, right = self.answered["answer"], right_answer(self.asked)
        feedback = {each["answer"]: each["feedback"] for each in self.asked["answers"]}
        said = f"{verdict(chosen == right['answer'])} {escaped(feedback[chosen])}"
        if chosen == right["answer"]:
            return said
        answer, why = escaped(right["answer"]), escaped(right["feedback"])
        return f"{said}<br><b>Right is:</b> <i>{answer}</i> {why}"


class Number(Question):
    """A question for a number that the learner's own run has measured."""

    def _fields(self) -> list[ipywidgets.Widget]:
        self.field = ipywidgets.Text(description="My number", placeholder="a number")
        self.unit: str = self.asked["number"].get("unit", "")
        return [ipywidgets.HBox([self.field, ipywidgets.Label(self.unit)])]

    def _given(self) -> tuple[Entry, str]:
        typed, claim = self.field.value, self.asked["number"]["claim"]
        measured = own_measurement(self.lesson, self.asked)
        if measured is None:
            return {}, f"Run the claim's cell first, in this lab: “{claim}”."
        answer = number_in(typed, self.unit)
        if not is_number(answer):
            return {}, f"{typed!r} is no number."
        return {"answer": answer, "measured": measured}, ""

    def _close(self) -> None:
        self.field.value = f"{self.answered['answer']:g}"
        self.field.disabled = True

    def _explained(self) -> str:
        measured = f"{self.answered['measured']:.3g} {self.unit}".rstrip()
        right = is_right(self.asked, self.answered)
        return (
            f"{verdict(right)} Your run measured {escaped(measured)}."
            f" {escaped(self.asked['feedback'])}"
        )


class Sentence(Question):
    """A question that is answered in the learner's own words, and judged by the
    learner."""

    def _fields(self) -> list[ipywidgets.Widget]:
        self.field = ipywidgets.Textarea(
            description="My words",
            placeholder="one or two sentences",
            layout={"width": "95%", "height": "5em"},
        )
        self.ticks = [
            ipywidgets.Checkbox(description=point, indent=False, layout=WIDE)
            for point in self.asked["rubric"]
        ]
        return [self.field]

    def _given(self) -> tuple[Entry, str]:
        typed = self.field.value.strip()[:LONGEST]
        return {"answer": typed}, "" if typed else "Write a sentence first."

    def _close(self) -> None:
        self.field.value = self.answered["answer"][:LONGEST]
        self.field.disabled = True
        ticked = self.answered.get("ticked")
        for tick in self.ticks:
            tick.value = isinstance(ticked, list) and tick.description in ticked
            tick.observe(guarded(lambda _: self._keep_ticks(), self._say), "value")
        said = ipywidgets.HTML("Tick what yours holds:")
        self.panel.children = (*self.panel.children, said, *self.ticks)

    def _explained(self) -> str:
        return f"<b>A model answer:</b> {escaped(self.asked['model'])}"

    def _keep_ticks(self) -> None:
        ticked = [tick.description for tick in self.ticks if tick.value]
        record.note("quiz", self.name, {"ticked": ticked}, lesson=self.lesson)
        record.save()


PANELS = {"choice": Choice, "number": Number, "sentence": Sentence}


def verdict(right: bool) -> str:
    """The first word on an answer, as HTML."""
    return "<b>Right.</b>" if right else "<b>Not right.</b>"


def number_in(typed: str, unit: str = "") -> float:
    """The number that somebody typed, perhaps with its unit; NaN when it is none.

    >>> number_in(" 2,5 % ", "%"), number_in("much")
    (2.5, nan)
    """
    try:
        return float(typed.strip().removesuffix(unit).rstrip(" %").replace(",", "."))
    except ValueError:
        return math.nan


def titled(asked: Asked) -> str:
    """The question, with the lesson that it looks back to."""
    about = f" (Looks back to lesson {asked['about']}.)" if "about" in asked else ""
    return f"{asked['question']}{about}"


def escaped(text: str) -> str:
    """Text as HTML."""
    return html.escape(text)


# ----------------------------------------------------------------------- the whole quiz


class Quiz:
    """The questions of a lesson, to answer; text where there is no kernel.

    lesson: its name, under which the answers are kept.
    """

    def __init__(self, lesson: str, questions: list[Asked]) -> None:
        self.lesson, self.questions = lesson, questions
        self.panels: list[Question] = [
            PANELS[kind_of(asked)](lesson, place, asked)
            for place, asked in enumerate(questions, 1)
        ]
        said = "Answer, commit, then read. The first try is kept, on this machine only."
        self.panel = ipywidgets.VBox(
            [
                ipywidgets.HTML(f"<style>{STYLE}</style>{said}"),
                *(each.panel for each in self.panels),
            ]
        )
        self.panel.add_class("course-quiz")

    def _repr_mimebundle_(self, **_: object) -> dict:
        live = self.panel._repr_mimebundle_() or {}
        return {**live, "text/html": self._repr_html_(), "text/plain": repr(self)}

    def _repr_html_(self) -> str:
        head = "<p>Unfold the answer you would give (click, or Tab and Enter).</p>"
        return head + "".join(
            f"<p><b>{place}. {escaped(titled(asked))}</b></p>{unfolding(asked)}"
            for place, asked in enumerate(self.questions, 1)
        )

    def __repr__(self) -> str:
        lines = []
        for place, asked in enumerate(self.questions, 1):
            lines.append(f"{place}. {titled(asked)}")
            answers = asked.get("answers", [])
            lines += [
                f"   {letter}) {answer['answer']}"
                for letter, answer in zip(LETTERS, answers, strict=False)
            ]
        return "\n".join(lines)


def unfolding(asked: Asked) -> str:
    """What a question's answers say, as HTML that unfolds without script or kernel."""
    kind = kind_of(asked)
    if kind == "choice":
        return "".join(
            folded(
                each["answer"],
                f"<p><b>{'Yes.' if each['right'] else 'No.'}</b>"
                f" {escaped(each['feedback'])}</p>",
            )
            for each in asked["answers"]
        )
    if kind == "number":
        claim, times = asked["number"]["claim"], asked["number"].get("times", 1)
        said = f"What your run measured of “{claim}”"
        said += f", times {times:g}." if times != 1 else "."
        content = f"<p>{escaped(said)} {escaped(asked['feedback'])}</p>"
        return folded("With what to compare your number", content)
    points = "".join(f"<li>{escaped(point)}</li>" for point in asked["rubric"])
    content = f"<p>{escaped(asked['model'])} It holds:</p><ul>{points}</ul>"
    return folded("A model answer, to read when yours is written", content)


def folded(summary: str, content: str) -> str:
    """HTML that unfolds below a line of text."""
    return f"<details><summary>{escaped(summary)}</summary>{content}</details>"


def quiz(lesson: str) -> Quiz:
    """The quiz of a lesson, from lessons/<lesson>/quiz.json; what was answered before
    stays answered.

    Raises:
        ValueError: no such lesson; lists the known ones.
        DamagedFileError: the file cannot be read as a quiz.

    >>> len(quiz("00_start_here").questions) > 0
    True
    """
    questions = read(lesson)
    record.begin(lesson)
    record.save()
    return Quiz(lesson, questions)
