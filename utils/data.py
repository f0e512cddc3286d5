"""Fashion-MNIST as tensors: 55,000 training, 5,000 validation and 10,000 test pictures
of clothes.

Built in lessons/01_baseline. The four published files lie in data/FashionMNIST/raw;
torchvision reads them.
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

from utils.files import data_folder, sha256, verify

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
UNPACKED = {
    "train-images-idx3-ubyte": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "t10k-labels-idx1-ubyte": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}
REPAIR = (
    "`git checkout -- data` in the course folder, or copy the published file there"
    " (data/README.md says from where)."
)


@dataclass(frozen=True)
class Split:
    """Pictures and their classes.

    images: `[n, 1, 28, 28]` float32, normalised with MEAN and STD.  labels: `[n]`
        int64, 0..9 (see CLASSES).
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
    """All of Fashion-MNIST in memory (220 MB), verified; the second call in one process
    returns the same tensors.

    Args:
        folder: holds FashionMNIST/raw/*.gz; default `PRUNING_DATA` or the project's
            data/. It may be read-only.
    Raises:
        DamagedFileError: a file is missing or damaged; names the file and the repair.
    """
    return _load(Path(folder).expanduser().resolve() if folder else data_folder())


@functools.lru_cache(maxsize=1)
def _load(folder: Path) -> Data:
    raw = folder / "FashionMNIST" / "raw"
    for name, expected in PUBLISHED.items():
        verify(raw / name, expected, REPAIR)
    unpacked = _unpacked(raw)
    train, test = (FashionMNIST(unpacked, train=part) for part in (True, False))
    chosen = validation_positions(train.targets)
    rest = torch.ones(len(train.targets), dtype=torch.bool).index_fill(0, chosen, False)
    everything = Split(normalise(train.data), train.targets)
    return Data(
        everything[rest], everything[chosen], Split(normalise(test.data), test.targets)
    )


def normalise(pixels: Tensor) -> Tensor:
    """`[n, 28, 28]` uint8 -> `[n, 1, 28, 28]` float32 with mean 0 and standard
    deviation 1 over the training set."""
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


def _unpacked(raw: Path) -> Path:
    """A root that torchvision can read: the verified .gz files, unpacked once into the
    user's cache.

    Unpacking happens in a folder of this process's own, which is then renamed: two
    processes at once do not meet.
    """
    root = _cache_folder() / "fashion-mnist"
    if _is_whole(root):
        return root
    with tempfile.TemporaryDirectory(
        dir=root.parent, ignore_cleanup_errors=True
    ) as scratch:
        own = Path(scratch) / "root"
        (own / "FashionMNIST" / "raw").mkdir(parents=True)
        for name in PUBLISHED:
            shutil.copyfile(raw / name, own / "FashionMNIST" / "raw" / name)
        # downloads nothing: finds the files, checks their MD5, unpacks
        FashionMNIST(own, download=True)
        for name in PUBLISHED:
            (own / "FashionMNIST" / "raw" / name).unlink()
        if not _is_whole(root):  # else another process was faster
            shutil.rmtree(root, ignore_errors=True)  # a damaged copy
            try:
                own.rename(root)
            except OSError:
                if not _is_whole(root):
                    raise
    return root


def _is_whole(root: Path) -> bool:
    raw = root / "FashionMNIST" / "raw"
    return all(
        (raw / name).is_file() and sha256(raw / name) == expected
        for name, expected in UNPACKED.items()
    )


def _cache_folder() -> Path:
    """A folder this user may write to: `PRUNING_CACHE`, the user's cache folder, or the
    temporary folder."""
    wanted = os.environ.get("PRUNING_CACHE") or platformdirs.user_cache_path(
        "pruning-course"
    )
    folder = Path(wanted).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        folder = (
            Path(tempfile.gettempdir())
            / f"pruning-course-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        )
        folder.mkdir(parents=True, exist_ok=True)
    return folder
