"""The small images (256 x 256 px) of Places365: `val_256.tar`, `test_256.tar` or unpacked folders.

    val_256/Places365_val_00000001.jpg ...

The labels of "val" are in two other files:

    places365_val.txt           each line is a file name and a label
    categories_places365.txt    each line is a class, such as "/a/airfield", and its label

These two files are searched in the folder of images, and beside this folder or the tar of images.
In both places they may also be inside `filelist_places365-standard.tar` or its unpacked folder. If
they are missing, the images are unlabelled.
"""

from __future__ import annotations

from pathlib import Path

from shards.errors import UserError
from shards.sources.archives import open_files
from shards.sources.files import text_lines
from shards.sources.image_files import ImageFiles

VAL_LABELS = "places365_val.txt"
CATEGORIES = "categories_places365.txt"
FILE_LISTS = "filelist_places365-standard"


def open_places365(path: Path, split: str) -> ImageFiles:
    """Open the images of one split.

    Args:
        path: The tar, or the folder to which it unpacks.
        split: "val" or "test".

    Raises:
        UserError: There is no image, a list of labels is damaged, or an image has no label or an
            unknown label.
    """
    files = open_files(path, by_name=True)
    indexes = files.images()
    lists = _lists(path) if split == "val" else None
    if lists is None:
        return ImageFiles(files, indexes)
    paths, labels_lines, categories_lines = lists
    label_of = _numbers(labels_lines, paths[0])
    classes = sorted(number_of := _numbers(categories_lines, paths[-1]), key=number_of.__getitem__)
    labels = []
    for i in indexes:
        name = files.names[i].split("/")[-1]
        label = label_of.get(name)
        if label is None:
            raise UserError(f"{paths[0]}: no label of {name}")
        if not 0 <= label < len(classes):
            raise UserError(f"{paths[0]}: {name} has label {label} of {len(classes)}")
        labels.append(label)
    return ImageFiles(files, indexes, labels, classes, paths)


def _lists(path: Path) -> tuple[tuple[Path, ...], list[str], list[str]] | None:
    """Find and read the two files that hold the labels.

    Returns:
        The paths of the files or of their tar, the lines of VAL_LABELS, and the lines of
        CATEGORIES. None if the files are missing.
    """
    for folder in (path.parent, path, path.parent / FILE_LISTS, path / FILE_LISTS):
        labels, categories, tar = (
            folder / name for name in (VAL_LABELS, CATEGORIES, f"{FILE_LISTS}.tar")
        )
        if labels.is_file():
            return (labels, categories), text_lines(labels), text_lines(categories)
        if tar.is_file():
            files = open_files(tar)
            return (tar,), files.lines(VAL_LABELS), files.lines(CATEGORIES)
    return None


def _numbers(lines: list[str], path: Path) -> dict[str, int]:
    """Parse lines that each have a name and a number, and return name -> number.

    Raises:
        UserError: A line has another form; the message names `path`.
    """
    try:
        return {name: int(number) for name, number in (line.rsplit(None, 1) for line in lines)}
    except ValueError as error:
        raise UserError(f"{path}: a line is not a name and a number: {error}") from error
