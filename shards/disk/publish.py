"""Writing of files and folders so that they get their final name only when they are complete.

A file or folder is first written under a temporary name in the same place (`partial_path`) and
synced to the disk. Then it is renamed, and the new name is synced to the disk. If the process is
killed, only the hidden file or folder with the temporary name may be left.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from shards.disk.file_system import LACKS, naming, passing_over
from shards.errors import UserError

LACKS_FOLDER_SYNC = LACKS | {errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM}
"""The error numbers that mean that folders cannot be synced. Some file systems do not support this,
and some do not let this user open the folder."""
NO_SYNC, NO_FOLDER_SYNC = "cannot sync files", "cannot sync folders"


def sync(path: Path) -> None:
    """Wait until the content of a file, or the list of names in a folder, is on the disk."""
    lacks = (NO_FOLDER_SYNC, LACKS_FOLDER_SYNC) if path.is_dir() else (NO_SYNC, LACKS)
    with passing_over(lacks[0], path, lacks[1]):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_file(file: IO[Any]) -> None:
    """Wait until the content that was written to an open file is on the disk."""
    path = Path(file.name)
    with naming(path):
        file.flush()
    with passing_over(NO_SYNC, path):
        os.fsync(file.fileno())


def write_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a new file and wait until its content is on the disk.

    No temporary name is used, so a process that is killed may leave an incomplete file.

    Args:
        path: The file, which must not exist yet.
        parts: The content of the file, in parts.
    """
    with naming(path), open(path, "xb") as out:
        out.writelines(parts)
        sync_file(out)


def refuse_existing(path: Path, kind: str = "file") -> None:
    """Raise an error if a path exists already.

    Args:
        path: The path of a new file or folder.
        kind: The word for the new file or folder in the error message.

    Raises:
        UserError: A file, folder or link with this path exists.
    """
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; name a new {kind} or remove this one")


def partial_path(path: Path) -> Path:
    """Return the temporary path that this process uses until the file or folder `path` is complete.

    It is in the same place as `path`, and its name is hidden.
    """
    return path.with_name(f".{path.name}.partial-{os.getpid()}")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename the file at this path to `path` when the block ends.

    The block must write the file at the temporary path and sync it to the disk. If the block
    raises, the temporary file is removed. Several processes may write the same `path`: the file of
    the last process replaces the others.
    """
    partial = partial_path(path)
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file, or replace an existing file.

    Another process that reads the file gets either the whole old content or the whole new content.
    Only one process at a time may write the file, because temporary files of other processes are
    removed as leftovers.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
        leftover.unlink(missing_ok=True)
    with whole_file(path) as partial:
        write_file(partial, parts)


def write_new_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a new file. Its folder is made if needed.

    Raises:
        UserError: A file, folder or link with this path exists already.
    """
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        write_file(partial, parts)
        refuse_existing(path)


@contextlib.contextmanager
def partial_folder(to: Path) -> Iterator[Path]:
    """Make a folder with the temporary name of `to`, and yield its path.

    The parents of the folder are made if needed. The block must write the content of the folder.
    When the block ends, the content is synced to the disk, and `publish_folder` can then rename the
    folder to `to`. If the block raises, the folder is removed.
    """
    partial = partial_path(to)
    if partial.exists():  # left by a killed process that had the same process id
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        with naming(to):
            yield partial
            for path in [*partial.rglob("*"), partial]:
                sync(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def publish_folder(folder: Path, to: Path, replaced: Path | None = None) -> None:
    """Rename a finished folder to its final name, and sync the new name to the disk.

    Args:
        folder: The folder with its temporary name. Its content must be on the disk already.
        to: The final path, in the same place.
        replaced: The path to which an existing folder `to` is moved first. If renaming `folder`
            fails, the existing folder is moved back. None if there is no folder to move.
    """
    if replaced is not None and to.exists():
        move_folder(to, replaced)
    try:
        folder.rename(to)
    except BaseException:
        if replaced is not None and replaced.exists() and not to.exists():
            replaced.rename(to)
        raise
    sync(to.parent)


def move_folder(folder: Path, to: Path) -> None:
    """Rename a folder.

    If the folder is part of the image of a container, it cannot be renamed (EXDEV). Then it is
    copied to `to`, and the original is removed.
    """
    try:
        folder.rename(to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(folder, to, symlinks=True)
        shutil.rmtree(folder)
