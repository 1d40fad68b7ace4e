"""Decoding of one encoded image, by Pillow, with all of its errors as `BadImage`."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator

from PIL import Image

from shards.pixels.levels import ORIENTATION, WHITE, Intensity, is_srgb, to_levels
from shards.pixels.resize import MAX_PIXELS, MODES, BadImage

# Pillow knows only some formats before this call.
Image.init()
FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "JPEG2000", "AVIF")
    if name in Image.OPEN  # Older versions of Pillow have no AVIF.
)
"""The formats that are read, whatever the name of the file. Pillow knows more, but for some of them
(PostScript) it runs another program on the file."""
# Between its limit and twice its limit Pillow only warns.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode(
    data: bytes, channels: int, background: str = WHITE, intensity: Intensity | None = None
) -> Image.Image:
    """Decode the first picture of an image file, upright and in sRGB (see `to_levels`).

    Args:
        data: The content of the file.
        channels: 3 (RGB) or 1 (gray).
        background: The colour behind transparent parts: #rrggbb.
        intensity: The values that become 0 and 255 if the file does not state its range.

    Returns:
        An image in memory, of mode RGB or L, without comment, profile or other metadata. (An array
        would have to be copied twice.)

    Raises:
        BadImage: The file is not an image, is damaged, is larger than MAX_PIXELS, or does not state
            what its values mean.
    """
    with _opened(data) as file:
        image = to_levels(file, channels, background, intensity)
        image.info = {}
        return image


def holds_several(data: bytes) -> bool:
    """True if an image file holds more pictures than the first, which `decode` takes.

    The small second picture that telephones add to their JPEGs does not count.
    """
    # Most files need not be opened again: only a PNG with an acTL chunk has several pictures.
    if data.startswith(b"\xff\xd8") or (data.startswith(b"\x89PNG") and b"acTL" not in data):
        return False
    try:
        with _opened(data) as file:
            return getattr(file, "is_animated", False)
    except BadImage:  # The data after the first picture is damaged.
        return False


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image file that is not too large; errors in the block are raised as `BadImage`."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{file.width} x {file.height} pixels")
            yield file
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"larger than {MAX_PIXELS} pixels: {_one_line(error)}") from error
    except (MemoryError, BadImage):
        # A lack of memory does not make an image bad: another machine may decode it.
        raise
    # On damaged files Pillow's decoders raise errors of many types (SyntaxError, struct.error...).
    except Exception as error:
        raise BadImage(f"cannot be decoded: {_one_line(error)}") from error


def encode(image: Image.Image, encoding: str) -> bytes:
    """Encode an image as "png", or as "jpg" (quality 95, chroma not subsampled)."""
    file = io.BytesIO()
    if encoding == "png":
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def is_stored_as_is(data: bytes, size_px: int, channels: int) -> bool:
    """True if a file is a JPEG that any decoder reads as sRGB of this size and these channels."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return (
            image.format == "JPEG"
            and image.size == (size_px, size_px)
            and image.mode == MODES[channels]
            and image.getexif().get(ORIENTATION, 1) == 1
            and is_srgb(image.info.get("icc_profile"), image.mode)
        )


def _one_line(error: BaseException) -> str:
    """Return the text of an error without addresses of objects, which differ between processes."""
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "it", str(error))
    return " ".join(text.split()) or type(error).__name__
