"""Laying the notebooks: a learner's file is never taken."""

import errno
import json
import os
import threading
from pathlib import Path

import nbformat
import pytest

from tests.conftest import PROJECT
from tests.strategies import NO_FILES
from tools.start import workspace
from tools.start.files import StartError
from utils.files import DamagedFileError

NAME = "01_first.ipynb"


def notebook(text: str, outputs: str = "") -> bytes:
    """A notebook with one cell, run where there are `outputs`, which change the file
    and not its source."""
    cell = {
        "cell_type": "code",
        "metadata": {"execution": {"iopub.execute_input": outputs}} if outputs else {},
        "source": [text],
        "outputs": [outputs] if outputs else [],
        "execution_count": 3 if outputs else None,
    }
    return json.dumps({"cells": [cell], "nbformat": 4}, indent=1).encode() + b"\n"


class Folders:
    """A course folder with one notebook, and the workspace it is laid into."""

    def __init__(self, root: Path):
        self.source, self.workspace = root / "notebooks", root / "workspace"
        self.source.mkdir()
        self.publish(notebook("v1"))

    def publish(self, content: bytes) -> None:
        (self.source / NAME).write_bytes(content)

    def lay(self) -> list[str]:
        return workspace.lay_notebooks(self.source, self.workspace)

    def edit(self, content: bytes, name: str = NAME) -> None:
        (self.workspace / name).write_bytes(content)

    def held(self) -> dict[str, bytes]:
        return {
            path.name: path.read_bytes()
            for path in sorted(self.workspace.glob("*.ipynb"))
        }


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


def test_a_first_start_lays_everything_and_a_second_changes_nothing(folders):
    assert folders.lay() == []
    assert folders.held() == {NAME: notebook("v1")}
    before = (folders.workspace / NAME).stat().st_mtime_ns
    assert folders.lay() == []
    assert (folders.workspace / NAME).stat().st_mtime_ns == before


def test_what_is_laid_shows_no_result(folders):
    folders.publish(notebook("v1", "the answer"))
    folders.lay()
    assert folders.held() == {NAME: notebook("v1")}


def test_the_courses_notebooks_are_laid_without_any_output(tmp_path):
    workspace.lay_notebooks(PROJECT / "notebooks", tmp_path)
    laid = sorted(tmp_path.glob("*.ipynb"))
    assert len(laid) == len(list((PROJECT / "notebooks").glob("*.ipynb"))) >= 13
    for path in laid:
        original = nbformat.read(PROJECT / "notebooks" / path.name, as_version=4)
        found = nbformat.read(path, as_version=4)
        nbformat.validate(found)
        assert [c.source for c in found.cells] == [c.source for c in original.cells]
        code = [cell for cell in found.cells if cell.cell_type == "code"]
        assert not any(c.outputs or c.execution_count for c in code)


def test_an_untouched_older_copy_with_outputs_is_replaced(folders):
    older = notebook("v1", "the answer")  # as an earlier version of the course laid it
    folders.workspace.mkdir()
    folders.edit(older)
    record = {"laid": {NAME: workspace.sha256(older)}, "offered": {}}
    (folders.workspace / ".laid.json").write_text(json.dumps(record))
    (line,) = folders.lay()
    assert "you had not changed it" in line
    assert folders.held() == {NAME: notebook("v1")}


def test_no_temporary_file_stays(folders):
    folders.lay()
    assert sorted(path.name for path in folders.workspace.iterdir()) == [
        ".laid.json",
        ".laid.lock",
        NAME,
    ]


def test_a_learners_file_is_kept_and_a_new_version_is_laid_beside_it_once(folders):
    folders.lay()
    folders.edit(notebook("mine"))
    assert folders.lay() == []
    folders.publish(notebook("v2"))
    (line,) = folders.lay()
    assert "01_first.new.ipynb" in line
    assert folders.held() == {
        NAME: notebook("mine"),
        "01_first.new.ipynb": notebook("v2"),
    }
    assert folders.lay() == []
    (folders.workspace / "01_first.new.ipynb").unlink()
    assert folders.lay() == []


