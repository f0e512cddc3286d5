"""JupyterLab and the explorer's page are served to this machine only."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import course
from tools.start import page, serving
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


@pytest.fixture
def started(tmp_path, monkeypatch):
    """The commands that would take the launcher's place, each with its variables; the
    user has a configuration of Jupyter that asks for no token."""
    own = tmp_path / "home" / ".jupyter"
    own.mkdir(parents=True)
    (own / "jupyter_server_config.py").write_text("c.IdentityProvider.token = ''")
    monkeypatch.setenv("HOME", str(own.parent))
    monkeypatch.setenv("USERPROFILE", str(own.parent))
    monkeypatch.setenv("PRUNING_WORKSPACE", str(tmp_path / "my work"))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(own))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(serving, "ensure", lambda root, level: None)
    commands = []
    monkeypatch.setattr(
        serving,
        "become",
        lambda command, variables=None: commands.append((command, variables)) or 0,
    )
    return commands


def test_the_explorer_starts_and_writes_nothing_but_in_the_workspace(
    started, tmp_path, monkeypatch
):
    monkeypatch.setattr(serving, "ROOT", tmp_path / "shared, and not to be written")
    assert course.main(["explorer", "--no-browser", "--ExplorerPage.visitors=3"]) == 0
    command, variables = started[0]
    assert Path(command[2]).name == "page.py" and "--no-browser" in command
    assert command[-1] == "--ExplorerPage.visitors=3"
    assert variables["PRUNING_WORKSPACE"] == str(tmp_path / "my work")
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert written == {"home", "my work"}


def test_a_second_explorer_leaves_the_first_its_workspace(
    started, tmp_path, monkeypatch
):
    """What differs between them is in their own environments."""
    for name in ("first", "second"):
        monkeypatch.setenv("PRUNING_WORKSPACE", str(tmp_path / name))
        course.main(["explorer", "--no-browser"])
    assert [variables["PRUNING_WORKSPACE"] for _, variables in started] == [
        str(tmp_path / "first"),
        str(tmp_path / "second"),
    ]
    assert (
        "chdir" in page.NOTEBOOK.read_text()
        and str(tmp_path) not in page.NOTEBOOK.read_text()
    )


@pytest.mark.parametrize("command", ["lab", "explorer"])
def test_a_users_own_configuration_of_jupyter_is_not_read(started, tmp_path, command):
    assert course.main([command, "--no-browser"]) == 0
    variables = started[0][1]
    code = (
        "from jupyter_core.paths import jupyter_config_path as p; print(*p(), sep='|')"
    )
    asked = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True
    ).stdout.strip()
    assert str(tmp_path / "my work" / ".jupyter") in asked.split("|")
    assert str(tmp_path / "home") not in asked
    looks = tmp_path / "home" / ".jupyter" / "lab" / "user-settings"
    assert variables["JUPYTERLAB_SETTINGS_DIR"] == str(looks)


def test_voilas_extension_is_not_loaded_in_the_lab(started):
    course.main(["lab", "--no-browser"])
    command = started[0][0]
    assert "--ServerApp.jpserver_extensions=voila.server_extension=False" in command


def test_a_second_lab_says_so(started, tmp_path, capsys):
    (tmp_path / "my work").mkdir()
    with serving.hold(tmp_path / "my work", 8899):
        capsys.readouterr()
        assert course.main(["lab", "--no-browser"]) == 0
        assert "is open in" in (said := capsys.readouterr().out)
        assert "http://127.0.0.1:8899/lab" in said
    course.main(["lab", "--no-browser"])
    assert "is open in" not in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="the launcher stays there")
def test_a_lab_is_known_as_long_as_the_process_lives_that_the_launcher_becomes(
    tmp_path,
):
    code = (
        "import os, sys; from pathlib import Path; from tools.start import serving\n"
        f"held = serving.hold(Path({str(tmp_path)!r}), 8888)\n"
        "print('held', flush=True); os.execv('/bin/sleep', ['sleep', '60'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=serving.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as lab:
        assert lab.stdout is not None and lab.stdout.readline() == "held\n"
        lab.stdout.read(0)
        end = time.monotonic() + 10
        comm = Path(f"/proc/{lab.pid}/comm")
        while comm.exists() and comm.read_text() != "sleep\n":
            assert time.monotonic() < end
        assert serving.hold(tmp_path, 8889) is None
        lab.kill()
    free = serving.hold(tmp_path, 8889)
    assert free is not None
    free.close()


def test_a_home_that_cannot_be_written_is_one_sentence(
    started, tmp_path, monkeypatch, capsys
):
    for place in (tmp_path / "none", os.devnull):
        monkeypatch.setenv("HOME", str(place))
        monkeypatch.setenv("USERPROFILE", str(place))
        assert course.main(["explorer"]) == 1
        assert f"Your home folder, {place}, cannot" in capsys.readouterr().err
    assert not started
