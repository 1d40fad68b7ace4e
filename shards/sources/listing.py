"""Rules for listing entries, by which an archive and its unpacked folder give the same entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from shards.sources.kinds import HIDDEN, OVERWRITTEN

Entry = TypeVar("Entry", bound=tuple[Any, ...])


class Listing:
    """The visible folders in a folder or an archive, and counts of the entries left out."""

    def __init__(self) -> None:
        """Make a listing without folders and counts."""
        self.lost: Counter[str] = Counter()
        """The number of entries that were left out: reason -> count. A hidden folder counts as one
        entry, whatever is in it."""
        self.folders: set[str] = set()
        """The paths of all visible folders, including folders without files."""
        self._hidden: set[str] = set()

    def visible(self, name: str, prefix: str = "") -> str | None:
        """Return the path to which an entry of an archive unpacks.

        The names "./x", "/x" and "x" give the same path. The part ".." is kept, which is harmless
        because nothing is unpacked.

        Args:
            name: The name of the entry in the archive.
            prefix: The text to put before the path, such as "folder/".

        Returns:
            The path. None if the entry is hidden (such as "._x.jpg", which macOS adds), or if its
            name is empty. A hidden entry is counted in `lost`.
        """
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts:
            return None
        for number, part in enumerate(parts, start=1):
            if part.startswith(".") and part != "..":
                self.hide(prefix + "/".join(parts[:number]))
                return None
        return prefix + "/".join(parts)

    def hide(self, path: str) -> None:
        """Count a hidden file or folder in `lost`. Each `path` is counted only once.

        The folder `.<name>.partial`, which an interrupted build leaves, is not counted.
        """
        if path not in self._hidden and not path.endswith(".partial"):
            self._hidden.add(path)
            self.lost[HIDDEN] += 1

    def last_of_each(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the last entry with each name, and count the others in `lost`.

        Unpacking an archive would also keep only the last entry with each name. Names that differ
        in case or in their Unicode form are different names.

        Args:
            entries: The entries in the order of the archive. The first item of each is its name.
        """
        last = {entry[0]: entry for entry in entries}
        if overwritten := len(entries) - len(last):
            self.lost[OVERWRITTEN] += overwritten
        return list(last.values())
