"""What a network costs: parameters, multiply-accumulates (MACs), bytes, latency,
energy. Built in lessons/01_baseline.

Counted things are exact. Latency is measured, as ratios within one run. Energy is an
estimate unless the machine has a counter that can be read, and every object here says
which.
"""

from utils.measure.counting import (
    file_bytes,
    layer_macs,
    macs,
    parameters,
    sparsity,
    zipped_bytes,
    zipping,
)
from utils.measure.energy import (
    EnergyEstimate,
    energy_counters,
    energy_estimate,
    measured_energy,
)
from utils.measure.pairs import Difference, paired_difference
from utils.measure.sparse import SparseLayer, csr_state, with_sparse_layers
from utils.measure.timing import Race, Timing, latency, pinned
from utils.measure.writing import (
    Rate,
    cache_bytes,
    rates,
    reading_speed,
    writing_race,
    writing_speed,
)

__all__ = [
    "Difference",
    "EnergyEstimate",
    "Race",
    "Rate",
    "SparseLayer",
    "Timing",
    "cache_bytes",
    "csr_state",
    "energy_counters",
    "energy_estimate",
    "file_bytes",
    "latency",
    "layer_macs",
    "macs",
    "measured_energy",
    "paired_difference",
    "parameters",
    "pinned",
    "rates",
    "reading_speed",
    "sparsity",
    "with_sparse_layers",
    "writing_race",
    "writing_speed",
    "zipped_bytes",
    "zipping",
]
