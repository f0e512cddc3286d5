"""The open task of lab 10: the thin VGG must fit a smaller device."""

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from utils import baselines, data, deploy, measure, surgery, training
from utils.arguments import one_of, whole
from utils.data import Data, sample_batches
from utils.scores import UNIT_SCORES, score
from utils.tasks import Task

LAYERS = ("0.weight", "3.weight", "7.weight", "10.weight", "14.weight")
WIDTHS = (8, 16, 32, 48, 64)  # filters of each
SIDES = (28, 28, 14, 14, 7)  # of the maps that each layer reads and writes
FORMATS = {"fp32": 4, "int8": 1}  # bytes of a number
JUDGED = 2000  # validation pictures


@cache
def _pictures() -> Data:
    return data.load()


def peak_memory(widths: tuple[int, ...], bytes_each: int) -> int:
    """The most bytes that a layer's input and output take together, for one picture."""
    channels = (1, *widths)
    return bytes_each * max(
        side**2 * (channels[place] + channels[place + 1])
        for place, side in enumerate(SIDES)
    )


def _checked(choice: Any) -> tuple[tuple[int, ...], str, str, bool]:
    """The four parts of a choice."""
    parts = {"remove", "score", "format", "reestimate"}
    if not isinstance(choice, Mapping) or set(choice) != parts:
        raise ValueError(f"my_choice must be a dict of {', '.join(sorted(parts))}.")
    remove = tuple(choice["remove"])
    if len(remove) != len(WIDTHS):
        raise ValueError(f"remove={remove!r} must be five numbers, one a layer.")
    for place, (count, width) in enumerate(zip(remove, WIDTHS, strict=True)):
        whole(f"remove[{place}]", count, 0, width - 1)
    one_of("score", choice["score"], UNIT_SCORES)
    one_of("format", choice["format"], FORMATS)
    if not isinstance(choice["reestimate"], bool):
        raise ValueError(f"reestimate={choice['reestimate']!r} must be True or False.")
    return remove, choice["score"], choice["format"], choice["reestimate"]


def _smaller(remove: tuple[int, ...], by: str, reestimate: bool) -> nn.Module:
    """The thin VGG without these filters."""
    thin, pictures = baselines.baseline("vgg_thin"), _pictures()
    if not any(remove):
        return thin
    batches = sample_batches(pictures.train, count=4)
    ratios = {n: r / w for n, r, w in zip(LAYERS, remove, WIDTHS, strict=True)}
    scores = score(by, thin, batches, units=True)
    network = surgery.shrink(thin, pictures.train.images[:1], scores, ratios)
    if reestimate:
        training.reestimate_batchnorm(network, batches)
    return network


def deployed(choice: Any) -> dict[str, float]:
    """What the file of a choice costs, and how many pictures it gets right."""
    remove, by, form, reestimate = _checked(choice)
    network, pictures = _smaller(remove, by, reestimate), _pictures()
    one, judged = pictures.train.images[:1], pictures.validation[:JUDGED]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fp32.onnx"
        size = deploy.to_onnx(network, one, path)
        if form == "int8":
            batches = sample_batches(pictures.train, count=4)
            size = deploy.to_int8(path, batches, path := Path(folder) / "int8.onnx")
        right = training.evaluate(deploy.Session(path), judged)
    widths = tuple(w - r for w, r in zip(WIDTHS, remove, strict=True))
    return {
        "bytes of the file": size,
        "bytes of memory for maps": peak_memory(widths, FORMATS[form]),
        "MACs": measure.macs(network, one),
        "accuracy, %": 100 * right,
    }


def _choice(remove: tuple[int, ...], **other: Any) -> dict[str, Any]:
    plain = {"score": "taylor", "format": "int8", "reestimate": True}
    return {"remove": remove, **plain, **other}


TASK = Task(
    measure=deployed,
    reference=_choice((0, 4, 4, 4, 4)),
    at_most={
        "bytes of the file": 48_000,
        "bytes of memory for maps": 16_000,
        "MACs": 5_000_000,
    },
    at_least={"accuracy, %": 88.0},
    naive={
        "as it is": _choice((0, 0, 0, 0, 0)),
        "an eighth of each layer": _choice((1, 2, 4, 6, 8)),
        "the widest layer alone": _choice((0, 0, 0, 0, 24)),
        "only what the memory asks": _choice((0, 4, 0, 0, 0)),
        "by L1 norm": _choice((0, 4, 4, 4, 4), score="l1"),
        "BatchNorm left as it was": _choice((0, 4, 4, 4, 4), reestimate=False),
        "no int8": _choice((0, 4, 4, 4, 4), format="fp32"),
    },
)
