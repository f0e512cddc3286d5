"""Make nbgrader assignments of the lessons' exercises and open tasks, in the teacher's
folder: `make assignments`; some lessons only:
`make assignments ARGS=03_weight_pruning`.

Nothing of an exercise is written here: prose and stub are the lab's, the check is the
lab's, the hidden test is the same table with other numbers, the solution is the first
of the ways that the lesson lists, and points are those of lesson.toml.
"""

import argparse
import ast
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from tools import syllabus
from tools.classroom import reading
from tools.classroom.folder import (
    ClassFolder,
    add_folder_option,
    chosen_folder,
    chosen_lessons,
    find_own_programs,
    notebook_name,
)
from tools.running import run
from tools.start.files import ROOT, StartError
from utils import exercises
from utils.exercises import LESSONS, Exercise
from utils.files import write_atomically

POINTS = {"exercise": 2.0, "task": 3.0}  # where lesson.toml says nothing else
HEAD = """\
{heading}: assignment

Write your answers where `...` stands, and run every cell. A check tells you what is \
wrong, as often as you like; for the points other numbers are tried, too. Your answers \
in the lab's own notebook count where this one is empty. {points:g} points in all."""
TEST = """\
written = {name}
{name} = check({name})
### BEGIN HIDDEN TESTS
from utils.hidden import hidden_test

hidden_test(written, "{seed}")
### END HIDDEN TESTS"""
CHOICE = """\
my_choice = (  # {such}
    ### BEGIN SOLUTION
    exercises.load("{lesson}", "task").TASK.reference
    ### END SOLUTION
)"""
TASK_TEST = """\
decide("{lesson}", my_choice)
### BEGIN HIDDEN TESTS
from utils.hidden import points_reached

points_reached("{lesson}", my_choice, {points:g})
### END HIDDEN TESTS"""


def with_exercises() -> list[str]:
    """The lessons that have exercises, in order."""
    return sorted(set(exercises.listed().values()))


def points_of(lesson: str) -> dict[str, float]:
    """The points of each exercise of a lesson, and of its open task under `my_choice`.

    Raises:
        ValueError: lesson.toml gives points to something that is not there.
    """
    given = dict(syllabus.read(LESSONS / lesson).points)
    each = {"exercise": given.pop("exercise", POINTS["exercise"])}
    each["task"] = given.pop("task", POINTS["task"])
    names = list(exercises.lesson_exercises(lesson))
    if unknown := set(given) - set(names):
        raise ValueError(
            f"lessons/{lesson}/lesson.toml gives points to {', '.join(unknown)}; give"
            f" them to exercise, task or one of {', '.join(names)}."
        )
    found = {name: float(given.get(name, each["exercise"])) for name in names}
    if (LESSONS / lesson / "task.py").is_file():
        found[reading.CHOICE] = float(each["task"])
    return found


# ------------------------------------------------------------------------------ a cell


def markdown(text: str, grade_id: str) -> NotebookNode:
    """Prose that a learner's copy cannot change."""
    return _marked(v4.new_markdown_cell(text), grade_id, locked=True)


def code(text: str, grade_id: str, points: float | None = None) -> NotebookNode:
    """Code that a learner's copy cannot change; with points it is a test."""
    cell = _marked(v4.new_code_cell(text), grade_id, locked=True)
    if points is not None:
        cell.metadata.nbgrader |= {"grade": True, "points": points}
    return cell


def solution(text: str, grade_id: str) -> NotebookNode:
    """Where the learner writes; what is between the marks is not handed out."""
    return _marked(v4.new_code_cell(text), grade_id, solution=True)


def _marked(cell: NotebookNode, grade_id: str, **facts: bool) -> NotebookNode:
    said = {"grade": False, "locked": False, "solution": False, "task": False} | facts
    said |= {"grade_id": grade_id, "schema_version": 3, "cell_type": cell.cell_type}
    cell.metadata = NotebookNode(nbgrader=NotebookNode(said))
    return cell


# ------------------------------------------------------------------------ an assignment


def lab_cells(lesson: str) -> list[NotebookNode]:
    """The cells of a lesson's notebooks, as they are built from its sources."""
    return [
        cell
        for name in (lesson, f"{lesson}_further")
        if (path := ROOT / "notebooks" / f"{name}.ipynb").is_file()
        for cell in nbformat.read(path, 4).cells
    ]


def assignment(lesson: str, seed: str) -> NotebookNode:
    """The teacher's version of a lesson's assignment: the same for the same seed."""
    points, cells = points_of(lesson), lab_cells(lesson)
    heading = syllabus.read(LESSONS / lesson).heading
    made = [markdown(HEAD.format(heading=heading, points=sum(points.values())), "head")]
    made.append(code(imports(cells), "imports"))
    for name, exercise in exercises.lesson_exercises(lesson).items():
        prose, stub = asked(cells, lambda node, name=name: _is_stub_of(node, name))
        made.append(markdown(prose, f"about_{name}"))
        made.append(solution(solved(stub, exercise), name))
        test = TEST.format(name=name, seed=seed)
        made.append(code(test, f"test_{name}", points[name]))
    if reading.CHOICE in points:
        made += _task(lesson, cells, points[reading.CHOICE])
    for number, cell in enumerate(made):
        cell.id = f"assignment{lesson[:2]}-{number:03d}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return v4.new_notebook(cells=made, metadata=metadata)


