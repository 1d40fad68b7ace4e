"""The evaluation graph: images resized to a global view and normalised, without randomness."""

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
    """Return float32 [3, crop_px, crop_px] for each image of batch after batch.

    `read_batch(number)` returns uint8 [B, H, W, C], and raises StopIteration after the last batch.
    """
    image = fn.external_source(source=read_batch, batch=True, layout="HWC")
    if device == "gpu":
        image = image.gpu()
    return normalize(resize(image, [crop_px, crop_px]), channels)
