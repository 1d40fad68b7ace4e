"""Reading of the files in zips and LMDBs.

`open_files` opens a folder or any kind of archive.
"""

from __future__ import annotations

import io
import lzma
import os
import stat
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from shards.errors import UserError
from shards.sources.files import Files, FolderFiles, Place, sorted_by_name
from shards.sources.kinds import LINK, SPECIAL
from shards.sources.listing import Listing
from shards.sources.tars import TarFiles

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


def open_files(path: Path, *, by_name: bool = False) -> Files:
    """Open a folder, an LMDB folder, a tar or a zip to read the files in it.

    A tar may be compressed, and may contain other tars.

    Args:
        path: The folder or archive.
        by_name: True if only the names decide which files are images. False if the content of a
            file may decide too.

    Raises:
        UserError: The path is missing, is damaged, or is not a folder or archive of these kinds.
    """
    files = _open(path)
    files.by_name = by_name
    return files


def _open(path: Path) -> Files:
    if (path / "data.mdb").is_file():
        return LmdbFiles(path)
    if path.is_dir():
        return FolderFiles(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    with open(path, "rb") as file:
        is_zip = file.read(4) in _ZIP_MAGIC
    return ZipFiles(path) if is_zip else TarFiles(path)


class ZipFiles(Files):
    """The regular files of a zip. Links and special files are left out."""

    def __init__(self, path: Path) -> None:
        """Read the zip's table of contents.

        Raises:
            UserError: The zip is damaged, cut short or encrypted.
        """
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise UserError(f"{path}: not a zip, or damaged: {error}") from error
        found: list[tuple[str, zipfile.ZipInfo]] = []
        listing = Listing()
        for info in self._zip.infolist():
            name = listing.visible(info.filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if name is None:
                continue
            if info.is_dir():
                listing.folders.add(name)
            elif kind not in (0, stat.S_IFREG):
                listing.lost[LINK if kind == stat.S_IFLNK else SPECIAL] += 1
            elif info.flag_bits & 1:
                raise UserError(f"{path}: {name!r} is encrypted, unpack it to a folder")
            else:
                found.append((name, info))
        found = sorted_by_name(listing.last_of_each(found))
        super().__init__(path, [name for name, _ in found], listing)
        self._infos = [info for _, info in found]

    def size(self, index: int) -> int:
        """Return the unpacked size of member `index` in bytes, as the zip states it.

        If the stated size is wrong, `zipfile` still never unpacks more than this.
        """
        return self._infos[index].file_size

    def open(self, index: int) -> IO[bytes]:
        """Open member `index` as a file that is unpacked while it is read.

        Several threads may read members at the same time, because `zipfile` uses a lock.
        """
        with self._naming(index):
            return self._zip.open(self._infos[index])

    def content(self, index: int) -> bytes:
        """Return the unpacked content of member `index`."""
        with self._naming(index):
            return self._zip.read(self._infos[index])

    def place(self, index: int) -> Place:
        """Unpack member `index` to a temporary file, and return its place in this file."""
        with self._naming(index):
            return super().place(index)

    def _head(self, index: int) -> bytes:
        with self._naming(index):
            return super()._head(index)

    @contextmanager
    def _naming(self, index: int) -> Iterator[None]:
        """Run the block, and turn its errors about a damaged member into `UserError`.

        The message names the zip and the member.
        """
        try:
            yield
        except (
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            EOFError,
            ValueError,
            NotImplementedError,
        ) as error:
            raise UserError(f"{self.path}: {self.names[index]!r} is damaged: {error}") from error


class LmdbFiles(Files):
    """The values of an LMDB. Keys are the names, and every value is read as an image."""

    def __init__(self, folder: Path) -> None:
        """List all keys of the database.

        Raises:
            UserError: The package `lmdb` is not installed, or the database is damaged or cut short.
        """
        path = folder / "data.mdb"
        self._environment = _environment(path)
        with _reading(self._environment, path) as transaction:
            self._keys = list(transaction.cursor().iternext(keys=True, values=False))
        super().__init__(path, [os.fsdecode(key) for key in self._keys])

    def images(self) -> list[int]:
        """Return the numbers of all entries. Every entry counts as an image.

        Keys have no file extensions that could show which entries are images.

        Raises:
            UserError: The database has no entry.
        """
        if not self.names:
            raise UserError(f"{self.path}: no entries")
        return list(range(len(self.names)))

    @property
    def no_images(self) -> dict[int, str]:
        """Always empty, because every value is read as an image."""
        return {}

    def size(self, index: int) -> int:
        """Return the size of value `index` in bytes."""
        with _reading(self._environment, self.path, buffers=True) as transaction:
            return len(transaction.get(self._keys[index], b""))

    def open(self, index: int) -> IO[bytes]:
        """Return value `index` as an open file."""
        return io.BytesIO(self.content(index))

    def content(self, index: int) -> bytes:
        """Return value `index`, the content of an image file."""
        with _reading(self._environment, self.path) as transaction:
            value = transaction.get(self._keys[index])
        if value is None:  # The key was listed, but is not found: the database is damaged.
            raise UserError(f"{self.path}: damaged at key {self.names[index]!r}")
        return value


@contextmanager
def _reading(environment: Any, path: Path, **options: Any) -> Iterator[Any]:
    """Open a read transaction. LMDB's errors in the block become `UserError` with the path."""
    import lmdb

    try:
        with environment.begin(**options) as transaction:
            yield transaction
    except lmdb.Error as error:
        raise UserError(f"{path}: damaged: {error}") from error


_environments: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""The open databases: path -> database. A process may open the same LMDB only once."""


def _environment(path: Path) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise UserError(f"{path}: an LMDB needs a package, pip install 'lmdb>=1.4'") from error
    real_path = os.path.realpath(path)
    environment = _environments.get(real_path)
    if environment is None:
        try:
            environment = lmdb.open(real_path, subdir=False, readonly=True, lock=False)
            needed_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        except lmdb.Error as error:
            raise UserError(f"{path}: not an LMDB, or damaged: {error}") from error
        # Reading a mapped page beyond the end of the file would kill the process.
        if path.stat().st_size < needed_bytes:
            raise UserError(
                f"{path}: cut short, {path.stat().st_size} bytes, expected {needed_bytes}"
            )
        _environments[real_path] = environment
    return environment
