"""Energy: an estimate from counted operations and bytes, or what the processor's own
counters say where they can be read. Built in lessons/01_baseline."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from utils.measure.products import Product, products, storage, values

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
    is written to and read from an on-chip cache once: the inputs, and what each product
    and convolution that `layer_macs` counts puts out. With `skip_zeros`: what hardware
    would need that neither computes with nor stores zeros (each remaining weight then
    carries a 4-byte index). Ordinary processors do not skip them. With `int8`: as if
    weights and activations were 8-bit integers, multiplied and added as such.

    Raises:
        ValueError: as `layer_macs`; zeros of a network without values (meta device).

    >>> found = energy_estimate(nn.Linear(784, 10), torch.zeros(1, 784))
    >>> f"{1e6 * found.weights:.1f} of {1e6 * found.total:.1f} uJ: weights from memory"
    '5.1 of 5.2 uJ: weights from memory'
    """
    found, count = products(model, inputs)
    macs = sum(each.nonzero() if skip_zeros else each.macs for each in found)
    outputs = count * sum(each.outputs for each in found)
    moved = 2 * (1 if int8 else 4) * (inputs.numel() + outputs)  # bytes, both ways
    pj = 1e-12
    return EnergyEstimate(
        arithmetic=count * macs * (PJ_INT8_MAC if int8 else PJ_FP32_MAC) * pj,
        weights=_weight_bytes(found, skip_zeros, int8) * PJ_DRAM_BYTE * pj,
        activations=moved * PJ_CACHE_BYTE * pj,
    )


def _weight_bytes(found: list[Product], skip_zeros: bool, int8: bool) -> int:
    """Bytes of the weights that are multiplied by, each once: as they are or, where
    that is less, each but the zeros with an index."""
    dense = with_index = 0
    # a weight and its transpose are one
    weights = {(id(storage(w)), w.numel()): w for each in found for w in each.weights}
    for weight in weights.values():
        numbers, size = values(weight), 1 if int8 else weight.element_size()
        index = 0 if numbers is weight else 4  # a sparse one has it
        dense += numbers.numel() * (size + index)
        if skip_zeros:
            with_index += int(numbers.count_nonzero()) * (size + 4)
    return min(dense, with_index) if skip_zeros else dense


RAPL = Path("/sys/class/powercap")


def energy_counters(folder: Path = RAPL) -> list[Path]:
    """The processor's energy counters that this user may read (Intel and AMD RAPL on
    Linux); often none."""
    return list(filter(_readable, sorted(folder.glob("intel-rapl:*/energy_uj"))))


def _readable(counter: Path) -> bool:
    """Whether this user may read it, and it counts a whole processor."""
    try:
        int(counter.read_text())
        return (counter.parent / "name").read_text().startswith("package")
    except (OSError, ValueError):
        return False


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
