"""Where a set came from: digests of its sources, and whether they are the published files."""

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
"""What `Manifest.checks` says of files that have their published md5; and where one or more were
packed anew, so that what is in them has it."""


class Described(NamedTuple):
    """A source file, and how it was held to its published md5."""

    file: SourceFile
    is_packed_anew: bool
    """Its contents have their published md5, the file itself has not."""


def source_name(path: Path) -> str:
    """What a source file or folder is called in a manifest, be it a link or not."""
    return path.absolute().name


def describe(
    path: Path, md5: str | None, contents: Mapping[str, str], stopped: threading.Event
) -> Described:
    """Describe a source file, which is read once, and what is in it if its md5 is another.

    Args:
        path: The file.
        md5: The published one; None when there is none, or it is not to be looked at.
        contents: The published md5 of all that the file is packed of, by name; {} where none is
            published. Who packs it anew, as Debian does, changes the file and not these.
        stopped: Set when the digest is not wanted any more.

    Raises:
        UserError: the md5 is another, and that of its contents too.
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
    is_packed_anew = md5 is not None and seen_md5.hexdigest() != md5
    if is_packed_anew:
        if not contents:
            what = "damaged, packed anew or another version"
            raise _other_md5(f"{path}: md5", seen_md5.hexdigest(), md5, what)
        _check_contents(path, contents, stopped)
    return Described(SourceFile(source_name(path), size, sha256.hexdigest()), is_packed_anew)


def held_to(checks: Sequence[str], is_packed_anew: bool) -> tuple[str, ...]:
    """What a manifest says that the source was held to, now that it was."""
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
    """The files of these names in an archive, or the one in a .gz, some bytes at a time."""
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
