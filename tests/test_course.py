"""The launcher: it installs once, never takes a learner's file, and says in one
sentence what to do."""

import ast
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import course

ROOT = Path(__file__).parents[1]
NAME = "01_first.ipynb"


def notebook(text: str, outputs: str = "") -> bytes:
    """A notebook with one cell; `outputs` changes the file and not its source."""
    cell = {"cell_type": "code", "source": [text], "outputs": [outputs]}
    return json.dumps({"cells": [cell], "nbformat": 4}).encode()


class Folders:
    """A course folder with one notebook, and the workspace it is laid into."""

    def __init__(self, root: Path):
        self.source, self.workspace = root / "notebooks", root / "workspace"
        self.source.mkdir()
        self.publish(notebook("v1"))

    def publish(self, content: bytes) -> None:
        (self.source / NAME).write_bytes(content)

    def lay(self) -> list[str]:
        return course.lay_notebooks(self.source, self.workspace)

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


# ----------------------------------------------------------------- laying the notebooks


def test_a_first_start_lays_everything_and_a_second_changes_nothing(folders):
    assert folders.lay() == []
    assert folders.held() == {NAME: notebook("v1")}
    before = (folders.workspace / NAME).stat().st_mtime_ns
    assert folders.lay() == []
    assert (folders.workspace / NAME).stat().st_mtime_ns == before


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
    course.lay_pages(lessons, folders.workspace)
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
    course.lay_pages(lessons, folders.workspace)
    assert page.stat().st_mtime_ns == before
    page.write_text("my notes")
    for lesson in ("01_first", "02_second"):
        (lessons / lesson / "README.md").write_text("newer")
    course.lay_pages(lessons, folders.workspace)
    assert (page.read_text(), (laid / "02_second" / "README.md").read_text()) == (
        "my notes",
        "newer",
    )
    assert folders.lay() == []  # the notebooks' record is as it was


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"laid": 3}', b"\xff\xfe", None]
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
    with pytest.raises(course.Problem, match="make notebooks"):
        course.lay_notebooks(tmp_path, tmp_path / "workspace")


def test_a_disk_that_fills_up_leaves_the_learners_file_whole(folders, monkeypatch):
    folders.lay()
    folders.publish(notebook("v2"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(course.os, "fdopen", full)
    with pytest.raises(OSError, match="No space"):
        folders.lay()
    assert folders.held() == {NAME: notebook("v1")}
    assert not list(folders.workspace.glob(f".{NAME}*"))


# ------------------------------------------------------------------------- one sentence


def run_main(monkeypatch, capsys, error: BaseException) -> tuple[int, str]:
    """Exit status and message of a command that fails with `error`."""

    def fail(*_):
        raise error

    monkeypatch.setitem(course.COMMANDS, "lab", (fail, ""))
    return course.main(["lab"]), capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free about 3 GB"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/shared/workspace"),
            "PRUNING_WORKSPACE",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/shared/workspace"),
            "/shared/workspace",
        ),
        (OSError(errno.EIO, "Input/output error", "/shared/x"), "Input/output error"),
        (course.Problem("Do this."), "Do this."),
    ],
)
def test_what_goes_wrong_is_one_sentence(monkeypatch, capsys, error, advice):
    status, said = run_main(monkeypatch, capsys, error)
    assert status == 1
    assert advice in said
    assert len(said.splitlines()) == 1


def test_stopping_is_no_error_of_ours(monkeypatch, capsys):
    status, said = run_main(monkeypatch, capsys, KeyboardInterrupt())
    assert status == 130
    assert "Traceback" not in said


def test_an_old_python_can_read_the_file_and_is_told_so():
    ast.parse(
        (ROOT / "tools" / "course.py").read_text(encoding="utf-8"),
        feature_version=(3, 6),
    )
    assert "Python 3.9, too old" in course.python_problem((3, 9, 18))
    assert "3.11" in course.python_problem((3, 10))
    assert course.python_problem((3, 11, 0)) == course.python_problem((3, 14)) == ""


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_missing_venv_module(tmp_path, monkeypatch, missing):
    monkeypatch.setattr(
        course.importlib.util,
        "find_spec",
        lambda name: None if name == missing else name,
    )
    with pytest.raises(course.Problem, match="python3-venv"):
        course.make_venv(tmp_path)


def test_a_taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(course.Problem, match=f"Port {port} is taken"):
            course.choose_port(str(port))


@pytest.mark.parametrize("port", ["80", "0", "70000", "-1", "http", "88 88", "8888.0"])
def test_a_port_that_is_none(port):
    with pytest.raises(course.Problem, match="1024 to 65535"):
        course.choose_port(port)


def test_without_a_wish_the_first_free_port_is_taken(monkeypatch):
    monkeypatch.setattr(course, "is_free", lambda port: port > 8889)
    assert course.choose_port("") == 8890


