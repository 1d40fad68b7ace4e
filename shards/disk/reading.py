"""Listing the files below a folder, and reading and digesting one file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from shards.errors import UserError

MAX_TEXT_BYTES = 1 << 30
"""The largest text file that is read: the names of 14 million images take less."""


def entries_below(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all entries below a folder, each with its path in it.

    Links to folders and hidden folders are not opened.
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
    """Yield the files and links below a folder, each with its path in it.

    Hidden entries, pipes and devices are left out, and no link to a folder is followed. So a folder
    cannot lead outside of itself, and a reader of its files cannot wait forever.
    """
    for name, entry in entries_below(folder):
        if not entry.name.startswith(".") and (entry.is_symlink() or entry.is_file()):
            yield name, entry


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """Return the content of a text file, which may be a pipe.

    Raises:
        UserError: It has more than `max_bytes` bytes.
        OSError: It cannot be read.
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
    """Return the SHA-256 digest of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