def _task(
    lesson: str, cells: list[NotebookNode], points: float
) -> Iterator[NotebookNode]:
    prose, text = asked(cells, lambda node: reading.CHOICE in reading.binds(node))
    _, _, such = text.partition("\n")[0].partition("#")
    choice = CHOICE.format(lesson=lesson, such=such.strip() or "see above")
    yield markdown(prose, "about_my_choice")
    yield solution(choice, reading.CHOICE)
    test = TASK_TEST.format(lesson=lesson, points=points)
    yield code(test, f"test_{reading.CHOICE}", points)


def imports(cells: list[NotebookNode]) -> str:
    """All that the notebooks import, each once."""
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    found = [
        one.text
        for one in reading.statements(sources)[0]
        if isinstance(one.node, (ast.Import, ast.ImportFrom))
    ]
    more = "from utils import exercises", "import numpy as np"
    return "\n".join(dict.fromkeys([*found, *more]))


def asked(
    cells: list[NotebookNode], wanted: Callable[[ast.stmt], bool]
) -> tuple[str, str]:
    """The code cell with a statement that is wanted, and the prose before it.

    Raises:
        ValueError: there is none.
    """
    prose = ""
    for cell in cells:
        if cell.cell_type == "markdown":
            prose = cell.source
        elif any(wanted(one.node) for one in reading.statements([cell.source])[0]):
            return prose, cell.source
    raise ValueError("a lab asks for an exercise of which it has no stub.")


def _is_stub_of(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == name


def solved(stub: str, exercise: Exercise) -> str:
    """The stub's cell with the first of the lesson's ways to write it, between the
    marks that nbgrader takes out."""
    way = textwrap.dedent(next(iter(exercise.also_right.values())))
    [wanted] = [n for n in ast.parse(way).body if isinstance(n, ast.FunctionDef)]
    stub_node = next(
        node for node in ast.parse(stub).body if _is_stub_of(node, exercise.name)
    )
    assert isinstance(stub_node, ast.FunctionDef)
    wanted.args, wanted.body[:0] = _arguments(stub_node, wanted), []
    body = textwrap.indent("\n".join(map(ast.unparse, wanted.body)), " " * 4)
    head = stub.splitlines()[: stub_node.body[0].end_lineno]
    lines = "    ### BEGIN SOLUTION", body, "    ### END SOLUTION"
    return "\n".join([*head, *lines])


def _arguments(stub: ast.FunctionDef, way: ast.FunctionDef) -> ast.arguments:
    """The stub's arguments; where the way names them otherwise it says so first."""
    names = [one.arg for one in stub.args.args]
    own = [one.arg for one in way.args.args]
    pairs = [(a, b) for a, b in zip(own, names, strict=True) if a != b]
    way.body[:0] = [ast.parse(f"{a} = {b}").body[0] for a, b in pairs]
    return stub.args


# ------------------------------------------------------------------------- the command


def write(lesson: str, folder: ClassFolder, seed: str) -> Path:
    """Write the teacher's version; its path."""
    name = notebook_name(lesson)
    path = folder.path / "source" / lesson / f"{name}.ipynb"
    write_atomically(path, (nbformat.writes(assignment(lesson, seed)) + "\n").encode())
    return path


def configured(folder: ClassFolder) -> Config:
    """nbgrader's settings of this class."""
    find_own_programs()
    config = PyFileConfigLoader("nbgrader_config.py", str(folder.path)).load_config()
    config.CourseDirectory.root = str(folder.path)
    config.NbGrader.logfile = ""
    return config


def release(lesson: str, config: Config) -> None:
    """Have nbgrader make the learners' version, and its entries in the gradebook.

    Raises:
        StartError: it refuses; says why.
    """
    directory = CourseDirectory(config=config)
    told = NbGraderAPI(directory, config=config).generate_assignment(lesson)
    if not told["success"]:
        why = str(told.get("error") or told.get("log") or "").strip().splitlines()
        raise StartError(
            f"nbgrader makes no release of {lesson}: {(why or ['it says nothing'])[-1]}"
        )


def make(arguments: list[str] | None = None) -> None:
    """What the command does."""
    parser = argparse.ArgumentParser(prog="make assignments", description=__doc__)
    parser.add_argument("lessons", nargs="*", help="default: all with exercises")
    add_folder_option(parser)
    options = parser.parse_args(arguments)
    folder, wanted = chosen_folder(options), options.lessons
    lessons = chosen_lessons(wanted, with_exercises())
    folder.lay_config()
    config, seed = configured(folder), folder.seed()
    for lesson in lessons:
        write(lesson, folder, seed)
        release(lesson, config)
        points = points_of(lesson)
        print(f"{lesson}: {len(points)} parts, {sum(points.values()):g} points")
    print(f"Hand out what is in {folder.path / 'release'}.")


if __name__ == "__main__":
    run(make)
