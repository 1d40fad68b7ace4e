"""Describable Textures: `dtd-r1.0.1.tar.gz`, or the folder `dtd` to which it unpacks.

dtd/images/<class>/<class>_0001.jpg
dtd/labels/{train,val,test}{1..10}.txt     each line is <class>/<class>_0001.jpg
"""

from __future__ import annotations

from pathlib import Path

from shards.errors import UserError
from shards.sources.archives import open_files
from shards.sources.image_files import ImageFiles

SPLITS = ("all", *(f"{part}{i}" for i in range(1, 11) for part in ("train", "val", "test")))


def open_dtd(path: Path, split: str) -> ImageFiles:
    """Open the images of one split. Labels number the class names in sorted order.

    Args:
        path: The archive, or the folder to which it unpacks.
        split: "all", or a part of one of the ten divisions of the images, such as "train1", "val1"
            or "test1" of the first division.

    Raises:
        UserError: There is no image, or an image in the list of the split is missing.
    """
    files = open_files(path, by_name=True)
    parts = {i: files.names[i].split("/")[-3:] for i in files.images()}
    place_of = {"/".join(p[1:]): i for i, p in parts.items() if len(p) == 3 and p[0] == "images"}
    classes = sorted({name.split("/")[0] for name in place_of})
    listed = sorted(place_of if split == "all" else files.lines(f"labels/{split}.txt"))
    for name in listed:
        if name not in place_of:
            raise UserError(f"{path}: images/{name} is missing, labels/{split}.txt lists it")
    label_of = {name: label for label, name in enumerate(classes)}
    labels = [label_of[name.split("/")[0]] for name in listed]
    return ImageFiles(files, [place_of[name] for name in listed], labels, classes)
