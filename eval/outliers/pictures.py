"""What the functions of all families share: the type of an image, and rounding to levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""An image, uint8 [H, W, C] with C = 1 (gray) or 3 (RGB)."""


def to_levels(values: NDArray[np.float64]) -> Picture:
    """Round values to whole levels and clip them to 0..255."""
    return values.round().clip(0, 255).astype(np.uint8)