def test_an_unchanged_copy_is_updated(folders):
    folders.lay()
    folders.publish(notebook("v2"))
    assert len(folders.lay()) == 1
    assert folders.held() == {NAME: notebook("v2")}


def test_an_untouched_new_version_is_replaced_by_the_next(folders):
    folders.lay()
    folders.edit(notebook("mine"))
    for version in ("v2", "v3"):
        folders.publish(notebook(version))
        assert len(folders.lay()) == 1
    assert folders.held() == {
        NAME: notebook("mine"),
        "01_first.new.ipynb": notebook("v3"),
    }


def test_a_new_version_that_the_learner_works_in_is_kept_too(folders):
    folders.lay()
    folders.edit(notebook("mine"))
    folders.publish(notebook("v2"))
    folders.lay()
    folders.edit(notebook("mine too"), "01_first.new.ipynb")
    folders.publish(notebook("v3"))
    (line,) = folders.lay()
    assert "01_first.new-2.ipynb" in line
    assert list(folders.held().values()) == [
        notebook("mine"),
        notebook("v3"),
        notebook("mine too"),
    ]


def test_other_outputs_alone_are_no_new_version(folders):
    folders.lay()
    folders.edit(notebook("v1", "run by the learner"))
    folders.publish(notebook("v1", "built again"))
    assert folders.lay() == []
    assert folders.held() == {NAME: notebook("v1", "run by the learner")}


def test_a_file_that_was_there_before_the_first_start_is_kept(folders):
    folders.workspace.mkdir()
    folders.edit(b"not even a notebook")
    assert len(folders.lay()) == 1
    assert folders.held()[NAME] == b"not even a notebook"


def test_a_deleted_file_is_laid_again(folders):
    folders.lay()
    (folders.workspace / NAME).unlink()
    folders.lay()
    assert folders.held() == {NAME: notebook("v1")}


def test_pages_are_laid_with_their_figures_and_lead_to_the_learners_notebooks(
    folders, tmp_path
):
    lessons = tmp_path / "lessons"
    for lesson in ("01_first", "02_second"):
        (lessons / lesson / "figures").mkdir(parents=True)
        text = (
            f"# {lesson}\n[lab](../../notebooks/{lesson}.ipynb)"
            " [other](../01_first/README.md) ![a](figures/a.png)"
        )
        (lessons / lesson / "README.md").write_text(text)
        (lessons / lesson / "figures" / "a.png").write_bytes(lesson.encode())
        (lessons / lesson / "quiz.json").write_text("[]")  # stays where it is
    folders.lay()
    workspace.lay_pages(lessons, folders.workspace)
    laid = folders.workspace / "lessons"
    assert (
        sorted(path.name for path in laid.glob("**/*") if path.is_file())
        == ["README.md"] * 2 + ["a.png"] * 2
    )
    page = laid / "01_first" / "README.md"
    assert (
        page.read_text()
        == "# 01_first\n[lab](../../01_first.ipynb) [other](../01_first/README.md)"
        " ![a](figures/a.png)"
    )
    assert (laid / "02_second" / "figures" / "a.png").read_bytes() == b"02_second"
    before = page.stat().st_mtime_ns
    workspace.lay_pages(lessons, folders.workspace)
    assert page.stat().st_mtime_ns == before
    page.write_text("my notes")
    for lesson in ("01_first", "02_second"):
        (lessons / lesson / "README.md").write_text("newer")
    workspace.lay_pages(lessons, folders.workspace)
    assert (page.read_text(), (laid / "02_second" / "README.md").read_text()) == (
        "my notes",
        "newer",
    )
    assert folders.lay() == []  # the notebooks' record is as it was


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b'{"laid": 3}', b"\xff\xfe", b"[" * 100_000, None],
    ids=lambda damage: str(damage)[:20],
)
def test_a_damaged_record_loses_nothing(folders, damage):
    folders.lay()
    folders.edit(notebook("mine"))
    record = folders.workspace / ".laid.json"
    record.unlink() if damage is None else record.write_bytes(damage)
    folders.publish(notebook("v2"))
    folders.lay()
    assert folders.held() == {
        NAME: notebook("mine"),
        "01_first.new.ipynb": notebook("v2"),
    }
    assert folders.lay() == []


