"""Street View House Numbers, the images of cropped digits.

    train_32x32.mat, test_32x32.mat, extra_32x32.mat

These are MATLAB files of version 5. X holds the images, uint8 (32,32,3,N). y holds the labels,
(N,1), where 10 means the digit 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io

from shards.errors import UserError
from shards.sources.arrays import Images

DIGITS = tuple("0123456789")


def open_svhn(path: Path, split: str) -> Images:
    """Read the images of one split into memory. The 531,131 images of "extra" take 1.6 GB.

    Args:
        path: The official file, or the folder that contains it.
        split: "train", "test" or "extra".

    Raises:
        UserError: The file is missing or damaged, or X or y has a wrong type, shape or value.
    """
    if path.is_dir():
        path = path / f"{split}_32x32.mat"
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        content = scipy.io.loadmat(path, variable_names=["X", "y"])
        images, labels = content["X"], content["y"]
    # On damaged files SciPy may raise an error of nearly any type.
    except Exception as error:
        raise UserError(
            f"{path}: not a MATLAB 5 file with X and y, or damaged: {error!r}"
        ) from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != 3:
        raise UserError(f"{path}: X is {images.dtype} {images.shape}, expected uint8 (H,W,3,N)")
    if labels.shape != (images.shape[3], 1) or not np.isin(labels, range(1, 11)).all():
        raise UserError(f"{path}: y is not {images.shape[3]} labels from 1 to 10")
    # `transpose` copies nothing. MATLAB's arrays are column-major, so each image is one piece of
    # memory.
    return Images([path], images.transpose(3, 0, 1, 2), labels[:, 0].astype(np.int64) % 10, DIGITS)
