"""A check that images are not all equal: nothing can be learned or measured from equal images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FIRST, MOST = 16, 4096
"""Images that are read at once: few at first, because in most sets the second image differs."""


def all_equal(count: int, read: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Return True if all images have the same values; reading stops at the first difference.

    Args:
        count: The number of images, at least 1.
        read: A function from ids, int64 [B], to images or features [B, ...].
    """
    first = read(np.arange(1))
    start, size = 1, FIRST
    while start < count:
        if (read(np.arange(start, min(start + size, count))) != first).any():
            return False
        start, size = start + size, min(2 * size, MOST)
    return True
