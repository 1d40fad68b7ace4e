"""Images for the comparison: pieces of the two photographs that come with scikit-learn."""

from __future__ import annotations

import numpy as np
from PIL import Image


def photographs(count: int, side_px: int, channels: int, piece_px: int = 256) -> np.ndarray:
    """Return random square pieces of photographs, resized to `side_px`.

    Args:
        count: The number of pieces.
        side_px: The side of a piece after the resize, in pixels.
        channels: 3, or 1 for gray images.
        piece_px: The side of a piece in the photograph, in pixels.

    Returns:
        uint8 [count, side_px, side_px, channels].
    """
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(9)
    whole = [Image.fromarray(image) for image in load_sample_images().images]
    pieces = []
    for i in range(count):
        left, top = int(rng.integers(640 - piece_px)), int(rng.integers(427 - piece_px))
        piece = whole[i % 2].crop((left, top, left + piece_px, top + piece_px))
        piece = piece.resize((side_px, side_px), Image.Resampling.BICUBIC)
        pieces.append(np.asarray(piece.convert("L" if channels == 1 else "RGB")))
    return np.stack(pieces).reshape(count, side_px, side_px, channels)
