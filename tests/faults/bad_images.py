"""Images that are damaged, disguised or oversized: what a folder from the wild holds."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.faults.cases import encoded, photographs
from tests.faults.trial import Trial

SIZE_PX = 64


def mutated_images(trial: Trial, count: int) -> dict[str, bytes]:
    """As many of each format and each mutator."""
    rng = trial.rng()
    formats: dict[str, Callable[[Image.Image], bytes]] = {
        "jpg": lambda image: encoded(image, "JPEG", quality=90),
        "progressive.jpg": lambda image: encoded(image, "JPEG", quality=85, progressive=True),
        "png": lambda image: encoded(image, "PNG"),
        "webp": lambda image: encoded(image, "WEBP", quality=85),
    }
    files = {}
    images = photographs(SIZE_PX, seed=6)
    for i in range(count):
        extension, encode = list(formats.items())[i % len(formats)]
        mutator = list(MUTATORS)[i // len(formats) % len(MUTATORS)]
        whole = encode(next(images))
        files[f"{i:05d}-{mutator}.{extension}"] = MUTATORS[mutator](rng, whole)
    return files


def _span(rng: np.random.Generator, data: bytes, longest: int = 200) -> slice:
    start = int(rng.integers(0, len(data)))
    return slice(start, start + int(rng.integers(1, longest)))


def _flip(rng: np.random.Generator, data: bytes, bits: int, end: int) -> bytes:
    flipped = bytearray(data)
    for place in rng.integers(0, min(end, len(data)), bits):
        flipped[place] ^= 1 << rng.integers(8)
    return bytes(flipped)


def _replace(data: bytes, span: slice, by: bytes) -> bytes:
    return data[: span.start] + by + data[span.stop :]


def _twice(data: bytes, span: slice) -> bytes:
    return data[: span.stop] + data[span.start :]


MUTATORS: dict[str, Callable[[np.random.Generator, bytes], bytes]] = {
    "one-bit": lambda rng, data: _flip(rng, data, 1, len(data)),
    "bits": lambda rng, data: _flip(rng, data, int(rng.integers(2, 40)), len(data)),
    "header": lambda rng, data: _flip(rng, data, int(rng.integers(1, 8)), 64),
    "cut": lambda rng, data: data[: rng.integers(0, len(data))],
    "cut-end": lambda rng, data: data[: -int(rng.integers(1, 12))],
    "zeros": lambda rng, data: _replace(data, s := _span(rng, data), bytes(s.stop - s.start)),
    "noise": lambda rng, data: _replace(data, s := _span(rng, data), rng.bytes(s.stop - s.start)),
    "removed": lambda rng, data: _replace(data, _span(rng, data), b""),
    "twice": lambda rng, data: _twice(data, _span(rng, data)),
    "appended": lambda rng, data: data + rng.bytes(int(rng.integers(1, 500))),
    "halves": lambda rng, data: data[len(data) // 2 :] + data[: len(data) // 2],
}


# --- strange images ---

MUST_BE_REJECTED = {
    "bomb.png",
    "bomb.jpg",
    "bomb.webp",
    "bomb.tif",
    "bomb.bmp",
    "just-too-large.png",
    "empty.jpg",
    "empty.png",
    "zero-byte.jpg",
    "html.jpg",
    "postscript.jpg",
}
MUST_BE_ACCEPTED = {
    "largest.png",
    "cmyk.jpg",
    "rotated.jpg",
    "gray.jpg",
    "palette.png",
    "transparent.png",
    "16-bit.png",
    "1-bit.png",
}
HAVE_A_RULE_OF_THEIR_OWN = {"16-bit.png"}
"""The upper byte is taken, where Pillow would clip."""


def strange_images() -> dict[str, bytes]:
    """Bombs, files that are no images, and images of rare kinds."""
    image = next(photographs(SIZE_PX, seed=7))
    wide = next(photographs(96, seed=8)).crop((0, 0, 96, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    sixteen = Image.fromarray(np.arange(SIZE_PX * SIZE_PX, dtype=np.uint16).reshape(64, 64) * 16)
    frames = list(next_images(3))
    files = {
        "bomb.png": png_header(65_500, 65_500, zlib.compress(b"\0" * 1000)),
        "bomb-max.png": png_header(2**31 - 1, 2**31 - 1, zlib.compress(b"\0" * 1000)),
        "bomb.jpg": with_jpeg_size(encoded(image, "JPEG"), 65_500, 65_500),
        "bomb.webp": webp_header(65_500, 65_500),
        "bomb-lossless.webp": lossless_webp_header(16_384, 16_384),
        "bomb.bmp": bmp_header(65_500, 65_500),
        "bomb.tif": with_tiff_size(encoded(image, "TIFF"), 65_500, 65_500),
        "bomb-text.png": png_with_text(encoded(image, "PNG"), 100_000_000),
        "just-too-large.png": encoded(Image.new("L", (9_460, 9_460)), "PNG"),
        "largest.png": encoded(Image.new("RGB", (9_459, 9_459)), "PNG", compress_level=1),
        "thin.png": encoded(Image.new("L", (65_500, 1)), "PNG"),
        "empty.jpg": b"",
        "empty.png": b"",
        "zero-byte.jpg": b"\0",
        "html.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "postscript.jpg": POSTSCRIPT,
        "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>',
        "gif.jpg": encoded(image, "GIF"),
        "gif-frames.jpg": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "frames.png": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "frames.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "gray.jpg": encoded(image.convert("L"), "JPEG"),
        "rotated.jpg": encoded(wide, "JPEG", exif=exif),
        "rotated-square.jpg": encoded(image, "JPEG", exif=exif),
        "palette.png": encoded(image.quantize(64), "PNG"),
        "transparent.png": encoded(image.convert("RGBA"), "PNG"),
        "gray-alpha.png": encoded(image.convert("LA"), "PNG"),
        "16-bit.png": encoded(sixteen, "PNG"),
        "1-bit.png": encoded(image.convert("1"), "PNG"),
        "one-pixel.png": encoded(image.resize((1, 1)), "PNG"),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "jpeg.png": encoded(image, "JPEG"),
    }
    return files


def next_images(count: int) -> list[Image.Image]:
    """Some photographs of the size."""
    images = photographs(SIZE_PX, seed=10)
    return [next(images) for _ in range(count)]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG that says it is so large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_with_text(data: bytes, text_bytes: int) -> bytes:
    """A PNG with a compressed text of zeros before its pixels."""
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(text_bytes), 9))
    return data[:33] + text + data[33:]


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header says another size."""
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def webp_header(width: int, height: int) -> bytes:
    """An extended WebP whose canvas is so large, with one small picture."""
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    simple = encoded(Image.new("RGB", (8, 8)), "WEBP")
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size + simple[12:]
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def lossless_webp_header(width: int, height: int) -> bytes:
    """A lossless WebP that says it is so large (its format's maximum is 16,384)."""
    bits = (width - 1) | (height - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(32)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def bmp_header(width: int, height: int) -> bytes:
    """A bitmap that says it is so large."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def with_tiff_size(data: bytes, width: int, height: int) -> bytes:
    """A TIFF whose first directory says another size."""
    changed = bytearray(data)
    start = struct.unpack_from("<I", data, 4)[0]
    for i in range(struct.unpack_from("<H", data, start)[0]):
        tag = struct.unpack_from("<H", data, start + 2 + 12 * i)[0]
        if tag in (256, 257):
            value = width if tag == 256 else height
            struct.pack_into("<HHII", changed, start + 2 + 12 * i, tag, 4, 1, value)
    return bytes(changed)


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 64 64
%%EndComments
0 0 64 64 rectfill
showpage
%%EOF
"""
"""Pillow has another program, Ghostscript, decode this."""
