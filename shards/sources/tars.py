"""Tars as files: members are found by their headers and read in place, never extracted.

A compressed tar is decompressed once, into a temporary file that has no name. A member that is a
tar itself (ImageNet's train archive is a tar of 1,000) is read in place too, its members named as
if it had been unpacked into a folder: `n01440764.tar` holds `n01440764/n01440764_10026.JPEG`.
"""

from __future__ import annotations

import bz2
import gzip
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

from shards.cli import UserError
from shards.disk import naming
from shards.sources.files import Files, Place, by_name, no_room, visible_name
from shards.tar import BLOCK_BYTES

_DECOMPRESSORS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


class Member(NamedTuple):
    """A regular file in a tar, and where its bytes are."""

    name: str
    offset: int
    size: int


class TarFiles(Files):
    """The regular members of a tar, and of the tars in it; links and special files are left out."""

    def __init__(self, path: Path) -> None:
        """Scan the headers.

        Raises:
            UserError: it is not a tar, damaged or cut short, or there is no room to decompress it.
        """
        self._file = open_tar(path)
        members: list[Member] = []
        for member in tar_members(self._file, str(path)):
            if not member.name.endswith(".tar"):
                members.append(member)
                continue
            inner = tar_members(
                self._file, f"{path}: {member.name}", member.offset, member.offset + member.size
            )
            members += [m._replace(name=f"{member.name[:-4]}/{m.name}") for m in inner]
        names = [member.name for member in members]
        order = by_name(names)
        super().__init__(path, [names[i] for i in order])
        self._offsets = np.array([members[i].offset for i in order], np.int64)
        self._sizes = np.array([members[i].size for i in order], np.int64)

    def read(self, index: int) -> bytes:
        """The content of the member."""
        return read_at(self._file.fileno(), self._offsets[index], self._sizes[index], self.path)

    def place(self, index: int) -> Place:
        """The member in the tar, or in its decompressed copy."""
        return Place(self._file, int(self._offsets[index]), int(self._sizes[index]))


def open_tar(path: Path) -> IO[bytes]:
    """A tar for reading at any place; of a compressed one, a decompressed copy without a name.

    Raises:
        UserError: it cannot be decompressed, or there is no room for that.
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


def tar_members(file: IO[Any], label: str, start: int = 0, end: int | None = None) -> list[Member]:
    """The regular, visible members of a tar, in its order; equal names are several members.

    Args:
        file: Holds the tar.
        label: What to call it in a message.
        start: Where in `file` the tar begins.
        end: Where it ends; by default with `file`.

    Raises:
        UserError: it is not a tar, cut short, has a damaged header or a sparse member.
    """
    end = os.fstat(file.fileno()).st_size if end is None else end
    file.seek(start)
    members = []
    try:
        tar: Any
        with tarfile.TarFile(fileobj=file) as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # or all TarInfo, 1 KB each, are kept
                if info.size < 0:  # would lead back, and round for ever
                    raise UserError(f"{label}: damaged, {info.name!r} has {info.size} bytes")
                if not info.isreg():
                    continue
                if info.issparse():
                    raise UserError(f"{label}: {info.name!r} is a sparse file, store it as a whole")
                name = visible_name(info.name)
                if name is not None:
                    members.append(Member(name, info.offset_data, info.size))
            stopped_at = tar.offset
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        raise UserError(f"{label}: not a tar, or damaged: {error}") from error
    # `tarfile` also stops, without a word, at a damaged header and at the end of a cut file; it
    # stops after `end` if a member says that it goes on there.
    file.seek(stopped_at)
    if stopped_at + BLOCK_BYTES > end or any(file.read(BLOCK_BYTES)):
        raise UserError(
            f"{label}: damaged or cut short, no header and no end of the tar at byte {stopped_at}"
        )
    return members


def read_at(handle: int, offset: int, size: int, path: Path) -> bytes:
    """Bytes of an open file, from any thread.

    Raises:
        UserError: the file became shorter since it was opened.
    """
    with naming(path):
        data = os.pread(handle, size, offset)
    if len(data) != size:
        raise UserError(f"{path}: {len(data)} bytes at byte {offset}, expected {size}")
    return data
