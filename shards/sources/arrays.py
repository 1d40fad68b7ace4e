"""The source for images that are the rows of one array of pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from shards.errors import UserError
from shards.sources.rows import FileRows


class Images:
    """A source whose images are the rows of one array. The array is in memory or in a file."""

    passed_over: Mapping[str, int] = MappingProxyType({})
    """The number of entries that are not images, per reason. Empty, because all rows are images."""

    def __init__(
        self,
        paths: Sequence[Path],
        images: np.ndarray | FileRows,
        labels: np.ndarray | Sequence[int] | None = None,
        classes: Sequence[str] = (),
        names: Sequence[str] | None = None,
    ) -> None:
        """Make a source from the rows of `images`.

        Args:
            paths: The files that hold the images and labels.
            images: The pixels of all images: uint8 [N,H,W,1] or [N,H,W,3]. An array may have any
                strides.
            labels: The label of each row: integers [N]. None if the images are unlabelled.
            classes: The class name of each label. By default, the name is the label as text.
            names: The name of each row. By default, the name is the row number.

        Raises:
            UserError: `images` is empty, or has another dtype or shape. Or the number of labels or
                names is not N. Or a label has no class.
        """
        self.paths = tuple(paths)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise UserError(f"{paths[0]}: {images.dtype} {images.shape}, expected uint8 (N,H,W,C)")
        if not images.size:
            raise UserError(f"{paths[0]}: no images, its shape is {images.shape}")
        self._images = images
        self._names = names
        if names is not None and len(names) != len(images):
            raise UserError(f"{paths[0]}: {len(images)} images, but {len(names)} names")
        self.labels: np.ndarray | None = None
        self.classes: tuple[str, ...] = ()
        if labels is not None:
            self.labels = np.array(labels, np.int64)
            if self.labels.shape != (len(images),):
                raise UserError(
                    f"{paths[0]}: {len(images)} images, but labels of shape {self.labels.shape}"
                )
            lowest, highest = int(self.labels.min()), int(self.labels.max())
            self.classes = tuple(classes) or tuple(str(label) for label in range(highest + 1))
            if lowest < 0 or highest >= len(self.classes):
                raise UserError(
                    f"{paths[-1]}: labels {lowest} to {highest}, but {len(self.classes)} classes"
                )

    @property
    def channels(self) -> int:
        """The number of channels: 1 (gray) or 3 (RGB)."""
        return self._images.shape[3]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def name(self, index: int) -> str:
        """Return the name of row `index`, or the row number if rows have no names."""
        return str(index) if self._names is None else self._names[index]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape [H,W,C] that every image has."""
        return tuple(self._images.shape[1:])

    def read(self, index: int) -> np.ndarray:
        """Return the pixels of row `index` as uint8 [H,W,C]."""
        return self._images[index]

    def read_into(self, indexes: np.ndarray, out: np.ndarray) -> None:
        """Read many rows in one call, which is much faster than a call of `read` per row.

        Args:
            indexes: The row numbers: int64 [n].
            out: The array that receives the pixels: uint8 [n,H*W*C]. Each of its rows must be
                contiguous in memory.
        """
        if isinstance(self._images, FileRows):
            self._images.read_into(indexes, out)
        else:
            out[:] = self._images[indexes].reshape(out.shape)
