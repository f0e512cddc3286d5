"""Jane Austen's six novels as pieces of text, for a network that says which piece comes
next. Met in lessons/13_transformers.

A *piece* is a word, a part of one, a sign or the end of a paragraph, with the space
before it: `" Elizabeth"`. Pieces were found by joining, again and again, the two
neighbours that most often stand side by side (byte-pair encoding, Sennrich et al.
2016).
The files of the novels and of the pieces lie in data/austen.
"""

import functools
import gzip
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from utils.arguments import whole
from utils.data import REPAIR, Split
from utils.files import data_folder, folder_named, read_verified

NOVELS = {
    "sense_and_sensibility": (
        "cdb0371d70ed589c7fb2f482a0bfeb288911881550ec9a0513dc9e88afbe9e31"
    ),
    "pride_and_prejudice": (
        "f31ee2dac61f53c713626b05a764ade187f8bcb7eab60d39a26d129e3eba9fd6"
    ),
    "mansfield_park": (
        "43bc5495a05dd60b115ce248faf44ed99eb748b132cd2cd6e3d1004de13fddb0"
    ),
    "emma": "8f149a577f49dd04a2b1527897f6d75c0a1fffb9bf9abddcd93052bb7353589e",
    "persuasion": "0ca20e9e0d1401094fcff325d912eff02b6ae54774584ff9a19205882cde18a6",
    "northanger_abbey": (
        "9529a9fbe5de554eeb05a7e35c262a81d93f4dd0b644ccc5b1e061c2c3927762"
    ),
}
KEPT_OUT = "northanger_abbey"  # the network never sees a word of it
PIECES_SHA256 = "333108521ab0347caf5468d410d471d2b3c01d22a27f02da9b9bfea3d572006d"
CONTEXT = 256  # pieces in a window: the most that a network can look back on
EVERY, VALIDATION, TEST = 20, 7, 17  # of each twenty chapters, numbered from 0, which

HEADING = re.compile(r"^ *chapter +[0-9ivxlc]+\.? *$", re.MULTILINE | re.IGNORECASE)
NO_PROSE = re.compile(r"THE END|FINIS|VOLUME [IV]+", re.IGNORECASE)
MARKS = re.compile(r"[_*\[\]&\u00a3]")  # of the edition, and signs that occur once
# what no piece goes beyond: a word with the space before it, a number, signs, a line
WORD = re.compile(r" ?[A-Za-z]+| ?[0-9]+| ?[^A-Za-z0-9 \n]+|\n| ")


