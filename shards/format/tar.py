"""Members of USTAR files, made for many samples in one call.

The bytes of a member depend only on its name and its content. All members have mode 0644, time 0
and no owner. They are the same bytes that Python's `tarfile` writes. A name is `<key>.<extension>`,
where the key has nine digits. Such a short name needs no PAX header, which DALI could not read.
"""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Sequence
from typing import Any

import numpy as np

BLOCK_BYTES = 512
"""The size of a block of a tar. A header is one block, and data is padded to whole blocks."""
END = bytes(2 * BLOCK_BYTES)
"""The bytes at the end of every tar: two blocks of zeros."""
KEY_DIGITS = 9
_SIZE = slice(124, 135)
_CHECKSUM = slice(148, 154)


def sample_key(place: int) -> str:
    """Return the key of sample number `place` of a set, as a text of nine digits."""
    return f"{place:0{KEY_DIGITS}d}"


def padded(size: Any) -> Any:
    """Return a size in bytes rounded up to whole blocks. An array of sizes is accepted too."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def member_headers(keys: np.ndarray, extension: str, sizes: np.ndarray) -> np.ndarray:
    """Return the headers of members with the names `<key>.<extension>`.

    Args:
        keys: The keys as numbers from 0 to 999,999,999: int64 [N].
        extension: The file extension of all members.
        sizes: The size of each member's data in bytes: int64 [N].

    Returns:
        The headers as uint8 [N,512].
    """
    headers = np.tile(np.frombuffer(_template(extension), np.uint8), (len(keys), 1))
    headers[:, :KEY_DIGITS] = _digits(keys, KEY_DIGITS, 10)
    headers[:, _SIZE] = _digits(sizes, _SIZE.stop - _SIZE.start, 8)
    # The checksum is computed with spaces in its own eight bytes. The template has these spaces.
    sums = headers.sum(1, dtype=np.int64)
    headers[:, _CHECKSUM] = _digits(sums, _CHECKSUM.stop - _CHECKSUM.start, 8)
    headers[:, _CHECKSUM.stop] = 0
    return headers


def blank_members(keys: np.ndarray, extension: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Make members of the same size, whose data the caller fills in afterwards.

    Args:
        keys: The keys as numbers: int64 [N].
        extension: The file extension of all members.
        size: The size of each member's data in bytes.

    Returns:
        The members, uint8 [N, 512 + size rounded up to blocks], and a view of the part that the
        caller must fill with data, uint8 [N,size].
    """
    whole = np.empty((len(keys), BLOCK_BYTES + padded(size)), np.uint8)
    whole[:, :BLOCK_BYTES] = member_headers(keys, extension, np.full(len(keys), size))
    whole[:, BLOCK_BYTES + size :] = 0
    return whole, whole[:, BLOCK_BYTES : BLOCK_BYTES + size]


def members(keys: np.ndarray, extension: str, data: Sequence[bytes]) -> list[bytes]:
    """Return members with the names `<key>.<extension>`.

    Args:
        keys: The keys as numbers: int64 [N].
        extension: The file extension of all members.
        data: The content of each member: N byte strings.

    Returns:
        The bytes of each member, which are its header and its padded content.
    """
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
    """Return the last `count` digits of each number, written in base `base` (10 or 8).

    Returns ASCII codes, uint8 [N,count].
    """
    powers = base ** np.arange(count - 1, -1, -1, dtype=np.int64)
    return (numbers[:, None] // powers % base + ord("0")).astype(np.uint8)
