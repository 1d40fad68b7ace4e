"""Images in memory, with the interface that the evaluation loader expects of a shard set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImagesInMemory:
    """Images in memory. It implements `dali_pipes.eval_loader.ImageSource`."""

    images: NDArray[np.uint8]
    """Pixels of the images, uint8 [N, H, W, C]."""

    @property
    def channels(self) -> int:
        """Number of channels, 1 or 3."""
        return self.images.shape[3]

    def __len__(self) -> int:
        """Return the number of images, N."""
        return len(self.images)

    def read(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images with the given ids.

        Args:
            ids: int64 [B].

        Returns:
            uint8 [B, H, W, C].
        """
        return self.images[ids]
