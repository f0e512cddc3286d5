"""How fast are the helpers, against what one would use otherwise and against what the
machine can do? `make bench`.

Some parts only: `python -m tools.bench pruning explorer` (of pruning, surgery,
training, schedules, evaluation, loading, deployment, explorer). Every comparison but
the explorer's alternates between its sides within one run, so
that other work on the machine slows both alike: trust the ratios, not the seconds.
Figures are medians with (lowest-highest) of the rounds.
"""

import argparse
import copy
import gc
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from tools import browser, responsiveness
from utils import (
    baselines,
    data,
    deploy,
    files,
    masks,
    measure,
    schedules,
    surgery,
    training,
)
from utils.data import sample_batches
from utils.layers import prunable, prunable_layers
from utils.scores import score

SPARSITY = 0.9
# torch needs about a minute for VGG-16
ROUNDS = {"ResNet-18": 3, "ResNet-50": 3, "VGG-16": 1}
CUT_ROUNDS = {"ResNet-50": 3, "VGG-16": 3, "DenseNet-121": 3}
EXAMPLE = torch.ones(1, 3, 224, 224)  # what the networks of torchvision take
LARGE = 1 << 26  # numbers in a tensor that is far larger than the caches
BATCHES = 60  # steps timed with the DataLoader, and scaled to an epoch
# of a weight pruned: read it, write its mask; read the mask, read and write the weight
PASS_BYTES = 4 + 1 + 1 + 8
COLUMNS = (
    "what",
    "ours, s",
    "against",
    "its time, s",
    "ratio",
    "goal",
    "bound, s",
    "ours / bound",
    "remarks",
)


@dataclass(frozen=True)
class Row:
    """One line of the table. `other` may be empty: then there is nothing to compare
    with, only the bound."""

    what: str
    ours: Sequence[float]  # seconds, one entry a round
    against: str = ""
    other: Sequence[float] = ()
    goal: str = ""
    # seconds that the machine needs at least, by what limits it
    bound: Sequence[float] = ()
    remarks: str = ""

    def cells(self) -> tuple[str, ...]:
        """The line's texts, one for each of COLUMNS."""
        ratio = (
            spread([b / a for a, b in zip(self.ours, self.other, strict=True)], "x")
            if self.other
            else ""
        )
        above = (
            spread([a / b for a, b in zip(self.ours, self.bound, strict=True)], "x")
            if self.bound
            else ""
        )
        ours, other, bound = (
            spread(seconds) if seconds else ""
            for seconds in (self.ours, self.other, self.bound)
        )
        return (
            self.what,
            ours,
            self.against,
            other,
            ratio,
            self.goal,
            bound,
            above,
            self.remarks,
        )


def spread(values: Sequence[float], unit: str = "") -> str:
    """ "median (lowest-highest)", three digits each."""
    middle, low, high = (
        digits(v) for v in (statistics.median(values), min(values), max(values))
    )
    return f"{middle}{unit}" if len(values) == 1 else f"{middle}{unit} ({low}-{high})"


def digits(value: float) -> str:
    """Three significant digits and no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> str:
    """A Markdown table whose columns also line up as plain text."""
    lines = [columns, *rows]
    widths = [
        max(len(line[column]) for line in lines) for column in range(len(columns))
    ]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(c.ljust(w) for c, w in zip(line, widths, strict=True))} |"
        for line in lines
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work()` takes; garbage is collected before, not meanwhile."""
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started
    finally:
        gc.enable()


# -------------------------------------------------------------- what the machine can do


def bytes_per_second(source: Tensor, target: Tensor) -> float:
    """Memory bandwidth: a copy reads and writes every byte. Both tensors must be far
    larger than the caches."""
    return 2 * source.nbytes / timed(lambda: target.copy_(source))


def flops_per_second(matrix: Tensor, target: Tensor) -> float:
    """Arithmetic peak that is really reached: two operations for each
    multiply-accumulate of a matrix product."""
    return 2 * len(matrix) ** 3 / timed(lambda: torch.mm(matrix, matrix, out=target))


def peak_extra_bytes(work: Callable[[], object]) -> int | None:
    """Most memory that `work()` held at once beyond what was there before, by the
    kernel's own record (Linux).

    None where that record cannot be reset. Memory that was freed before and kept by the
    process counts as there.
    """
    try:
        # sets the recorded peak to the present size
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_bytes("VmRSS")
    except OSError:
        return None
    result = work()
    peak = _status_bytes("VmHWM")
    del result
    return peak - before


