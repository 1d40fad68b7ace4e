"""The resize of the evaluation graph as a matrix, for programs that resize without DALI.

Except for the rounding at its end, DALI's bicubic resize is linear: a matrix along one axis, then a
matrix along the other. The weights are measured with DALI itself, because it takes them from a
table whose values differ from the formula by up to 4e-4. Beyond the border DALI repeats the edge
pixel, where Pillow leaves weights out.
"""

from __future__ import annotations

import numpy as np
from nvidia.dali import fn, pipeline_def
from nvidia.dali.data_node import DataNode

from dali_pipes.dali.augment import resize


def resize_matrix(length_px: int, side_px: int) -> np.ndarray:
    """Return the matrix that resizes an axis of `length_px`: float32 [side_px, length_px]."""
    impulses = np.eye(length_px, dtype=np.float32)[:, :, None]
    pipeline = _columns(impulses, [side_px, length_px], batch_size=1, num_threads=1, device_id=None)
    pipeline.build()
    (output,) = pipeline.run()
    return np.array(output.at(0))[:, :, 0]


@pipeline_def
def _columns(image: np.ndarray, size: list[int]) -> DataNode:
    """Resize a float32 image [H, W, 1] to height and width `size`."""
    return resize(fn.external_source(source=lambda _: image, batch=False, layout="HWC"), size)
