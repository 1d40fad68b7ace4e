"""The evaluation graph: it resizes images to the size of a global view and normalises them.

Nothing in it is random.
"""

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
    """Build the graph that resizes and normalises the images of an evaluation.

    Args:
        read_batch: A function from the number of a batch to its images, uint8 [B, H, W, C]. It
            raises StopIteration after the last batch.
        crop_px: The side to which images are resized, in pixels.
        channels: The number of channels of the images, 1 or 3.
        device: The device on which the graph works.

    Returns:
        The node of the normalised images, each float32 [3, crop_px, crop_px].
    """
    image = fn.external_source(source=read_batch, batch=True, layout="HWC")
    if device == "gpu":
        image = image.gpu()
    return normalize(resize(image, [crop_px, crop_px]), channels)
