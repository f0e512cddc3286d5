"""Start the course: `python tools/course.py lab`, or `make lab`. `--help` lists the
commands.

Needs nothing but Python: it makes .venv, installs the packages there once, and runs
everything with .venv's Python. The file must parse on old Pythons, so that they can say
that they are too old.
"""

import argparse
import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
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

ROOT = Path(__file__).resolve().parents[1]
FIRST_NOTEBOOK = "00_start_here.ipynb"
FIRST_PORT = 8888
LOG_TAIL = 50_000  # bytes of pip's log that are searched for what went wrong
SPACE_NEW = 3e9  # bytes wanted before the first install
SPACE_UPDATE = 5e8  # bytes wanted before a later one
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
REQUIREMENTS = {"lab": "requirements.txt", "dev": "requirements-dev.txt"}
INSTALLED_FROM = {
    "lab": ("requirements.txt", "pyproject.toml"),
    "dev": ("requirements.txt", "pyproject.toml", "requirements-dev.txt"),
}
OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
    # pages as pages
    "@jupyterlab/docmanager-extension:plugin": {
        "defaultViewers": {"markdown": "Markdown Preview"}
    },
}
WITHOUT_VENV = (
    "This Python cannot make virtual environments: install its venv module "
    "(Debian, Ubuntu: sudo apt install python3-venv), then start again."
)
NETWORK_LOST = (  # what pip's log says then
    "NewConnectionError",
    "ConnectTimeout",
    "ReadTimeout",
    "Read timed out",
    "NameResolutionError",
    "ProxyError",
    "SSLError",
    "Connection aborted",
    "Network is unreachable",
)
DISK_FULL = (
    "The disk is full: free about 3 GB (the folder for temporary files counts too),"
    " then start again."
)


class Problem(Exception):
    """Something the reader can put right; the message is one sentence that says how."""


# -------------------------------------------------------------------------------- files


def sha256(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `path` so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: dict) -> None:
    """Write `content` as JSON, atomically."""
    write_atomically(
        path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
    )


def read_json(path: Path) -> dict:
    """The dict in a JSON file; empty when the file is missing, damaged or holds
    something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def try_lock(file) -> bool:
    """Lock an open file for this process, without waiting. True when it is ours, or
    when the disk knows no locks."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
    return True


@contextlib.contextmanager
def locked(path: Path):
    """Hold `path`; a second process waits. The system lets go of it when the process
    ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if not try_lock(file):
            print(
                f"Another start of the course is at work in {path.parent}: waiting"
                " for it.",
                flush=True,
            )
            while not try_lock(file):
                time.sleep(0.2)
        yield


# ---------------------------------------------------------------------- the environment


def venv_python(root: Path) -> Path:
    """Where .venv keeps its Python."""
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def stamp_path(root: Path) -> Path:
    """The file that says what has been installed completely."""
    return root / ".venv" / "course-stamp.json"


def fingerprint(root: Path, level: str) -> str:
    """Hash of what decides what `level` installs: files, and JupyterLab's settings."""
    parts = [(root / name).read_bytes() for name in INSTALLED_FROM[level]]
    return sha256(b"\0".join([*parts, json.dumps(OVERRIDES).encode()]))


