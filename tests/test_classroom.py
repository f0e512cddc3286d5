"""Handing out, collecting and grading: what a class's commands do to files."""

import ast
import json
import os
import re
import time
from datetime import datetime

import nbformat
import pytest
from nbgrader.nbgraderformat import MetadataValidator

from tools.bench import grading
from tools.classroom import assignments, autograde, collect, feedback, folder
from tools.classroom.assignments import assignment, points_of, with_exercises
from tools.classroom.folder import ClassFolder, notebook_name
from tools.classroom.grades import Grades
from tools.start.files import StartError
from utils.exercises import lesson_exercises, listed

LESSON = "00_start_here"
EXERCISE = "largest_safe_sparsity"
each_lesson = pytest.mark.parametrize("lesson", with_exercises())


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> ClassFolder:
    """A class for which nbgrader made a release of one lesson."""
    path = tmp_path_factory.mktemp("class")
    assignments.make([LESSON, "--folder", str(path)])
    return ClassFolder(path)


# ------------------------------------------------------------------------- to hand out


def test_every_lesson_with_exercises_has_an_assignment():
    assert set(with_exercises()) == set(listed().values())


@each_lesson
def test_an_assignment_is_nbgraders_and_the_same_each_time(lesson):
    made = assignment(lesson, "a")
    MetadataValidator().validate_nb(made)
    nbformat.validate(made)
    assert nbformat.writes(made) == nbformat.writes(assignment(lesson, "a"))
    tests = [c for c in made.cells if c.metadata.nbgrader.grade]
    points = {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.points for c in tests}
    assert points == {f"test_{name}": n for name, n in points_of(lesson).items()}
    for name in lesson_exercises(lesson):
        [stub] = [c for c in made.cells if c.metadata.nbgrader.grade_id == name]
        [function] = [
            node
            for node in ast.parse(stub.source).body
            if isinstance(node, ast.FunctionDef) and node.name == name
        ]
        assert ast.get_docstring(function)


def test_what_is_handed_out_holds_no_solution_and_no_hidden_test(course):
    name = notebook_name(LESSON)
    text = (course.path / "release" / LESSON / f"{name}.ipynb").read_text()
    assert course.seed() not in text
    assert not re.search("SOLUTION|HIDDEN|hidden_test", text)
    cells = nbformat.reads(text, 4).cells
    [stub] = [c for c in cells if c.metadata.nbgrader.grade_id == EXERCISE]
    assert stub.source.rstrip().endswith("    ...")
    source = course.path / "source" / LESSON / f"{name}.ipynb"
    assert course.seed() in source.read_text()


def test_settings_of_the_teachers_own_and_the_seed_stay(course):
    seed, config = course.seed(), course.path / "nbgrader_config.py"
    config.write_text(folder.CONFIG + "# mine\n")
    course.lay_config()
    assert config.read_text().endswith("# mine\n") and course.seed() == seed
    assert (course.path / "hidden_seed.txt").stat().st_mode & 0o077 == 0


def test_points_for_what_is_not_there_are_refused(monkeypatch):
    facts = assignments.syllabus.read(assignments.LESSONS / LESSON)
    for points, said in (
        ({"nothing": 1}, "gives points to nothing"),
        ({EXERCISE: 4}, ""),
    ):
        other = facts.__class__(**{**vars(facts), "points": points})
        monkeypatch.setattr(assignments.syllabus, "read", lambda _, other=other: other)
        if said:
            with pytest.raises(ValueError, match=said):
                points_of(LESSON)
        else:
            assert points_of(LESSON)[EXERCISE] == 4


# ------------------------------------------------------------------------- to collect


