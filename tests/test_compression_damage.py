"""Files that are damaged, forged or of another network: each is refused for its reason,
and nothing is changed."""

import copy
import itertools
import math
import random
import struct
import tracemalloc
import zlib
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from compressed import Weights, entries_of, same, sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from utils import baselines
from utils.compression import (
    byte_bill,
    load_compressed,
    read_compressed,
    save_compressed,
)
from utils.compression.format import HALF, RAW, SHARED, SPARSE
from utils.files import DamagedFileError


@pytest.fixture
def saved(tmp_path):
    """A small network, and a file of it in which every kind of tensor occurs."""
    torch.manual_seed(0)
    different = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    network = Weights(sparse(20, 20), different, different * torch.eye(3, 4))
    path = tmp_path / "net"
    save_compressed(network, path, bits=2, other="float16")
    kinds = {entry.kind for entry in entries_of(path).values()}
    assert kinds == {RAW, HALF, SPARSE, SHARED}
    return network, path


@contextmanager
def few_bytes(most: float = 2e6):
    """Fail if more memory than this is taken at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def refused(path, network, words: str = ".", max_elements: int = 10_000) -> None:
    """All three readers refuse the file in words that name it, and the network stays as
    it is."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for read in (
        lambda: load_compressed(path, network),
        lambda: read_compressed(path, max_elements=max_elements),
        lambda: byte_bill(path, max_elements=max_elements),
    ):
        with pytest.raises(DamagedFileError, match=words) as caught:
            read()
        assert str(path) in str(caught.value) and "Repair:" in str(caught.value)
    assert same(network.state_dict(), before)


def test_every_changed_byte_is_noticed(saved):
    network, path = saved
    content = path.read_bytes()
    for place in range(len(content)):
        for flip in (1, 0xFF):
            path.write_bytes(
                content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
            )
            with pytest.raises(DamagedFileError):
                load_compressed(path, network)
    path.write_bytes(content)
    load_compressed(path, network)


def test_every_cut_and_every_addition_is_noticed(saved):
    network, path = saved
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place])
        with pytest.raises(DamagedFileError):
            load_compressed(path, network)
    for more in (
        b"\x00",
        b"\n",
        b"\x00" * 100,
        content,
        random.Random(0).randbytes(5000),
    ):
        path.write_bytes(content + more)
        refused(path, network)


def test_files_that_are_something_else(saved, tmp_path):
    network, path = saved
    for words, other in (
        ("does not begin as one", b""),
        ("does not begin as one", b"PK\x03\x04" + b"\x00" * 100),
        ("does not begin as one", baselines.to_bytes(network)),
        ("version is missing", b"\x89PRUNED"),
        (
            "version is 02; this program reads 01",
            b"\x89PRUNED\x02" + path.read_bytes()[8:],
        ),
        ("checksum", b"\x89PRUNED\x01"),
        ("checksum", b"\x89PRUNED\x01\x00\x00"),
    ):
        path.write_bytes(other)
        refused(path, network, words)
    refused(tmp_path / "none", network, "none is missing")
    refused(tmp_path, network, "cannot be read")


def test_a_large_file_is_refused_before_it_is_read(saved):
    network, path = saved
    for start, words in (
        (b"", "does not begin as one"),
        (b"\x89PRUNED\x01", "1,000,000,000 bytes; so large a network"),
    ):
        with open(path, "wb") as file:
            file.write(start)
            file.truncate(10**9)  # a hole: takes no space
        with few_bytes():
            refused(path, network, words)


def test_a_sound_file_of_another_network_is_refused(saved, tmp_path):
    network, path = saved
    wider = Weights(
        sparse(20, 21), *(layer.weight.detach() for layer in network.layers[1:])
    )
    more = copy.deepcopy(network)
    more.register_buffer("extra", torch.zeros(1))
    other_type = copy.deepcopy(network)
    other_type.steps = other_type.steps.int()
    for other, words in (
        (
            wider,
            (
                r"layers\.0\.weight is torch\.float32 \[20, 20\], in the model"
                r" torch\.float32 \[20, 21\]"
            ),
        ),
        (more, "another network than the model: extra is in one of them only"),
        (other_type, r"steps is torch\.int64 \[\], in the model torch\.int32"),
        (nn.Linear(2, 2), "claims"),
    ):
        before = copy.deepcopy(other.state_dict())
        with pytest.raises(DamagedFileError, match=words):
            load_compressed(path, other)
        assert same(other.state_dict(), before)


