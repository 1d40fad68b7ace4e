"""The evaluation graph: images -> the size of a global view, normalised; nothing random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from nvidia.dali import fn, pipeline_def
from nvidia.dali.data_node import DataNode

from dali_pipes.dali.augment import normalize, resize


@pipeline_def
def eval_graph(
    read_batch: Callable[[int], np.ndarray],
    crop_px: int,
    channels: int,
    device: Literal["cpu", "gpu"],
) -> DataNode:
    """Float32 [3, crop_px, crop_px] of each image of `read_batch(number)`: uint8 [B, H, W, C].

    The graph ends where `read_batch` raises StopIteration.
    """
    image = fn.external_source(source=read_batch, batch=True, layout="HWC")
    if device == "gpu":
        image = image.gpu()
    return normalize(resize(image, [crop_px, crop_px]), channels)
