"""The environment in .venv: it is complete, or it is not there.

A new one is made in .venv.new and takes the name .venv only when everything is in it,
so that a start that is killed, or has no network, loses nothing. One that already holds
what is required is taken as it is, also after the folder was moved. Standard library
only.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.start.files import (
    DISK_FULL,
    StartError,
    locked,
    read_json,
    write_json,
)
from tools.start.installed import requirement_lines
from tools.start.installing import install_packages
from utils.files import write_atomically

SPACE = 3e9  # bytes wanted before an install
REQUIREMENTS = {  # by level; each holds all that those before it hold
    "lab": "requirements.txt",
    "class": "requirements-class.txt",
    "dev": "requirements-dev.txt",
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


# -------------------------------------------------------------------------------- where


def python_in(folder: Path) -> Path:
    """Where an environment keeps its Python."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def venv_python(root: Path) -> Path:
    """Where .venv keeps its Python."""
    return python_in(root / ".venv")


def stamp_path(root: Path) -> Path:
    """The file that says what has been installed completely."""
    return root / ".venv" / "course-stamp.json"


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
        **jupyter_folders(),
        **kept,
        "VIRTUAL_ENV": str(root / ".venv"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PIP_USER": "0",
    }


@functools.cache
def jupyter_folders() -> dict[str, str]:
    """Where Jupyter keeps its settings when there is no home folder to write to: in a
    temporary one. Empty when there is."""
    with contextlib.suppress(RuntimeError, OSError):  # no such user; no such folder
        home = Path.home()
        if home.is_dir() and os.access(home, os.W_OK | os.X_OK):
            return {}
    folder = tempfile.mkdtemp(prefix="pruning-course-")
    print(
        f"Your home folder cannot be written: Jupyter's settings are kept in {folder}.",
        flush=True,
    )
    names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    jupyter = {f"JUPYTER_{name}": str(Path(folder, name.lower())) for name in names}
    return {**jupyter, "IPYTHONDIR": str(Path(folder, "ipython"))}


# ------------------------------------------------------------------ is it there already


def fingerprint(root: Path, level: str) -> str:
    """Hash of what `level` requires; comments and order do not count."""
    lines = requirement_lines(root / REQUIREMENTS[level])
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def fingerprints(root: Path, level: str) -> dict[str, str]:
    """Of `level` and what it includes."""
    levels = list(REQUIREMENTS)
    included = levels[: levels.index(level) + 1]
    return {name: fingerprint(root, name) for name in included}