def test_more_elements_than_allowed_are_refused(saved):
    network, path = saved
    elements = sum(tensor.numel() for tensor in network.state_dict().values())
    assert same(read_compressed(path, max_elements=elements), read_compressed(path))
    for most in (0, 10, elements - 1):
        for read in (read_compressed, byte_bill):
            with pytest.raises(
                DamagedFileError,
                match=r"more elements than are allowed|so large a network",
            ):
                read(path, max_elements=most)


def unfolding(elements: int) -> bytes:
    """A few bytes that are a sound file of so many zeros."""
    head = entry(shape=(elements,), kind=2, numbers=(0, 0, 1, 0, 0))
    return by_hand(head, body=b"")


def test_a_small_file_of_many_numbers_is_refused_before_it_is_unfolded(tmp_path):
    path = tmp_path / "net"
    path.write_bytes(unfolding(29_000_000))
    assert path.stat().st_size < 50
    with few_bytes(1e6):
        for read in (read_compressed, byte_bill):
            with pytest.raises(
                DamagedFileError,
                match=r"holds 29,000,000, which may take 580 MB, and 12,000,000 are"
                r" allowed, 240 MB.*give more max_elements",
            ):
                read(path)
            with pytest.raises(DamagedFileError, match="28,999,999 are allowed"):
                read(path, max_elements=28_999_999)


def test_a_limit_of_the_caller_is_kept_and_what_it_says_is_what_is_taken(tmp_path):
    elements = 1_000_000
    (tmp_path / "net").write_bytes(unfolding(elements))
    with few_bytes(20 * elements):
        found = read_compressed(tmp_path / "net", max_elements=elements)
    assert found["weight"].shape == (elements,) and not found["weight"].any()
    network = Weights(sparse(1000, 1000, density=1.0))
    save_compressed(network, tmp_path / "full", bits=8)
    with few_bytes(20 * elements):
        read_compressed(tmp_path / "full")


@pytest.mark.parametrize("wrong", [-1, 1.5, math.nan, True, "many", None])
def test_a_limit_that_is_no_number_is_refused(saved, wrong):
    for read in (read_compressed, byte_bill):
        with pytest.raises(ValueError, match=r"max_elements=.* whole number"):
            read(saved[1], max_elements=wrong)


