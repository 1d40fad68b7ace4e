"""Reading of the files in tars. No member is extracted: it is read from its place in the tar.

A compressed tar is decompressed once, into a temporary file without a name. A tar may contain inner
tars (ImageNet's train archive contains 1,000). Members of inner tars are not extracted either. They
are named as if the inner tar were unpacked to a folder. For example, the inner tar `n01440764.tar`
has the member `n01440764/n01440764_10026.JPEG`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from shards.disk.file_system import naming
from shards.errors import UserError
from shards.format.tar import BLOCK_BYTES
from shards.sources.files import Files, Place, no_room, sorted_by_name
from shards.sources.kinds import LINK, SPECIAL
from shards.sources.listing import Listing

_DECOMPRESSORS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


MAX_HEADER_BYTES = 16 << 20
"""The largest header that is accepted, in bytes. A usual header has a few KB."""


class Member(NamedTuple):
    """A regular file in a tar, and the offset and size of its content in bytes."""

    name: str
    offset: int
    size: int


class TarFiles(Files):
    """The regular files in a tar and in its inner tars. Links and special files are left out.

    A hard link to a file before it in the tar counts as a regular file.
    """

    def __init__(self, path: Path) -> None:
        """Read all headers of the tar `path` and of its inner tars.

        Raises:
            UserError: The file is not a tar, is damaged or cut short, or the disk has no room for
                the decompressed copy.
        """
        self._file = open_tar(path)
        listing = Listing()
        members: list[Member] = []
        for member in listing.last_of_each(tar_members(self._file, str(path), listing)):
            if not member.name.endswith(".tar"):
                members.append(member)
                continue
            label, folder = f"{path}: {member.name}", member.name.removesuffix(".tar")
            listing.folders.add(folder)
            members += tar_members(self._file, label, listing, member, f"{folder}/")
        members = sorted_by_name(listing.last_of_each(members))
        super().__init__(path, [member.name for member in members], listing)
        self._offsets = np.array([member.offset for member in members], np.int64)
        self._sizes = np.array([member.size for member in members], np.int64)

    def size(self, index: int) -> int:
        """Return the size of member `index` in bytes."""
        return int(self._sizes[index])

    def open(self, index: int) -> IO[bytes]:
        """Open member `index` as a file."""
        return member_file(self._file, self.path, *self.place(index)[1:])

    def content(self, index: int) -> bytes:
        """Return the content of member `index`."""
        return read_at(self._file.fileno(), self._offsets[index], self._sizes[index], self.path)

    def place(self, index: int) -> Place:
        """Return the place of member `index` in the tar or in the decompressed copy of the tar."""
        return Place(self._file, int(self._offsets[index]), int(self._sizes[index]))


def open_tar(path: Path) -> IO[bytes]:
    """Open a tar so that it can be read at any position.

    A compressed tar is decompressed to a temporary file, and this file is returned.

    Raises:
        UserError: The tar cannot be decompressed, or the disk has no room for the copy.
    """
    file = open(path, "rb")
    head = file.read(max(map(len, _DECOMPRESSORS)))
    for magic, decompressor in _DECOMPRESSORS.items():
        if head.startswith(magic):
            file.close()
            return _decompressed(path, decompressor)
    return file


def _decompressed(path: Path, decompressor: Callable[[Path], Any]) -> IO[bytes]:
    copy = tempfile.TemporaryFile()
    try:
        with decompressor(path) as packed:
            shutil.copyfileobj(packed, copy, 1 << 20)
        copy.flush()
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise no_room(path, error) or UserError(
            f"{path}: cannot be decompressed: {error}"
        ) from error
    return copy


def tar_members(
    file: IO[Any],
    label: str,
    listing: Listing,
    inside: Member | None = None,
    prefix: str = "",
) -> list[Member]:
    """Return the regular, visible members of a tar in the order of the tar.

    A name may occur more than once.

    Args:
        file: The file that contains the tar.
        label: The name of the tar in error messages.
        listing: Receives the folders of the tar, and the counts of the members that are left out.
        inside: The inner tar to list, which is a member of the tar in `file`. None means that the
            whole file is the tar to list.
        prefix: The text to put before the names of the members, such as "folder/".

    Raises:
        UserError: The file is not a tar, is cut short, or has a damaged header or a sparse member.
    """
    start = inside.offset if inside else 0
    end = start + inside.size if inside else os.fstat(file.fileno()).st_size
    file.seek(start)
    members: list[Member] = []
    places: dict[str, Member] = {}
    try:
        tar: Any
        with tarfile.TarFile(fileobj=_Headers(file)) as tar:  # type: ignore[arg-type]
            while (info := tar.next()) is not None:
                tar.members.clear()  # `tarfile` would keep all headers, 1 KB each.
                if info.size < 0:  # `tar.next` would go back to an earlier header, endlessly.
                    raise UserError(f"{label}: damaged, {info.name!r} has {info.size} bytes")
                if info.isreg() and info.issparse():
                    raise UserError(f"{label}: {info.name!r} is a sparse file, store it as a whole")
                name = listing.visible(info.name, prefix)
                if name is None:
                    continue
                if info.isreg():
                    members.append(Member(name, info.offset_data, info.size))
                    places[name] = members[-1]
                elif info.islnk() and (target := places.get(_path(info.linkname, prefix))):
                    # A hard link to an earlier member becomes a regular file when it is unpacked.
                    members.append(target._replace(name=name))
                elif info.isdir():
                    listing.folders.add(name)
                else:
                    is_link = info.issym() or info.islnk()
                    listing.lost[LINK if is_link else SPECIAL] += 1
            stopped_at = tar.offset
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        raise UserError(f"{label}: not a tar, or damaged: {error}") from error
    # `tarfile` stops silently at a damaged header and at the end of a cut file. It stops beyond
    # `end` if the stated size of a member reaches beyond `end`.
    file.seek(stopped_at)
    if stopped_at + BLOCK_BYTES > end or any(file.read(BLOCK_BYTES)):
        raise UserError(
            f"{label}: damaged or cut short, no header and no end of the tar at byte {stopped_at}"
        )
    return members


class _Headers:
    """A file that `tarfile` reads headers from. Headers that state a huge size are refused."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)


