"""Decoding one encoded image, by Pillow, whatever its mode; and what makes an image a bad one."""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
from PIL import Image, ImageOps

from shards.resize import MAX_PIXELS, MODES, BadImage, in_channels

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""What a file may be, whatever its name says. Pillow knows more, and for some of it (PostScript)
runs another program on what it is given."""

# Before this Pillow does not know all of them.
Image.init()
# Pillow only warns between its limit and twice that.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode(data: bytes, channels: int) -> Image.Image:
    """The first frame of an encoded image, turned as its EXIF orientation says.

    Args:
        data: The file's content.
        channels: 3 (RGB) or 1 (gray); any other mode is converted, transparency is dropped.

    Returns:
        An image in memory, of mode RGB or L. (As an array it would have to be copied twice.)

    Raises:
        BadImage: it is not an image, damaged, or larger than MAX_PIXELS.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{file.width} x {file.height} pixels")
            file.load()
            ImageOps.exif_transpose(file, in_place=True)
            return in_channels(_to_8_bit(file), channels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"larger than {MAX_PIXELS} pixels: {_one_line(error)}") from error
    except MemoryError:
        # The image may be good, and in the set of the next who builds it.
        raise
    # Pillow's decoders raise nearly anything on damaged files (SyntaxError, struct.error, ...).
    except Exception as error:
        raise BadImage(f"cannot be decoded: {_one_line(error)}") from error


def encode(image: Image.Image, encoding: str) -> bytes:
    """An image as a file: "png", or "jpg" (quality 95, chroma not subsampled)."""
    file = io.BytesIO()
    if encoding == "png":
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def is_stored_as_is(data: bytes, size_px: int, channels: int) -> bool:
    """Whether a file is a JPEG of this size and these channels, whatever it is decoded by."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return (
            image.format == "JPEG"
            and image.size == (size_px, size_px)
            and image.mode == MODES[channels]
            and image.getexif().get(_ORIENTATION, 1) == 1
        )


_ORIENTATION = 0x0112


def _one_line(error: BaseException) -> str:
    """What an error says, the same in every process: without addresses of objects."""
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "it", str(error))
    return " ".join(text.split()) or type(error).__name__


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit gray as 8-bit by its upper byte; Pillow's `convert` would clip it to white."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
