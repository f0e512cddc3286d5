"""Files: read with limits and at once refused when they are none, verified, sealed,
written whole or not at all, by one process at a time."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import NO_FILES
from utils import files
from utils.files import (
    DamagedFileError,
    MissingFileError,
    alone,
    open_regular,
    parse_json,
    put_aside,
    read_json,
    read_regular,
    read_sealed,
    read_verified,
    sealed,
    write_atomically,
)

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ROOT = Path(__file__).parents[1]


@pytest.fixture(params=NO_FILES)
def no_file(request, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    NO_FILES[request.param](Path("it"))
    return Path("it")


# -------------------------------------------------------------------------------- read


def test_the_bytes_of_a_file_up_to_a_limit(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert read_regular(path, "x") == read_regular(str(path), "x", 3) == b"abc"
    assert read_verified(path, ABC, "x") == b"abc" and files.sha256(path) == ABC
    with pytest.raises(
        DamagedFileError, match=r"abc is too large .*\(3 bytes; at most 2\).*: mend it"
    ):
        read_regular(path, "mend it", 2)
    path.write_bytes(b"abd")
    with pytest.raises(DamagedFileError, match=r"abc is damaged \(3 bytes.*mend it"):
        read_verified(path, ABC, "mend it")


def test_a_huge_file_costs_nothing(tmp_path):
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(60 * 10**9)  # a hole: takes no space
    with pytest.raises(DamagedFileError, match="60,000,000,000 bytes"):
        read_regular(tmp_path / "huge", "x")


def test_what_is_no_file_is_refused_in_a_sentence(no_file):
    for read in (read_regular, read_json, read_sealed):
        with pytest.raises(
            DamagedFileError, match=r"it cannot be read \(.+\).*mend it"
        ):
            read(no_file, "mend it")
    with pytest.raises(DamagedFileError, match="cannot be read"):
        read_verified(no_file, ABC, "mend it")
    for read in (open_regular, files.sha256):
        with pytest.raises(OSError, match="it"):
            read(no_file)


def test_a_missing_file_is_told_from_a_damaged_one(tmp_path):
    for missing in ("none", "no/folder", "dangling"):
        (tmp_path / "dangling").unlink(missing_ok=True)
        (tmp_path / "dangling").symlink_to("nowhere")
        with pytest.raises(MissingFileError, match=f"{missing} is missing.*mend it"):
            read_regular(tmp_path / missing, "mend it")
    with pytest.raises(DamagedFileError, match=r"cannot be read.*null byte"):
        read_regular("zero\0byte", "x")
    (tmp_path / "file").touch()
    with pytest.raises(DamagedFileError, match=r"cannot be read \(Not a directory"):
        read_regular(tmp_path / "file" / "in", "x")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_the_system_does_not_give_is_a_damaged_one(
    tmp_path, monkeypatch, number
):
    def refuse(path, _flags):
        raise OSError(number, os.strerror(number), str(path))

    (tmp_path / "it").touch()
    monkeypatch.setattr(files.os, "open", refuse)
    with pytest.raises(DamagedFileError, match=f"it cannot.*{os.strerror(number)}"):
        read_regular(tmp_path / "it", "x")


def test_a_file_that_grows_while_it_is_read_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "it"
    path.write_bytes(b"first")
    opened = files.open_regular

    def grow(path):
        file = opened(path)
        size = os.fstat(file.fileno())
        monkeypatch.setattr(files.os, "fstat", lambda _: size)
        path.write_bytes(b"first and more")
        return file

    monkeypatch.setattr(files, "open_regular", grow)
    with pytest.raises(DamagedFileError, match="it changes meanwhile"):
        read_regular(path, "x")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("levels", [51, 500, 100_000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_deep_json_is_refused(tmp_path, levels, pair):
    start = pair[0] if pair == "[]" else '{"a":'
    inner = "1" if pair == "{}" else ""
    text = start * levels + inner + pair[1] * levels
    with pytest.raises(ValueError, match="deeper than 50"):
        parse_json(text.encode())
    (tmp_path / "deep").write_text(text)
    with pytest.raises(DamagedFileError, match=r"deep is damaged \(.*deeper.*mend it"):
        read_json(tmp_path / "deep", "mend it")


def test_json_of_fifty_levels_is_read():
    assert json.dumps(parse_json(b"[" * 50 + b"]" * 50)) == "[" * 50 + "]" * 50


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\xff", b"1" * 5000, b"nul"])
def test_what_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "it").write_bytes(text)
    with pytest.raises(DamagedFileError, match=r"it is damaged.*mend it"):
        read_json(tmp_path / "it", "mend it")


# ------------------------------------------------------------------------------- sealed


@given(st.dictionaries(st.text().filter(lambda key: key != files.SEAL), VALUES))
@settings(max_examples=200, deadline=None)
def test_what_was_sealed_is_read_back(tmp_path_factory, facts):
    path = tmp_path_factory.mktemp("facts") / "facts.json"
    path.write_bytes(sealed("facts.json", facts))
    # by their text: NaN is not equal to itself
    assert json.dumps(read_sealed(path, "x")) == json.dumps(facts)


FACTS = {"runs": [{"seed": 1, "accuracy": 0.8946, "of": "ü"}, {"seed": 2}], "n": None}


def test_numbers_as_keys_are_sealed_as_they_are_read(tmp_path):
    path, epochs = tmp_path / "facts.json", dict.fromkeys(range(6, 21), "text")
    path.write_bytes(sealed("facts.json", {"samples": epochs}))
    assert list(read_sealed(path, "x")["samples"]) == [str(epoch) for epoch in epochs]


def test_every_flipped_bit_is_noticed_or_changes_no_fact(tmp_path):
    path, content = tmp_path / "facts.json", sealed("facts.json", FACTS)
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            with suppress(DamagedFileError):
                assert read_sealed(path, "x") == FACTS, (place, bit)


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"sha256": null}', '{"n": 1}'])
def test_facts_without_their_seal_are_damaged(tmp_path, text):
    (tmp_path / "facts.json").write_text(text)
    with pytest.raises(DamagedFileError, match=r"facts\.json is damaged.*: mend it"):
        read_sealed(tmp_path / "facts.json", "mend it")


def test_facts_under_another_name_are_not_taken(tmp_path):
    (tmp_path / "other.json").write_bytes(sealed("facts.json", FACTS))
    with pytest.raises(DamagedFileError, match=r"other\.json is damaged"):
        read_sealed(tmp_path / "other.json", "x")


def test_damaged_files_are_put_aside_under_free_names(tmp_path):
    path, names = tmp_path / "scores.json", []
    for content in (b"1", b"2", b"3"):
        path.write_bytes(content)
        aside = put_aside(path)
        assert aside.read_bytes() == content and not path.exists()
        names.append(aside.name)
    assert names == ["scores.damaged", "scores.damaged1", "scores.damaged2"]


COMMITTED = [
    ROOT / "data" / "baselines" / "baselines.json",
    *sorted(ROOT.glob("lessons/*/results/*.json")),
]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_what_is_committed_is_sealed(path):
    assert path.read_bytes() == sealed(path.name, read_sealed(path, "x"))


# ------------------------------------------------------------------------------- write


def test_write_atomically_writes_makes_folders_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    for content in (b"first\r\n", b"second\n"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_a_name_may_be_as_long_as_names_can_be(tmp_path, name):
    write_atomically(tmp_path / name, b"content")
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("umask", "mode"), [(0o077, 0o600), (0o002, 0o664), (0, 0o666)]
)
def test_a_new_file_has_the_mode_that_the_umask_allows(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o664])
def test_a_file_that_is_there_keeps_its_mode(tmp_path, mode):
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(mode)
    write_atomically(tmp_path / "file", b"new")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_the_content_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "file", []
    path.write_bytes(b"old")
    flush = os.fsync

    def note(descriptor):
        seen.append((os.fstat(descriptor).st_size, path.read_bytes()))
        flush(descriptor)

    monkeypatch.setattr(files.os, "fsync", note)
    write_atomically(path, b"content")
    assert seen == [(7, b"old")] and path.read_bytes() == b"content"


ERRORS = {
    errno.ENOSPC: "No space left on device.*free some space on the disk",
    errno.EDQUOT: "free some of the space that you may use",
    errno.EROFS: "work in a folder of your own",
    errno.EACCES: "give yourself the right to",
    errno.EIO: "Input/output error; it cannot be written: put that right",
}


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [*ERRORS, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, step, error
):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_):
        raise (
            KeyboardInterrupt
            if error is KeyboardInterrupt
            else OSError(error, os.strerror(error), "a temporary name")
        )

    monkeypatch.setattr(
        *((files.os, "fsync") if step == "fsync" else (Path, step)), fail
    )
    with pytest.raises((OSError, KeyboardInterrupt)) as caught:
        write_atomically(path, b"new content")
    if isinstance(caught.value, OSError):
        assert caught.value.errno == error and caught.value.filename == str(path)
        assert caught.match(ERRORS[error])
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_what_cannot_be_written_is_said_by_its_own_name(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name in ("folder", "circle/file", "n" * 300, "zero\0byte"):
        with pytest.raises(OSError, match="cannot be written") as caught:
            write_atomically(tmp_path / name, b"")
        assert caught.value.filename == str(tmp_path / name)
    assert {p.name for p in tmp_path.iterdir()} == {"folder", "circle"}


# --------------------------------------------------------------------------- one by one

COUNT = """
import sys
from pathlib import Path
from utils.files import alone, write_atomically
path = Path(sys.argv[1])
for _ in range(30):
    with alone(path):
        number = int(path.read_text()) if path.exists() else 0
        write_atomically(path, str(number + 1).encode())
"""


def test_four_processes_and_four_threads_count_without_losing_one(tmp_path):
    path = tmp_path / "new" / "count"
    command = [sys.executable, "-c", COUNT, str(path)]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    threads = [threading.Thread(target=exec, args=(COUNT, {})) for _ in range(4)]
    before, sys.argv = sys.argv, ["", str(path)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.argv = before
    assert [process.wait(60) for process in processes] == [0] * 4
    assert path.read_text() == str(8 * 30)


def test_a_lock_that_is_never_let_go_is_said(tmp_path):
    with (
        alone(tmp_path / "it"),
        pytest.raises(TimeoutError, match=r"held it for 0\.1 s"),
        alone(tmp_path / "it", patience=0.1),
    ):
        pass
    with alone(tmp_path / "it", patience=0.1):
        pass


def test_a_process_that_is_killed_lets_go(tmp_path):
    code = (
        "import sys; from pathlib import Path; from utils.files import alone\n"
        "with alone(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "it")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(TimeoutError), alone(tmp_path / "it", patience=0.1):
            pass
        process.kill()
        process.wait()
        with alone(tmp_path / "it", patience=10):
            pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match="cannot be written"),
        alone(tmp_path / "file" / "in" / "it"),
    ):
        pass
