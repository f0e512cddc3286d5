"""What each Python of the environment does first: it waits politely, and imports the
course's utils."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The Python of an environment with the course's startup, which sees this one's
    packages."""
    folder = tmp_path_factory.mktemp("environment")
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    (packages / "others.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    for ending in (".py", ".pth"):
        source = ROOT / "tools" / "start" / f"startup{ending}"
        shutil.copy(source, packages / f"pruning_course_startup{ending}")
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def start(
    python: Path, *arguments: str, cwd: Path, **more: str
) -> subprocess.CompletedProcess:
    hidden = ("OMP_WAIT_POLICY", "PYTHONPATH")
    env = {k: v for k, v in os.environ.items() if k not in hidden} | more
    return subprocess.run(
        [python, *arguments], cwd=cwd, env=env, capture_output=True, text=True
    )


@pytest.fixture(params=["file", "folder"])
def beside(request, tmp_path) -> Path:
    """A folder in which a learner has a `utils` too."""
    mine = tmp_path / "utils.py"
    if request.param == "folder":
        mine = tmp_path / "utils" / "__init__.py"
        mine.parent.mkdir()
    mine.write_text("MINE = True\n")
    return mine


SHOW = "import utils.files; print(utils.files.__file__)"
OURS = str(ROOT / "utils" / "files.py")


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP says what it reads")
@pytest.mark.parametrize(("asked", "policy"), [({}, "PASSIVE"), (None, "ACTIVE")])
def test_openmp_is_told_to_wait_politely_unless_asked_otherwise(
    python, tmp_path, asked, policy
):
    asked = {"OMP_WAIT_POLICY": policy} if asked is None else asked
    done = start(
        python, "-c", "import torch", cwd=tmp_path, OMP_DISPLAY_ENV="true", **asked
    )
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr


def test_the_courses_package_wins_in_a_prompt_and_it_is_said(python, beside, tmp_path):
    done = start(python, "-c", SHOW, cwd=tmp_path)
    assert done.stdout.strip() == OURS
    assert done.stderr.count("\n") == 1
    assert str(beside) in done.stderr


def test_the_courses_package_wins_beside_a_script(python, beside, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SHOW)
    assert start(python, str(script), cwd=ROOT).stdout.strip() == OURS


def test_an_explicit_path_is_obeyed(python, beside, tmp_path):
    done = start(
        python,
        "-c",
        "import utils; print(utils.MINE)",
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert (done.stdout.strip(), done.stderr) == ("True", "")


def test_another_copy_of_the_course_uses_its_own(python, tmp_path):
    shutil.copytree(ROOT / "utils", tmp_path / "utils")
    done = start(python, "-c", SHOW, cwd=tmp_path)
    assert done.stdout.strip() == str(tmp_path / "utils" / "files.py")
    assert done.stderr == ""


def test_it_says_nothing_where_there_is_nothing_to_say(python, tmp_path):
    (tmp_path / "utils").mkdir()  # a folder of the learner's that is no package
    done = start(python, "-c", SHOW, cwd=tmp_path)
    assert (done.stdout.strip(), done.stderr) == (OURS, "")


CHECKED = """
import sys, jsonschema
checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
words = [format for format in ("uri", "date", "iri") if format in checker.checkers]
print(*words, "lark" in sys.modules)  # of what would be built
"""


def test_a_jupyter_server_builds_no_grammars_of_addresses(python, tmp_path):
    """And still knows formats that are cheap to check."""
    done = start(python, "-c", CHECKED, cwd=tmp_path)
    assert done.stdout.split() == ["uri", "date", "False"]


EXECUTE = """
import nbformat, nbclient
cell = nbformat.v4.new_code_cell("from utils import files; print(files.__file__)")
book = nbformat.v4.new_notebook(cells=[cell])
nbclient.NotebookClient(book, timeout=120).execute()
for output in book.cells[0].outputs:
    print(output["name"], output["text"].strip())
"""


def test_a_notebook_beside_a_learners_utils_gets_the_courses(python, beside, tmp_path):
    """In a real kernel of that environment, in the learner's folder."""
    done = start(python, "-c", EXECUTE, cwd=tmp_path)
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert said["stdout"] == OURS
    assert str(beside) in said["stderr"]
