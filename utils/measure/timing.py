"""Latency: several models timed in turn, as ratios within one run. Built in
lessons/01_baseline, where one model at a time is timed by hand."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from utils.arguments import whole
from utils.layers import answer, eval_mode


@dataclass(frozen=True)
class Timing:
    """Latency of one model in a run: seconds a batch, and how much faster it was than
    the first model of that run."""

    name: str
    median: float
    quartiles: tuple[float, float]
    speedup: float
    speedup_quartiles: tuple[float, float]
    batch: int
    threads: int

    @classmethod
    def of(
        cls,
        name: str,
        seconds: Sequence[float],
        first: Sequence[float],
        batch: int,
        threads: int,
    ) -> "Timing":
        """From the seconds of each round, and those of the first model in the same
        rounds.

        >>> Timing.of("thin", [2.0, 1.0], first=[4.0, 4.0], batch=1, threads=1).speedup
        3.0
        """
        ratios = [a / b for a, b in zip(first, seconds, strict=True)]
        return cls(name, *_quartiles(seconds), *_quartiles(ratios), batch, threads)

    @property
    def relative(self) -> float:
        """Time over the first model's time: the inverse of the speedup."""
        return 1 / self.speedup

    @property
    def relative_quartiles(self) -> tuple[float, float]:
        """Its quartiles, the lower one first."""
        low, high = self.speedup_quartiles
        return 1 / high, 1 / low

    def __str__(self) -> str:
        low, high = (1e6 * q for q in self.quartiles)
        return (
            f"{self.name}: {1e6 * self.median:,.0f} us (quartiles"
            f" {low:,.0f}-{high:,.0f}), {self.speedup:.2f}x the first (batch"
            f" {self.batch}, {self.threads} thread{'s' * (self.threads > 1)})"
        )


def latency(
    models: Mapping[str, Callable[[Tensor], Tensor]],
    inputs: Tensor,
    *,
    threads: int = 1,
    rounds: int = 25,
    shortest: float = 1e-3,
) -> dict[str, Timing]:
    """Time several models on the same inputs, interleaved: each round times every model
    once, in turn, in another order than the round before.

    Other work on the machine then slows all of them alike, and the *ratio* within a
    round stays trustworthy where the times themselves are not.

    Args:
        models: callables by name; the first is what the others are compared with.
        inputs: one batch.
        threads: processor threads used while timing; restored afterwards.
        rounds: timed rounds, after a warm-up.
        shortest: seconds a timed block lasts at least; a fast model is called several
            times for it.
    Raises:
        ValueError: no models, one that cannot take the inputs, or fewer than one round
            or thread.
    """
    whole("rounds", rounds, low=1)
    race = Race(models, inputs, threads=threads, shortest=shortest)
    for _ in range(rounds):
        race.round()
    return race.timings()


class Race:
    """What `latency` does, a round at a time, for whoever has other things to do in
    between.

    Raises:
        ValueError: no models, one that cannot take the inputs, or fewer than one
            thread.
    """

    def __init__(
        self,
        models: Mapping[str, Callable[[Tensor], Tensor]],
        inputs: Tensor,
        *,
        threads: int = 1,
        shortest: float = 1e-3,
    ) -> None:
        whole("threads", threads, low=1)
        if not models:
            raise ValueError("models={} is empty; latency needs a model, by name.")
        self.models, self.inputs, self.threads = models, inputs, threads
        self.seconds: dict[str, list[float]] = {name: [] for name in models}
        with _steady(models, threads):
            self.calls = {
                name: _warm_up(model, inputs, shortest)
                for name, model in models.items()
            }

    @property
    def rounds(self) -> int:
        """Rounds run so far."""
        return len(next(iter(self.seconds.values())))

    def round(self) -> None:
        """Time every model once, in turn, in the order of this round."""
        names = list(self.models)
        with _steady(self.models, self.threads):
            for name in (names[place] for place in _order(len(names), self.rounds)):
                self.seconds[name].append(
                    _time(self.models[name], self.inputs, self.calls[name])
                )

    def timings(self) -> dict[str, Timing]:
        """The timings of all rounds so far, by model."""
        first = next(iter(self.seconds.values()))
        return {
            name: Timing.of(name, own, first, len(self.inputs), self.threads)
            for name, own in self.seconds.items()
        }


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """So many threads for what torch computes; as many as before afterwards. The same
    steps give the same numbers on one machine, whatever its cores are set to."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _steady(models: Mapping[str, Callable], threads: int) -> Iterator[None]:
    """Pinned threads, eval mode, no gradients and no garbage collection; all restored
    afterwards."""
    collecting = gc.isenabled()
    modules = [m for m in models.values() if isinstance(m, nn.Module)]
    modes = ExitStack()
    try:
        modes.enter_context(pinned(threads))
        gc.disable()
        modes.enter_context(torch.no_grad())
        for module in modules:
            modes.enter_context(eval_mode(module))
        yield
    finally:
        modes.close()
        if collecting:
            gc.enable()


def _time(model: Callable, inputs: Tensor, calls: int) -> float:
    """Seconds of one of so many calls."""
    started = time.perf_counter()
    for _ in range(calls):
        model(inputs)
    return (time.perf_counter() - started) / calls


def _order(count: int, number: int) -> list[int]:
    """In which order so many models run in round `number`: over `count` rounds, or
    twice as many for an odd number, each stands at each place equally often, and each
    comes equally often right after each other one (Williams 1949).

    What a model leaves behind, in the caches or as heat, then reaches all alike.
    """
    # 0, 1, count - 1, 2, count - 2, ...: all steps from one to the next differ
    zigzag = [-(i // 2) if i % 2 == 0 else (i + 1) // 2 for i in range(count)]
    row = [(place + number) % count for place in zigzag]
    mirrored = count % 2 and number // count % 2
    return row[::-1] if mirrored else row


def _warm_up(model: Callable, inputs: Tensor, shortest: float) -> int:
    """Call the model a few times; return how many calls last at least `shortest`
    seconds. Raises ValueError if it cannot take the inputs."""
    answer(model, inputs, "inputs")
    fastest = min(_time(model, inputs, 1) for _ in range(5))
    return max(1, round(shortest / max(fastest, 1e-7)))


def _quartiles(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median, and the lower and the upper quartile."""
    if len(values) == 1:
        return values[0], (values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, (low, high)
