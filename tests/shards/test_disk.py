"""File systems that lack something get one note and work goes on; damage is always an error."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.results.output_folder import complete_folder
from shards.disk import file_system
from shards.disk.locks import locked
from shards.disk.publish import (
    move_folder,
    partial_folder,
    publish_folder,
    replace_file,
    sync,
    whole_file,
    write_new_file,
)
from shards.errors import UserError
from shards.reader import ShardSet
from shards.verify import verify_shards
from tests.support.image_sets import build_npy_set, smooth_images
from train.checkpoint import Snapshot, latest_checkpoint
from train.recipes import RECIPES
from train.run_folder import locked_run, start_run
from train.state import TrainState

FSYNC, FLOCK = os.fsync, fcntl.flock


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch) -> None:
    monkeypatch.setattr(file_system, "_told", set())


def answering(monkeypatch, number: int, *, folders: bool = True, files: bool = False) -> None:
    """Let `os.fsync` fail with an error that names no file, as the system does."""

    def fsync(handle) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        if folders if is_folder else files:
            raise OSError(number, os.strerror(number))
        FSYNC(handle)

    monkeypatch.setattr(os, "fsync", fsync)


def without_locks(monkeypatch, number: int) -> None:
    def flock(file, how) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


def builds(folder: Path) -> None:
    """Build a set."""
    verify_shards(build_npy_set(folder, "set", smooth_images(4, 8, 1, seed=1)))


def saves(folder: Path) -> None:
    """Start a run and save two checkpoints, of which one is kept."""
    model = dataclasses.replace(RECIPES["demo-cpu"]().model, width=12, depth=1, heads=2)
    config = dataclasses.replace(
        RECIPES["demo-cpu"](), in_dist=Path("x"), out=folder / "run", model=model,
        keep_checkpoints=1,
    )  # fmt: skip
    state = TrainState.start(config, torch.device("cpu"))
    with locked_run(config.out):
        start_run(config)
        for step in (1, 2):
            state.step = step
            Snapshot.of(state, {"step": step}, config).write(config)
    found = latest_checkpoint(config.out)
    assert found is not None and found.step == 2
    assert [path.name for path in (config.out / "checkpoints").iterdir()] == ["step-00000002"]


def scores(folder: Path) -> None:
    """Write the output folders of two scorings, of which the second replaces the first."""
    for text in ("first", "second"):
        with complete_folder(folder / "out") as partial:
            (partial / "results.json").write_text(text)
    assert (folder / "out" / "results.json").read_text() == "second"
    assert os.listdir(folder) == ["out"]


def exports(folder: Path) -> None:
    """Write a file and replace it."""
    write_new_file(folder / "file.csv", [b"one"])
    replace_file(folder / "file.csv", [b"two"])
    assert (folder / "file.csv").read_bytes() == b"two"


WORKS = pytest.mark.parametrize("work", [builds, saves, scores, exports])


@WORKS
@pytest.mark.parametrize(
    "number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF], ids=errno.errorcode.get
)
def test_folders_that_cannot_be_synced_are_told_once(
    work: Callable[[Path], None], number: int, tmp_path, monkeypatch, capfd
) -> None:
    answering(monkeypatch, number)
    work(tmp_path)
    said = capfd.readouterr().err
    assert said.startswith(f"note: {tmp_path}") and said.count("\n") == 1
    assert said.endswith(f": this file system cannot sync folders ({os.strerror(number)})\n")


@WORKS
def test_files_that_cannot_be_synced_are_told_once(work, tmp_path, monkeypatch, capfd) -> None:
    answering(monkeypatch, errno.EINVAL, files=True)
    work(tmp_path)
    said = capfd.readouterr().err
    assert said.count("this file system cannot sync files (Invalid argument)\n") == 1
    assert said.count("this file system cannot sync folders (Invalid argument)\n") == 1
    assert said.count("\n") == 2


@WORKS
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS], ids=errno.errorcode.get)
def test_damage_is_an_error_that_names_a_file(work, number: int, tmp_path, monkeypatch) -> None:
    answering(monkeypatch, number)
    with pytest.raises((OSError, UserError), match=f"{os.strerror(number)}: '{tmp_path}"):
        work(tmp_path)


def test_a_file_handle_that_is_no_good_is_an_error(tmp_path, monkeypatch) -> None:
    """Some file systems give this answer for a folder; there it is only a lack."""
    answering(monkeypatch, errno.EBADF, files=True)
    with pytest.raises(OSError, match="Bad file descriptor: .*/.file.csv"):
        exports(tmp_path)


def test_a_folder_whose_names_may_not_be_read_is_not_synced(tmp_path, monkeypatch, capfd) -> None:
    """The tests may run as root, which may read everything, so the answer is simulated."""
    folder, real = tmp_path / "folder", os.open
    folder.mkdir()

    def refusing(path, *rest):
        if path == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *rest)

    monkeypatch.setattr(os, "open", refusing)
    sync(folder)
    assert "cannot sync folders (Permission denied)" in capfd.readouterr().err


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_what_cannot_be_written_has_a_name(error: int, tmp_path, monkeypatch) -> None:
    """The system's error for a full disk does not name the file."""
    with pytest.raises(OSError, match=f"{os.strerror(error)}: '{tmp_path / 'out'}'"):
        with complete_folder(tmp_path / "out"):
            raise OSError(error, os.strerror(error))
    with (
        pytest.raises(OSError, match="No space left on device: '/dev/full'"),
        file_system.naming(Path("/dev/full")),
    ):
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")


