"""Recognition of images from the ending of the file name, or from the first bytes of the content.

The reasons below ("hidden", "empty" and so on) are stored in the manifests of sets. So their words
must never change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shards.errors import UserError
from shards.terminal import printing

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
    *(".gif", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
)
"""The endings of image file names, in upper or lower case. A file with such an ending always counts
as an image. So a damaged image is listed among the rejected images, and is not silently ignored."""

HIDDEN = "hidden"
LINK = "link (not followed)"
SPECIAL = "pipe, socket or device"
OVERWRITTEN = "overwritten by a later entry of its name"
EMPTY = "empty"
UNREADABLE = "cannot be opened"
NO_IMAGE = "no image by its content"
NO_CLASS = "class folder without an image"
OTHER_IMAGE = "another image of its sample"
NO_SAMPLE = "of no sample"

HEAD_BYTES = 64
"""The number of bytes at the start of a file that are read to recognise its kind."""

_RAWS = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef"),
    *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".sr2", ".srw"),
)
"""Endings of cameras' raw files. Some start like a TIFF file, and Pillow would read only their
thumbnail."""
_NOT_READ = (
    *_RAWS,
    *(".heic", ".heif", ".hif", ".jxl", ".jxr", ".svg", ".svgz", ".psd", ".psb", ".xcf", ".pdf"),
    *(".ai", ".eps", ".ps", ".ico", ".icns", ".exr", ".hdr", ".dds", ".tga", ".pcx", ".pbm"),
    *(".pgm", ".ppm", ".pnm", ".pfm", ".dcm", ".nii", ".emf", ".wmf", ".flif", ".bpg"),
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"),
)
"""Endings of image and video files that cannot be read."""
_STARTS_NOT_READ = {
    b"8BPS": "PSD",
    b"%PDF-": "PDF",
    b"\xff\x0a": "JXL",
    b"\0\0\0\x0cJXL ": "JXL",
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"\xff\x4f\xff\x51",
    *_TIFF,
)
_BMP_HEADER_BYTES = (12, 16, 40, 52, 56, 64, 108, 124)


def is_named_image(name: str) -> bool:
    """True if a file name ends with one of EXTENSIONS, in upper or lower case."""
    return name.lower().endswith(EXTENSIONS)


def why_no_image(name: str, read_head: Callable[[], bytes]) -> str | None:
    """Return the reason why an entry is not a readable image, or None if it is a readable image.

    Args:
        name: The name of the entry.
        read_head: Returns the first HEAD_BYTES bytes of the entry, or all bytes of a shorter entry.
            It is called only if `name` does not have the ending of an image.
    """
    if is_named_image(name):
        return None
    try:
        head = read_head()
    except (PermissionError, UserError):
        return UNREADABLE
    if not head:
        return EMPTY
    lower = name.lower()
    ending = next((ending for ending in _NOT_READ if lower.endswith(ending)), "")
    if is_image(head) and not (ending in _RAWS and head.startswith(_TIFF)):
        return None
    if ending:
        return f"{ending[1:].upper()} (not read)"
    for start, kind in _STARTS_NOT_READ.items():
        if head.startswith(start):
            return f"{kind} (not read)"
    return "HEIC (not read)" if _brands(head) & {b"heic", b"heix", b"heif", b"mif1"} else NO_IMAGE


def is_image(head: bytes) -> bool:
    """True if `head` is the start of an image file that `shards.pixels.decode` can read."""
    if head.startswith(_STARTS):
        return True
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head.startswith(b"BM"):  # A text may start with "BM" too.
        return int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES
    return bool(_brands(head) & {b"avif", b"avis"})


def _brands(head: bytes) -> set[bytes]:
    """Return the brands, such as b"avif", that the first box of an ISO media file lists.

    Returns an empty set if the file is of another kind.
    """
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    # The four bytes after the first brand are its version.
    return {head[i : i + 4] for i in range(8, end - 3, 4) if i != 12}


def told(passed_over: Mapping[str, int]) -> str:
    """Return the counts per reason as a part of a message: "empty: 2, hidden: 1"."""
    return ", ".join(f"{reason}: {count:,}" for reason, count in sorted(passed_over.items()))


def tell(where: object, passed_over: Mapping[str, int]) -> None:
    """Print a note on stderr with the number of entries that are passed over, if there are any.

    Args:
        where: The folder, archive or URL, for the note.
        passed_over: The number of entries that are passed over: reason -> count.
    """
    if passed_over:
        count = sum(passed_over.values())
        note = f"note: {where}: {count:,} entries are passed over ({told(passed_over)})"
        printing.tell(note)
