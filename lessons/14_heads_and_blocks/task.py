"""The open task of lab 14: a text network within a budget of parameters and cache, from
heads, neurons and blocks."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from utils import baselines, data, measure, scores, surgery, text, training
from utils.tasks import Task

BLOCKS, HEADS, NEURONS = 6, 6, 768
FORM = '{"heads": [6] * 6, "neurons": [768] * 6, "without": [3]}'
PLACES = 256  # that the cache remembers


def achieved(choice: Any) -> dict[str, float]:
    """The network without those blocks, and with so many heads and neurons left in each
    block: those of the largest gate gradient. Nothing is retrained; 16 windows of
    validation text judge."""
    heads, neurons, without = _read(choice)
    model, texts = baselines.baseline("gpt"), text.load()
    gates, taylor = _scores()
    masks, gone = {}, list(without)
    for block in range(BLOCKS):
        if f"blocks.{block}" in without:
            continue
        name = f"blocks.{block}.attention"
        if heads[block]:
            masks |= surgery.head_masks(model, {name: _best(gates[name], heads[block])})
        else:
            gone.append(name)
        name = f"blocks.{block}.mlp"
        if neurons[block]:
            up = f"{name}.up.weight"
            masks[up] = _best(taylor[up], neurons[block])
        else:
            gone.append(name)
    example = texts.validation.images[:1]
    smaller = surgery.remove_units(model, example, masks)
    if gone:
        smaller = surgery.remove_blocks(smaller, example, gone)
    loss = training.losses(smaller, texts.validation[:16]).mean().item()
    return {
        "loss, nats a piece": loss,
        "parameters, M": measure.parameters(smaller) / 1e6,
        "cache, kB": _cache_bytes(smaller) / 1024,
    }


@lru_cache(maxsize=1)
def _scores() -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """The gate gradients of heads and neurons, of the whole network."""
    model = baselines.baseline("gpt")
    batches = data.sample_batches(text.load().train, count=16, batch_size=2)
    units = scores.score("taylor", model, batches, units=True)
    return scores.head_score("gate", model, batches), units


def _cache_bytes(model: nn.Module) -> int:
    return measure.cache_bytes(model, PLACES)


def _best(score: Tensor, count: int) -> Tensor:
    """Which units stay: the best."""
    keep = torch.zeros(len(score), dtype=torch.bool)
    keep[score.topk(count).indices] = True
    return keep


def _read(choice: Any) -> tuple[list[int], list[int], list[str]]:
    """The heads and the neurons that stay in each block, and the names of the blocks
    that leave."""
    parts = {"heads", "neurons", "without"}
    if not isinstance(choice, Mapping) or choice.keys() != parts:
        raise ValueError(f"my_choice must have three parts, as in {FORM}.")
    heads = _counts("heads", choice["heads"], HEADS)
    neurons = _counts("neurons", choice["neurons"], NEURONS)
    without = choice["without"]
    if not isinstance(without, (list, tuple)) or any(
        type(block) is not int or not 0 <= block < BLOCKS for block in without
    ):
        raise ValueError(f"without={without!r} must list blocks, from 0 to 5.")
    if len(set(without)) == BLOCKS:
        raise ValueError("without names all blocks; one must stay.")
    return heads, neurons, [f"blocks.{block}" for block in sorted(set(without))]


def _counts(part: str, counts: Any, most: int) -> list[int]:
    """A number for each block."""
    if (
        not isinstance(counts, (list, tuple))
        or len(counts) != BLOCKS
        or any(type(count) is not int or not 0 <= count <= most for count in counts)
    ):
        raise ValueError(
            f"{part}={counts!r} must be {BLOCKS} whole numbers, from 0 to {most}: how"
            " many stay in each block (0: the part leaves whole)."
        )
    return list(counts)


TASK = Task(
    measure=achieved,
    reference={
        "heads": [1, 1, 3, 4, 5, 4],
        "neurons": [768, 300, 300, 300, 340, 340],
        "without": [],
    },
    at_most={"loss, nats a piece": 3.63, "parameters, M": 1.6, "cache, kB": 1200},
    naive={
        "the same share everywhere": {
            "heads": [3] * 6,
            "neurons": [392] * 6,
            "without": [],
        },
        "every other block": {
            "heads": [6] * 6,
            "neurons": [768] * 6,
            "without": [1, 3, 5],
        },
        "the last three blocks": {
            "heads": [6] * 6,
            "neurons": [768] * 6,
            "without": [3, 4, 5],
        },
        "the three blocks that are cheapest alone": {
            "heads": [6] * 6,
            "neurons": [768] * 6,
            "without": [1, 2, 3],
        },
    },
)
