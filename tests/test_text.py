"""The novels: their pieces and windows, whose chapters are where, and damaged files."""

import json
import shutil
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils import text
from utils.files import DamagedFileError, data_folder
from utils.text import Vocabulary, Windows, joined, learn_pieces

LETTERS = "ab c\nD.'"


@pytest.fixture(scope="module")
def texts():
    return text.load()


@pytest.fixture(scope="module")
def words():
    return text.vocabulary()


def test_the_pieces_are_those_learned_from_the_training_chapters(words):
    books = {name: text.chapters(name) for name in text.NOVELS}
    books.pop(text.KEPT_OUT)
    train, _, _ = text.split(books)
    assert learn_pieces("".join(train), 1024) == words.pieces
    assert len(set(words.pieces)) == 1024


def test_parts_share_no_chapter_and_nothing_is_lost(texts, words):
    books = {name: text.chapters(name) for name in text.NOVELS}
    assert [len(each) for each in books.values()] == [50, 61, 48, 55, 24, 31]
    kept_out = books.pop(text.KEPT_OUT)
    parts = text.split(books)
    assert sum(len(part) for part in parts) == sum(len(b) for b in books.values())
    for part, windows in zip((*parts, kept_out), texts, strict=True):
        assert words.decode(windows.pieces) == "".join(part)


def test_each_label_is_the_piece_that_comes_next(texts):
    for windows in texts:
        assert windows.images.shape == windows.labels.shape
        assert windows.images.shape[1] == text.CONTEXT
        assert torch.equal(windows.images[:, 1:], windows.labels[:, :-1])
        assert torch.equal(windows.labels[:-1, -1], windows.images[1:, 0])


def test_moved_windows_are_parts_of_the_text_that_begin_up_to_so_much_later():
    windows = Windows.of(torch.arange(100), context=8)
    generator = torch.Generator().manual_seed(0)
    late = set()
    for _ in range(50):
        images, labels = windows.moved(torch.tensor([2, 0]), 5, generator)
        assert torch.equal(labels, images + 1)
        assert torch.equal(images - images[:, :1], torch.arange(8).expand(2, 8))
        late |= set((images[:, 0] - torch.tensor([16, 0])).tolist())
    assert late == set(range(6))
    # the last one cannot begin so late that the text would end within it
    images, labels = windows.moved(torch.tensor([11] * 200), 7, generator)
    assert labels.max() == 99 and images[:, 0].max() == 91


@given(st.text(LETTERS, min_size=1, max_size=60), st.integers(1, 40))
def test_what_is_encoded_is_decoded_whatever_pieces_there_are(sentence, count):
    pieces = learn_pieces(sentence, count)
    assert len(set(pieces)) == len(pieces) <= max(count, len(set(sentence)))
    vocabulary = Vocabulary(pieces)
    numbers = vocabulary.encode(sentence)
    assert vocabulary.decode(numbers) == sentence
    assert vocabulary.characters(numbers) == len(sentence)


@given(st.lists(st.sampled_from("ab"), max_size=12))
def test_joining_leaves_the_text_and_no_such_pair(word):
    result = joined(word, ("a", "b"))
    assert "".join(result) == "".join(word)
    assert ("a", "b") not in set(pairwise(result))


def test_the_most_frequent_neighbours_are_joined_first():
    # "ab" four times, "bc" three times: then "abc" has no "bc" left
    assert learn_pieces("abc abc abc ab", 5)[4:] == ["ab"]
    assert learn_pieces("abc abc abc ab", 6)[5] in ("abc", " ab")


def test_a_sign_that_the_novels_lack_is_named(words):
    with pytest.raises(ValueError, match=r"text has '@', 'é', which"):
        words.encode("caf\u00e9 @")


def test_a_text_shorter_than_a_window_is_refused():
    with pytest.raises(ValueError, match=r"pieces has the shape \[8\].*context=8"):
        Windows.of(torch.arange(8), context=8)


def test_bits_a_character_are_those_of_the_whole_text(texts, words):
    """A network that knows nothing needs log2(1024) = 10 bits a piece."""
    nothing = torch.tensor(1024.0).log().item()
    labels = texts.validation.labels
    expected = 10 * labels.numel() / words.characters(labels)
    found = text.bits_per_character(nothing, texts.validation)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", ["emma.txt.gz", "pieces.json"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_file_is_named_with_its_repair(tmp_path, name, damage):
    shutil.copytree(data_folder() / "austen", tmp_path / "austen")
    path = tmp_path / "austen" / name
    path.chmod(0o644)
    content = path.read_bytes()
    path.unlink()
    if damage == "flipped":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(DamagedFileError, match=rf"{name}.*git checkout"):
        text.load(tmp_path)


def test_the_file_of_pieces_holds_strings(words):
    path = data_folder() / "austen" / "pieces.json"
    assert json.loads(path.read_text()) == words.pieces