def _path(name: str, prefix: str) -> str:
    return prefix + "/".join(part for part in name.split("/") if part not in ("", "."))


class _MemberFile(io.RawIOBase):
    """A part of an open file, as a file object with its own position.

    Reading the part does not change the position of the whole file.
    """

    def __init__(self, handle: int, offset: int, size: int, path: Path) -> None:
        self._handle, self._offset, self._size, self._path = handle, offset, size, path
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._at))
        buffer[:count] = read_at(self._handle, self._offset + self._at, count, self._path)
        self._at += count
        return count


def member_file(file: IO[bytes], path: Path, offset: int, size: int) -> IO[bytes]:
    """Return a part of an open file as a file object with its own position.

    Args:
        file: The open file. It must stay open.
        path: The path of the file, for error messages.
        offset: The start of the part, in bytes.
        size: The size of the part, in bytes.
    """
    return io.BufferedReader(_MemberFile(file.fileno(), offset, size, path), 1 << 16)


def read_at(handle: int, offset: int, size: int, path: Path) -> bytes:
    """Return `size` bytes at `offset` of an open file. Any thread may call this function.

    Args:
        handle: The file descriptor.
        offset: The start in the file, in bytes.
        size: The number of bytes.
        path: The path of the file, for error messages.

    Raises:
        UserError: The file was cut after it was opened.
    """
    with naming(path):
        data = os.pread(handle, size, offset)
    if len(data) != size:
        raise UserError(f"{path}: {len(data)} bytes at byte {offset}, expected {size}")
    return data
