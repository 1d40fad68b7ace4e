"""A lock on a folder, for the sets and runs that one process at a time may write.

A file system without locks is passed over with a note: the user then has to see to it that only one
process writes there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from shards.disk.file_system import LACKS, naming, passing_over
from shards.errors import UserError

LOCK_FILE_NAME = "lock"
LOCK_WAIT_S = 10.0
"""Seconds to wait for a lock: the processes of a killed launcher take a moment to end."""
LACKS_LOCKS = LACKS | {errno.ENOLCK, errno.EBADF}
"""Error numbers of a file system without locks."""
HELD = frozenset({errno.EAGAIN, errno.EACCES})
"""Error numbers when another process holds the lock; some network shares answer EACCES."""
NO_LOCKS = "has no locks, so see to it that one process at a time writes there"


@contextlib.contextmanager
def locked(folder: Path, doing: str, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Make a folder if needed and hold its lock; the lock ends with the process, however that ends.

    The lock is on a file in the folder, because locks on folders do not reach beyond one machine.
    The file names the process that holds it.

    Args:
        folder: The process that holds the lock may remove it.
        doing: The start of the error message, such as "RUN is being trained".
        wait_s: Seconds to wait for the lock.

    Raises:
        UserError: Another process still holds the lock; the message names that process.
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
            continue  # The process that held the lock has removed the folder in between.
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
    """Take the lock; False if another process holds it. A lack of locks counts as taken."""
    try:
        with passing_over(NO_LOCKS, path, LACKS_LOCKS):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:
            raise
        return False
    return True


def _is_still(path: Path, handle: int) -> bool:
    """True if the open file still has its name: nobody has removed it since it was opened."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
