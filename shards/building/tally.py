"""Counts of good and bad images of a build: all that its tars do not hold."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from shards.errors import UserError


@dataclass
class Tally:
    """Facts about consecutive images in the order of a set."""

    names: list[str] = field(default_factory=list)
    """Names in the source of the images that are in the set."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """Height and width in the source, in pixels, of each of these images."""
    rejects: list[dict[str, str]] = field(default_factory=list)
    """{"name", "reason"} of each image that is not in the set."""
    several: int = 0
    """Number of image files that hold more pictures than the one that is taken."""
    read_bytes: int = 0
    digest: int = 0
    """Sums over the sizes and the digests of the image files, including rejects (`SourceFile`)."""

    @property
    def images(self) -> int:
        """Number of all images, good and bad."""
        return len(self.names) + len(self.rejects)

    def note_file(self, name: str, size: int, sha256: bytes) -> None:
        """Add an image file, whether it is selected or not, to the sums over its folder."""
        self.read_bytes += size
        digest = hashlib.sha256(os.fsencode(name) + b"\0" + sha256).digest()
        self.digest += int.from_bytes(digest, "big")

    def add(self, later: Tally) -> None:
        """Append the facts about the images that follow."""
        self.names += later.names
        self.sizes += later.sizes
        self.rejects += later.rejects
        self.several += later.several
        self.read_bytes += later.read_bytes
        self.digest += later.digest


class RejectBudget:
    """A limit on bad images: a build that exceeds it fails, instead of making a small set."""

    def __init__(self, max_rejects: int, src: object) -> None:
        """Allow at most `max_rejects` bad images of `src`."""
        self._max_rejects = max_rejects
        self._src = src
        self._first: list[str] = []
        self.rejects = 0

    def spend(self, rejects: Sequence[dict[str, str]]) -> None:
        """Count rejects.

        Raises:
            UserError: There are too many; the message names the first ones.
        """
        self.rejects += len(rejects)
        self._first += [f"{r['name']} ({r['reason']})" for r in rejects[: 3 - len(self._first)]]
        if self.rejects > self._max_rejects:
            raise UserError(
                f"{self._src}: {self.rejects} images are bad, max_rejects_pct allows "
                f"{self._max_rejects}: {', '.join(self._first)} (--max-rejects-pct 100 lists all)"
            )
