"""Fashion-MNIST as tensors: 55,000 training, 5,000 validation and 10,000 test pictures of clothes.

Built in lessons/01_baseline. The four published files lie in data/FashionMNIST/raw; torchvision reads them.
"""

import functools
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import platformdirs
import torch
from torch import Tensor
from torchvision.datasets import FashionMNIST

from utils.files import DamagedFileError, data_folder, verify

CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MEAN, STD = 0.2860, 0.3530  # of the training pixels scaled to 0..1
BLACK = -MEAN / STD  # a black pixel after normalisation
VALIDATION_PER_CLASS = 500

PUBLISHED = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
REPAIR = (
    "`git checkout -- data` in the course folder, or copy the published file there (data/README.md says from where)."
)


@dataclass(frozen=True)
class Split:
    """Pictures and their classes.

    images: `[n, 1, 28, 28]` float32, normalised with MEAN and STD.  labels: `[n]` int64, 0..9 (see CLASSES).
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


def load(folder: Path | str | None = None) -> Data:
    """All of Fashion-MNIST in memory (220 MB), verified; the second call in one process returns the same tensors.

    Args:
        folder: holds FashionMNIST/raw/*.gz; default `PRUNING_DATA` or the project's data/. It may be read-only.
    Raises:
        DamagedFileError: a file is missing or damaged; names the file and the repair.
    """
    return _load(Path(folder) if folder else data_folder())


@functools.lru_cache(maxsize=1)
def _load(folder: Path) -> Data:
    raw = folder / "FashionMNIST" / "raw"
    for name, expected in PUBLISHED.items():
        verify(raw / name, expected, REPAIR)
    unpacked = _unpacked(raw)
    try:
        train, test = (FashionMNIST(unpacked, train=part) for part in (True, False))
    except Exception as error:  # torchvision raises RuntimeError, ValueError or AssertionError for a bad file
        raise DamagedFileError(f"The unpacked copy in {unpacked} cannot be read ({error}). Delete it.") from error
    is_validation = validation_mask(train.targets)
    everything = Split(normalise(train.data), train.targets)
    return Data(everything[~is_validation], everything[is_validation], Split(normalise(test.data), test.targets))


def normalise(pixels: Tensor) -> Tensor:
    """`[n, 28, 28]` uint8 -> `[n, 1, 28, 28]` float32 with mean 0 and standard deviation 1 over the training set."""
    return pixels.unsqueeze(1).float().div_(255).sub_(MEAN).div_(STD)


def validation_mask(labels: Tensor) -> Tensor:
    """`[n]` bool: True for the last 500 pictures of each class. Fixed, so that everyone validates on the same 5,000."""
    chosen = torch.zeros_like(labels, dtype=torch.bool)
    for label in range(len(CLASSES)):
        chosen[(labels == label).nonzero().flatten()[-VALIDATION_PER_CLASS:]] = True
    return chosen


def _unpacked(raw: Path) -> Path:
    """A root that torchvision can read: the verified .gz files, unpacked once into the user's cache.

    Unpacking happens in a folder of this process's own, which is then renamed: two processes at once do not meet.
    """
    root = _cache_folder() / "fashion-mnist"
    if (root / "FashionMNIST").is_dir():
        return root
    with tempfile.TemporaryDirectory(dir=root.parent, ignore_cleanup_errors=True) as scratch:
        own = Path(scratch) / "root"
        (own / "FashionMNIST" / "raw").mkdir(parents=True)
        for name in PUBLISHED:
            shutil.copyfile(raw / name, own / "FashionMNIST" / "raw" / name)
        FashionMNIST(own, download=True)  # downloads nothing: finds the files, checks their MD5, unpacks
        for name in PUBLISHED:
            (own / "FashionMNIST" / "raw" / name).unlink()
        try:
            own.rename(root)
        except OSError:  # another process was faster
            if not (root / "FashionMNIST").is_dir():
                raise
    return root


def _cache_folder() -> Path:
    """A folder this user may write to: `PRUNING_CACHE`, the user's cache folder, or the temporary folder."""
    wanted = os.environ.get("PRUNING_CACHE") or platformdirs.user_cache_path("pruning-course")
    folder = Path(wanted).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"pruning-course-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        folder.mkdir(parents=True, exist_ok=True)
    return folder
