"""USTAR members whose bytes depend on their names and contents alone, many at a time.

They have mode 0644, time 0 and no owner, and are the bytes that `tarfile` writes for such members.
A name is `<key>.<extension>`, where the key has nine digits. So no name needs an escape or a PAX
header, which DALI cannot read.
"""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Sequence
from typing import Any

import numpy as np

BLOCK_BYTES = 512
"""The unit of a tar: a header is one block, and data is padded to whole blocks."""
END = bytes(2 * BLOCK_BYTES)
"""The bytes that end a tar."""
KEY_DIGITS = 9
_SIZE = slice(124, 135)
_CHECKSUM = slice(148, 154)


def sample_key(place: int) -> str:
    """Return the key of the sample at `place` of a set's order: nine digits."""
    return f"{place:0{KEY_DIGITS}d}"


def padded(size: Any) -> Any:
    """Return a size in bytes, or an array of sizes, rounded up to whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def member_headers(keys: np.ndarray, extension: str, sizes: np.ndarray) -> np.ndarray:
    """Return the headers of members `<key>.<extension>`.

    Args:
        keys: Keys as numbers, int64 [N], 0 to 999,999,999.
        extension: The file extension of all members.
        sizes: The size of each member's data, bytes: int64 [N].

    Returns:
        uint8 [N,512].
    """
    headers = np.tile(np.frombuffer(_template(extension), np.uint8), (len(keys), 1))
    headers[:, :KEY_DIGITS] = _digits(keys, KEY_DIGITS, 10)
    headers[:, _SIZE] = _digits(sizes, _SIZE.stop - _SIZE.start, 8)
    # The checksum counts its own eight bytes as spaces, which the template has there.
    sums = headers.sum(1, dtype=np.int64)
    headers[:, _CHECKSUM] = _digits(sums, _CHECKSUM.stop - _CHECKSUM.start, 8)
    headers[:, _CHECKSUM.stop] = 0
    return headers


def blank_members(keys: np.ndarray, extension: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Make members whose data has one size and is filled in later.

    Args:
        keys: Keys as numbers, int64 [N].
        extension: The file extension of all members.
        size: The size of each member's data, bytes.

    Returns:
        Whole members, uint8 [N, 512 + size rounded up to blocks], and the view of their data that
        is to be filled, uint8 [N,size].
    """
    whole = np.empty((len(keys), BLOCK_BYTES + padded(size)), np.uint8)
    whole[:, :BLOCK_BYTES] = member_headers(keys, extension, np.full(len(keys), size))
    whole[:, BLOCK_BYTES + size :] = 0
    return whole, whole[:, BLOCK_BYTES : BLOCK_BYTES + size]


def members(keys: np.ndarray, extension: str, data: Sequence[bytes]) -> list[bytes]:
    """Return whole members, header and padded data, one for each of `keys` (int64 [N])."""
    headers = member_headers(keys, extension, np.array([len(d) for d in data], np.int64))
    return [
        header.tobytes() + content + bytes(padded(len(content)) - len(content))
        for header, content in zip(headers, data, strict=True)
    ]


@functools.lru_cache(maxsize=8)
def _template(extension: str) -> bytes:
    info = tarfile.TarInfo(f"{'0' * KEY_DIGITS}.{extension}")
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[_CHECKSUM.start : _CHECKSUM.stop + 2] = b" " * 8
    return bytes(header)


def _digits(numbers: np.ndarray, count: int, base: int) -> np.ndarray:
    """Return the last `count` digits of each number as ASCII: uint8 [N,count]."""
    powers = base ** np.arange(count - 1, -1, -1, dtype=np.int64)
    return (numbers[:, None] // powers % base + ord("0")).astype(np.uint8)
