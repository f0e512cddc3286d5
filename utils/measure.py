"""What a network costs: parameters, multiply-accumulates (MACs), bytes, latency,
energy. Built in lessons/01_baseline.

Counted things are exact. Latency is measured, as ratios within one run. Energy is an
estimate unless the machine has a counter that can be read, and every object here says
which.
"""

import copy
import gc
import statistics
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.baselines import State, to_bytes
from utils.layers import eval_mode, prunable, prunable_layers, watching

# ------------------------------------------------------------------------------ counted


def parameters(model: nn.Module) -> int:
    """Number of trainable numbers in the model."""
    return sum(p.numel() for p in model.parameters())


def nonzeros(model: nn.Module) -> int:
    """Number of parameters that are not zero."""
    return sum(int(p.count_nonzero()) for p in model.parameters())


def sparsity(model: nn.Module) -> float:
    """Fraction of the prunable weights (linear and convolutional, no biases) that are
    zero, 0..1."""
    weights = prunable(model).values()
    return 1 - sum(int(w.count_nonzero()) for w in weights) / sum(
        w.numel() for w in weights
    )


@torch.no_grad()
def layer_macs(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Multiply-accumulates of each linear and convolutional layer for *one* input, by
    module name.

    Args:
        example: one input, `[1, ...]`; of more, the count is divided by their number.
    Raises:
        ValueError: the model has no such layer.
    """
    prunable(model)
    counts: dict[str, int] = {}

    def count(name: str, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        channel_dimension = -1 if isinstance(layer, nn.Linear) else 1
        positions = output.numel() // output.shape[channel_dimension] // len(example)
        counts[name] = counts.get(name, 0) + positions * layer.weight.numel()

    with eval_mode(model), watching(prunable_layers(model), count):
        model(example)
    return counts


def macs(model: nn.Module, example: Tensor, *, nonzero: bool = False) -> int:
    """Multiply-accumulates for one input. With `nonzero`, only those whose weight is
    not zero.

    In a linear layer and in a convolution every weight takes part equally often, so
    both counts are exact.
    """
    counts = layer_macs(model, example)
    if not nonzero:
        return sum(counts.values())
    layers = dict(model.named_modules())
    used = [
        count * int(layers[n].weight.count_nonzero()) // layers[n].weight.numel()
        for n, count in counts.items()
    ]
    return sum(used)


def file_bytes(state: State) -> int:
    """Bytes of the model (or of a dict of tensors) saved as a safetensors file. 1 MB =
    1e6 bytes."""
    return len(to_bytes(state))


def zipped_bytes(state: State, level: int = 6) -> int:
    """Bytes of that file after zlib, the compression inside gzip and zip. `level`: 1
    fast .. 9 small."""
    return len(zlib.compress(to_bytes(state), level))


def csr_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors with each prunable weight in compressed sparse rows: values,
    column numbers, row starts.

    Convolution weights are laid out as `[filters, inputs * height * width]`. Indices
    are int32.
    """
    tensors = dict(model.state_dict())
    for name in prunable(model):
        dense = tensors.pop(name).detach().flatten(1)
        kept = dense != 0
        tensors[f"{name}.values"] = dense[kept]
        tensors[f"{name}.columns"] = kept.nonzero()[:, 1].int()
        tensors[f"{name}.rows"] = F.pad(kept.sum(1).cumsum(0), (1, 0)).int()
    return tensors


class SparseLayer(nn.Module):
    """A linear or convolutional layer that multiplies by its weight in compressed
    sparse rows: it skips zeros.

    A convolution is unfolded: each place of the picture becomes a column. Same outputs
    as the dense layer's, but for rounding.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        units = len(layer.weight)
        self.start = (
            torch.zeros(units, 1)
            if layer.bias is None
            else layer.bias.detach().view(units, 1)
        )
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Sparse CSR tensor support is in beta"
            )
            matrix = layer.weight.detach().flatten(1).to_sparse_csr()  # [units, inputs]
            # 32 bits: faster
            rows, columns = matrix.crow_indices().int(), matrix.col_indices().int()
            self.matrix = torch.sparse_csr_tensor(
                rows, columns, matrix.values(), matrix.shape, check_invariants=False
            )

    @property
    def weight(self) -> nn.Parameter:
        """The dense weight, for modules that read it without calling the layer."""
        return self.layer.weight

    @property
    def bias(self) -> nn.Parameter | None:
        """The dense layer's bias."""
        return self.layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """`[n, ...]` -> `[n, ...]`, as the dense layer."""
        layer = self.layer
        if isinstance(layer, nn.Linear):
            flat = x.reshape(-1, x.shape[-1])
            return torch.addmm(self.start, self.matrix, flat.T).T.reshape(
                *x.shape[:-1], -1
            )
        # [n, inputs, places]
        columns = F.unfold(
            x, layer.kernel_size, layer.dilation, layer.padding, layer.stride
        )
        # [units, n * places]
        product = torch.addmm(
            self.start, self.matrix, columns.transpose(0, 1).flatten(1)
        )
        sides = zip(
            x.shape[2:],
            layer.padding,
            layer.dilation,
            layer.kernel_size,
            layer.stride,
            strict=True,
        )
        size = [
            (side + 2 * pad - dilation * (kernel - 1) - 1) // step + 1
            for side, pad, dilation, kernel, step in sides
        ]
        # [n, units, height, width]
        return product.unflatten(1, (len(x), *size)).transpose(0, 1)


def with_sparse_layers(model: nn.Module) -> nn.Module:
    """A copy whose linear and plain convolutional layers skip zeros (`SparseLayer`);
    grouped ones, convolutions with another padding than zeros and layers of derived
    classes stay dense."""
    result = copy.deepcopy(model)
    for name, layer in prunable_layers(result).items():
        plain = (
            type(layer) is nn.Conv2d
            and layer.groups == 1
            and not isinstance(layer.padding, str)
        )
        if type(layer) is nn.Linear or (plain and layer.padding_mode == "zeros"):
            if not name:
                return SparseLayer(layer)
            parent, _, own = name.rpartition(".")
            setattr(result.get_submodule(parent), own, SparseLayer(layer))
    return result


# ----------------------------------------------------------------------------- measured


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
    once, in turn.

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
        ValueError: no models, or fewer than one round or thread.
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds!r} must be at least 1.")
    race = Race(models, inputs, threads=threads, shortest=shortest)
    for _ in range(rounds):
        race.round()
    return race.timings()


