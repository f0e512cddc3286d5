"""Deployed networks against the dense one."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from tools.bench.table import Row
from utils import baselines, data, deploy, generation, measure, models
from utils.data import sample_batches

DEPLOYED = ("vgg_thin", "vgg_thin_1", "vgg_thin_2")  # three seeds


def deployment(threads: int) -> Iterator[Row]:
    """The thin VGGs as int8 in ONNX Runtime, against the dense VGG in PyTorch, at batch
    1 and 256."""
    pictures, dense = data.load(), baselines.baseline("vgg")
    sizes, sessions = _deployed(pictures, threads)
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
            smaller = measure.file_bytes(dense) / sizes[name]
            yield Row(
                f"{name}, int8, batch {batch}",
                race.seconds[name],
                "VGG in PyTorch",
                race.seconds["dense"],
                goal,
                remarks=(
                    f"{sizes[name]:,} bytes, {smaller:.1f} times smaller than the dense"
                    " weights"
                ),
            )


def _deployed(
    pictures: data.Data, threads: int
) -> tuple[dict[str, int], dict[str, deploy.Session]]:
    """Bytes and sessions of the thin networks as int8."""
    batches = sample_batches(pictures.train, count=4)
    sizes, sessions = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        for name in DEPLOYED:
            deploy.to_onnx(baselines.baseline(name), pictures.test.images[:1], path)
            sizes[name] = deploy.to_int8(path, batches, path)
            sessions[name] = deploy.Session(path, threads=threads)
    return sizes, sessions


SHAPES = {  # what is left of the text network of the course
    "dense": {},
    "half of heads and neurons": {"heads": 3, "neurons": 384},
    "3 of 6 blocks": {"blocks": 3},
}
STORED = {  # and how its weights are
    "float32": None,
    "8 bits": {"bits": 8},
    "4 bits": {"bits": 4},
    "4 bits, tables 8": {"bits": 4, "table_bits": 8},
}


def stored(threads: int) -> Iterator[Row]:
    """Text networks in ONNX Runtime, writing 100 pieces after a prompt of 20, against
    the dense one in float32. Weights are as drawn: they change neither bytes nor
    speed."""
    sizes, writers = _writers(threads)
    prompt, added = torch.arange(20), generation.noise(100, 1024, 0.6, seed=0)
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(7):
        for name, writer in writers.items():
            start = time.perf_counter()
            writer.write(prompt, added)
            seconds[name].append(time.perf_counter() - start)
    first, *_ = seconds
    for name, ours in seconds.items():
        speed = len(added) / statistics.median(ours)
        remarks = f"{sizes[name]:,} bytes, {speed:,.0f} pieces a second"
        yield Row(f"stored: {name}", ours, first, seconds[first], remarks=remarks)


def _writers(threads: int) -> tuple[dict[str, int], dict[str, deploy.OnnxWriter]]:
    """Bytes and writers of each shape, stored in each way."""
    sizes, writers = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder) / "step.onnx", Path(folder) / "bits.onnx"
        for shape, changes in SHAPES.items():
            whole = deploy.step_to_onnx(models.gpt(**changes), source)
            for way, how in STORED.items():
                name = f"{shape}, {way}"
                sizes[name] = deploy.step_to_bits(source, path, **how) if how else whole
                file = path if how else source
                writers[name] = deploy.OnnxWriter(file, threads=threads)
    return sizes, writers