def _status_bytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


# ------------------------------------------------------------------------------ pruning


def network(name: str) -> nn.Module:
    """A network of torchvision with random weights, the same each time."""
    from torchvision.models import densenet121, resnet18, resnet50, vgg16

    torch.manual_seed(0)
    return {
        "ResNet-18": resnet18,
        "ResNet-50": resnet50,
        "VGG-16": vgg16,
        "DenseNet-121": densenet121,
    }[name]()


def in_turn(
    ways: dict[str, Callable[[nn.Module], object]],
    model: nn.Module,
    rounds: int,
    least: Callable[[], float],
) -> tuple[dict[str, list[float]], dict[str, object], list[float]]:
    """Each way on a fresh copy of the model, then `least()`, and again: seconds by way,
    last results by way, bounds."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    found, bound = {}, []
    for _ in range(rounds):
        for way, work in ways.items():
            found.pop(way, None)  # so that freeing it is not timed
            own = copy.deepcopy(model)
            seconds[way].append(
                timed(
                    lambda work=work, way=way, own=own: found.update({way: work(own)})
                )
            )
        bound.append(least())
    return seconds, found, bound


def prune_ours(model: nn.Module) -> dict[str, Tensor]:
    """Prune in place; the masks by parameter name."""
    found = masks.magnitude_masks(model, SPARSITY, allow_empty=True)
    masks.apply_masks(model, found)
    return found


def prune_torch(model: nn.Module) -> dict[str, Tensor]:
    """The same with PyTorch's own tool."""
    layers = prunable_layers(model)
    prune.global_unstructured(
        [(layer, "weight") for layer in layers.values()],
        prune.L1Unstructured,
        amount=SPARSITY,
    )
    return {f"{name}.weight": layer.weight_mask for name, layer in layers.items()}


WAYS = {"ours": prune_ours, "torch": prune_torch}


def difference(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], weights: dict[str, Tensor]
) -> tuple[int, bool]:
    """How many mask elements differ, and whether all those weights are equally large:
    ties at the threshold."""
    unequal = [
        weights[name].detach()[ours[name] != theirs[name].bool()].abs() for name in ours
    ]
    magnitudes = torch.cat(unequal)
    return len(magnitudes), len(magnitudes.unique()) <= 1


def peak_copies(name: str, way: str, threads: int) -> float | None:
    """Peak extra memory of pruning a network, in copies of its weights, measured in a
    fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_copies_here, name, way, threads).result()


def _peak_copies_here(name: str, way: str, threads: int) -> float | None:
    torch.set_num_threads(threads)
    # so that neither thread pools nor lazy imports are counted
    WAYS[way](baselines.build("vgg"))
    model = network(name)
    size = sum(weight.nbytes for weight in prunable(model).values())
    extra = peak_extra_bytes(lambda: WAYS[way](model))
    return None if extra is None else extra / size


def pruning(threads: int) -> Iterator[Row]:
    """Global magnitude pruning at 90%, against torch.nn.utils.prune and against memory
    bandwidth."""
    for way in WAYS.values():
        way(baselines.build("vgg"))  # warm-up
    source, target = torch.ones(2, LARGE)
    for name, rounds in ROUNDS.items():
        yield _prune_one(name, rounds, threads, source, target)


def _prune_one(
    name: str, rounds: int, threads: int, source: Tensor, target: Tensor
) -> Row:
    model = network(name)
    weights = prunable(model)
    count = sum(weight.numel() for weight in weights.values())
    seconds, found, bound = in_turn(
        WAYS,
        model,
        rounds,
        lambda: PASS_BYTES * count / bytes_per_second(source, target),
    )
    differing, ties = difference(found["ours"], found["torch"], weights)
    same = (
        "masks identical"
        if not differing
        else f"{differing} mask elements differ, {'all' if ties else 'NOT'} ties"
    )
    copies = {
        way: peak_copies(name, way, threads)
        for way in WAYS
        if way == "ours" or rounds > 1
    }
    memory = (
        ", ".join(f"{way} {digits(c)}" for way, c in copies.items() if c is not None)
        or "not measurable here"
    )
    goal = "50x, under 1 copy" if name == "ResNet-50" else ""
    remarks = (
        f"{count / 1e6:.1f} M weights; {same}; peak extra memory in copies of the"
        f" weights: {memory}"
    )
    return Row(
        f"prune {name}",
        seconds["ours"],
        "torch.nn.utils.prune",
        seconds["torch"],
        goal,
        bound,
        remarks,
    )


# ------------------------------------------------------------------------------ surgery


def cut_ours(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy without half of the units of each layer, those of smallest L1 norm."""
    return surgery.shrink(model, example, score("l1", model, units=True), 0.5)


