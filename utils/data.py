"""Fashion-MNIST as tensors: 55,000 training, 5,000 validation and 10,000 test pictures
of clothes.

Built in lessons/01_baseline. The four published files lie in data/FashionMNIST/raw.
"""

import functools
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from utils.files import (
    data_folder,
    folder_named,
    read_verified,
    sha256,
    write_atomically,
)

CLASSES = (
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
MEAN, STD = 0.2860, 0.3530  # of the training pixels scaled to 0..1
BLACK = -MEAN / STD  # a black pixel after normalisation
VALIDATION_PER_CLASS = 500

PUBLISHED = {
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
    ),
}
SHARED = Path("shared", "fashion_mnist.safetensors")  # in the data folder
SHARED_SHA256 = "e11168ace39b65b84e05d9d2e832115a92c67455cb133939ba7be8e1470f3045"
REPAIR = (
    "`git checkout -- data` in the course folder, or copy the published file there"
    " (data/README.md says from where)."
)


@dataclass(frozen=True)
class Split:
    """Pictures and their classes.

    images: `[n, 1, 28, 28]` float32, normalised with MEAN and STD.  labels: `[n]`
        int64, 0..9 (see CLASSES). `text.Windows` has windows of text in their place.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> "Split":
        return Split(self.images[index], self.labels[index])


class Data(NamedTuple):
    """The three parts. Choose on `validation`; open `test` once, at the end."""

    train: Split
    validation: Split
    test: Split


# pictures [n, 1, 28, 28] and their labels [n]
Batches = Sequence[tuple[Tensor, Tensor]]


def load(folder: Path | str | None = None) -> Data:
    """All of Fashion-MNIST in memory (220 MB), verified; the second call in one process
    returns the same tensors. All processes have one copy together where the folder
    holds the file that `lay_shared` writes.

    Args:
        folder: holds FashionMNIST/raw/*.gz; default `PRUNING_DATA` or the project's
            data/. It may be read-only.
    Raises:
        DamagedFileError: a file is missing or damaged; names the file and the repair.
        ValueError: `folder` or `PRUNING_DATA` leads nowhere.
    """
    return _load(folder_named("folder", folder) if folder else data_folder())


def forget() -> None:
    """Free the pictures that `load` remembers; the next call reads them anew."""
    _load.cache_clear()


def lay_shared(folder: Path | str | None = None) -> Path:
    """Write the pictures as `load` gives them, 220 MB, where `load` finds them. It maps
    that file instead of unpacking the published ones: what many learners of one machine
    load lies in its memory once. Who writes to a picture gets a copy of their own.

    Raises:
        OSError: the file cannot be written; says what to do.
        DamagedFileError, ValueError: as `load`.
    """
    folder = folder_named("folder", folder) if folder else data_folder()
    path = folder / SHARED
    if not _is_shared(path):
        parts = _published(folder)
        tensors = {
            f"{part}.{name}": getattr(split, name)
            for part, split in parts._asdict().items()
            for name in ("images", "labels")
        }
        write_atomically(path, safetensors.torch.save(tensors))
        path.parent.chmod(0o755)
        path.chmod(0o644)
    return path


def _is_shared(path: Path) -> bool:
    try:
        return sha256(path) == SHARED_SHA256
    except OSError:
        return False


@functools.lru_cache(maxsize=1)
def _load(folder: Path) -> Data:
    if not _is_shared(folder / SHARED):
        return _published(folder)
    tensors = safetensors.torch.load_file(folder / SHARED)
    return Data(
        *(
            Split(tensors[f"{part}.images"], tensors[f"{part}.labels"])
            for part in Data._fields
        )
    )


def _published(folder: Path) -> Data:
    raw = folder / "FashionMNIST" / "raw"
    packed = {
        name: read_verified(raw / name, expected, REPAIR)
        for name, expected in PUBLISHED.items()
    }
    train = Split(*_unpack(packed, "train"))
    chosen = validation_positions(train.labels)
    rest = torch.ones(len(train), dtype=torch.bool).index_fill(0, chosen, False)
    return Data(train[rest], train[chosen], Split(*_unpack(packed, "t10k")))


def _unpack(packed: dict[str, bytes], part: str) -> tuple[Tensor, Tensor]:
    """Normalised pictures and labels of a part, from its verified idx files: a header,
    then one byte a pixel or label."""
    pixels, labels = (
        np.frombuffer(gzip.decompress(packed[name]), np.uint8, offset=skip)
        for name, skip in (
            (f"{part}-images-idx3-ubyte.gz", 16),
            (f"{part}-labels-idx1-ubyte.gz", 8),
        )
    )
    images = torch.from_numpy(pixels.reshape(-1, 28, 28).copy())  # [n, 28, 28]
    return normalise(images), torch.from_numpy(labels.astype(np.int64))


def normalise(pixels: Tensor) -> Tensor:
    """`[n, 28, 28]` uint8 -> `[n, 1, 28, 28]` float32 with mean 0 and standard
    deviation 1 over the training set.

    >>> normalise(torch.zeros(5, 28, 28, dtype=torch.uint8)).shape
    torch.Size([5, 1, 28, 28])
    """
    return pixels.unsqueeze(1).float().div_(255).sub_(MEAN).div_(STD)


def validation_positions(labels: Tensor) -> Tensor:
    """Which pictures validate: the last 500 of each class, `[5000]`. Fixed, so that
    everyone validates on the same.

    The classes take turns, so that the first n pictures are as balanced as all of them.
    """
    last = [
        (labels == label).nonzero().flatten()[-VALIDATION_PER_CLASS:]
        for label in range(len(CLASSES))
    ]
    return torch.stack(last, dim=1).flatten()


def sample_batches(
    train: Split, count: int, batch_size: int = 256, seed: int = 0
) -> list[tuple[Tensor, Tensor]]:
    """`count` batches of different pictures drawn at random from the training set.

    Raises:
        ValueError: the training set holds fewer than `count * batch_size` pictures.

    >>> train = Split(torch.randn(100, 1, 28, 28), torch.randint(10, (100,)))
    >>> [list(images.shape) for images, _ in sample_batches(train, 2, batch_size=32)]
    [[32, 1, 28, 28], [32, 1, 28, 28]]
    """
    if min(count, batch_size) < 1 or not count * batch_size <= len(train):
        raise ValueError(
            f"count={count} batches of batch_size={batch_size} need"
            f" {count * batch_size:,} pictures; give between 1 and {len(train):,}."
        )
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[
        : count * batch_size
    ]
    return [
        (train.images[index], train.labels[index]) for index in order.split(batch_size)
    ]


def noisy_labels(labels: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """New labels `[n]`: exactly `round(fraction * n)` of them, drawn at random, are
    another class, each other one as likely."""
    count = round(fraction * len(labels))
    chosen = torch.randperm(len(labels), generator=generator)[:count]
    result = labels.clone()
    result[chosen] = (
        labels[chosen] + torch.randint(1, len(CLASSES), (count,), generator=generator)
    ) % len(CLASSES)
    return result