class Race:
    """What `latency` does, a round at a time, for whoever has other things to do in
    between.

    Raises:
        ValueError: no models, or fewer than one thread.
    """

    def __init__(
        self,
        models: Mapping[str, Callable[[Tensor], Tensor]],
        inputs: Tensor,
        *,
        threads: int = 1,
        shortest: float = 1e-3,
    ) -> None:
        if not models or threads < 1:
            raise ValueError(
                f"latency needs a model, and threads={threads!r} must be at least 1."
            )
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
        """Time every model once, in turn."""
        # nobody always comes first
        names = (
            list(self.models) if self.rounds % 2 == 0 else list(reversed(self.models))
        )
        with _steady(self.models, self.threads):
            for name in names:
                self.seconds[name].append(
                    _time(self.models[name], self.inputs, self.calls[name])
                )

    def timings(self) -> dict[str, Timing]:
        """The timings of all rounds so far, by model."""
        first = next(iter(self.seconds.values()))
        return {
            n: _timing(n, each, first, len(self.inputs), self.threads)
            for n, each in self.seconds.items()
        }


@contextmanager
def _steady(models: Mapping[str, Callable], threads: int) -> Iterator[None]:
    """Pinned threads, eval mode, no gradients and no garbage collection; all restored
    afterwards."""
    threads_before, collecting = torch.get_num_threads(), gc.isenabled()
    modules = [m for m in models.values() if isinstance(m, nn.Module)]
    modes = ExitStack()
    try:
        torch.set_num_threads(threads)
        gc.disable()
        modes.enter_context(torch.no_grad())
        for module in modules:
            modes.enter_context(eval_mode(module))
        yield
    finally:
        modes.close()
        torch.set_num_threads(threads_before)
        if collecting:
            gc.enable()


