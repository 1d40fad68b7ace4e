"""Find images that shard sets share: `python -m shards.overlap A B [C ...] --out groups.jsonl`.

TinyImageNet, STL-10 and Imagenet_fix were made from ImageNet. If ImageNet gives the auxiliary
images of a training, the training sees images of these OOD sets as negatives, and the AUROC on
these sets is wrong. So the command compares every pair of the named sets. It looks for equal
images, and for pictures that were stored in two different ways. `similarity/near_duplicates.py`
says which copies are found and which are not.

    python -m shards.overlap aux tiny-imagenet stl10 --exclude-from aux --exclude-list shared.jsonl
    python -m shards.build ... --exclude shared.jsonl

These two commands build the auxiliary set again without the images that it shares with the other
sets.

Each line of groups.jsonl describes one group of samples of two sets, with the fields of `Group`. An
"exact" group holds all samples of set `a` and of set `b` that have the same pixels. A "near" group
is a connected component of the graph whose edges are the near pairs: each edge joins a sample of
`a` and a similar sample of `b`. So for two sets, a sample is in at most one exact group and one
near group. Groups are written instead of pairs because pairs can be very many: 500 black images in
each of two sets make 250,000 pairs, but only one group.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table
from rich.text import Text

from shards.disk.publish import refuse_existing, write_new_file
from shards.errors import UserError, printable
from shards.format.json_lines import json_lines
from shards.similarity.near_duplicates import Limits
from shards.similarity.overlaps import CPUS, Overlap, exclusions, find_overlaps, titles
from shards.terminal import cli
from shards.terminal.console import Terminal


@dataclass(frozen=True)
class OverlapRequest:
    """The sets to compare, and the files to write."""

    directories: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of two or more shard sets."""
    limits: Annotated[Limits, tyro.conf.arg(name="")] = field(default_factory=Limits)
    out: Path | None = None
    """File to write, with the groups of shared images as JSON lines (see `shards/overlap.py`). The
    file must not exist yet."""
    exclude_from: Path | None = None
    """Folder of the set that is to be built again without the images that it shares with the other
    sets. It must be one of the folders that are compared."""
    exclude_list: Path | None = None
    """File to write, with the names of the images that the set `exclude_from` is to leave out. Give
    it to `shards.build --exclude`. The file must not exist yet."""
    workers: int = CPUS
    """Number of threads; by default one per CPU."""


def _exclude_title(request: OverlapRequest) -> str:
    """Check the fields about output files, and return the title of the set `exclude_from`.

    Returns:
        The title of the set; "" if no exclusion list was asked for.

    Raises:
        UserError: An output file exists, or the fields contradict each other or the sets.
    """
    if (request.exclude_from is None) != (request.exclude_list is None):
        raise UserError("exclude_from and exclude_list go together, one is missing")
    outputs = [path for path in (request.out, request.exclude_list) if path is not None]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise UserError(f"out and exclude_list are both {request.out}")
    for path in outputs:
        refuse_existing(path)
    if request.exclude_from is None:
        return ""
    sides = zip(request.directories, titles(request.directories), strict=True)
    for directory, title in sides:
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
        # Names come from the user: no markup, and no control characters for the terminal.
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
