"""Conversion of some images of a source into the samples of a tar, in the threads of a build."""

from __future__ import annotations

import hashlib
import math
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import numpy as np

from shards.building.dali_check import dali_errors
from shards.building.tally import Tally
from shards.format.writer import Packed, pack_encoded, pack_raw
from shards.manifest import EXTENSIONS
from shards.pixels.decode import encode, holds_several
from shards.pixels.fitted import fitted, keeps_file
from shards.pixels.jpeg import bare_jpeg
from shards.pixels.resize import BadImage, to_pixels
from shards.pixels.target import Target
from shards.sources.arrays import Images
from shards.sources.image_files import ImageFiles
from shards.sources.source import Source


@dataclass(frozen=True)
class Chunk:
    """Consecutive images in the order of a set, ready to be written."""

    packed: Packed | None
    """The good images, with their places in the set's order as keys; None if all are bad."""
    tally: Tally


def convert(
    source: Source,
    indexes: np.ndarray,
    first_place: int,
    target: Target,
    stopped: threading.Event,
    *,
    digest: bool,
) -> Chunk:
    """Read, decode, resize and encode some images of a source.

    An encoded image that DALI cannot decode is rejected, because DALI would stop a training there.

    Args:
        source: The source of the images.
        indexes: Their indexes in the source: int64 [N].
        first_place: The place of the first of them in the set's order.
        target: The form in which they are stored.
        stopped: Set when the images are not needed any more.
        digest: Also digest the files that are read.

    Raises:
        OSError: The source cannot be read.
        CancelledError: `stopped` was set.
    """
    names = [source.name(index) for index in indexes.tolist()]
    labels = None if source.labels is None else source.labels[indexes]
    keys = first_place + np.arange(len(indexes))
    extension = EXTENSIONS[target.encoding]
    if isinstance(source, Images) and target.keeps(source.shape):
        size = math.prod(source.shape)
        packed = pack_raw(keys, extension, size, lambda out: source.read_into(indexes, out), labels)
        height, width, _ = source.shape
        return Chunk(packed, Tally(names, [(height, width)] * len(names)))

    tally = Tally()
    stored: dict[int, Any] = {}
    sizes: dict[int, tuple[int, int]] = {}
    reasons: dict[int, str] = {}
    for i, index in enumerate(indexes.tolist()):
        if stopped.is_set():
            raise CancelledError
        try:
            item = _read(source, index, tally, digest=digest)
            stored[i], sizes[i] = _stored(item, target)
            tally.several += isinstance(item, bytes) and holds_several(item)
        except BadImage as error:
            reasons[i] = str(error)
    if target.encoding != "raw":
        errors = dali_errors(list(stored.values()))
        reasons |= {i: error for i, error in zip(stored, errors, strict=True) if error}
    good = [i for i in stored if i not in reasons]
    tally.names = [names[i] for i in good]
    tally.sizes = [sizes[i] for i in good]
    tally.rejects = [{"name": names[i], "reason": reasons[i]} for i in sorted(reasons)]
    if not good:
        return Chunk(None, tally)
    images = [stored[i] for i in good]
    keys, labels = keys[good], None if labels is None else labels[good]
    if target.encoding != "raw":
        return Chunk(pack_encoded(keys, extension, images, labels), tally)
    pixels = np.stack(images).reshape(len(images), -1)
    size = pixels.shape[1]
    return Chunk(pack_raw(keys, extension, size, lambda out: np.copyto(out, pixels), labels), tally)


def _read(source: Source, index: int, tally: Tally, *, digest: bool) -> np.ndarray | bytes:
    """Read an image; if `digest` is set, also add its file to the tally, even if it is bad."""
    try:
        item = source.read(index)
    except BadImage:  # The file is too large to be read at once.
        if digest and isinstance(source, ImageFiles):
            tally.note_file(source.name(index), *source.digest(index))
        raise
    if digest and isinstance(item, bytes):
        tally.note_file(source.name(index), len(item), hashlib.sha256(item).digest())
    return item


def _stored(item: np.ndarray | bytes, target: Target) -> tuple[np.ndarray | bytes, tuple[int, int]]:
    """Return the pixels or the file that a tar stores, and the height and width before resizing."""
    image, size = fitted(item, target)
    if target.encoding == "raw":
        return to_pixels(image), size
    if keeps_file(item, target):
        return bare_jpeg(item), size
    return encode(image, target.encoding), size
