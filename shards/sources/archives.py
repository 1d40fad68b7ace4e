"""Zips and LMDBs as files, and `open_files`, which opens whatever a path is."""

from __future__ import annotations

import lzma
import os
import stat
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shards.cli import UserError
from shards.sources.files import Files, FolderFiles, by_name, visible_name
from shards.sources.tars import TarFiles

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


def open_files(path: Path) -> Files:
    """The files in a folder, an LMDB's folder, a tar (also compressed, also of tars) or a zip.

    Raises:
        UserError: there is none, or it is damaged, or of another kind.
    """
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
    """The regular files of a zip."""

    def __init__(self, path: Path) -> None:
        """Read the directory of the zip.

        Raises:
            UserError: it is damaged, cut short or encrypted.
        """
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise UserError(f"{path}: not a zip, or damaged: {error}") from error
        names, infos = [], []
        for info in self._zip.infolist():
            name = visible_name(info.filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if name is None or info.is_dir() or kind not in (0, stat.S_IFREG):
                continue
            if info.flag_bits & 1:
                raise UserError(f"{path}: {name!r} is encrypted, unpack it to a folder")
            names.append(name)
            infos.append(info)
        order = by_name(names)
        super().__init__(path, [names[i] for i in order])
        self._infos = [infos[i] for i in order]

    def read(self, index: int) -> bytes:
        """The content of the member; `zipfile` itself takes turns between threads."""
        try:
            return self._zip.read(self._infos[index])
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
    """The values of an LMDB by their keys; all of them are taken for images."""

    def __init__(self, folder: Path) -> None:
        """List the keys.

        Raises:
            UserError: the package `lmdb` is not installed, or the database damaged or cut short.
        """
        path = folder / "data.mdb"
        self._environment = _environment(path)
        with _reading(self._environment, path) as transaction:
            self._keys = list(transaction.cursor().iternext(keys=True, values=False))
        super().__init__(path, [os.fsdecode(key) for key in self._keys])

    def images(self) -> list[int]:
        """All entries: keys have no extensions.

        Raises:
            UserError: there is none.
        """
        if not self.names:
            raise UserError(f"{self.path}: no entries")
        return list(range(len(self.names)))

    def read(self, index: int) -> bytes:
        """The value of the key."""
        with _reading(self._environment, self.path) as transaction:
            value = transaction.get(self._keys[index])
        if value is None:  # listed, yet not found: the pages between contradict each other
            raise UserError(f"{self.path}: damaged at key {self.names[index]!r}")
        return value


@contextmanager
def _reading(environment: Any, path: Path) -> Iterator[Any]:
    """A transaction, in which a damaged database is told by its name."""
    import lmdb

    try:
        with environment.begin() as transaction:
            yield transaction
    except lmdb.Error as error:
        raise UserError(f"{path}: damaged: {error}") from error


_environments: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""The open ones by path: a process may open an LMDB only once."""


def _environment(path: Path) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise UserError(f"{path}: needs a package, pip install 'lmdb>=1.4'") from error
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
