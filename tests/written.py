"""What the page on which a network writes must come to, computed by `utils`: masks,
pieces, losses."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.web import write
from utils.data import Split
from utils.explorer.text_memory import COUNT, PATTERN, PROMPTS, TextControls, TextMemory
from utils.generation import Writer, noise
from utils.masks import masked
from utils.models.gpt import GPT
from utils.training import losses

LOSS_WINDOWS = 2
OFF = ("0.2", "3.mlp", "4.attention")
PRUNINGS = (
    TextControls(),
    TextControls(0.5),
    TextControls(0.85, "taylor"),
    TextControls(0.5, "activation", PATTERN),
)


def controls() -> list[TextControls]:
    """Every stop, score and scope of the page but the dense network."""
    offered = write.facts_of(write.shipped())
    return [
        TextControls(stop, score, scope)
        for score, facts in offered["scores"].items()
        for scope in facts["scopes"]
        for stop in offered["scopes"][scope]["stops"][1:]
    ]


def mask_digests() -> list[tuple[dict[str, Any], str]]:
    """For each setting the sha256 of its masks, a byte a weight."""
    memory = write.shipped().memory
    return [(asdict(each), digest(memory.masks(each))) for each in controls()]


def digest(masks: dict[str, np.ndarray]) -> str:
    """Of masks in the order of the layers."""
    whole = np.concatenate([mask.reshape(-1) for mask in masks.values()])
    return hashlib.sha256(whole.view(np.uint8).tobytes()).hexdigest()


def settings() -> list[tuple[TextControls, Sequence[str]]]:
    """All stops and scores at one prompt; others at some."""
    stops = TextMemory.stops("global")
    every = [TextControls()] + [
        TextControls(stop, score) for score, stop in product(write.READS, stops[1:])
    ]
    some = [
        TextControls(0.3, "activation", "unit", PROMPTS[1], 7),
        TextControls(0.6, "magnitude", "layerwise", PROMPTS[2], 2**31 + 5),
        TextControls(0.5, "random", PATTERN, "I", 3),
        TextControls(0.8, "taylor", "erdos-renyi", "Emma was sorry; she had " * 20, 1),
    ]
    off = [TextControls(), TextControls(0.5), TextControls(0.7, "taylor", draw=4)]
    return [(each, ()) for each in every + some] + [(each, OFF) for each in off]


def written() -> list[tuple[dict[str, Any], Sequence[str], list[int]]]:
    """For each of these settings the pieces that `Writer` writes."""
    given = write.shipped()
    writer, memory, found = Writer(given.model), given.memory, []
    for each, off in settings():
        writer.apply_masks(silenced(given.model, memory.masks(each), off))
        prompt = memory.prompt(each.prompt)[0]
        added = noise(COUNT, writer.pieces, memory.temperature, each.draw)
        found.append((asdict(each), off, writer.write(prompt, added).tolist()))
    return found


def silenced(
    model: GPT, masks: dict[str, np.ndarray], off: Sequence[str]
) -> dict[str, Tensor]:
    """These masks, and zeros where parts that are switched off write to the stream:
    "0.2", a head; "0.attention"; "0.mlp"."""
    result = {name: torch.from_numpy(mask.copy()) for name, mask in masks.items()}
    for name in off:
        block, part = name.split(".")
        own = "mlp.down" if part == "mlp" else "attention.out"
        path = f"blocks.{block}.{own}.weight"
        weight = model.get_parameter(path)
        mask = result.setdefault(path, torch.ones(weight.shape, dtype=torch.bool))
        mask[
            :, slice(32 * int(part), 32 * int(part) + 32) if part.isdigit() else ...
        ] = False
    return result


def window_losses() -> list[tuple[dict[str, Any], Sequence[str], list[float]]]:
    """Of some networks the loss on the first windows, by torch."""
    given, found = write.shipped(), []
    images, labels = (
        each[:LOSS_WINDOWS]
        for each in (given.memory.split.images, given.memory.split.labels)
    )
    for each, off in [*((p, ()) for p in PRUNINGS), (TextControls(0.5), OFF)]:
        masks = silenced(given.model, given.memory.masks(each), off)
        network = masked(given.model, masks) if masks else given.model
        mean = losses(network, Split(images, labels)).mean(1)
        found.append((asdict(each), off, mean.tolist()))
    return found
