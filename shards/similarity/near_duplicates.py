"""Images that two shard sets share: equal ones, and one picture that was stored in two ways.

Three stages, each exact for what it says:

1. digest: images of one size, one number of channels and equal pixels;
2. hash: `imagehash.phash`, 64 bits of the low frequencies of the gray image, all against all;
3. pixels: pairs within `max_hash_bits` are brought to one size, the smaller of the two sets', and
   to gray if one of the sets is gray; near are those whose pixels differ by `max_pixel_levels` or
   less on average.

Measured at the defaults, 10 bits and 8 levels, on 704 crops (96 to 256 px, brought to 32 px) of 17
photographs of scikit-learn, scikit-image and matplotlib; % of altered copies that are found:

    bicubic | bilinear, box, Lanczos instead    99.9 to 100
    via 64 px | kept at 64 px                   99.1 | 98.9
    JPEG 50 | 75 | 95 before resizing           98.2 | 98.4 | 99.4
    JPEG 50 | 75 | 90 | 95 at 32 px             67.9 | 92.3 | 99.0 | 99.7
    brightness +5 % | -5 % | +15 %              92.2 | 91.5 | 28.3
    gray, in a gray set | in an RGB set         100  | 52.6
    crop by 1 % | 2 % | 5 % | 10 %              100  | 98.7 | 59.5 | 16.3
    shift by 1 px | nearest neighbour           19.3 | 68.6
    mirrored                                    0

So it does not find mirrored, rotated, shifted and cropped copies, and not those whose colours were
changed; of pictures with little contrast, whose hash is made of noise, it misses some (JPEG 50
before resizing: 91.7 % are found when the standard deviation of the pixels is below 15 levels).
False pairs: none among 34 million of crops of different photographs; 98 among 18.4 million of
training and test images of Fashion-MNIST's sample, sandals and sneakers that look alike. With 12
bits up to 0.5 % more is found of what was only resized, or compressed before that, from three times
as many candidates.
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
"""Hashes that are compared at a time: about what the cache of a core holds."""
RULE: Resize = "pillow-bicubic"
"""How images are brought to one size."""


@dataclass(frozen=True)
class Limits:
    """What is called near."""

    max_hash_bits: int = 10
    """Bits of the perceptual hash, of 64, that may differ."""
    max_pixel_levels: float = 8.0
    """Mean absolute difference of the pixels, in levels of 0..255."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.max_hash_bits <= HASH_BITS:
            raise UserError(f"max_hash_bits is {self.max_hash_bits}, expected 0 to {HASH_BITS}")
        if not 0 <= self.max_pixel_levels <= 255:
            raise UserError(f"max_pixel_levels is {self.max_pixel_levels}, expected 0 to 255")


@dataclass(frozen=True)
class Fingerprints:
    """What the images of a set are compared by: N samples, U different images, sorted by digest.

    Samples with equal pixels are one image here, so a set that has thousands of black samples costs
    no more than one that has one.
    """

    shards: ShardSet
    digests: np.ndarray
    """Of size, channels and pixels: S16 [U]."""
    hashes: np.ndarray
    """Perceptual hash: uint64 [U]."""
    ids: np.ndarray
    """Sample ids, those of an image next to each other in ascending order: int64 [N]."""
    starts: np.ndarray
    """Where the samples of each image start in `ids`, and last N: int64 [U+1]."""

    def __len__(self) -> int:
        """The number of different images."""
        return len(self.digests)

    @functools.cached_property
    def first_ids(self) -> np.ndarray:
        """The first sample of each image: int64 [U]."""
        return self.ids[self.starts[:-1]]

    def samples(self, image: int) -> np.ndarray:
        """The ids of all samples of an image: int64, ascending."""
        return self.ids[self.starts[image] : self.starts[image + 1]]


def fingerprint(shards: ShardSet, workers: int) -> Fingerprints:
    """Read a whole set, in blocks, by `workers` threads, and take the fingerprints of its images.

    Raises:
        UserError: an image cannot be read any more.
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
    """Find what two sets share, by `workers` threads; to exchange the sets exchanges the columns.

    All images of one are compared with all of the other, so the time is that of all pairs of
    different images; the result is not longer than there are images.

    Returns:
        All exact pairs, and the minimum spanning forest of the near ones (see `near_pairs`), in the
        order of their first samples.

    Raises:
        UserError: an image cannot be read any more.
    """
    # The larger set gives the rows: they are what the threads divide, and progress counts.
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
    """All pairs of hashes that differ by at most `max_bits`, a tile of columns at a time.

    Args:
        rows: uint64 [R], some `TILE_ROWS`.
        columns: uint64 [C], any number.
        max_bits: 0 to 64.

    Yields:
        Row and column, int64 [P], and bits that differ, uint8 [P], of each pair in a tile.
    """
    for first in range(0, len(columns), TILE_COLUMNS):
        bits = np.bitwise_count(rows[:, None] ^ columns[None, first : first + TILE_COLUMNS])
        row, column = np.nonzero(bits <= max_bits)
        yield row, column + first, bits[row, column]


def pixel_levels(a: ShardSet, b: ShardSet, a_ids: np.ndarray, b_ids: np.ndarray) -> np.ndarray:
    """How far samples of two sets are from each other, pair by pair.

    Args:
        a: One set.
        b: The other; the smaller size and number of channels of the two is what is compared.
        a_ids: int64 [P].
        b_ids: int64 [P].

    Returns:
        Mean absolute difference of the pixels, in levels of 0..255: float64 [P].
    """
    size_px = min(*a.manifest.sample_shape[:2], *b.manifest.sample_shape[:2])
    channels = min(a.manifest.channels, b.manifest.channels)
    here, there = _fitted(a, a_ids, size_px, channels), _fitted(b, b_ids, size_px, channels)
    # In bytes, where a difference below 0 would wrap around.
    distance = np.maximum(here, there) - np.minimum(here, there)
    return distance.sum(axis=1, dtype=np.uint32) / distance.shape[1]


def _block_images(*sets: ShardSet) -> int:
    """How many images of each of the sets a thread may hold."""
    return max(1, BLOCK_BYTES // max(int(np.prod(s.manifest.sample_shape)) for s in sets))


def _digests(images: np.ndarray) -> np.ndarray:
    """S16 [B] of uint8 [B,H,W,C]."""
    # NumPy takes the zeros off the end of an S16 and puts them back: equal stays equal.
    return digests([images]).view("S16")


def _hashes(images: np.ndarray) -> np.ndarray:
    """uint64 [B] of uint8 [B,H,W,C]."""
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
    """Near pairs of `TILE_ROWS` images of `a` from `first` on; candidates are gone after a tile."""
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
    """Samples at one size: uint8 [B,size_px*size_px*channels]."""
    wanted, places = np.unique(ids, return_inverse=True)
    images = shards.read(wanted)
    if images.shape[1:] != (size_px, size_px, channels):
        fitted = [fit(in_channels(to_image(x), channels), size_px, RULE) for x in images]
        images = np.stack([to_pixels(image) for image in fitted])
    return images.reshape(len(wanted), -1)[places]
