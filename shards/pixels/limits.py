"""Limits on the size of image files, which are checked before a file is read whole."""

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
"""The largest accepted size of an image file in bytes, 1.07 GB. This is the size of MAX_PIXELS
pixels with three uncompressed float32 channels."""
LOOK_BYTES = 16 << 20
"""The largest size in bytes of a file that is read whole at once. If a file is larger, its header
is read and checked first."""


def refuse_large(size: int, open_file: Callable[[], AbstractContextManager[IO[bytes]]]) -> None:
    """Refuse an image file that has too many bytes or too many pixels.

    The number of pixels is read from the header, and only if the file has more than LOOK_BYTES
    bytes. The pixels of smaller files are counted when they are decoded.

    Args:
        size: The size of the file in bytes.
        open_file: A function that opens the file.

    Raises:
        BadImage: The file has more than MAX_FILE_BYTES bytes or more than MAX_PIXELS pixels.
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
        except Exception:  # The file is damaged. `decode` will describe the damage better.
            return
    if width * height > MAX_PIXELS:
        raise BadImage(f"larger than {MAX_PIXELS} pixels: {width} x {height} pixels")


def read_picture(path: Path) -> bytes:
    """Return the content of an image file.

    Raises:
        BadImage: The file is too large, or is a pipe, a socket or a device.
        OSError: The file cannot be read.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise BadImage("is a pipe, socket or device")
    refuse_large(status.st_size, lambda: open(path, "rb"))
    return path.read_bytes()
