"""deploy/: its numbers are those that were measured, and its own tools find nothing."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tools.classroom import sizing

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


def test_every_number_is_the_measured_one():
    for path, text in sizing.written(sizing.read()).items():
        assert path.read_text() == text, "run python -m tools.classroom.sizing"
    values = yaml.safe_load((DEPLOY / "values.yaml").read_text())["singleuser"]
    need = sizing.sizes(sizing.read())
    assert values["memory"]["guarantee"] == f"{need.guarantee_mb}M"
    assert values["memory"]["limit"] == f"{need.limit_mb}M"
    assert values["cpu"]["guarantee"] == need.guarantee_cpu
    marks = re.findall(r"# measured: (\w+)", (DEPLOY / "values.yaml").read_text())
    assert len(marks) == 4


def test_another_measurement_changes_them():
    found = replace(sizing.read(), kernel_mb=5000, largest_mb=6000)
    texts = sizing.written(found)
    for path, text in texts.items():
        assert text != path.read_text()
    need = sizing.sizes(found)
    assert need.guarantee_mb >= 5000 and need.limit_mb > need.guarantee_mb


def test_a_class_needs_more_than_one_learner():
    one, thirty = (sizing.sizes(sizing.read(), count) for count in (1, 30))
    assert one.class_mb < thirty.class_mb and one.class_cores <= thirty.class_cores
    assert thirty.class_mb >= 30 * thirty.guarantee_mb


def test_the_image_serves_as_nobody_special_and_listens_as_the_hub_says():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000"]
    assert "download.pytorch.org/whl/cpu" in "\n".join(lines)
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY")]
    assert all((ROOT / name).exists() for names in copied for name in names)


def test_what_a_learners_server_is_told_is_json_and_opens_no_terminal():
    folder = ROOT / "tools" / "classroom" / "server"
    told = json.loads((folder / "jupyter_server_config.json").read_text())
    assert told["ServerApp"]["terminals_enabled"] is False
    json.loads((folder / "labconfig" / "page_config.json").read_text())


@pytest.mark.parametrize(
    "command",
    [
        ["bash", "-n", "deploy/tljh.sh"],
        ["shellcheck", "deploy/tljh.sh"],
        ["hadolint", "deploy/Dockerfile"],
    ],
    ids=lambda command: command[0],
)
def test_its_own_tool_finds_nothing(command):
    beside = str(ROOT / ".venv" / "bin")
    tool = shutil.which(command[0], path=beside) or shutil.which(command[0])
    if not tool:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        [tool, *command[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
