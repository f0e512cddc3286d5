"""How fast a text network writes and reads, and what it must remember while it writes.
Met in lessons/14_heads_and_blocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from torch import Tensor, nn

from utils.arguments import whole
from utils.generation import write_plainly
from utils.layers import eval_mode
from utils.measure.timing import Race, Timing
from utils.models.gpt import Attention

FLOAT32 = 4  # bytes of a number


class Writes(Protocol):
    """What writes: `generation.Writer`, and what is made like it."""

    def write(self, prompt: Tensor, added: Tensor) -> Tensor:
        """The pieces that follow."""
        ...


class Reads(Protocol):
    """What reads: `generation.Writer`, and what is made like it."""

    def read(self, text: Tensor) -> Tensor:
        """Logits at each place."""
        ...


@dataclass(frozen=True)
class Rate:
    """Pieces a second of one network, and how much faster it was than the first one of
    that run."""

    timing: Timing
    pieces: int  # of a call

    @property
    def median(self) -> float:
        """Pieces a second."""
        return self.pieces / self.timing.median

    @property
    def quartiles(self) -> tuple[float, float]:
        """Its quartiles, the lower one first."""
        low, high = self.timing.quartiles
        return self.pieces / high, self.pieces / low

    @property
    def speedup(self) -> float:
        """Median over the rounds of the first one's time over this one's."""
        return self.timing.speedup

    @property
    def speedup_quartiles(self) -> tuple[float, float]:
        """Its quartiles, the lower one first."""
        return self.timing.speedup_quartiles

    def __str__(self) -> str:
        low, high = self.quartiles
        threads = self.timing.threads
        return (
            f"{self.timing.name}: {self.median:,.0f} pieces a second (quartiles"
            f" {low:,.0f}-{high:,.0f}), {self.speedup:.2f}x the first ({threads}"
            f" thread{'s' * (threads > 1)})"
        )


def writing_speed(
    networks: Mapping[str, nn.Module | Writes],
    prompt: Tensor,
    added: Tensor,
    *,
    threads: int = 1,
    rounds: int = 15,
) -> dict[str, Rate]:
    """Pieces a second that networks write, interleaved as `latency` does it: each round
    lets each of them write once.

    Reading the prompt, `[m]`, is part of the time: take a short one. A network itself
    reads everything again for each piece (`write_plainly`); a `Writer` keeps what it
    has read.

    Args:
        networks: by name; the first is what the others are compared with.
        added: `generation.noise`, `[count, pieces]`: `count` pieces are written.
    Raises:
        ValueError: none, one that cannot write this, or fewer than one round or thread.
    """
    whole("rounds", rounds, low=1)
    race = writing_race(networks, prompt, added, threads=threads)
    for _ in range(rounds):
        race.round()
    return rates(race, len(added))


def writing_race(
    networks: Mapping[str, nn.Module | Writes],
    prompt: Tensor,
    added: Tensor,
    *,
    threads: int = 1,
) -> Race:
    """What `writing_speed` does, a round at a time; `rates(race, len(added))` says what
    came of it so far."""
    ways = {name: partial(_write, each, added) for name, each in networks.items()}
    return Race(ways, prompt, threads=threads)


def reading_speed(
    networks: Mapping[str, nn.Module | Reads],
    text: Tensor,
    *,
    threads: int = 1,
    rounds: int = 15,
) -> dict[str, Rate]:
    """Pieces a second that networks read, a text `[m]` in one go, as a prompt is read;
    interleaved. Arguments and errors as `writing_speed`."""
    whole("rounds", rounds, low=1)
    ways = {name: partial(_read, each) for name, each in networks.items()}
    race = Race(ways, text, threads=threads)
    for _ in range(rounds):
        race.round()
    return rates(race, len(text))


def rates(race: Race, pieces: int) -> dict[str, Rate]:
    """Pieces a second in the rounds so far, where a call takes so many pieces."""
    return {name: Rate(timing, pieces) for name, timing in race.timings().items()}


def cache_bytes(model: nn.Module, places: int) -> int:
    """Bytes of the keys and values that a GPT keeps while it writes, when it has read
    so many pieces: in float32, for each head of each block `2 * head_width` numbers a
    place. Counted from the shapes; a head that is pruned, not removed, counts.

    >>> from utils.models import gpt
    >>> cache_bytes(gpt(), 256)  # 6 blocks, 6 heads of 32
    2359296
    """
    whole("places", places)
    numbers = sum(
        module.key.out_features + module.value.out_features
        for module in model.modules()
        if isinstance(module, Attention)
    )
    return FLOAT32 * numbers * places


def _write(network: nn.Module | Writes, added: Tensor, prompt: Tensor) -> Tensor:
    if hasattr(network, "write"):  # a file that writes is a module, too
        return network.write(prompt, added)  # pyright: ignore[reportCallIssue]
    return write_plainly(network, prompt, added)  # pyright: ignore[reportArgumentType]


def _read(network: nn.Module | Reads, text: Tensor) -> Tensor:
    if isinstance(network, nn.Module):
        with eval_mode(network):
            return network(text[None])[0]
    return network.read(text)
