"""The contract of a source: images in a fixed order, their labels and their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np


class Source(Protocol):
    """Images in a fixed order: the order of the official archive, or of the sorted paths."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The official files that are read; a folder stands for the images below it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class name of each label; empty if the source is unlabelled."""

    @property
    def labels(self) -> np.ndarray | None:
        """The label of each image, int64 [len], known without decoding; None if unlabelled."""

    @property
    def channels(self) -> int:
        """The number of channels of a set unless another is asked for: 1 (gray) or 3 (RGB)."""

    @property
    def passed_over(self) -> Mapping[str, int]:
        """Entries that were not taken for images: reason (`kinds.py`) -> count."""

    def __len__(self) -> int:
        """Return the number of images."""

    def name(self, index: int) -> str:
        """Return the path of image `index` in its folder or archive, or its row number in an array.

        If one folder holds all of an archive, paths start below it. So an image has the same name
        in an archive and in the folder to which the archive unpacks.
        """

    def read(self, index: int) -> np.ndarray | bytes:
        """Return image `index` in 0..len-1: pixels, uint8 [H,W,1] or [H,W,3], or an encoded file.

        Pixels may be a view, in any memory order, of an array that must not be written to.

        Raises:
            BadImage: The image is too large.
            UserError: The archive is damaged at this image.
            OSError: The file cannot be read.
        """
