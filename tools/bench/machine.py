"""What the machine can do: its clock, its memory's bandwidth, its arithmetic, and how
much memory something takes."""

import gc
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

LARGE = 1 << 26  # numbers in a tensor that is far larger than the caches


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work()` takes; garbage is collected before, not meanwhile."""
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started
    finally:
        gc.enable()


def bytes_per_second(source: Tensor, target: Tensor) -> float:
    """Memory bandwidth: a copy reads and writes every byte. Both tensors must be far
    larger than the caches."""
    return 2 * source.nbytes / timed(lambda: target.copy_(source))


def flops_per_second(matrix: Tensor, target: Tensor) -> float:
    """Arithmetic peak that is really reached: two operations for each
    multiply-accumulate of a matrix product."""
    return 2 * len(matrix) ** 3 / timed(lambda: torch.mm(matrix, matrix, out=target))


def peak_extra_bytes(work: Callable[[], object]) -> int | None:
    """Most memory that `work()` held at once beyond what was there before, by the
    kernel's own record (Linux).

    None where that record cannot be reset. Memory that was freed before and kept by the
    process counts as there.
    """
    try:
        # sets the recorded peak to the present size
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_bytes("VmRSS")
    except OSError:
        return None
    result = work()
    peak = _status_bytes("VmHWM")
    del result
    return peak - before


def _status_bytes(field: str) -> int:
    """What the kernel says of this process: VmRSS, its memory now; VmHWM, the most."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0
