"""Removal from a JPEG file of all but its picture: comments, profiles, EXIF, a second picture.

The result decodes to the same pixels, bit by bit. It keeps the segments that decoders need; of the
application segments these are JFIF (APP0) and Adobe (APP14), which say how colours are stored.
"""

from __future__ import annotations

import re

_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
_APP0, _APP14, _APP15 = 0xE0, 0xEE, 0xEF
_MARKER = re.compile(rb"\xff+[^\x00\x01\xff\xd0-\xd7]")
"""A marker that ends coded data; there 0xff 0x00 is a byte, and 0xff 0xd0 to 0xd7 are restarts."""


def bare_jpeg(data: bytes) -> bytes:
    """Return the segments of a JPEG file that make its picture, up to the end of the picture.

    Args:
        data: The content of a file that was decoded without an error.
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
        if code == _SOS:  # After its header there is coded data, up to the next marker.
            following = _MARKER.search(data, end)
            end = following.start() if following else len(data)
        if _is_kept(code):
            parts += [bytes([0xFF, code]), data[start:end]]
        place = end
    return b"".join(parts)


def _is_kept(code: int) -> bool:
    return code in (_APP0, _APP14) or not (_APP0 <= code <= _APP15 or code == _COM)