@dataclass(frozen=True)
class Windows(Split):
    """Windows of a text, in place of pictures, and at each place the next piece.

    images, labels: `[n, 256]` int64 each; a label is the piece that comes next.
    pieces: the text they were cut from, `[m]`.
    """

    pieces: Tensor

    @classmethod
    def of(cls, pieces: Tensor, context: int = CONTEXT) -> "Windows":
        """The windows of a text, side by side; what is left over at its end is left
        out.

        Raises:
            ValueError: a text shorter than a window and the piece after it.

        >>> Windows.of(torch.arange(10), context=4).images
        tensor([[0, 1, 2, 3],
                [4, 5, 6, 7]])
        """
        whole("context", context, low=1)
        if pieces.dim() != 1 or len(pieces) <= context:
            raise ValueError(
                f"pieces has the shape {list(pieces.shape)}; it must be [m], with more"
                f" than context={context} pieces."
            )
        return cls(
            pieces[:-1].unfold(0, context, context),
            pieces[1:].unfold(0, context, context),
            pieces,
        )

    def moved(
        self, index: Tensor, shift: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """These windows, each begun up to `shift` pieces later, drawn at random:
        `[k, context]` each, inputs and labels."""
        context = self.images.shape[1]
        late = torch.randint(0, shift + 1, (len(index),), generator=generator)
        first = (index * context + late).clamp(max=len(self.pieces) - context - 1)
        places = first[:, None] + torch.arange(context + 1)  # [k, context + 1]
        window = self.pieces[places]
        return window[:, :-1], window[:, 1:]


class Texts(NamedTuple):
    """Choose on `validation`; open `test` once, at the end. `kept_out` is a novel of
    which nothing is in `train`."""

    train: Windows
    validation: Windows
    test: Windows
    kept_out: Windows


def load(folder: Path | str | None = None) -> Texts:
    """The novels as windows of pieces: validation and test are whole chapters, of each
    twenty one; the second call in one process returns the same tensors.

    Args:
        folder: holds austen/; default `PRUNING_DATA` or the project's data/.
    Raises:
        DamagedFileError: a file is missing or damaged; names the file and the repair.
        ValueError: `folder` or `PRUNING_DATA` leads nowhere.
    """
    return _load(folder_named("folder", folder) if folder else data_folder())


@functools.lru_cache(maxsize=1)
def _load(folder: Path) -> Texts:
    books = {name: chapters(name, folder) for name in NOVELS}
    kept_out = books.pop(KEPT_OUT)
    vocabulary, parts = _vocabulary(folder), split(books)
    return Texts(
        *(Windows.of(vocabulary.encode("".join(each))) for each in (*parts, kept_out))
    )


def split(books: Mapping[str, list[str]]) -> tuple[list[str], list[str], list[str]]:
    """The chapters of the novels that train, validate and test."""
    train, validation, test = [], [], []
    every = (chapter for book in books.values() for chapter in book)
    for number, chapter in enumerate(every):
        part = {VALIDATION: validation, TEST: test}.get(number % EVERY, train)
        part.append(chapter)
    return train, validation, test


def chapters(novel: str, folder: Path | None = None) -> list[str]:
    """The chapters of a novel, without their headings: a paragraph a line.

    Raises:
        DamagedFileError: its file is missing or damaged.
    """
    path = (folder or data_folder()) / "austen" / f"{novel}.txt.gz"
    text = gzip.decompress(read_verified(path, NOVELS[novel], REPAIR)).decode()
    return [_paragraphs(part) for part in HEADING.split(text)[1:]]


def _paragraphs(chapter: str) -> str:
    parts = re.split(r"\n\s*\n", MARKS.sub("", chapter))
    lines = (" ".join(part.split()) for part in parts)
    return "".join(
        f"{line}\n" for line in lines if line and not NO_PROSE.fullmatch(line)
    )


# ------------------------------------------------------------------------------- pieces


def learn_pieces(text: str, count: int) -> list[str]:
    """The signs of a text, and then the pieces that joining brings in, up to `count` of
    them: each time the two neighbours are joined that most often stand side by side
    within a word. Built in lessons/13_transformers (`most_frequent_pair`).

    >>> learn_pieces("so so some", 8)[-3:]
    ['so', ' so', 'me']
    """
    often = Counter(WORD.findall(text))
    words, counts = [list(word) for word in often], list(often.values())
    pieces = sorted(set(text))
    pairs, where = (
        Counter[tuple[str, str]](),
        defaultdict[tuple[str, str], set[int]](set),
    )

    def count_pairs(number: int, sign: int) -> None:
        for pair in pairwise(words[number]):
            pairs[pair] += sign * counts[number]
            where[pair].add(number)

    for number in range(len(words)):
        count_pairs(number, 1)
    while len(pieces) < count:
        best = max(pairs, key=lambda pair: (pairs[pair], pair), default=None)
        if best is None or not pairs[best]:
            break
        if "".join(best) not in pieces:  # else it was joined from other parts before
            pieces.append("".join(best))
        for number in where.pop(best):
            count_pairs(number, -1)
            words[number] = joined(words[number], best)
            count_pairs(number, 1)
    return pieces


def joined(word: list[str], pair: tuple[str, str]) -> list[str]:
    """The word with these two neighbours joined wherever they stand.

    >>> joined(["l", "e", "t", "t", "e", "r"], ("t", "t"))
    ['l', 'e', 'tt', 'e', 'r']
    """
    result: list[str] = []
    parts = iter(range(len(word)))
    for place in parts:
        both = tuple(word[place : place + 2]) == pair
        result.append("".join(pair) if both else word[place])
        if both:
            next(parts)
    return result


class Vocabulary:
    """From text to the numbers of its pieces, and back."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self.pieces = list(pieces)
        self.number = {piece: number for number, piece in enumerate(self.pieces)}
        self.known: dict[str, list[int]] = {}  # words met so far

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> Tensor:
        """`[m]` int64.

        Raises:
            ValueError: a sign that is in none of the novels; names it.
        """
        strange = set(text) - self.number.keys()
        if strange:
            raise ValueError(
                f"text has {', '.join(map(repr, sorted(strange)))}, which the novels do"
                " not have; the network knows no piece for it."
            )
        numbers = [n for word in WORD.findall(text) for n in self._word(word)]
        return torch.tensor(numbers, dtype=torch.int64)

    def decode(self, pieces: Iterable[int] | Tensor) -> str:
        """The text of these numbers."""
        numbers = pieces.tolist() if isinstance(pieces, Tensor) else pieces
        return "".join(self.pieces[number] for number in numbers)

    def characters(self, pieces: Tensor) -> int:
        """How many characters they are."""
        lengths = torch.tensor([len(piece) for piece in self.pieces])
        return int(lengths[pieces].sum())

    def _word(self, word: str) -> list[int]:
        """The pieces of a word: of its neighbours those are joined first whose joining
        was learned first."""
        if word not in self.known:
            parts = list(word)
            while len(parts) > 1:
                pairs = {a + b: (a, b) for a, b in pairwise(parts)}
                first = min(pairs, key=lambda pair: self.number.get(pair, math.inf))
                if first not in self.number:
                    break
                parts = joined(parts, pairs[first])
            self.known[word] = [self.number[part] for part in parts]
        return self.known[word]


def vocabulary() -> Vocabulary:
    """The 1,024 pieces of the course, learned from the training chapters.

    Raises:
        DamagedFileError: their file is missing or damaged.

    >>> words = vocabulary()
    >>> [words.decode([number]) for number in words.encode("Mr. Darcy was unsociable")]
    ['Mr', '.', ' Darcy', ' was', ' un', 's', 'o', 'ci', 'able']
    """
    return _vocabulary(data_folder())


@functools.lru_cache(maxsize=1)
def _vocabulary(folder: Path) -> Vocabulary:
    path = folder / "austen" / "pieces.json"
    pieces = json.loads(read_verified(path, PIECES_SHA256, REPAIR))
    return Vocabulary(pieces)


def bits_per_character(loss: float, windows: Windows) -> float:
    """From nats a piece to bits a character of these windows, which another vocabulary
    can be compared by."""
    labels = windows.labels
    characters = vocabulary().characters(labels)
    return loss * labels.numel() / characters / math.log(2)
