"""Images for the comparison: pieces of the two photographs that scikit-learn brings."""

from __future__ import annotations

import numpy as np
from PIL import Image


def photographs(count: int, side_px: int, channels: int, piece_px: int = 256) -> np.ndarray:
    """Return random square pieces, resized: uint8 [count, side, side, channels].

    Args:
        count: Number of pieces.
        side_px: Side of a piece after the resize.
        channels: 3, or 1 for gray images.
        piece_px: Side of a piece in the photograph.
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