@pytest.mark.parametrize(
    ("said", "free", "advice"),
    [
        (
            (
                "ERROR: Could not install packages due to an OSError: [Errno 28] No"
                " space left on device"
            ),
            9e9,
            "disk is full",
        ),
        ("", 1e6, "disk is full"),
        (
            "NewConnectionError ...\nERROR: No matching distribution found for torch",
            9e9,
            "network",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0", 9e9, "Python"),
        ("something else", 9e9, "install.log"),
    ],
)
def test_a_failed_install_says_what_to_do(said, free, advice):
    assert advice in course.pip_problem(said, Path("install.log"), free)


def test_too_little_space_is_said_before_the_install(tmp_path, monkeypatch):
    monkeypatch.setattr(
        course.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9)
    )
    with pytest.raises(course.Problem, match=r"3\.0 GB and only 1\.0 GB"):
        course.check_space(tmp_path, course.SPACE_NEW)


# ---------------------------------------------------------------------- installing once


class Project:
    """A project folder whose .venv is made and filled by stand-ins that count."""

    def __init__(self, root: Path):
        self.root, self.made, self.installed, self.version, self.fails = (
            root,
            0,
            [],
            "",
            False,
        )
        for name in ("requirements.txt", "requirements-dev.txt", "pyproject.toml"):
            (root / name).write_text(name)

    def make_venv(self, root: Path) -> None:
        self.made, self.version = self.made + 1, "3.12"

    def pip_install(self, root: Path, level: str) -> None:
        if self.fails:
            raise course.Problem("no network")
        self.installed.append(level)

    def ensure(self, level: str) -> list[str]:
        """The levels that this call installed."""
        before = len(self.installed)
        course.ensure(self.root, level)
        return self.installed[before:]


@pytest.fixture
def project(tmp_path, monkeypatch):
    made = Project(tmp_path)
    monkeypatch.setattr(course, "make_venv", made.make_venv)
    monkeypatch.setattr(course, "pip_install", made.pip_install)
    monkeypatch.setattr(course, "running_version", lambda root: made.version)
    monkeypatch.setattr(course, "check_space", lambda *_: None)
    return made


def test_a_second_start_installs_nothing(project):
    assert project.ensure("lab") == ["lab"]
    assert project.ensure("lab") == []
    assert project.made == 1


def test_dev_implies_lab_but_not_the_reverse(project):
    assert project.ensure("lab") == ["lab"]
    assert project.ensure("dev") == ["dev"]
    assert project.ensure("lab") == []
    assert project.made == 1


@pytest.mark.parametrize(
    ("changed", "lab", "dev"),
    [
        ("requirements.txt", ["lab"], ["dev"]),
        ("pyproject.toml", ["lab"], ["dev"]),
        ("requirements-dev.txt", [], ["dev"]),
    ],
)
def test_a_changed_requirement_installs_again(project, changed, lab, dev):
    project.ensure("dev")
    (project.root / changed).write_text("newer")
    assert project.ensure("lab") == lab
    assert project.ensure("dev") == dev
    assert project.made == 1


def test_a_failed_install_is_tried_again(project):
    project.fails = True
    with pytest.raises(course.Problem):
        project.ensure("lab")
    project.fails = False
    assert project.ensure("lab") == ["lab"]
    assert project.made == 1


def test_a_failed_update_is_tried_again(project):
    project.ensure("dev")
    (project.root / "requirements.txt").write_text("newer")
    project.fails = True
    with pytest.raises(course.Problem):
        project.ensure("dev")
    (project.root / "requirements.txt").write_text("requirements.txt")
    project.fails = False
    assert project.ensure("lab") == ["lab"]


@pytest.mark.parametrize("version", ["", "3.13"])
def test_a_python_that_broke_or_changed_makes_a_new_venv(project, version):
    project.ensure("lab")
    project.version = version
    assert project.ensure("lab") == ["lab"]
    assert project.made == 2


def test_a_moved_folder_makes_a_new_venv(project, tmp_path):
    project.ensure("lab")
    moved = tmp_path.with_name(tmp_path.name + "_moved")
    shutil.copytree(tmp_path, moved)
    project.root = moved
    assert project.ensure("lab") == ["lab"]
    assert project.made == 2


def test_a_damaged_stamp_installs_again(project):
    project.ensure("lab")
    course.stamp_path(project.root).write_bytes(b"{")
    assert project.ensure("lab") == ["lab"]


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user"
)
def test_a_ready_folder_may_be_read_only(project):
    project.ensure("lab")
    (project.root / ".venv").chmod(0o555)
    assert project.ensure("lab") == []


def test_jupyterlabs_settings_are_written_also_when_only_they_are_new(
    project, monkeypatch
):
    settings = project.root / ".venv/share/jupyter/lab/settings/overrides.json"
    project.ensure("lab")
    assert json.loads(settings.read_text()) == course.OVERRIDES
    monkeypatch.setattr(course, "OVERRIDES", {"a": {"b": 1}})
    assert project.ensure("lab") == ["lab"]
    assert json.loads(settings.read_text()) == {"a": {"b": 1}}