def lay(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_notebooks_and_records_are_taken_and_nothing_else(tmp_path):
    source, target = tmp_path / "all", ClassFolder(tmp_path / "class")
    lay(source / "anna" / "03_weight_pruning.ipynb", "{}")
    lay(source / "anna" / "03_weight_pruning" / f"{notebook_name(LESSON)}.ipynb", "{}")
    lay(source / "anna" / "my_progress.json", "{}")
    lay(source / "anna" / "03_weight_pruning" / "my_guesses.json", "{}")
    lay(source / "anna" / "my_capstone" / "scores.json", "{}")
    lay(source / "anna" / "diary.txt", "mine")
    lay(source / "anna" / ".hidden" / "my_progress.json", "{}")
    lay(source / "note.txt", "")
    _, lines = collect.collect(source, target)
    found = {
        str(path.relative_to(target.submitted))
        for path in target.submitted.rglob("*")
        if path.is_file()
    }
    assert found == {
        "anna/03_weight_pruning/03_weight_pruning.ipynb",
        f"anna/{LESSON}/{notebook_name(LESSON)}.ipynb",
        "anna/my_progress.json",
        "anna/03_weight_pruning/my_guesses.json",
        "anna/my_capstone/scores.json",
    }
    assert lines == ["note.txt: no learner's folder, left out."]


def test_an_odd_file_is_named_and_costs_nobody_else_anything(tmp_path):
    source, target = tmp_path / "all", ClassFolder(tmp_path / "class")
    secret = lay(tmp_path / "secret.json", '{"password": 1}')
    name = f"{notebook_name(LESSON)}.ipynb"
    (source / "link").mkdir(parents=True)
    (source / "link" / "my_progress.json").symlink_to(secret)
    (source / "link" / LESSON).symlink_to(tmp_path)
    (source / "linked").symlink_to(tmp_path)
    os.mkfifo(source / "link" / name)
    lay(source / "broken" / name, "{ not json")
    with lay(source / "huge" / name, "").open("r+b") as file:
        file.truncate(50_000_000)
    lay(source / "deep" / name, "[" * 100_000)
    lay(source / "good" / name, "{}")
    _, lines = collect.collect(source, target)
    found = [path for path in target.submitted.rglob("*") if path.is_file()]
    assert found == [target.submitted / "good" / LESSON / name]
    said = "\n".join(lines)
    for words in ("link, which is not followed", "no plain file", "damaged"):
        assert words in said
    assert "too large" in said and "deep" in said and "linked: no learner" in said


def test_a_newer_file_is_taken_and_the_one_before_is_kept(tmp_path):
    source, target = tmp_path / "all", ClassFolder(tmp_path / "class")
    name = f"{notebook_name(LESSON)}.ipynb"
    own = lay(source / "anna" / name, '{"a": 1}')
    kept = target.submitted / "anna" / LESSON / name
    assert collect.collect(source, target) == (1, [])
    assert collect.collect(source, target) == (1, [])  # the same: nothing to say
    own.write_text('{"a": 2}')
    later = time.time() + 100
    os.utime(own, (later, later))
    [said] = collect.collect(source, target)[1]
    assert "newer; the one before is" in said and kept.read_text() == '{"a": 2}'
    [before] = (target.path / "replaced").rglob("*.ipynb")
    assert before.read_text() == '{"a": 1}'
    own.write_text('{"a": 3}')
    os.utime(own, (0, 0))
    [said] = collect.collect(source, target)[1]
    assert "is newer, so it stays" in said and kept.read_text() == '{"a": 2}'


# --------------------------------------------------------------------------- to grade


def graded(learner: str = "anna", points: float = 2, **facts) -> feedback.Graded:
    part = {"name": EXERCISE, "points": points, "said": "right."} | facts
    return feedback.Graded(learner, LESSON, [part], {EXERCISE: 2.0}, [], "mark", 0.1)


def test_points_are_in_nbgraders_gradebook_and_a_persons_own_stay(course):
    when = datetime(2026, 1, 1)
    with Grades(course.gradebook) as grades:
        grades.keep(graded("anna"), when)
        grades.keep(graded("berta", points=0), when)
        name = notebook_name(LESSON)
        grade = grades.book.find_grade(f"test_{EXERCISE}", name, LESSON, "berta")
        grade.manual_score = 1.5
        grades.book.db.commit()
        grades.keep(graded("berta", points=0), when)
        assert grades.scores(["anna", "berta"], LESSON) == {"anna": 2, "berta": 1.5}


def test_a_lesson_that_the_gradebook_does_not_know_is_said(course, tmp_path):
    unknown = feedback.Graded("anna", "03_weight_pruning", [], {}, [], "", 0)
    with (
        Grades(course.gradebook) as grades,
        pytest.raises(StartError, match="make assignments ARGS=03_weight_pruning"),
    ):
        grades.keep(unknown, datetime(2026, 1, 1))
    with pytest.raises(StartError, match="`make assignments` makes it"):
        Grades(tmp_path / "gradebook.db")


def test_what_is_a_learners_is_shown_as_text():
    evil = "<script>alert(1)</script>"
    page = feedback.page(graded(said=evil, shown=evil, drawing=[evil]))
    assert "<script" not in page and page.count("&lt;script&gt;") == 3
    assert "default-src 'none'" in page


def test_what_is_graded_is_graded_again_only_when_it_has_changed(tmp_path):
    target = ClassFolder(tmp_path)
    place = tmp_path / "submitted" / "anna" / LESSON
    path = lay(place / f"{notebook_name(LESSON)}.ipynb", "{}")
    [one] = autograde.submissions(target, [LESSON], [])
    assert not autograde.is_graded(target, one, "seed")
    record = autograde.record_path(target, "anna", LESSON)
    lay(record, json.dumps({"mark": one.mark("seed")}))
    assert autograde.is_graded(target, one, "seed")
    assert not autograde.is_graded(target, one, "another")
    path.write_text('{"cells": []}')
    assert not autograde.is_graded(target, one, "seed")


def test_links_in_what_was_handed_in_are_not_followed(tmp_path):
    target, other = ClassFolder(tmp_path / "class"), tmp_path / "other"
    name = f"{notebook_name(LESSON)}.ipynb"
    lay(other / LESSON / name, "{}")
    target.submitted.mkdir(parents=True)
    (target.submitted / "anna").symlink_to(other)
    (target.submitted / "berta").mkdir()
    (target.submitted / "berta" / LESSON).symlink_to(other / LESSON)
    lay(target.submitted / "clara" / LESSON / "x", "")
    (target.submitted / "clara" / LESSON / name).symlink_to(other / LESSON / name)
    assert list(autograde.submissions(target, [LESSON], [])) == []
    with pytest.raises(StartError, match="zoe handed nothing in"):
        list(autograde.submissions(target, [LESSON], ["zoe"]))


@pytest.mark.skipif(bool(autograde.cage.missing()), reason="no cage here")
def test_a_class_is_graded_and_harm_costs_nobody_else_anything(course, capsys):
    name = f"{notebook_name(LESSON)}.ipynb"
    for way, answers in {
        "right": grading.solutions(LESSON),
        "stub": {},
        "wrong": grading.wrong(LESSON),
        **{way: grading.harmful(LESSON, way) for way in ("exit", "fork", "kill")},
    }.items():
        handed = nbformat.read(course.path / "release" / LESSON / name, 4)
        target = course.submitted / way / LESSON / name
        target.parent.mkdir(parents=True)
        nbformat.write(grading.handed_in(handed, answers), target)
    where = ["--folder", str(course.path), "--lesson", LESSON, "--jobs", "1"]
    autograde.command(where)
    printed = capsys.readouterr().out
    assert f"right {LESSON}: 2 of 2" in printed
    for way in ("stub", "wrong", "exit", "fork", "kill"):
        assert f"{way} {LESSON}: 0 of 2" in printed
    kinds = ["right", "stub", "wrong", "exit", "fork", "kill"]
    with Grades(course.gradebook) as grades:
        assert [*grades.scores(kinds, LESSON).values()] == [2, 0, 0, 0, 0, 0]
    told = "".join(
        path.read_text() for path in (course.path / "feedback").rglob("*.html")
    )
    for words in ("right.", "not written yet", "ended at once", "Operation not perm"):
        assert words in told
    notebook = course.path / "autograded" / "right" / LESSON / name
    assert EXERCISE in str(nbformat.read(notebook, 4).cells[-1].outputs)
    autograde.command(where)
    assert "6 submissions are graded already" in capsys.readouterr().out


def test_without_a_cage_nothing_is_graded_unless_it_is_trusted(monkeypatch, tmp_path):
    monkeypatch.setattr(autograde.cage, "missing", lambda: "is Windows")
    with pytest.raises(StartError, match=r"Nothing is graded.*here is Windows"):
        autograde.command(["--folder", str(tmp_path)])
    with pytest.raises(StartError, match="Nothing was handed in"):
        autograde.command(["--folder", str(tmp_path), "--trusted"])
