"""Whether images differ at all: equal ones teach nothing, and say no more than one of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FIRST, MOST = 16, 4096
"""Images that are read at once: few first, for most sets differ in their second image."""


def all_equal(count: int, read: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether `count` images, one or more, are equal, value by value; reads until two differ.

    Args:
        count: how many there are.
        read: ids, int64 [B] -> images or features [B, ...].
    """
    first = read(np.arange(1))
    start, size = 1, FIRST
    while start < count:
        if (read(np.arange(start, min(start + size, count))) != first).any():
            return False
        start, size = start + size, min(2 * size, MOST)
    return True
