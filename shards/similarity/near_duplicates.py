"""Images that two shard sets share: equal images, and one picture that was stored in two ways.

There are three stages, and each compares all pairs:

1. digest: images of the same size, number of channels and pixels are equal;
2. hash: `imagehash.phash`, 64 bits of the low frequencies of the gray image; pairs whose hashes
   differ by at most `max_hash_bits` are candidates;
3. pixels: candidates are resized to the smaller size of the two sets, and converted to gray if one
   set is gray; they are near if their pixels differ by at most `max_pixel_levels` on average.

The table shows the percentage of altered copies that are found at the defaults, 10 bits and 8
levels. It was measured on 704 crops (96 to 256 px, resized to 32 px) of 17 photographs of
scikit-learn, scikit-image and matplotlib.

    bicubic | bilinear, box, Lanczos instead    99.9 to 100
    via 64 px | kept at 64 px                   99.1 | 98.9
    JPEG 50 | 75 | 95 before resizing           98.2 | 98.4 | 99.4
    JPEG 50 | 75 | 90 | 95 at 32 px             67.9 | 92.3 | 99.0 | 99.7
    brightness +5 % | -5 % | +15 %              92.2 | 91.5 | 28.3
    gray, in a gray set | in an RGB set         100  | 52.6
    crop by 1 % | 2 % | 5 % | 10 %              100  | 98.7 | 59.5 | 16.3
    shift by 1 px | nearest neighbour           19.3 | 68.6
    mirrored                                    0

Copies that are mirrored, rotated, shifted, cropped or changed in colour are mostly not found. Some
pictures of little contrast are missed, because their hash comes from noise (JPEG 50 before
resizing: 91.7 % are found if the standard deviation of the pixels is below 15 levels). There were
no false pairs among 34 million pairs of crops of different photographs, and 98 among 18.4 million
pairs of training and test images of Fashion-MNIST's sample: sandals and sneakers that look alike.
With 12 bits, up to 0.5 % more of the copies that were only resized, or compressed before that, are
found, from three times as many candidates.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from shards.errors import UserError
from shards.pixels.resize import Resize, fit, in_channels, to_image, to_pixels
from shards.reader import ShardSet
from shards.similarity.near_pairs import Matches, NearPairs
from shards.similarity.shared import digests
from shards.terminal.progress import ImageProgress

HASH_BITS = 64
BLOCK_BYTES = 8 << 20
"""Pixels of each set that a thread holds at a time."""
TILE_ROWS, TILE_COLUMNS = 128, 2048
"""Hashes that are compared at a time: about as many as the cache of a core holds."""
RULE: Resize = "pillow-bicubic"
"""The rule by which images are resized before they are compared."""


@dataclass(frozen=True)
class Limits:
    """The largest differences of two images that count as near."""

    max_hash_bits: int = 10
    """Largest number of different bits of the perceptual hash, of 64."""
    max_pixel_levels: float = 8.0
    """Largest mean absolute difference of the pixels, in levels of 0..255."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.max_hash_bits <= HASH_BITS:
            raise UserError(f"max_hash_bits is {self.max_hash_bits}, expected 0 to {HASH_BITS}")
        if not 0 <= self.max_pixel_levels <= 255:
            raise UserError(f"max_pixel_levels is {self.max_pixel_levels}, expected 0 to 255")


@dataclass(frozen=True)
class Fingerprints:
    """Digests and hashes of a set: N samples, and U different images sorted by digest.

    Samples with equal pixels are one image here, so a set with thousands of black samples costs no
    more than a set with one.
    """

    shards: ShardSet
    digests: np.ndarray
    """Digest of the size, channels and pixels of each image: S16 [U]."""
    hashes: np.ndarray
    """Perceptual hash of each image: uint64 [U]."""
    ids: np.ndarray
    """Sample ids, grouped by image, ascending within each image: int64 [N]."""
    starts: np.ndarray
    """Start of each image's samples in `ids`, followed by N: int64 [U+1]."""

    def __len__(self) -> int:
        """The number of different images."""
        return len(self.digests)

    @functools.cached_property
    def first_ids(self) -> np.ndarray:
        """The id of the first sample of each image: int64 [U]."""
        return self.ids[self.starts[:-1]]

    def samples(self, image: int) -> np.ndarray:
        """Return the ids of all samples of an image: int64, ascending."""
        return self.ids[self.starts[image] : self.starts[image + 1]]


