"""Files are whole or absent, also when the disk is full."""

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest
import torch

import graphpred.files
from graphpred.errors import StoreError
from graphpred.files import TEMPORARY_PREFIX, load_tensors, save_tensors, whole_file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def old(tmp_path):
    """A file with something in it already."""
    path = tmp_path / "file"
    path.write_text("old")
    return path


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB, where root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_file_appears_at_the_end(old):
    with whole_file(old) as temporary:
        temporary.write_text("new")
        assert temporary.parent == old.parent
        assert temporary.name.startswith(TEMPORARY_PREFIX)
        assert old.read_text() == "old"

    assert old.read_text() == "new"
    assert names(old.parent) == ["file"]
    assert stat.S_IMODE(old.stat().st_mode) == 0o644


def test_new_file_is_absent_until_the_end(tmp_path):
    path = tmp_path / "file"

    with whole_file(str(path)) as temporary:
        temporary.write_text("new")
        assert not path.exists()

    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_exception_leaves_the_old_file_and_nothing_else(old, error):
    def interrupted():
        with whole_file(old) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()

    assert old.read_text() == "old"
    assert names(old.parent) == ["file"]


@pytest.mark.parametrize("stage", ["_flush", "replace"])
def test_full_disk_at_the_end_leaves_the_old_file(old, stage, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((graphpred.files, stage) if stage == "_flush" else (Path, stage)), fail)

    with (
        pytest.raises(StoreError, match=r"file could not be written: No space left on device\."),
        whole_file(old) as temporary,
    ):
        temporary.write_text("new")

    assert old.read_text() == "old"
    assert names(old.parent) == ["file"]


def test_full_disk_while_tensors_are_written(old, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(graphpred.files, "save_file", fail)

    with pytest.raises(StoreError, match="No space left"):
        save_tensors(old, {"x": torch.zeros(3)}, metadata={})

    assert old.read_text() == "old"
    assert names(old.parent) == ["file"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_device_that_is_always_full(old):
    def write():
        with whole_file(old) as temporary:
            temporary.unlink()
            temporary.symlink_to("/dev/full")
            temporary.write_text("new")

    with pytest.raises(StoreError, match="No space left"):
        write()

    assert old.read_text() == "old"
    assert names(old.parent) == ["file"]
    assert os.path.exists("/dev/full")


def test_disk_that_is_really_full(tiny_disk):
    path = tiny_disk / "file"
    save_tensors(path, {"x": torch.ones(100)}, metadata={"a": "old"})

    with pytest.raises(StoreError, match="file could not be written"):
        save_tensors(path, {"x": torch.zeros(100_000)}, metadata={})
    with pytest.raises(StoreError, match="No space left"), whole_file(path) as temporary:
        temporary.write_bytes(bytes(100_000))

    assert names(tiny_disk) == ["file"]
    tensors, metadata = load_tensors(path, what="a test")
    assert metadata == {"a": "old"}
    assert torch.equal(tensors["x"], torch.ones(100))


def test_folder_must_exist_and_be_a_folder(tmp_path, old):
    for path in (tmp_path / "none" / "file", old / "file"):
        with (
            pytest.raises(StoreError, match=r"file must be writable: \w+.*\."),
            whole_file(path),
        ):
            pytest.fail("it must not get here")


def test_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "file").mkdir()

    with (
        pytest.raises(StoreError, match="file could not be written"),
        whole_file(tmp_path / "file") as temporary,
    ):
        temporary.write_text("new")

    assert names(tmp_path) == ["file"]


def test_tensors_come_back_with_their_metadata(tmp_path):
    wide = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": wide.T, "b": torch.zeros(0), "c": torch.tensor([1, 2]), "d": wide[:, 1]}
    tensors["a"].requires_grad_()

    save_tensors(tmp_path / "x", tensors, metadata={"k": "v"})
    loaded, metadata = load_tensors(tmp_path / "x", what="a test")

    assert metadata == {"k": "v"}
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_unreadable_tensors_are_named(tmp_path):
    (tmp_path / "x").write_bytes(b"nothing of the kind")

    with pytest.raises(StoreError, match="x must be a map; it cannot be read"):
        load_tensors(tmp_path / "x", what="a map")
    with pytest.raises(StoreError, match="y must be a map; there is no such file"):
        load_tensors(tmp_path / "y", what="a map")
