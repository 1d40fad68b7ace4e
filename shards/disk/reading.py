"""Functions that list the files below a folder, and that read one file or compute its digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from shards.errors import UserError

MAX_TEXT_BYTES = 1 << 30
"""The largest size of a text file that is read, in bytes. The names of 14 million images take
less."""


def entries_below(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all entries of a folder and of its subfolders, as (path in the folder, entry).

    Links to folders and hidden folders are yielded, but their entries are not.
    """
    folders = [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    folders.append(f"{prefix}{entry.name}/")
                yield prefix + entry.name, entry


def visible_files(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the files and links of a folder and of its subfolders, as (path in the folder, entry).

    Links to folders are yielded but not followed, so that everything is in the folder itself.
    Hidden entries are left out. Pipes and devices are left out too, because a process that reads
    them may wait forever.
    """
    for name, entry in entries_below(folder):
        if not entry.name.startswith(".") and (entry.is_symlink() or entry.is_file()):
            yield name, entry


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """Return the content of a text file. The file may be a pipe.

    Raises:
        UserError: The file has more than `max_bytes` bytes.
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = bytearray()
        # The size of a pipe or a device is known only when its end has been read.
        while max(size, len(data)) <= max_bytes and (block := file.read(1 << 20)):
            data += block
    if max(size, len(data)) > max_bytes:
        raise UserError(f"{path}: has more than {max_bytes:,} bytes, is it another file?")
    return bytes(data)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
