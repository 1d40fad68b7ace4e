"""Image files of common kinds, written to a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.image_sets import smooth_images

TURNED = 0x0112
"""The EXIF tag of the orientation."""


def write_pictures(folder: Path, size_px: int, seed: int = 5) -> list[str]:
    """Write files of several sizes, modes and formats, two in a sub-folder; return their names."""
    (folder / "more").mkdir(parents=True)
    large = [Image.fromarray(image) for image in smooth_images(8, 3 * size_px, 3, seed)]
    wide = (2 * size_px + 3, size_px)
    exif = Image.Exif()
    exif[TURNED] = 6
    levels = np.asarray(large[3].convert("L")).astype(np.uint16)
    large[0].save(folder / "a.png")
    large[1].resize(wide).save(folder / "turned.jpg", exif=exif)
    large[2].resize((size_px, size_px)).save(folder / "of the size.jpg", quality=80)
    Image.fromarray(levels * 256 + 99).save(folder / "sixteen bits.png")
    large[4].convert("P").save(folder / "palette.png")
    large[5].convert("CMYK").save(folder / "more" / "cmyk.JPG")
    clear = large[6].convert("RGBA").resize(wide)
    clear.putalpha(large[2].convert("L").resize(wide))
    clear.save(folder / "more" / "clear.webp", lossless=True)
    large[7].convert("L").save(folder / "gray.bmp")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))


def write_damaged(folder: Path) -> dict[str, str]:
    """Write files that cannot be read; return name -> words of the message about it."""
    picture = folder / "whole.png"
    Image.fromarray(smooth_images(1, 40, 3, seed=6)[0]).save(picture)
    data = picture.read_bytes()
    picture.unlink()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("not a picture")
    (folder / "text.png").write_text("not a picture either")
    return {
        "cut.png": "cannot be decoded",
        "empty.jpg": "cannot be decoded",
        "notes.txt": "no image by its content",
        "text.png": "cannot be decoded",
    }
