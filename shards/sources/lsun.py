"""LSUN's test set: the LMDB folder `test_lmdb`, unpacked from `test_lmdb.zip`.

Each key of the database is the name of an image, and the value is its JPEG or WebP file. The
shorter side of an image has 256 px. The test set has images of all ten categories, but no labels.
A folder of exported image files is accepted too.
"""

from __future__ import annotations

from pathlib import Path

from shards.errors import UserError
from shards.sources.archives import open_files
from shards.sources.image_files import ImageFiles


def open_lsun(path: Path, split: str) -> ImageFiles:
    """Open all images of the database.

    Args:
        path: The folder of the database, or a folder or an archive of image files.
        split: "test". It is not used, because this format has only one split.

    Raises:
        UserError: There is no image, the database is damaged or still in its zip, or the package
            `lmdb` is not installed.
    """
    files = open_files(path, by_name=True)
    if any(name.split("/")[-1] == "data.mdb" for name in files.names):
        raise UserError(f"{path}: holds an LMDB, expected the folder of data.mdb itself, unpacked")
    return ImageFiles(files)
