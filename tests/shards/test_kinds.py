"""Images are recognised by their content, for every kind of file that Pillow writes."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, features

from shards.sources.kinds import EXTENSIONS, HEAD_BYTES, is_image, why_no_image

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
READ = {"JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "MPO", "DIB"}
"""Pillow's names of the formats that are read; an MPO is a JPEG followed by more pictures."""


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, kind, **options)
    return file.getvalue()


def writable() -> list[str]:
    Image.init()
    found = []
    for kind in sorted(Image.SAVE):
        try:
            saved(kind)
            found.append(kind)
        except Exception:  # The format has no such mode, or its library is missing.
            continue
    return found


@pytest.mark.parametrize("kind", writable())
def test_each_kind_that_pillow_writes(kind: str) -> None:
    data = saved(kind)
    # A DIB is the only exception: it is a BMP without the file header, so it has no mark.
    expected = kind in READ - {"DIB"}
    assert is_image(data[:HEAD_BYTES]) is expected
    assert (why_no_image("picture", lambda: data[:HEAD_BYTES]) is None) is expected


@pytest.mark.parametrize(
    "options",
    [
        ("TIFF", {"big_tiff": True}),
        ("GIF", {"save_all": True, "append_images": [PICTURE]}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {"no_jp2": True}),
        ("JPEG2000", {"no_jp2": False}),
        *([("AVIF", {"save_all": True, "append_images": [PICTURE]})] * features.check("avif")),
    ],
    ids=lambda options: options[0],
)
def test_variants(options: tuple[str, dict[str, object]]) -> None:
    assert is_image(saved(options[0], **options[1])[:HEAD_BYTES])


def test_big_endian_tiff() -> None:
    file = io.BytesIO()
    Image.fromarray(np.arange(12, dtype=">u2").reshape(3, 4)).save(file, "TIFF")
    assert file.getvalue()[:2] == b"MM" and is_image(file.getvalue()[:HEAD_BYTES])


def media(major: bytes, *more: bytes) -> bytes:
    """Return the first box of an ISO media file, which states its brands."""
    size = 16 + 4 * len(more)
    return struct.pack(">I4s4sI", size, b"ftyp", major, 0) + b"".join(more)


@pytest.mark.parametrize(
    ("name", "head", "why"),
    [
        ("notes", b"BMW and other makes of cars, a long list", "no image by its content"),
        ("BM", b"BM", "no image by its content"),
        ("x", b"RIFF\x10\0\0\0WAVEfmt ", "no image by its content"),
        ("x.json", b'{"a": 1}', "no image by its content"),
        ("x", b"GIF8", "no image by its content"),
        ("x.jpg.txt", b"", "empty"),
        ("photo.HEIC", media(b"heic", b"mif1", b"heic"), "HEIC (not read)"),
        ("photo", media(b"heic", b"mif1", b"heic"), "HEIC (not read)"),
        ("photo", media(b"mif1", b"mif1", b"heic"), "HEIC (not read)"),
        ("film", media(b"isom", b"avc1"), "no image by its content"),
        ("film.mp4", media(b"isom", b"avc1"), "MP4 (not read)"),
        ("page.svg", b"<svg xmlns=", "SVG (not read)"),
        ("page", b"%PDF-1.7", "PDF (not read)"),
        ("layers", b"8BPS\0\1", "PSD (not read)"),
        ("new", b"\xff\x0a\xfa", "JXL (not read)"),
        ("camera.NEF", b"II*\0\x08\0\0\0", "NEF (not read)"),
        ("camera.dng", b"MM\0*\0\0\0\x08", "DNG (not read)"),
        ("camera.dng", b"\xff\xd8\xff\xe0", None),
        ("renamed.heic", b"\xff\xd8\xff\xe1", None),
        ("renamed.txt", b"\x89PNG\r\n\x1a\n", None),
        ("still", media(b"mif1", b"miaf", b"avif"), None),
        ("cut.jpg", b"", None),
        ("page.png", b"<html>", None),
    ],
)
def test_what_is_said_of_a_file(name: str, head: bytes, why: str | None) -> None:
    assert why_no_image(name, lambda: head) == why


@pytest.mark.parametrize("ending", [*EXTENSIONS, ".JPG"])
def test_what_is_named_as_an_image_is_not_opened(ending: str) -> None:
    assert why_no_image(f"x{ending}", lambda: pytest.fail("opened")) is None


def test_what_may_not_be_opened() -> None:
    def refused() -> bytes:
        raise PermissionError(13, "Permission denied")

    assert why_no_image("x", refused) == "cannot be opened"


def test_endings_are_those_of_pillow() -> None:
    """Every ending for which Pillow saves one of the formats that are read is an image's ending."""
    Image.init()
    for ending, kind in Image.registered_extensions().items():
        if kind in READ - {"MPO"}:
            assert ending in EXTENSIONS, ending