def unreadable(path: Path) -> None:
    path.write_bytes(notebook("mine"))
    path.chmod(0)


STRANGE = {
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "deep in a cell": lambda path: path.write_bytes(
        b'{"cells": [{"cell_type": ' + b"[" * 500 + b"]" * 500 + b', "source": ""}]}'
    ),
    "huge": lambda path: (path.touch(), os.truncate(path, 60 * 10**9)),
    **{kind: NO_FILES[kind] for kind in ("pipe", "folder", "circle", "device")},
    "unreadable": unreadable,
}


@pytest.mark.parametrize("kind", STRANGE)
def test_whatever_lies_where_a_notebook_should_is_the_learners(folders, kind):
    folders.workspace.mkdir()
    path = folders.workspace / NAME
    STRANGE[kind](path)
    before = path.lstat()
    (line,) = folders.lay()
    assert "yours stays" in line and folders.lay() == []
    after = path.lstat()
    assert (before.st_ino, before.st_size) == (after.st_ino, after.st_size)
    beside = folders.workspace / "01_first.new.ipynb"
    assert beside.read_bytes() == notebook("v1")


def test_a_notebook_of_the_course_that_cannot_be_read_is_said(folders):
    (folders.source / NAME).unlink()
    (folders.source / NAME).symlink_to("/dev/zero")
    with pytest.raises(DamagedFileError, match=r"01_first\.ipynb cannot be.*fetch"):
        folders.lay()


@pytest.mark.parametrize("wrong", ["~nosuch/x", "circle"])
def test_a_workspace_that_leads_nowhere_is_one_sentence(tmp_path, monkeypatch, wrong):
    if wrong == "circle":
        (tmp_path / wrong).symlink_to(tmp_path / wrong)
        wrong = str(tmp_path / wrong)
    monkeypatch.setenv("PRUNING_WORKSPACE", wrong)
    with pytest.raises(StartError, match=r"PRUNING_WORKSPACE=.*leads nowhere"):
        workspace.workspace_folder()


def test_a_file_in_the_place_of_the_pages_is_said_and_stops_nothing(folders, tmp_path):
    page = tmp_path / "lessons" / "01_first" / "README.md"
    page.parent.mkdir(parents=True)
    page.write_text("# page")
    folders.lay()
    (folders.workspace / "lessons").write_text("mine")
    workspace.lay_pages(tmp_path / "lessons", folders.workspace)
    (line,) = workspace.shadows(folders.workspace)
    assert "lessons is a file of yours" in line
    assert (folders.workspace / "lessons").read_text() == "mine"
    (folders.workspace / "lessons").unlink()
    workspace.lay_pages(tmp_path / "lessons", folders.workspace)
    assert (folders.workspace / "lessons/01_first/README.md").read_text() == "# page"
    assert workspace.shadows(folders.workspace) == []


def test_starts_at_once_do_not_trip_over_each_other(folders):
    for number in range(20):
        (folders.source / f"{number:02}_more.ipynb").write_bytes(notebook(str(number)))
    failed = []

    def start():
        try:
            folders.lay()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(folders.held()) == 21
    assert not list(folders.workspace.glob("*.new*"))


def test_a_folder_without_notebooks_says_so(tmp_path):
    with pytest.raises(StartError, match="make notebooks"):
        workspace.lay_notebooks(tmp_path, tmp_path / "workspace")


def test_a_disk_that_fills_up_leaves_the_learners_file_whole(folders, monkeypatch):
    folders.lay()
    folders.publish(notebook("v2"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        folders.lay()
    assert folders.held() == {NAME: notebook("v1")}
    assert not list(folders.workspace.glob(f".{NAME}*"))


def test_a_file_named_as_the_course_is_said(tmp_path):
    assert workspace.shadows(tmp_path) == []
    (tmp_path / "utils").mkdir()
    assert workspace.shadows(tmp_path) == []  # a folder of data hides nothing
    (tmp_path / "utils" / "__init__.py").touch()
    (tmp_path / "utils.py").touch()
    lines = workspace.shadows(tmp_path)
    assert [line.split()[0] for line in lines] == [
        str(tmp_path / "utils.py"),
        str(tmp_path / "utils" / "__init__.py"),
    ]
