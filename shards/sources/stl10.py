"""STL-10: `stl10_binary.tar.gz`, or the folder `stl10_binary` that it unpacks to.

    stl10_binary/{train,test,unlabeled}_X.bin, {train,test}_y.bin, class_names.txt

X is uint8 (N,3,96,96) with each plane column by column; y is one byte per image, 1 to 10.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shards.cli import UserError
from shards.sources.archives import open_files
from shards.sources.arrays import Images

SIDE_PX = 96
IMAGE_BYTES = 3 * SIDE_PX**2


def open_stl10(path: Path, split: str) -> Images:
    """The images of one split, mapped from the file or from the decompressed archive (3.2 GB).

    Args:
        path: The archive, or the folder that it unpacks to.
        split: "train", "test" or "unlabeled".

    Raises:
        UserError: a file is missing or of a wrong size, or a label is not in 1 to 10.
    """
    files = open_files(path)
    index = files.find(f"{split}_X.bin")
    paths = [files.path_of(index)]
    pixels = files.view(index)
    if len(pixels) % IMAGE_BYTES:
        raise UserError(
            f"{path}: {split}_X.bin has {len(pixels)} bytes, expected a multiple of {IMAGE_BYTES}"
        )
    images = pixels.reshape(-1, 3, SIDE_PX, SIDE_PX).transpose(0, 3, 2, 1)  # [N,C,W,H] -> [N,H,W,C]
    if split == "unlabeled":
        return Images(paths, images)
    index = files.find(f"{split}_y.bin")
    labels = files.view(index).astype(np.int64) - 1
    for one in (index, files.find("class_names.txt")):
        if files.path_of(one) not in paths:
            paths.append(files.path_of(one))
    return Images(paths, images, labels, files.lines("class_names.txt"))
