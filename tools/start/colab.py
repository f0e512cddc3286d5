"""The course in a notebook that Google Colab runs; `tools.web.colab` writes its first
cell, which calls `ready`.

Colab brings its own Python, with torch, and the kernel has read part of it when that
cell runs: a newer version of a package would not be the one in memory. So what is there
stays, and what is missing comes at the version that the labs are tested with. Standard
library only.
"""

import importlib
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from tools.start.environment import REQUIREMENTS
from tools.start.files import ROOT, StartError
from tools.start.installed import requirement_lines

# what opens, serves and checks notebooks, which Colab does by itself
NOT_NEEDED = {"ipykernel", "jupyterlab", "nbval", "voila"}


def normal(name: str) -> str:
    """A package's name, as it is compared."""
    return name.lower().replace("_", "-").replace(".", "-")


def name_of(line: str) -> str:
    """Of a requirement.

    >>> name_of("resvg-py~=0.5"), name_of("colorama==0.4.6 ; sys_platform == 'win32'")
    ('resvg-py', 'colorama')
    """
    for mark in "=~<>!;[ ":
        line = line.partition(mark)[0]
    return normal(line)


def installed() -> dict[str, str]:
    """The versions of all packages that are there, by name."""
    return {normal(each.name): each.version for each in metadata.distributions()}


def wanted(root: Path) -> set[str]:
    """The packages that a lab imports, by name."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    return set(map(name_of, project["dependencies"])) - NOT_NEEDED


def locked(root: Path) -> dict[str, str]:
    """Lines of the lock, by the package's name."""
    lines = requirement_lines(root / REQUIREMENTS["lab"])
    return {name_of(line): line for line in lines if "==" in line}


def ready(root: Path = ROOT) -> None:
    """Install what is missing, and make `utils` known to this kernel and to the
    processes that it starts.

    Raises:
        StartError: pip failed; it has said why.
    """
    there, lock = installed(), locked(root)
    held = [f"{name}=={version}" for name, version in there.items()]
    new = [line for name, line in lock.items() if name not in there]
    missing = sorted(wanted(root) - set(there))
    if missing and not (pip(missing, [*held, *new]) or pip(missing, held)):
        raise StartError(
            f"pip cannot install {', '.join(missing)} beside what is here: see above."
        )
    if not pip(["--no-deps", "-e", str(root)]):
        raise StartError("pip cannot install the course itself: see above.")
    if str(root) not in sys.path:  # a running kernel does not read what pip wrote there
        sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    for line in others(wanted(root), there, lock):
        print(line)
    print("The course is ready.")


def pip(arguments: list[str], constraints: list[str] | None = None) -> bool:
    """Whether pip installs something, with no version but those of the constraints."""
    command = [sys.executable, "-m", "pip", "install", "-q", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "constraints.txt")
        path.write_text("\n".join(constraints or []), encoding="utf-8")
        return subprocess.run([*command, "-c", str(path)]).returncode == 0


def others(
    names: set[str], there: Mapping[str, str], lock: Mapping[str, str]
) -> Iterator[str]:
    """A line for each package that is here in another version than the labs are tested
    with."""
    for name in sorted(names & set(there) & set(lock)):
        tested = lock[name].partition("==")[2].partition(";")[0].strip()
        if there[name].partition("+")[0] != tested:
            yield f"{name} {there[name]} stays; the labs are tested with {tested}."
