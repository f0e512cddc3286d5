"""requirements*.txt: everything at one version, as tested, from pyproject.toml."""

import re
import shutil
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools import lock
from tools.start.installed import requirement_lines

PROJECT = tomllib.loads((lock.ROOT / "pyproject.toml").read_text("utf-8"))
DIRECT = {
    "requirements.txt": PROJECT["project"]["dependencies"],
    "requirements-class.txt": PROJECT["dependency-groups"]["class"],
    "requirements-dev.txt": [
        line for line in PROJECT["dependency-groups"]["dev"] if isinstance(line, str)
    ],
}


def pins(name: str) -> dict[str, list[Requirement]]:
    """The lines of a requirement file by package."""
    found = {}
    for line in requirement_lines(lock.ROOT / name):
        if line != "-e .":
            pin = Requirement(line)
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


@pytest.mark.parametrize("name", lock.FILES)
def test_every_direct_dependency_is_pinned_within_its_range(name):
    pinned = pins(name)
    for line in DIRECT[name]:
        wanted = Requirement(line)
        for pin in pinned[canonicalize_name(wanted.name)]:
            (version,) = (specifier.version for specifier in pin.specifier)
            assert wanted.specifier.contains(version), line


@pytest.mark.parametrize("name", lock.FILES)
def test_every_line_names_one_version_and_no_cuda(name):
    lines = requirement_lines(lock.ROOT / name)
    assert "-e ." in lines
    for line in lines:
        assert line == "-e ." or re.match(r"[a-z0-9-]+==[^+;]+( ; .+)?$", line), line
        assert not line.startswith(("nvidia", "cuda", "triton"))


def test_the_labs_get_what_is_tested():
    lab, teachers, dev = (
        set(requirement_lines(lock.ROOT / name)) for name in lock.FILES
    )
    assert lab < teachers < dev


def needed(package: str, extra: str = "") -> list[str]:
    """What an installed package needs here."""
    lines = map(Requirement, metadata.requires(package) or [])
    return [
        canonicalize_name(line.name)
        for line in lines
        if not line.marker or line.marker.evaluate({"extra": extra})
    ]


def test_all_that_is_installed_for_the_course_is_pinned_at_that_version():
    pinned, seen = pins("requirements-dev.txt"), set()
    direct = [line for lines in DIRECT.values() for line in lines]
    open_ = [canonicalize_name(Requirement(line).name) for line in direct]
    while open_:
        name = open_.pop()
        if name in seen or lock.CUDA.match(name):
            continue
        seen.add(name)
        try:
            version = Version(metadata.version(name)).public
        except metadata.PackageNotFoundError:
            continue
        here = [p for p in pinned[name] if not p.marker or p.marker.evaluate()]
        assert [p.specifier.contains(version) for p in here] == [True], name
        open_ += needed(name)
    assert len(seen) > 100


@pytest.mark.parametrize("name", lock.FILES)
def test_the_files_are_what_make_lock_writes(name, tmp_path):
    """Without a network; skipped where uv has not seen the packages yet."""
    for file in ("pyproject.toml", *lock.FILES):
        shutil.copy(lock.ROOT / file, tmp_path)
    base = "" if name == "requirements.txt" else Path("requirements.txt")
    base = base and (lock.ROOT / base).read_text("utf-8")
    try:
        written = lock.resolve(name, tmp_path, ["--offline"], base)
    except SystemExit as said:
        if "network was disabled" in str(said) or "No module named uv" in str(said):
            pytest.skip("uv does not know the packages here")
        raise
    assert written == (lock.ROOT / name).read_text("utf-8")
