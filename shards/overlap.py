"""Finds images that shard sets share: `python -m shards.overlap A B [C ...] --out groups.jsonl`.

An OOD set that was made of the data that the auxiliary stream comes from (TinyImageNet, STL-10 and
Imagenet_fix of ImageNet) holds images that the training saw as negatives, and a table made with it
is wrong. So every two of the sets that are named are compared, for equal images and for the same
picture stored in two ways; what is found, and what is not, is told in `near_duplicates.py`.

    python -m shards.overlap aux tiny-imagenet stl10 --exclude-from aux --exclude-list shared.jsonl
    python -m shards.build ... --exclude shared.jsonl

builds the auxiliary set again without what it shares with the others.

A line of groups.jsonl is one group of two of the sets, its fields those of `Group`. An "exact" one
is one image: all samples of `a` and all of `b` with these pixels. A "near" one is joined by pairs
of a sample of `a` and a sample of `b` that are near each other: each sample is in such a pair, and
from each a chain of such pairs leads to all others of the group. So a sample is in at most one
exact and one near group of two sets, and the file is not longer than the sets, though 500 black
images in each of them are 250,000 pairs.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.table import Table
from rich.text import Text

from shards.disk.publish import refuse_existing, write_new_file
from shards.errors import UserError, printable
from shards.format.json_lines import json_lines
from shards.reader import ShardSet
from shards.similarity.near_duplicates import Fingerprints, Limits, compare, fingerprint
from shards.similarity.near_pairs import Matches
from shards.terminal import cli
from shards.terminal.console import Terminal
from shards.terminal.environment import usable_cpus

CPUS = usable_cpus()
Kind = Literal["exact", "near"]
Row = tuple[list[int], Kind, int, float]
"""A pair of images of both sets: their indexes, kind, hash bits and pixel levels."""


@dataclass(frozen=True)
class Group:
    """Samples of set `a` and of set `b` that show one picture."""

    kind: Kind
    """"exact": equal pixels; "near": one picture, as far as hash and pixels tell."""
    a: str
    a_ids: list[int]
    """Ascending."""
    a_names: list[str]
    """The name in the source of each of `a_ids`."""
    b: str
    b_ids: list[int]
    """Ascending."""
    b_names: list[str]
    """The name in the source of each of `b_ids`."""
    hash_bits: int
    """Bits of the perceptual hash, of 64, that differ in the closest pair of `a` and `b`."""
    pixel_levels: float
    """Mean absolute difference of its pixels, in levels of 0..255."""


@dataclass(frozen=True)
class Side:
    """One of the two sets of an overlap."""

    title: str
    """The set's folder: its name, or all of its path if two sets have the same name."""
    prints: Fingerprints
    names: Mapping[int, str]
    """Id -> name in the source, of the samples that are in a group of any overlap."""


@dataclass(frozen=True)
class Overlap:
    """What two sets share."""

    a: Side
    b: Side
    matches: Matches

    def count(self, kind: Kind) -> int:
        """The number of groups of a kind."""
        return len(np.unique(self.matches.groups()[self.matches.exact == (kind == "exact")]))

    def sample_ids(self) -> tuple[np.ndarray, np.ndarray]:
        """The samples of `a` and those of `b` that are in any group: int64, ascending."""
        a_ids, b_ids = (
            _sample_ids(side.prints, images)
            for side, images in zip((self.a, self.b), self.matches.images.T, strict=True)
        )
        return a_ids, b_ids

    def groups(self) -> Iterator[Group]:
        """All groups, one by one, in the order of their first samples of `a`."""
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
    """Compare every two of some sets.

    The order of the sets changes nothing but which of two is called `a`.

    Args:
        directories: Folders of two or more different sets.
        limits: What is near; by default as measured in `near_duplicates.py`.
        workers: Threads.

    Raises:
        UserError: fewer than two sets, a set that is named twice, or no sound set in a folder.
    """
    limits = limits or Limits()
    if len(directories) < 2:
        raise UserError(f"{len(directories)} shard sets to compare, expected two or more")
    if workers < 1:
        raise UserError(f"workers is {workers}, expected at least 1")
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
    for i, title in enumerate(_titles(directories)):
        columns = [found.images[:, pair.index(i)] for pair, found in matches.items() if i in pair]
        ids = _sample_ids(prints[i], np.concatenate(columns))
        all_names = sets[i].names() if len(ids) else []
        sides.append(Side(title, prints[i], {id_: all_names[id_] for id_ in ids.tolist()}))
    return [Overlap(sides[i], sides[j], found) for (i, j), found in matches.items()]


