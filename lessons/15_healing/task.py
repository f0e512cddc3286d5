"""The open task of lab 15: a megabyte for a text network."""

from collections.abc import Mapping
from typing import Any

from utils import quantization, studies
from utils.arguments import one_of
from utils.exercises import load
from utils.tasks import Task
from utils.text import CONTEXT

shapes = load("15_healing", "shapes")
BITS = (32, 8, 4)
PIECES, WIDTH = 1024, 192
PARTS = {"shape", "steps", "bits", "table_bits"}


def _runs() -> list[dict]:
    """What the study has of gpt, cut and healed, with its loss at few bits; where
    several learning rates were tried, the best comes last."""
    found = [run for run in studies.runs("healing", network="gpt") if "bits" in run]
    return sorted(found, key=lambda run: -run["validation_loss"])


def _checked(choice: Any) -> tuple[dict, int, int]:
    """The run of a choice, and its bits."""
    if not isinstance(choice, Mapping) or set(choice) != PARTS:
        raise ValueError(f"my_choice must be a dict of {', '.join(sorted(PARTS))}.")
    one_of("shape", choice["shape"], sorted({run["shape"] for run in _runs()}))
    found = {r["steps"]: r for r in _runs() if r["shape"] == choice["shape"]}
    for part, known in (("steps", sorted(found)), ("bits", BITS), ("table_bits", BITS)):
        value = choice[part]
        if isinstance(value, bool) or value not in known:
            raise ValueError(
                f"{part}={value!r} must be one of {', '.join(map(str, known))}"
                f" (the shape is {choice['shape']!r})."
            )
    return found[choice["steps"]], choice["bits"], choice["table_bits"]


def weight_bytes(units: int, inputs: int, bits: int) -> float:
    """Of a matrix as a file stores it: with 8 or 4 bits, a scale for each group of its
    inputs; the last group is filled up."""
    if bits == 32:
        return 4 * units * inputs
    size = quantization.group_size(inputs, bits, shapes.GROUP)
    return units * -(-inputs // size) * (size * bits + 16) / 8


def file_bytes(shape: Any, bits: int, table_bits: int) -> float:
    """Of all weights; the embedding and the positions are tables."""
    matrices = [(32 * shape.heads, WIDTH)] * 3 + [(WIDTH, 32 * shape.heads)]
    matrices += [(shape.neurons, WIDTH), (WIDTH, shape.neurons)]
    block = sum(weight_bytes(*matrix, bits) for matrix in matrices)
    norms = 4 * WIDTH * (2 * shape.blocks + 1)
    tables = weight_bytes(PIECES + CONTEXT, WIDTH, table_bits)
    return shape.blocks * block + norms + tables


def macs(shape: Any) -> float:
    """Multiply-accumulates for the last of 256 pieces: all layers, the head, and what
    attention multiplies: its query with each key, and each value with its share."""
    layers = 4 * 32 * shape.heads * WIDTH + 2 * WIDTH * shape.neurons
    looking = 2 * 32 * shape.heads * CONTEXT
    return shape.blocks * (layers + looking) + PIECES * WIDTH


def reached(choice: Any) -> dict[str, float]:
    """What the file of a choice costs, counted, and what the study found of its
    loss."""
    run, bits, table_bits = _checked(choice)
    shape = shapes.SHAPES[run["shape"]]
    (dense,) = studies.runs("healing", network="gpt", shape="dense", steps=0)
    worse = run["bits"][f"{bits}, {table_bits}"] - dense["bits"]["32, 32"]
    return {
        "bytes of the weights": file_bytes(shape, bits, table_bits),
        "thousand MACs a piece": macs(shape) / 1000,
        "nats a piece lost": worse,
    }


def _choice(shape: str, steps: int, bits: int, table_bits: int) -> dict[str, Any]:
    return {"shape": shape, "steps": steps, "bits": bits, "table_bits": table_bits}


_, NARROW, SHALLOW = shapes.SHAPES
TASK = Task(
    measure=reached,
    reference=_choice(NARROW, 1017, 4, 8),
    at_most={
        "bytes of the weights": 1_000_000,
        "thousand MACs a piece": 1_900,
        "nats a piece lost": 0.1,
    },
    naive={
        "as it is, in 4 bits": _choice("dense", 0, 4, 4),
        "cut, not healed": _choice(NARROW, 0, 4, 8),
        "healed for 480 steps": _choice(NARROW, 480, 4, 8),
        "healed, in 8 bits": _choice(NARROW, 1017, 8, 8),
        "fewer blocks, healed": _choice(SHALLOW, 120, 4, 8),
        "healed, the table as it was": _choice(NARROW, 1017, 4, 32),
    },
)
