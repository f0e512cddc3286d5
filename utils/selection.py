"""The largest of millions of numbers, exactly and without sorting them.

Sorting 25 million weights to find a threshold takes seconds. Here a sample tells the
threshold to within a narrow bracket; one pass over the numbers settles all but the few
inside it (after Floyd & Rivest 1975), and those are sorted.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from utils.arguments import whole

# numbers looked at to bracket the threshold; with fewer than that, all are candidates
SAMPLE = 1 << 17
# numbers handled at once: 256 kB, so that a chunk stays in the processor's cache
CHUNK = 1 << 16


class Chunk(NamedTuple):
    """A part of one array, `[CHUNK]` or less, and the part of the answer for it."""

    name: str
    numbers: np.ndarray
    chosen: np.ndarray  # bool, written into


class Candidates(NamedTuple):
    """What one comparison leaves open in a chunk: the numbers inside the bracket."""

    chosen: np.ndarray  # the chunk's part of the answer
    above: int  # how many are certainly chosen
    places: np.ndarray  # of the candidates in the chunk
    numbers: np.ndarray  # the candidates


def mark_largest(
    arrays: Mapping[str, np.ndarray], count: int, *, magnitude: bool = False
) -> dict[str, np.ndarray]:
    """Mark the `count` largest numbers of all arrays together; of equal ones the first.

    Numbers are compared as they are, whole ones too: none is rounded.

    Args:
        arrays: `[n]` each, by name; of real numbers.
        magnitude: compare `|x|`, without a copy of the arrays.
    Returns:
        Boolean arrays of the same lengths, by name.
    Raises:
        ValueError: NaN among the numbers, a count that is not there, or whole numbers
            that float64 cannot hold beside others that are not whole.

    >>> marks = mark_largest({"a": np.array([1.0, 4.0]), "b": np.array([3.0, 2.0])}, 2)
    >>> marks["a"].tolist(), marks["b"].tolist()
    ([False, True], [True, False])
    """
    whole("count", count, high=sum(len(array) for array in arrays.values()))
    arrays = comparable(arrays, magnitude)
    marks = {name: np.empty(len(array), dtype=bool) for name, array in arrays.items()}
    chunks = [
        Chunk(name, array[start : start + CHUNK], marks[name][start : start + CHUNK])
        for name, array in arrays.items()
        for start in range(0, len(array), CHUNK)
    ]
    if not chunks:
        return marks
    everything = (-np.inf, np.inf)
    for limits in (bracket(list(arrays.values()), count, magnitude), everything):
        found = compare(chunks, limits, magnitude)
        needed = count - sum(each.above for each in found)
        # the threshold lies inside the bracket; if not, the sample misled us and
        # everything is a candidate
        if 0 <= needed <= sum(len(each.numbers) for each in found):
            break
    chosen = largest(np.concatenate([each.numbers for each in found]), needed)
    start = 0
    for each in found:  # hand each chunk its part of the answer
        each.chosen[each.places] = chosen[start : start + len(each.places)]
        start += len(each.places)
    return marks


def mark_largest_in_rows(
    name: str, rows: np.ndarray, count: int, *, magnitude: bool = False
) -> np.ndarray:
    """Mark the `count` largest numbers of each row; of equal ones the first.

    Rows are short: each is partitioned, and no sample is needed. Arguments and errors
    as `mark_largest`.

    Args:
        rows: `[rows, n]`; `name` is what an error calls them.
    Returns:
        Boolean, `[rows, n]`.

    >>> mark_largest_in_rows("a", np.array([[1.0, 4.0, 2.0], [3.0, 3.0, 3.0]]), 1)
    array([[False,  True, False],
           [ True, False, False]])
    """
    whole("count", count, high=rows.shape[1])
    rows = comparable({name: rows}, magnitude)[name]
    marks = np.zeros(rows.shape, dtype=bool)
    if not rows.size:
        return marks
    step = max(1, CHUNK // rows.shape[1])
    for start in range(0, len(rows), step):
        few = rows[start : start + step]
        few = np.abs(few) if magnitude else few
        _refuse_nan(name, few)
        if count:
            marks[start : start + step] = _largest_in_rows(few, count)
    return marks


def _largest_in_rows(rows: np.ndarray, count: int) -> np.ndarray:
    place = rows.shape[1] - count
    threshold = np.partition(rows, place, axis=1)[:, place : place + 1]  # [rows, 1]
    chosen = rows >= threshold
    tied = np.count_nonzero(chosen, axis=1) > count  # [rows]
    if tied.any():  # several equal the threshold, and the last of them go
        rows, threshold = rows[tied], threshold[tied]
        above, equal = rows > threshold, rows == threshold
        open_places = count - np.count_nonzero(above, axis=1, keepdims=True)
        chosen[tied] = above | equal & (equal.cumsum(axis=1) <= open_places)
    return chosen


def comparable(
    arrays: Mapping[str, np.ndarray], magnitude: bool
) -> dict[str, np.ndarray]:
    """The same numbers, in types that NumPy compares without rounding."""
    kinds = {name: array.dtype.kind for name, array in arrays.items()}
    for name, kind in kinds.items():
        if kind not in "fiub":
            raise ValueError(
                f"the scores of {name} are {arrays[name].dtype}; they must be real"
                " numbers."
            )
    result = dict(arrays)
    for name in (name for name, kind in kinds.items() if magnitude and kind == "i"):
        # -2**63 has a magnitude that int64 cannot hold
        result[name] = np.abs(arrays[name].astype(np.int64)).view(np.uint64)
    if np.result_type(*result.values(), np.bool_).kind == "f":
        result |= {n: _as_float(n, result[n]) for n in result if kinds[n] in "iu"}
    return result


def _as_float(name: str, array: np.ndarray) -> np.ndarray:
    ends = (int(array.min()), int(array.max())) if len(array) else (0, 0)
    if max(map(abs, ends)) > 1 << 53:
        raise ValueError(
            f"the scores of {name} go from {ends[0]} to {ends[1]}; float64, in which"
            " they are compared with those of other layers, is exact up to 2**53."
        )
    return array.astype(np.float64)


def bracket(
    arrays: Sequence[np.ndarray], count: int, magnitude: bool
) -> tuple[float, float]:
    """Two values between which the smallest chosen number almost surely lies."""
    total = sum(len(array) for array in arrays)
    if total <= SAMPLE:
        return -np.inf, np.inf
    sample = np.concatenate([array[:: total // SAMPLE] for array in arrays])
    sample = np.sort(np.abs(sample) if magnitude else sample)
    middle = (1 - count / total) * len(sample)  # the threshold's rank in the sample
    # five standard deviations of a sampled rank, which are sqrt(n p (1 - p)) at p = 1/2
    margin = 5 * np.sqrt(len(sample)) / 2 + 2
    low, high = int(middle - margin), int(middle + margin)
    return (
        sample[low] if low >= 0 else -np.inf,
        sample[high] if high < len(sample) else np.inf,
    )


def compare(
    chunks: Sequence[Chunk], limits: tuple[float, float], magnitude: bool
) -> list[Candidates]:
    """Mark what is above the upper limit; what lies between the two is candidate.

    The chunks are shared out among as many threads as torch computes with.
    """

    def work(share: Sequence[Chunk]) -> list[Candidates]:
        # one buffer a thread: allocating one a chunk costs more
        types = (chunk.numbers.dtype for chunk in share)
        buffer = np.empty(CHUNK, dtype=np.result_type(*types)) if magnitude else None
        return [_compare_chunk(chunk, limits, buffer) for chunk in share]

    threads = min(torch.get_num_threads(), len(chunks))
    if threads == 1:
        return work(chunks)
    size = -(-len(chunks) // threads)
    shares = [chunks[start : start + size] for start in range(0, len(chunks), size)]
    with ThreadPoolExecutor(threads) as pool:  # NumPy leaves the interpreter's lock
        return [each for found in pool.map(work, shares) for each in found]


def _compare_chunk(
    chunk: Chunk, limits: tuple[float, float], buffer: np.ndarray | None
) -> Candidates:
    """Compare the numbers, or where there is a `buffer` their magnitudes."""
    numbers, (low, high) = chunk.numbers, limits
    if buffer is not None:
        numbers = np.abs(numbers, out=buffer[: len(numbers)])
    _refuse_nan(chunk.name, numbers)
    above = np.greater(numbers, high, out=chunk.chosen)
    # "at least low, and not above high": two passes of one byte a number. Places fit
    # 16 bits, a quarter of the memory of NumPy's own
    places = np.flatnonzero(np.greater_equal(numbers, low) ^ above).astype(np.uint16)
    return Candidates(above, int(np.count_nonzero(above)), places, numbers[places])


def _refuse_nan(name: str, numbers: np.ndarray) -> None:
    if np.isnan(numbers.min()):  # NaN spreads: one minimum asks all
        raise ValueError(f"the scores of {name} contain NaN; they must be numbers.")


def largest(numbers: np.ndarray, count: int) -> np.ndarray:
    """Boolean array: the `count` largest of `numbers`; of equal ones the first."""
    if count == 0:
        return np.zeros(len(numbers), dtype=bool)
    threshold = np.partition(numbers, len(numbers) - count)[len(numbers) - count]
    chosen = numbers > threshold
    equal = np.flatnonzero(numbers == threshold)
    # how many of the equal ones are still to be chosen
    chosen[equal[: count - np.count_nonzero(chosen)]] = True
    return chosen
