"""Start the course: `python tools/course.py lab`, or `make lab`. `--help` lists the
commands.

Needs nothing but Python: it makes .venv, installs the packages there once, and runs
everything with .venv's Python. The file must parse on old Pythons, so that they can say
that they are too old; what it does lies in tools/start/.
"""

import argparse
import os
import sys
from pathlib import Path

OLDEST = (3, 11)


def python_problem(version: tuple) -> str:
    """What to do about a Python that is too old; empty when it is not."""
    if tuple(version[:2]) >= OLDEST:
        return ""
    found, needed = (
        ".".join(str(part) for part in numbers[:2]) for numbers in (version, OLDEST)
    )
    return (
        f"This is Python {found}, too old for the course: install Python {needed} or"
        " newer from python.org or your package manager, and start again with that"
        " one."
    )


if python_problem(sys.version_info):
    sys.exit(python_problem(sys.version_info))

if __name__ == "__main__":  # started as a file: tools/ is where Python looks
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from tools.start import checking, serving
from tools.start.environment import ensure, venv_python
from tools.start.files import ROOT, STOPPED, StartError, os_problem, ready_streams
from utils.files import DamagedFileError

# the module that a command runs, with whatever else stood on the command line
TOOLS = {
    "hub": (
        "tools.classroom.hub",
        "JupyterHub on this machine, to try what a class would have",
    ),
    "site": ("tools.web", "write the course as a web site into artefacts/site"),
    "lesson": ("tools.lesson", "lay out a new lesson (NAME=13_my_idea)"),
    "check-lesson": (
        "tools.check_lesson",
        "run all that concerns one lesson (NAME=07_recovery)",
    ),
    "notebooks": ("tools.notebooks", "build notebooks/ from lessons/"),
    "drawings": ("tools.drawings", "write the drawings of the lessons"),
    "table": ("tools.table", "print what each lab asks of a learner, in numbers"),
    "checkpoints": ("tools.checkpoints", "train the baselines again"),
    "results": (
        "tools.studies",
        "run what is stale of the studies that the labs quote",
    ),
    "sweep": (
        "tools.sweep",
        "search for pipelines of the capstone, and keep every trial",
    ),
    "predictions": (
        "tools.predictions",
        "record what pruned networks answer, for the explorer",
    ),
    "bench": ("tools.bench", "measure the speed of the package"),
    "assignments": (
        "tools.classroom.assignments",
        "make nbgrader assignments of the lessons' exercises, into class/",
    ),
    "collect": (
        "tools.classroom.collect",
        "take in what learners hand in (ARGS=FOLDER, with one for each learner)",
    ),
    "autograde": (
        "tools.classroom.autograde",
        "grade what was handed in, each function in a cage",
    ),
    "class": (
        "tools.classroom.page",
        "one page for the teacher of a class, from the learners' files",
    ),
    "lock": ("tools.lock", "write requirements*.txt from pyproject.toml"),
}
# those that a teacher uses, who needs nothing of what authors need
FOR_A_CLASS = ("hub", "assignments", "collect", "autograde", "class")


def tool(options: argparse.Namespace, rest: list[str]) -> int:
    """Run a command's module. As a module: tools use each other."""
    module, _ = TOOLS[options.command]
    path = ROOT / (module.replace(".", "/"))
    if not (path.with_suffix(".py").exists() or path.is_dir()):
        raise StartError(
            f"{path}.py is missing: this copy of the course is not complete, so fetch"
            " it again."
        )
    ensure(ROOT, "class" if options.command in FOR_A_CLASS else "dev")
    os.chdir(ROOT)
    return serving.become([str(venv_python(ROOT)), "-m", module, *rest])


tools = {name: (tool, text) for name, (_, text) in TOOLS.items()}
COMMANDS = {
    "lab": (serving.lab, "open the course in JupyterLab"),
    "explorer": (serving.explorer, "the pruning explorer by itself, for a lecture"),
    **{name: tools[name] for name in FOR_A_CLASS},
    "test": (
        checking.test,
        "prove that everything works: unit tests, notebooks, browser",
    ),
    "lint": (checking.lint, "check the code's style, types and workflows"),
    **{name: each for name, each in tools.items() if name not in FOR_A_CLASS},
}


def read_arguments(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and what is passed on to JupyterLab or to the tool."""
    parser = argparse.ArgumentParser(
        prog="course.py", description="The pruning course."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {
        name: commands.add_parser(name, help=text, description=text)
        for name, (_, text) in COMMANDS.items()
    }
    for server in (parsers["lab"], parsers["explorer"]):
        server.add_argument(
            "--port",
            default="",
            help="port of the server (also: PORT); default: a free one",
        )
        server.add_argument(
            "--no-browser",
            action="store_true",
            help="print the address only (also: BROWSER=off)",
        )
    parsers["lab"].add_argument(
        "--notebooks",
        default=str(ROOT / "notebooks"),
        help="lay the notebooks of this folder",
    )
    parsers["test"].add_argument(
        "--only", choices=list(checking.PARTS), help="run one part"
    )
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command in ("test", "lint"):
        parser.error(f"{options.command} does not take {' '.join(rest)}")
    return options, [word for word in rest if word != "--"]


def main(arguments: list[str]) -> int:
    """Run one command; what goes wrong in a known way is one sentence."""
    ready_streams()
    options, rest = read_arguments(arguments)
    try:
        return COMMANDS[options.command][0](options, rest)
    except (StartError, DamagedFileError) as problem:
        sentence = str(problem)
    except OSError as error:
        sentence = os_problem(error)
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
