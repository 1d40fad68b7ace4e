"""A lock on a folder, so that only one process at a time writes a set or a run.

On a file system that has no locks, locking is skipped. A note then tells the user that only one
process at a time may write there.
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
"""The time to wait for a lock, in seconds. A wait is needed because the processes of a killed
launcher take a moment to end."""
LACKS_LOCKS = LACKS | {errno.ENOLCK, errno.EBADF}
"""The error numbers that mean that a file system has no locks."""
HELD = frozenset({errno.EAGAIN, errno.EACCES})
"""The error numbers that mean that another process holds the lock. EACCES comes from some network
shares."""
NO_LOCKS = "has no locks, so see to it that one process at a time writes there"


@contextlib.contextmanager
def locked(folder: Path, doing: str, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the lock of a folder while the block runs.

    The system releases the lock when the process ends, even if the process is killed. The lock is
    on a file in the folder, because a lock on the folder itself would work only on one machine. The
    file names the process that holds the lock.

    Args:
        folder: The folder, which is made if needed. If a process that holds the lock removes the
            folder, it is made again.
        doing: The start of the error message, such as "RUN is being trained".
        wait_s: The time to wait for the lock, in seconds.

    Raises:
        UserError: Another process still holds the lock after `wait_s`. The message names that
            process.
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
            continue  # The process that held the lock has just removed the folder.
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
    """Try to take the lock of an open lock file without waiting.

    Returns:
        False if another process holds the lock. True if the lock was taken, or if the file system
        has no locks.
    """
    try:
        with passing_over(NO_LOCKS, path, LACKS_LOCKS):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:
            raise
        return False
    return True


def _is_still(path: Path, handle: int) -> bool:
    """True if the open file `handle` still exists as `path`.

    False if another process has removed or replaced the file since it was opened.
    """
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
