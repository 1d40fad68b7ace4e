"""What is found in a folder or an archive: files, folders, and what is neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from shards.sources.kinds import HIDDEN, OVERWRITTEN

Entry = TypeVar("Entry", bound=tuple[Any, ...])


class Listing:
    """Counts what is no file that can be read, alike for all that files lie in."""

    def __init__(self) -> None:
        """Of nothing yet."""
        self.lost: Counter[str] = Counter()
        """Reason -> count. A folder that is hidden counts once, whatever is in it."""
        self.folders: set[str] = set()
        """Folders that are listed, as paths: also those in which there is no file."""
        self._hidden: set[str] = set()

    def visible(self, name: str, prefix: str = "") -> str | None:
        """A name in an archive as the path that unpacking gives; None if it is hidden or empty.

        A folder's hidden entries are left out, so those of archives are too (such as the "._x.jpg"
        that macOS adds). "./x", "/x" and "x" are one path; ".." stays, and is harmless. `prefix` is
        the folder, with "/", that the archive is unpacked to.
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
        """Count a hidden file or folder, once; but for what a build leaves that goes on later."""
        if path not in self._hidden and not path.endswith(".partial"):
            self._hidden.add(path)
            self.lost[HIDDEN] += 1

    def last_of_each(self, entries: Sequence[Entry]) -> list[Entry]:
        """Of entries, which begin with their names, the last of each name: what unpacking leaves.

        Names that differ in case or in their Unicode form are different.
        """
        last = {entry[0]: entry for entry in entries}
        if overwritten := len(entries) - len(last):
            self.lost[OVERWRITTEN] += overwritten
        return list(last.values())
