"""What `make lint` does where TypeScript cannot be had, or is not the one pinned."""

import base64
import hashlib
import io
import subprocess
import tarfile

import pytest

from tools import javascript, npm
from tools.start.files import StartError


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Instead of npm: packs an archive with this content; a `.venv` of its own."""
    monkeypatch.setattr(npm.sys, "prefix", str(tmp_path))
    asked = []

    def pack(*arguments, cwd):
        asked.append(arguments[1])
        content = io.BytesIO(b"check()")
        member = tarfile.TarInfo("package/lib/tsc.js")
        member.size = 7
        with tarfile.open(cwd / "it-1.tgz", "w:gz") as archive:
            archive.addfile(member, content)
        npm.sha = hashlib.sha512((cwd / "it-1.tgz").read_bytes()).digest()
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(npm, "npm", pack)
    return asked


def test_a_package_that_is_not_the_pinned_one_is_refused(registry, tmp_path):
    with pytest.raises(StartError, match="it 1 is not what was pinned"):
        npm.package("it", "1", "AAAA")
    assert not list(tmp_path.rglob("tsc.js"))


def test_a_package_is_fetched_once(registry, monkeypatch):
    class Any:
        def __eq__(self, other):
            return base64.b64encode(npm.sha).decode() == other

        __hash__ = None

    folder = npm.package("it", "1", Any())
    assert (folder / "lib" / "tsc.js").read_bytes() == b"check()"
    assert npm.package("it", "1", "AAAA") == folder
    assert registry == ["it@1"]


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_without_a_checker_lint_says_so_and_ci_fails(monkeypatch, capsys, ci, status):
    def lost(*_):
        raise StartError("typescript 5 cannot be had.")

    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(javascript, "package", lost)
    assert javascript.main() == status
    assert "not checked: typescript 5 cannot be had." in capsys.readouterr().out
