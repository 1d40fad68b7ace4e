"""Decoding one encoded image, by Pillow, and what makes an image a bad one."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator

from PIL import Image

from shards.pixels.levels import ORIENTATION, WHITE, Intensity, is_srgb, to_levels
from shards.pixels.resize import MAX_PIXELS, MODES, BadImage

# Before this Pillow does not know all formats.
Image.init()
FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "JPEG2000", "AVIF")
    if name in Image.OPEN  # older Pillows have no AVIF
)
"""What a file may be, whatever its name says. Pillow knows more, and for some of it (PostScript)
runs another program on what it is given."""
# Pillow only warns between its limit and twice that.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode(
    data: bytes, channels: int, background: str = WHITE, intensity: Intensity | None = None
) -> Image.Image:
    """The first picture of an image file, upright, with the levels and colours that it states.

    Args:
        data: The file's content.
        channels: 3 (RGB) or 1 (gray).
        background: What transparent parts are laid on: #rrggbb.
        intensity: See `to_levels`.

    Returns:
        An image in memory, of mode RGB or L, without comment, profile or other metadata. (As an
        array it would have to be copied twice.)

    Raises:
        BadImage: It is not an image, damaged, or larger than MAX_PIXELS, or does not state what its
            values mean.
    """
    with _opened(data) as file:
        image = to_levels(file, channels, background, intensity)
        image.info = {}
        return image


def holds_several(data: bytes) -> bool:
    """Whether there are further pictures in an image file, of which `decode` takes the first.

    The small second picture that a telephone adds to its JPEGs does not count.
    """
    # Most files need not be opened once more for that: a PNG of several pictures has an acTL chunk.
    if data.startswith(b"\xff\xd8") or (data.startswith(b"\x89PNG") and b"acTL" not in data):
        return False
    try:
        with _opened(data) as file:
            return getattr(file, "is_animated", False)
    except BadImage:  # what follows the first picture is damaged: it can be told no better
        return False


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """An image file that is not too large; within the block too, what fails makes it a bad one."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{file.width} x {file.height} pixels")
            yield file
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"larger than {MAX_PIXELS} pixels: {_one_line(error)}") from error
    except (MemoryError, BadImage):
        # With more memory the image may be good, and in the set of the next who builds it.
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
            and image.getexif().get(ORIENTATION, 1) == 1
            and is_srgb(image.info.get("icc_profile"), image.mode)
        )


def _one_line(error: BaseException) -> str:
    """What an error says, the same in every process: without addresses of objects."""
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "it", str(error))
    return " ".join(text.split()) or type(error).__name__
