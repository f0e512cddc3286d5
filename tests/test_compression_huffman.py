"""Huffman codes: optimal, those of the standard, and streams that come back the same or
are refused."""

import heapq
import itertools
import math
from unittest import mock

import numpy as np
import pytest
from compressed import slow_codes, slow_decode
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.compression import huffman
from utils.compression.huffman import (
    CodeError,
    code_lengths,
    decode,
    encode,
    read_stream,
    stream_bytes,
    write_stream,
)

quickly = settings(deadline=None, max_examples=60)


def slow_cost(counts: list[int]) -> int:
    """Bits of the best code: the sum of all joint counts while the two smallest are
    joined (Huffman 1952)."""
    heap = [count for count in counts if count]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        joint = heapq.heappop(heap) + heapq.heappop(heap)
        total += joint
        heapq.heappush(heap, joint)
    return total


counts_of_symbols = st.one_of(
    st.lists(st.integers(0, 10), min_size=1, max_size=40),
    st.lists(st.sampled_from([0, 1, 2, 1000, 10**6, 10**9]), min_size=1, max_size=256),
    st.integers(2, 50).map(lambda n: [round(1.618**k) for k in range(n)]),
)


@quickly
@given(counts_of_symbols)
def test_huffman_codes_are_prefix_free_complete_and_optimal(counts):
    lengths = code_lengths(np.array(counts)).tolist()
    used = [count for count in counts if count]
    assert [length > 0 for length in lengths] == [count > 0 for count in counts]
    if len(used) < 2:
        assert lengths == [int(count > 0) for count in counts]
        return
    codes = sorted(slow_codes(lengths))
    assert not any(
        second.startswith(first) for first, second in itertools.pairwise(codes)
    )
    assert sum(2 ** (64 - length) for length in lengths if length) == 2**64
    cost, total = (
        huffman.code_bits(np.array(counts), np.array(lengths, dtype=np.uint8)),
        sum(used),
    )
    assert (
        cost
        == slow_cost(counts)
        == sum(c * n for c, n in zip(counts, lengths, strict=True))
    )
    entropy = -sum(count / total * math.log2(count / total) for count in used)
    assert entropy - 1e-9 <= cost / total < entropy + 1


@quickly
@given(counts_of_symbols)
def test_the_codes_are_those_of_rfc_1951(counts):
    lengths = code_lengths(np.array(counts))
    if np.count_nonzero(lengths) < 2:
        return
    order, starts = huffman.canonical(lengths)
    codes = {
        f"{int(start):056b}"[: lengths[symbol]]: symbol
        for symbol, start in zip(order, starts, strict=True)
    }
    assert codes == slow_codes(lengths.tolist())


@quickly
@given(counts_of_symbols)
def test_the_codes_are_as_short_as_those_of_another_program(counts):
    util = pytest.importorskip("bitarray.util")
    used = {symbol: count for symbol, count in enumerate(counts) if count}
    if len(used) < 2:
        return
    codes, _, _ = util.canonical_huffman(used)
    theirs = sum(count * len(codes[symbol]) for symbol, count in used.items())
    counts = np.array(counts)
    assert huffman.code_bits(counts, code_lengths(counts)) == theirs


@quickly
@given(counts_of_symbols, st.data())
def test_another_program_reads_the_codes(counts, data):
    util = pytest.importorskip("bitarray.util")
    from bitarray import bitarray

    lengths = code_lengths(np.array(counts))
    if np.count_nonzero(lengths) < 2 or lengths.max() > 31:  # the most that it reads
        return
    present = st.sampled_from(np.flatnonzero(lengths).tolist())
    symbols = data.draw(st.lists(present, max_size=50))
    written = bitarray()
    written.frombytes(encode(np.array(symbols, dtype=np.uint8), lengths))
    written = written[: int(lengths[symbols].sum())]  # without what fills the byte
    of_length = np.bincount(lengths)
    of_length[0] = 0
    order = np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]
    read = util.canonical_decode(written, of_length.tolist(), order.tolist())
    assert list(read) == symbols


def test_the_example_in_rfc_1951():
    lengths = np.array([3, 3, 3, 3, 3, 2, 4, 4], dtype=np.uint8)
    assert slow_codes(lengths.tolist()) == dict(
        zip(
            ["010", "011", "100", "101", "110", "00", "1110", "1111"],
            range(8),
            strict=True,
        )
    )
    assert encode(np.array([5, 0, 7]), lengths) == bytes([0b00010111, 0b10000000])


@st.composite
def streams(draw, longest: int = 400):
    """Symbols of an alphabet, more or less alike."""
    alphabet = draw(st.integers(1, 256))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(0, longest))
    skew = draw(st.sampled_from([0.0, 0.5, 3.0, 100.0]))
    weights = np.exp(-skew * generator.random(alphabet))
    return (
        generator.choice(alphabet, count, p=weights / weights.sum()).astype(np.uint8),
        alphabet,
    )


