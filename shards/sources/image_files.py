"""The source of encoded images in a folder or an archive."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shards.errors import UserError
from shards.sources.files import Files


class ImageFiles:
    """Encoded images, which are read without decoding."""

    channels = 3

    def __init__(
        self,
        files: Files,
        indexes: Sequence[int] | None = None,
        labels: Sequence[int] | None = None,
        classes: Sequence[str] = (),
        more_paths: Sequence[Path] = (),
    ) -> None:
        """Take some entries of `files` as the images.

        Args:
            files: The files of a folder or an archive.
            indexes: The numbers of the entries; by default those of all images.
            labels: The label of each image, if any.
            classes: The name of each label.
            more_paths: Files outside of `files` that the labels come from.

        Raises:
            UserError: There is no image.
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
        """Return the number of images."""
        return len(self._indexes)

    def name(self, index: int) -> str:
        """Return the path of image `index` in its folder, or in the only folder of its archive."""
        return self._files.names[self._indexes[index]][self._name_start :]

    def read(self, index: int) -> bytes:
        """Return the encoded file of image `index`."""
        return self._files.read_image(self._indexes[index])

    def digest(self, index: int) -> tuple[int, bytes]:
        """Return the size in bytes and the sha256 of the file of image `index`, of any size."""
        sha256, size = hashlib.sha256(), 0
        with self._files.open(self._indexes[index]) as file:
            while block := file.read(1 << 20):
                sha256.update(block)
                size += len(block)
        return size, sha256.digest()
