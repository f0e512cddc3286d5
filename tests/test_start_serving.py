"""JupyterLab and the explorer's page are served to this machine only."""

import json
import socket
from pathlib import Path

import pytest

from tools import course
from tools.start import serving
from tools.start.files import StartError


def test_a_taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"Port {port} is taken"):
            serving.choose_port(str(port))


@pytest.mark.parametrize("port", ["80", "0", "70000", "-1", "http", "88 88", "8888.0"])
def test_a_port_that_is_none(port):
    with pytest.raises(StartError, match="1024 to 65535"):
        serving.choose_port(port)


def test_without_a_wish_the_first_free_port_is_taken(monkeypatch):
    monkeypatch.setattr(serving, "is_free", lambda port: port > 8889)
    assert serving.choose_port("") == 8890


def test_jupyterlab_stays_on_this_machine_with_its_token(tmp_path):
    command = serving.lab_command(Path("python"), tmp_path, 8888, 0, browser=False)
    assert "--ServerApp.ip=127.0.0.1" in command
    assert "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate" in command
    assert "--no-browser" in command
    assert not [word for word in command if "token" in word or "password" in word]
    assert "--no-browser" not in serving.lab_command(
        Path("python"), tmp_path, 8888, 0, browser=True
    )


def test_the_explorer_is_served_to_this_machine_only_with_a_token(
    tmp_path, monkeypatch
):
    started = []
    monkeypatch.setenv("PRUNING_WORKSPACE", str(tmp_path / "my work"))
    monkeypatch.setattr(serving, "ROOT", tmp_path)
    monkeypatch.setattr(serving, "ensure", lambda root, level: None)
    monkeypatch.setattr(serving, "become", lambda command: started.append(command) or 0)
    assert course.main(["explorer", "--no-browser"]) == 0
    command = started[0]
    assert (
        "voila" in command
        and "--Voila.ip=127.0.0.1" in command
        and "--token" in command
    )
    assert "--no-browser" in command and not any(
        "strip_sources" in word or "show_tracebacks" in word for word in command
    )
    path = Path(next(word for word in command if word.endswith(".ipynb")))
    cells = json.loads(path.read_text())["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code"]
    assert (
        f"os.chdir({str(tmp_path / 'my work')!r})" in cells[1]["source"]
        and (tmp_path / "my work").is_dir()
    )
    assert path.is_relative_to(tmp_path / ".venv"), (
        "derived: not among the learner's notebooks"
    )