def fingerprint(shards: ShardSet, workers: int) -> Fingerprints:
    """Read a whole set in blocks, by `workers` threads, and compute its digests and hashes.

    Raises:
        UserError: An image cannot be read any more.
    """
    size = _block_images(shards)
    blocks = [np.arange(i, min(i + size, len(shards))) for i in range(0, len(shards), size)]
    digests = np.empty(len(shards), "S16")
    hashes = np.empty(len(shards), np.uint64)

    def prints_of(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = shards.read(ids)
        return _digests(images), _hashes(images)

    what = f"reading {shards.directory.name}"
    with ImageProgress(what, len(shards)) as progress, ThreadPoolExecutor(workers) as pool:
        for ids, prints in zip(blocks, pool.map(prints_of, blocks), strict=True):
            digests[ids], hashes[ids] = prints
            progress.advance(len(ids))
    unique, first, images, counts = np.unique(
        digests, return_index=True, return_inverse=True, return_counts=True
    )
    starts = np.concatenate([[0], np.cumsum(counts)])
    return Fingerprints(shards, unique, hashes[first], np.argsort(images, kind="stable"), starts)


def compare(a: Fingerprints, b: Fingerprints, limits: Limits, workers: int) -> Matches:
    """Find the images that two sets share, by `workers` threads.

    All images of one set are compared with all images of the other, so the time grows with the
    number of pairs of different images. The result has at most as many pairs as there are images.

    Returns:
        All exact pairs, and the minimum spanning forest of the near pairs (see `near_pairs.py`), in
        the order of their first samples. Exchanging the sets only exchanges the columns.

    Raises:
        UserError: An image cannot be read any more.
    """
    # The larger set gives the rows, because the threads and the progress divide the rows.
    rows, columns = (a, b) if len(a) >= len(b) else (b, a)
    near = NearPairs(rows.first_ids, columns.first_ids)
    firsts = range(0, len(rows), TILE_ROWS)
    what = f"comparing {a.shards.directory.name}, {b.shards.directory.name}"
    with ImageProgress(what, len(rows)) as progress, ThreadPoolExecutor(workers) as pool:
        tiles = pool.map(lambda first: _near_images(rows, columns, limits, first), firsts)
        for first, found in zip(firsts, tiles, strict=True):
            near.add(found)
            progress.advance(min(TILE_ROWS, len(rows) - first))
    near.thin()
    found = Matches.joined([_equal_images(rows, columns), near.pairs()])
    if rows is not a:
        found = dataclasses.replace(found, images=found.images[:, ::-1])
    a_ids, b_ids = a.first_ids[found.images[:, 0]], b.first_ids[found.images[:, 1]]
    return found.take(np.lexsort((b_ids, a_ids)))


def close_hashes(
    rows: np.ndarray, columns: np.ndarray, max_bits: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Find all pairs of hashes that differ by at most `max_bits`, a tile of columns at a time.

    Args:
        rows: Hashes, uint64 [R], about `TILE_ROWS` of them.
        columns: Hashes, uint64 [C], any number.
        max_bits: 0 to 64.

    Yields:
        For the P pairs of a tile: row, int64 [P]; column, int64 [P]; different bits, uint8 [P].
    """
    for first in range(0, len(columns), TILE_COLUMNS):
        bits = np.bitwise_count(rows[:, None] ^ columns[None, first : first + TILE_COLUMNS])
        row, column = np.nonzero(bits <= max_bits)
        yield row, column + first, bits[row, column]


def pixel_levels(a: ShardSet, b: ShardSet, a_ids: np.ndarray, b_ids: np.ndarray) -> np.ndarray:
    """Compare the pixels of samples of two sets, pair by pair.

    The samples are compared at the smaller size and number of channels of the two sets.

    Args:
        a: One set.
        b: The other set.
        a_ids: Sample ids of `a`: int64 [P].
        b_ids: Sample ids of `b`: int64 [P].

    Returns:
        Mean absolute difference of the pixels, in levels of 0..255: float64 [P].
    """
    size_px = min(*a.manifest.sample_shape[:2], *b.manifest.sample_shape[:2])
    channels = min(a.manifest.channels, b.manifest.channels)
    here, there = _fitted(a, a_ids, size_px, channels), _fitted(b, b_ids, size_px, channels)
    # These are bytes, so a difference below 0 would wrap around.
    distance = np.maximum(here, there) - np.minimum(here, there)
    return distance.sum(axis=1, dtype=np.uint32) / distance.shape[1]


def _block_images(*sets: ShardSet) -> int:
    """Return the number of images of each set that a thread may hold."""
    return max(1, BLOCK_BYTES // max(int(np.prod(s.manifest.sample_shape)) for s in sets))


def _digests(images: np.ndarray) -> np.ndarray:
    """Return the digests, S16 [B], of images, uint8 [B,H,W,C]."""
    # NumPy drops zeros at the end of an S16 and adds them again, so equal digests stay equal.
    return digests([images]).view("S16")


def _hashes(images: np.ndarray) -> np.ndarray:
    """Return the perceptual hashes, uint64 [B], of images, uint8 [B,H,W,C]."""
    import imagehash  # of the extra `overlap`

    bits = np.stack([imagehash.phash(to_image(image)).hash for image in images])
    return np.packbits(bits.reshape(-1, HASH_BITS), axis=1).view(np.uint64)[:, 0]


def _equal_images(a: Fingerprints, b: Fingerprints) -> Matches:
    _, *images = np.intersect1d(a.digests, b.digests, assume_unique=True, return_indices=True)
    count = len(images[0])
    return Matches(
        np.stack(images, axis=1).astype(np.int32),
        np.ones(count, bool),
        np.zeros(count, np.uint8),
        np.zeros(count),
    )


def _near_images(a: Fingerprints, b: Fingerprints, limits: Limits, first: int) -> Matches:
    """Find the near pairs of `TILE_ROWS` images of `a` from `first` on.

    Candidates are held for one tile of `b` only.
    """
    size = _block_images(a.shards, b.shards)
    a_ids, b_ids = a.first_ids, b.first_ids
    near = NearPairs(a_ids, b_ids)
    rows = a.hashes[first : first + TILE_ROWS]
    for row, column, bits in close_hashes(rows, b.hashes, limits.max_hash_bits):
        images = np.stack([row + first, column], axis=1).astype(np.int32)
        unequal = a.digests[images[:, 0]] != b.digests[images[:, 1]]
        images, bits = images[unequal], bits[unequal]
        for start in range(0, len(images), size):
            part = images[start : start + size]
            levels = pixel_levels(a.shards, b.shards, a_ids[part[:, 0]], b_ids[part[:, 1]])
            exact = np.zeros(len(part), bool)
            found = Matches(part, exact, bits[start : start + size], levels.round(2))
            near.add(found.take(levels <= limits.max_pixel_levels))
    return near.pairs()


def _fitted(shards: ShardSet, ids: np.ndarray, size_px: int, channels: int) -> np.ndarray:
    """Read samples and resize them: uint8 [B,size_px*size_px*channels]."""
    wanted, places = np.unique(ids, return_inverse=True)
    images = shards.read(wanted)
    if images.shape[1:] != (size_px, size_px, channels):
        fitted = [fit(in_channels(to_image(x), channels), size_px, RULE) for x in images]
        images = np.stack([to_pixels(image) for image in fitted])
    return images.reshape(len(wanted), -1)[places]
