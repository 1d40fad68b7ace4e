"""Decoding of one image file with Pillow. All errors of Pillow become `BadImage`."""

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
"""The file formats that are read. The name of a file does not matter. Pillow knows more formats,
but for some (PostScript) it runs another program on the file."""
# Pillow only warns if an image has between one time and two times Pillow's limit of pixels.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode(
    data: bytes, channels: int, background: str = WHITE, intensity: Intensity | None = None
) -> Image.Image:
    """Decode the first picture of an image file, turn it upright and convert it to sRGB.

    Args:
        data: The content of the file.
        channels: 3 (RGB) or 1 (gray).
        background: The colour behind transparent parts, as #rrggbb.
        intensity: The values that become 0 and 255 if the file does not state the range of its
            values.

    Returns:
        An image of mode RGB or L, loaded into memory, without comment, profile or other metadata.
        It is not an array, because an array would have to be copied twice.

    Raises:
        BadImage: The file is not an image, is damaged, or has more than MAX_PIXELS pixels. Or the
            file does not state the range of its values, and `intensity` is None.
    """
    with _opened(data) as file:
        image = to_levels(file, channels, background, intensity)
        image.info = {}
        return image


def holds_several(data: bytes) -> bool:
    """True if an image file holds several pictures. `decode` returns only the first picture.

    A JPEG file always counts as one picture, because phones add a small second picture to it.
    """
    # Most files need not be opened again. A PNG holds several pictures only with an acTL chunk.
    if data.startswith(b"\xff\xd8") or (data.startswith(b"\x89PNG") and b"acTL" not in data):
        return False
    try:
        with _opened(data) as file:
            return getattr(file, "is_animated", False)
    except BadImage:  # The data after the first picture is damaged.
        return False


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image file. Errors in the block become `BadImage`.

    Raises:
        BadImage: The file is not an image, is damaged, or has more than MAX_PIXELS pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{file.width} x {file.height} pixels")
            yield file
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"larger than {MAX_PIXELS} pixels: {_one_line(error)}") from error
    except (MemoryError, BadImage):
        # A MemoryError does not mean that the image is bad: another machine may decode it.
        raise
    # On damaged files Pillow's decoders raise errors of many types (SyntaxError, struct.error...).
    except Exception as error:
        raise BadImage(f"cannot be decoded: {_one_line(error)}") from error


def encode(image: Image.Image, encoding: str) -> bytes:
    """Return the file content of an image, encoded as `encoding`.

    `encoding` is "png" or "jpg". A JPEG file gets quality 95 and no subsampling of the chroma.
    """
    file = io.BytesIO()
    if encoding == "png":
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def is_stored_as_is(data: bytes, size_px: int, channels: int) -> bool:
    """True if a file is a JPEG that already has the form of a set.

    Any decoder then reads it as an upright sRGB image of `size_px` x `size_px` with `channels`
    channels.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return (
            image.format == "JPEG"
            and image.size == (size_px, size_px)
            and image.mode == MODES[channels]
            and image.getexif().get(ORIENTATION, 1) == 1
            and is_srgb(image.info.get("icc_profile"), image.mode)
        )


def _one_line(error: BaseException) -> str:
    """Return the text of an error in one line.

    Memory addresses of objects are left out, because they differ between processes.
    """
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "it", str(error))
    return " ".join(text.split()) or type(error).__name__
