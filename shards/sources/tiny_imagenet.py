"""Tiny ImageNet: `tiny-imagenet-200.zip`, or the folder `tiny-imagenet-200` to which it unpacks.

    train/<wnid>/images/<wnid>_<k>.JPEG        the name of the folder is the class
    val/images/val_<k>.JPEG                    the classes are in val/val_annotations.txt
    test/images/test_<k>.JPEG                  without labels
    wnids.txt                                  the list of the 200 classes

A wnid is the WordNet id of a class. Labels number the wnids in sorted order. The order of the lines
of wnids.txt is different.
"""

from __future__ import annotations

from pathlib import Path

from shards.errors import UserError
from shards.sources.archives import open_files
from shards.sources.image_files import ImageFiles


def open_tiny_imagenet(path: Path, split: str) -> ImageFiles:
    """Open the images of one split.

    Args:
        path: The archive, or the folder to which it unpacks.
        split: "train", "val" or "test".

    Raises:
        UserError: There is no image, an image has no label, or a label is not in wnids.txt.
    """
    files = open_files(path, by_name=True)
    depth = 4 if split == "train" else 3  # train/<wnid>/images/x.JPEG, val/images/x.JPEG
    parts = {i: files.names[i].split("/")[-depth:] for i in files.images()}
    found = [i for i, p in parts.items() if len(p) == depth and p[-2] == "images"]
    indexes = [i for i in found if parts[i][0] == split]
    if not indexes:
        raise UserError(f"{path}: no images of tiny-imagenet-200/{split} in it")
    if split == "test":
        return ImageFiles(files, indexes)
    if split == "train":
        wnids = {i: parts[i][1] for i in indexes}
    else:
        annotations = (line.split("\t") for line in files.lines("val_annotations.txt"))
        wnid_of = {line[0]: line[1] for line in annotations if len(line) > 1}
        for i in indexes:
            if parts[i][-1] not in wnid_of:
                raise UserError(f"{path}: {files.names[i]} has no line in val_annotations.txt")
        wnids = {i: wnid_of[parts[i][-1]] for i in indexes}
    classes = sorted(files.lines("wnids.txt"))
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    for i, wnid in wnids.items():
        if wnid not in label_of:
            raise UserError(f"{path}: {files.names[i]} is of {wnid!r}, which is not in wnids.txt")
    return ImageFiles(files, indexes, [label_of[wnids[i]] for i in indexes], classes)
