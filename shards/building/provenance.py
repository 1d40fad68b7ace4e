"""The origin of a set: checksums of its source files, and their comparison with published md5s."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import NamedTuple

from shards.disk.reading import visible_files
from shards.errors import UserError
from shards.manifest import SourceFile
from shards.sources.archives import open_files
from shards.sources.files import Place
from shards.sources.idx import idx_blocks

BLOCK_BYTES = 1 << 18
MD5, MD5_OF_CONTENTS = "md5", "md5 of contents"
"""Possible entries of `Manifest.checks`. `MD5` means that each source file has its published md5.
`MD5_OF_CONTENTS` means that at least one archive was packed again: it has another md5, but the
files inside have their published md5."""


class Described(NamedTuple):
    """A source file with its checksum, and the result of the md5 check."""

    file: SourceFile
    is_packed_anew: bool
    """True if the file does not have its published md5, but the files inside have theirs."""


def source_name(path: Path) -> str:
    """Return the name under which a source file or folder stands in a manifest.

    For a symbolic link this is the name of the link, not of its target.
    """
    return path.absolute().name


def describe(
    path: Path, md5: str | None, contents: Mapping[str, str], stopped: threading.Event
) -> Described:
    """Read a source file, compute its sha256, and check its md5.

    If the md5 of the file is not the published one, the md5 of each file inside is checked instead.
    An archive that was packed again, as Debian does, has another md5, but the same files inside.

    Args:
        path: The file.
        md5: The published md5; None if there is none, or if it shall not be checked.
        contents: Name -> published md5, for each file inside; {} if none is published.
        stopped: An event that is set when the result is not needed any more.

    Raises:
        UserError: Neither the file nor its contents have the published md5.
        CancelledError: `stopped` was set.
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
    is_packed_anew = md5 is not None and seen_md5.hexdigest() != md5
    if is_packed_anew:
        if not contents:
            what = "damaged, packed anew or another version"
            raise _other_md5(f"{path}: md5", seen_md5.hexdigest(), md5, what)
        _check_contents(path, contents, stopped)
    return Described(SourceFile(source_name(path), size, sha256.hexdigest()), is_packed_anew)


def held_to(checks: Sequence[str], is_packed_anew: bool) -> tuple[str, ...]:
    """Return the value of `Manifest.checks` for a finished set.

    Args:
        checks: The checks that the request asked for.
        is_packed_anew: True if an archive was packed again (see `Described`); then `MD5` is
            replaced by `MD5_OF_CONTENTS`.
    """
    return tuple(MD5_OF_CONTENTS if is_packed_anew and one == MD5 else one for one in checks)


def _check_contents(path: Path, contents: Mapping[str, str], stopped: threading.Event) -> None:
    for name, blocks in _unpacked(path, list(contents)):
        seen = hashlib.md5(usedforsecurity=False)
        for block in blocks:
            if stopped.is_set():
                raise CancelledError
            seen.update(block)
        if seen.hexdigest() != contents[name]:
            what = "damaged or another version"
            subject = f"{path}: md5 of {name} in it"
            raise _other_md5(subject, seen.hexdigest(), contents[name], what)


def _unpacked(path: Path, names: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield each named file in an archive or .gz file: its name and an iterator over its blocks."""
    if list(names) == [path.stem]:
        yield path.stem, idx_blocks(path, BLOCK_BYTES)
        return
    files = open_files(path)
    for name in names:
        yield name, _blocks(files.place(files.find(name)))


def _blocks(place: Place) -> Iterator[bytes]:
    end = place.offset + place.size
    for start in range(place.offset, end, BLOCK_BYTES):
        yield os.pread(place.file.fileno(), min(BLOCK_BYTES, end - start), start)


def _other_md5(subject: str, seen: str, published: str | None, what: str) -> UserError:
    return UserError(
        f"{subject} is {seen}, published is {published}; it is {what} (--no-md5 takes it as it is)"
    )


def describe_folder(folder: Path, read_bytes: int, digest: int) -> SourceFile:
    """Return the entry of a folder of images in the manifest.

    Args:
        folder: The folder.
        read_bytes: The total size of its images (`Tally.read_bytes`).
        digest: The total checksum of its images (`Tally.digest`).
    """
    return SourceFile(source_name(folder), read_bytes, f"{digest % (1 << 256):064x}")


def stamp(paths: Sequence[Path]) -> str:
    """Return a digest of the names, sizes and modification times of a source's files.

    The digest changes when a file changes, but no content is read. Names are relative to the
    source, and hidden files are ignored, so a source that is moved keeps its digest. The digest is
    a sum over the files, so it does not depend on the order in which a file system lists them.
    """
    total = 0
    for place, path in enumerate(paths):
        for name, status in _files(path):
            facts = f"\0{place}\0{status.st_size}\0{status.st_mtime_ns}"
            digest = hashlib.sha256(os.fsencode(name) + facts.encode()).digest()
            total += int.from_bytes(digest, "big")
    return f"{total % (1 << 256):064x}"


def _files(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the name and the status of a file, or of each file below a folder.

    Names are relative to the folder. Hidden files and symbolic links in the folder are left out.
    """
    if not path.is_dir():
        yield source_name(path), os.stat(path)
        return
    for name, entry in visible_files(path):
        if not entry.is_symlink():
            yield name, entry.stat()
