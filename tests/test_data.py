"""Fashion-MNIST: the right pictures, from any folder, and a clear word when a file is
broken."""

import gzip
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.strategies import NO_FILES
from utils import data, files
from utils.data import BLACK, CLASSES, MEAN, PUBLISHED, STD, load
from utils.files import DamagedFileError
from utils.torchvision_repair import import_torchvision

RAW = files.data_folder() / "FashionMNIST" / "raw"


def published(name: str, header: int) -> np.ndarray:
    """The file's numbers, read without torchvision: a header and then one byte each."""
    return np.frombuffer(
        gzip.decompress((RAW / name).read_bytes()), np.uint8, offset=header
    )


def tree(folder):
    return {
        path.relative_to(folder): path.lstat().st_mtime_ns for path in folder.rglob("*")
    }


@pytest.fixture
def linked(tmp_path):
    """A data folder of our own, of links to the real files; replace one to damage
    it."""
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in PUBLISHED:
        (raw / name).symlink_to(RAW / name)
    return tmp_path / "data"


@pytest.fixture
def forgotten():
    """Nothing is remembered from earlier loads, nor afterwards."""
    data.forget()
    yield
    data.forget()


def same(a, b) -> bool:
    return all(
        torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels)
        for x, y in zip(a, b, strict=True)
    )


# ------------------------------------------------------------------------ what is in it


def test_sizes_shapes_and_types(course_data):
    assert [len(split) for split in course_data] == [55_000, 5_000, 10_000]
    for split in course_data:
        assert split.images.shape == (len(split), 1, 28, 28)
        assert (split.images.dtype, split.labels.dtype) == (torch.float32, torch.int64)


