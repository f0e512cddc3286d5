"""Training, schedules, evaluating, and loading the pictures."""

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from tools.bench.machine import LARGE, bytes_per_second, flops_per_second, timed
from tools.bench.table import Row, digits, spread
from utils import baselines, data, files, measure, schedules, training
from utils.torchvision_repair import import_torchvision

BATCHES = 60  # steps timed with the DataLoader, and scaled to an epoch
# short runs and many of them: what else the machine does changes from second to second
PICTURES, FITS = 5120, 9
UPDATES = 3  # in 20 steps: several times as often as in a run of the course
SCHEDULES: dict[str, schedules.Schedule] = {
    "one-shot": schedules.OneShot(0.95),
    "iterative": schedules.Iterative(0.95, updates=UPDATES),
    "cubic": schedules.Cubic(0.95, updates=UPDATES),
    "movement": schedules.Movement(0.95, updates=UPDATES),
    "SET": schedules.SET(0.95, updates=UPDATES),
    "RigL": schedules.RigL(0.95, updates=UPDATES),
}


def training_epoch(_threads: int) -> Iterator[Row]:
    """One epoch of `fit`, against a DataLoader over PIL transforms. Bound: the
    arithmetic of the network."""
    train, recipe = data.load().train, training.Recipe(epochs=1)
    seconds, bound = _epochs(train, recipe, rounds=3)
    steps = -(-len(train) // recipe.batch_size)
    remarks = (
        f"{len(train):,} pictures; the DataLoader: {BATCHES} of {steps} steps, scaled,"
        " without its start-up"
    )
    for workers in (0, 2):
        yield Row(
            "one epoch of fit, lenet300",
            seconds["ours"],
            f"DataLoader + PIL, {workers} workers",
            [part * steps / BATCHES for part in seconds[f"{workers} workers"]],
            "5x",
            bound,
            remarks,
        )


def _epochs(
    train: data.Split, recipe: training.Recipe, rounds: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of our epoch, and of BATCHES steps with the DataLoader; bounds."""
    # forward, and twice back
    macs = measure.macs(baselines.build("lenet300"), train.images[:1])
    work = 3 * 2 * macs * len(train)
    matrix, target = torch.ones(2, 1024, 1024)
    with tempfile.TemporaryDirectory() as folder:
        pictures = pil_dataset(Path(folder))
        ways = {
            "ours": lambda: fit_seconds(train, recipe),
            "0 workers": lambda: loader_seconds(pictures, recipe, 0, BATCHES),
            "2 workers": lambda: loader_seconds(pictures, recipe, 2, BATCHES),
        }
        # warm-up
        fit_seconds(train[:2560], recipe)
        loader_seconds(pictures, recipe, workers=0, steps=2)
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        bound = []
        for _ in range(rounds):
            for way, took in ways.items():
                seconds[way].append(took())
            bound.append(work / flops_per_second(matrix, target))
    return seconds, bound


def fit_seconds(
    train: data.Split,
    recipe: training.Recipe,
    schedule: schedules.Schedule | None = None,
) -> float:
    """Seconds of training LeNet-300-100 by this recipe."""
    model = baselines.build("lenet300")
    return timed(
        lambda: training.fit(model, train, recipe, schedule=schedule, progress=False)
    )


def pil_dataset(folder: Path) -> torch.utils.data.Dataset:
    """FashionMNIST the usual way: a PIL picture at a time, flipped, turned into a
    tensor, normalised."""
    import_torchvision()
    from torchvision import transforms
    from torchvision.datasets import FashionMNIST

    shutil.copytree(files.data_folder() / "FashionMNIST", folder / "FashionMNIST")
    steps = [
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((data.MEAN,), (data.STD,)),
    ]
    # finds the files, unpacks them
    return FashionMNIST(folder, download=True, transform=transforms.Compose(steps))


def loader_seconds(
    pictures: torch.utils.data.Dataset,
    recipe: training.Recipe,
    workers: int,
    steps: int,
) -> float:
    """Seconds of `steps` training steps fed by a DataLoader; starting its workers, and
    the first batch, not counted."""
    model = baselines.build("lenet300").train()
    optimizer = training.OPTIMIZERS[recipe.optimizer](
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    batches = iter(
        torch.utils.data.DataLoader(
            pictures,
            recipe.batch_size,
            shuffle=True,
            num_workers=workers,
            drop_last=True,
        )
    )
    next(batches)

    def work() -> None:
        for _ in range(steps):
            images, labels = next(batches)
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return timed(work)


def scheduled_steps(_threads: int) -> Iterator[Row]:
    """A training step with each schedule, its start and updates included, against a
    dense step."""
    train, recipe = data.load().train[:PICTURES], training.Recipe(epochs=1)
    steps = -(-len(train) // recipe.batch_size)
    ways: dict[str, schedules.Schedule | None] = {"dense": None} | SCHEDULES
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(1 + FITS):
        for name, schedule in ways.items():
            took = fit_seconds(train, recipe, schedule) / steps
            if number:  # the first round is the warm-up
                seconds[name].append(took)
    dense = seconds.pop("dense")
    for name, own in seconds.items():
        share = spread([a / b for a, b in zip(own, dense, strict=True)], "x")
        remarks = (
            f"{share} of a dense step; updates: {len(SCHEDULES[name].due)} in {steps}"
            f" steps of {recipe.batch_size}"
        )
        yield Row(f"a step of fit with {name}", own, "dense", dense, remarks=remarks)


def evaluation(_threads: int) -> Iterator[Row]:
    """Accuracy on the 10,000 test pictures, against the arithmetic peak. Untrained
    weights cost the same."""
    test = data.load().test
    for name, rounds in {"lenet300": 5, "resnet": 3, "vgg": 1}.items():
        model = baselines.build(name)
        training.evaluate(model, test[:1000])  # warm-up
        yield _evaluate_one(name, model, test, rounds)


def _evaluate_one(name: str, model: nn.Module, test: data.Split, rounds: int) -> Row:
    matrix, target = torch.ones(2, 1024, 1024)
    work = 2 * measure.macs(model, test.images[:1]) * len(test)
    seconds, bound = [], []
    for _ in range(rounds):
        before = flops_per_second(matrix, target)
        seconds.append(timed(lambda: training.evaluate(model, test)))
        bound.append(2 * work / (before + flops_per_second(matrix, target)))
    middle = statistics.median(seconds)
    peak = work / statistics.median(bound)
    remarks = (
        f"{len(test) / middle:,.0f} pictures/s, {digits(work / middle / 1e9)} GFLOP/s"
        f" of {digits(peak / 1e9)} in a matrix product"
    )
    return Row(f"evaluate {name}", seconds, bound=bound, remarks=remarks)


def loading(_threads: int) -> Iterator[Row]:
    """`data.load()` in a new process."""
    loaded = sum(
        t.nbytes for split in data.load() for t in (split.images, split.labels)
    )
    source, target = torch.ones(2, LARGE)
    seconds, bound = [], []
    for _ in range(3):
        seconds.append(load_seconds())
        bound.append(loaded / bytes_per_second(source, target))
    remarks = (
        f"new process, its imports not counted; bound: writing {loaded / 1e6:.0f} MB of"
        " tensors"
    )
    yield Row("load data", seconds, goal="about 1 s", bound=bound, remarks=remarks)


def load_seconds() -> float:
    """Seconds of `data.load()` alone, in a fresh process."""
    code = (
        "import time; from utils import data; s = time.perf_counter(); data.load();"
        " print(time.perf_counter() - s)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)
