"""Where a set came from: digests of its sources, and whether they are the published files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from shards.cli import UserError
from shards.manifest import SourceFile

BLOCK_BYTES = 1 << 18


def describe(path: Path, md5: str | None) -> SourceFile:
    """Name, size and digest of a source file, read once.

    Args:
        path: The file.
        md5: The published one; None when there is none, or it is not to be looked at.

    Raises:
        UserError: the md5 is another.
    """
    sha256 = hashlib.sha256()
    seen_md5 = hashlib.md5(usedforsecurity=False)
    size = 0
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            sha256.update(buffer[:count])
            if md5 is not None:
                seen_md5.update(buffer[:count])
            size += count
    if md5 is not None and seen_md5.hexdigest() != md5:
        raise UserError(
            f"{path}: md5 is {seen_md5.hexdigest()}, published is {md5}; it is damaged or another "
            "version (--no-md5 takes it as it is)"
        )
    return SourceFile(path.name, size, sha256.hexdigest())


def describe_folder(folder: Path, read_bytes: int, digest: int) -> SourceFile:
    """The entry of a folder, from the sums over all its images."""
    return SourceFile(folder.resolve().name, read_bytes, f"{digest % (1 << 256):064x}")


def stamp(paths: Sequence[Path]) -> str:
    """Changes when a source file does: a digest of names, sizes and times, not of contents."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(_files(path), key=os.fsencode):
            status = os.stat(file, follow_symlinks=False)
            facts = f"\0{status.st_size}\0{status.st_mtime_ns}\0"
            digest.update(os.fsencode(file) + facts.encode())
    return digest.hexdigest()


def _files(path: Path) -> list[str]:
    if not path.is_dir():
        return [str(path)]
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
