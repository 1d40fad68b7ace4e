"""Pictures of any kind -> 8 bits and the colours of sRGB, by what the file states or a set's rule.

What a picture shows must not depend on how it is stored. A file that states its range (8 bits; 12
bits of a TIFF; JPEG 2000 by its precision) is understood. One that does not (floats, 32 bits, and
16 bits of which the upper one is never used: 12 bits in a 16-bit file look so) is refused, unless
the set has a rule, `intensity`, for all of its images. No image is stretched to its own range,
which would hide what is unusual about it.
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
"""What transparent images are laid on unless another background is asked for."""
MAX_VALUE = 1e300
Intensity = tuple[float, float]
"""The values that become 0 and 255."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2
_WITH_ALPHA = {"LA": "L", "La": "L", "PA": "RGB", "RGBA": "RGB", "RGBa": "RGB"}
"""Pillow's modes with transparency -> that of the colours alone."""
_SPACES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
"""Colour space of an ICC profile -> the mode of the images that it is about."""
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
"""What makes an image of each EXIF orientation stand upright."""
WHOLE_16_BITS = (0, 65535)
_RAW_16 = re.compile(";16[BLN]")
"""How Pillow calls 16 bits a colour in a file; `;16` alone is those of a pixel."""
SAME_LEVELS = 2
"""A profile that moves no colour by more is sRGB but for rounding: it moves none."""


def is_colour(text: str) -> bool:
    """Whether a text is #rrggbb, as manifests and exported files have a background."""
    return re.fullmatch("#[0-9a-f]{6}", text) is not None


def is_intensity(low: float, high: float) -> bool:
    """Whether two numbers can be the values of black and white."""
    return abs(low) <= MAX_VALUE and abs(high) <= MAX_VALUE and low < high


def to_levels(
    image: Image.Image, channels: int, background: str = WHITE, intensity: Intensity | None = None
) -> Image.Image:
    """An image of any mode as one of mode RGB (3 channels) or L (1), turned as its EXIF data says.

    Args:
        image: As Pillow opened it, best before it is loaded: what its file states is looked at.
        channels: 3 or 1.
        background: What transparent parts are laid on: #rrggbb.
        intensity: The values that become 0 and 255 where the file does not state its range; values
            beyond are cut off.

    Returns:
        The image itself if there is nothing to do.

    Raises:
        BadImage: The file does not state what its values mean, or they are not finite.
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
    """The colours of an image, of any mode of 8 bits, and its transparency, of mode L."""
    key = image.info.get("transparency")
    if image.mode.startswith(("I", "F")):
        values = _values(image)
        is_clear = None if key is None else Image.fromarray(values != key).convert("L")
        return Image.fromarray(_levels(image, values, intensity)), is_clear
    _refuse_unread(image, intensity, has_16_bits)
    if key is not None and image.mode in ("1", "L", "P", "RGB"):
        image = image.convert("RGBA")
    if image.mode in _WITH_ALPHA:
        return _colours(image), image.getchannel(len(image.getbands()) - 1)
    return image, None


def _colours(image: Image.Image) -> Image.Image:
    """The colours of an image with transparency, those that are hidden too."""
    straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)  # of which alpha was multiplied in
    image = image.convert(straight) if straight else image
    return image.convert(_WITH_ALPHA[image.mode])


def _tags(image: Image.Image) -> Any:
    return getattr(image, "tag_v2", {})


def _values(image: Image.Image) -> np.ndarray:
    """The numbers of an image of mode I;16 and its like, I or F: [H,W]."""
    values = np.asarray(image)
    tags = _tags(image)
    if image.mode == "I" and tags and tags.get(_SAMPLE_FORMAT, (1,))[0] != _SIGNED:
        return values.view(np.uint32)  # Pillow has no mode for them, and lets them wrap around
    return values


def _levels(image: Image.Image, values: np.ndarray, intensity: Intensity | None) -> np.ndarray:
    """The numbers of an image of more than 8 bits as levels, uint8 [H,W]."""
    if not np.isfinite(values).all():
        raise BadImage("has values that are NaN or infinite")
    bits = _own_bits(image)
    if bits is None and intensity is None:
        bits = _container_bits(image, values)
    if bits is None and intensity == WHOLE_16_BITS and image.mode.startswith("I;16"):
        bits = 16  # by the upper byte, as of colours
    if bits is None:
        assert intensity is not None
        low, high = intensity
        scaled = (values.astype(np.float64) - low) * (255 / (high - low))
        levels = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    else:
        levels = (values.astype(np.int64) >> (bits - 8)).astype(np.uint8)
    # Which Pillow minds in images of 8 bits only.
    return 255 - levels if _tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO else levels


def _own_bits(image: Image.Image) -> int | None:
    """How many bits the file states that its numbers have, whatever rule a set has."""
    if image.format == "JPEG2000":
        return 16  # whatever it states, Pillow has filled them
    bits = int(_tags(image).get(_BITS_PER_SAMPLE, (16,))[0])
    return bits if image.mode.startswith("I;16") and bits < 16 else None


def _container_bits(image: Image.Image, values: np.ndarray) -> int:
    """16, if the numbers of a file use them; refuses a file whose range nothing tells."""
    # Before version 11.3 Pillow had no other mode than I for some 16-bit files.
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
    """Refuse what Pillow reads by halves: signed bytes, colours of 16 bits that may be fewer."""
    if image.mode == "L" and _tags(image).get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
        raise BadImage("holds signed bytes, which are not read: store it with unsigned ones")
    if not has_16_bits:
        return
    # Pillow reads the upper byte of each alone.
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
    """An image of any mode of 8 bits by its ICC profile as RGB; as it is if that changes nothing.

    A profile that is damaged, or about another colour space, states nothing; then the colours are
    taken for those of sRGB, as a browser does.
    """
    image = image if image.mode in _SPACES.values() else image.convert("RGB")
    transform = _transform(profile, image.mode)
    if transform is None:
        return image
    converted = transform.apply(image)
    assert converted is not None
    return converted


def is_srgb(profile: bytes | None, mode: str) -> bool:
    """Whether colours of images of a mode are those of sRGB, as far as a profile tells."""
    return not profile or _transform(profile, mode) is None


@functools.lru_cache(maxsize=64)  # cameras and programs have one profile for all of their images
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """How colours become those of sRGB; None where they are these already."""
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _SPACES.get(own.profile.xcolor_space.strip()) != mode:
            return None
        # Optimised, gray is read off a coarse table, up to 10 levels off where it is dark.
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
    """Colours from everywhere in a space."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
    return Image.fromarray(grid.reshape(len(steps), -1, 3))
