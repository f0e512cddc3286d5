"""JupyterLab and the explorer's page: for this machine only, with their token."""

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

from tools.start.environment import ensure, environment, venv_python
from tools.start.files import ROOT, StartError, write_json
from tools.start.workspace import (
    lay_notebooks,
    lay_pages,
    shadows,
    workspace_folder,
)

FIRST_NOTEBOOK = "00_start_here.ipynb"
FIRST_PORT = 8888


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
