"""Fashion-MNIST: the right pictures, from any folder, and a clear word when a file is
broken."""

import gzip
import shutil

import numpy as np
import pytest
import torch

from utils import data, files
from utils.data import BLACK, CLASSES, MEAN, PUBLISHED, STD, load
from utils.files import DamagedFileError

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
def own_cache(course_data, tmp_path, monkeypatch):
    """An empty cache folder, and nothing remembered from earlier loads."""
    monkeypatch.setenv("PRUNING_CACHE", str(tmp_path / "cache"))
    data._load.cache_clear()
    yield tmp_path / "cache"
    data._load.cache_clear()


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


def test_a_second_call_returns_the_same_tensors(course_data, own_cache):
    assert load().train.images.data_ptr() == load().train.images.data_ptr()


# ------------------------------------------------------------------------ where it lies


def test_a_read_only_folder_of_another_name_is_read_and_nothing_written(
    course_data, linked, own_cache, monkeypatch, capfd
):
    before = tree(linked)
    for folder in (linked / "FashionMNIST" / "raw", linked / "FashionMNIST", linked):
        folder.chmod(0o555)
    monkeypatch.setenv("PRUNING_DATA", str(linked))
    assert same(load(), course_data)
    assert tree(linked) == before
    assert capfd.readouterr() == ("", "")
    # and no scratch left behind
    assert [path.name for path in own_cache.iterdir()] == ["fashion-mnist"]

    # The second process finds it unpacked.
    data._load.cache_clear()
    monkeypatch.setattr(shutil, "copyfile", lambda *_: pytest.fail("unpacked again"))
    monkeypatch.setattr(gzip, "open", lambda *_: pytest.fail("unpacked again"))
    assert same(load(), course_data)


def test_pruning_data_and_folder_name_the_place(tmp_path, own_cache, monkeypatch):
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
    tmp_path, monkeypatch, own_cache
):
    read = []
    monkeypatch.setattr(data, "verify", lambda path, *_: read.append(path.resolve()))
    monkeypatch.setattr(data, "_unpacked", lambda raw: data._cache_folder())
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setattr(data, "FashionMNIST", lambda *_, **__: ten_pictures())
        load("data")
    assert {path.relative_to(tmp_path).parts[0] for path in read} == {"one", "two"}


def ten_pictures():
    class Ten:
        data = torch.zeros(6000, 1, 1, dtype=torch.uint8)
        targets = torch.arange(10).repeat(600)

    return Ten


def test_an_unwritable_cache_gives_way_to_the_temporary_folder(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("a file, so no folder can be made in it")
    monkeypatch.setenv("PRUNING_CACHE", str(blocked / "cache"))
    monkeypatch.setattr(
        data.tempfile, "gettempdir", lambda: str(tmp_path / "temporary")
    )
    assert data._cache_folder().parent == tmp_path / "temporary"
    assert data._cache_folder().is_dir()


def test_two_processes_loading_cold_at_once_both_succeed(start_python, tmp_path):
    code = """
from utils.data import load
print("ready", flush=True)
input()
print(*map(len, load()))
"""
    processes = [start_python(code, PRUNING_CACHE=str(tmp_path)) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=60) == ("55000 5000 10000\n", "")
        assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["fashion-mnist"]


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
def test_a_damaged_file_is_named_with_its_repair(name, damage, linked, own_cache):
    path = linked / "FashionMNIST" / "raw" / name
    path.unlink()
    path.write_bytes(DAMAGES[damage]((RAW / name).read_bytes()))
    with pytest.raises(DamagedFileError, match=f"{name} is damaged") as caught:
        load(linked)
    assert "git checkout -- data" in str(caught.value)
    assert not own_cache.exists()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_file_is_named_with_its_repair(name, linked, own_cache):
    (linked / "FashionMNIST" / "raw" / name).unlink()
    with pytest.raises(DamagedFileError, match=f"{name} is missing") as caught:
        load(linked)
    assert "git checkout -- data" in str(caught.value)


@pytest.fixture
def stale_cache(own_cache, course_data):
    """A cache of links to the one that `course_data` came from."""
    raw = own_cache / "fashion-mnist" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PRUNING_CACHE")
        real = data._cache_folder() / "fashion-mnist" / "FashionMNIST" / "raw"
    for path in real.iterdir():
        (raw / path.name).symlink_to(path)
    return raw


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_unpacked_copy_is_never_used(stale_cache, damage, course_data):
    path = stale_cache / "t10k-images-idx3-ubyte"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(DAMAGES[damage](content))
    assert same(load(), course_data)


def test_a_file_missing_from_the_unpacked_copy_is_unpacked_again(
    stale_cache, course_data
):
    (stale_cache / "train-labels-idx1-ubyte").unlink()
    assert same(load(), course_data)


# -------------------------------------------------------------------------------- files


def test_sha256_of_a_known_text(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert (
        files.sha256(path)
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    files.verify(path, files.sha256(path), "nothing to repair")


def test_an_unreadable_file_is_a_damaged_file(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "weights").touch()
    monkeypatch.setattr(files, "sha256", refuse)
    with pytest.raises(DamagedFileError, match=r"weights.*Repair: chmod"):
        files.verify(tmp_path / "weights", "0" * 64, "chmod a+r")


def test_write_atomically_writes_makes_folders_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    for content in (b"first", b"second"):
        files.write_atomically(path, content)
        assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("broken", ["fdopen", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()]
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, broken, error
):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_):
        raise error

    class FullDisk:
        def __init__(self, descriptor, mode):
            self.descriptor = descriptor

        def __enter__(self):
            return self

        def __exit__(self, *_):
            files.os.close(self.descriptor)

        def write(self, content):
            files.os.write(self.descriptor, content[:2])
            fail()

    if broken == "fdopen":
        monkeypatch.setattr(files.os, "fdopen", FullDisk)
    else:
        monkeypatch.setattr(files.Path, "replace", fail)
    with pytest.raises(type(error)):
        files.write_atomically(path, b"new content")
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"
