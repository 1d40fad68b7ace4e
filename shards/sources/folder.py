"""Image files in a folder or an archive, with or without a folder per class."""

from __future__ import annotations

import os
from pathlib import Path

from shards.cli import UserError
from shards.sources.archives import open_files
from shards.sources.files import ImageFiles


def open_folder(path: Path, split: str) -> ImageFiles:
    """All images below a folder or in an archive, unlabelled; `split` is only a name.

    Raises:
        UserError: there is no such folder or archive, or no image in it.
    """
    return ImageFiles(open_files(path))


def open_class_folders(path: Path, split: str) -> ImageFiles:
    """The first-level folders are the classes, labelled in sorted order; `split` is only a name.

    In an archive, a folder around all class folders is passed over.

    Raises:
        UserError: there is no image, or one outside of a class folder.
    """
    files = open_files(path)
    indexes = files.images()
    parts = [files.names[i].removeprefix(files.wrapper).split("/") for i in indexes]
    if path.is_dir():
        with os.scandir(path) as entries:
            found = {
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            }
    else:
        if all(len(p) == 1 for p in parts):  # the wrapper is the one class
            parts = [files.names[i].split("/") for i in indexes]
        found = {p[0] for p in parts if len(p) > 1}
    classes = sorted(found, key=os.fsencode)
    label_of = {name: label for label, name in enumerate(classes)}
    for i, p in zip(indexes, parts, strict=True):
        if len(p) < 2:
            raise UserError(f"{path}: {files.names[i]!r} is not in a class folder{files.left_out}")
    return ImageFiles(files, indexes, [label_of[p[0]] for p in parts], classes)
