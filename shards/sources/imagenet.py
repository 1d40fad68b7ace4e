"""ImageNet (ILSVRC 2012): the published tars, or the folders to which they unpack.

    ILSVRC2012_img_train.tar    1,000 inner tars, such as n01440764.tar; this inner tar holds
                                n01440764_10026.JPEG ...
    ILSVRC2012_img_val.tar      ILSVRC2012_val_00000001.JPEG ..., without folders

A class is named by its wnid, which is its WordNet id. The unpacked "train" has one folder per wnid.
The labels of "val" are in MATLAB files of the development kit, and these files are not read. So
"val" is labelled only if its images were sorted into one folder per wnid. Labels number the wnids
in sorted order.
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
        UserError: There is no image, or an image is not in a folder named by a wnid. The images of
            "val" need no such folders if all images lack one.
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
