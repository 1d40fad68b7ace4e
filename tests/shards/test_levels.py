"""Levels, colours and transparency are read as a file states them, or the file is refused."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from shards.pixels.decode import FORMATS, decode, holds_several, is_stored_as_is
from shards.pixels.levels import to_levels
from shards.pixels.resize import BadImage, to_pixels
from tests.support.stored_cases import (
    colour_picture,
    gray_picture,
    icc_profile,
    png,
    saved,
    srgb_of_light,
    tiff,
)

GRAY, COLOUR = gray_picture(), colour_picture()
WIDE = GRAY.astype(np.uint16)
WHITE_IS_ZERO, RGB = 0, 2
SIGNED, FLOAT = 2, 3


def levels(data: bytes, channels: int = 1, **rule: object) -> np.ndarray:
    return np.squeeze(to_pixels(decode(data, channels, **rule)))


STATED = {
    "png 8": saved(GRAY, "PNG"),
    "bmp": saved(GRAY, "BMP"),
    "webp": saved(Image.fromarray(GRAY).convert("RGB"), "WEBP", lossless=True),
    "gif": saved(GRAY, "GIF"),
    "jpeg 2000": saved(GRAY, "JPEG2000"),
    "jpeg 2000 of 16 bits": saved(Image.fromarray(WIDE * 257), "JPEG2000"),
    "palette": saved(Image.fromarray(GRAY).convert("P"), "PNG"),
    "rgb": saved(Image.fromarray(GRAY).convert("RGB"), "PNG"),
    "png 16, times 257": png(WIDE[..., None] * 257, 16, 0),
    "png 16, times 256": png(WIDE[..., None] * 256, 16, 0),
    "png 16 and alpha": png(np.stack([WIDE * 257, np.full_like(WIDE, 65535)], -1), 16, 4),
    "png 16 rgb": png((WIDE * 257)[..., None].repeat(3, 2), 16, 2),
    "tiff 8": tiff(GRAY, bits=8),
    "tiff 8, white is zero": tiff(255 - GRAY, bits=8, photometric=WHITE_IS_ZERO),
    "tiff 12": tiff(WIDE * 16, bits=12),
    "tiff 12, all of it": tiff(np.rint(GRAY * (4095 / 255)).astype(np.uint16), bits=12),
    "tiff 16": tiff(WIDE * 257, bits=16),
    "tiff 16, big-endian": tiff(WIDE * 257, bits=16, order=">"),
    "tiff 16, white is zero": tiff(65535 - WIDE * 257, bits=16, photometric=WHITE_IS_ZERO),
    "tiff 16, lzw": saved(Image.fromarray(WIDE * 257), "TIFF", compression="tiff_lzw"),
    "tiff 16 rgb": tiff((WIDE * 257)[..., None].repeat(3, 2), bits=16, photometric=RGB),
}
"""The gray picture in files that state the meaning of their values."""


@pytest.mark.parametrize("name", list(STATED))
def test_what_a_file_states_gives_the_same_levels(name: str) -> None:
    assert np.array_equal(levels(STATED[name]), GRAY)
    assert np.array_equal(levels(STATED[name], 3), GRAY[..., None].repeat(3, 2))


UNSTATED: dict[str, tuple[bytes, float, float, str]] = {
    "float 0..1": (tiff((GRAY / 255).astype("f4"), bits=32, sample_format=FLOAT), 0, 1, "floats"),
    "float 0..65535": (
        tiff((GRAY * 257.0).astype("f4"), bits=32, sample_format=FLOAT, order=">"),
        0,
        65535,
        "floats, 0 to 65535",
    ),
    "float, white is zero": (
        tiff((1 - GRAY / 255).astype("f4"), bits=32, sample_format=FLOAT, photometric=0),
        0,
        1,
        "floats",
    ),
    "signed 16": (
        tiff(GRAY.astype("i2") - 128, bits=16, sample_format=SIGNED),
        -128,
        127,
        "-128 to 127",
    ),
    "signed 32": (
        tiff((GRAY.astype("i4") - 100) * 1000, bits=32, sample_format=SIGNED),
        -100_000,
        155_000,
        "integers",
    ),
    "unsigned 32": (
        tiff(GRAY.astype("u4") * 0x01010101, bits=32),
        0,
        0xFFFFFFFF,
        "4.29497e\\+09",
    ),
    "12 bits in a png of 16": (png(WIDE[..., None] * 16, 16, 0), 0, 4080, "up to 4080, use 12"),
    "10 bits in a tiff of 16": (tiff(WIDE * 4, bits=16), 0, 1020, "--intensity 0 1023"),
    "15 bits in a png of 16": (png(WIDE[..., None] * 128, 16, 0), 0, 32640, "use 15"),
}
"""Files that do not state it: file, value of black, value of white, words of the refusal."""


@pytest.mark.parametrize("name", list(UNSTATED))
def test_what_no_file_states_is_refused_or_given(name: str) -> None:
    data, low, high, reason = UNSTATED[name]
    with pytest.raises(BadImage, match=reason) as caught:
        decode(data, 1)
    assert "--intensity" in str(caught.value) and "\n" not in str(caught.value)
    assert np.array_equal(levels(data, intensity=(low, high)), GRAY)


def test_one_rule_for_all_images_cuts_off_and_stretches_none() -> None:
    values = np.array([[-5.0, 0, 10, 20, 30, 99]], "f4")
    for factor in (1, 0.5):  # Half the values give a darker picture; it is not stretched.
        data = tiff(values * np.float32(factor), bits=32, sample_format=FLOAT)
        expected = np.rint(np.clip((values * factor - 10) / 20, 0, 1) * 255)[0]
        assert np.array_equal(levels(data, intensity=(10, 30)), expected)
    # A file of 8 bits states its range, so the rule is not applied.
    assert np.array_equal(levels(STATED["png 8"], intensity=(10, 30)), GRAY)


def test_a_rule_leaves_what_a_file_states() -> None:
    for name in ("tiff 12", "tiff 12, all of it", "jpeg 2000 of 16 bits", "bmp", "webp"):
        assert np.array_equal(levels(STATED[name], intensity=(100, 1023)), GRAY), name


def test_gray_and_colour_of_16_bits_are_alike() -> None:
    values = np.random.default_rng(6).integers(0, 65536, (16, 16, 1), np.uint16)
    for rule in (None, (0, 65535)):
        gray = levels(png(values, 16, 0), intensity=rule)
        colour = levels(png(values.repeat(3, 2), 16, 2), intensity=rule)
        assert np.array_equal(gray, colour), rule


def test_16_bits_a_pixel_are_not_16_bits_a_colour() -> None:
    """A dark BMP of 5, 6 and 5 bits is accepted: it states its range."""
    header = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 3, 32, 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    pixels = np.full(16, 3 << 11 | 6 << 5 | 3, "<u2").tobytes()
    data = b"BM" + struct.pack("<IHHI", 66 + 32, 0, 0, 66) + header + masks + pixels
    for rule in (None, (0, 4095)):
        assert np.abs(levels(data, 3, intensity=rule).astype(int) - 24).max() <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(value: float) -> None:
    values = (GRAY / 255).astype("f4")
    values[3, 4] = value
    with pytest.raises(BadImage, match="NaN or infinite"):
        decode(tiff(values, bits=32, sample_format=FLOAT), 1, intensity=(0, 1))


def test_a_black_picture_of_16_bits_is_black() -> None:
    assert not levels(png(np.zeros((4, 4, 1)), 16, 0)).any()


@pytest.mark.parametrize(
    "data",
    [
        png(COLOUR.astype(np.uint16) * 16, 16, 2),
        tiff(COLOUR.astype(np.uint16) * 16, bits=16, photometric=RGB),
        png(np.concatenate([COLOUR, COLOUR[..., :1] * 0 + 255], 2).astype(np.uint16) * 16, 16, 6),
    ],
    ids=["png", "tiff", "with alpha"],
)
def test_colours_of_12_bits_in_16_are_refused(data: bytes) -> None:
    with pytest.raises(BadImage, match="upper one is never used"):
        decode(data, 3)
    with pytest.raises(BadImage, match="--intensity 0 4095 cannot be applied"):
        decode(data, 3, intensity=(0, 4095))
    decode(data, 3, intensity=(0, 65535))


def test_signed_bytes_are_refused() -> None:
    data = tiff(GRAY.view(np.int8), bits=8, sample_format=SIGNED)
    with pytest.raises(BadImage, match="signed bytes"):
        decode(data, 1)


# ---- transparency ---------------------------------------------------------------------------


def laid_on(colours: np.ndarray, alpha: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Lay colours, uint8 [H,W,3], with alpha, uint8 [H,W], on a background: float [H,W,3]."""
    share = alpha[..., None] / 255
    return colours * share + np.array(background) * (1 - share)


