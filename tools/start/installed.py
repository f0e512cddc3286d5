"""Which lines of a requirement file are not met: `python -I installed.py FILE [ROOT]`.

Run by the Python that is asked about. Prints a list as JSON. ROOT: the folder that must
hold the package of the line `-e .`.
"""

import importlib.util
import json
import sys
from importlib import metadata
from pathlib import Path


def is_met(line: str, root: str) -> bool:
    """Whether one line, `name==version ; marker` or `-e .`, is met here. A package that
    was unpacked by half has no list of its files."""
    if line == "-e .":
        found = importlib.util.find_spec("utils")
        if found is None or found.origin is None:
            return False
        return not root or Path(found.origin).parents[1] == Path(root)
    try:  # here: the launcher imports this file where there is neither
        from packaging.requirements import Requirement
    except ImportError:  # a bare environment has pip's copy
        from pip._vendor.packaging.requirements import Requirement
    wanted = Requirement(line)
    if wanted.marker and not wanted.marker.evaluate():
        return True
    try:
        package = metadata.distribution(wanted.name)
    except metadata.PackageNotFoundError:
        return False
    version_fits = wanted.specifier.contains(package.version, prereleases=True)
    return version_fits and package.files is not None


def requirement_lines(path: Path) -> list[str]:
    """The lines of a requirement file without comments, blanks and order."""
    lines = (line.partition("#")[0] for line in path.read_text("utf-8").splitlines())
    return sorted(filter(None, (" ".join(line.split()) for line in lines)))


def missing(path: Path, root: str = "") -> list[str]:
    """The lines of the requirement file `path` that this Python does not meet."""
    return [line for line in requirement_lines(path) if not is_met(line, root)]


if __name__ == "__main__":
    print(json.dumps(missing(Path(sys.argv[1]), *sys.argv[2:])))
