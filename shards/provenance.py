"""Where a set came from: digests of its sources, and whether they are the published files."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path

from shards.cli import UserError
from shards.disk import visible_files
from shards.manifest import SourceFile

BLOCK_BYTES = 1 << 18


def source_name(path: Path) -> str:
    """What a source file or folder is called in a manifest, be it a link or not."""
    return path.absolute().name


def describe(path: Path, md5: str | None, stopped: threading.Event) -> SourceFile:
    """Name, size and digest of a source file, read once.

    Args:
        path: The file.
        md5: The published one; None when there is none, or it is not to be looked at.
        stopped: Set when the digest is not wanted any more.

    Raises:
        UserError: the md5 is another.
        CancelledError: it was stopped.
    """
    sha256 = hashlib.sha256()
    seen_md5 = hashlib.md5(usedforsecurity=False)
    size = 0
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            if stopped.is_set():
                raise CancelledError
            sha256.update(buffer[:count])
            if md5 is not None:
                seen_md5.update(buffer[:count])
            size += count
    if md5 is not None and seen_md5.hexdigest() != md5:
        raise UserError(
            f"{path}: md5 is {seen_md5.hexdigest()}, published is {md5}; it is damaged or another "
            "version (--no-md5 takes it as it is)"
        )
    return SourceFile(source_name(path), size, sha256.hexdigest())


def describe_folder(folder: Path, read_bytes: int, digest: int) -> SourceFile:
    """The entry of a folder, from the sums over all its images."""
    return SourceFile(source_name(folder), read_bytes, f"{digest % (1 << 256):064x}")


def stamp(paths: Sequence[Path]) -> str:
    """Changes when a source does: from names, sizes and times, not contents.

    Names are those in a folder, and hidden entries do not count, so the same source has the same
    stamp from wherever it is named. It is a sum, for there may be a million names.
    """
    total = 0
    for place, path in enumerate(paths):
        for name, status in _files(path):
            facts = f"\0{place}\0{status.st_size}\0{status.st_mtime_ns}"
            digest = hashlib.sha256(os.fsencode(name) + facts.encode()).digest()
            total += int.from_bytes(digest, "big")
    return f"{total % (1 << 256):064x}"


def _files(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """A file, or the files below a folder, by their names in it."""
    if not path.is_dir():
        yield source_name(path), os.stat(path)
        return
    for name, entry in visible_files(path):
        if not entry.is_symlink():
            yield name, entry.stat()
