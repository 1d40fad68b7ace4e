"""Named byte strings in a fixed order, wherever they lie.

The order is by name, as bytes, then by position: that of a sorted folder, so that an archive and
the folder that it unpacks to give the same. A name is the path in the archive or below the folder,
with "/". It only names: nothing is written to a path that an archive gives.
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

from shards.disk import MAX_TEXT_BYTES, entries_below, read_text
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
    """Where the bytes of an entry are: in an open file."""

    file: IO[bytes]
    offset: int
    size: int


class Files(ABC):
    """Byte strings, read by number from any thread."""

    by_name = False
    """Whether images are known by their names alone, as in official files; what is no image is
    of no account there."""

    def __init__(self, path: Path, names: list[str], listing: Listing | None = None) -> None:
        """Of the file or folder `path`; `names` are sorted already."""
        self.path = path
        self.names = names
        listing = listing or Listing()
        self.lost = listing.lost
        """Entries that `names` does not have: reason -> count."""
        self.folders = listing.folders
        """Folders that are listed as such, by their paths."""

    @abstractmethod
    def size(self, index: int) -> int:
        """The number of bytes of entry `index`.

        Raises:
            OSError: it cannot be found out.
        """

    @abstractmethod
    def open(self, index: int) -> IO[bytes]:
        """Entry `index` as a file of its own, which the caller closes.

        Raises:
            UserError: the archive is damaged there.
            OSError: it cannot be opened.
        """

    @abstractmethod
    def content(self, index: int) -> bytes:
        """The content of entry `index`, whatever its size; for `read` and `read_image`.

        Raises:
            UserError: the archive is damaged there.
            OSError: it cannot be read.
        """

    def read(self, index: int, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """The content of entry `index`.

        Raises:
            UserError: it is larger than what is meant can be, or the archive is damaged there.
            OSError: it cannot be read.
        """
        if (size := self.size(index)) > max_bytes:
            raise UserError(
                f"{self.path}: {self.names[index]!r} has {size:,} bytes, more than {max_bytes:,}"
            )
        return self.content(index)

    def read_image(self, index: int) -> bytes:
        """The content of entry `index`, an encoded image, unless it is too large to be used.

        Raises:
            BadImage: it is.
            UserError: the archive is damaged there.
            OSError: it cannot be read.
        """
        refuse_large(self.size(index), lambda: self.open(index))
        return self.content(index)

    def place(self, index: int) -> Place:
        """Where to read parts of the content; by default in a temporary copy without a name.

        Raises:
            UserError: there is no room for a copy, or the archive is damaged there.
            OSError: it cannot be read.
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
        """The regular file that entry `index` lies in."""
        return self.path

    @functools.cached_property
    def no_images(self) -> dict[int, str]:
        """The entries that are no images: number -> why. Those that are not named so are opened."""
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
        """What is there and is not taken for an image: reason -> count, by reason."""
        counts = Counter(self.lost)
        if self.by_name:
            del counts[HIDDEN]
        else:
            counts.update(self.no_images.values())
        return dict(sorted(counts.items()))

    @property
    def left_out(self) -> str:
        """What a message that something is not there adds: "; passed over: hidden: 3"."""
        return f"; passed over: {told(self.passed_over)}" if self.passed_over else ""

    def images(self) -> list[int]:
        """The entries that are images.

        Raises:
            UserError: there is none.
        """
        found = [i for i in range(len(self.names)) if i not in self.no_images]
        if not found:
            raise UserError(f"{self.path}: no images in it or below{self.left_out}")
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
        return _lines(self.read(self.find(name), MAX_TEXT_BYTES), f"{self.path}: {name}")


class FolderFiles(Files):
    """The regular files below a folder, without links, pipes, devices and hidden entries."""

    def __init__(self, path: Path) -> None:
        """List the files.

        Raises:
            OSError: a folder cannot be listed.
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
        """The size of the file."""
        return os.stat(self.path_of(index)).st_size

    def open(self, index: int) -> IO[bytes]:
        """The file itself."""
        return open(self.path_of(index), "rb", buffering=0)

    def content(self, index: int) -> bytes:
        """The content of the file."""
        with self.open(index) as file:
            return file.read()

    def place(self, index: int) -> Place:
        """The file itself, opened."""
        file = self.open(index)
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
    return _lines(read_text(path), str(path))


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


def sorted_by_name(entries: Iterable[Entry]) -> list[Entry]:
    """Entries, which begin with their names, sorted by the bytes of these."""
    return sorted(entries, key=lambda entry: os.fsencode(entry[0]))
