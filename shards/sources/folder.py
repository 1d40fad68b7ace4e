"""The formats "folder" and "class-folders": image files in a folder or an archive."""

from __future__ import annotations

import os
from pathlib import Path

from shards.errors import UserError
from shards.sources.archives import open_files
from shards.sources.image_files import ImageFiles
from shards.sources.kinds import NO_CLASS


def open_folder(path: Path, split: str, *, by_name: bool = False) -> ImageFiles:
    """Open all images below a folder or in an archive. The images are unlabelled.

    Args:
        path: The folder or archive.
        split: Any name; it is not used.
        by_name: True if only the names decide which files are images, as in official files. False
            if the content of a file may decide too.

    Raises:
        UserError: There is no such folder or archive, or no image in it.
    """
    return ImageFiles(open_files(path, by_name=by_name))


def open_class_folders(path: Path, split: str) -> ImageFiles:
    """Open the images of a folder or an archive that has one folder per class.

    The classes are the first-level folders that contain an image. Labels number the classes in
    sorted order. If an archive has one top folder that contains all class folders, this top folder
    is not a class.

    Args:
        path: The folder or archive.
        split: Any name; it is not used.

    Raises:
        UserError: There is no image, or an image is outside of all class folders.
    """
    files = open_files(path)
    indexes = files.images()
    wrapper = files.wrapper
    if all("/" not in files.names[i].removeprefix(wrapper) for i in indexes):
        wrapper = ""  # The folder that holds all files is the only class.
    class_of = [files.names[i].removeprefix(wrapper).partition("/") for i in indexes]
    for i, (_, slash, _) in zip(indexes, class_of, strict=True):
        if not slash:
            raise UserError(f"{path}: {files.names[i]!r} is not in a class folder{files.left_out}")
    classes = sorted({name for name, _, _ in class_of}, key=os.fsencode)
    label_of = {name: label for label, name in enumerate(classes)}
    entries = [*files.names, *(f"{folder}/" for folder in files.folders)]
    folders = {e.removeprefix(wrapper).partition("/")[0] for e in entries if _is_in(e, wrapper)}
    if empty := len(folders - label_of.keys()):
        files.lost[NO_CLASS] += empty
    return ImageFiles(files, indexes, [label_of[name] for name, _, _ in class_of], classes)


def _is_in(entry: str, wrapper: str) -> bool:
    """True if an entry is in a class folder, not directly in the top folder `wrapper`."""
    return entry.startswith(wrapper) and "/" in entry[len(wrapper) :]
