"""Images that shard sets share: every two sets are compared for equal and for near images."""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from shards.errors import UserError, check_installed
from shards.reader import ShardSet
from shards.similarity.near_duplicates import Fingerprints, Limits, compare, fingerprint
from shards.similarity.near_pairs import Matches
from shards.terminal.environment import usable_cpus

CPUS = usable_cpus()
Kind = Literal["exact", "near"]
Row = tuple[list[int], Kind, int, float]
"""A pair of images: the indexes in both sets, the kind, the hash bits and the pixel levels."""


@dataclass(frozen=True)
class Group:
    """Samples of set `a` and of set `b` that show one picture."""

    kind: Kind
    """"exact": equal pixels; "near": the same picture, according to hash and pixels."""
    a: str
    a_ids: list[int]
    """Sample ids in `a`, ascending."""
    a_names: list[str]
    """The name in the source of each of `a_ids`."""
    b: str
    b_ids: list[int]
    """Sample ids in `b`, ascending."""
    b_names: list[str]
    """The name in the source of each of `b_ids`."""
    hash_bits: int
    """Number of different bits of the perceptual hash, of 64, in the closest pair."""
    pixel_levels: float
    """Mean absolute difference of the closest pair's pixels, in levels of 0..255."""


@dataclass(frozen=True)
class Side:
    """One of the two sets of an overlap."""

    title: str
    """The name of the set's folder, or its whole path if two sets have the same name."""
    prints: Fingerprints
    names: Mapping[int, str]
    """Id -> name in the source, for the samples in any group of any overlap."""


@dataclass(frozen=True)
class Overlap:
    """The images that two sets share."""

    a: Side
    b: Side
    matches: Matches

    def count(self, kind: Kind) -> int:
        """Return the number of groups of a kind."""
        return len(np.unique(self.matches.groups()[self.matches.exact == (kind == "exact")]))

    def sample_ids(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the samples of `a` and of `b` that are in any group: int64, ascending."""
        a_ids, b_ids = (
            _sample_ids(side.prints, images)
            for side, images in zip((self.a, self.b), self.matches.images.T, strict=True)
        )
        return a_ids, b_ids

    def groups(self) -> Iterator[Group]:
        """Yield all groups in the order of their first samples of `a`."""
        groups = self.matches.groups()
        order = np.argsort(groups, kind="stable")
        rows = zip(groups[order].tolist(), _rows(self.matches.take(order)), strict=True)
        for _, of_group in itertools.groupby(rows, key=operator.itemgetter(0)):
            pairs = [row for _, row in of_group]
            _, kind, hash_bits, pixel_levels = min(pairs, key=_distance)
            images = np.array([of_both for of_both, *_ in pairs])
            a_ids, b_ids = (
                _sample_ids(side.prints, column).tolist()
                for side, column in zip((self.a, self.b), images.T, strict=True)
            )
            yield Group(
                kind=kind,
                a=self.a.title,
                a_ids=a_ids,
                a_names=[self.a.names[sample_id] for sample_id in a_ids],
                b=self.b.title,
                b_ids=b_ids,
                b_names=[self.b.names[sample_id] for sample_id in b_ids],
                hash_bits=hash_bits,
                pixel_levels=pixel_levels,
            )


def find_overlaps(
    directories: Sequence[Path], limits: Limits | None = None, workers: int = CPUS
) -> list[Overlap]:
    """Compare every two of several sets.

    The order of the sets only decides which of two sets is called `a`.

    Args:
        directories: Folders of two or more different sets.
        limits: The limits for near images; by default those measured in `near_duplicates.py`.
        workers: Number of threads.

    Raises:
        UserError: There are fewer than two sets; a set is named twice; a folder holds no intact
            set; or `imagehash` is not installed.
    """
    limits = limits or Limits()
    if len(directories) < 2:
        raise UserError(f"{len(directories)} shard sets to compare, expected two or more")
    if workers < 1:
        raise UserError(f"workers is {workers}, expected at least 1")
    check_installed("overlap", "imagehash")
    with contextlib.ExitStack() as stack:
        sets = [stack.enter_context(ShardSet.open(directory)) for directory in directories]
        for one, other in itertools.combinations(sets, 2):
            if one.manifest.sha256 == other.manifest.sha256:
                raise UserError(f"{one.directory} and {other.directory} are the same set")
        prints = [fingerprint(shards, workers) for shards in sets]
        matches = {
            (i, j): compare(prints[i], prints[j], limits, workers)
            for i, j in itertools.combinations(range(len(sets)), 2)
        }
    sides = []
    for i, title in enumerate(titles(directories)):
        columns = [found.images[:, pair.index(i)] for pair, found in matches.items() if i in pair]
        ids = _sample_ids(prints[i], np.concatenate(columns))
        all_names = sets[i].names() if len(ids) else []
        sides.append(Side(title, prints[i], {id_: all_names[id_] for id_ in ids.tolist()}))
    return [Overlap(sides[i], sides[j], found) for (i, j), found in matches.items()]


def exclusions(overlaps: Sequence[Overlap], title: str) -> list[dict[str, str]]:
    """List the images that a set must leave out to share none, for `shards.build --exclude`.

    Args:
        overlaps: The overlaps of all sets.
        title: The title of the set (`Side.title`).

    Returns:
        The images, sorted by name, each with its closest match: `name`, `kind`, `with` (the other
        set) and `with_name`.
    """
    closest: dict[str, tuple[float, int, Kind, str, int, str]] = {}
    for overlap in overlaps:
        sides = overlap.a, overlap.b
        for own, other in ((0, 1), (1, 0)):
            if sides[own].title != title:
                continue
            there = sides[other]
            # By image first: a set with thousands of equal samples has few different images.
            of_image: dict[int, tuple[float, int, Kind, str, int, str]] = {}
            for images, kind, hash_bits, levels in _rows(overlap.matches):
                other_id = int(there.prints.samples(images[other])[0])
                match = levels, hash_bits, kind, there.title, other_id, there.names[other_id]
                of_image[images[own]] = min(match, of_image.get(images[own], match))
            for image, match in of_image.items():
                for sample_id in sides[own].prints.samples(image).tolist():
                    name = sides[own].names[sample_id]
                    closest[name] = min(match, closest.get(name, match))
    return [
        {"name": name, "kind": kind, "with": other_title, "with_name": other_name}
        for name, (_, _, kind, other_title, _, other_name) in sorted(closest.items())
    ]


def _rows(matches: Matches) -> Iterator[Row]:
    columns = matches.images, matches.exact, matches.hash_bits, matches.pixel_levels
    for images, exact, bits, levels in zip(*(column.tolist() for column in columns), strict=True):
        yield images, "exact" if exact else "near", bits, levels


def _distance(row: Row) -> tuple[float, int]:
    _, _, hash_bits, pixel_levels = row
    return pixel_levels, hash_bits


def _sample_ids(prints: Fingerprints, images: np.ndarray) -> np.ndarray:
    """Return all samples of some images: int64, ascending."""
    ids = [prints.samples(image) for image in np.unique(images).tolist()]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *ids]))


def titles(directories: Sequence[Path]) -> list[str]:
    """Return a title for each set: the name of its folder, or the path if two have that name."""
    names = [Path(os.path.abspath(directory)).name for directory in directories]
    return [
        name if names.count(name) == 1 else str(directory)
        for name, directory in zip(names, directories, strict=True)
    ]
