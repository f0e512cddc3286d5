"""Fixtures that several test files share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from utils import data, lab, record, text
from utils.data import Data, Split

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The networks of the tests are tiny; on a busy machine two threads would only wait
    for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def record_file(tmp_path_factory) -> Path:
    """Where the tests keep what a learner has done: not beside the code."""
    return tmp_path_factory.mktemp("learner") / record.FILE


@pytest.fixture(autouse=True)
def nothing_recorded(record_file):
    """Each test begins and leaves with no recorded problem, no unheld claim, and
    nothing that a learner did."""
    before, record.FILE = record.FILE, str(record_file)
    lab.forget()
    yield
    lab.forget()
    record_file.unlink(missing_ok=True)
    record.FILE = before


@pytest.fixture(scope="session")
def course_data() -> Data:
    """All of Fashion-MNIST, read once for the whole run."""
    return data.load()


@pytest.fixture(scope="session")
def course_text() -> text.Texts:
    """The novels, read once for the whole run."""
    return text.load()


@pytest.fixture(scope="session")
def tiny(course_data) -> Split:
    """600 real training pictures."""
    return course_data.train[:600]


@pytest.fixture
def cnn() -> nn.Sequential:
    """A small network with every kind of layer that matters: a plain and a grouped
    convolution, BatchNorm, linear."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 10),
    )


@pytest.fixture
def batches(tiny) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Two batches of 16 real pictures."""
    return [
        (tiny.images[:16], tiny.labels[:16]),
        (tiny.images[16:32], tiny.labels[16:32]),
    ]


@pytest.fixture(scope="session")
def noise() -> Data:
    """Random pictures, `[n, 3, 8, 8]`, of four classes: for networks whose states take
    the explorer a millisecond."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        labels = torch.randint(4, (count,), generator=generator)
        return Split(
            torch.randn(count, 3, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1),
            labels,
        )

    return Data(split(256), split(60), split(8))


@pytest.fixture
def small() -> nn.Sequential:
    """A network for these pictures that allows every kind of pruning; in training mode,
    as a learner may leave it."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


def everything_about(model: nn.Module) -> dict:
    """What a function that must leave a model alone could change: numbers, gradients,
    modes, hooks, layout."""
    return {
        "state": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "grads": {
            name: None if p.grad is None else p.grad.clone()
            for name, p in model.named_parameters()
        },
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "strides": [p.stride() for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [
            len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
            for m in model.modules()
        ],
    }


@pytest.fixture
def unchanged():
    """`check = unchanged(model)`; call `check()` later: it fails if anything about the
    model is different."""

    def remember(model: nn.Module):
        before = everything_about(model)

        def check() -> None:
            after = everything_about(model)
            for part in ("requires_grad", "strides", "modes", "hooks"):
                assert after[part] == before[part], part
            for part in ("state", "grads"):
                assert after[part].keys() == before[part].keys()
                for name, old in before[part].items():
                    new = after[part][name]
                    assert (old is None and new is None) or torch.equal(old, new), (
                        f"{part} of {name}"
                    )

        return check

    return remember


@pytest.fixture
def start_python():
    """Start a fresh interpreter with warnings as errors, in the project; ended when the
    test ends."""
    started = []

    def start(code: str, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code],
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": str(PROJECT)} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
