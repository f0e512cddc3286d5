"""How a class stands: who finished what, who may be stuck, and what was most often
wrong. Everything is counted from the records; none of it knows times."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tools.classroom.handed_in import Learner
from utils import quizzes, record
from utils.exercises import listed
from utils.progress import Row, judgeable, rows

TRIES = 3  # wrong checks of one exercise after which its learner may be stuck
RULE = (
    "Finished is a lesson with all exercises right, all questions of the quiz that can"
    " be judged answered, and the open task met. A learner may be stuck where one of"
    f" three things holds: an exercise was checked {TRIES} times or more and is not"
    " right; in the last lesson that was begun, the open task was tried and is not met;"
    " or nothing was begun beyond a lesson that is not finished, while at least half of"
    " the others have finished it. The files hold no times, so nobody can be told for"
    " how long. A file says what its learner's machine wrote into it: it is no"
    " examination."
)


# ------------------------------------------------------------------- who finished what


@dataclass(frozen=True)
class Standing:
    """Where one learner stands: a row for each lesson, and why they may be stuck, in
    half sentences; none when nothing says so."""

    learner: Learner
    rows: tuple[Row, ...]
    stuck: tuple[str, ...] = ()

    def finished(self) -> int:
        """How many lessons."""
        return sum(map(is_finished, self.rows))

    def is_empty(self) -> bool:
        """Whether nothing is kept of this learner."""
        return all(row.is_empty() for row in self.rows)


def is_finished(row: Row) -> bool:
    """Whether a lesson is: of what it has, everything is done."""
    right, exercises = row.exercises
    if not exercises and not row.quiz[1] and not row.has_task:
        return row.claims[1] > 0
    answered = row.answered == row.quiz[1]
    return right == exercises and answered and (row.task is True or not row.has_task)


def standings(learners: Sequence[Learner]) -> list[Standing]:
    """Where each learner stands, in the order given."""
    table = {learner.name: tuple(rows(learner.kept)) for learner in learners}
    return [
        Standing(
            learner,
            table[learner.name],
            (*unmet(learner), *behind(learner.name, table)),
        )
        for learner in learners
    ]


def unmet(learner: Learner) -> list[str]:
    """What a learner tried and has not got right."""
    said = []
    lessons = listed()
    for name, lesson in lessons.items():
        entry = learner.kept.get(lesson, {}).get("exercises", {}).get(name, {})
        wrong = record.wrong_checks(entry)
        if entry.get("right") is not True and wrong >= TRIES:
            said.append(f"{lesson[:2]}: {name} is not right after {wrong} checks")
    begun = [row for row in rows(learner.kept) if not row.is_empty()]
    if begun and begun[-1].task is False:
        lesson = begun[-1].lesson[:2]
        said.append(f"{lesson}: the open task was tried and is not met")
    return said


def behind(name: str, table: Mapping[str, Sequence[Row]]) -> list[str]:
    """Whether a learner stands at a lesson, with nothing begun beyond it, that at least
    half of the others have finished."""
    own = table[name]
    place = next((i for i, row in enumerate(own) if not is_finished(row)), None)
    others = [other for other in table if other != name]
    if place is None or not others:
        return []
    ahead = sum(is_finished(table[other][place]) for other in others)
    gone_on = not all(row.is_empty() for row in own[place + 1 :])
    if gone_on or 2 * ahead < len(others):
        return []
    lesson = own[place].lesson[:2]
    return [f"{lesson}: not finished, and {ahead} of {len(others)} others have"]


# ---------------------------------------------------------------- what was often wrong


@dataclass(frozen=True)
class Missed:
    """A question of a quiz, as the class answered it at the first try.

    chosen: the wrong answer that most gave, in words.  chosen_by: how many.
    """

    lesson: str
    question: str
    answered: int
    wrong: int
    chosen: str = ""
    chosen_by: int = 0
    feedback: str = ""

    def share(self) -> str:
        """`40% (12 of 30)`."""
        return f"{self.wrong / self.answered:.0%} ({self.wrong} of {self.answered})"


def missed(learners: Sequence[Learner]) -> list[Missed]:
    """The questions that somebody answered, those that most had wrong first; of as
    many, the larger share first."""
    found = [
        _asked(row.lesson, asked, learners)
        for row in rows({})
        for asked in judgeable(row.lesson)
    ]
    answered = [each for each in found if each.answered]
    return sorted(answered, key=lambda each: (-each.wrong, -each.wrong / each.answered))


def _asked(lesson: str, asked: quizzes.Asked, learners: Sequence[Learner]) -> Missed:
    name = asked["question"]
    kept = (one.kept.get(lesson, {}).get("quiz", {}).get(name, {}) for one in learners)
    entries = [entry for entry in kept if quizzes.is_answered(asked, entry)]
    wrong = [entry for entry in entries if not quizzes.is_right(asked, entry)]
    if not wrong:
        return Missed(lesson, name, len(entries), 0)
    said = _most_chosen(asked, [entry["answer"] for entry in wrong])
    return Missed(lesson, name, len(entries), len(wrong), *said)


def _most_chosen(asked: quizzes.Asked, given: list) -> tuple[str, int, str]:
    """The wrong answer that most gave, how many did, and its feedback; of numbers their
    median."""
    if quizzes.kind_of(asked) == "number":
        unit = asked["number"].get("unit", "")
        said = f"median {median(given):.4g} {unit}".strip()
        return said, len(given), asked["feedback"]
    answer, count = Counter(given).most_common(1)[0]
    feedback = {each["answer"]: each["feedback"] for each in asked["answers"]}
    return answer, count, feedback[answer]


@dataclass(frozen=True)
class Tried:
    """An exercise: how many learners have it right, how many checked it and have not,
    and how often they did."""

    lesson: str
    name: str
    right: int
    trying: int
    checks: int


def tried(learners: Sequence[Learner]) -> list[Tried]:
    """The exercises that somebody checked and has not got right; most learners
    first."""
    found = []
    for name, lesson in listed().items():
        entries = [
            one.kept.get(lesson, {}).get("exercises", {}).get(name, {})
            for one in learners
        ]
        right = [entry.get("right") is True for entry in entries]
        wrong = [
            record.wrong_checks(entry)
            for entry, done in zip(entries, right, strict=True)
            if not done and record.wrong_checks(entry)
        ]
        if wrong:
            found.append(Tried(lesson, name, sum(right), len(wrong), sum(wrong)))
    return sorted(found, key=lambda each: (-each.trying, -each.checks))
