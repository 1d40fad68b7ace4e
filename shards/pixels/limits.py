"""How much is read of an image file before it is known what it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from PIL import Image

from shards.pixels.decode import FORMATS
from shards.pixels.resize import MAX_PIXELS, BadImage

MAX_FILE_BYTES = 12 * MAX_PIXELS
"""Of an encoded image: 1.07 GB, three float32 channels of the largest image, not compressed."""
LOOK_BYTES = 16 << 20
"""Of a larger file the header is read first: a few bytes more on the way to so many."""


def refuse_large(size: int, open_file: Callable[[], AbstractContextManager[IO[bytes]]]) -> None:
    """Look at the size of an encoded image, and if it is large at its header, before it is read.

    Args:
        size: Its bytes.
        open_file: Opens it.

    Raises:
        BadImage: it has more than MAX_FILE_BYTES, or says that it has more than MAX_PIXELS.
    """
    if size > MAX_FILE_BYTES:
        raise BadImage(f"has {size:,} bytes, more than {MAX_FILE_BYTES:,}")
    if size <= LOOK_BYTES:
        return
    with open_file() as file:
        try:
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise BadImage(f"larger than {MAX_PIXELS} pixels: {error}") from error
        except Exception:  # what is damaged the decoder tells
            return
    if width * height > MAX_PIXELS:
        raise BadImage(f"larger than {MAX_PIXELS} pixels: {width} x {height} pixels")


def read_picture(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        BadImage: it is too large, or no file that ends.
        OSError: it cannot be read.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise BadImage("is a pipe, socket or device")
    refuse_large(status.st_size, lambda: open(path, "rb"))
    return path.read_bytes()
