"""The interface of all sources: images in a fixed order, their labels and their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np


class Source(Protocol):
    """The interface of a source, which holds images and may hold their labels.

    The order of the images is fixed. It is the order in the official file, or the order of sorted
    paths.
    """

    @property
    def paths(self) -> tuple[Path, ...]:
        """The official files that are read. A folder in this tuple means all images below it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class name of each label. Empty if the source is unlabelled."""

    @property
    def labels(self) -> np.ndarray | None:
        """The label of each image: int64 [len]. None if the source is unlabelled."""

    @property
    def channels(self) -> int:
        """The number of channels that a set gets by default: 1 (gray) or 3 (RGB)."""

    @property
    def passed_over(self) -> Mapping[str, int]:
        """The number of entries that are not used as images: reason (see `kinds.py`) -> count."""

    def __len__(self) -> int:
        """Return the number of images."""

    def name(self, index: int) -> str:
        """Return the name of image `index`: its path in the folder or archive, or its row number.

        If all files of an archive are in one top folder, the path starts below this folder. So an
        image has the same name in an archive and in the folder to which the archive unpacks.
        """

    def read(self, index: int) -> np.ndarray | bytes:
        """Return image `index`, which is from 0 to len - 1.

        Returns:
            The pixels, uint8 [H,W,1] or [H,W,3], or the content of an encoded file (bytes). Pixels
            may have any memory order. They must not be changed, because they may be a view of the
            source's own array.

        Raises:
            BadImage: The image is too large.
            UserError: The archive is damaged at this image.
            OSError: The file cannot be read.
        """
