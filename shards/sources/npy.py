"""One .npy file of images, uint8 (N,H,W,3), (N,H,W,1) or (N,H,W); mapped, unlabelled.

So is `300K_random_images.npy`, the 300,000 images that are left of 80 Million Tiny Images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shards.cli import UserError
from shards.sources.arrays import Images
from shards.sources.rows import FileRows


def open_npy(path: Path, split: str) -> Images:
    """The images of an array file; `split` is only a name.

    Raises:
        UserError: the file is missing, empty, pickled, no array file, or of another dtype or shape.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such .npy file")
    try:
        # Never unpickled: an object array may run any code when it is loaded.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not an array file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: an archive of arrays, expected one array (.npy)")
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype == np.uint8 and array.ndim == 4 and array.flags.c_contiguous:
        # Mapped only for its header.
        return Images([path], FileRows(path, array.offset, array.shape))
    return Images([path], np.asarray(array))
