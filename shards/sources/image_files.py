"""The source for encoded images in a folder or an archive."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shards.errors import UserError
from shards.sources.files import Files


class ImageFiles:
    """A source whose images are encoded files. It returns the files and does not decode them."""

    channels = 3

    def __init__(
        self,
        files: Files,
        indexes: Sequence[int] | None = None,
        labels: Sequence[int] | None = None,
        classes: Sequence[str] = (),
        more_paths: Sequence[Path] = (),
    ) -> None:
        """Make a source from entries of `files`.

        Args:
            files: The files of a folder or an archive.
            indexes: The numbers of the entries to use, in the order of the images. By default, all
                entries of `files` that are images.
            labels: The label of each image. None if the images are unlabelled.
            classes: The class name of each label.
            more_paths: Other files that were read for the labels.

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
        """Return the path of image `index` in the folder or archive.

        If all files of an archive are in one top folder, the path starts below this folder.
        """
        return self._files.names[self._indexes[index]][self._name_start :]

    def read(self, index: int) -> bytes:
        """Return the content of the encoded file of image `index`.

        Raises:
            BadImage: The image is too large.
            UserError: The archive is damaged at this image.
            OSError: The file cannot be read.
        """
        return self._files.read_image(self._indexes[index])

    def digest(self, index: int) -> tuple[int, bytes]:
        """Return the size in bytes and the SHA-256 digest of the file of image `index`.

        The file may have any size, because it is read in blocks of 1 MB.
        """
        sha256, size = hashlib.sha256(), 0
        with self._files.open(self._indexes[index]) as file:
            while block := file.read(1 << 20):
                sha256.update(block)
                size += len(block)
        return size, sha256.digest()