def number(value: int) -> bytes:
    return (
        bytes([value])
        if value < 128
        else bytes([value % 128 + 128]) + number(value // 128)
    )


def entry(
    *,
    name=b"weight",
    dtype=0,
    kind=3,
    shape=(2, 3),
    numbers=(3, 3, 2, 0, 1, 2, 0, 1),
    dims=None,
) -> bytes:
    head = (
        number(len(name))
        + name
        + bytes([dtype, kind, len(shape) if dims is None else dims])
    )
    return head + b"".join(map(number, [*shape, *numbers]))


# [[0, 1.5, 0], [0, -2, 1.5]]: gaps 1, 2, 0 in two bits each, codebook -2 and 1.5,
# numbers 1, 0, 1 in one bit each
BODY = bytes([0b01100000]) + struct.pack("<2f", -2, 1.5) + bytes([0b10100000])


def seal(content: bytes) -> bytes:
    return content + struct.pack("<I", zlib.crc32(content))


def by_hand(*entries: bytes, body: bytes = BODY, count: int | None = None) -> bytes:
    return seal(
        b"\x89PRUNED\x01"
        + number(len(entries) if count is None else count)
        + b"".join(entries)
        + body
    )


def test_a_file_made_by_hand_is_read(tmp_path):
    path, layer = tmp_path / "net", nn.Linear(3, 2, bias=False)
    path.write_bytes(by_hand(entry()))
    load_compressed(path, layer)
    assert layer.weight.tolist() == [[0, 1.5, 0], [0, -2, 1.5]]
    assert byte_bill(path)["indices"] == {"weight": 1}


HUGE = 2**60
CODEBOOK = BODY[1:9]
RAW_BODY = bytes(24)
BY_HAND = {
    # name: (file, reason)
    "a name of 2**60 bytes": (by_hand(number(HUGE)), "name in its header is 1,152"),
    "a name of no bytes": (by_hand(entry(name=b"")), "name in its header is 0 bytes"),
    "a name of 1,001 bytes": (
        by_hand(entry(name=b"n" * 1001)),
        "name in its header is 1,001",
    ),
    "a name past the end": (by_hand(number(900), body=b""), "middle of its header"),
    "a name that is no text": (by_hand(entry(name=b"\xff\xfe")), "is no text"),
    "2**60 tensors": (
        by_hand(entry(), count=HUGE),
        "claims 1,152,921,504,606,846,976 tensors",
    ),
    "a tensor too many": (
        by_hand(entry(), count=2),
        "tensors; at most 1 are|name in its header",
    ),
    "a tensor too few": (
        by_hand(entry(), entry(name=b"b"), count=1),
        "header promises 10 bytes of content, and",
    ),
    "no tensors": (by_hand(body=b""), "weight is in one of them only"),
    "two of one name": (
        by_hand(entry(), entry(), body=BODY * 2),
        "two tensors of one name|2 tensors; at most 1",
    ),
    "unknown type": (by_hand(entry(dtype=10)), r"unknown type \(10\)"),
    "unknown kind": (by_hand(entry(kind=4)), r"kind \(4\)"),
    "17 dimensions": (by_hand(entry(dims=17)), r"dimensions \(17\)"),
    "a number without end": (
        by_hand(b"\xff" * 40),
        "a number in its header is too long",
    ),
    "header cut": (by_hand(entry()[:-1], body=b""), "middle of its header"),
    "2**60 rows": (
        by_hand(entry(shape=(HUGE, 3))),
        r"shape \[1152921504606846976, 3\]: more elements",
    ),
    "2**60 times nothing": (
        by_hand(entry(shape=(HUGE, 0), kind=0, numbers=()), body=b""),
        r"shape \[1152921504606846976, 0\]: more elements",
    ),
    "2**32 by 2**32": (
        by_hand(entry(shape=(2**32, 2**32))),
        "more elements than are allowed",
    ),
    "16 dimensions of 2**60": (
        by_hand(entry(shape=[HUGE] * 16)),
        "more elements than are allowed",
    ),
    "2**60 raw": (
        by_hand(entry(shape=(HUGE,), kind=0, numbers=())),
        "more elements than are allowed",
    ),
    "raw, bytes missing": (
        by_hand(entry(kind=0, numbers=()), body=bytes(23)),
        "promises 24 bytes of content, and 23",
    ),
    "raw, bytes added": (
        by_hand(entry(kind=0, numbers=()), body=bytes(25)),
        "promises 24 bytes of content, and 25",
    ),
    "half a whole number": (
        by_hand(entry(dtype=4, kind=1, numbers=()), body=bytes(12)),
        "only stored as it is",
    ),
    "shared whole numbers": (
        by_hand(entry(dtype=4)),
        "int64, which is only stored as it is",
    ),
    "2**60 weights": (
        by_hand(entry(numbers=(HUGE, HUGE, 2, 0, 1, 2, 0, 1))),
        "more weights or gaps than its 6",
    ),
    "2**60 gaps": (
        by_hand(entry(numbers=(3, HUGE, 2, 0, 1, 2, 0, 1))),
        "more weights or gaps than its 6",
    ),
    "more weights than gaps": (
        by_hand(entry(numbers=(4, 3, 2, 0, 1, 2, 0, 1))),
        "more weights or gaps than its 6",
    ),
    "gaps of 0 bits": (
        by_hand(entry(numbers=(3, 3, 0, 0, 1, 2, 0, 1))),
        "more than 8 bits, or of none",
    ),
    "gaps of 9 bits": (
        by_hand(entry(numbers=(3, 3, 9, 0, 1, 2, 0, 1))),
        "more than 8 bits, or of none",
    ),
    "gaps of 2**60 bits": (
        by_hand(entry(numbers=(3, 3, HUGE, 0, 1, 2, 0, 1))),
        "more than 8 bits, or of none",
    ),
    "a codebook of 257": (
        by_hand(entry(numbers=(3, 3, 2, 0, 1, 257, 0, 1))),
        "more than 256 shared values",
    ),
    "a codebook of 2**60": (
        by_hand(entry(numbers=(3, 3, 2, 0, 1, HUGE, 0, 1))),
        "more than 256 shared values",
    ),
    "code lengths of 7 bits": (
        by_hand(entry(numbers=(3, 3, 2, 7, 1, 2, 0, 1))),
        "more than 6 bits each",
    ),
    "index code lengths of 2**60 bits": (
        by_hand(entry(numbers=(3, 3, 2, 0, 1, 2, HUGE, 1))),
        "more than 6 bits each",
    ),
    "2**60 bytes of gaps": (
        by_hand(entry(numbers=(3, 3, 2, 0, HUGE, 2, 0, 1))),
        "header promises 1,152,",
    ),
    "2**60 bytes of indices": (
        by_hand(entry(numbers=(3, 3, 2, 0, 1, 2, 0, HUGE))),
        "header promises 1,152,",
    ),
}
# found only when the parts are decoded: byte_bill, which does not, cannot know
DECODED = {
    "a gap outside the tensor": (
        entry(),
        bytes([0b01101000]) + BODY[1:],
        r"leads to element 7, outside the tensor of 6",
    ),
    "a gap to just outside": (
        entry(),
        bytes([0b01100100]) + BODY[1:],
        r"leads to element 6, outside the tensor of 6",
    ),
    "a filler outside the tensor": (
        entry(numbers=(3, 6, 2, 0, 2, 2, 0, 1)),
        bytes([0b11111100, 0]) + BODY[1:],
        "leads to element 11, outside the tensor of 6",
    ),
    "a filler last": (
        entry(numbers=(2, 3, 2, 0, 1, 2, 0, 1)),
        bytes([0b01001100]) + BODY[1:],
        "another number of weights",
    ),
    "a weight too few": (
        entry(),
        bytes([0b01110000]) + BODY[1:],
        "another number of weights",
    ),
    "an index outside the codebook": (
        entry(numbers=(3, 3, 2, 0, 1, 3, 0, 1)),
        BODY[:9] + struct.pack("<f", 3) + bytes([0b00110000]),
        "a symbol is 3, outside the 3",
    ),
    "no codebook": (
        entry(numbers=(3, 3, 2, 0, 1, 0, 0, 0)),
        BODY[:1],
        "a symbol is 0, outside the 0",
    ),
    "a codebook of NaN": (
        entry(),
        BODY[:1] + struct.pack("<2f", -2, math.nan) + BODY[9:],
        "no finite number",
    ),
    "infinite values": (
        entry(kind=2, numbers=(3, 3, 2, 0, 1)),
        BODY[:1] + struct.pack("<3f", 1, 2, math.inf),
        "no finite number",
    ),
    "gaps too long": (
        entry(numbers=(3, 3, 2, 0, 2, 2, 0, 1)),
        BODY[:1] + b"\x00" + BODY[1:],
        "take 1 bytes, not 2",
    ),
    "gaps not filled up with zeros": (
        entry(),
        bytes([0b01100001]) + BODY[1:],
        "goes on after its last symbol",
    ),
    "indices missing": (
        entry(numbers=(3, 3, 2, 0, 1, 2, 0, 0)),
        BODY[:9],
        "take 1 bytes, not 0",
    ),
    "indices not filled up with zeros": (
        entry(),
        BODY[:9] + bytes([0b10110000]),
        "goes on after its last symbol",
    ),
    "gap codes that collide": (
        entry(numbers=(3, 3, 2, 2, 1, 2, 0, 1)),
        bytes([0b01010110]) + BODY,
        "over-subscribed: its codes collide",
    ),
    "gap codes missing": (
        entry(numbers=(3, 3, 2, 2, 1, 2, 0, 1)),
        bytes([0b01101100]) + BODY,
        "under-subscribed: codes are missing",
    ),
    "index codes that collide": (
        entry(numbers=(3, 3, 2, 0, 1, 3, 1, 1)),
        bytes([0b11100000]) + BODY[:9] + struct.pack("<f", 3) + BODY[9:],
        "over-subscribed",
    ),
    "index codes missing": (
        entry(numbers=(3, 3, 2, 0, 1, 2, 1, 1)),
        b"\x00" + BODY,
        "under-subscribed",
    ),
    "gap codes end early": (
        entry(numbers=(3, 3, 2, 2, 0, 2, 0, 1)),
        bytes([0b01101111]) + BODY[1:],
        "ends before its last symbol",
    ),
    "gap codes go on": (
        entry(numbers=(3, 3, 2, 2, 2, 2, 0, 1)),
        bytes([0b01101111, 0b01011000, 0]) + BODY[1:],
        "goes on after its last symbol",
    ),
    "codes for one symbol only": (
        entry(numbers=(3, 3, 2, 1, 1, 2, 0, 1)),
        bytes([0b10000000, 0]) + BODY[1:],
        "one symbol only has codes",
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_a_header_that_claims_nonsense_is_refused_with_its_reason(case, tmp_path):
    content, words = BY_HAND[case]
    path, layer = tmp_path / "net", nn.Linear(3, 2, bias=False)
    path.write_bytes(content)
    before = layer.weight.detach().clone()
    with few_bytes(1e6):
        with pytest.raises(DamagedFileError, match=words) as caught:
            load_compressed(path, layer)
        assert str(path) in str(caught.value)
        if case != "no tensors":
            for read in (read_compressed, byte_bill):
                with pytest.raises(DamagedFileError):
                    read(path)
    assert torch.equal(layer.weight, before)


def test_two_tensors_of_one_name_are_refused(tmp_path):
    (tmp_path / "net").write_bytes(BY_HAND["two of one name"][0])
    with pytest.raises(DamagedFileError, match="two tensors of one name"):
        read_compressed(tmp_path / "net")


@pytest.mark.parametrize("case", DECODED)
def test_parts_that_make_no_sense_are_refused_with_their_reason(case, tmp_path):
    head, body, words = DECODED[case]
    path, layer = tmp_path / "net", nn.Linear(3, 2, bias=False)
    path.write_bytes(by_hand(head, body=body))
    before = layer.weight.detach().clone()
    with few_bytes(1e6):
        for read in (
            lambda: load_compressed(path, layer),
            lambda: read_compressed(path),
        ):
            with pytest.raises(DamagedFileError, match=f"'weight': .*{words}"):
                read()
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("kind", [2, 3])
def test_values_must_be_finite_in_the_type_of_the_tensor(kind, tmp_path):
    """float32 holds 1e30, float16 does not."""
    if kind == 2:
        head, body = (
            entry(dtype=2, kind=2, numbers=(3, 3, 2, 0, 1)),
            BODY[:1] + struct.pack("<3f", 1, 2, 1e30),
        )
    else:
        head, body = entry(dtype=2), BODY[:1] + struct.pack("<2f", -2, 1e30) + BODY[9:]
    path, layer = tmp_path / "net", nn.Linear(3, 2, bias=False).half()
    path.write_bytes(by_hand(head, body=body))
    before = layer.weight.detach().clone()
    for read in (lambda: load_compressed(path, layer), lambda: read_compressed(path)):
        with pytest.raises(
            DamagedFileError,
            match=r"'weight': a value is no finite number as torch\.float16",
        ):
            read()
    assert torch.equal(layer.weight, before)
    path.write_bytes(by_hand(entry()[:7] + b"\x02" + entry()[8:]))
    load_compressed(path, layer)
    assert layer.weight.tolist() == [[0, 1.5, 0], [0, -2, 1.5]]


def test_nothing_is_loaded_when_the_last_tensor_is_bad(saved):
    """The parts of the first tensors are sound."""
    network, path = saved
    content = bytearray(path.read_bytes())
    start = content.index(b"layers.2.weight") + len("layers.2.weight") + 3 + 2
    content[start + 2] = 8  # the width of its gaps
    path.write_bytes(seal(bytes(content[:-4])))
    for tensor in network.state_dict().values():
        tensor.fill_(3)
    with pytest.raises(DamagedFileError, match=r"'layers\.2\.weight'"):
        load_compressed(path, network)
    assert all((tensor == 3).all() for tensor in network.state_dict().values())


def test_damage_with_a_correct_checksum_is_refused_or_read_and_nothing_else(saved):
    """Every byte changed, the checksum made right again: numbers may differ then, but
    no other error occurs."""
    network, path = saved
    content, outcomes = path.read_bytes()[:-4], Counter()
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    with few_bytes(4e6):
        for place, flip in itertools.product(range(8, len(content)), (1, 0xC0)):
            path.write_bytes(
                seal(
                    content[:place]
                    + bytes([content[place] ^ flip])
                    + content[place + 1 :]
                )
            )
            try:
                load_compressed(path, network)
                outcomes["read"] += 1
            except DamagedFileError as error:
                outcomes[type(error)] += 1
        assert {
            name: tensor.shape for name, tensor in network.state_dict().items()
        } == wanted
    assert outcomes["read"] > 100 and outcomes[DamagedFileError] > 100


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_random_changes_with_a_correct_checksum(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("compression")
    network = Weights(sparse(9, 9), sparse(2, 2, 3, 3))
    save_compressed(network, folder / "net", bits=data.draw(st.integers(1, 4)))
    content = bytearray((folder / "net").read_bytes()[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(8, len(content)))
        end = data.draw(st.integers(start, min(start + 5, len(content))))
        content[start:end] = data.draw(st.binary(max_size=6))
    (folder / "net").write_bytes(seal(bytes(content)))
    for read in (
        lambda: load_compressed(folder / "net", network),
        lambda: read_compressed(folder / "net"),
    ):
        try:
            read()
        except DamagedFileError as error:
            assert str(folder / "net") in str(error)
