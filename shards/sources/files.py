"""The files of a folder or an archive: named byte strings in a fixed order.

They are sorted by the bytes of their names, then by position. So an archive and the folder to which
it unpacks give the same order. A name is the path in the archive or below the folder, with "/".
Nothing is ever written to a path that an archive gives.
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
    """The place of the bytes of an entry in an open file."""

    file: IO[bytes]
    offset: int
    size: int


class Files(ABC):
    """The files of a folder or an archive, which any thread reads by number."""

    by_name = False
    """True if images are recognised by their names alone, as in official files. Then entries with
    other names, and hidden entries, are not counted."""

    def __init__(self, path: Path, names: list[str], listing: Listing | None = None) -> None:
        """Describe the folder or archive `path`, which has the sorted `names`."""
        self.path = path
        self.names = names
        listing = listing or Listing()
        self.lost = listing.lost
        """Entries that are not in `names`: reason -> count."""
        self.folders = listing.folders
        """The paths of the listed folders."""

    @abstractmethod
    def size(self, index: int) -> int:
        """Return the size of entry `index`, bytes.

        Raises:
            OSError: The entry cannot be read.
        """

    @abstractmethod
    def open(self, index: int) -> IO[bytes]:
        """Open entry `index` as a file, which the caller closes.

        Raises:
            UserError: The archive is damaged at this entry.
            OSError: The entry cannot be opened.
        """

    @abstractmethod
    def content(self, index: int) -> bytes:
        """Return the content of entry `index` of any size; only `read` and `read_image` call this.

        Raises:
            UserError: The archive is damaged at this entry.
            OSError: The entry cannot be read.
        """

    def read(self, index: int, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Return the content of entry `index`.

        Raises:
            UserError: The entry has more than `max_bytes`, or the archive is damaged there.
            OSError: The entry cannot be read.
        """
        if (size := self.size(index)) > max_bytes:
            raise UserError(
                f"{self.path}: {self.names[index]!r} has {size:,} bytes, more than {max_bytes:,}"
            )
        return self.content(index)

    def read_image(self, index: int) -> bytes:
        """Return the content of entry `index`, an encoded image.

        Raises:
            BadImage: The image is too large.
            UserError: The archive is damaged at this entry.
            OSError: The entry cannot be read.
        """
        refuse_large(self.size(index), lambda: self.open(index))
        return self.content(index)

    def place(self, index: int) -> Place:
        """Return a place where parts of the content can be read; by default in a temporary copy.

        Raises:
            UserError: There is no room for a copy, or the archive is damaged at this entry.
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
        """Return the regular file that holds entry `index`."""
        return self.path

    @functools.cached_property
    def no_images(self) -> dict[int, str]:
        """Entries that are not images: number -> reason.

        Entries without the name of an image are opened to look at their content.
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
        """Entries that were not taken for images: reason -> count, sorted by reason."""
        counts = Counter(self.lost)
        if self.by_name:
            del counts[HIDDEN]
        else:
            counts.update(self.no_images.values())
        return dict(sorted(counts.items()))

    @property
    def left_out(self) -> str:
        """The end of a message about missing images: "; passed over: hidden: 3", or ""."""
        return f"; passed over: {told(self.passed_over)}" if self.passed_over else ""

    def images(self) -> list[int]:
        """Return the numbers of the entries that are images.

        Raises:
            UserError: There is no image.
        """
        found = [i for i in range(len(self.names)) if i not in self.no_images]
        if not found:
            raise UserError(f"{self.path}: no images in it or below{self.left_out}")
        return found

    @property
    def wrapper(self) -> str:
        """The folder, with "/", that holds all of an archive; "" if there is none."""
        if not self.names or self.path.is_dir():
            return ""
        folder = self.names[0].partition("/")[0] + "/"
        # The names are sorted, so if the first and the last start with the folder, all do.
        is_around_all = all(name.startswith(folder) for name in (self.names[0], self.names[-1]))
        return folder if is_around_all else ""

    def find(self, name: str) -> int:
        """Return the number of the only entry whose path is `name`, or ends with "/" and `name`.

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
        """Return the lines that are not blank of a text file, which is found as by `find`.

        Raises:
            UserError: The file is missing, or is not text in UTF-8.
        """
        return _lines(self.read(self.find(name), MAX_TEXT_BYTES), f"{self.path}: {name}")


class FolderFiles(Files):
    """The regular files below a folder, without links, pipes, devices and hidden entries."""

    def __init__(self, path: Path) -> None:
        """List the files.

        Raises:
            OSError: A folder cannot be listed.
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
        """Return the size of the file, bytes."""
        return os.stat(self.path_of(index)).st_size

    def open(self, index: int) -> IO[bytes]:
        """Open the file itself."""
        return open(self.path_of(index), "rb", buffering=0)

    def content(self, index: int) -> bytes:
        """Return the content of the file."""
        with self.open(index) as file:
            return file.read()

    def place(self, index: int) -> Place:
        """Open the file; the entry is all of it."""
        file = self.open(index)
        return Place(file, 0, os.fstat(file.fileno()).st_size)

    def path_of(self, index: int) -> Path:
        """Return the path of the file itself."""
        return self.path / self.names[index]


def text_lines(path: Path) -> list[str]:
    """Return the lines that are not blank of a text file.

    Raises:
        UserError: The file is not text in UTF-8.
        OSError: The file is missing.
    """
    return _lines(read_text(path), str(path))


def _lines(data: bytes, label: str) -> list[str]:
    try:
        return [line.strip() for line in data.decode().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{label} is not text in UTF-8: {error}") from error


def no_room(what: Path | str, error: BaseException) -> UserError | None:
    """Return the error that asks for another TMPDIR for `what` if `error` is a full disk."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{what}: no room for a temporary copy in {tempfile.gettempdir()}; "
            "set TMPDIR to a folder with more"
        )
    return None


def sorted_by_name(entries: Iterable[Entry]) -> list[Entry]:
    """Sort entries, tuples that begin with a name, by the bytes of their names."""
    return sorted(entries, key=lambda entry: os.fsencode(entry[0]))
