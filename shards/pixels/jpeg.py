"""Removal of everything except the picture from a JPEG file.

Comments, profiles, EXIF and a second picture are removed. The result decodes to exactly the same
pixels, because all segments that decoders need are kept. Two of the kept segments are application
segments: JFIF (APP0) and Adobe (APP14), which state how colours are stored.
"""

from __future__ import annotations

import re

_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
_APP0, _APP14, _APP15 = 0xE0, 0xEE, 0xEF
_MARKER = re.compile(rb"\xff+[^\x00\x01\xff\xd0-\xd7]")
"""A marker that ends compressed data. In compressed data, 0xff 0x00 is the byte 0xff, and 0xff 0xd0
to 0xff 0xd7 are restart markers, so these do not end it."""


def bare_jpeg(data: bytes) -> bytes:
    """Return a JPEG file without its metadata, and without any data after the end of the picture.

    Args:
        data: The content of a JPEG file that Pillow could decode without an error.
    """
    parts = [data[:2]]
    place = 2
    while found := _MARKER.search(data, place):
        code = data[found.end() - 1]
        if code == _EOI:
            parts.append(b"\xff\xd9")
            break
        start = found.end()
        end = start + int.from_bytes(data[start : start + 2])
        if code == _SOS:  # Compressed data follows its header, up to the next marker.
            following = _MARKER.search(data, end)
            end = following.start() if following else len(data)
        if _is_kept(code):
            parts += [bytes([0xFF, code]), data[start:end]]
        place = end
    return b"".join(parts)


def _is_kept(code: int) -> bool:
    return code in (_APP0, _APP14) or not (_APP0 <= code <= _APP15 or code == _COM)
