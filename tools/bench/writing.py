"""How fast a text network writes: pruned at a stop of the slider and written again, as
the panel does it for a key press; and pieces a second, by way of computing."""

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.bench.table import Row
from utils import measure, models, text
from utils.baselines import baseline
from utils.data import sample_batches
from utils.explorer.text_memory import (
    COUNT,
    PATTERN,
    PROMPTS,
    TextControls,
    TextMemory,
)
from utils.files import DamagedFileError
from utils.generation import Writer, noise
from utils.measure.timing import Race
from utils.measure.writing import Writes
from utils.models.gpt import GPT, Attention, Block

SETTINGS = (
    ("magnitude", "global"),
    ("magnitude", "layerwise"),
    ("taylor", "global"),
    ("activation", "layerwise"),
    ("random", "global"),
    ("magnitude", PATTERN),
)
PRESSES = 60  # of each setting
ROUNDS = 9
SHORT, LONG = 16, 256  # pieces of a prompt; of a text that is read


def writing(threads: int) -> Iterator[Row]:
    """Prune and write `COUNT` pieces; its parts; pieces a second of writing and of
    reading, torch and NumPy."""
    network, texts = _network(), text.load()
    batches = sample_batches(texts.train, 4, batch_size=1)
    memory = TextMemory(network, texts, batches, windows=2)
    for score, scope in SETTINGS:
        yield _pressed(memory, score, scope)
    yield from _parts(memory)
    yield from _rates(network, texts, threads)


def _network() -> GPT:
    """The shipped network; where it is missing, an untrained one, as fast."""
    try:
        found = baseline("gpt")
    except DamagedFileError:
        found = models.gpt().eval()
    assert isinstance(found, GPT)
    return found


def _pressed(memory: TextMemory, score: str, scope: str) -> Row:
    """Seconds from the controls to the text, at one stop after the other."""
    stops = memory.stops(scope)[1:]
    walk = [TextControls(stop, score, scope) for stop in (*stops, *stops[-2::-1])]
    started = time.perf_counter()
    memory.look(walk[0])
    first = time.perf_counter() - started
    seconds = [
        _seconds(functools.partial(memory.look, walk[(press + 1) % len(walk)]))
        for press in range(PRESSES)
    ]
    return Row(
        f"prune and write {COUNT} pieces, {score}, {scope}",
        seconds,
        goal="p95 100 ms",
        remarks=f"p95 {_p95(seconds)}; the first, with the score, {first:.1f} s",
    )


def _parts(memory: TextMemory) -> Iterator[Row]:
    """What that consists of."""
    controls = TextControls(0.5)
    masks, writer = memory.masks(controls), Writer(memory.model)
    prompt = memory.prompt(PROMPTS[0])[0]
    added = noise(COUNT, len(memory.words), 0.6, seed=0)
    steps: dict[str, Callable[[], object]] = {
        "masks from what was ranked": lambda: memory.masks(controls),
        "masks applied": lambda: writer.apply_masks(masks),
        f"a prompt of {len(prompt)} pieces read": lambda: writer.read(prompt),
        f"that and {COUNT} pieces written": lambda: writer.write(prompt, added),
        "a writer made anew": lambda: Writer(memory.model),
    }
    for name, step in steps.items():
        step()
        seconds = [_seconds(step) for _ in range(PRESSES // 3)]
        yield Row(f"of that: {name}", seconds, remarks=f"p95 {_p95(seconds)}")


def _rates(network: GPT, texts: text.Texts, threads: int) -> Iterator[Row]:
    """The same by torch, with nothing kept and with a cache, and by NumPy."""
    line = texts.validation.images[0]
    added = noise(2 * SHORT, network.head.out_features, 0.6, seed=0)
    writers: dict[str, nn.Module | Writes] = {
        "NumPy, with a cache": Writer(network),
        "torch, with a cache": CachedTorch(network),
        "torch, all read again": network,
    }
    written = measure.writing_race(writers, line[:SHORT], added, threads=threads)
    yield from _raced("written", written, len(added))
    readers: Mapping[str, Callable[[Tensor], Tensor]] = {
        "NumPy": Writer(network).read,
        "torch": lambda pieces: network(pieces[None])[0],
    }
    read = Race(readers, line[:LONG], threads=threads)
    yield from _raced("read in one go", read, LONG)


def _raced(what: str, race: Race, pieces: int) -> Iterator[Row]:
    for _ in range(ROUNDS):
        race.round()
    (first, ours), *others = race.seconds.items()
    for name, seconds in others:
        rates = [pieces / statistics.median(each) for each in (ours, seconds)]
        yield Row(
            f"{pieces} pieces {what}, {first}",
            ours,
            name,
            seconds,
            remarks=f"pieces a second: {rates[0]:,.0f} against {rates[1]:,.0f}",
        )


class CachedTorch:
    """Writes with torch, layer by layer, and keeps keys and values: the same as
    `Writer`, to tell what NumPy changes from what the cache does."""

    def __init__(self, network: GPT) -> None:
        self.network = network

    @torch.no_grad()
    def write(self, prompt: Tensor, added: Tensor) -> Tensor:
        """The pieces `[count]` that follow `prompt`, `[m]`."""
        network, kept = self.network, {}
        last, place, written = prompt, 0, []
        for step in added:
            places = torch.arange(place, place + len(last))
            x = network.embedding(last) + network.position(places)  # [m, width]
            for block in network.blocks:
                assert isinstance(block, Block)
                assert isinstance(block.attention, Attention)
                x = x + self._attend(block.attention, block.norm1(x), kept)
                x = x + block.mlp(block.norm2(x))
            logits = network.head(network.norm(x[-1]))
            place += len(last)
            last = (logits + step).argmax()[None]
            written.append(last)
        return torch.cat(written)

    def _attend(self, layer: Attention, x: Tensor, kept: dict) -> Tensor:
        """`kept`: keys and values so far, by layer; those of `x` are added."""
        query, *new = (
            each(x).unflatten(-1, (-1, layer.head_width)).transpose(0, 1)
            for each in (layer.query, layer.key, layer.value)
        )  # [heads, m, head_width] each
        if layer in kept:
            new = [torch.cat(pair, 1) for pair in zip(kept[layer], new, strict=True)]
        first, kept[layer], (key, value) = layer not in kept, new, new
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=first)
        return layer.out(mixed.transpose(0, 1).flatten(1))


def _seconds(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _p95(seconds: Sequence[float]) -> str:
    return f"{1000 * statistics.quantiles(seconds, n=20)[-1]:.1f} ms"
