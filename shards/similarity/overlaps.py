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
"""A pair of images: the indexes of both images in their sets, the kind of the pair, the number of
different hash bits, and the mean difference of the pixels."""


@dataclass(frozen=True)
class Group:
    """Samples of set `a` and of set `b` that show the same picture."""

    kind: Kind
    """"exact" = all samples have equal pixels; "near" = the samples are near duplicates, because
    their hashes and pixels differ little."""
    a: str
    a_ids: list[int]
    """The ids of the samples of set `a`, ascending."""
    a_names: list[str]
    """The names of the samples `a_ids` in their source, in the same order."""
    b: str
    b_ids: list[int]
    """The ids of the samples of set `b`, ascending."""
    b_names: list[str]
    """The names of the samples `b_ids` in their source, in the same order."""
    hash_bits: int
    """The number of different bits, of 64, between the perceptual hashes of the closest pair."""
    pixel_levels: float
    """The mean absolute difference of the pixels of the closest pair, in levels of 0..255."""


@dataclass(frozen=True)
class Side:
    """One of the two sets of an overlap."""

    title: str
    """The name of the set's folder; the whole path if several folders have the same name."""
    prints: Fingerprints
    names: Mapping[int, str]
    """Sample id -> name in the source, for all samples that the set shares with any other set."""


@dataclass(frozen=True)
class Overlap:
    """The images that two sets share."""

    a: Side
    b: Side
    matches: Matches
    """The pairs of an image of set `a` and an image of set `b` that are equal or near."""

    def count(self, kind: Kind) -> int:
        """Return the number of groups of the kind "exact" or "near"."""
        return len(np.unique(self.matches.groups()[self.matches.exact == (kind == "exact")]))

    def sample_ids(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of the shared samples of `a`, and of those of `b`, each int64, ascending.

        A sample is shared if it is in any group.
        """
        a_ids, b_ids = (
            _sample_ids(side.prints, images)
            for side, images in zip((self.a, self.b), self.matches.images.T, strict=True)
        )
        return a_ids, b_ids

    def groups(self) -> Iterator[Group]:
        """Yield all groups, sorted by their first sample of set `a`."""
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
    """Compare several sets, each set with each other set.

    The order of the sets decides only which set of a pair is called `a`.

    Args:
        directories: The folders of two or more different sets.
        limits: The limits for near duplicates; by default the limits that `near_duplicates.py`
            gives reasons for.
        workers: The number of threads.

    Returns:
        One overlap for each pair of sets.

    Raises:
        UserError: There are fewer than two sets; a set is named twice; a folder holds no intact
            set; or the package `imagehash` is not installed.
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
    """List the images that one set shares with any other set.

    The list is made for `shards.build --exclude`: a set that leaves out these images shares no
    image with the other sets.

    Args:
        overlaps: The overlaps of all sets.
        title: The title of the set that is to leave out images (`Side.title`).

    Returns:
        One dictionary per image, sorted by name, which also describes the image's closest match:
        `name`, `kind` ("exact" or "near"), `with` (the title of the other set) and `with_name` (the
        name of the matching image).
    """
    closest: dict[str, tuple[float, int, Kind, str, int, str]] = {}
    for overlap in overlaps:
        sides = overlap.a, overlap.b
        for own, other in ((0, 1), (1, 0)):
            if sides[own].title != title:
                continue
            there = sides[other]
            # The closest match is found per image and not per sample, because a set may have
            # thousands of equal samples but few different images.
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
    """Return the ids of all samples that show one of `images`, int64, ascending."""
    ids = [prints.samples(image) for image in np.unique(images).tolist()]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *ids]))


def titles(directories: Sequence[Path]) -> list[str]:
    """Return a title for each folder of a set: its name, or its path if several have this name."""
    names = [Path(os.path.abspath(directory)).name for directory in directories]
    return [
        name if names.count(name) == 1 else str(directory)
        for name, directory in zip(names, directories, strict=True)
    ]
