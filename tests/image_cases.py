"""Images in memory, as the evaluation loader takes them."""

from __future__ import annotations

import numpy as np


class MemoryImages:
    """Uint8 [N, H, W, C] by id."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.channels = images.shape[3]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, ids: np.ndarray) -> np.ndarray:
        return self.images[ids]
