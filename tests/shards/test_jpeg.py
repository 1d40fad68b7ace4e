"""A stripped JPEG has the same pixels, and none of the metadata."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from shards.pixels.jpeg import bare_jpeg
from tests.support.image_sets import smooth_images
from tests.support.stored_cases import icc_profile, saved

PICTURE = Image.fromarray(smooth_images(1, 96, 3, seed=2)[0])
SECRET = b"nobody must see this"


def exif() -> Image.Exif:
    data = Image.Exif()
    data[0x010E] = SECRET.decode()
    return data


ADOBE_RGB = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
"""Adobe's segment (APP14), which states that the three components are red, green and blue."""
JFIF_BYTES = 20
"""The end of the first segment, which is that of JFIF."""


FILES = {
    "plain": saved(PICTURE, "JPEG"),
    "progressive": saved(PICTURE, "JPEG", progressive=True, comment=SECRET),
    "comment": saved(PICTURE, "JPEG", comment=SECRET),
    "exif": saved(PICTURE, "JPEG", exif=exif()),
    "xmp": saved(PICTURE, "JPEG", xmp=SECRET),
    "profile": saved(PICTURE, "JPEG", icc_profile=icc_profile(2.2) + SECRET),
    "restarts": saved(PICTURE, "JPEG", restart_marker_blocks=3, comment=SECRET),
    "gray": saved(PICTURE.convert("L"), "JPEG", comment=SECRET),
    "cmyk": saved(PICTURE.convert("CMYK"), "JPEG", comment=SECRET),
    "rgb": saved(PICTURE, "JPEG", keep_rgb=True, comment=SECRET),
    "colours by Adobe's segment": (
        b"\xff\xd8" + ADOBE_RGB + saved(PICTURE, "JPEG", comment=SECRET)[JFIF_BYTES:]
    ),
    "something behind it": saved(PICTURE, "JPEG") + SECRET,
    "a second picture": saved(PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(90)]),
    "filled markers": saved(PICTURE, "JPEG", comment=SECRET).replace(
        b"\xff\xdb", b"\xff\xff\xff\xdb"
    ),
}


@pytest.mark.parametrize("name", list(FILES))
def test_the_picture_alone_is_left(name: str) -> None:
    data = FILES[name]
    bare = bare_jpeg(data)
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(bare)) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))
        assert after.format == "JPEG"
        assert set(after.info) <= {
            *("jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"),
            *("adobe", "adobe_transform", "progressive", "progression"),
        }
    assert SECRET not in bare
    assert bare.endswith(b"\xff\xd9") and bare.count(b"\xff\xd8") == 1
    assert bare_jpeg(bare) == bare
