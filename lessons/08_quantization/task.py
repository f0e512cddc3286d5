"""The open task of lab 08: bits for each layer of the VGG, and for its activations."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from utils import baselines, data, layers, quantization, training
from utils.data import Data, sample_batches
from utils.tasks import Task

LAYERS = ("0", "3", "7", "10", "14", "19")  # the VGG's, from the pictures on
# numbers that must be in memory at once: what goes into the second layer of a picture,
# and what comes out of it, 32 maps of 28 x 28 each; no other layer has more
HELD = 2 * 32 * 28 * 28
PARTS = [part / 20 for part in range(2, 21)]  # of the largest magnitude of a row
FORM = (
    'bits of the six layers, of the activations, and whether the grid is cut off: {"'
    'weights": [8, 8, 8, 8, 8, 8], "activations": 8, "cut": False}'
)


def least_error(weight: Tensor, bits: int) -> Tensor:
    """The weight on the grids, one a row, that are cut off where the squared error is
    least."""
    grid = quantization.weight_grid(weight, bits)
    tries = torch.stack(
        [replace(grid, scale=part * grid.scale).snap(weight) for part in PARTS]
    )
    errors = (tries - weight).square().flatten(2).sum(2)  # [parts, rows]
    return tries[errors.argmin(0), torch.arange(len(weight))]


def kilobytes(weights: list[int], activations: int) -> float:
    """Weights, a scale of 4 bytes a row, and the activations that are held at once."""
    found = layers.prunable(network())
    bits = sum(
        each * found[f"{n}.weight"].numel()
        for n, each in zip(LAYERS, weights, strict=True)
    )
    rows = sum(len(weight) for weight in found.values())
    return (bits / 8 + 4 * rows + activations * HELD / 8) / 1000


def measure(choice: Any) -> Mapping[str, float]:
    """Memory, and the points that are lost on 1,000 validation pictures.

    Raises:
        ValueError: not of the form, or bits outside 2 to 8.
    """
    weights, activations, cut = checked(choice)
    some = pictures().validation[:1000]
    calibration = sample_batches(pictures().train, count=1)
    rounded = quantization.quantized(
        network(), calibration, bits=8, activation_bits=activations
    )
    for name, bits in zip(LAYERS, weights, strict=True):
        layer: Any = rounded.get_submodule(name)
        layer.bits = bits
        if cut:
            with torch.no_grad():
                layer.weight.copy_(least_error(layer.weight, bits))
    return {
        "kilobytes": kilobytes(weights, activations),
        "points lost": 100 * (dense() - training.evaluate(rounded, some)),
    }


def checked(choice: Any) -> tuple[list[int], int, bool]:
    """The parts of a choice."""
    if not isinstance(choice, Mapping) or set(choice) != {
        "weights",
        "activations",
        "cut",
    }:
        raise ValueError(f"choose {FORM}.")
    weights, activations = choice["weights"], choice["activations"]
    if not isinstance(weights, list | tuple) or len(weights) != len(LAYERS):
        raise ValueError(f"weights={weights!r} must be six numbers of bits: {FORM}.")
    for bits in (*weights, activations):
        if type(bits) is not int or not 2 <= bits <= 8:
            raise ValueError(f"{bits!r} bits: give whole numbers from 2 to 8.")
    return list(weights), activations, bool(choice["cut"])


@cache
def network() -> torch.nn.Module:
    """The VGG, with BatchNorm folded as it is when it is deployed."""
    return quantization.fold_batchnorm(baselines.baseline("vgg_half"))


@cache
def pictures() -> Data:
    """Fashion-MNIST."""
    return data.load()


@cache
def dense() -> float:
    """Accuracy of the VGG in 32 bits."""
    return training.evaluate(network(), pictures().validation[:1000])


def everywhere(bits: int, *, cut: bool = False) -> dict[str, Any]:
    """One number of bits for all."""
    return {"weights": [bits] * len(LAYERS), "activations": bits, "cut": cut}


TASK = Task(
    measure=measure,
    reference={"weights": [8, 4, 4, 3, 3, 8], "activations": 5, "cut": True},
    at_most={"kilobytes": 95.0, "points lost": 1.0},
    naive={
        "8 bits everywhere": everywhere(8),
        "5 bits everywhere": everywhere(5),
        "4 bits everywhere": everywhere(4),
        "4 bits everywhere, cut": everywhere(4, cut=True),
        "3 bits everywhere, cut": everywhere(3, cut=True),
    },
)
