"""Files: those below a folder, and making sure that what was written is on the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from shards.cli import UserError


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def visible_files(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files and links below a folder, each with its path in it; links are not followed.

    Hidden entries, pipes and devices are left out. So a folder cannot lead outside of itself, and
    what reads its files cannot wait for ever.
    """
    folders = [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{prefix}{entry.name}/")
                elif entry.is_symlink() or entry.is_file():
                    yield prefix + entry.name, entry


def write_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a new file and wait until it is on the disk."""
    with open(path, "xb") as out:
        out.writelines(parts)
        out.flush()
        os.fsync(out.fileno())


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