ALPHA = np.random.default_rng(5).integers(0, 256, GRAY.shape, np.uint8)
ALPHA[:4], ALPHA[4:8] = 0, 255
RGBA = np.dstack([COLOUR, ALPHA])
IS_ONE = (COLOUR == COLOUR[5, 5]).all(-1)
GRAYS = GRAY[..., None].repeat(3, 2)
OF_GRAY_7 = np.where(GRAY == 7, 0, 255).astype(np.uint8)

CLEAR = {
    "png rgba": (saved(RGBA, "PNG"), COLOUR, ALPHA),
    "webp": (saved(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True), COLOUR, ALPHA),
    "tiff rgba": (saved(RGBA, "TIFF"), COLOUR, ALPHA),
    "gray and alpha": (
        saved(Image.merge("LA", [*map(Image.fromarray, (GRAY, ALPHA))]), "PNG"),
        GRAYS,
        ALPHA,
    ),
    "16 bits": (png(RGBA.astype(np.uint16) * 257, 16, 6), COLOUR, ALPHA),
    "a transparent colour": (
        png(COLOUR, 8, 2, {b"tRNS": COLOUR[5, 5].astype(">u2").tobytes()}),
        COLOUR,
        np.where(IS_ONE, 0, 255),
    ),
    "a transparent gray": (png(GRAY[..., None], 8, 0, {b"tRNS": b"\0\7"}), GRAYS, OF_GRAY_7),
    "a transparent gray of 16 bits": (
        png(WIDE[..., None] * 257, 16, 0, {b"tRNS": b"\7\7"}),
        GRAYS,
        OF_GRAY_7,
    ),
    "a transparent entry of a palette": (
        saved(Image.fromarray(GRAY).convert("P"), "PNG", transparency=7),
        GRAYS,
        OF_GRAY_7,
    ),
    "gif": (saved(Image.fromarray(GRAY).convert("P"), "GIF", transparency=7), GRAYS, OF_GRAY_7),
}
"""Name -> file, its colours and its alpha."""


