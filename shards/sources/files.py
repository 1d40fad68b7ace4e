"""Named byte strings in a fixed order, wherever they lie, and the Source over encoded images.

The order is by name, as bytes, then by position: that of a sorted folder, so that an archive and
the folder that it unpacks to give the same. A name is the path in the archive or below the folder,
with "/". It only names: nothing is written to a path that an archive gives.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from shards.cli import UserError, printable
from shards.disk import visible_files

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""What an image's name ends with, in upper or lower case."""


class Place(NamedTuple):
    """Where the bytes of an entry are: in an open file."""

    file: IO[bytes]
    offset: int
    size: int


class Files(ABC):
    """Byte strings, read by number from any thread."""

    left_out = ""
    """What a message that something is not there adds: "; 3 links are not followed"."""

    def __init__(self, path: Path, names: list[str]) -> None:
        """Of the file or folder `path`; `names` are sorted already."""
        self.path = path
        self.names = names

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The content of entry `index`.

        Raises:
            UserError: the archive is damaged there.
            OSError: it cannot be read.
        """

    def place(self, index: int) -> Place:
        """Where to read parts of the content; by default in a temporary copy without a name.

        Raises:
            UserError: there is no room for a copy, or the archive is damaged there.
            OSError: it cannot be read.
        """
        data = self.read(index)
        copy = tempfile.TemporaryFile()
        try:
            copy.write(data)
            copy.flush()
        except OSError as error:
            raise no_room(self.path, error) or error from None
        return Place(copy, 0, len(data))

    def path_of(self, index: int) -> Path:
        """The regular file that entry `index` lies in."""
        return self.path

    def images(self) -> list[int]:
        """The entries that are images, by their extensions.

        Raises:
            UserError: there is none.
        """
        found = [i for i, name in enumerate(self.names) if name.lower().endswith(EXTENSIONS)]
        if not found:
            raise UserError(
                f"{self.path}: no images ({' '.join(EXTENSIONS)}) in it or below{self.left_out}"
            )
        return found

    @property
    def wrapper(self) -> str:
        """The folder, with "/", around all of an archive; "" if there is none."""
        if not self.names or self.path.is_dir():
            return ""
        folder = self.names[0].partition("/")[0] + "/"
        # The names are sorted, so all between the first and the last start as these two do.
        is_around_all = all(name.startswith(folder) for name in (self.names[0], self.names[-1]))
        return folder if is_around_all else ""

    def find(self, name: str) -> int:
        """The one entry whose path is `name`, or ends with it.

        Raises:
            UserError: there is none, or more than one.
        """
        found = [
            i for i, path in enumerate(self.names) if path == name or path.endswith(f"/{name}")
        ]
        if len(found) != 1:
            raise UserError(f"{self.path}: {len(found)} files {name} in it, expected one")
        return found[0]

    def lines(self, name: str) -> list[str]:
        """The lines of a text file, found as by `find`, without those that are blank.

        Raises:
            UserError: it is not there, or not text in UTF-8.
        """
        return _lines(self.read(self.find(name)), f"{self.path}: {name}")


class FolderFiles(Files):
    """The regular files below a folder, without links, pipes, devices and hidden entries."""

    def __init__(self, path: Path) -> None:
        """List the files; a note on stderr tells how many links were passed over.

        Raises:
            OSError: a folder cannot be listed.
        """
        names = []
        links = 0
        for name, entry in visible_files(path):
            if entry.is_symlink():
                links += 1
            else:
                names.append(name)
        super().__init__(path, sorted(names, key=os.fsencode))
        if links:
            self.left_out = f"; {links} links are not followed"
            print(f"note: {printable(str(path))}: {links} links are not followed", file=sys.stderr)

    def read(self, index: int) -> bytes:
        """The content of the file."""
        with open(self.path_of(index), "rb", buffering=0) as file:
            return file.read()

    def place(self, index: int) -> Place:
        """The file itself, opened."""
        file = open(self.path_of(index), "rb", buffering=0)
        return Place(file, 0, os.fstat(file.fileno()).st_size)

    def path_of(self, index: int) -> Path:
        """The file itself."""
        return self.path / self.names[index]


def text_lines(path: Path) -> list[str]:
    """The lines of a text file without those that are blank.

    Raises:
        UserError: it is not text in UTF-8.
        OSError: it is not there.
    """
    return _lines(path.read_bytes(), str(path))


def _lines(data: bytes, label: str) -> list[str]:
    try:
        return [line.strip() for line in data.decode().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{label} is not text in UTF-8: {error}") from error


def no_room(what: Path | str, error: BaseException) -> UserError | None:
    """If `error` is a full disk, what to tell: the temporary copy of `what` needs another place."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{what}: no room for a temporary copy in {tempfile.gettempdir()}; "
            "set TMPDIR to a folder with more"
        )
    return None


def by_name(names: Sequence[str]) -> list[int]:
    """The places of `names` sorted by their bytes; equal ones stay in the order they are in."""
    keys = [os.fsencode(name) for name in names]
    return sorted(range(len(names)), key=keys.__getitem__)


def visible_name(name: str) -> str | None:
    """A name in an archive as the path that unpacking gives; None for one that is hidden or empty.

    A folder's hidden entries are left out, so those of archives are too (such as the "._x.jpg" that
    macOS adds). "./x", "/x" and "x" are one path; ".." stays, and is harmless.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or any(part.startswith(".") and part != ".." for part in parts):
        return None
    return "/".join(parts)


class ImageFiles:
    """Encoded images, given as they are."""

    channels = 3

    def __init__(
        self,
        files: Files,
        indexes: Sequence[int] | None = None,
        labels: Sequence[int] | None = None,
        classes: Sequence[str] = (),
        more_paths: Sequence[Path] = (),
    ) -> None:
        """Of some entries of `files`.

        Args:
            files: Where they lie.
            indexes: Which entries; by default all images.
            labels: Label of each, if any.
            classes: Name of each label.
            more_paths: Files that the labels are from, where they are not in `files`.

        Raises:
            UserError: there is no image.
        """
        self._files = files
        self._indexes = files.images() if indexes is None else indexes
        if not len(self._indexes):
            raise UserError(f"{files.path}: no images")
        self.labels = None if labels is None else np.array(labels, np.int64)
        self.classes = tuple(classes)
        self.paths = (files.path, *more_paths)
        self._name_start = len(files.wrapper)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._indexes)

    def name(self, index: int) -> str:
        """The path of image `index` in its folder, or in the folder that the archive holds."""
        return self._files.names[self._indexes[index]][self._name_start :]

    def read(self, index: int) -> bytes:
        """The encoded file of image `index`."""
        return self._files.read(self._indexes[index])
