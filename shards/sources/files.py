"""`Files`, the interface to the files of a folder or an archive, and `FolderFiles` for folders.

A file has a name, which is its path in the folder or archive, with "/". Files are sorted by the
bytes of their names, and files of the same name by their position. So an archive and the folder to
which it unpacks give the same order. A path from an archive is never used to write a file.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, NamedTuple

from shards.disk.reading import MAX_TEXT_BYTES, entries_below, read_text
from shards.errors import UserError
from shards.pixels.limits import MAX_FILE_BYTES, refuse_large
from shards.sources.kinds import (
    HEAD_BYTES,
    HIDDEN,
    LINK,
    SPECIAL,
    is_named_image,
    told,
    why_no_image,
)
from shards.sources.listing import Entry, Listing


class Place(NamedTuple):
    """The part of an open file that holds the content of one entry."""

    file: IO[bytes]
    offset: int
    size: int


class Files(ABC):
    """The files of a folder or an archive, as numbered entries. Any thread may read an entry."""

    by_name = False
    """True if only the names decide which entries are images, as in official files. In that case,
    entries with other names and hidden entries are not counted in `passed_over`."""

    def __init__(self, path: Path, names: list[str], listing: Listing | None = None) -> None:
        """Store the path of the folder or archive, and the sorted names of its entries.

        `listing` has the folders, and the counts of files that are not in `names`.
        """
        self.path = path
        self.names = names
        listing = listing or Listing()
        self.lost = listing.lost
        """The number of files and links that were left out of `names`: reason -> count."""
        self.folders = listing.folders
        """The paths of all visible folders in the folder or archive."""

    @abstractmethod
    def size(self, index: int) -> int:
        """Return the size of entry `index` in bytes.

        Raises:
            OSError: The entry cannot be read.
        """

    @abstractmethod
    def open(self, index: int) -> IO[bytes]:
        """Open entry `index` as a file. The caller must close the file.

        Raises:
            UserError: The archive is damaged at this entry.
            OSError: The entry cannot be opened.
        """

    @abstractmethod
    def content(self, index: int) -> bytes:
        """Return the content of entry `index`, of any size; `read` and `read_image` limit it.

        Raises:
            UserError: The archive is damaged at this entry.
            OSError: The entry cannot be read.
        """

    def read(self, index: int, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Return the content of entry `index`.

        Raises:
            UserError: The entry is larger than `max_bytes`, or the archive is damaged at this
                entry.
            OSError: The entry cannot be read.
        """
        if (size := self.size(index)) > max_bytes:
            raise UserError(
                f"{self.path}: {self.names[index]!r} has {size:,} bytes, more than {max_bytes:,}"
            )
        return self.content(index)

    def read_image(self, index: int) -> bytes:
        """Return the encoded image that is entry `index`.

        Raises:
            BadImage: The image is too large.
            UserError: The archive is damaged at this entry.
            OSError: The entry cannot be read.
        """
        refuse_large(self.size(index), lambda: self.open(index))
        return self.content(index)

    def place(self, index: int) -> Place:
        """Return an open file, and the part of it that is the content of entry `index`.

        By default, the file is a temporary copy of the content.

        Raises:
            UserError: There is no room for the copy, or the archive is damaged at this entry.
            OSError: The entry cannot be read.
        """
        copy = tempfile.TemporaryFile()
        with self.open(index) as packed:
            try:
                shutil.copyfileobj(packed, copy, 1 << 20)
                copy.flush()
            except OSError as error:
                raise no_room(self.path, error) or error from None
        return Place(copy, 0, self.size(index))

    def path_of(self, index: int) -> Path:
        """Return the path of the file on disk that holds entry `index`, such as the archive."""
        return self.path

    @functools.cached_property
    def no_images(self) -> dict[int, str]:
        """The entries that are not images: number of the entry -> reason.

        If `by_name` is False, an entry that is not named like an image is opened, and its first
        bytes decide.
        """
        if self.by_name:
            return {i: "" for i, name in enumerate(self.names) if not is_named_image(name)}
        whys = (
            (i, why_no_image(name, functools.partial(self._head, i)))
            for i, name in enumerate(self.names)
        )
        return {i: why for i, why in whys if why is not None}

    def _head(self, index: int) -> bytes:
        with self.open(index) as file:
            return file.read(HEAD_BYTES)

    @property
    def passed_over(self) -> dict[str, int]:
        """The number of entries that are not used as images: reason -> count, sorted by reason."""
        counts = Counter(self.lost)
        if self.by_name:
            del counts[HIDDEN]
        else:
            counts.update(self.no_images.values())
        return dict(sorted(counts.items()))

    @property
    def left_out(self) -> str:
        """The end of an error message, such as "; passed over: hidden: 3".

        The text is empty if no entry is passed over.
        """
        return f"; passed over: {told(self.passed_over)}" if self.passed_over else ""

    def images(self) -> list[int]:
        """Return the numbers of the entries that are images.

        Raises:
            UserError: No entry is an image.
        """
        found = [i for i in range(len(self.names)) if i not in self.no_images]
        if not found:
            raise UserError(f"{self.path}: no images in it or below{self.left_out}")
        return found

    @property
    def wrapper(self) -> str:
        """The top folder that contains all entries of an archive, such as "images/".

        The text is empty if there is no such folder, or if `path` is a folder and not an archive.
        """
        if not self.names or self.path.is_dir():
            return ""
        folder = self.names[0].partition("/")[0] + "/"
        # The names are sorted, so if the first and the last start with the folder, all do.
        is_around_all = all(name.startswith(folder) for name in (self.names[0], self.names[-1]))
        return folder if is_around_all else ""

    def find(self, name: str) -> int:
        """Return the number of the only entry with the path `name` or `<any folders>/name`.

        Raises:
            UserError: There is no such entry, or more than one.
        """
        found = [
            i for i, path in enumerate(self.names) if path == name or path.endswith(f"/{name}")
        ]
        if len(found) != 1:
            raise UserError(f"{self.path}: {len(found)} files {name} in it, expected one")
        return found[0]

    def lines(self, name: str) -> list[str]:
        """Return the lines, without blank lines, of the text file that `find(name)` finds.

        Raises:
            UserError: The file is missing, is too large, or is not text in UTF-8.
        """
        return _lines(self.read(self.find(name), MAX_TEXT_BYTES), f"{self.path}: {name}")


