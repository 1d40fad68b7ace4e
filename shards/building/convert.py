"""Conversion of images of a source into samples of a tar. The threads of a build run this code."""

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
    """Images at consecutive places of a set's order, converted and ready to be written."""

    packed: Packed | None
    """The images that could be decoded. Their keys are their places in the set's order. None if no
    image could be decoded."""
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
    """Read, decode, resize and encode images of a source that are neighbours in the set's order.

    An encoded image that DALI cannot decode is rejected, because DALI would stop the training at
    this image.

    Args:
        source: The source of the images.
        indexes: The indexes of the images in the source, int64 [N].
        first_place: The place of the first image in the set's order.
        target: The form in which the images are stored.
        stopped: An event that is set when the images are not needed any more.
        digest: If True, also add the sizes and checksums of the image files to the tally.

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
    """Read one image. If `digest` is True, also add the size and checksum of its file to `tally`.

    Raises:
        BadImage: The file is too large to be read. Its checksum is added to `tally` nevertheless.
    """
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
    """Convert an image to the form in which it is stored.

    Returns:
        The pixels, or the content of an image file if the set is encoded; and the height and width
        of the image before it was resized, in pixels.

    Raises:
        BadImage: The image cannot be decoded.
    """
    image, size = fitted(item, target)
    if target.encoding == "raw":
        return to_pixels(image), size
    if keeps_file(item, target):
        return bare_jpeg(item), size
    return encode(image, target.encoding), size
