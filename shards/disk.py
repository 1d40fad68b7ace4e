"""Files: those below a folder, locks, and making sure that what was written is on the disk.

What a file system lacks (a network share without locks, one that cannot sync a folder) is told once
and passed over: a set or a run on it is as good as the file system is. Damage (EIO, ENOSPC, EROFS)
never is, and its message names the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from shards.errors import UserError
from shards.terminal import printing

LACKS = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system answers when it has no such thing as it is asked for."""
LACKS_FOLDER_SYNC = LACKS | {errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM}
"""The same of folders, which some take for no files, and which may be closed to their readers."""
LACKS_LOCKS = LACKS | {errno.ENOLCK, errno.EBADF}
HELD = frozenset({errno.EAGAIN, errno.EACCES})
"""How a lock is refused that another process has; the second is that of some shares."""
LOCK_FILE_NAME = "lock"
LOCK_WAIT_S = 10.0
"""How long a lock is waited for: processes whose launcher was killed take a moment to end."""

NO_SYNC, NO_FOLDER_SYNC = "cannot sync files", "cannot sync folders"
NO_LOCKS = "has no locks, so see to it that one process at a time writes there"

_told: set[tuple[int, str]] = set()


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put `path` into errors of the system that name no file, as those of writing and syncing."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def passing_over(lacking: str, path: Path, answers: frozenset[int] = LACKS) -> Iterator[None]:
    """Try what the file system of `path` may lack.

    If it answers so, that is told once for each file system, on stderr, and the block ends there.

    Args:
        lacking: What to tell of it, as "cannot sync folders".
        path: A file or folder.
        answers: Numbers of errors that mean so.

    Raises:
        OSError: any other error; it names a file.
    """
    try:
        with naming(path):
            yield
    except OSError as error:
        if error.errno not in answers:
            raise
        folder = path if path.is_dir() else path.parent
        key = folder.stat().st_dev, lacking
        if key not in _told:
            _told.add(key)
            told = f"{folder}: this file system {lacking} ({os.strerror(error.errno)})"
            printing.tell(f"note: {told}")


MAX_TEXT_BYTES = 1 << 30
"""Of a list that a tool writes: the names of 14 million images have less."""


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
    """Wait until what was written to an open file is on the disk."""
    path = Path(file.name)
    with naming(path):
        file.flush()
    with passing_over(NO_SYNC, path):
        os.fsync(file.fileno())


@contextlib.contextmanager
def locked(folder: Path, doing: str, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Have a folder, which is made, for oneself; the lock goes with the process, however that ends.

    It is a lock on a file in the folder, which says who has it; those on folders do not reach
    beyond a machine.

    Args:
        folder: It may be removed by who has it.
        doing: What whoever has it does, in an error, as "RUN is being trained".
        wait_s: How long to wait for it.

    Raises:
        UserError: another process has it still; names that.
    """
    path = folder / LOCK_FILE_NAME
    until_s = time.monotonic() + wait_s
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+", encoding="utf-8")
        except FileNotFoundError:
            if folder.is_dir() and time.monotonic() > until_s:
                raise
            continue  # Who had it has removed the folder in between.
        with file:
            if not _take(file, path):
                if time.monotonic() > until_s:
                    file.seek(0)
                    raise UserError(f"{doing} by {file.read().strip() or 'another process'}")
                time.sleep(0.1)
            elif _is_still(path, file.fileno()):
                with naming(path):
                    file.truncate(0)
                    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                    file.flush()
                yield
                return


def _take(file: IO[Any], path: Path) -> bool:
    """Whether this process has the lock now; one that cannot be had is passed over."""
    try:
        with passing_over(NO_LOCKS, path, LACKS_LOCKS):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:
            raise
        return False
    return True


def _is_still(path: Path, handle: int) -> bool:
    """Whether nobody has removed the file since it was opened."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def entries_below(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All entries below a folder, each with its path in it; links and hidden folders stay shut."""
    folders = [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    folders.append(f"{prefix}{entry.name}/")
                yield prefix + entry.name, entry


def visible_files(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files and links below a folder, each with its path in it; links are not followed.

    Hidden entries, pipes and devices are left out. So a folder cannot lead outside of itself, and
    what reads its files cannot wait for ever.
    """
    for name, entry in entries_below(folder):
        if not entry.name.startswith(".") and (entry.is_symlink() or entry.is_file()):
            yield name, entry


def write_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a new file and wait until it is on the disk."""
    with naming(path), open(path, "xb") as out:
        out.writelines(parts)
        sync_file(out)


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file, or another one in its place: under its name is all of it, or what was there."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    try:
        write_file(partial, parts)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def move_folder(folder: Path, to: Path) -> None:
    """Give a folder another name in the same place.

    A folder that is part of a container's image takes none (EXDEV): it is copied, then removed.
    """
    try:
        folder.rename(to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(folder, to, symlinks=True)
        shutil.rmtree(folder)


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """The content of a file of text, which may be a pipe.

    Raises:
        UserError: it has more bytes than such a file can have.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = bytearray()
        # A pipe and a device have no size before they end.
        while max(size, len(data)) <= max_bytes and (block := file.read(1 << 20)):
            data += block
    if max(size, len(data)) > max_bytes:
        raise UserError(f"{path}: has more than {max_bytes:,} bytes, is it another file?")
    return bytes(data)


def file_sha256(path: Path) -> str:
    """The digest of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_new_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file that appears under its name whole or not at all; its folder is made.

    Raises:
        UserError: there is something under its name already.
    """
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write_file(partial, parts)
        refuse_existing(path)
        os.rename(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def refuse_existing(path: Path, kind: str = "file") -> None:
    """Raise a `UserError` if there is anything under the name of an output of this kind."""
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; name a new {kind} or remove this one")
