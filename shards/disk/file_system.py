"""Errors of the file system: the file that they are about, and those that only mean a lack.

Some file systems have no locks, or cannot sync a folder (network shares, some of FUSE). The user is
told so once and the work goes on: a set or a run there is as safe as the file system is. Damage
(EIO, ENOSPC, EROFS) is always an error, and its message names the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from shards.terminal import printing

LACKS = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""Error numbers of a file system that does not have what it is asked for."""

_told: set[tuple[int, str]] = set()


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put `path` into errors of the system that name no file, as errors of write and fsync do."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def passing_over(lacking: str, path: Path, answers: frozenset[int] = LACKS) -> Iterator[None]:
    """Try something that the file system of `path` may lack.

    If it does, a note on stderr says so, once for each file system, and the block ends there.

    Args:
        lacking: The words of the note, such as "cannot sync folders".
        path: A file or folder.
        answers: The error numbers that mean a lack.

    Raises:
        OSError: Any other error; it names a file.
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
