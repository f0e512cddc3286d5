"""Run all that concerns one lesson: `make check-lesson NAME=07_recovery`.

Its notebook is built first if it is not the one that its lab gives; with ARGS=--build
in any case.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nbclient.exceptions import CellExecutionError

from tools import drawings, notebooks, syllabus
from tools.notebooks import LESSONS, NOTEBOOKS, ROOT
from tools.start.checking import SANITIZE
from utils import exercises

TESTS = ROOT / "tests"
STUDY = re.compile(r"^@study\ndef (\w+)", re.MULTILINE)  # how one is written
PYTEST = (sys.executable, "-m", "pytest", "-q")


def pytest(*arguments: str, folder: Path = ROOT) -> str:
    """Run pytest with this copy of the package; what it printed when something failed,
    or nothing was run, else nothing."""
    ran = subprocess.run(
        [*PYTEST, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return ran.stdout + ran.stderr if ran.returncode else ""


def check_files(lesson: str) -> str:
    """Its files, its page, the notebook as it is stored, the links, the quiz, times."""
    others = (f"not {other}" for other in notebooks.lessons() if other != lesson)
    tests = [str(TESTS / f"test_{name}.py") for name in ("lessons", "pages")]
    return pytest(*tests, "-k", " and ".join(others))


def check_exercises(lesson: str) -> str:
    """The right answers pass, the stubs are recognised, each mistake is refused for its
    own reason."""
    names = [name for name, of in exercises.listed().items() if of == lesson]
    if not names:
        return f"lessons/{lesson}/exercises.py has no exercise.\n"
    return pytest(str(TESTS / "test_exercises.py"), "-k", " or ".join([lesson, *names]))


def check_study(lesson: str) -> str:
    """What is recorded of its long runs is what the code gives."""
    text = (LESSONS / lesson / "study.py").read_text(encoding="utf-8")
    names = STUDY.findall(text)
    return pytest(str(TESTS / "test_studies.py"), "-k", " or ".join([lesson, *names]))


def check_notebook(lesson: str) -> str:
    """Every cell is run anew, and compared with its stored output."""
    with tempfile.TemporaryDirectory() as folder:
        for lab in notebooks.labs(lesson):
            shutil.copy(NOTEBOOKS / f"{lab}.ipynb", folder)
        options = ["--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
        options.append(f"--nbval-sanitize-with={SANITIZE}")
        return pytest(*options, "--rootdir", folder, folder, folder=Path(folder))


def check_style(lesson: str) -> str:
    """Ruff's checks and its formatting."""
    for what in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *what, str(LESSONS / lesson)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if ran.returncode:
            return ran.stdout + ran.stderr
    return ""


def check_build(lesson: str) -> str:
    """Its cells run to the end, and every claim holds."""
    try:
        notebooks.build(lesson)
    except (CellExecutionError, RuntimeError) as problem:
        return f"{problem}\n"
    syllabus.write(ROOT)
    return ""


CHECKS: dict[str, Callable[[str], str]] = {
    "files": check_files,
    "exercises": check_exercises,
    "study": check_study,
    "notebook": check_notebook,
    "style": check_style,
}


def checks_of(lesson: str) -> dict[str, Callable[[str], str]]:
    """The checks that concern a lesson."""
    has_study = (LESSONS / lesson / "study.py").is_file()
    return {name: run for name, run in CHECKS.items() if name != "study" or has_study}


def check(lesson: str, anew: bool = False) -> bool:
    """Check one lesson, and print how each part went. True when all passed. A notebook
    that can not be built ends it.

    anew: build the notebook also when it is the one that its lab gives.
    """
    syllabus.write(ROOT)
    drawings.write(LESSONS / lesson)
    checks, lines, failed = checks_of(lesson), [], False
    if anew or not notebooks.is_built(lesson):
        checks = {"build": check_build, **checks}
    for name, run in checks.items():
        started = time.perf_counter()
        said = run(lesson)
        print(said, end="", flush=True)
        seconds = time.perf_counter() - started
        lines.append(f"{name:10} {seconds:4.0f} s  {'FAILED' if said else 'passed'}")
        failed = failed or bool(said)
        if said and name == "build":
            break
    print("\n".join([lesson, *lines]))
    return not failed


def main() -> int:
    """Check the lesson that the command line names."""
    parser = argparse.ArgumentParser(
        prog="make check-lesson",
        usage="make check-lesson NAME=07_recovery [ARGS=--build]",
        description=__doc__,
    )
    parser.add_argument("name", help="of its folder: 07_recovery")
    parser.add_argument("--build", action="store_true", help="build it in any case")
    asked = parser.parse_args()
    if asked.name not in notebooks.lessons():
        parser.error(
            f"no lesson {asked.name}. Lessons: {', '.join(notebooks.lessons())}."
        )
    try:
        return int(not check(asked.name, asked.build))
    except ValueError as problem:  # in a lesson.toml, or the head of a lab
        print(problem, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