@pytest.mark.parametrize("name", list(CLEAR))
@pytest.mark.parametrize(
    ("background", "rgb"), [("#ffffff", (255,) * 3), ("#2040c0", (32, 64, 192))]
)
def test_transparent_images_are_laid_on_the_background(name, background, rgb) -> None:
    data, colours, alpha = CLEAR[name]
    found = levels(data, 3, background=background).astype(float)
    assert np.abs(found - laid_on(colours, alpha, rgb)).max() <= 1
    assert np.array_equal(found[alpha == 255], colours[alpha == 255])
    gray = levels(data, 1, background=background)
    assert np.array_equal(gray, np.asarray(Image.fromarray(found.astype(np.uint8)).convert("L")))


def test_alpha_that_was_multiplied_in() -> None:
    """Premultiplied alpha (TIFF's extra sample 1): stored colours plus a part of the background."""
    stored = np.rint(COLOUR * (ALPHA[..., None] / 255)).astype(np.uint8)
    data = tiff(np.dstack([stored, ALPHA]), bits=8, photometric=RGB, extra_samples=1)
    expected = stored + (255 - ALPHA[..., None].astype(float))
    assert np.abs(levels(data, 3) - expected).max() <= 2


def test_hidden_colours_do_not_show() -> None:
    """Two files that differ only in fully transparent pixels give the same picture."""
    black, white = RGBA.copy(), RGBA.copy()
    black[ALPHA == 0, :3], white[ALPHA == 0, :3] = 0, 255
    assert np.array_equal(levels(saved(black, "PNG"), 3), levels(saved(white, "PNG"), 3))


def test_black_ink_on_nothing_is_black_on_white() -> None:
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[2:6, 3, 3] = 255
    found = levels(saved(ink, "PNG"))
    assert np.array_equal(found, np.where(ink[..., 3], 0, 255))


# ---- profiles -------------------------------------------------------------------------------