def ask(python: Path, *arguments: str) -> str:
    """What a Python answers; empty when it does not run or fails."""
    try:
        answer = subprocess.run(
            [str(python), "-I", *arguments], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def running_version(folder: Path) -> str:
    """`3.11`, as the Python of an environment says; empty when it does not run or is
    too old."""
    code = (
        "import sys; assert sys.version_info >= (3, 11);"
        " print('%d.%d' % sys.version_info[:2])"
    )
    return ask(python_in(folder), "-c", code)


def missing(folder: Path, root: Path, level: str) -> list[str]:
    """The requirements of `level` that an environment does not meet. A linked .venv may
    serve several copies of the course."""
    script = Path(__file__).with_name("installed.py")
    home = [] if folder.is_symlink() else [str(root)]
    said = ask(python_in(folder), str(script), str(root / REQUIREMENTS[level]), *home)
    return json.loads(said) if said else ["everything"]


def here(root: Path) -> str:
    """The folder that .venv is: what its files name."""
    link = root / ".venv"
    return str(link.resolve() if link.is_symlink() else link)


def is_ready(root: Path, level: str) -> bool:
    """Whether `level` was installed completely, here, from what is required today, and
    .venv's Python still runs."""
    stamp = read_json(stamp_path(root))
    return (
        stamp.get(level) == fingerprint(root, level)
        and stamp.get("folder") == here(root)
        and stamp.get("python") == running_version(root / ".venv")
    )


def accept(root: Path, level: str) -> bool:
    """Whether .venv holds all that `level` requires, however that came about; it is
    noted then. A moved one is mended in place."""
    folder, version = root / ".venv", running_version(root / ".venv")
    if not version:
        return False
    stamp = read_json(stamp_path(root))
    before = stamp.get("folder", here(root))
    if before != here(root) and not folder.is_symlink():
        repoint(folder, str(Path(before).parent), str(root))
    if missing(folder, root, level):
        return False
    made = {"folder": here(root), "python": version}
    with contextlib.suppress(OSError):  # noted or not, it is complete
        write_json(stamp_path(root), {**stamp, **made, **fingerprints(root, level)})
    return True


# ------------------------------------------------------------------------- making it so


def ensure(root: Path, level: str) -> None:
    """Make .venv with all that a level of `REQUIREMENTS` asks for, unless it is there.

    Raises:
        StartError: it cannot be made, and there is none to work with.
    """
    if not is_ready(root, level):
        with locked(root / ".venv.lock"):
            finish_swap(root)
            if not (is_ready(root, level) or accept(root, level)):
                install_or_keep(root, level)
    lay_settings(root)


def install_or_keep(root: Path, level: str) -> None:
    """Install; where that fails, labs start with a complete environment of before."""
    before = read_json(stamp_path(root))
    try:
        install(root, level)
    except StartError as problem:
        remove(root / ".venv.new")  # it takes space
        usable = level == "lab" and "lab" in before and running_version(root / ".venv")
        if not usable:
            raise
        print(f"{problem} Until then the packages of before are used.", flush=True)


def install(root: Path, level: str) -> None:
    """Make an environment beside .venv, fill it, and put it in .venv's place."""
    check_space(root, SPACE)
    folder = root / ".venv.new"
    remove(folder)
    make_venv(folder)
    install_packages(python_in(folder), root, REQUIREMENTS[level])
    lacking = missing(folder, root, level)
    if lacking:
        raise StartError(
            f"The installation is not complete, {lacking[0]} is missing: start again."
        )
    repoint(folder, str(folder), str(root / ".venv"))
    made = {"folder": str(root / ".venv"), "python": running_version(folder)}
    write_json(folder / "course-stamp.json", {**made, **fingerprints(root, level)})
    swap(root)


def swap(root: Path) -> None:
    """Give .venv.new the name .venv."""
    new, now, old = (root / name for name in (".venv.new", ".venv", ".venv.old"))
    remove(old)
    try:
        if os.path.lexists(now):
            now.rename(old)
        new.rename(now)
    except PermissionError as error:  # Windows: something runs from it
        finish_swap(root)
        raise StartError(
            f"{now} is in use: close the course's windows and terminals, then start"
            " again."
        ) from error
    remove(old)


def finish_swap(root: Path) -> None:
    """Go on from where a swap was killed: between its two renames there is no .venv."""
    new, now, old = (root / name for name in (".venv.new", ".venv", ".venv.old"))
    if os.path.lexists(now):
        return
    if (new / "course-stamp.json").is_file():  # its last file: it is complete
        new.rename(now)
    elif os.path.lexists(old):
        old.rename(now)


def remove(folder: Path) -> None:
    """Remove a folder and what is in it; of a link, only the link."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def repoint(folder: Path, old: str, new: str) -> None:
    """Write the path `new` for `old` in the text files of an environment that hold
    paths: pyvenv.cfg, its scripts, the link to the course's package."""
    files = [folder / "pyvenv.cfg", *folder.glob("bin/*")]
    for packages in (*folder.glob("lib/python*/site-packages"), folder / "Lib"):
        files += [*packages.rglob("*.pth"), *packages.glob("__editable__*.py")]
        files += packages.rglob("pruning_course-*.dist-info/*.json")
    path, done = (
        re.compile(re.escape(p.encode()) + rb"(?![\w.-])") for p in (old, new)
    )
    for file in files:
        if file.is_symlink() or not file.is_file():
            continue
        content = file.read_bytes()
        if b"\0" in content or not path.search(content) or done.search(content):
            continue
        write_atomically(file, path.sub(lambda _: new.encode(), content))


def lay_settings(root: Path) -> None:
    """JupyterLab's settings, and what each Python does first, as they are today."""
    folder, start = root / ".venv", Path(__file__).with_name("startup.py")
    laid = {
        folder / "share/jupyter/lab/settings/overrides.json": json.dumps(OVERRIDES),
    }
    packages = [*folder.glob("lib/python*/site-packages"), folder / "Lib/site-packages"]
    for place in filter(Path.is_dir, packages if not folder.is_symlink() else []):
        laid[place / "pruning_course_startup.py"] = start.read_text("utf-8")
        laid[place / "pruning_course_startup.pth"] = start.with_suffix(
            ".pth"
        ).read_text("utf-8")
    for path, text in laid.items():
        # a read-only installation starts all the same
        with contextlib.suppress(OSError):
            if not path.exists() or path.read_bytes() != text.encode():
                write_atomically(path, text.encode())


def check_space(folder: Path, wanted: float) -> None:
    """Raise StartError when fewer than `wanted` bytes are free in `folder`."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise StartError(
            f"The packages of the course want about {wanted / 1e9:.1f} GB and only"
            f" {free / 1e9:.1f} GB are free in {folder}: free some space, then start"
            " again."
        )


def make_venv(folder: Path) -> None:
    """Make a fresh, empty environment."""
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        raise StartError(WITHOUT_VENV)
    python = getattr(sys, "_base_executable", None) or sys.executable
    made = subprocess.run(
        [python, "-m", "venv", str(folder)], capture_output=True, text=True
    )
    if made.returncode or not running_version(folder):
        raise StartError(venv_problem(made.stdout + made.stderr, folder))


def venv_problem(output: str, folder: Path) -> str:
    """One sentence for an environment that could not be made."""
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
