"""ImageNet (ILSVRC 2012): the tars as published, or the folders to which they unpack.

    ILSVRC2012_img_train.tar    1,000 tars, n01440764.tar ..., of n01440764_10026.JPEG ...
    ILSVRC2012_img_val.tar      ILSVRC2012_val_00000001.JPEG ..., flat

Unpacked, train has a folder for each wnid (the WordNet id of a class). The labels of val are in
MATLAB files of the development kit, which are not read. So a flat val is unlabelled, and a val that
was sorted into folders of wnids is labelled. Labels number the wnids in sorted order.
"""

from __future__ import annotations

import re
from pathlib import Path

from shards.errors import UserError
from shards.sources.archives import open_files
from shards.sources.image_files import ImageFiles

_WNID = re.compile(r"(?:^|/)(n[0-9]{8})/[^/]+$")


def open_imagenet(path: Path, split: str) -> ImageFiles:
    """Open the images of one split.

    Args:
        path: The tar, or the folder to which it was unpacked.
        split: "train" or "val".

    Raises:
        UserError: There is no image, or an image is not in the folder of a wnid (except in a flat
            val).
    """
    files = open_files(path, by_name=True)
    indexes = files.images()
    wnids = []
    for i in indexes:
        found = _WNID.search(files.names[i])
        if found:
            wnids.append(found[1])
        elif split == "train" or wnids:
            raise UserError(f"{path}: {files.names[i]!r} is not in the folder of a wnid")
    if len(wnids) not in (0, len(indexes)):
        raise UserError(f"{path}: has images in the folders of wnids, and others")
    if not wnids:
        return ImageFiles(files, indexes)
    classes = sorted(set(wnids))
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    return ImageFiles(files, indexes, [label_of[wnid] for wnid in wnids], classes)
