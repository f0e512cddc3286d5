"""The runs that lab 10 quotes."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from utils import deploy, training
from utils.data import sample_batches
from utils.studies import SEEDS, Run, Shipped, Work, study

EXAMPLE = torch.zeros(1, 1, 28, 28)


@dataclass(frozen=True)
class Deploy:
    """Export, quantize with so many batches of pictures, and judge what the runtime
    answers. The test set is opened once."""

    batches: int = 4

    def carry_out(self, work: Work) -> None:
        size = min(256, len(work.train) // self.batches)
        batches = sample_batches(work.train, self.batches, size)
        with tempfile.TemporaryDirectory() as folder:
            fp32, int8 = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            deploy.to_onnx(work.model, EXAMPLE, fp32)
            work.found["bytes"] = deploy.to_int8(fp32, batches, int8)
            session = deploy.Session(int8)
            for part in ("validation", "test"):
                accuracy = training.evaluate(session, getattr(work.data, part))
                work.found[f"{part}_accuracy"] = round(accuracy, 4)
            outputs = training.predict_logits(session, work.data.validation.images)
        work.signs += [outputs.norm().item(), outputs.std().item()]


@study
def deployment() -> Iterator[Run]:
    """The thin VGGs, three with labels alone and three taught, exported and quantized.
    Test set: once a file."""
    names = {"labels alone": "vgg_thin", "taught": "vgg_thin_taught"}
    for loss, name in names.items():
        for seed, suffix in zip(SEEDS, ("", "_1", "_2"), strict=True):
            network = name + suffix
            settings = {"loss": loss, "seed": seed, "network": network}
            yield Run(settings, Shipped(network), (Deploy(),))
