"""A class that never was: learners who do the course with the course's own functions,
by lot, so that their files are such as real ones."""

import contextlib
import functools
import os
import random
from collections.abc import Iterator
from pathlib import Path

from tools.printed import all_asked
from tools.web.asked import claimed
from utils import exercises, files, guesses, lab, progress, quizzes, record, tasks
from utils.capstone import openings
from utils.capstone.rules import Cost, points
from utils.guesses import Guess

LEARNERS = (
    "Ada Amina Anton Bela Carlos Chen Dora Elif Emil Fatima Femi Greta Hugo Ines Ivan"
    " Jana Kofi Lea Linh Mara Mateo Nils Noor Olga Pablo Rosa Sami Tuva Wei Zoe"
)


ASKED = all_asked()
HOMES = exercises.listed()


@functools.cache
def measured(lesson: str) -> dict[str, float]:
    """What the lesson's notebooks measured of each claim."""
    return claimed(lesson)


def quickly(path: Path, content: bytes) -> None:
    """Write without waiting for the disk."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


@contextlib.contextmanager
def unlocked(path: Path, patience: float = 0) -> Iterator[None]:
    """No lock: nobody else writes there."""
    yield


@contextlib.contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """A learner's kernel in that folder: what is done in it is kept there, and not
    carried safely down to the disk, which a test need not wait for."""
    folder.mkdir(parents=True, exist_ok=True)
    before, name = Path.cwd(), record.FILE
    rooms = (record, guesses, openings)
    os.chdir(folder)
    record.FILE = Path(name).name
    for room in rooms:
        room.write_atomically, room.alone = quickly, unlocked
    lab.forget()
    try:
        yield
    finally:
        record.save()
        lab.forget()
        record.FILE = name
        for room in rooms:
            room.write_atomically, room.alone = files.write_atomically, files.alone
        os.chdir(before)


def do_lesson(
    lesson: str, skill: float, lot: random.Random, *, panels: bool = False
) -> None:
    """Guess, claim, write exercises, answer the quiz and try the open task of a lesson;
    right as often as `skill` says. panels: answer in the quiz's own widgets, which
    takes longer."""
    record.begin(lesson)
    for question, (lab_name, asked) in ASKED.items():
        if lab_name == lesson and lot.random() < 0.9:
            guess(question, asked, lot)
    for statement, value in measured(lesson).items():
        # what machines differ in by a little
        lab.claim(statement, value * lot.uniform(0.98, 1.02), at_least=-1e99)
    for name, home in HOMES.items():
        if home == lesson:
            wrong = 0
            while lot.random() > skill and wrong < 6:
                wrong += 1
                lab._keep_wrong(name)
            if wrong < 5:
                record.note("exercises", name, {"right": True})
    answer_quiz(lesson, skill, lot, panels)
    if (exercises.LESSONS / lesson / "task.py").is_file() and lot.random() < 0.95:
        tasks.keep(lesson, lot.random() < 0.5 + skill / 2)


def guess(question: str, asked, lot: random.Random) -> None:
    """Guess around the middle of the range, and compare with what is measured."""
    one = Guess(question, asked.low, asked.high, asked.unit)
    wide = asked.high - asked.low
    one.lock(round(lot.triangular(asked.low, asked.high), 2))
    # the same for all but for a little, wherever it lies in the range
    place = random.Random(question).uniform(0.05, 0.95)
    with contextlib.redirect_stdout(None):
        one.compare(asked.low + wide * place * lot.choice([1, 1, 1, 1.01]))


def answer_quiz(lesson: str, skill: float, lot: random.Random, panels: bool) -> None:
    """Commit an answer to each question that can be judged."""
    for place, asked in enumerate(quizzes.read(lesson), 1):
        kind = quizzes.kind_of(asked)
        right = lot.random() < skill
        if kind == "choice":
            others = [each["answer"] for each in asked["answers"] if not each["right"]]
            best = quizzes.right_answer(asked)["answer"]
            entry = {"answer": best if right else lot.choice([*others, others[0]])}
        elif kind == "number":
            value = quizzes.own_measurement(lesson, asked)
            if value is None:
                continue
            typed = float(f"{value * (1 if right else 3):.3g}")
            entry = {"answer": typed, "measured": value}
        else:
            continue
        if panels:
            commit(quizzes.PANELS[kind](lesson, place, asked), entry)
        else:
            record.note("quiz", asked["question"], entry)


def commit(panel: quizzes.Question, entry: record.Entry) -> None:
    """Give that answer in a question's panel."""
    if isinstance(panel, quizzes.Choice):
        panel.options.value = entry["answer"]
    elif isinstance(panel, quizzes.Number):
        panel.field.value = str(entry["answer"])
    panel.button.click()


def do_capstone(skill: float, lot: random.Random) -> None:
    """Some scores, as the scorer keeps them."""
    for _ in range(lot.randint(1, 5)):
        cost = Cost(
            bytes=int(lot.uniform(30_000, 90_000)),
            speedup=lot.uniform(4, 8) + 8 * skill,
            accuracy=round(0.91 + 0.025 * lot.random() * (0.5 + skill / 2), 4),
        )
        kept = {"file": "mine.onnx", "when": "2026-11-27 10:00:00"}
        entry = kept | {"points": points(cost)} | vars(cost)
        openings.keep(openings.SCORES, entry)


def make(folder: Path, count: int = 30, seed: int = 0) -> list[str]:
    """A class in nbgrader's folder of what was collected: by lot who has come how far;
    the last has handed in nothing. Gives the names."""
    lot = random.Random(seed)
    lessons = [row.lesson for row in progress.rows({})]
    names = LEARNERS.split()[:count]
    for name in names[:-1]:
        far, skill = lot.choice([3, 5, 6, 6, 7, 7, 7, 8, 13]), lot.uniform(0.45, 0.95)
        with (
            at_work(folder / "submitted" / name / "labs"),
            contextlib.redirect_stdout(None),
        ):
            for lesson in lessons[:far]:
                do_lesson(
                    lesson,
                    skill,
                    lot,
                    panels=lesson == lessons[far - 1] and name == names[0],
                )
            if far > 12:
                do_capstone(skill, lot)
    (folder / "submitted" / names[-1]).mkdir(parents=True)
    return names
