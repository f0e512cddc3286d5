"""Deployed networks against the dense one."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.bench.table import Row
from utils import baselines, data, deploy, measure
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
