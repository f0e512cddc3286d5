"""The page on which the text network is pruned and writes: `site/write/`, with all that
it reads.

The page computes everything itself; what it cannot compute is written here: the
weights, what the calibration windows say of them, the windows that the loss rests on,
and one description of the stops, the scores and the words, taken from the panel of the
notebooks (`utils.explorer.text_memory`).
"""

import functools
import hashlib
import html
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.web import sources
from utils import text
from utils.baselines import baseline
from utils.data import Batches, sample_batches
from utils.explorer import drawing, text_drawing
from utils.explorer.links import link_of
from utils.explorer.text import CALIBRATION
from utils.explorer.text_memory import (
    COUNT,
    GROUP,
    PATTERN,
    PROMPTS,
    ROUNDS,
    SPEED_COUNT,
    TextControls,
    TextMemory,
    TextState,
)
from utils.masks import SCOPES
from utils.models.gpt import GPT, Attention
from utils.scores import input_squares

HEAD = 32  # numbers of a head, as site/write/kernels.wat has it
SOURCE = Path(__file__).parents[2] / "site" / "write"
RANDOM = SOURCE.parent / "start" / "random.js"  # both pages draw alike
# scores that the page offers, and what it reads for them. Those with a gradient come as
# a byte a weight, which is 2.7 MB each: of the three alike, Taylor's alone
READS = {
    "magnitude": None,
    "activation": "norms.bin",
    "taylor": "taylor.bin",
    "random": None,
}
# pieces a round in which the time is taken: a browser tells it in steps of up to 1 ms
SPEED = 4 * SPEED_COUNT
START = TextControls(0.6)  # what it opens with
# settings that the page invites to, and parts that are switched off in them
TRIES = {
    "30% at random": (TextControls(0.3, "random"), ""),
    "80% by magnitude": (TextControls(0.8), ""),
    "80% by weight and input (Wanda)": (TextControls(0.8, "activation", "unit"), ""),
    "two of each four": (TextControls(0.5, scope=PATTERN), ""),
    "no MLP in block 0": (TextControls(), "0.mlp"),
    "no block 3": (TextControls(), "3.attention,3.mlp"),
}
STILL = (0.0, 0.5, 0.8)  # what the page shows where it cannot compute


@dataclass(frozen=True)
class Shipped:
    """The network, the panel's memory of it, and what scores are computed from."""

    model: GPT
    memory: TextMemory
    batches: Batches


@functools.cache
def shipped() -> Shipped:
    """Those of the panel, as `TextExplorer()` makes them.

    Raises:
        DamagedFileError: the network or a novel is missing or damaged.
    """
    model, texts = baseline("gpt"), text.load()
    assert isinstance(model, GPT)
    batches = sample_batches(texts.train, CALIBRATION, batch_size=1)
    return Shipped(model, TextMemory(model, texts, batches), batches)


def write(folder: Path) -> None:
    """The whole page, into `folder`: its sources, the kernels compiled, weights, facts
    and what is shown without a script.

    Raises:
        DamagedFileError: the network or a novel is missing or damaged.
    """
    sources.copy(SOURCE, folder)
    shutil.copyfile(RANDOM, folder / RANDOM.name)
    given = shipped()
    files = files_of(given) | kernels()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    facts = facts_of(given) | {"files": {n: _sealed(c) for n, c in files.items()}}
    content = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    (folder / "facts.json").write_text(content, encoding="utf-8")
    states = [given.memory.state(TextControls(stop)) for stop in STILL]
    write_page(folder, states, files["weights.bin"])


def kernels() -> dict[str, bytes]:
    """Both modules of kernels, compiled, by the name of their file."""
    return {
        path.with_suffix(".wasm").name: sources.compiled(path)
        for path in sorted(SOURCE.glob("*.wat"))
    }


def _sealed(content: bytes) -> dict[str, int | str]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


# ----------------------------------------------------------------------------- numbers


def files_of(given: Shipped) -> dict[str, bytes]:
    """What the page reads, little-endian, one tensor after the other in the order of
    the network's parameters:

    weights.bin: float16.  norms.bin: float32, `[inputs]` for each weight that can be
    pruned.  taylor.bin: uint8, `byte_scores`.  windows.bin: uint16, `[windows, 257]`.
    """
    weights = dict(given.model.named_parameters())
    split = given.memory.split
    windows = torch.cat([split.images, split.labels[:, -1:]], 1)
    taylor = byte_scores(given.memory, "taylor")
    return {
        "weights.bin": b"".join(_half(n, w) for n, w in weights.items()),
        "norms.bin": b"".join(
            norm.numpy().astype("<f4").tobytes() for norm in input_norms(given).values()
        ),
        "taylor.bin": b"".join(code.tobytes() for code in taylor.values()),
        "windows.bin": windows.numpy().astype("<u2").tobytes(),
    }


