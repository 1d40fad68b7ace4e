"""Conversion of pictures of any kind to 8 bits and the colours of sRGB.

The result must not depend on how a picture is stored. Some files state the range of their values:
all files of 8 bits, a TIFF of 12 bits, or a JPEG 2000. These are converted with the stated range.

Other files do not state their range. They hold floats, integers of 32 bits, or values of 16 bits
whose highest bit is never used (such as a picture of 12 bits that was stored with 16 bits). These
are refused, unless the user gives the range of all images of the set with `intensity`.

No image is stretched from its own darkest and brightest value, because this would hide how an
unusual image differs from others.
"""

from __future__ import annotations

import functools
import io
import re
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from shards.pixels.resize import BadImage, in_channels

WHITE = "#ffffff"
"""The default colour behind the transparent parts of images."""
MAX_VALUE = 1e300
"""The largest absolute value allowed in an `Intensity`, so that the difference stays finite."""
Intensity = tuple[float, float]
"""The two values of an image file that become the levels 0 and 255."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2
_WITH_ALPHA = {"LA": "L", "La": "L", "PA": "RGB", "RGBA": "RGB", "RGBa": "RGB"}
"""Pillow's modes with transparency, and the modes without it: mode -> mode without transparency."""
_SPACES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
"""Pillow's mode for images in each colour space of ICC profiles: colour space -> mode."""
ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transformation that makes an image upright: EXIF orientation -> transformation."""
WHOLE_16_BITS = (0, 65535)
"""The `Intensity` that covers all values of 16 bits."""
_RAW_16 = re.compile(";16[BLN]")
"""The pattern of Pillow's raw modes for files with several colours of 16 bits each. The raw modes
for one value of 16 bits per pixel have `;16` without a letter."""
SAME_LEVELS = 2
"""The largest difference between levels that counts as rounding. A profile that changes no level by
more than this counts as sRGB."""


def is_colour(text: str) -> bool:
    """True if a text is a colour as #rrggbb, with lower-case digits.

    Manifests and exported files store the background in this form.
    """
    return re.fullmatch("#[0-9a-f]{6}", text) is not None


def is_intensity(low: float, high: float) -> bool:
    """True if the two numbers are a valid `Intensity`: finite, not too large, and low < high."""
    return abs(low) <= MAX_VALUE and abs(high) <= MAX_VALUE and low < high


def to_levels(
    image: Image.Image, channels: int, background: str = WHITE, intensity: Intensity | None = None
) -> Image.Image:
    """Convert an image of any mode to 8 bits and sRGB, and turn it upright with its EXIF data.

    Args:
        image: An image that Pillow opened. It should not be loaded yet, because loading drops some
            information about the file.
        channels: 3 for mode RGB, or 1 for mode L.
        background: The colour behind transparent parts, as #rrggbb.
        intensity: The values that become 0 and 255 if the file does not state the range of its
            values. Lower values become 0, and higher values become 255.

    Returns:
        The converted image, or the same image if nothing changes.

    Raises:
        BadImage: The file does not state the range of its values and `intensity` is None, some
            values are not finite, or Pillow cannot read the file fully.
    """
    has_16_bits = (
        any(_RAW_16.search(str(tile)) for tile in image.tile) if hasattr(image, "tile") else False
    )
    image.load()
    colours, alpha = _parts(image, intensity, has_16_bits)
    if profile := image.info.get("icc_profile"):
        colours = to_srgb(colours, profile)
    if alpha is not None:
        page = Image.new("RGB", image.size, background)
        page.paste(colours.convert("RGB"), mask=alpha)
        colours = page
    turn = _TURNS.get(image.getexif().get(ORIENTATION, 1))
    return in_channels(colours if turn is None else colours.transpose(turn), channels)


def _parts(
    image: Image.Image, intensity: Intensity | None, has_16_bits: bool
) -> tuple[Image.Image, Image.Image | None]:
    """Split an image into its colours and its opacity.

    Returns:
        The colours as an image with 8 bits per channel, and the opacity as an image of mode L. The
        opacity is None if the image has no transparency.
    """
    key = image.info.get("transparency")
    if image.mode.startswith(("I", "F")):
        values = _values(image)
        opacity = None if key is None else Image.fromarray(values != key).convert("L")
        return Image.fromarray(_levels(image, values, intensity)), opacity
    _refuse_unread(image, intensity, has_16_bits)
    if key is not None and image.mode in ("1", "L", "P", "RGB"):
        image = image.convert("RGBA")
    if image.mode in _WITH_ALPHA:
        return _colours(image), image.getchannel(len(image.getbands()) - 1)
    return image, None


def _colours(image: Image.Image) -> Image.Image:
    """Return the colours of an image without its transparency, also in transparent parts."""
    # The modes La and RGBa hold colours that were multiplied with the opacity.
    straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
    image = image.convert(straight) if straight else image
    return image.convert(_WITH_ALPHA[image.mode])


def _tags(image: Image.Image) -> Any:
    return getattr(image, "tag_v2", {})


def _values(image: Image.Image) -> np.ndarray:
    """Return the values [H,W] of an image of mode I, F or I;16 (also I;16B and so on)."""
    values = np.asarray(image)
    tags = _tags(image)
    if image.mode == "I" and tags and tags.get(_SAMPLE_FORMAT, (1,))[0] != _SIGNED:
        # Pillow has no mode for unsigned integers, so large values have become negative.
        return values.view(np.uint32)
    return values


def _levels(image: Image.Image, values: np.ndarray, intensity: Intensity | None) -> np.ndarray:
    """Convert the values [H,W] of an image with more than 8 bits to 8 bits. Returns uint8 [H,W]."""
    if not np.isfinite(values).all():
        raise BadImage("has values that are NaN or infinite")
    bits = _own_bits(image)
    if bits is None and intensity is None:
        bits = _container_bits(image, values)
    if bits is None and intensity == WHOLE_16_BITS and image.mode.startswith("I;16"):
        bits = 16  # The upper byte is taken, as Pillow does for several colours of 16 bits each.
    if bits is None:
        assert intensity is not None
        low, high = intensity
        scaled = (values.astype(np.float64) - low) * (255 / (high - low))
        levels = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    else:
        levels = (values.astype(np.int64) >> (bits - 8)).astype(np.uint8)
    # In a TIFF, 0 may mean white. Pillow inverts such images only if they have 8 bits.
    return 255 - levels if _tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO else levels


def _own_bits(image: Image.Image) -> int | None:
    """Return the number of bits per value that a file states, or None if it states no number."""
    if image.format == "JPEG2000":
        return 16  # Pillow scales values of any stated precision to 16 bits.
    bits = int(_tags(image).get(_BITS_PER_SAMPLE, (16,))[0])
    return bits if image.mode.startswith("I;16") and bits < 16 else None


def _container_bits(image: Image.Image, values: np.ndarray) -> int:
    """Return 16 if the values of an image use the whole range of 16 bits.

    Raises:
        BadImage: The range of the values is unknown, because the values are not integers of 16 bits
            or never use the highest bit.
    """
    # Before version 11.3, Pillow opened some files of 16 bits in the mode I.
    if not (image.mode.startswith("I;16") or image.format == "PNG"):
        kind = "floats" if image.mode == "F" else "integers of 32 bits or signed ones"
        raise BadImage(
            f"holds {kind}, {values.min():g} to {values.max():g}, and does not state which are "
            "black and white: --intensity LOW HIGH says it, for the whole set"
        )
    if 0 < values.max() < 1 << 15:
        raise BadImage(_unused_bits(int(values.max())))
    return 16


def _unused_bits(highest: int) -> str:
    bits = max(highest.bit_length(), 9)
    return (
        f"is of 16 bits, of which the values, up to {highest}, use {highest.bit_length()}; it does "
        f"not state which is white: --intensity 0 {2**bits - 1}, or 0 65535, says it, for the "
        "whole set"
    )


def _refuse_unread(image: Image.Image, intensity: Intensity | None, has_16_bits: bool) -> None:
    """Refuse files that Pillow reads only in part.

    Raises:
        BadImage: The file has signed bytes. Or it has several colours of 16 bits each, and the
            upper 8 bits are not enough to convert them.
    """
    if image.mode == "L" and _tags(image).get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
        raise BadImage("holds signed bytes, which are not read: store it with unsigned ones")
    if not has_16_bits:
        return
    # Pillow reads only the upper byte of each colour.
    if "transparency" in image.info:
        raise BadImage("has 16 bits a colour and one that is transparent, which is not read")
    if intensity is not None and intensity != WHOLE_16_BITS:
        raise BadImage(
            f"has 16 bits a colour, of which the upper 8 are read: --intensity {intensity[0]:g} "
            f"{intensity[1]:g} cannot be applied; store it with 8 bits"
        )
    colours = [band for band in image.getbands() if band not in "Aa"]
    highest = max(int(np.asarray(image.getchannel(band)).max()) for band in colours)
    if intensity is None and highest < 1 << 7:
        raise BadImage(
            "has 16 bits a colour, of which the upper one is never used; it does not state which "
            "value is white: --intensity 0 65535 takes it as it is, or store it with 8 bits"
        )


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an image with 8 bits per channel from the colours of its ICC profile to sRGB.

    If the profile is damaged or belongs to another colour space, it is ignored, and the colours
    count as sRGB. Browsers do the same.

    Returns:
        An image of mode RGB. If the colours are sRGB already, the image in its own mode, or in mode
        RGB if its own mode is not L, RGB or CMYK.
    """
    image = image if image.mode in _SPACES.values() else image.convert("RGB")
    transform = _transform(profile, image.mode)
    if transform is None:
        return image
    converted = transform.apply(image)
    assert converted is not None
    return converted


def is_srgb(profile: bytes | None, mode: str) -> bool:
    """True if images of this mode with this ICC profile have the colours of sRGB already.

    None or an empty profile counts as sRGB.
    """
    return not profile or _transform(profile, mode) is None


@functools.lru_cache(maxsize=64)  # A camera or a program uses one profile for all of its images.
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion from the colours of a profile to sRGB.

    Returns None if the conversion would change nothing, or if the profile cannot be used.
    """
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _SPACES.get(own.profile.xcolor_space.strip()) != mode:
            return None
        # With optimisation, gray is converted with a coarse table, and dark levels are wrong by up
        # to 10.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(own, srgb, mode, "RGB", flags=flags)
        if mode == "CMYK":
            return transform
        probe = _probe(mode)
        moved = np.asarray(transform.apply(probe), np.int16) - np.asarray(
            probe.convert("RGB"), "i2"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform if np.abs(moved).max() > SAME_LEVELS else None


def _probe(mode: str) -> Image.Image:
    """Return an image whose pixels are samples of all colours of a mode, L or RGB."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
    return Image.fromarray(grid.reshape(len(steps), -1, 3))
