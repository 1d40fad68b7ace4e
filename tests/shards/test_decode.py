"""Decoding of any mode, upright, within the limit of pixels, and with reasons in one line."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from shards.pixels.decode import decode, encode, is_stored_as_is
from shards.pixels.resize import BadImage, to_image, to_pixels
from tests.support.shard_cases import random_images


def saved(image: Image.Image | np.ndarray, format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(file, format_, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_mode(mode: str, channels: int) -> None:
    if mode == "I;16":
        high = random_images(1, channels=1)[0, :, :, 0]
        image = Image.fromarray(high.astype(np.uint16) * 256 + 77)
        expected = np.repeat(high[:, :, None], channels, 2)
    else:
        image = Image.fromarray(random_images(1)[0]).convert(mode)
        expected = np.asarray(image.convert("RGB" if channels == 3 else "L")).reshape(6, 6, -1)
    pixels = to_pixels(decode(saved(image, "TIFF"), channels))
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_formats(format_: str) -> None:
    data = saved(random_images(1, size_px=20)[0, :13], format_)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(to_pixels(decode(data, 3)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = (255, 0, 0)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(np.ascontiguousarray(stored), "PNG", exif=exif)
    assert np.array_equal(to_pixels(decode(data, 3)), upright)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that states a large size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cannot be decoded"),
        (b"<html>not found</html>", "cannot be decoded"),
        (png_header(9, 9), "cannot be decoded"),
        (POSTSCRIPT, "cannot be decoded"),
        (saved(random_images(1, size_px=64)[0], "JPEG", quality=95)[:3000], "cannot be decoded"),
        (png_header(10_000, 9_000), "larger than 89478485 pixels"),
        (png_header(65_500, 65_500), "larger than 89478485 pixels"),
    ],
    ids=["empty", "html", "no data", "program", "cut", "bomb", "huge bomb"],
)
@pytest.mark.parametrize("warn", ["error", "ignore"])
def test_a_bad_image_has_one_line(data: bytes, reason: str, warn) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(warn)
        with pytest.raises(BadImage, match=reason) as caught:
            decode(data, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_encode(channels: int) -> None:
    pixels = random_images(1, size_px=16, channels=channels)[0]
    stored = encode(to_image(pixels), "png")
    assert np.array_equal(to_pixels(decode(stored, channels)), pixels)
    smooth = np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16, 1).repeat(channels, 2)
    data = encode(to_image(smooth), "jpg")
    assert data[:2] == b"\xff\xd8"
    assert np.abs(to_pixels(decode(data, channels)).astype(int) - smooth).mean() < 2
    with Image.open(io.BytesIO(data)) as image:
        assert all(layer[1:3] == (1, 1) for layer in image.layer), "chroma is subsampled"


def test_what_is_stored_as_it_is() -> None:
    turned = Image.Exif()
    turned[0x0112] = 3
    rgb, gray = random_images(1)[0], random_images(1, channels=1)[0, :, :, 0]
    assert is_stored_as_is(saved(rgb, "JPEG"), 6, 3)
    assert is_stored_as_is(saved(gray, "JPEG"), 6, 1)
    assert not is_stored_as_is(saved(gray, "JPEG"), 6, 3)
    assert not is_stored_as_is(saved(rgb, "PNG"), 6, 3)
    assert not is_stored_as_is(saved(rgb, "JPEG"), 7, 3)
    assert not is_stored_as_is(saved(rgb, "JPEG", exif=turned), 6, 3)
    assert not is_stored_as_is(saved(Image.fromarray(rgb).convert("CMYK"), "JPEG"), 6, 3)


def test_no_program_is_run_on_an_image(monkeypatch) -> None:
    def run(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen.__init__", run)
    with pytest.raises(BadImage, match="cannot identify"):
        decode(POSTSCRIPT, 3)
