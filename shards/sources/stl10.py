"""STL-10: `stl10_binary.tar.gz`, or the folder `stl10_binary` to which it unpacks.

    stl10_binary/{train,test,unlabeled}_X.bin, {train,test}_y.bin, class_names.txt

X is uint8 (N,3,96,96). Each plane of 96 x 96 px is stored column by column. y has one byte per
image, which is a label from 1 to 10.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shards.errors import UserError
from shards.sources.archives import open_files
from shards.sources.arrays import Images
from shards.sources.rows import FileRows

SIDE_PX = 96
IMAGE_BYTES = 3 * SIDE_PX**2


def open_stl10(path: Path, split: str) -> Images:
    """Open the images of one split. They are read from the file, not loaded into memory.

    An archive is first decompressed to a temporary file of 3.2 GB.

    Args:
        path: The archive, or the folder to which it unpacks.
        split: "train", "test" or "unlabeled".

    Raises:
        UserError: A file is missing, a file has a wrong size, or a label is not from 1 to 10.
    """
    files = open_files(path)
    index = files.find(f"{split}_X.bin")
    paths = [files.path_of(index)]
    place = files.place(index)
    if place.size % IMAGE_BYTES:
        raise UserError(
            f"{path}: {split}_X.bin has {place.size} bytes, expected a multiple of {IMAGE_BYTES}"
        )
    shape = (place.size // IMAGE_BYTES, 3, SIDE_PX, SIDE_PX)  # [N,C,W,H] -> [N,H,W,C]
    images = FileRows(place.file, paths[0], place.offset, shape, axes=(2, 1, 0))
    if split == "unlabeled":
        return Images(paths, images)
    index = files.find(f"{split}_y.bin")
    labels = np.frombuffer(files.read(index), np.uint8).astype(np.int64) - 1
    for one in (index, files.find("class_names.txt")):
        if files.path_of(one) not in paths:
            paths.append(files.path_of(one))
    return Images(paths, images, labels, files.lines("class_names.txt"))
