"""Images that two shard sets share: equal images, and one picture that was stored in two ways.

There are three stages:

1. Digest. Images with the same size, number of channels and pixels are equal.
2. Hash. The hash is `imagehash.phash`, 64 bits that describe the low frequencies of the gray image.
   All pairs are compared. A pair is a candidate if its hashes differ in at most `max_hash_bits`
   bits.
3. Pixels. The images of each candidate are resized to the smaller size of the two sets, and
   converted to gray if one set is gray. They are near if their pixels differ by at most
   `max_pixel_levels` on average.

The table shows what percentage of altered copies is found with the default limits, 10 bits and 8
levels. It was measured on 704 crops (96 to 256 px, resized to 32 px) of 17 photographs that come
with scikit-learn, scikit-image and matplotlib.

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
pictures of low contrast are missed, because their hash is determined by noise: for JPEG 50 before
resizing, 91.7 % are found if the standard deviation of the pixels is below 15 levels.

There were no false pairs among 34 million pairs of crops of different photographs. There were 98
false pairs among 18.4 million pairs of training and test images of the Fashion-MNIST sample:
sandals and sneakers that look alike. With a limit of 12 bits, there are three times as many
candidates, and up to 0.5 % more is found of the copies that were only resized, or compressed and
then resized.
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
"""The number of bytes of pixels that a thread holds at a time, per set."""
TILE_ROWS, TILE_COLUMNS = 128, 2048
"""The numbers of hashes of the two sets that are compared at a time. The comparison of such a tile
fits into the cache of a CPU core."""
RULE: Resize = "pillow-bicubic"
"""The rule with which images are resized before their pixels are compared."""


@dataclass(frozen=True)
class Limits:
    """The largest differences that two images may have to count as near duplicates."""

    max_hash_bits: int = 10
    """Largest number of bits in which the perceptual hashes of near duplicates may differ, of 64
    bits."""
    max_pixel_levels: float = 8.0
    """Largest mean absolute difference between the pixels of near duplicates, in levels of
    0..255."""

    def __post_init__(self) -> None:
        """Check the ranges of both limits.

        Raises:
            UserError: A limit is out of range.
        """
        if not 0 <= self.max_hash_bits <= HASH_BITS:
            raise UserError(f"max_hash_bits is {self.max_hash_bits}, expected 0 to {HASH_BITS}")
        if not 0 <= self.max_pixel_levels <= 255:
            raise UserError(f"max_pixel_levels is {self.max_pixel_levels}, expected 0 to 255")


@dataclass(frozen=True)
class Fingerprints:
    """Digests and perceptual hashes of the images of a set.

    Here, samples with equal pixels count as one image. So a set with thousands of black samples
    costs no more than a set with one black sample. The set has N samples and U different images,
    which are sorted by digest.
    """

    shards: ShardSet
    digests: np.ndarray
    """S16 [U]: for each image, the digest of its size, number of channels and pixels."""
    hashes: np.ndarray
    """uint64 [U]: the perceptual hash of each image."""
    ids: np.ndarray
    """int64 [N]: all sample ids, grouped by image, and ascending within each image."""
    starts: np.ndarray
    """int64 [U+1]: for each image, the index in `ids` at which its samples start; the last entry is
    N."""

    def __len__(self) -> int:
        """Return the number of different images, U."""
        return len(self.digests)

    @functools.cached_property
    def first_ids(self) -> np.ndarray:
        """The smallest sample id of each image, int64 [U]."""
        return self.ids[self.starts[:-1]]

    def samples(self, image: int) -> np.ndarray:
        """Return the ids of all samples that show the image number `image`, int64, ascending."""
        return self.ids[self.starts[image] : self.starts[image + 1]]


def fingerprint(shards: ShardSet, workers: int) -> Fingerprints:
    """Read a whole set and compute the digests and perceptual hashes of its images.

    Args:
        shards: The set.
        workers: The number of threads.

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
    """Find the images that two sets share.

    Each image of one set is compared with each image of the other set, so the time grows with the
    product of their numbers of different images.

    Args:
        a: The fingerprints of one set.
        b: The fingerprints of the other set.
        limits: The limits for near duplicates.
        workers: The number of threads.

    Returns:
        All exact pairs, and those near pairs that form the minimum spanning forest (see
        `near_pairs.py`), sorted by the first sample of each image. If `a` and `b` are exchanged,
        only the two columns of the pairs are exchanged.

    Raises:
        UserError: An image cannot be read any more.
    """
    # The rows are divided among the threads, so the larger set gives the rows.
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
    """Find all pairs of a row hash and a column hash that differ in at most `max_bits` bits.

    The columns are processed in tiles of `TILE_COLUMNS` hashes, to save memory.

    Args:
        rows: Hashes, uint64 [R], where R is about `TILE_ROWS`.
        columns: Hashes, uint64 [C], where C may be large.
        max_bits: The limit, 0 to 64.

    Yields:
        For each tile, the P pairs that were found: the index in `rows`, int64 [P]; the index in
        `columns`, int64 [P]; and the number of different bits, uint8 [P].
    """
    for first in range(0, len(columns), TILE_COLUMNS):
        bits = np.bitwise_count(rows[:, None] ^ columns[None, first : first + TILE_COLUMNS])
        row, column = np.nonzero(bits <= max_bits)
        yield row, column + first, bits[row, column]