def running_version(root: Path) -> str:
    """`3.11`, as .venv's own Python says; empty when it does not run, has no pip or is
    too old."""
    code = (
        f"import sys, pip; assert sys.version_info >= {OLDEST}; print('%d.%d' %"
        " sys.version_info[:2])"
    )
    try:
        answer = subprocess.run(
            [str(venv_python(root)), "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(root),
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def environment(root: Path) -> dict[str, str]:
    """This process's environment with .venv first in PATH, less what would point
    .venv's Python elsewhere."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__")
    }
    kept["PATH"] = os.pathsep.join(
        [str(venv_python(root).parent), kept.get("PATH", "")]
    )
    return {
        **kept,
        "VIRTUAL_ENV": str(root / ".venv"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PIP_USER": "0",
    }


def is_ready(root: Path, level: str) -> bool:
    """Whether `level` was installed completely, here, from today's requirement files,
    and .venv's Python still runs."""
    stamp = read_json(stamp_path(root))
    return (
        stamp.get(level) == fingerprint(root, level)
        and stamp.get("folder") == str(root / ".venv")
        and stamp.get("python") == running_version(root)
    )


def ensure(root: Path, level: str) -> None:
    """Make .venv and install `level` ("lab" or "dev") unless that is done already."""
    if is_ready(root, level):
        return
    with locked(root / ".venv" / ".lock"):
        if not is_ready(root, level):
            install(root, level)


def install(root: Path, level: str) -> None:
    """Install `level` into .venv. The stamp names a level only after everything in it
    is there."""
    usable = is_usable(root)
    check_space(root, SPACE_UPDATE if usable else SPACE_NEW)
    if not usable:
        make_venv(root)
    made = {"folder": str(root / ".venv"), "python": running_version(root)}
    write_json(stamp_path(root), made)
    fingerprints = {
        name: fingerprint(root, name)
        for name in (("lab", "dev") if level == "dev" else ("lab",))
    }
    pip_install(root, level)
    write_json(
        root / ".venv" / "share" / "jupyter" / "lab" / "settings" / "overrides.json",
        OVERRIDES,
    )
    write_json(stamp_path(root), {**made, **fingerprints})


def is_usable(root: Path) -> bool:
    """Whether packages can be installed into .venv as it is: its Python runs, and
    neither it nor the folder moved."""
    stamp, version = read_json(stamp_path(root)), running_version(root)
    here = str(root / ".venv")
    return (
        bool(version)
        and stamp.get("folder", here) == here
        and stamp.get("python", version) == version
    )


def check_space(folder: Path, wanted: float) -> None:
    """Raise Problem when fewer than `wanted` bytes are free in `folder`."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise Problem(
            f"The packages of the course want about {wanted / 1e9:.1f} GB and only"
            f" {free / 1e9:.1f} GB are free in {folder}: free some space, then start"
            " again."
        )


def make_venv(root: Path) -> None:
    """Make a fresh .venv; what was there goes, but for the lock that this process
    holds."""
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        raise Problem(WITHOUT_VENV)
    folder = root / ".venv"
    for old in folder.iterdir():
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        elif old.name != ".lock":
            old.unlink()
    python = getattr(sys, "_base_executable", None) or sys.executable
    made = subprocess.run(
        [python, "-m", "venv", str(folder)], capture_output=True, text=True
    )
    if made.returncode or not running_version(root):
        raise Problem(venv_problem(made.stdout + made.stderr, folder))


def venv_problem(output: str, folder: Path) -> str:
    """One sentence for a .venv that could not be made."""
    if "ensurepip is not available" in output:
        return WITHOUT_VENV
    if "No space left" in output:
        return DISK_FULL
    said = (
        [line.strip() for line in output.splitlines() if line.strip()]
        or ["it said nothing"]
    )[-1]
    return (
        f"Python could not make {folder} ({said}): put that right, or try another"
        " Python, then start again."
    )


def pip_install(root: Path, level: str) -> None:
    """Install the requirement file of `level`; after a failure pip's log stays in
    .venv/install.log."""
    log = root / ".venv" / "install.log"
    log.unlink(missing_ok=True)
    print(
        "Installing the packages of the course into .venv. This happens once and takes"
        " some minutes.",
        flush=True,
    )
    command = [
        str(venv_python(root)),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--log",
        str(log),
    ]
    command += ["-r", REQUIREMENTS[level]]
    if subprocess.run(command, cwd=root, env=environment(root)).returncode:
        said = (
            log.read_bytes()[-LOG_TAIL:].decode("utf-8", "replace")
            if log.exists()
            else ""
        )
        raise Problem(pip_problem(said, log, shutil.disk_usage(root).free))
    log.unlink(missing_ok=True)


def pip_problem(said: str, log: Path, free: float) -> str:
    """One sentence for an install that failed, from what pip `said` and the `free`
    bytes left."""
    if "No space left" in said or "Errno 28" in said or free < 1e8:
        return DISK_FULL
    if any(word in said for word in NETWORK_LOST):
        return (
            "The packages could not be fetched: check the network connection, then"
            f" start again (details: {log})."
        )
    if "No matching distribution found" in said:
        version = ".".join(str(part) for part in sys.version_info[:2])
        return (
            f"A package does not exist for Python {version} on this machine: try Python"
            f" 3.12 (details: {log})."
        )
    return (
        f"The packages could not be installed: read the last lines of {log}, then start"
        " again."
    )


# ------------------------------------------------------------------------ the workspace


def source_version(content: bytes) -> str:
    """Hash of a notebook's cells as written; outputs do not count, so running a
    notebook makes no new version."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        cells = [
            [cell["cell_type"], "".join(cell["source"])]
            for cell in json.loads(content)["cells"]
        ]
        content = json.dumps(cells).encode()
    return sha256(content)


def read_record(workspace: Path) -> dict[str, dict]:
    """What was laid: `laid`, file -> hash of the bytes; `offered`, notebook -> newest
    version laid anywhere."""
    found = read_json(workspace / ".laid.json")
    return {
        key: found[key] if isinstance(found.get(key), dict) else {}
        for key in ("laid", "offered")
    }


def is_ours(target: Path, content: bytes, laid: str | None) -> bool:
    """Whether writing to `target` loses nothing: it is free, or holds exactly what the
    course laid there (its hash)."""
    if not os.path.lexists(target):
        return True
    return target.is_file() and sha256(target.read_bytes()) in (laid, sha256(content))


def put(name: str, content: bytes, workspace: Path, record: dict[str, dict]) -> bool:
    """Lay `content` at `name` and record it. True when that replaced an older
    version."""
    target = workspace / name
    old = target.read_bytes() if target.exists() else None
    if old != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    record["laid"][name] = sha256(content)
    return old not in (None, content)


def place_beside(target: Path, content: bytes, record: dict[str, dict]) -> Path:
    """NAME.new.ipynb, or NAME.new-2.ipynb and so on when the learner works in that one
    too."""
    candidate, number = target.with_name(f"{target.stem}.new.ipynb"), 1
    while not is_ours(candidate, content, record["laid"].get(candidate.name)):
        number += 1
        candidate = target.with_name(f"{target.stem}.new-{number}.ipynb")
    return candidate


def lay_one(name: str, content: bytes, workspace: Path, record: dict[str, dict]) -> str:
    """Lay one notebook and return a line about it, empty when there is nothing to say.
    The learner's stays."""
    target, version = workspace / name, source_version(content)
    if is_ours(target, content, record["laid"].get(name)):
        replaced = put(name, content, workspace, record)
        record["offered"][name] = version
        return (
            f"{name}: you had not changed it, so it is now the course's newer version."
            if replaced
            else ""
        )
    held = source_version(target.read_bytes()) if target.is_file() else None
    if version in (held, record["offered"].get(name)):
        return ""
    beside = place_beside(target, content, record)
    put(beside.name, content, workspace, record)
    record["offered"][name] = version
    return (
        f"{name}: yours stays as it is; the course's newer version is beside it,"
        f" {beside.name}."
    )


def lay_notebooks(source: Path, workspace: Path) -> list[str]:
    """Lay every notebook of `source` into `workspace`, whatever else is done there at
    the same time."""
    originals = sorted(source.glob("*.ipynb"))
    if not originals:
        raise Problem(
            f"There are no notebooks in {source}: build them with make notebooks."
        )
    with locked(workspace / ".laid.lock"):
        record = read_record(workspace)
        lines = [
            lay_one(original.name, original.read_bytes(), workspace, record)
            for original in originals
        ]
        if record != read_record(workspace):
            write_json(workspace / ".laid.json", record)
    return [line for line in lines if line]


def lay_pages(source: Path, workspace: Path) -> None:
    """Lay the lessons' pages and figures into `workspace`/lessons, so that JupyterLab
    shows them. Changed ones stay."""
    with locked(workspace / ".laid.lock"):
        record = read_record(workspace)
        for original in sorted(
            [*source.glob("*/README.md"), *source.glob("*/figures/*")]
        ):
            name = f"lessons/{original.relative_to(source).as_posix()}"
            content = original.read_bytes()
            if original.suffix == ".md":
                # to the learner's own copies
                content = content.replace(b"](../../notebooks/", b"](../../")
            if is_ours(workspace / name, content, record["laid"].get(name)):
                put(name, content, workspace, record)
        if record != read_record(workspace):
            write_json(workspace / ".laid.json", record)


# ---------------------------------------------------------------------------------- lab


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of this machine."""
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_port(wanted: str) -> int:
    """The port asked for, or without one the first free from 8888."""
    if not wanted:
        return next(
            (port for port in range(FIRST_PORT, FIRST_PORT + 200) if is_free(port)),
            FIRST_PORT,
        )
    if not (wanted.isdecimal() and 1024 <= int(wanted) <= 65535):
        raise Problem(
            f"{wanted!r} is no port: give a number from 1024 to 65535, or none."
        )
    if not is_free(int(wanted)):
        raise Problem(
            f"Port {wanted} is taken: stop what uses it, give another, or give none to"
            " get a free one."
        )
    return int(wanted)


def lab_command(
    python: Path, workspace: Path, port: int, retries: int, browser: bool
) -> list[str]:
    """The command that starts JupyterLab: this machine only, token on, nothing
    fetched."""
    command = [
        str(python),
        "-P",
        "-m",
        "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
    ]
    command += [
        f"--ServerApp.port_retries={retries}",
        f"--ServerApp.root_dir={workspace}",
    ]
    command += [f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return command if browser else [*command, "--no-browser"]


def lab(options: argparse.Namespace, rest: list[str]) -> int:
    """Install, lay the notebooks, open JupyterLab."""
    wanted = options.port or os.environ.get("PORT", "")
    port = choose_port(wanted)
    ensure(ROOT, "lab")
    workspace = workspace_folder()
    for line in lay_notebooks(Path(options.notebooks), workspace):
        print(line)
    lay_pages(ROOT / "lessons", workspace)
    if not (workspace / FIRST_NOTEBOOK).exists():
        raise Problem(
            f"{FIRST_NOTEBOOK} is missing in {options.notebooks}: build it with make"
            " notebooks."
        )
    print(f"Your notebooks are in {workspace}. Stop with Ctrl+C.", flush=True)
    command = lab_command(
        venv_python(ROOT), workspace, port, 0 if wanted else 20, wants_browser(options)
    )
    return become([*command, *rest])


EXPLORER = """import os

from utils.explorer import Explorer

os.chdir({folder!r})
Explorer()"""


def explorer_notebook(workspace: Path) -> Path:
    """The notebook behind `make explorer`, in .venv; what is kept from the panel goes
    to the workspace."""
    title = {
        "cell_type": "markdown",
        "id": "title",
        "metadata": {},
        "source": "# The pruning explorer",
    }
    code = {
        "cell_type": "code",
        "id": "panel",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
    }
    code["source"] = EXPLORER.format(folder=str(workspace))
    kernel = {
        "kernelspec": {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
    }
    path = ROOT / ".venv" / "explorer" / "explorer.ipynb"
    write_json(
        path,
        {
            "cells": [title, code],
            "metadata": kernel,
            "nbformat": 4,
            "nbformat_minor": 5,
        },
    )
    return path


def explorer(options: argparse.Namespace, rest: list[str]) -> int:
    """Install, serve the explorer as one page: this machine only, token on, no code in
    sight."""
    port = choose_port(options.port or os.environ.get("PORT", ""))
    ensure(ROOT, "lab")
    workspace = workspace_folder()
    workspace.mkdir(parents=True, exist_ok=True)
    command = [
        str(venv_python(ROOT)),
        "-P",
        "-m",
        "voila",
        str(explorer_notebook(workspace)),
    ]
    command += ["--Voila.ip=127.0.0.1", f"--port={port}", "--token"]
    if not wants_browser(options):
        command.append("--no-browser")
    print(
        "The page opens in your browser; what you keep from it goes to",
        f"{workspace}. Stop with Ctrl+C.",
        flush=True,
    )
    return become([*command, *rest])


def workspace_folder() -> Path:
    """Where the learner's notebooks are."""
    return (
        Path(os.environ.get("PRUNING_WORKSPACE") or ROOT / "workspace")
        .expanduser()
        .resolve()
    )


def wants_browser(options: argparse.Namespace) -> bool:
    """Whether to open a browser window."""
    return not (options.no_browser or os.environ.get("BROWSER") in ("off", "none"))


def become(command: list[str]) -> int:
    """Hand this process over to `command`, so that signals and the exit status are its
    own."""
    sys.stdout.flush()
    if os.name == "nt":
        return subprocess.call(command, env=environment(ROOT))
    os.execve(command[0], command, environment(ROOT))
    return 0


# --------------------------------------------------------------------- test and authors


def find_chromium() -> str:
    """Path of a Chromium, empty when there is none."""
    return next((path for path in map(shutil.which, CHROMIUM) if path), "")


def pytest(*arguments: str, cwd: Path = ROOT) -> str:
    """Run pytest and return what went wrong, empty when all is well. That nothing was
    run counts as wrong."""
    command = [str(venv_python(ROOT)), "-m", "pytest", *arguments]
    code = subprocess.run(command, cwd=cwd, env=environment(ROOT)).returncode
    return {0: "", 5: "FAILED: there was nothing to run"}.get(code, "FAILED")


def test_units() -> str:
    """Unit and property tests."""
    return pytest("tests", "--ignore=tests/browser")


def test_notebooks() -> str:
    """Every notebook, run anew and compared with its stored outputs, in a folder that
    is thrown away afterwards."""
    originals = sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not originals:
        return "FAILED: there are no notebooks"
    sanitizer = ROOT / "tests" / "nbval_sanitize.cfg"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for original in originals:
            shutil.copy(original, folder)
        shutil.copy(ROOT / "tests" / "nbval_budget.py", Path(folder) / "conftest.py")
        options = [
            "--nbval",
            "--nbval-current-env",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            folder,
            "--timeout=300",
        ]
        options += (
            ["--nbval-sanitize-with", str(sanitizer)] if sanitizer.exists() else []
        )
        return pytest(*options, folder, cwd=Path(folder))


def test_browser() -> str:
    """JupyterLab in a real browser, where there is one."""
    if not find_chromium():
        return f"skipped: none of {', '.join(CHROMIUM)} is installed"
    return pytest("tests/browser")


PARTS = {"unit": test_units, "notebooks": test_notebooks, "browser": test_browser}


def test(options: argparse.Namespace, rest: list[str]) -> int:
    """Run every part, also after one failed, then say how each went."""
    ensure(ROOT, "dev")
    lines, failed = [], False
    for name in [options.only] if options.only else PARTS:
        print(f"== {name} ==", flush=True)
        started = time.perf_counter()
        outcome = PARTS[name]()
        failed = failed or outcome.startswith("FAILED")
        lines.append(
            f"{name:10} {time.perf_counter() - started:6.0f} s  {outcome or 'passed'}"
        )
    print("\n".join(["", *lines]), flush=True)
    return int(failed)


def lint(options: argparse.Namespace, rest: list[str]) -> int:
    """Ruff's checks and its formatting."""
    ensure(ROOT, "dev")
    ruff = [str(venv_python(ROOT)), "-m", "ruff"]
    codes = [
        subprocess.run([*ruff, *what, "."], cwd=ROOT).returncode
        for what in (["check"], ["format", "--check"])
    ]
    return max(codes)


def tool(options: argparse.Namespace, rest: list[str]) -> int:
    """Run tools/NAME.py, or the folder of that name, with whatever else stood on the
    command line. As a module: tools use each other."""
    script = ROOT / "tools" / f"{options.command}.py"
    if not script.exists() and not script.with_suffix("").is_dir():
        raise Problem(
            f"{script} is missing: this copy of the course is not complete, so fetch it"
            " again."
        )
    ensure(ROOT, "dev")
    os.chdir(ROOT)
    return become([str(venv_python(ROOT)), "-m", f"tools.{options.command}", *rest])


# ------------------------------------------------------------------------- command line

COMMANDS = {
    "lab": (lab, "open the course in JupyterLab"),
    "explorer": (explorer, "the pruning explorer by itself, for a lecture"),
    "test": (test, "prove that everything works: unit tests, notebooks, browser"),
    "notebooks": (tool, "build notebooks/ from lessons/"),
    "checkpoints": (tool, "train the baselines again"),
    "results": (tool, "run the long studies that the labs quote, again"),
    "predictions": (tool, "record what pruned networks answer, for the explorer"),
    "lint": (lint, "check the code's style"),
    "bench": (tool, "measure the speed of the package"),
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
    parsers["test"].add_argument("--only", choices=list(PARTS), help="run one part")
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command in ("test", "lint"):
        parser.error(f"{options.command} does not take {' '.join(rest)}")
    return options, [word for word in rest if word != "--"]


def os_problem(error: OSError) -> str:
    """One sentence for an error of the operating system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{error.filename or ROOT} cannot be written: give yourself the right to, "
            "or name a folder of your own for the notebooks in PRUNING_WORKSPACE."
        )
    return (
        f"{error.filename or 'The system'}: {error.strerror or error}; put that right,"
        " then start again."
    )


def main(arguments: list[str]) -> int:
    """Run one command; what goes wrong in a known way is one sentence."""
    options, rest = read_arguments(arguments)
    try:
        return COMMANDS[options.command][0](options, rest)
    except Problem as problem:
        sentence = str(problem)
    except OSError as error:
        sentence = os_problem(error)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
