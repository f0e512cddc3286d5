"""An author's way: a lesson is laid out, built and checked by the words of
CONTRIBUTING.md, in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import check_lesson, lesson, notebooks, syllabus
from utils import exercises
from utils.explorer.kinds import KINDS
from utils.layers import prunable
from utils.scores import SCORES, Scores, score

ROOT = Path(__file__).parents[1]
COPIED = ("lessons", "notebooks", "tests", "tools", "utils")
NEW = "98_a_walk"


@pytest.fixture
def copy(tmp_path) -> Path:
    """The project in another folder; its data are the same."""
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "browser")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    pages = (*ROOT.glob("*.md"), *ROOT.glob("*.cff"))
    for path in (*pages, ROOT / "pyproject.toml", ROOT / "LICENSE"):
        shutil.copy(path, tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data", target_is_directory=True)
    return tmp_path


def run(copy: Path, module: str, *words: str) -> str:
    """Run a tool in the copy, as `make` does; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"tools.{module}", *words],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(900)
@pytest.mark.skipif(os.name == "nt", reason="makes a link to the data")
def test_a_lesson_by_the_words_of_contributing(copy):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "`make lesson NAME=13_my_idea`" in text
    assert "`make check-lesson NAME=13_my_idea`" in text
    assert f"make check-lesson NAME={NEW}" in run(copy, "lesson", NEW)
    front, page = copy / "README.md", copy / "lessons" / "README.md"
    row = f"/{NEW}/README.md) | One question, which the lesson answers? | 1 | "
    assert row + "- |" in front.read_text(encoding="utf-8")
    assert f"| {NEW} | - | - | - |" in page.read_text(encoding="utf-8")

    said = run(copy, "check_lesson", NEW)
    lines = [line.split() for line in said.partition(f"\n{NEW}\n")[2].splitlines()]
    passed = [words[0] for words in lines if words[-1] == "passed"]
    assert passed == ["build", "files", "exercises", "notebook", "style"]
    assert (copy / "notebooks" / f"{NEW}.ipynb").is_file()
    assert len(list((copy / "lessons" / NEW / "figures").glob("*.png"))) == 2
    assert syllabus.read(copy / "lessons" / NEW).seconds
    assert row + "- |" not in front.read_text(encoding="utf-8")
    assert row in front.read_text(encoding="utf-8")


@pytest.mark.timeout(900)
@pytest.mark.skipif(os.name == "nt", reason="makes a link to the data")
def test_a_changed_figure_by_the_words_of_contributing(copy):
    run(copy, "lesson", NEW)
    folder = copy / "lessons" / NEW
    run(copy, "notebooks", NEW)
    before = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    text = (folder / "figures.py").read_text(encoding="utf-8")
    (folder / "figures.py").write_text(text.replace("Zeros in each layer", "Zeros"))
    run(copy, "notebooks", NEW)
    after = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    assert before.keys() == after.keys() == {"idea.svg", "layers.png", "weights.png"}
    changed = [name for name, content in before.items() if content != after[name]]
    assert changed == ["layers.png"]


def test_a_score_by_the_words_of_contributing(monkeypatch, cnn):
    """Added to SCORES, it is known by its name: to `score`, and to the explorer."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "`(model, batches) -> Scores`" in text and "`SCORES`" in text

    def mine(model, batches=()):
        return Scores({name: w * w for name, w in prunable(model).items()})

    monkeypatch.setitem(SCORES, "mine", mine)
    assert score("mine", cnn).keys() == prunable(cnn).keys()
    assert "mine" in KINDS["weights"].scores()
    with pytest.raises(ValueError, match="mine"):
        score("yours", cnn)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("13_my_idea", ""),
        ("my_idea", "'my_idea' is no name for a lesson: two digits, then words"),
        ("13_My_Idea", "is no name"),
        ("13_my idea", "is no name"),
        ("../13_x", "is no name"),
        ("13", "is no name"),
        ("", "is no name"),
        ("00_one", "lessons/00_one is there already"),
        ("01_new", "01 is taken by 01_two: take a free number, as 02."),
    ],
)
def test_a_name_that_will_not_do_is_refused_in_a_sentence(name, said):
    problem = lesson.name_problem(name, ["00_one", "01_two"])
    assert said in problem and bool(said) == bool(problem)


def test_nothing_is_written_under_a_name_that_will_not_do(monkeypatch, tmp_path):
    monkeypatch.setattr(lesson, "LESSONS", tmp_path)
    with pytest.raises(ValueError, match="is no name for a lesson"):
        lesson.lay_out("..")
    assert not list(tmp_path.iterdir())


def test_the_template_is_named_after_its_lesson_throughout():
    for path in lesson.TEMPLATE.glob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert text.count("99") == text.count("99_my_idea") + text.count(
            "99 My idea"
        ) + text.count("sparsity_99") + text.count("lab 99"), path.name
        assert "99" not in lesson.in_its_name(text, "13_a_plan")


def test_the_tests_of_one_lesson_are_chosen_by_what_its_folder_holds(
    monkeypatch, tmp_path
):
    chosen = []
    monkeypatch.setattr(check_lesson, "LESSONS", tmp_path)
    monkeypatch.setattr(check_lesson, "pytest", lambda *words: chosen.append(words[-1]))
    assert "study" not in check_lesson.checks_of("07_x")
    (tmp_path / "07_x").mkdir()
    (tmp_path / "07_x" / "study.py").write_text("@study\ndef one():\n    ...\n" * 2)
    assert list(check_lesson.checks_of("07_x")) == list(check_lesson.CHECKS)
    check_lesson.check_study("07_x")
    monkeypatch.setattr(exercises, "listed", lambda: {"f": "07_x", "g": "08_y"})
    check_lesson.check_exercises("07_x")
    monkeypatch.setattr(notebooks, "lessons", lambda: ["06_w", "07_x", "08_y"])
    check_lesson.check_files("07_x")
    assert chosen == ["07_x or one or one", "07_x or f", "not 06_w and not 08_y"]
    assert "no exercise" in check_lesson.check_exercises("09_z")


def test_a_name_may_hold_the_number_of_the_template():
    text = lesson.in_its_name("99 My idea, 99_my_idea, sparsity_99", "13_99_nets")
    assert text == "13 99 nets, 13_99_nets, sparsity_13"


def test_a_failed_check_is_told_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "is_built", lambda lesson: True)
    checks = {"one": lambda lesson: "", "two": lambda lesson: "what went wrong\n"}
    monkeypatch.setattr(check_lesson, "CHECKS", checks)
    assert not check_lesson.check("07_x")
    first, title, *rest = capsys.readouterr().out.splitlines()
    assert (first, title) == ("what went wrong", "07_x")
    assert [line.split()[0::3] for line in rest] == [
        ["one", "passed"],
        ["two", "FAILED"],
    ]


def test_nothing_is_checked_when_the_notebook_can_not_be_built(monkeypatch, capsys):
    def fail(lesson: str) -> None:
        raise RuntimeError("a claim did not hold")

    monkeypatch.setattr(notebooks, "build", fail)
    monkeypatch.setattr(notebooks, "is_built", lambda lesson: False)
    assert not check_lesson.check("07_x")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["a claim did not hold", "07_x"]
    assert len(lines) == 3 and lines[2].startswith("build")


def test_every_place_that_contributing_names_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:utils|tools|data|lessons)/[\w./]+)`", text)
    places = [name for name in named if "NN_name" not in name]
    assert len(places) > 20
    assert not [name for name in places if not (ROOT / name).exists()]
