"""Handling of errors of the file system.

Some file systems (network shares, some FUSE file systems) have no locks or cannot sync a folder.
Then the user gets one note, and the work goes on without locking or syncing. Other errors, such as
a full disk (ENOSPC) or a damaged disk (EIO), are always raised, and name the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from shards.terminal import printing

LACKS = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""The error numbers that mean that a file system does not support an operation."""

_told: set[tuple[int, str]] = set()


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Run the block, and add the file name `path` to an `OSError` that has no file name.

    The errors of write and fsync, for example, have no file name.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def passing_over(lacking: str, path: Path, answers: frozenset[int] = LACKS) -> Iterator[None]:
    """Run the block, and ignore an error that means that the file system cannot do the operation.

    The block ends at this error. A note on stderr tells the user, once per file system and
    operation.

    Args:
        lacking: The end of the note, such as "cannot sync folders".
        path: The file or folder that the operation is for.
        answers: The error numbers that are ignored.

    Raises:
        OSError: An error with another number. It has a file name.
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