class FolderFiles(Files):
    """The regular files below a folder. Links, pipes, devices and hidden entries are left out."""

    def __init__(self, path: Path) -> None:
        """List all files below the folder `path`.

        Raises:
            OSError: The folder, or a folder below it, cannot be listed.
        """
        names = []
        listing = Listing()
        for name, entry in entries_below(path):
            if entry.name.startswith("."):
                listing.hide(name)
            elif entry.is_symlink():
                listing.lost[LINK] += 1
            elif entry.is_dir():
                listing.folders.add(name)
            elif entry.is_file():
                names.append(name)
            else:
                listing.lost[SPECIAL] += 1
        super().__init__(path, sorted(names, key=os.fsencode), listing)

    def size(self, index: int) -> int:
        """Return the size of file `index` in bytes."""
        return os.stat(self.path_of(index)).st_size

    def open(self, index: int) -> IO[bytes]:
        """Open file `index` on the disk."""
        return open(self.path_of(index), "rb", buffering=0)

    def content(self, index: int) -> bytes:
        """Return the content of file `index`."""
        with self.open(index) as file:
            return file.read()

    def place(self, index: int) -> Place:
        """Open file `index` on the disk, and return the place that covers the whole file."""
        file = self.open(index)
        return Place(file, 0, os.fstat(file.fileno()).st_size)

    def path_of(self, index: int) -> Path:
        """Return the path of file `index`."""
        return self.path / self.names[index]


def text_lines(path: Path) -> list[str]:
    """Return the lines of a text file without blank lines.

    Raises:
        UserError: The file is too large, or is not text in UTF-8.
        OSError: The file is missing or cannot be read.
    """
    return _lines(read_text(path), str(path))


def _lines(data: bytes, label: str) -> list[str]:
    try:
        return [line.strip() for line in data.decode().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{label} is not text in UTF-8: {error}") from error


def no_room(what: Path | str, error: BaseException) -> UserError | None:
    """Return a `UserError` that asks for another TMPDIR, if the disk was full; otherwise None.

    `error` was raised when the file or URL `what` was copied to a temporary file.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{what}: no room for a temporary copy in {tempfile.gettempdir()}; "
            "set TMPDIR to a folder with more"
        )
    return None


def sorted_by_name(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries sorted by the bytes of their names. The first item of an entry is its name."""
    return sorted(entries, key=lambda entry: os.fsencode(entry[0]))
