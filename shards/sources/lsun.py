"""LSUN's test set: the LMDB folder `test_lmdb`, unpacked from `test_lmdb.zip`.

A key is the name of an image. The value is its encoded file, JPEG or WebP, whose shorter side has
256 px. The test set has images of all ten categories, unlabelled. A folder of exported images is
accepted too.
"""

from __future__ import annotations

from pathlib import Path

from shards.errors import UserError
from shards.sources.archives import open_files
from shards.sources.image_files import ImageFiles


def open_lsun(path: Path, split: str) -> ImageFiles:
    """Open all images of the database; `split` is "test".

    Raises:
        UserError: There is no image, the database is damaged or still in its zip, or the package
            `lmdb` is missing.
    """
    files = open_files(path, by_name=True)
    if any(name.split("/")[-1] == "data.mdb" for name in files.names):
        raise UserError(f"{path}: holds an LMDB, expected the folder of data.mdb itself, unpacked")
    return ImageFiles(files)
