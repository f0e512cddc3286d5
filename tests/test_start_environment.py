"""The environment: complete or not there; killed, moved or offline, nothing is lost."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.start import environment, installed, installing
from tools.start.files import StartError


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_missing_venv_module(tmp_path, monkeypatch, missing):
    monkeypatch.setattr(
        environment.importlib.util,
        "find_spec",
        lambda name: None if name == missing else name,
    )
    with pytest.raises(StartError, match="python3-venv"):
        environment.make_venv(tmp_path)


def test_too_little_space_is_said_before_the_install(tmp_path, monkeypatch):
    monkeypatch.setattr(
        environment.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9)
    )
    with pytest.raises(StartError, match=r"3\.0 GB and only 1\.0 GB"):
        environment.check_space(tmp_path, environment.SPACE)


@pytest.mark.parametrize(
    ("said", "free", "advice"),
    [
        (
            (
                "ERROR: Could not install packages due to an OSError: [Errno 28] No"
                " space left on device"
            ),
            9e9,
            "disk is full",
        ),
        ("", 1e6, "disk is full"),
        (
            "NewConnectionError ...\nERROR: No matching distribution found for torch",
            9e9,
            "network",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0", 9e9, "Python"),
        ("something else", 9e9, "install.log"),
    ],
)
def test_a_failed_install_says_what_to_do(said, free, advice):
    assert advice in installing.pip_problem(said, Path("install.log"), free)


# --------------------------------------------------------------- what programs are told


@pytest.fixture
def home(monkeypatch):
    """Set HOME; nothing is remembered of another."""
    environment.jupyter_folders.cache_clear()
    yield lambda value: monkeypatch.setenv("HOME", str(value))
    environment.jupyter_folders.cache_clear()


def test_with_a_home_folder_jupyter_keeps_its_settings_there(home, tmp_path, capsys):
    home(tmp_path)
    assert environment.jupyter_folders() == {} and capsys.readouterr().out == ""


@pytest.mark.parametrize("place", ["/dev/null", "/nowhere/at/all", "zero"])
def test_without_a_home_folder_jupyter_gets_another(
    home, tmp_path, monkeypatch, capsys, place
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("JUPYTER_DATA_DIR", "/of/the/learner")
    home(place)
    told = environment.environment(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert told["JUPYTER_CONFIG_DIR"] == str(folder / "config_dir")
    assert told["JUPYTER_DATA_DIR"] == "/of/the/learner"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    environment.environment(tmp_path)
    assert list(tmp_path.iterdir()) == [folder]
    assert capsys.readouterr().out.count(f"settings are kept in {folder}.") == 1


def test_a_user_without_any_home_is_told_too(home, tmp_path, monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(environment.Path, "home", unknown)
    assert str(tmp_path) in environment.jupyter_folders()["JUPYTER_RUNTIME_DIR"]


# ---------------------------------------------------------------------- installing once


class Project:
    """A project folder whose environments are made and filled by stand-ins that
    count. What an environment holds is a file in it."""

    def __init__(self, root: Path):
        self.root, self.made, self.installed = root, 0, []
        self.version, self.fails = "3.12", None
        self.require("lab", "torch==1\nnumpy==2\n-e .\n")
        self.require("class", "torch==1\nnumpy==2\nhub==1\n-e .\n")
        self.require("dev", "torch==1\nnumpy==2\nhub==1\npytest==3\n-e .\n")

    def require(self, level: str, text: str) -> None:
        (self.root / environment.REQUIREMENTS[level]).write_text(text)

    def make_venv(self, folder: Path) -> None:
        self.made += 1
        script = folder / "bin" / "jupyter"
        script.parent.mkdir(parents=True)
        script.write_text(f"#!{folder}/bin/python\n")
        script.chmod(0o755)
        (folder / "lib/python3.12/site-packages").mkdir(parents=True)

    def install_packages(self, python: Path, root: Path, requirements: str) -> None:
        if self.fails:
            raise self.fails
        self.installed.append(requirements)
        lines = installed.requirement_lines(root / requirements)
        (python.parents[1] / "packages").write_text("\n".join(lines))

    def running_version(self, folder: Path) -> str:
        return self.version if (folder / "bin").is_dir() else ""

    def missing(self, folder: Path, root: Path, level: str) -> list[str]:
        held = folder / "packages"
        lines = held.read_text().splitlines() if held.exists() else []
        wanted = installed.requirement_lines(root / environment.REQUIREMENTS[level])
        return [line for line in wanted if line not in lines]

    def ensure(self, level: str) -> list[str]:
        """The requirement files that this call installed."""
        before = len(self.installed)
        environment.ensure(self.root, level)
        return self.installed[before:]

    @property
    def venv(self) -> Path:
        return self.root / ".venv"


LAB, CLASS, DEV = environment.REQUIREMENTS.values()


@pytest.fixture
def project(tmp_path, monkeypatch):
    made = Project(tmp_path)
    for name in ("make_venv", "install_packages", "running_version", "missing"):
        monkeypatch.setattr(environment, name, getattr(made, name))
    monkeypatch.setattr(environment, "check_space", lambda *_: None)
    return made


def test_a_second_start_installs_nothing(project):
    assert project.ensure("lab") == [LAB]
    assert project.ensure("lab") == []
    assert project.made == 1


def test_dev_implies_class_and_lab_but_not_the_reverse(project):
    assert project.ensure("lab") == [LAB]
    assert project.ensure("class") == [CLASS]
    assert project.ensure("dev") == [DEV]
    assert project.ensure("class") == []
    assert project.ensure("lab") == []


def test_the_files_of_an_environment_name_its_final_place(project):
    project.ensure("lab")
    assert (project.venv / "bin/jupyter").read_text() == (
        f"#!{project.venv}/bin/python\n"
    )
    assert os.access(project.venv / "bin/jupyter", os.X_OK)
    assert not (project.root / ".venv.new").exists()
    assert not (project.root / ".venv.old").exists()


def test_a_changed_requirement_installs_again(project):
    project.ensure("dev")
    project.require("dev", "torch==1\nnumpy==2\nhub==1\npytest==4\n-e .\n")
    assert project.ensure("lab") == []
    assert project.ensure("dev") == [DEV]
    project.require("lab", "torch==2\nnumpy==2\n-e .\n")
    assert project.ensure("lab") == [LAB]


@pytest.mark.parametrize(
    "text",
    [
        "# a new comment\ntorch==1\nnumpy==2\n-e .\n",
        "-e .\n\nnumpy==2   # why\ntorch==1\n",
        "numpy==2\n-e .\n",  # less than there is
    ],
)
def test_what_is_there_already_is_accepted_without_a_network(project, text):
    project.ensure("lab")
    project.fails = StartError("no network")
    project.require("lab", text)
    assert project.ensure("lab") == []
    assert project.made == 1


@pytest.mark.parametrize("damage", [b"{", b"", b"[]", None])
def test_a_damaged_stamp_is_written_again(project, damage):
    project.ensure("lab")
    stamp = environment.stamp_path(project.root)
    whole = stamp.read_bytes()
    stamp.unlink() if damage is None else stamp.write_bytes(damage)
    assert project.ensure("lab") == []
    assert stamp.read_bytes() == whole


def everything_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("error", [StartError("no network"), KeyboardInterrupt()])
def test_a_failed_or_stopped_update_leaves_the_old_one_whole(project, error):
    project.ensure("dev")
    before = everything_in(project.venv)
    project.require("dev", "torch==2\nnumpy==2\nhub==1\npytest==3\n-e .\n")
    project.fails = error
    with pytest.raises(type(error)):
        project.ensure("dev")
    assert everything_in(project.venv) == before
    project.fails = None
    assert project.ensure("dev") == [DEV]


def test_without_a_network_the_lab_starts_with_the_packages_of_before(project, capsys):
    project.ensure("lab")
    before = everything_in(project.venv)
    project.require("lab", "torch==2\n-e .\n")
    project.fails = StartError("No network.")
    assert project.ensure("lab") == []
    assert capsys.readouterr().out.startswith("No network. Until then")
    assert everything_in(project.venv) == before
    project.fails = None
    assert project.ensure("lab") == [LAB]


def test_a_failed_first_install_is_an_error_and_is_tried_again(project):
    project.fails = StartError("no network")
    with pytest.raises(StartError):
        project.ensure("lab")
    assert not project.venv.exists()
    assert not (project.root / ".venv.new").exists()
    project.fails = None
    assert project.ensure("lab") == [LAB]


def test_a_first_start_killed_half_way_is_done_again(project):
    project.make_venv(project.root / ".venv.new")
    assert project.ensure("lab") == [LAB]
    assert environment.is_ready(project.root, "lab")


def test_an_environment_with_half_a_package_is_replaced(project):
    """As pip leaves it that is killed while it fills .venv itself."""
    project.make_venv(project.venv)
    (project.venv / "packages").write_text("torch==1")
    assert project.ensure("lab") == [LAB]


def test_an_incomplete_installation_does_not_take_the_place(project, monkeypatch):
    monkeypatch.setattr(environment, "install_packages", lambda *_: None)
    with pytest.raises(StartError, match="not complete"):
        project.ensure("lab")
    assert not project.venv.exists()


def test_a_swap_killed_between_its_renames_is_finished(project):
    project.ensure("lab")
    shutil.copytree(project.venv, project.root / ".venv.new")
    project.venv.rename(project.root / ".venv.old")
    assert project.ensure("lab") == []
    assert environment.is_ready(project.root, "lab")


def test_an_old_one_comes_back_when_the_new_one_is_not_complete(project):
    project.ensure("lab")
    before = everything_in(project.venv)
    project.venv.rename(project.root / ".venv.old")
    project.make_venv(project.root / ".venv.new")
    assert project.ensure("lab") == []
    assert everything_in(project.venv) == before


@pytest.mark.parametrize("version", ["", "3.13"])
def test_a_python_that_broke_or_changed_makes_a_new_one(project, monkeypatch, version):
    project.ensure("lab")
    ran = project.running_version
    monkeypatch.setattr(
        environment,
        "running_version",
        lambda folder: version if folder.name == ".venv" else ran(folder),
    )
    if version:  # another Python looks for packages elsewhere
        (project.venv / "packages").unlink()
    assert project.ensure("lab") == [LAB]
    assert project.made == 2


@pytest.mark.parametrize("ending", ["_moved", ".new place"])
def test_a_moved_folder_is_mended_in_place_without_a_network(project, ending):
    project.ensure("lab")
    packages = project.venv / "lib/python3.12/site-packages"
    (packages / "_editable.pth").write_text(str(project.root))
    moved = project.root.with_name(project.root.name + ending)
    project.root.rename(moved)
    project.root, project.fails = moved, StartError("no network")
    assert project.ensure("lab") == []
    assert project.made == 1
    assert (project.venv / "bin/jupyter").read_text() == (
        f"#!{project.venv}/bin/python\n"
    )
    packages = project.venv / "lib/python3.12/site-packages"
    assert (packages / "_editable.pth").read_text() == str(moved)
    assert environment.is_ready(moved, "lab")


def test_a_linked_environment_is_used_and_left_as_it_is(project, tmp_path_factory):
    project.ensure("lab")
    clone = Project(tmp_path_factory.mktemp("clone"))
    clone.venv.symlink_to(project.venv)
    before = everything_in(project.venv)
    clone.fails = project.fails = StartError("no network")
    assert clone.ensure("lab") == []
    assert everything_in(project.venv) == before


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user"
)
def test_a_ready_folder_may_be_read_only(project):
    project.ensure("lab")
    project.venv.chmod(0o555)
    assert project.ensure("lab") == []


def test_jupyterlabs_settings_are_written_also_when_only_they_are_new(
    project, monkeypatch
):
    settings = project.venv / "share/jupyter/lab/settings/overrides.json"
    project.ensure("lab")
    assert json.loads(settings.read_text()) == environment.OVERRIDES
    monkeypatch.setattr(environment, "OVERRIDES", {"a": {"b": 1}})
    assert project.ensure("lab") == []
    assert json.loads(settings.read_text()) == {"a": {"b": 1}}


def test_an_environment_whose_python_does_not_run_is_noticed(tmp_path):
    assert environment.running_version(tmp_path) == ""
    python = environment.python_in(tmp_path)
    python.parent.mkdir(parents=True)
    python.write_text("#!/nowhere/python\n")
    python.chmod(0o755)
    assert environment.running_version(tmp_path) == ""


# ----------------------------------------------------------------- what is asked of pip


def test_what_an_environment_lacks(tmp_path, monkeypatch):
    version = metadata.version("pytest")
    file = tmp_path / "requirements.txt"
    lines = [
        f"pytest=={version}",
        "pytest==0.1",
        "no-such-package==1",
        "no-such-package==1 ; sys_platform == 'none'",
    ]
    file.write_text("# comment\n" + "\n".join(lines) + "\n-e .\n")
    assert installed.missing(file) == ["no-such-package==1", "pytest==0.1"]
    assert installed.missing(file, str(tmp_path))[0] == "-e ."  # another copy's
    # unpacked by half; the class may be the backport's, if a package has imported that
    monkeypatch.setattr(type(metadata.distribution("pytest")), "files", None)
    assert f"pytest=={version}" in installed.missing(file)


def test_a_bare_environment_can_be_asked(tmp_path):
    """A real one, as it is made."""
    folder = tmp_path / "bare"
    environment.make_venv(folder)
    (tmp_path / "requirements.txt").write_text("torch==1\n-e .\n")
    assert environment.missing(folder, tmp_path, "lab") == ["-e .", "torch==1"]
    new = tmp_path / "named"
    folder.rename(new)
    environment.repoint(new, str(folder), str(new))
    done = subprocess.run([new / "bin/pip", "--version"], capture_output=True)
    assert done.returncode == 0 or os.name == "nt"


class Installers:
    """Records what would be run; the words in `failing` make a command fail."""

    def __init__(self, failing: str = ""):
        self.failing, self.ran = failing, []

    def run(self, command: list[str], root: Path, settings: dict[str, str]) -> bool:
        self.ran.append(command)
        return not (self.failing and self.failing in command)


@pytest.fixture
def installers(monkeypatch):
    made = Installers()
    for name in (*installing.OWN_INDEX, "PRUNING_TORCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(installing, "run", made.run)
    monkeypatch.setattr(installing, "uv_command", lambda _: ["uv", "pip", "install"])
    monkeypatch.setattr(installing, "answers", lambda _: True)
    monkeypatch.setattr(installing.sys, "platform", "linux")
    return made


LINES = ["numpy==2", "torch-pruning==1", "torch==1", "torchvision==1"]


def test_on_linux_torch_comes_from_the_index_of_cpu_wheels(installers, tmp_path):
    (tmp_path / LAB).write_text("\n".join(LINES))
    installing.install_packages(Path(sys.executable), tmp_path, LAB)
    first, second = installers.ran
    assert first[-5:] == [
        *("--index-url", installing.CPU_INDEX, "--no-deps"),
        *("torch==1", "torchvision==1"),
    ]
    assert second == ["uv", "pip", "install", "-r", LAB]


def test_where_uv_fails_pip_installs(installers, tmp_path):
    (tmp_path / LAB).write_text("numpy==2")
    installers.failing = "uv"
    installing.install_packages(Path(sys.executable), tmp_path, LAB)
    assert installers.ran[-1][:4] == [sys.executable, "-m", "pip", "install"]
    installers.failing = "-r"
    with pytest.raises(StartError):
        installing.install_packages(Path(sys.executable), tmp_path, LAB)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PRUNING_TORCH", "cuda"), ("PIP_EXTRA_INDEX_URL", "https://example.org")],
)
def test_a_learner_can_say_otherwise(installers, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    assert installing.cpu_wheels(LINES) == []


def test_other_systems_have_cpu_wheels_anyway(installers, monkeypatch):
    monkeypatch.setattr(installing.sys, "platform", "darwin")
    assert installing.cpu_wheels(LINES) == []


def test_a_silent_index_is_said_in_one_sentence(installers, monkeypatch, capsys):
    monkeypatch.setattr(installing, "answers", lambda _: False)
    assert installing.cpu_wheels(LINES) == []
    assert "does not answer" in capsys.readouterr().out


def test_an_unknown_wish_is_refused(installers, monkeypatch):
    monkeypatch.setenv("PRUNING_TORCH", "gpu")
    with pytest.raises(StartError, match="gpu is unknown"):
        installing.cpu_wheels(LINES)


def test_uv_is_told_what_pip_is_told(monkeypatch):
    said = (
        "global.index-url='https://example.org/simple'\n"
        ":env:.find-links='/a /b'\n"
        "global.timeout='3'\n"
    )
    monkeypatch.setattr(
        installing.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=said)
    )
    assert installing.uv_settings(Path("python")) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_DEFAULT_INDEX": "https://example.org/simple",
        "UV_FIND_LINKS": "/a,/b",
    }
