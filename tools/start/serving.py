"""JupyterLab and the explorer's page: for this machine only, with their token."""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

from tools.start.environment import ensure, environment, venv_python
from tools.start.files import ROOT, StartError, try_lock, write_json
from tools.start.workspace import (
    lay_notebooks,
    lay_pages,
    shadows,
    workspace_folder,
)

FIRST_NOTEBOOK = "00_start_here.ipynb"
FIRST_PORT = 8888
# `make explorer` serves voila's page, and a teacher has nbgrader's panels elsewhere;
# in the lab each would be one more open door
NOT_IN_LAB = (
    "voila.server_extension",
    "nbgrader.server_extensions.formgrader",
    "nbgrader.server_extensions.validate_assignment",
    "nbgrader.server_extensions.assignment_list",
    "nbgrader.server_extensions.course_list",
)
NOT_SHOWN = {"disabledExtensions": {"@jupyter/nbgrader": True}}


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
        raise StartError(
            f"{wanted!r} is no port: give a number from 1024 to 65535, or none."
        )
    if not is_free(int(wanted)):
        raise StartError(
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
    command += [f"--ServerApp.jpserver_extensions={name}=False" for name in NOT_IN_LAB]
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
    for line in shadows(workspace):
        print(line)
    if not (workspace / FIRST_NOTEBOOK).exists():
        raise StartError(
            f"{FIRST_NOTEBOOK} is missing in {options.notebooks}: build it with make"
            " notebooks."
        )
    held = hold(workspace, port)
    print(f"Your notebooks are in {workspace}. Stop with Ctrl+C.", flush=True)
    command = lab_command(
        venv_python(ROOT), workspace, port, 0 if wanted else 20, wants_browser(options)
    )
    with held or contextlib.nullcontext():
        return become([*command, *rest], jupyter_environment(workspace))


def explorer(options: argparse.Namespace, rest: list[str]) -> int:
    """Install, serve the explorer as one page: this machine only, token on, no code in
    sight. tools/start/page.py is the server, and says how many it serves."""
    port = choose_port(options.port or os.environ.get("PORT", ""))
    ensure(ROOT, "lab")
    workspace = workspace_folder()
    workspace.mkdir(parents=True, exist_ok=True)
    page = Path(__file__).with_name("page.py")
    command = [str(venv_python(ROOT)), "-P", str(page), f"--port={port}"]
    if not wants_browser(options):
        command.append("--no-browser")
    print(
        "The page opens in your browser, or by the address below; what you keep from it"
        f" goes to {workspace}. Stop with Ctrl+C.",
        flush=True,
    )
    return become([*command, *rest], jupyter_environment(workspace))


def wants_browser(options: argparse.Namespace) -> bool:
    """Whether to open a browser window."""
    return not (options.no_browser or os.environ.get("BROWSER") in ("off", "none"))


def jupyter_environment(workspace: Path) -> dict[str, str]:
    """The environment of a server of the course: of the user's own Jupyter it takes
    the looks and the shortcuts, and no configuration, which may say that no token is
    needed."""
    kept = environment(ROOT)
    for name in ("JUPYTER_CONFIG_PATH", "JUPYTER_NO_CONFIG"):
        kept.pop(name, None)
    own = kept.get("JUPYTER_CONFIG_DIR") or str(home() / ".jupyter")
    looks = str(Path(own, "lab", "user-settings"))
    config = workspace / ".jupyter"
    config.mkdir(exist_ok=True)
    (config / "migrated").touch()  # nothing of IPython 3 either
    shown = config / "labconfig" / "page_config.json"
    if not shown.exists():
        write_json(shown, NOT_SHOWN)
    return {
        "JUPYTERLAB_SETTINGS_DIR": looks,
        **kept,
        "JUPYTER_CONFIG_DIR": str(config),
        "PRUNING_WORKSPACE": str(workspace),
    }


def home() -> Path:
    """The user's folder; refused where Jupyter could not keep its files in it."""
    try:
        folder = Path.home()
    except RuntimeError:
        folder = Path("~")
    places = [folder, folder / ".local/share/jupyter", folder / "Library/Jupyter"]
    places += [Path(own) for own in [os.environ.get("JUPYTER_DATA_DIR")] if own]
    if not any(place.is_dir() and os.access(place, os.W_OK) for place in places):
        raise StartError(
            f"Your home folder, {folder}, cannot be written, and Jupyter keeps files"
            " there while it runs: name a folder of your own in HOME."
        )
    return folder


def hold(workspace: Path, port: int) -> BinaryIO | None:
    """Note that JupyterLab runs in `workspace`, as long as the returned file is open,
    in this process or in the one it becomes. Where one runs already, say so."""
    file = open(workspace / ".lab.lock", "a+b", buffering=0)  # noqa: SIM115 - kept open
    if not try_lock(file):
        file.seek(1)  # Windows lets nobody read what is locked, the first byte
        where = file.read(5).decode("ascii", "replace")
        file.close()
        print(
            f"JupyterLab is open in {workspace} already: http://127.0.0.1:{where}/lab"
            " in your browser. A second one starts; do not edit a notebook in both, for"
            " the last that is saved stays."
        )
        return None
    file.truncate(0)
    file.write(f" {port}".encode())
    os.set_inheritable(file.fileno(), True)
    return file


def become(command: list[str], variables: dict[str, str] | None = None) -> int:
    """Hand this process over to `command`, so that signals and the exit status are its
    own."""
    variables = environment(ROOT) if variables is None else variables
    sys.stdout.flush()
    if os.name == "nt":
        return subprocess.call(command, env=variables)
    os.execve(command[0], command, variables)
    return 0