def cut_torch_pruning(model: nn.Module, example: Tensor) -> nn.Module:
    """As many with torch-pruning, in place. Its score counts the weights that read a
    unit too: others may leave."""
    import torch_pruning as tp

    importance, outputs = (
        tp.importance.MagnitudeImportance(p=1),
        list(prunable_layers(model).values())[-1],
    )
    tp.pruner.MagnitudePruner(
        model,
        example,
        importance=importance,
        pruning_ratio=0.5,
        ignored_layers=[outputs],
    ).step()
    return model


CUTS = {"ours": cut_ours, "torch-pruning": cut_torch_pruning}


def cutting(threads: int) -> Iterator[Row]:
    """Half of the channels removed, against torch-pruning and against memory
    bandwidth."""
    for cut in CUTS.values():
        cut(baselines.build("vgg").eval(), torch.ones(1, 1, 28, 28))  # warm-up
    source, target = torch.ones(2, LARGE)
    for name, rounds in CUT_ROUNDS.items():
        yield _cut_one(name, rounds, threads, source, target)


def _cut_one(
    name: str, rounds: int, threads: int, source: Tensor, target: Tensor
) -> Row:
    model = network(name).eval()
    ways = {way: partial(cut, example=EXAMPLE) for way, cut in CUTS.items()}
    seconds, found, speeds = in_turn(
        ways, model, rounds, lambda: bytes_per_second(source, target)
    )
    before, *after = (
        (measure.parameters(net), measure.macs(net, EXAMPLE))
        for net in (model, *(found[way] for way in CUTS))
    )
    # read all for the score, write what stays
    bound = [4 * (before[0] + after[0][0]) / speed for speed in speeds]
    nets = {"theirs": found["torch-pruning"], "ours": found["ours"]}
    timing = measure.latency(nets, EXAMPLE, threads=threads)["ours"]
    low, high = map(digits, timing.speedup_quartiles)
    quicker = (
        f"batch of 1: ours {digits(timing.speedup)}x as fast as theirs (quartiles"
        f" {low}-{high})"
    )
    remarks = f"{change(before, *after)}; {quicker}"
    return Row(
        f"halve {name}",
        seconds["ours"],
        "torch-pruning",
        seconds["torch-pruning"],
        "3x",
        bound,
        remarks,
    )


def change(
    before: tuple[int, int], ours: tuple[int, int], theirs: tuple[int, int]
) -> str:
    """What became of (parameters, MACs), and whether that is the same in both
    results."""
    old, new, other = (
        f"{digits(p / 1e6)} M parameters, {digits(m / 1e9)} GMACs"
        for p, m in (before, ours, theirs)
    )
    return (
        f"{old} -> {new},"
        f" {'the same in both' if ours == theirs else f'NOT the same: theirs {other}'}"
    )


# ----------------------------------------------------------------------------- training