def _time(model: Callable, inputs: Tensor, calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        model(inputs)
    return (time.perf_counter() - started) / calls


def _warm_up(model: Callable, inputs: Tensor, shortest: float) -> int:
    """Call the model a few times; return how many calls last at least `shortest`
    seconds."""
    fastest = min(_time(model, inputs, 1) for _ in range(5))
    return max(1, round(shortest / max(fastest, 1e-7)))


def _timing(
    name: str, seconds: list[float], first: list[float], batch: int, threads: int
) -> Timing:
    ratios = [a / b for a, b in zip(first, seconds, strict=True)]
    (median, quartiles), (speedup, speedup_quartiles) = (
        _median(seconds),
        _median(ratios),
    )
    return Timing(name, median, quartiles, speedup, speedup_quartiles, batch, threads)


def _median(values: list[float]) -> tuple[float, tuple[float, float]]:
    if len(values) == 1:
        return values[0], (values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, (low, high)


# ---------------------------------------------------------------------------- estimated

# Horowitz 2014, "Computing's energy problem (and what we can do about it)", fig. 1.1.9:
# 45 nm, 0.9 V.
# picojoules: one 32-bit floating-point multiplication and one addition
PJ_FP32_MAC = 3.7 + 0.9
# one 8-bit integer multiplication and one 32-bit integer addition
PJ_INT8_MAC = 0.2 + 0.1
PJ_CACHE_BYTE = 100 / 8  # 64 bits from a 1 MB on-chip cache: 100 pJ
PJ_DRAM_BYTE = 1300 / 8  # 64 bits from DRAM: 1.3 to 2.6 nJ; the lower end


@dataclass(frozen=True)
class EnergyEstimate:
    """An estimate, in joules for one batch, from counted operations and bytes; not a
    measurement."""

    arithmetic: float
    weights: float
    activations: float

    @property
    def total(self) -> float:
        """Joules for one batch."""
        return self.arithmetic + self.weights + self.activations

    def __str__(self) -> str:
        return (
            f"estimate: {1e6 * self.total:,.0f} uJ a batch (arithmetic"
            f" {1e6 * self.arithmetic:,.0f}, weights from memory"
            f" {1e6 * self.weights:,.0f}, activations {1e6 * self.activations:,.0f};"
            " constants: Horowitz 2014)"
        )


@torch.no_grad()
def energy_estimate(
    model: nn.Module, inputs: Tensor, *, skip_zeros: bool = False, int8: bool = False
) -> EnergyEstimate:
    """Energy of one batch, estimated with the constants of Horowitz 2014 (a 45 nm chip:
    compare, do not quote).

    Assumes that every weight is read from DRAM once a batch, and that every activation
    is written to and read from an on-chip cache once. With `skip_zeros`: what hardware
    would need that neither computes with nor stores zeros (each remaining weight then
    carries a 4-byte index). Ordinary processors do not skip them. With `int8`: as if
    weights and activations were 8-bit integers, multiplied and added as such.
    """
    weights = prunable(model).values()
    # bytes of an activation, picojoules
    size, per_mac = (1, PJ_INT8_MAC) if int8 else (4, PJ_FP32_MAC)
    sizes = [1 if int8 else w.element_size() for w in weights]
    stored = sum(w.numel() * each for w, each in zip(weights, sizes, strict=True))
    if skip_zeros:
        with_index = sum(
            int(w.count_nonzero()) * (each + 4)
            for w, each in zip(weights, sizes, strict=True)
        )
        stored = min(stored, with_index)
    used = len(inputs) * macs(model, inputs[:1], nonzero=skip_zeros)
    moved = (
        2 * size * (inputs.numel() + len(inputs) * _activation_count(model, inputs[:1]))
    )
    pj = 1e-12
    return EnergyEstimate(
        used * per_mac * pj, stored * PJ_DRAM_BYTE * pj, moved * PJ_CACHE_BYTE * pj
    )


def _activation_count(model: nn.Module, example: Tensor) -> int:
    """Numbers that the linear and convolutional layers put out for one input."""
    layers = dict(model.named_modules())
    counts = layer_macs(model, example)
    return sum(
        count * layers[name].weight.shape[0] // layers[name].weight.numel()
        for name, count in counts.items()
    )


RAPL = Path("/sys/class/powercap")


def energy_counters(folder: Path = RAPL) -> list[Path]:
    """The processor's energy counters that this user may read (Intel and AMD RAPL on
    Linux); often none."""
    counters = sorted(folder.glob("intel-rapl:*/energy_uj"))
    readable = []
    for counter in counters:
        try:
            int(counter.read_text())
            if (counter.parent / "name").read_text().startswith("package"):
                readable.append(counter)
        except (OSError, ValueError):
            continue
    return readable


def measured_energy(work: Callable[[], object], folder: Path = RAPL) -> float | None:
    """Joules that the whole processor used while `work()` ran, by its own counters;
    None where none can be read."""
    counters = energy_counters(folder)
    if not counters:
        work()
        return None
    before = [int(counter.read_text()) for counter in counters]
    work()
    used = 0
    for counter, start in zip(counters, before, strict=True):
        difference = int(counter.read_text()) - start
        if difference < 0:  # the counter ran over
            difference += int((counter.parent / "max_energy_range_uj").read_text())
        used += difference
    return used * 1e-6