def test_every_part_has_equally_many_of_each_class(course_data):
    for split in course_data:
        assert split.labels.bincount(minlength=10).tolist() == [len(split) // 10] * 10


def test_test_pictures_are_the_published_ones(course_data):
    labels = published("t10k-labels-idx1-ubyte.gz", 8)
    pixels = published("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    assert np.array_equal(course_data.test.labels.numpy(), labels)
    assert torch.equal(
        (course_data.test.images * STD + MEAN).mul(255).round().byte(),
        torch.from_numpy(pixels.copy()),
    )


def test_train_and_validation_share_the_published_pictures_and_none_is_lost(
    course_data,
):
    labels = published("train-labels-idx1-ubyte.gz", 8)
    pixels = published("train-images-idx3-ubyte.gz", 16).reshape(-1, 28 * 28)
    last = np.stack(
        [np.flatnonzero(labels == label)[-500:] for label in range(10)], axis=1
    ).ravel()
    for split, chosen in (
        (course_data.validation, last),
        (course_data.train, np.delete(np.arange(60_000), last)),
    ):
        assert np.array_equal(split.labels.numpy(), labels[chosen])
        sums = (
            ((split.images.double() * STD + MEAN) * 255).sum((1, 2, 3)).round().long()
        )
        assert np.array_equal(sums.numpy(), pixels[chosen].sum(1))


def test_pixels_have_mean_0_and_deviation_1_over_the_training_files(course_data):
    pixels = torch.cat(
        [course_data.train.images.flatten(), course_data.validation.images.flatten()]
    )
    assert abs(pixels.mean().item()) < 2e-3
    assert abs(pixels.std().item() - 1) < 2e-3


def test_normalise_keeps_its_input_and_maps_black_to_black():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1)
    normal = data.normalise(pixels)
    assert pixels.flatten().tolist() == [0, 255]
    assert normal.flatten().tolist() == pytest.approx([BLACK, (1 - MEAN) / STD])


def test_ten_classes():
    assert len(CLASSES) == len(set(CLASSES)) == 10


def test_validation_takes_the_last_500_of_each_class_in_turn():
    labels = torch.arange(10).repeat_interleave(600)[
        torch.randperm(6000, generator=torch.Generator().manual_seed(0))
    ]
    chosen = data.validation_positions(labels)
    for label in range(10):
        places = (labels == label).nonzero().flatten()
        assert set(chosen[labels[chosen] == label].tolist()) == set(
            places[-500:].tolist()
        )
    assert labels[chosen].tolist() == list(range(10)) * 500


def test_any_prefix_of_the_validation_set_is_balanced(course_data):
    assert course_data.validation[:2000].labels.bincount().tolist() == [200] * 10


def test_a_split_is_indexed_by_slices_masks_and_positions(tiny):
    assert len(tiny[:7]) == 7
    assert torch.equal(tiny[torch.tensor([3, 1])].images, tiny.images[[3, 1]])
    assert len(tiny[tiny.labels == 3]) == int((tiny.labels == 3).sum())


def test_a_second_call_returns_the_same_tensors(course_data):
    assert load().train.images.data_ptr() == load().train.images.data_ptr()


def test_torchvision_reads_the_same_pictures(course_data, tmp_path):
    """An independent reader of the same four files."""
    import_torchvision()
    from torchvision.datasets import FashionMNIST

    shutil.copytree(RAW, tmp_path / "FashionMNIST" / "raw")
    test = FashionMNIST(tmp_path, train=False, download=True)  # nothing to fetch
    assert torch.equal(data.normalise(test.data), course_data.test.images)
    assert torch.equal(test.targets, course_data.test.labels)


# ------------------------------------------------------------------------ where it lies


def test_a_read_only_folder_of_another_name_is_read_and_nothing_written(
    course_data, linked, forgotten, monkeypatch, capfd
):
    before = tree(linked)
    for folder in (linked / "FashionMNIST" / "raw", linked / "FashionMNIST", linked):
        folder.chmod(0o555)
    monkeypatch.setenv("PRUNING_DATA", str(linked))
    assert same(load(), course_data)
    assert tree(linked) == before
    assert capfd.readouterr() == ("", "")


def test_pruning_data_and_folder_name_the_place(tmp_path, forgotten, monkeypatch):
    monkeypatch.setenv("PRUNING_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DamagedFileError, match=r"elsewhere.*is missing"):
        load()
    with pytest.raises(DamagedFileError, match=r"third.*is missing"):
        load(tmp_path / "third")
    monkeypatch.delenv("PRUNING_DATA")
    assert files.data_folder() == RAW.parents[1]


def test_home_is_understood_in_pruning_data(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PRUNING_DATA", "~/course")
    assert files.data_folder() == (tmp_path / "course").resolve()


def test_a_relative_folder_is_looked_up_where_one_is_now(
    tmp_path, monkeypatch, forgotten
):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        with pytest.raises(DamagedFileError, match=rf"{name}/data/.*is missing"):
            load("data")


@pytest.mark.parametrize("wrong", ["~nosuch/x", "circle", "zero\0byte"])
def test_a_folder_that_leads_nowhere_is_said(tmp_path, monkeypatch, forgotten, wrong):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    if wrong == "circle":
        wrong = str(tmp_path / wrong)
    with pytest.raises(ValueError, match=r"folder='.*leads nowhere"):
        load(wrong)
    if "\0" not in wrong:
        monkeypatch.setenv("PRUNING_DATA", wrong)
        with pytest.raises(ValueError, match=r"PRUNING_DATA='.*leads nowhere"):
            load()


# ------------------------------------------------------------- one copy for all of them


def test_the_shared_file_gives_the_same_pictures_and_is_read_instead(
    course_data, linked, forgotten, monkeypatch
):
    monkeypatch.setenv("PRUNING_DATA", str(linked))
    path = data.lay_shared()
    assert files.sha256(path) == data.SHARED_SHA256
    assert path.stat().st_mode & 0o777 == 0o644
    shutil.rmtree(linked / "FashionMNIST")  # it stands alone
    assert same(load(), course_data)
    load().train.images[0] += 1  # a copy of this process's own
    load().train.labels[0] = 3
    assert files.sha256(path) == data.SHARED_SHA256
    written = path.stat().st_mtime_ns
    assert data.lay_shared() == path and path.stat().st_mtime_ns == written


def test_a_damaged_shared_file_is_passed_over_and_mended(
    course_data, linked, forgotten
):
    path = data.lay_shared(linked)
    path.write_bytes(flip_a_bit(path.read_bytes()))
    assert same(load(linked), course_data)
    data.lay_shared(linked)
    assert files.sha256(path) == data.SHARED_SHA256


HOW_MUCH = """
import psutil
from utils import data
own = lambda: psutil.Process().memory_full_info().uss
before, parts = own(), data.load()
total = sum(float(part.images.sum()) for part in parts)
mapped = sum("fashion_mnist" in each.path for each in psutil.Process().memory_maps())
print(own() - before, mapped)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_who_loads_the_shared_file_maps_it(linked):
    """Where one process alone has it mapped, its pages still count as its own: two."""
    data.lay_shared(linked)
    with subprocess.Popen(
        [sys.executable, "-c", HOW_MUCH + "input()"],
        env=os.environ | {"PRUNING_DATA": str(linked)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin and other.stdout and other.stdout.readline().split()[1] > "0"
        own = subprocess.run(
            [sys.executable, "-c", HOW_MUCH],
            env=os.environ | {"PRUNING_DATA": str(linked)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        other.stdin.close()
    assert int(own[0]) < 20e6  # of 220


# ---------------------------------------------------------------------- what is damaged


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "flipped bit": flip_a_bit,
    "truncated": lambda content: content[:-1000],
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_damaged_file_is_named_with_its_repair(name, damage, linked, forgotten):
    path = linked / "FashionMNIST" / "raw" / name
    path.unlink()
    path.write_bytes(DAMAGES[damage]((RAW / name).read_bytes()))
    with pytest.raises(DamagedFileError, match=f"{name} is damaged") as caught:
        load(linked)
    assert "git checkout -- data" in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "circle", "long name"])
def test_what_is_no_file_is_refused_and_nobody_waits_for_it(linked, forgotten, kind):
    name = next(iter(PUBLISHED))
    path = linked / "FashionMNIST" / "raw" / name
    path.unlink()
    NO_FILES[kind](path)
    with pytest.raises(DamagedFileError, match=rf"{name} cannot be read.*git checkout"):
        load(linked)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_file_is_named_with_its_repair(name, linked, forgotten):
    (linked / "FashionMNIST" / "raw" / name).unlink()
    with pytest.raises(DamagedFileError, match=f"{name} is missing") as caught:
        load(linked)
    assert "git checkout -- data" in str(caught.value)
