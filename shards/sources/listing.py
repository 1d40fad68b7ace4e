"""The listing of a folder or an archive, by the same rules for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from shards.sources.kinds import HIDDEN, OVERWRITTEN

Entry = TypeVar("Entry", bound=tuple[Any, ...])


class Listing:
    """The folders of a listing, and counts of its entries that are not readable files."""

    def __init__(self) -> None:
        """Start an empty listing."""
        self.lost: Counter[str] = Counter()
        """Reason -> count. A hidden folder counts once, whatever it holds."""
        self.folders: set[str] = set()
        """The paths of the listed folders, also of folders without files."""
        self._hidden: set[str] = set()

    def visible(self, name: str, prefix: str = "") -> str | None:
        """Return the path to which a name in an archive unpacks; None if it is hidden or empty.

        Hidden entries (such as the "._x.jpg" that macOS adds) are left out, as in folders. "./x",
        "/x" and "x" are one path. ".." is kept, and is harmless, because nothing is unpacked.

        Args:
            name: The name of the entry in the archive.
            prefix: The folder, with "/", that stands before every path.
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
        """Count a hidden file or folder once, except a folder of a build that was interrupted."""
        if path not in self._hidden and not path.endswith(".partial"):
            self._hidden.add(path)
            self.lost[HIDDEN] += 1

    def last_of_each(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the last entry of each name, which is the one that unpacking leaves.

        An entry is a tuple that begins with its name. Names that differ in case or in their Unicode
        form are different.
        """
        last = {entry[0]: entry for entry in entries}
        if overwritten := len(entries) - len(last):
            self.lost[OVERWRITTEN] += overwritten
        return list(last.values())
