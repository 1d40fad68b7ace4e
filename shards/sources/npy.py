"""The format "npy": one .npy file of unlabelled images, uint8 (N,H,W,3), (N,H,W,1) or (N,H,W).

An example is `300K_random_images.npy`, which has 300,000 images of 80 Million Tiny Images.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np

from shards.disk.file_system import LACKS, passing_over
from shards.errors import UserError
from shards.sources.arrays import Images
from shards.sources.rows import FileRows

NOT_MAPPED = LACKS | {errno.ENODEV}
"""The error numbers that mean that a file system cannot map a file into memory."""
MAX_HEADER_BYTES = 1 << 20
"""The longest header that is accepted, in bytes. A usual header has about 100 bytes."""


def open_npy(path: Path, split: str) -> Images:
    """Open the images of an array file.

    Args:
        path: The .npy file.
        split: Any name; it is not used.

    Raises:
        UserError: The file is missing, is empty, is not an array file, holds pickled objects, or
            has another dtype or shape than the format allows.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such .npy file")
    with open(path, "rb") as file:
        head = file.read(12)
    # NumPy reads a whole header before it checks the length.
    if head[:6] == b"\x93NUMPY" and head[6:7] > b"\1":
        if (length := int.from_bytes(head[8:], "little")) > MAX_HEADER_BYTES:
            raise UserError(f"{path}: not an array file: a header of {length:,} bytes")
    # The file is mapped only for its header, which states where the pixels start.
    array: Any = None
    with passing_over("maps no files, so arrays are read into memory", path, NOT_MAPPED):
        array = _load(path, mmap_mode="r")
    if array is None:
        array = _load(path)
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: an archive of arrays, expected one array (.npy)")
    shape = array.shape if array.ndim != 3 else (*array.shape, 1)
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise UserError(f"{path}: {array.dtype} {array.shape}, expected uint8 (N,H,W,C) or (N,H,W)")
    if not isinstance(array, np.memmap):
        return Images([path], array.reshape(shape))
    if array.flags.c_contiguous:
        return Images([path], FileRows(open(path, "rb", buffering=0), path, array.offset, shape))
    # In Fortran order the pixels of an image are spread over the whole file.
    return Images([path], _load(path).reshape(shape))


def _load(path: Path, **options: Any) -> Any:
    """Call `np.load` with pickles refused, because unpickling may run any code.

    Raises:
        UserError: The file is not an array file.
        OSError: The file cannot be read.
    """
    try:
        with np.errstate(over="ignore"):  # The size of an absurd shape overflows; NumPy refuses it.
            return np.load(path, allow_pickle=False, **options)
    except OSError:
        raise  # The file cannot be read, which says nothing about its content.
    # NumPy evaluates the header as Python, so a damaged one may raise an error of nearly any type.
    except Exception as error:
        raise UserError(f"{path}: not an array file: {error!r}") from error
