"""Streams of small numbers in few bits: canonical Huffman codes and fixed widths.
`utils.compression` writes files of them.

A Huffman code (Huffman 1952) gives frequent symbols short codes, so that the whole
stream is as short as any code of whole bits for each symbol can make it. It is
canonical: the codes are numbered in order of their length, then of the symbol, so the
lengths alone say what the codes are (RFC 1951, sec. 3.2.2). Symbols are 0..255; bits
are written from the most significant one. Built in lessons/08_quantization.
"""

import heapq
from dataclasses import dataclass

import numpy as np

# bits of a code; a longer one needs a stream of more than 5e11 symbols (Fibonacci
# numbers as counts)
LONGEST = 56
CHUNK = 1 << 13  # bytes decoded at once: a window for each of their bits takes 0.5 MB
SYMBOLS = 1 << 16  # symbols encoded at once


class CodeError(ValueError):
    """What was read is no stream of this kind; the message says why."""


@dataclass(frozen=True)
class Stream:
    """Coded symbols. `table` holds a code length for each symbol, `table_width` bits
    each; width 0: fixed, no table."""

    table_width: int
    table: bytes
    codes: bytes


def write_stream(symbols: np.ndarray, alphabet: int, *, huffman: bool = True) -> Stream:
    """Code `symbols` (`[count]`, each 0..alphabet-1) with a Huffman code, or with a
    fixed width if that is no longer.

    Raises:
        ValueError: a symbol outside the alphabet, or an alphabet larger than 256.
    """
    if not 0 <= alphabet <= 256 or (
        len(symbols) and not 0 <= symbols.min() <= symbols.max() < alphabet
    ):
        raise ValueError(
            f"alphabet={alphabet!r} must be 0..256, and each symbol below it."
        )
    symbols = symbols.astype(np.uint8)
    counts = np.bincount(symbols, minlength=alphabet)
    lengths = code_lengths(counts)
    if not huffman or _huffman_bytes(counts, lengths) >= packed_bytes(
        len(symbols), fixed_width(alphabet)
    ):
        return Stream(0, b"", pack(symbols, fixed_width(alphabet)))
    width = _table_width(lengths)
    return Stream(width, pack(lengths, width), encode(symbols, lengths))


def stream_bytes(counts: np.ndarray, *, huffman: bool = True) -> int:
    """Bytes, table and codes, that `write_stream` needs for symbols that occur so
    often: `[alphabet]`."""
    fixed = packed_bytes(int(counts.sum()), fixed_width(len(counts)))
    return (
        min(fixed, _huffman_bytes(counts, code_lengths(counts))) if huffman else fixed
    )


def read_stream(
    table_width: int, table: bytes, codes: bytes, alphabet: int, count: int
) -> np.ndarray:
    """The `count` symbols of a stream: `[count]`, uint8. The caller bounds `count`;
    nothing larger is allocated.

    Raises:
        CodeError: the table is no complete code, or `codes` does not hold exactly so
            many symbols of the alphabet.
    """
    if table_width:
        return decode(codes, unpack(table, table_width, alphabet), count)
    symbols = unpack(codes, fixed_width(alphabet), count)
    if len(symbols) and symbols.max() >= alphabet:
        raise CodeError(
            f"a symbol is {symbols.max()}, outside the {alphabet} there are"
        )
    return symbols


