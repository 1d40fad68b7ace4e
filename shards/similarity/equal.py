"""A check that images are not all equal: nothing can be learned or measured from equal images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FIRST, MOST = 16, 4096
"""The number of images in the first read, and the largest number in a later read. The first read is
small, because in most sets the second image differs already."""


def all_equal(count: int, read: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Return True if all images are equal. Reading stops at the first image that differs.

    Args:
        count: The number of images, at least 1.
        read: A function that takes ids, int64 [B], and returns the images or features, [B, ...].
    """
    first = read(np.arange(1))
    start, size = 1, FIRST
    while start < count:
        if (read(np.arange(start, min(start + size, count))) != first).any():
            return False
        start, size = start + size, min(2 * size, MOST)
    return True
