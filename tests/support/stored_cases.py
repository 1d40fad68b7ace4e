"""One picture in the many forms in which files store it.

Files that Pillow cannot write are made here byte by byte: PNG and TIFF of any depth, ICC profiles.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from PIL import Image

SIDE = 16


def gray_picture() -> np.ndarray:
    """Return a picture of all 256 levels: uint8 [16,16]."""
    return np.random.default_rng(3).permutation(256).astype(np.uint8).reshape(SIDE, SIDE)


def colour_picture() -> np.ndarray:
    """Return a picture with black and white among its colours: uint8 [16,16,3]."""
    picture = np.random.default_rng(4).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    picture[0, 0], picture[0, 1] = 0, 255
    return picture


def saved(image: Image.Image | np.ndarray, format_: str, **options: object) -> bytes:
    """Return an image as a file that Pillow writes."""
    file = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(file, format_, **options)
    return file.getvalue()


def png(
    values: np.ndarray, bits: int, colour_type: int, extra: Mapping[bytes, bytes] = {}
) -> bytes:
    """Return a PNG of 8 or 16 bits of values [H,W,C], with `extra` chunks before its data."""
    height, width = values.shape[:2]
    rows = values.astype(">u2" if bits == 16 else "u1").reshape(height, -1)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0),
        **extra,
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )


def tiff(
    values: np.ndarray,
    *,
    bits: int,
    sample_format: int = 1,
    photometric: int = 1,
    extra_samples: int | None = None,
    order: str = "<",
) -> bytes:
    """Return an uncompressed TIFF of one strip.

    Args:
        values: [H,W] or [H,W,C], of the dtype whose bytes are stored; uint16 for 12 bits.
        bits: The bits of each sample.
        sample_format: 1 = unsigned, 2 = signed, 3 = float.
        photometric: 0 = white is zero, 1 = black is zero, 2 = RGB.
        extra_samples: 1 = premultiplied alpha, 2 = straight alpha.
        order: The byte order, "<" or ">".
    """
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(np.uint32)
        packed = pairs[:, 0] << 12 | pairs[:, 1]
        data = np.stack([packed >> 16, packed >> 8, packed], 1).astype(np.uint8).tobytes()
    else:
        data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags: dict[int, tuple[int, list[int]]] = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [bits] * channels),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, [8]),
        277: (3, [channels]),
        278: (3, [height]),
        279: (4, [len(data)]),
        339: (3, [sample_format] * channels),
    }
    if extra_samples is not None:
        tags[338] = (3, [extra_samples])
    start = 8 + len(data) + len(data) % 2
    after = start + 2 + 12 * len(tags) + 4
    entries, more = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        packed_numbers = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(packed_numbers) > 4:
            field = struct.pack(f"{order}I", after + len(more))
            more += packed_numbers
        else:
            field = packed_numbers.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + field
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return header + data + b"\0" * (len(data) % 2) + directory + more


SRGB_PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""X, Y, Z of red, green and blue, relative to ICC's white (D50)."""


def icc_profile(gamma: float, space: bytes = b"RGB ", swapped: bool = False) -> bytes:
    """Return a small profile: light = value ** gamma; with `swapped` red is stored last."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"test"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + bytes(78)
    tags = {b"desc": described, b"wtpt": xyz((0.9642, 1.0, 0.8249)), b"cprt": b"text\0\0\0\0no\0\0"}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        primaries = SRGB_PRIMARIES[::-1] if swapped else SRGB_PRIMARIES
        for name, primary in zip(b"rgb".decode(), primaries, strict=True):
            tags[f"{name}XYZ".encode()] = xyz(primary)
            tags[f"{name}TRC".encode()] = curve
    place = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        data = data.ljust(-(-len(data) // 4) * 4, b"\0")
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data
    header = struct.pack(">I4s", place + len(body), b"lcms") + bytes([2, 0x10, 0, 0])
    header += b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    header += b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    return header.ljust(128, b"\0") + table + body


def srgb_of_light(light: np.ndarray) -> np.ndarray:
    """Return light in 0..1 as levels in 0..255, by IEC 61966-2-1."""
    low = 12.92 * light
    return 255 * np.where(light <= 0.0031308, low, 1.055 * light ** (1 / 2.4) - 0.055)