# ------------------------------------------------------------------------ Huffman codes


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Bits of each symbol's code in a Huffman code for symbols that occur `counts`
    times: `[symbols]`, uint8.

    0 where the count is 0. A symbol that is the only one gets length 1, and its stream
    no bits at all.

    >>> code_lengths(np.array([50, 25, 0, 15, 10])).tolist()
    [1, 2, 0, 3, 3]
    """
    lengths = np.zeros(len(counts), dtype=np.uint8)
    # a tree: how often its symbols occur together, its serial number, its symbols
    heap = [
        (int(counts[symbol]), int(symbol), [int(symbol)])
        for symbol in np.flatnonzero(counts)
    ]
    if len(heap) == 1:
        lengths[heap[0][2]] = 1
    heapq.heapify(heap)
    # of equal counts the older tree is joined first: no code is longer than it must be
    serial = len(counts)
    while len(heap) > 1:
        (few, _, left), (more, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1  # a bit more tells the two apart
        heapq.heappush(heap, (few + more, serial, left + right))
        serial += 1
    return lengths


def code_bits(counts: np.ndarray, lengths: np.ndarray) -> int:
    """Bits of a stream whose symbols occur `counts` times. A stream of one symbol only
    needs none."""
    return (
        int(counts @ lengths.astype(np.int64)) if np.count_nonzero(lengths) > 1 else 0
    )


def canonical(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The used symbols in canonical order, and where the code of each begins if codes
    are fractions of 2**56.

    A code of length n is the first n of the 56 bits. It covers 2**(56 - n) numbers and
    begins where the one before it ends; a complete code covers all of them.
    """
    order = np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]
    covered = np.uint64(1) << (LONGEST - lengths[order]).astype(np.uint64)
    return order, np.cumsum(covered, dtype=np.uint64) - covered


def check_lengths(lengths: np.ndarray) -> None:
    """Raise CodeError unless these are the lengths of a complete prefix code (Kraft's
    sum is 1), or of one symbol."""
    used = [int(length) for length in lengths if length]
    if used == [1]:
        return
    if used and max(used) > LONGEST:
        raise CodeError(
            f"a code of its Huffman table is {max(used)} bits long; {LONGEST} is the"
            " most"
        )
    covered = sum(1 << (LONGEST - length) for length in used)
    if covered != 1 << LONGEST:
        wrong = (
            "over-subscribed: its codes collide"
            if covered > 1 << LONGEST
            else "under-subscribed: codes are missing"
        )
        raise CodeError(f"its Huffman table is {wrong}")


def encode(symbols: np.ndarray, lengths: np.ndarray) -> bytes:
    """The codes of `symbols`, one after the other; the last byte is filled up with zero
    bits."""
    if np.count_nonzero(lengths) < 2:
        return b""
    order, starts = canonical(lengths)
    codes = np.zeros(len(lengths), dtype=np.uint64)
    codes[order] = starts >> (LONGEST - lengths[order]).astype(np.uint64)
    bits = [
        _bits(symbols[start : start + SYMBOLS], codes, lengths)
        for start in range(0, len(symbols), SYMBOLS)
    ]
    return np.packbits(np.concatenate(bits)).tobytes() if bits else b""


