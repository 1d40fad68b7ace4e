"""The Source over encoded images, whatever they lie in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shards.errors import UserError
from shards.sources.files import Files


class ImageFiles:
    """Encoded images, given as they are."""

    channels = 3

    def __init__(
        self,
        files: Files,
        indexes: Sequence[int] | None = None,
        labels: Sequence[int] | None = None,
        classes: Sequence[str] = (),
        more_paths: Sequence[Path] = (),
    ) -> None:
        """Of some entries of `files`.

        Args:
            files: Where they lie.
            indexes: Which entries; by default all images.
            labels: Label of each, if any.
            classes: Name of each label.
            more_paths: Files that the labels are from, where they are not in `files`.

        Raises:
            UserError: there is no image.
        """
        self._files = files
        self._indexes = files.images() if indexes is None else indexes
        if not len(self._indexes):
            raise UserError(f"{files.path}: no images")
        self.labels = None if labels is None else np.array(labels, np.int64)
        self.classes = tuple(classes)
        self.paths = (files.path, *more_paths)
        self.passed_over = files.passed_over
        self._name_start = len(files.wrapper)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._indexes)

    def name(self, index: int) -> str:
        """The path of image `index` in its folder, or in the folder that the archive holds."""
        return self._files.names[self._indexes[index]][self._name_start :]

    def read(self, index: int) -> bytes:
        """The encoded file of image `index`."""
        return self._files.read_image(self._indexes[index])

    def digest(self, index: int) -> tuple[int, bytes]:
        """Bytes and sha256 of the file of image `index`, however large it is."""
        sha256, size = hashlib.sha256(), 0
        with self._files.open(self._indexes[index]) as file:
            while block := file.read(1 << 20):
                sha256.update(block)
                size += len(block)
        return size, sha256.digest()
