"""Where samples come from: one file per format, each a `Source`.

A source opens without decoding; `source[i]` decodes one image, from several threads at once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from shards.manifest import SourceFile


@dataclass(frozen=True)
class Sample:
    """One image of a source, at the size it has there."""

    pixels: np.ndarray
    """uint8 [H,W,C], range 0..255, C = 1 (gray) or 3 (RGB)."""
    label: int | None
    """Index into the source's classes; None when the source is unlabelled."""
    name: str | None
    """The image's path relative to the source folder; None when the source has no file names."""


class Source(Protocol):
    """Images in a fixed order, that of the official archive or of the sorted paths."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class name of each label; empty when the source is unlabelled."""

    @property
    def labels(self) -> np.ndarray | None:
        """Label of each image, int64 [len], known without decoding; None when unlabelled."""

    def __len__(self) -> int:
        """The number of images."""

    def __getitem__(self, index: int) -> Sample:
        """Decode image `index` in 0..len-1; UserError naming the file when that fails."""

    def files(self) -> tuple[SourceFile, ...]:
        """What was read, with digests: the official files, or one entry for a whole folder."""


def describe_file(path: Path) -> SourceFile:
    """Name, size and digest of one source file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return SourceFile(path.name, path.stat().st_size, digest)