def test_a_venv_whose_python_does_not_run_is_noticed(tmp_path):
    assert course.running_version(tmp_path) == ""
    python = course.venv_python(tmp_path)
    python.parent.mkdir(parents=True)
    python.write_text("#!/nowhere/python\n")
    python.chmod(0o755)
    assert course.running_version(tmp_path) == ""


# ----------------------------------------------------------------------------- commands


def test_jupyterlab_stays_on_this_machine_with_its_token(tmp_path):
    command = course.lab_command(Path("python"), tmp_path, 8888, 0, browser=False)
    assert "--ServerApp.ip=127.0.0.1" in command
    assert "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate" in command
    assert "--no-browser" in command
    assert not [word for word in command if "token" in word or "password" in word]
    assert "--no-browser" not in course.lab_command(
        Path("python"), tmp_path, 8888, 0, browser=True
    )


def test_nothing_to_run_is_a_failure(monkeypatch):
    monkeypatch.setattr(
        course.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=5)
    )
    assert course.pytest("tests").startswith("FAILED")


def test_every_part_runs_and_one_failure_fails_all(monkeypatch, capsys):
    ran = []
    parts = {}
    for name, outcome in (
        ("unit", "FAILED"),
        ("notebooks", ""),
        ("browser", "skipped: no browser"),
    ):
        parts[name] = lambda name=name, outcome=outcome: ran.append(name) or outcome
    monkeypatch.setattr(course, "PARTS", parts)
    monkeypatch.setattr(course, "ensure", lambda *_: None)
    assert course.main(["test"]) == 1
    assert ran == ["unit", "notebooks", "browser"]
    said = capsys.readouterr().out
    assert "FAILED" in said
    assert "skipped: no browser" in said
    parts["unit"] = lambda: ""
    assert course.main(["test"]) == 0


def test_without_notebooks_or_chromium_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.setattr(course.shutil, "which", lambda _: None)
    assert course.test_notebooks().startswith("FAILED")
    assert course.test_browser().startswith("skipped")


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_help_lists_every_target():
    said = subprocess.run(
        ["make", "--no-print-directory"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    targets = [line.split()[1] for line in said.splitlines()]
    phony = (
        (ROOT / "Makefile").read_text().partition(".PHONY:")[2].splitlines()[0].split()
    )
    assert targets == phony == ["help", *course.COMMANDS]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_without_a_python_says_so(tmp_path):
    (tmp_path / "python3").write_text("#!/bin/sh\necho no such version >&2\nexit 127\n")
    (tmp_path / "python3").chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("make", "sh"):
        (tmp_path / name).symlink_to(shutil.which(name))
    outcome = subprocess.run(
        [str(tmp_path / "make"), "lab"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert outcome.returncode
    assert "No Python 3.11" in outcome.stderr


def test_the_launcher_imports_nothing_but_the_standard_library():
    tree = ast.parse((ROOT / "tools" / "course.py").read_text(encoding="utf-8"))
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    names += [
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    ]
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


# ------------------------------------------------------------------ the explorer's page


def test_the_explorer_is_served_to_this_machine_only_with_a_token(
    tmp_path, monkeypatch
):
    started = []
    monkeypatch.setenv("PRUNING_WORKSPACE", str(tmp_path / "my work"))
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.setattr(course, "ensure", lambda root, level: None)
    monkeypatch.setattr(course, "become", lambda command: started.append(command) or 0)
    assert course.main(["explorer", "--no-browser"]) == 0
    command = started[0]
    assert (
        "voila" in command
        and "--Voila.ip=127.0.0.1" in command
        and "--token" in command
    )
    assert "--no-browser" in command and not any(
        "strip_sources" in word or "show_tracebacks" in word for word in command
    )
    path = Path(next(word for word in command if word.endswith(".ipynb")))
    cells = json.loads(path.read_text())["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code"]
    assert (
        f"os.chdir({str(tmp_path / 'my work')!r})" in cells[1]["source"]
        and (tmp_path / "my work").is_dir()
    )
    assert path.is_relative_to(tmp_path / ".venv"), (
        "derived: not among the learner's notebooks"
    )


TOOLS = [name for name, (run, _) in course.COMMANDS.items() if run is course.tool]


@pytest.mark.parametrize("name", TOOLS)
def test_each_tool_can_be_started(name):
    """As the launcher does it: from the project's folder, and with all that it
    imports."""
    module = f"tools.{name.replace('-', '_')}"
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage:")


def test_a_tool_is_started_as_a_module(monkeypatch):
    monkeypatch.setattr(course, "ensure", lambda root, level: None)
    monkeypatch.setattr(course.os, "chdir", lambda folder: None)
    started = []
    monkeypatch.setattr(course, "become", started.append)
    course.tool(SimpleNamespace(command="bench"), ["explorer"])
    course.tool(SimpleNamespace(command="check-lesson"), ["07_x"])
    python = str(course.venv_python(ROOT))
    assert started == [
        [python, "-m", "tools.bench", "explorer"],
        [python, "-m", "tools.check_lesson", "07_x"],
    ]