def exclusions(overlaps: Sequence[Overlap], title: str) -> list[dict[str, str]]:
    """What a set has to leave out to share nothing with the others, for `shards.build --exclude`.

    Args:
        overlaps: Of all the sets.
        title: The set, as its `Side` is called.

    Returns:
        For each name, sorted, its closest match: `name`, `kind`, `with` (a set), `with_name`.
    """
    closest: dict[str, tuple[float, int, Kind, str, int, str]] = {}
    for overlap in overlaps:
        sides = overlap.a, overlap.b
        for own, other in ((0, 1), (1, 0)):
            if sides[own].title != title:
                continue
            there = sides[other]
            # First of images, of which a set with thousands of equal samples has few.
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
    """All samples of some images: int64, ascending."""
    ids = [prints.samples(image) for image in np.unique(images).tolist()]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *ids]))


def _titles(directories: Sequence[Path]) -> list[str]:
    names = [Path(os.path.abspath(directory)).name for directory in directories]
    return [
        name if names.count(name) == 1 else str(directory)
        for name, directory in zip(names, directories, strict=True)
    ]


@dataclass(frozen=True)
class OverlapRequest:
    """Which sets to compare, and where to write what they share."""

    directories: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of two or more shard sets."""
    limits: Annotated[Limits, tyro.conf.arg(name="")] = field(default_factory=Limits)
    out: Path | None = None
    """New file for the groups: JSON lines, as `shards/overlap.py` says."""
    exclude_from: Path | None = None
    """The one of the sets that is to leave out what it shares with the others."""
    exclude_list: Path | None = None
    """New file for the names of what it leaves out: see `shards.build --exclude`."""
    workers: int = CPUS
    """Threads; by default one per CPU."""


def _exclude_title(request: OverlapRequest) -> str:
    """The title of the set that leaves out; "" if none does. Also checks the output files."""
    if (request.exclude_from is None) != (request.exclude_list is None):
        raise UserError("exclude_from and exclude_list go together, one is missing")
    outputs = [path for path in (request.out, request.exclude_list) if path is not None]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise UserError(f"out and exclude_list are both {request.out}")
    for path in outputs:
        refuse_existing(path)
    if request.exclude_from is None:
        return ""
    titles = zip(request.directories, _titles(request.directories), strict=True)
    for directory, title in titles:
        if directory.resolve() == request.exclude_from.resolve():
            return title
    raise UserError(f"exclude_from is {request.exclude_from}, which is none of the sets")


NOT_LOOKED_FOR = (
    "Not looked for: mirrored, turned, shifted and cropped copies, and other colours "
    "(shards/similarity/near_duplicates.py)."
)


def _table(overlaps: Sequence[Overlap]) -> Table:
    table = Table("a", "b", title="images that sets share", caption=NOT_LOOKED_FOR)
    for column in ("equal images", "near groups", "samples of a", "samples of b"):
        table.add_column(column, justify="right")
    for overlap in overlaps:
        sides = overlap.a, overlap.b
        samples = [
            f"{len(ids):,} of {len(side.prints.ids):,}"
            for ids, side in zip(overlap.sample_ids(), sides, strict=True)
        ]
        groups = [f"{overlap.count('exact'):,}", f"{overlap.count('near'):,}"]
        # Names are the user's: no markup, and nothing that a terminal would obey.
        table.add_row(*(Text(printable(side.title)) for side in sides), *groups, *samples)
    return table


def _lines(values: Iterable[object]) -> Iterator[bytes]:
    return (json_lines([value]) for value in values)


@cli.keeps("nothing is half written")
def main(argv: Sequence[str] | None = None) -> None:
    """Compare the sets, print a table and write the files that were asked for."""
    request = cli.parse(OverlapRequest, argv, description="Find images that shard sets share.")
    title = _exclude_title(request)
    overlaps = find_overlaps(request.directories, request.limits, request.workers)
    Terminal().print(_table(overlaps))
    if request.out is not None:
        groups = itertools.chain.from_iterable(overlap.groups() for overlap in overlaps)
        write_new_file(request.out, _lines(map(vars, groups)))
        print(f"{request.out}: the groups")
    if request.exclude_list is not None:
        names = exclusions(overlaps, title)
        write_new_file(request.exclude_list, _lines(names))
        print(f"{request.exclude_list}: {len(names)} images that {title} is to leave out")


if __name__ == "__main__":
    cli.run(main)
