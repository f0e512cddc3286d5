"""Thirty submissions of a lesson, graded: solutions, stubs, mistakes, harm."""

import inspect
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.bench.table import Row
from tools.classroom import assignments, autograde
from tools.classroom.folder import ClassFolder, notebook_name
from tools.classroom.reading import CHOICE
from utils.exercises import lesson_exercises

LESSONS = ("03_weight_pruning", "13_transformers")
LEARNERS = 30
GOAL = 600.0  # seconds on two cores
HARM = {  # by what it does, the body of a function
    "endless": "while True:\n        pass",
    "memory": "return torch.zeros(30_000_000_000)",
    "exit": "import os\n    os._exit(0)",
    "fork": "import os\n    while True:\n        os.fork()",
    "kill": "import os\n    os.kill(os.getppid(), 9)",
}


def handed_in(
    notebook: NotebookNode, answers: Mapping[str, str], choice: str = ""
) -> NotebookNode:
    """A teacher's or learner's version with these in place of what is to be
    written."""
    for cell in notebook.cells:
        grade_id = cell.metadata.nbgrader.grade_id
        if grade_id in answers:
            cell.source = answers[grade_id]
        elif grade_id == CHOICE and choice:
            cell.source = f"{CHOICE} = {choice}"
    return notebook


def solutions(lesson: str) -> dict[str, str]:
    """A right answer to each exercise of a lesson, as a learner would write it."""
    return {
        name: inspect.cleandoc(next(iter(exercise.also_right.values())))
        for name, exercise in lesson_exercises(lesson).items()
    }


def harmful(lesson: str, way: str) -> dict[str, str]:
    """An answer to each exercise that does harm."""
    return {
        name: f"def {name}(*arguments):\n    {HARM[way]}"
        for name in lesson_exercises(lesson)
    }


def wrong(lesson: str) -> dict[str, str]:
    """An answer to each exercise that gives back what it is given first."""
    return {
        name: f"def {name}(*arguments):\n    return arguments[0]"
        for name in lesson_exercises(lesson)
    }


def class_of(folder: ClassFolder, lesson: str, learners: int) -> list[str]:
    """Lay submissions of a lesson: of five learners three have solved it, one has
    written nothing and one is wrong; the last ones do harm."""
    path = assignments.write(lesson, folder, folder.seed())
    assignments.release(lesson, assignments.configured(folder))
    name = f"{notebook_name(lesson)}.ipynb"
    ways = list(HARM)[: learners // 6]
    kinds = ["right", "right", "right", "stub", "wrong"]
    found = []
    for number in range(learners):
        kind = kinds[number % len(kinds)]
        if number >= learners - len(ways):
            kind = ways[number - learners + len(ways)]
        answers = {"right": solutions, "wrong": wrong, "stub": lambda _: {}}.get(
            kind, lambda lesson, kind=kind: harmful(lesson, kind)
        )(lesson)
        source = folder.path / "release" / lesson / name
        if kind == "right":
            source = path  # whose choice of the open task is good, too
        made = handed_in(nbformat.read(source, 4), answers)
        learner = f"{number:02}_{kind}".replace("_", "-")
        target = folder.submitted / learner / lesson / name
        target.parent.mkdir(parents=True)
        nbformat.write(made, target)
        found.append(learner)
    return found


def grading(threads: int) -> Iterator[Row]:
    """How long a class's submissions take, on so many cores."""
    for lesson in LESSONS:
        with tempfile.TemporaryDirectory() as place:
            folder = ClassFolder(Path(place))
            folder.lay_config()
            class_of(folder, lesson, LEARNERS)
            wanted = list(autograde.submissions(folder, [lesson], []))
            began = time.perf_counter()
            done = autograde.grade(folder, wanted, threads, trusted=False)
            took = time.perf_counter() - began
        points = {one.learner: one.points for one in done}
        full = sum(done[0].most.values())
        right = all(
            (points[one] == full) == one.endswith("right")
            and (points[one] == 0) != one.endswith("right")
            for one in points
        )
        yield Row(
            f"{lesson}: {len(done)} submissions graded, {threads} at once",
            [took],
            goal=f"{GOAL:.0f} s on two cores" + ("" if took <= GOAL else ": missed"),
            remarks="" if right and len(done) == LEARNERS else "WRONG: other points",
        )
