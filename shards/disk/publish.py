"""Files and folders that appear under their name whole or not at all.

Each is first made under a temporary name beside its own (`partial_path`), synced to the disk, and
then renamed; then its new name is synced. A process that is killed leaves at most the temporary
name, which is hidden.
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
"""Error numbers of a file system that cannot sync folders, or does not let this user open one."""
NO_SYNC, NO_FOLDER_SYNC = "cannot sync files", "cannot sync folders"


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
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
    """Write a new file under this very name and wait until its content is on the disk."""
    with naming(path), open(path, "xb") as out:
        out.writelines(parts)
        sync_file(out)


def refuse_existing(path: Path, kind: str = "file") -> None:
    """Refuse a name that is in use; `kind` is the word for the output in the message.

    Raises:
        UserError: A file, folder or link has this name.
    """
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; name a new {kind} or remove this one")


def partial_path(path: Path) -> Path:
    """The temporary name beside `path` under which this process makes it."""
    return path.with_name(f".{path.name}.partial-{os.getpid()}")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the temporary name of a file; rename the file to `path` when the block ends.

    The block writes and syncs the file. If it raises, the file is removed. Several processes may
    make the same file: the last one replaces the others' file.
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
    """Write a file or replace it: a reader finds the whole new file or the one before it.

    Only one process at a time may write it, because leftovers of killed processes are removed.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
        leftover.unlink(missing_ok=True)
    with whole_file(path) as partial:
        write_file(partial, parts)


def write_new_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file that does not exist yet; its folder is made if needed.

    Raises:
        UserError: A file, folder or link has this name already.
    """
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        write_file(partial, parts)
        refuse_existing(path)


@contextlib.contextmanager
def partial_folder(to: Path) -> Iterator[Path]:
    """Yield a new folder with the temporary name of `to`; its parents are made if needed.

    If the block ends without an error, all content of the folder is on the disk, and
    `publish_folder` can rename it. If the block raises, the folder is removed.
    """
    partial = partial_path(to)
    if partial.exists():  # left by a killed process that had the same number
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
    """Rename a folder whose content is on the disk to `to`, and sync the new name.

    Args:
        folder: The folder under its temporary name.
        to: The final name, in the same place.
        replaced: The new name of a folder that is called `to` now. That folder gets its name back
            if `folder` cannot be renamed.
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
    """Rename a folder in its place.

    A folder that is part of a container's image cannot be renamed (EXDEV): it is copied, and then
    removed.
    """
    try:
        folder.rename(to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(folder, to, symlinks=True)
        shutil.rmtree(folder)