def pixel_levels(a: ShardSet, b: ShardSet, a_ids: np.ndarray, b_ids: np.ndarray) -> np.ndarray:
    """Compare the pixels of P pairs of samples; each pair has one sample of each set.

    Before the comparison, both samples are brought to the smaller size and the smaller number of
    channels of the two sets.

    Args:
        a: One set.
        b: The other set.
        a_ids: The sample of `a` in each pair, int64 [P].
        b_ids: The sample of `b` in each pair, int64 [P].

    Returns:
        float64 [P]: the mean absolute difference of the pixels of each pair, in levels of 0..255.
    """
    size_px = min(*a.manifest.sample_shape[:2], *b.manifest.sample_shape[:2])
    channels = min(a.manifest.channels, b.manifest.channels)
    here, there = _fitted(a, a_ids, size_px, channels), _fitted(b, b_ids, size_px, channels)
    # The arrays are uint8, so `here - there` would wrap around where it is negative.
    distance = np.maximum(here, there) - np.minimum(here, there)
    return distance.sum(axis=1, dtype=np.uint32) / distance.shape[1]


def _block_images(*sets: ShardSet) -> int:
    """Return how many images of each set a thread may hold at a time (see `BLOCK_BYTES`)."""
    return max(1, BLOCK_BYTES // max(int(np.prod(s.manifest.sample_shape)) for s in sets))


def _digests(images: np.ndarray) -> np.ndarray:
    """Return the digests of images: uint8 [B, H, W, C] -> S16 [B]."""
    # NumPy removes zero bytes at the end of an S16 value when it compares, so equal digests stay
    # equal.
    return digests([images]).view("S16")


def _hashes(images: np.ndarray) -> np.ndarray:
    """Return the perceptual hashes of images: uint8 [B, H, W, C] -> uint64 [B]."""
    import imagehash  # installed with the extra `overlap`

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
    """Find the near pairs for the images number `first` to `first + TILE_ROWS - 1` of set `a`.

    The candidates of one tile of `b` are compared before the next tile, to save memory.
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
    """Read samples and convert them to a common size and number of channels.

    Returns:
        uint8 [B, size_px * size_px * channels], one row per id in `ids`.
    """
    wanted, places = np.unique(ids, return_inverse=True)
    images = shards.read(wanted)
    if images.shape[1:] != (size_px, size_px, channels):
        fitted = [fit(in_channels(to_image(x), channels), size_px, RULE) for x in images]
        images = np.stack([to_pixels(image) for image in fitted])
    return images.reshape(len(wanted), -1)[places]
