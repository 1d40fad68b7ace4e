"""The resize of the evaluation graph as matrices, for programs that resize without DALI.

Except for the rounding of the result, DALI's bicubic resize is linear: one matrix acts along each
axis. The matrices are measured with DALI itself, because DALI takes the weights from a table whose
values differ from the formula by up to 4e-4. Beyond the border of the image, DALI repeats the edge
pixel, while Pillow leaves out the weights there.
"""

from __future__ import annotations

import numpy as np
from nvidia.dali import fn, pipeline_def
from nvidia.dali.data_node import DataNode

from dali_pipes.dali.augment import resize


def resize_matrix(length_px: int, side_px: int) -> np.ndarray:
    """Return the matrix with which DALI resizes one axis, float32 [side_px, length_px].

    Args:
        length_px: The length of the axis before the resize, in pixels.
        side_px: The length of the axis after the resize, in pixels.
    """
    impulses = np.eye(length_px, dtype=np.float32)[:, :, None]
    pipeline = _columns(impulses, [side_px, length_px], batch_size=1, num_threads=1, device_id=None)
    pipeline.build()
    (output,) = pipeline.run()
    return np.array(output.at(0))[:, :, 0]


@pipeline_def
def _columns(image: np.ndarray, size: list[int]) -> DataNode:
    """Resize a float32 image [H, W, 1] to `size` = [height, width]."""
    return resize(fn.external_source(source=lambda _: image, batch=False, layout="HWC"), size)
