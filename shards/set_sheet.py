"""A contact sheet of a shard set: the first samples of each class."""

from __future__ import annotations

import numpy as np
from PIL import Image

from shards.errors import printable
from shards.pixels.resize import to_image
from shards.pixels.sheet import draw_sheet, enlarged
from shards.reader import ShardSet

COLUMNS = 10
"""The number of pictures in a row of a sheet."""
MAX_SHEET_ROWS = 40
UNLABELLED_ROWS = 6
PICTURE_PX, MAX_PICTURE_PX = 96, 256
"""The sizes of pictures on a sheet. Images smaller than `PICTURE_PX` are enlarged to at most this
size, and images larger than `MAX_PICTURE_PX` are reduced to at most that size, by whole factors."""


def contact_sheet(shards: ShardSet) -> Image.Image:
    """Draw the first samples of a set.

    A labelled set gets one row per class that has samples, for at most `MAX_SHEET_ROWS` classes.
    Small images are enlarged by nearest neighbour, so that each pixel can be seen.
    """
    classes = shards.manifest.classes
    if not classes:
        ids = np.arange(min(len(shards), COLUMNS * UNLABELLED_ROWS))
        titles, rows = [], np.split(ids, ids[COLUMNS::COLUMNS])
    else:
        labels = shards.labels(np.arange(len(shards)))
        shown = np.unique(labels)[:MAX_SHEET_ROWS].tolist()
        titles = [printable(classes[label]) for label in shown]
        rows = [np.flatnonzero(labels == label)[:COLUMNS] for label in shown]
    pictures = [[sized_picture(pixels) for pixels in shards.read(row)] for row in rows]
    return draw_sheet(pictures, row_titles=titles)


def sized_picture(pixels: np.ndarray) -> Image.Image:
    """Convert an image, uint8 [H,W,C], to a picture that is neither too small nor too large."""
    image = to_image(pixels)
    longer = max(image.size)
    if longer > MAX_PICTURE_PX:
        return image.reduce(-(-longer // MAX_PICTURE_PX))
    return enlarged(image, max(1, PICTURE_PX // longer))