def _bits(symbols: np.ndarray, codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The bits of the codes of these symbols, one after the other: `[bits]`, uint8."""
    sizes = lengths[symbols].astype(np.int64)  # [symbols]
    # each code as often as it has bits; its last bit is shifted by 0
    shifts = np.repeat(np.cumsum(sizes), sizes) - np.arange(sizes.sum()) - 1
    repeated = np.repeat(codes[symbols], sizes) >> shifts.astype(np.uint64)
    return repeated.astype(np.uint8) & 1


def decode(data: bytes, lengths: np.ndarray, count: int) -> np.ndarray:
    """The `count` symbols that `data` codes: `[count]`, uint8.

    Where a code begins is known only when the one before it is read. So the code that
    *would* begin is looked up for every bit at once, in NumPy, and a short loop then
    walks from code to code.

    Raises:
        CodeError: the lengths are no complete code; the data ends early, goes on, or is
            not filled up with zero bits.
    """
    check_lengths(lengths)
    order, starts = canonical(lengths)
    if len(order) == 1:
        if data:
            raise CodeError("a stream of one symbol only has codes")
        return np.full(count, order[0], dtype=np.uint8)
    # eight bytes more: a window may reach beyond the end
    padded = np.frombuffer(data + bytes(8), np.uint8)
    sizes = lengths[order]  # bits of each code, in canonical order
    place, found, pieces = 0, 0, []  # place: the bit at which the next code begins
    for first in range(0, len(data), CHUNK):
        ranks = _ranks(padded, first, min(first + CHUNK, len(data)), starts)
        here, after = _walk(sizes[ranks].tobytes(), place - 8 * first, count - found)
        pieces.append(order[ranks[here]].astype(np.uint8))
        found, place = found + len(here), after + 8 * first
        if found == count:
            break
    _check_end(data, place, missing=count - found)
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.uint8)


def _check_end(data: bytes, place: int, missing: int) -> None:
    """Raise CodeError unless the last symbol ends at bit `place`, in the last byte, and
    zero bits follow."""
    if missing or place > 8 * len(data):
        raise CodeError("a stream ends before its last symbol")
    if packed_bytes(place, 1) != len(data) or (
        place % 8 and data[-1] & (0xFF >> place % 8)
    ):
        raise CodeError("a stream goes on after its last symbol")


def _ranks(padded: np.ndarray, first: int, last: int, starts: np.ndarray) -> np.ndarray:
    """For each bit of the bytes first..last-1: which code, in canonical order, begins
    there. `[8 * bytes]`."""
    windows = _windows(padded, first, last)
    return np.searchsorted(starts, windows, side="right") - 1


def _windows(padded: np.ndarray, first: int, last: int) -> np.ndarray:
    """For each bit of the bytes first..last-1: it and the 55 bits after it, as a
    number. `[8 * bytes]`, uint64."""
    words = np.zeros(last - first, dtype=np.uint64)
    for byte in range(8):
        words = (words << np.uint64(8)) | padded[first + byte : last + byte]
    # [bytes, 8]: shifted left until the bit comes first, then 56 of the 64 bits stay
    shifted = words[:, None] << np.arange(8, dtype=np.uint64)
    return (shifted >> np.uint64(8)).reshape(-1)


def _walk(sizes: bytes, place: int, most: int) -> tuple[list[int], int]:
    """From code to code: the bits at which at most `most` codes begin, and the bit
    after them."""
    here: list[int] = []
    end = len(sizes)
    while place < end and len(here) < most:
        here.append(place)
        place += sizes[place]
    return here, place


# ------------------------------------------------------------------------- fixed widths


def fixed_width(alphabet: int) -> int:
    """Bits that tell so many symbols apart; 0 for one symbol."""
    return max(alphabet - 1, 0).bit_length()


def packed_bytes(count: int, width: int) -> int:
    """Bytes of `count` numbers of `width` bits each."""
    return -(-count * width // 8)


def pack(numbers: np.ndarray, width: int) -> bytes:
    """Numbers 0..2**width-1 in `width` bits each, 0 <= width <= 8; the last byte is
    filled up with zero bits.

    >>> pack(np.array([1, 2, 3]), width=2).hex()  # 01 10 11 00
    '6c'
    """
    bits = np.unpackbits(numbers.astype(np.uint8)[:, None], axis=1)  # [numbers, 8]
    return np.packbits(bits[:, 8 - width :]).tobytes()


def unpack(data: bytes, width: int, count: int) -> np.ndarray:
    """`count` numbers of `width` bits each: `[count]`, uint8.

    Raises:
        CodeError: the data is shorter or longer than that, or is not filled up with
            zero bits.
    """
    if len(data) != packed_bytes(count, width):
        raise CodeError(
            f"{count:,} numbers of {width} bits take {packed_bytes(count, width):,}"
            f" bytes, not {len(data):,}"
        )
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    if bits[count * width :].any():
        raise CodeError("a stream goes on after its last symbol")
    numbers = np.zeros(count, dtype=np.uint8)
    for column in bits[: count * width].reshape(count, width).T:  # [count], each bit
        numbers = (numbers << 1) | column
    return numbers


def _table_width(lengths: np.ndarray) -> int:
    """Bits that each length takes in the table."""
    return int(lengths.max(initial=1)).bit_length()


def _huffman_bytes(counts: np.ndarray, lengths: np.ndarray) -> int:
    """Bytes of the table and of the codes."""
    table = packed_bytes(len(lengths), _table_width(lengths))
    return table + packed_bytes(code_bits(counts, lengths), 1)