def _half(name: str, weight: Tensor) -> bytes:
    """In float16, which loses nothing of the shipped weights."""
    values = weight.detach().numpy()
    half = values.astype("<f2")
    if not np.array_equal(half.astype(np.float32), values):
        raise ValueError(f"{name} has numbers that float16 does not hold.")
    return half.tobytes()


def input_norms(given: Shipped) -> dict[str, Tensor]:
    """What the score "activation" multiplies `|w|` by: the root mean square of each
    input, `[inputs]` float32, by parameter name."""
    squares = input_squares(given.model, given.batches)
    return {name: square[0].sqrt() for name, square in squares.items()}


def byte_scores(memory: TextMemory, name: str) -> dict[str, np.ndarray]:
    """A score as a byte a weight, uint8 of the weight's shape, which gives the same
    masks at each stop of the slider in each scope but "unit".

    The upper six bits rise with the score within its layer: how many of the masks in
    which whole layers compete keep the weight. The lower two rise with it among the
    four neighbours of the pattern.

    Raises:
        ValueError: more stops than six bits can tell apart.
    """
    scopes = [scope for scope in SCOPES if scope != "unit"]
    steps = [each for scope in scopes for each in _masks(memory, name, scope)]
    if len(steps) >= 64:
        raise ValueError(f"{len(steps)} stops are more than six bits can tell apart.")
    in_four = _masks(memory, name, PATTERN)
    return {
        layer: _count(steps, layer) << 2 | _count(in_four, layer)
        for layer in memory.sizes
    }


def _count(masks: Sequence[Mapping[str, np.ndarray]], layer: str) -> np.ndarray:
    """How many of the masks keep each weight, uint8."""
    return np.stack([mask[layer] for mask in masks]).sum(0, dtype=np.uint8)


def _masks(memory: TextMemory, score: str, scope: str) -> list[dict[str, np.ndarray]]:
    """Those of the slider's stops but the first, at which nothing is pruned."""
    stops = memory.stops(scope)[1:]
    return [memory.masks(TextControls(stop, score, scope)) for stop in stops]


# ------------------------------------------------------------------------------- facts


def facts_of(given: Shipped) -> dict[str, Any]:
    """What the page says and offers, as the panel does."""
    model, memory = given.model, given.memory
    return {
        "network": _shapes(model),
        "tensors": {n: list(w.shape) for n, w in model.named_parameters()},
        "prunable": list(memory.sizes),
        "scopes": {scope: _scope(memory, scope) for scope in memory.scopes()},
        "scores": {name: _score(given, name, reads) for name, reads in READS.items()},
        "start": asdict(START),
        "tries": {words: _link(memory, *each) for words, each in TRIES.items()},
        "prompts": list(PROMPTS),
        "pieces": memory.words.pieces,
        "word": text.WORD.pattern,
        "count": COUNT,
        "temperature": memory.temperature,
        "speed": {"count": SPEED, "rounds": ROUNDS, "prompt": PROMPTS[1]},
        "windows": {
            "count": len(memory.split.images),
            "length": memory.split.images.shape[1],
            "characters": memory.words.characters(memory.split.labels),
        },
        "rows": _rows(memory),
    }


def _link(memory: TextMemory, controls: TextControls, off: str) -> str:
    """The link of a setting that is offered."""
    memory.check(controls)
    return link_of(controls) + (f"&off={off}" if off else "")


def _rows(memory: TextMemory) -> list[tuple[str, str]]:
    """What the panel's table calls its rows, and what it says below, before anything
    is evaluated."""
    state = replace(memory.look(TextControls()), loss=None, before=None, rates=None)
    return [(label, note) for label, note, *_ in text_drawing.table_rows(state)]


def _shapes(model: GPT) -> dict[str, Any]:
    block = model.blocks[0]
    attention, norm = block.get_submodule("attention"), model.norm
    assert isinstance(attention, Attention)
    if attention.head_width != HEAD:
        raise ValueError(
            f"a head has {attention.head_width} numbers; the kernels know {HEAD}."
        )
    return {
        "pieces": len(model.embedding.weight),
        "context": len(model.position.weight),
        "width": model.head.in_features,
        "blocks": len(model.blocks),
        "heads": attention.heads,
        "head_width": attention.head_width,
        "neurons": len(block.get_parameter("mlp.up.weight")),
        "epsilon": norm.eps,
    }