def training_epoch(threads: int) -> Iterator[Row]:
    """One epoch of `fit`, against a DataLoader over PIL transforms. Bound: the
    arithmetic of the network."""
    train, recipe = data.load().train, training.Recipe(epochs=1)
    steps = -(-len(train) // recipe.batch_size)
    # forward, and twice back
    work = (
        3 * 2 * measure.macs(baselines.build("lenet300"), train.images[:1]) * len(train)
    )
    matrix, target = torch.ones(2, 1024, 1024)
    seconds: dict[str, list[float]] = {"ours": [], "0": [], "2": []}
    bound = []
    with tempfile.TemporaryDirectory() as folder:
        pictures = pil_dataset(Path(folder))
        # warm-up
        training.fit(baselines.build("lenet300"), train[:2560], recipe, progress=False)
        loader_seconds(pictures, recipe, workers=0, steps=2)
        for _ in range(3):
            model = baselines.build("lenet300")
            seconds["ours"].append(
                timed(lambda m=model: training.fit(m, train, recipe, progress=False))
            )
            for workers in (0, 2):
                part = loader_seconds(pictures, recipe, workers, BATCHES)
                seconds[str(workers)].append(part * steps / BATCHES)
            bound.append(work / flops_per_second(matrix, target))
    for workers in ("0", "2"):
        remarks = (
            f"{len(train):,} pictures; the DataLoader: {BATCHES} of {steps} steps,"
            " scaled, without its start-up"
        )
        against = f"DataLoader + PIL, {workers} workers"
        yield Row(
            "one epoch of fit, lenet300",
            seconds["ours"],
            against,
            seconds[workers],
            "5x",
            bound,
            remarks,
        )


def pil_dataset(folder: Path) -> torch.utils.data.Dataset:
    """FashionMNIST the usual way: a PIL picture at a time, flipped, turned into a
    tensor, normalised."""
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


# ---------------------------------------------------------------------------- schedules

# short runs and many of them: what else the machine does changes from second to second
PICTURES, FITS = 5120, 9
UPDATES = 3  # in 20 steps: several times as often as in a run of the course
SCHEDULES: dict[str, schedules.Schedule | None] = {
    "dense": None,
    "one-shot": schedules.OneShot(0.95),
    "iterative": schedules.Iterative(0.95, updates=UPDATES),
    "cubic": schedules.Cubic(0.95, updates=UPDATES),
    "movement": schedules.Movement(0.95, updates=UPDATES),
    "SET": schedules.SET(0.95, updates=UPDATES),
    "RigL": schedules.RigL(0.95, updates=UPDATES),
}


def scheduled_steps(threads: int) -> Iterator[Row]:
    """A training step with each schedule, its start and updates included, against a
    dense step."""
    train, recipe = data.load().train[:PICTURES], training.Recipe(epochs=1)
    steps = -(-len(train) // recipe.batch_size)
    seconds: dict[str, list[float]] = {name: [] for name in SCHEDULES}
    for number in range(1 + FITS):
        for name, schedule in SCHEDULES.items():
            work = partial(
                training.fit,
                baselines.build("lenet300"),
                train,
                recipe,
                schedule=schedule,
                progress=False,
            )
            took = timed(work) / steps
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


# --------------------------------------------------------------------------- evaluation


def evaluation(threads: int) -> Iterator[Row]:
    """Accuracy on the 10,000 test pictures, against the arithmetic peak. Untrained
    weights cost the same."""
    test = data.load().test
    matrix, target = torch.ones(2, 1024, 1024)
    for name, rounds in {"lenet300": 5, "resnet": 3, "vgg": 1}.items():
        model = baselines.build(name)
        training.evaluate(model, test[:1000])  # warm-up
        work = 2 * measure.macs(model, test.images[:1]) * len(test)
        seconds, bound = [], []
        for _ in range(rounds):
            before = flops_per_second(matrix, target)
            seconds.append(timed(lambda model=model: training.evaluate(model, test)))
            bound.append(2 * work / (before + flops_per_second(matrix, target)))
        middle = statistics.median(seconds)
        reached = (
            f"{len(test) / middle:,.0f} pictures/s, {digits(work / middle / 1e9)}"
            " GFLOP/s"
        )
        peak = digits(work / statistics.median(bound) / 1e9)
        yield Row(
            f"evaluate {name}",
            seconds,
            bound=bound,
            remarks=f"{reached} of {peak} in a matrix product",
        )


# ------------------------------------------------------------------------------ loading


def loading(threads: int) -> Iterator[Row]:
    """`data.load()` in a new process: first time on a machine (nothing unpacked), and
    later times."""
    loaded = sum(
        t.nbytes for split in data.load() for t in (split.images, split.labels)
    )
    source, target = torch.ones(2, LARGE)
    cold, warm, bound = [], [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(load_seconds(cache))
            warm.append(load_seconds(cache))
        bound.append(loaded / bytes_per_second(source, target))
    remarks = (
        f"new process, its imports not counted; bound: writing {loaded / 1e6:.0f} MB of"
        " tensors"
    )
    yield Row(
        "load data, cold",
        cold,
        goal="about 1 s",
        bound=bound,
        remarks=f"{remarks}; cold: nothing unpacked yet",
    )
    yield Row("load data, warm", warm, "cold", cold, "under cold", bound, remarks)


def load_seconds(cache: str) -> float:
    """Seconds of `data.load()` alone, in a fresh process with this cache folder."""
    code = (
        "import time; from utils import data; s = time.perf_counter(); data.load();"
        " print(time.perf_counter() - s)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PRUNING_CACHE": cache},
        cwd=Path(__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


# ----------------------------------------------------------------------------- explorer


def answering(threads: int) -> Iterator[Row]:
    """Key press to repaint in JupyterLab in a Chromium; the explorer beside `interact`
    with `plt.show`."""
    with (
        browser.chromium() as chromium,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        if chromium is None:
            return
        folders = (Path(folder) / str(number) for number in range(99))
        plain = responsiveness.interact(chromium, next(folders))
        wanted = {"lenet300": "75 ms, p95 100 ms", "resnet": "150 ms", "vgg": "150 ms"}
        for network, goal in wanted.items():
            for score in ("magnitude", "taylor"):
                found = responsiveness.explorer(chromium, next(folders), network, score)
                remarks = (
                    f"p95 {1000 * found.p95:.0f} ms (interact {1000 * plain.p95:.0f});"
                    f" key held: settles in {spread([1000 * s for s in found.settled])}"
                    f" ms; all 5,000 pictures in {spread(found.full)} s"
                )
                yield Row(
                    f"key press, {network}, {score}",
                    found.repaint,
                    "interact",
                    plain.repaint,
                    goal,
                    (),
                    remarks,
                )
        grown = responsiveness.growth(chromium, next(folders))
        kernel = (
            "not known"
            if grown.kernel_bytes is None
            else f"{grown.kernel_bytes / 1e6:+.1f} MB"
        )
        remarks = (
            f"memory after 1,000 moves: kernel {kernel}, page"
            f" {grown.page_bytes / 1e6:+.1f} MB"
        )
        yield Row(
            "1,000 moves without a pause",
            grown.repaint,
            goal="no growth",
            remarks=remarks,
        )


# --------------------------------------------------------------------------- deployment

DEPLOYED = ("vgg_thin", "vgg_thin_1", "vgg_thin_2")  # three seeds


def deployment(threads: int) -> Iterator[Row]:
    """The thin VGGs as int8 in ONNX Runtime, against the dense VGG in PyTorch, at batch
    1 and 256."""
    pictures, dense = data.load(), baselines.baseline("vgg")
    batches = sample_batches(pictures.train, count=4)
    sessions, bytes_ = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in DEPLOYED:
            path = Path(folder) / "network.onnx"
            deploy.to_onnx(baselines.baseline(name), pictures.test.images[:1], path)
            bytes_[name] = deploy.to_int8(path, batches, path)
            sessions[name] = deploy.Session(path, threads=threads)
    for batch, rounds, goal in ((1, 25, "15x"), (256, 5, "30x")):
        race = measure.Race(
            {"dense": dense} | sessions,
            pictures.test.images[:batch],
            threads=threads,
            shortest=0.03,
        )
        for _ in range(rounds):
            race.round()
        for name in DEPLOYED:
            smaller = measure.file_bytes(dense) / bytes_[name]
            remarks = (
                f"{bytes_[name]:,} bytes, {smaller:.1f} times smaller than the dense"
                " weights"
            )
            what = f"{name}, int8, batch {batch}"
            yield Row(
                what,
                race.seconds[name],
                "VGG in PyTorch",
                race.seconds["dense"],
                goal,
                remarks=remarks,
            )


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "pruning": pruning,
    "surgery": cutting,
    "training": training_epoch,
    "schedules": scheduled_steps,
    "evaluation": evaluation,
    "loading": loading,
    "deployment": deployment,
    "explorer": answering,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the named parts, all by default, and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"of: {', '.join(PARTS)}; default: all"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        help="default: as PyTorch chooses",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(
            f"no such part: {', '.join(sorted(unknown))}. Known: {', '.join(PARTS)}."
        )
    torch.set_num_threads(options.threads)
    rows = []
    for part in options.parts or PARTS:
        for row in PARTS[part](options.threads):
            print(f"measured: {row.what}", file=sys.stderr, flush=True)
            rows.append(row.cells())
    print(table(rows))
    print(f"\nMedian (lowest-highest) of alternating rounds. Bound: {BOUND}")
    load = (
        f"; load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    )
    print(
        f"{options.threads} thread(s) of {os.cpu_count()} cores{load}; torch"
        f" {torch.__version__}, {platform.machine()}."
    )


BOUND = (
    f"pruning moves {PASS_BYTES} bytes a weight (read it, write the mask; read the"
    " mask, read and write\nthe weight), and surgery 4 bytes for each weight scored"
    " (read) and for each that stays, about a quarter (write),\nat the bandwidth of a"
    " plain copy; training and evaluating do their multiply-accumulates at the speed"
    " of a\n1024 x 1024 matrix product; loading writes the tensors at the bandwidth of"
    " a copy. All measured in this run."
)

if __name__ == "__main__":
    main()
