"""The rooms of the helper package: who may import whom, and what an import costs."""

import ast
import itertools
import pkgutil
from pathlib import Path

import pytest

import utils

# each imports only from rooms to its left; a package is one room
ORDER = (
    "torchvision_repair",
    "files",
    "arguments",
    "problems",
    "record",
    "layers",
    "data",
    "text",
    "models",
    "preflight",
    "resuming",
    "training",
    "generation",
    "baselines",
    "selection",
    "scores",
    "masks",
    "refit",
    "channels",
    "surgery",
    "schedules",
    "distillation",
    "quantization",
    "compression",
    "deploy",
    "measure",
    "studies",
    "plots",
    "explorer",
    "capstone",
    "limits",
    "exercises",
    "tasks",
    "hidden",
    "guesses",
    "quizzes",
    "progress",
    "lab",
)
ROOMS = sorted(
    module.name for module in pkgutil.walk_packages(utils.__path__, "utils.")
)


def source(room: str) -> Path:
    path = Path(utils.__path__[0]).joinpath(*room.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports(room: str) -> set[str]:
    """The rooms that this one imports when it is imported itself; not what it names for
    a type checker, nor what a function imports when it runs."""
    found = set()
    for node in ast.parse(source(room).read_text()).body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            # the longest part of it that is a room
            found |= set([r for r in ROOMS if f"{name}.".startswith(f"{r}.")][-1:]) - {
                room
            }
    return found


def top(room: str) -> str:
    """`measure` of `utils.measure.timing`."""
    return room.split(".")[1]


def test_every_room_has_its_place():
    assert set(ORDER) == set(map(top, ROOMS))


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_from_its_left(room):
    parts = [each for each in ROOMS if top(each) == room]
    used = {top(other) for part in parts for other in imports(part)}
    assert used - {room} <= set(ORDER[: ORDER.index(room)])


def test_no_room_comes_back_to_itself():
    seen: dict[str, set[str]] = {room: imports(room) for room in ROOMS}
    for middle, start, end in itertools.product(ROOMS, repeat=3):
        if middle in seen[start] and end in seen[middle]:
            seen[start].add(end)
    assert not [room for room in ROOMS if room in seen[room]]


@pytest.mark.parametrize("room", ["files", "arguments", "problems", "record"])
def test_the_ground_floor_costs_nothing(room, start_python):
    code = (
        f"import sys, utils.{room};"
        "print(sorted({'torch', 'torchvision', 'numpy'} & set(sys.modules)))"
    )
    output, errors = start_python(code).communicate(timeout=60)
    assert (output.strip(), errors) == ("[]", "")


@pytest.mark.parametrize("room", ["data", "training", "masks", "surgery", "schedules"])
def test_pruning_does_not_need_torchvision(room, start_python):
    code = f"import sys, utils.{room}; print('torchvision' in sys.modules)"
    output, errors = start_python(code).communicate(timeout=120)
    assert (output.strip(), errors) == ("False", "")
