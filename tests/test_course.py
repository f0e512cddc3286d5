"""The command line of the launcher: one sentence for what goes wrong, every command
starts."""

import ast
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import course
from tools.start.environment import venv_python
from tools.start.files import StartError
from utils.files import DamagedFileError

ROOT = Path(__file__).parents[1]


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
        (OSError(errno.EIO, "advice of its own", "/shared/x"), "Input/output error;"),
        (OSError("of no number"), "of no number"),
        (StartError("Do this."), "Do this."),
        (DamagedFileError("It is damaged. Repair: do this."), "Repair: do this."),
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


SPEAK = """
import subprocess, sys
from tools.start.files import ready_streams
ready_streams()
print("für \u2603", flush=True)
print("für \u2603", file=sys.stderr, flush=True)
child = "import sys; assert sys.stdout and sys.stderr; print('für'.encode())"
subprocess.run([sys.executable, "-c", child], check=True)
"""


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_the_launcher_speaks_wherever_it_is_started(closed, encoding):
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, SPEAK],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    said = "für \u2603".encode(encoding, "backslashreplace")
    lines = [said, str("für".encode()).encode()]
    assert done.returncode == 0
    assert done.stdout.splitlines() == ([] if ">&-" in closed.split() else lines)
    assert done.stderr.splitlines() == ([] if "2>&-" in closed else [said])


def test_an_old_python_can_read_the_file_and_is_told_so():
    ast.parse(
        (ROOT / "tools" / "course.py").read_text(encoding="utf-8"),
        feature_version=(3, 6),
    )
    assert "Python 3.9, too old" in course.python_problem((3, 9, 18))
    assert "3.11" in course.python_problem((3, 10))
    assert course.python_problem((3, 11, 0)) == course.python_problem((3, 14)) == ""


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
    """Asked of a Python that has no packages, in the project's folder."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import tools.course;"
        "print({n.partition('.')[0] for n in sys.modules} - sys.stdlib_module_names"
        " - {'__main__', 'tools', 'utils', 'sitecustomize', '__mp_main__'})"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


@pytest.mark.parametrize("name", course.TOOLS)
def test_each_tool_can_be_started(name):
    """As the launcher does it: from the project's folder, and with all that it
    imports."""
    command = [sys.executable, "-m", course.TOOLS[name][0], "--help"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage:")


def test_a_tool_is_started_as_a_module(monkeypatch):
    monkeypatch.setattr(course, "ensure", lambda root, level: None)
    monkeypatch.setattr(course.os, "chdir", lambda folder: None)
    started = []
    monkeypatch.setattr(course.serving, "become", started.append)
    course.tool(SimpleNamespace(command="bench"), ["explorer"])
    course.tool(SimpleNamespace(command="check-lesson"), ["07_x"])
    python = str(venv_python(ROOT))
    assert started == [
        [python, "-m", "tools.bench", "explorer"],
        [python, "-m", "tools.check_lesson", "07_x"],
    ]
