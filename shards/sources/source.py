"""The contract of a source: images in a fixed order, their labels and their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np


class Source(Protocol):
    """Images in a fixed order, that of the official archive or of the sorted paths."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """What is read: the official files; a folder stands for the images below it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class name of each label; empty when the source is unlabelled."""

    @property
    def labels(self) -> np.ndarray | None:
        """Label of each image, int64 [len], known without decoding; None when unlabelled."""

    @property
    def channels(self) -> int:
        """1 (gray) or 3 (RGB): what a set has unless another number is asked for."""

    @property
    def passed_over(self) -> Mapping[str, int]:
        """Entries that were not taken for images: reason -> count, by reason (kinds.py)."""

    def __len__(self) -> int:
        """The number of images."""

    def name(self, index: int) -> str:
        """The path of image `index` in its folder or archive; in an array the number of its row.

        A folder around all of an archive is not named: packed or not, an image has the same name.
        """

    def read(self, index: int) -> np.ndarray | bytes:
        """Image `index` in 0..len-1: pixels, uint8 [H,W,1] or [H,W,3], or an encoded file.

        Pixels may be a view, in any memory order, of an array that must not be written to.

        Raises:
            BadImage: it is too large to be used.
            UserError: the archive is damaged there.
            OSError: the file cannot be read.
        """
