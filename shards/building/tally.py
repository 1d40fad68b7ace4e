"""Facts about the images of a build that are not in its tars: names, sizes, rejects, checksums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from shards.errors import UserError


@dataclass
class Tally:
    """Facts about images at consecutive places of a set's order."""

    names: list[str] = field(default_factory=list)
    """The name in the source of each image that is stored in the set."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """The height and width in the source, in pixels, of each image that is stored in the set."""
    rejects: list[dict[str, str]] = field(default_factory=list)
    """One entry per rejected image: {"name": its name in the source, "reason": error message}."""
    several: int = 0
    """The number of image files that contain several pictures; only the first one is taken."""
    read_bytes: int = 0
    """The total size of the image files in bytes; files of rejected images are counted."""
    digest: int = 0
    """The total checksum of the image files, with rejected images (see `SourceFile.sha256`)."""

    @property
    def images(self) -> int:
        """The number of all images, stored and rejected."""
        return len(self.names) + len(self.rejects)

    def note_file(self, name: str, size: int, sha256: bytes) -> None:
        """Add an image file to the total size and to the total checksum.

        Args:
            name: The name of the file in the source's folder.
            size: The size of the file in bytes.
            sha256: The sha256 of the file's content.
        """
        self.read_bytes += size
        digest = hashlib.sha256(os.fsencode(name) + b"\0" + sha256).digest()
        self.digest += int.from_bytes(digest, "big")

    def add(self, later: Tally) -> None:
        """Append the facts about the images that follow these images in the set's order."""
        self.names += later.names
        self.sizes += later.sizes
        self.rejects += later.rejects
        self.several += later.several
        self.read_bytes += later.read_bytes
        self.digest += later.digest


class RejectBudget:
    """A limit on the number of rejected images.

    A build that exceeds the limit fails. Without a limit it could make a set with few images.
    """

    def __init__(self, max_rejects: int, src: object) -> None:
        """Allow at most `max_rejects` rejected images; `src` is named in the error message."""
        self._max_rejects = max_rejects
        self._src = src
        self._first: list[str] = []
        self.rejects = 0

    def spend(self, rejects: Sequence[dict[str, str]]) -> None:
        """Add rejected images to the count.

        Raises:
            UserError: The count exceeds the limit; the message names the first rejected images.
        """
        self.rejects += len(rejects)
        self._first += [f"{r['name']} ({r['reason']})" for r in rejects[: 3 - len(self._first)]]
        if self.rejects > self._max_rejects:
            raise UserError(
                f"{self._src}: {self.rejects} images are bad, max_rejects_pct allows "
                f"{self._max_rejects}: {', '.join(self._first)} (--max-rejects-pct 100 lists all)"
            )
