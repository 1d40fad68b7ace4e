"""What becomes of images on their way into a set, beside what its tars hold of them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field


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
