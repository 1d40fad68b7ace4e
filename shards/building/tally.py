"""What becomes of images on their way into a set, beside what its tars hold of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from shards.errors import UserError


@dataclass
class Tally:
    """About images that follow each other in the order of a set."""

    names: list[str] = field(default_factory=list)
    """Of the images that are in the set."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """Height and width, px, of each of them in the source."""
    rejects: list[dict[str, str]] = field(default_factory=list)
    """{"name", "reason"} of those that are not."""
    several: int = 0
    """Image files that hold further pictures than the one that was taken."""
    read_bytes: int = 0
    digest: int = 0
    """Bytes and digest of the image files, rejects included: see `SourceFile`."""

    @property
    def images(self) -> int:
        """Images in all, good or bad."""
        return len(self.names) + len(self.rejects)

    def note_file(self, name: str, size: int, sha256: bytes) -> None:
        """Count an image file, selected or not, in what is known of its folder."""
        self.read_bytes += size
        digest = hashlib.sha256(os.fsencode(name) + b"\0" + sha256).digest()
        self.digest += int.from_bytes(digest, "big")

    def add(self, later: Tally) -> None:
        """Take in what is known of the images that follow."""
        self.names += later.names
        self.sizes += later.sizes
        self.rejects += later.rejects
        self.several += later.several
        self.read_bytes += later.read_bytes
        self.digest += later.digest


class RejectBudget:
    """Fails a build that rejects too much, rather than make a small set of it."""

    def __init__(self, max_rejects: int, src: object) -> None:
        """At most `max_rejects` images of `src` may be bad."""
        self._max_rejects = max_rejects
        self._src = src
        self._first: list[str] = []
        self.rejects = 0

    def spend(self, rejects: Sequence[dict[str, str]]) -> None:
        """Count rejects; a `UserError` that names the first of all when there are too many."""
        self.rejects += len(rejects)
        self._first += [f"{r['name']} ({r['reason']})" for r in rejects[: 3 - len(self._first)]]
        if self.rejects > self._max_rejects:
            raise UserError(
                f"{self._src}: {self.rejects} images are bad, max_rejects_pct allows "
                f"{self._max_rejects}: {', '.join(self._first)} (--max-rejects-pct 100 lists all)"
            )