def test_linear_light_becomes_srgb() -> None:
    data = saved(COLOUR, "PNG", icc_profile=icc_profile(1.0))
    expected = srgb_of_light(COLOUR / 255)
    assert np.abs(levels(data, 3) - expected).max() <= 1.5
    assert np.abs(expected - COLOUR).max() > 50


def test_the_primaries_of_a_profile_count() -> None:
    data = saved(COLOUR, "TIFF", icc_profile=icc_profile(2.2, swapped=True))
    light = (COLOUR / 255) ** 2.2
    assert np.abs(levels(data, 3) - srgb_of_light(light[..., ::-1])).max() <= 2.5


def test_a_gray_profile() -> None:
    data = saved(GRAY, "PNG", icc_profile=icc_profile(1.0, b"GRAY"))
    assert np.abs(levels(data) - srgb_of_light(GRAY / 255)).max() <= 1


def test_a_profile_and_transparency() -> None:
    data = saved(RGBA, "PNG", icc_profile=icc_profile(1.0))
    expected = laid_on(srgb_of_light(COLOUR / 255), ALPHA, (255, 255, 255))
    assert np.abs(levels(data, 3) - expected).max() <= 2


@pytest.mark.parametrize("damage", [b"", b"no profile", icc_profile(1.0)[:150]])
def test_a_profile_that_states_nothing_changes_nothing(damage: bytes) -> None:
    assert np.array_equal(levels(saved(COLOUR, "PNG", icc_profile=damage), 3), COLOUR)


def test_a_profile_of_another_space_changes_nothing() -> None:
    data = saved(COLOUR, "PNG", icc_profile=icc_profile(1.0, b"GRAY"))
    assert np.array_equal(levels(data, 3), COLOUR)


def test_srgb_itself_changes_nothing() -> None:
    from PIL import ImageCms

    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(levels(saved(COLOUR, "PNG", icc_profile=own), 3), COLOUR)
    jpeg = saved(COLOUR, "JPEG", icc_profile=own)
    assert is_stored_as_is(jpeg, 16, 3)
    assert not is_stored_as_is(saved(COLOUR, "JPEG", icc_profile=icc_profile(1.0)), 16, 3)


def test_nothing_but_pixels_is_handed_on() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret"
    data = saved(RGBA, "PNG", icc_profile=icc_profile(1.0), exif=exif, dpi=(72, 72))
    assert decode(data, 3).info == {}
    assert decode(saved(COLOUR, "JPEG", comment="a secret"), 3).info == {}


# ---- files of several pictures, and images that are in memory -------------------------------


def test_files_of_several_pictures() -> None:
    frames = [Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (40, 90)]
    for format_ in ("GIF", "TIFF", "PNG", "WEBP"):
        one, two = (
            saved(frames[0], format_, save_all=True, append_images=more)
            for more in ([], frames[1:])
        )
        assert not holds_several(one), format_
        assert holds_several(two), format_
        assert np.abs(levels(two).astype(int) - 40).max() <= 2, format_
    assert not holds_several(saved(COLOUR, "JPEG"))


def test_a_good_first_picture_is_taken_though_the_next_is_damaged() -> None:
    frames = [Image.fromarray(np.full((40, 40), level, np.uint8)) for level in (40, 90)]
    whole = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    cut = whole[: whole.rindex(b"\x2c") + 12]  # The cut is inside the second frame.
    assert np.array_equal(levels(cut), np.full((40, 40), 40))
    holds_several(cut)  # It must not raise; both answers are right.


def test_all_formats_are_there() -> None:
    assert {"GIF", "JPEG2000", "AVIF"} <= set(FORMATS)
    data = saved(COLOUR, "AVIF", quality=100, subsampling="4:4:4")
    assert np.abs(levels(data, 3).astype(int) - COLOUR).mean() < 3


@pytest.mark.parametrize("name", list(STATED))
def test_an_opened_image_is_as_its_file(name: str) -> None:
    with Image.open(io.BytesIO(STATED[name])) as image:
        assert np.array_equal(np.asarray(to_levels(image, 1)), GRAY)


def test_an_opened_image_stays_as_it_is() -> None:
    with Image.open(io.BytesIO(saved(RGBA, "PNG", icc_profile=icc_profile(1.0)))) as image:
        to_levels(image, 3)
        assert image.mode == "RGBA" and "icc_profile" in image.info
        assert np.array_equal(np.asarray(image), RGBA)
