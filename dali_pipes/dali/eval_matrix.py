"""The resize of the evaluation graph as a matrix, for those that have to do it without DALI.

DALI's bicubic resize is linear but for its rounding at the end: first one axis, then the other,
each by a matrix. Its weights are read off DALI itself, since they are looked up in a table and lie
up to 4e-4 from the formula; beyond the border it repeats the edge, where Pillow leaves weights out.
"""

from __future__ import annotations

import numpy as np
from nvidia.dali import fn, pipeline_def
from nvidia.dali.data_node import DataNode

from dali_pipes.dali.augment import resize


def resize_matrix(length_px: int, side_px: int) -> np.ndarray:
    """What the evaluation graph does to an axis of `length_px`: float32 [side_px, length_px]."""
    impulses = np.eye(length_px, dtype=np.float32)[:, :, None]
    pipeline = _columns(impulses, [side_px, length_px], batch_size=1, num_threads=1, device_id=None)
    pipeline.build()
    (output,) = pipeline.run()
    return np.array(output.at(0))[:, :, 0]


@pipeline_def
def _columns(image: np.ndarray, size: list[int]) -> DataNode:
    """A float32 image [H, W, 1] at height and width `size`."""
    return resize(fn.external_source(source=lambda _: image, batch=False, layout="HWC"), size)