@quickly
@given(streams(), st.booleans())
def test_a_stream_comes_back(stream, huffman_too):
    symbols, alphabet = stream
    got = write_stream(symbols, alphabet, huffman=huffman_too)
    counts = np.bincount(symbols, minlength=alphabet)
    size = len(got.table) + len(got.codes)
    assert (
        size
        == stream_bytes(counts, huffman=huffman_too)
        <= -(-len(symbols) * (alphabet - 1).bit_length() // 8)
    )
    assert huffman_too or not got.table
    back = read_stream(got.table_width, got.table, got.codes, alphabet, len(symbols))
    assert back.dtype == np.uint8
    assert back.tolist() == symbols.tolist()


@quickly
@given(streams(), st.sampled_from([1, 2, 3, 8]))
def test_decoding_equals_bit_by_bit_also_across_chunks(stream, chunk):
    symbols, alphabet = stream
    lengths = code_lengths(np.bincount(symbols, minlength=alphabet))
    if np.count_nonzero(lengths) < 2:
        return
    with mock.patch.multiple(huffman, CHUNK=chunk, SYMBOLS=7 * chunk):
        data = encode(symbols, lengths)
        got = decode(data, lengths, len(symbols))
    assert (
        got.tolist()
        == symbols.tolist()
        == slow_decode(data, lengths.tolist(), len(symbols))
    )


@pytest.mark.parametrize("longest", [17, 33, 55, 56])
def test_codes_of_up_to_56_bits(longest):
    lengths = np.array([*range(1, longest + 1), longest], dtype=np.uint8)
    symbols = np.random.default_rng(0).permutation(np.repeat(np.arange(longest + 1), 5))
    assert (
        decode(encode(symbols, lengths), lengths, len(symbols)).tolist()
        == symbols.tolist()
    )


def test_a_long_stream_passes_the_real_chunks():
    symbols = (
        np.random.default_rng(0).geometric(0.1, 200_000).clip(max=255).astype(np.uint8)
    )
    lengths = code_lengths(np.bincount(symbols, minlength=256))
    data = encode(symbols, lengths)
    assert len(data) > 3 * huffman.CHUNK and len(symbols) > 3 * huffman.SYMBOLS
    assert np.array_equal(decode(data, lengths, len(symbols)), symbols)


BAD_STREAMS = {
    "over-subscribed": ([1, 1, 2], b"\x00", 3, "over-subscribed"),
    "under-subscribed": ([1, 2, 0], b"\x00", 3, "under-subscribed"),
    "one symbol with a long code": ([0, 2, 0], b"", 3, "under-subscribed"),
    "no symbol": ([0, 0], b"", 1, "under-subscribed"),
    "a code of 57 bits": ([*range(1, 58), 57], b"\x00", 1, "57 bits long"),
    "too short": ([1, 2, 2], b"\xff", 5, "ends before its last symbol"),
    "nothing": ([1, 2, 2], b"", 1, "ends before its last symbol"),
    "ends within a code": ([1, 3, 3, 2], b"\xff", 3, "ends before its last symbol"),
    "too long": ([1, 2, 2], b"\x00\x00", 8, "goes on after its last symbol"),
    "empty, but bytes": ([1, 2, 2], b"\x00", 0, "goes on after its last symbol"),
    "filled up with ones": ([1, 2, 2], b"\x01", 7, "goes on after its last symbol"),
    "codes for one symbol": ([0, 1], b"\x00", 4, "has codes"),
}


@pytest.mark.parametrize("case", BAD_STREAMS)
def test_a_bad_huffman_stream_is_refused_with_its_reason(case):
    lengths, data, count, reason = BAD_STREAMS[case]
    with pytest.raises(CodeError, match=reason):
        decode(data, np.array(lengths, dtype=np.uint8), count)


@pytest.mark.parametrize(
    ("data", "alphabet", "count", "reason"),
    [
        (b"\x00", 16, 3, "take 2 bytes, not 1"),
        (b"\x00\x00\x00", 16, 3, "take 2 bytes, not 3"),
        (b"\x00\x01", 16, 3, "goes on after"),
        (b"\x00\xf0", 15, 3, "a symbol is 15, outside the 15"),
        (b"", 0, 3, "outside the 0"),
    ],
)
def test_a_bad_stream_of_fixed_width_is_refused_with_its_reason(
    data, alphabet, count, reason
):
    with pytest.raises(CodeError, match=reason):
        read_stream(0, b"", data, alphabet, count)


@pytest.mark.parametrize(
    ("symbols", "alphabet"), [([0, 4], 4), ([-1], 4), ([0], 257), ([0], 0)]
)
def test_symbols_outside_the_alphabet_are_not_written(symbols, alphabet):
    with pytest.raises(ValueError, match="alphabet="):
        write_stream(np.array(symbols), alphabet)