def _scope(memory: TextMemory, scope: str) -> dict[str, Any]:
    """The stops, and at each who competes for how many places."""
    stops = memory.stops(scope)
    if scope == PATTERN:
        kept = [GROUP - round(stop * GROUP) for stop in stops]
        return {"stops": stops, "of": GROUP, "kept": kept}
    shapes = {name: torch.empty(shape) for name, shape in memory.sizes.items()}
    return {"stops": stops, "groups": [groups(shapes, scope, stop) for stop in stops]}


def groups(
    weights: Mapping[str, Tensor], scope: str, stop: float
) -> list[dict[str, Any]]:
    """Who competes at a stop: numbers of layers, and how many weights are kept of them
    together; with `rows`, of each row of each of them."""
    numbers = {name: number for number, name in enumerate(weights)}
    found = []
    for names, sparsity, each_unit in SCOPES[scope](weights, stop):
        sizes = [
            weights[n][0].numel() if each_unit else weights[n].numel() for n in names
        ]
        count = sizes[0] if each_unit else sum(sizes)
        kept = count - round(sparsity * count)
        layers = [numbers[name] for name in names]
        found.append({"layers": layers, "kept": kept, "rows": each_unit})
    return found


def _score(given: Shipped, name: str, reads: str | None) -> dict[str, Any]:
    memory = given.memory
    label = text_drawing.SCORE_NAMES.get(name, name)
    described = {"label": label, "reads": reads, "scopes": memory.scopes()}
    if name == "taylor":
        described["scopes"] = [s for s in memory.scopes() if s != "unit"]
        described["global"] = _by_layer(memory, name)
    return described


def _by_layer(memory: TextMemory, score: str) -> list[list[dict[str, Any]]]:
    """What the scope "global" leaves in each layer at each stop: bytes of different
    layers cannot be compared."""
    masks = [memory.masks(TextControls(s, score)) for s in memory.stops("global")[1:]]
    sizes = [int(np.prod(shape)) for shape in memory.sizes.values()]
    counts = [[int(mask.sum()) for mask in each.values()] for each in masks]
    return [
        [{"layers": [n], "kept": k, "rows": False} for n, k in enumerate(kept)]
        for kept in [sizes, *counts]
    ]


# ---------------------------------------------------------------- without a computation


def write_page(folder: Path, states: Sequence[TextState], weights: bytes) -> None:
    """index.html, with what the networks wrote at some stops, and the panel's picture
    of the last of them; and numbers."""
    page = (SOURCE / "index.html").read_text("utf-8")
    last = states[-1]
    curve = {s.controls.sparsity: s.loss for s in states if s.loss is not None}
    stops = TextMemory.stops(last.controls.scope)
    picture = drawing.svg_of(
        text_drawing.parts(last, curve, stops), text_drawing.describe(last)
    )
    (folder / "still.svg").write_text(picture, encoding="utf-8")
    page = page.replace("<!-- still texts -->", "\n".join(map(_still, states)))
    listed = [f"{100 * state.controls.sparsity:g}%" for state in states]
    numbers = {
        "still": html.escape(text_drawing.describe(last)),
        "stops": f"{', '.join(listed[:-1])} and {listed[-1]}",
        "total": f"{last.saved // 4:,}",
        "megabytes": f"{len(weights) / 1e6:.1f}",
    }
    for name, value in numbers.items():
        page = page.replace(f"{{{name}}}", value)
    (folder / "index.html").write_text(page, encoding="utf-8")


def _still(state: TextState) -> str:
    """What is written at one stop, as it stands in the page without a script."""
    loss = state.loss
    assert loss is not None
    name = "Dense" if not state.controls.sparsity else text_drawing.setting(state)
    told = f"loss {loss.mean:.3f} nats a piece"
    if state.controls.sparsity:
        told += f", {loss.more:+.3f} \u00b1 {loss.margin:.3f} more than dense"
    said = html.escape("".join(state.pruned)).replace("\n", " \u00b6 ")
    heading = html.escape(f"{name[0].upper()}{name[1:]}: {told}")
    prompt = f"<b>{html.escape(state.prompt)}</b>"
    return f"<h3>{heading}</h3>\n<blockquote><p>{prompt}{said}</p></blockquote>"