# ---- locks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", [builds, saves])
@pytest.mark.parametrize(
    "number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL], ids=errno.errorcode.get
)
def test_where_there_are_no_locks_it_is_told_once(
    work, number: int, tmp_path, monkeypatch, capfd
) -> None:
    without_locks(monkeypatch, number)
    work(tmp_path)
    said = capfd.readouterr().err
    assert said.startswith(f"note: {tmp_path}") and said.count("\n") == 1
    told = "has no locks, so see to it that one process at a time writes there"
    assert f": this file system {told} ({os.strerror(number)})\n" in said


@pytest.mark.parametrize("work", [builds, saves])
def test_a_lock_that_fails_is_an_error_that_names_it(work, tmp_path, monkeypatch) -> None:
    without_locks(monkeypatch, errno.EIO)
    with pytest.raises((OSError, UserError), match=r"Input/output error: '.*/lock'"):
        work(tmp_path)


@pytest.mark.parametrize("number", [None, errno.EACCES])
def test_who_has_a_lock_is_named(number: int | None, tmp_path, monkeypatch) -> None:
    """Some network shares give EACCES, the error of a missing permission."""
    with locked(tmp_path / "x", "it is held"):
        if number:
            without_locks(monkeypatch, number)
        who = f"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(UserError, match=f"^it is held by {who}$"):
            with locked(tmp_path / "x", "it is held", wait_s=0):
                pass
    monkeypatch.setattr(fcntl, "flock", FLOCK)
    with locked(tmp_path / "x", "it is held", wait_s=0):
        assert (tmp_path / "x" / "lock").read_text() == f"{who}\n"


def test_a_lock_whose_folder_was_removed_is_taken_anew(tmp_path, monkeypatch) -> None:
    """Another process removes it after the file is opened and before the lock is taken."""
    taken = []

    def flock(file, how) -> None:
        if not taken:
            shutil.rmtree(tmp_path / "x")
        taken.append(how)
        FLOCK(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "x", "it is held"):
        assert (tmp_path / "x" / "lock").is_file() and len(taken) == 2


# ---- whole or not at all -----------------------------------------------------------------------


def test_a_file_that_is_replaced_is_whole_at_every_moment(tmp_path) -> None:
    path = tmp_path / "a[1].txt"
    left = tmp_path / ".a[1].txt.partial-1"
    for old in (None, b"neo"):
        left.write_text("of a process that was killed")

        def parts(old=old):
            assert (path.read_bytes() if path.exists() else None) == old
            yield b"ne"
            assert (path.read_bytes() if path.exists() else None) == old
            yield b"w" if old else b"o"

        replace_file(path, parts())
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == [path.name]

    def failing():
        yield b"half"
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        replace_file(path, failing())
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == [path.name]


def test_a_new_file_does_not_replace_one_that_appears_meanwhile(tmp_path) -> None:
    path = tmp_path / "new" / "file"

    def parts():
        yield b"mine"
        path.write_bytes(b"theirs")

    with pytest.raises(UserError, match="file: exists already; name a new file"):
        write_new_file(path, parts())
    assert path.read_bytes() == b"theirs" and os.listdir(path.parent) == ["file"]


def test_two_processes_may_make_the_same_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "file"
    with whole_file(path) as mine:
        mine.write_bytes(b"mine")
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 1)
            with whole_file(path) as theirs:
                theirs.write_bytes(b"theirs")
        assert path.read_bytes() == b"theirs"
    assert path.read_bytes() == b"mine" and os.listdir(tmp_path) == ["file"]


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch) -> None:
    synced: list[str] = []

    def fsync(handle) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        FSYNC(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with partial_folder(tmp_path / "new" / "out") as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "file").write_text("x")
        assert os.listdir(tmp_path / "new") == [partial.name] and partial.name.startswith(".out.")
    within = {str(partial), f"{partial}/deep", f"{partial}/deep/file"}
    assert set(synced) == within
    publish_folder(partial, tmp_path / "new" / "out")
    assert synced[-1] == str(tmp_path / "new") and os.listdir(tmp_path / "new") == ["out"]
    with pytest.raises(RuntimeError), partial_folder(tmp_path / "other"):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["new"]


# ---- renaming ----------------------------------------------------------------------------------


def test_a_folder_of_a_containers_image_is_moved(tmp_path, monkeypatch) -> None:
    """Overlayfs does not rename a folder that lies in a lower layer."""
    rename = os.rename

    def overlay(source, to, **options) -> None:
        if Path(source).name == "lower":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))
        rename(source, to, **options)

    monkeypatch.setattr(os, "rename", overlay)
    (tmp_path / "lower" / "deep").mkdir(parents=True)
    (tmp_path / "lower" / "deep" / "file").write_text("x")
    move_folder(tmp_path / "lower", tmp_path / "moved")
    assert os.listdir(tmp_path) == ["moved"]
    assert (tmp_path / "moved" / "deep" / "file").read_text() == "x"


def test_a_mount_is_no_output_folder_and_that_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "out")
    (tmp_path / "out").mkdir()
    refused = pytest.raises(UserError, match=r"--out .*/out: a file system is mounted there; name")
    from eval.results.output_folder import check_replaceable

    with refused:
        check_replaceable(tmp_path / "out")


def test_an_array_file_that_cannot_be_mapped_is_read(tmp_path, monkeypatch, capfd) -> None:
    """Some file systems that are mounted for direct reading cannot map files."""

    def refusing(*_, **__) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr("mmap.mmap", refusing)
    images = smooth_images(4, 8, 3, seed=1)
    directory = build_npy_set(tmp_path, "set", images)
    monkeypatch.undo()
    with ShardSet.open(directory) as shards:
        read = shards.read(np.arange(4))
    assert {image.tobytes() for image in read} == {image.tobytes() for image in images}
    assert (
        "maps no files, so arrays are read into memory (No such device)" in capfd.readouterr().err
    )
