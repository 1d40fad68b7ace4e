"""Named protocols, as data: `python -m shards.sets --protocol NAME --src DIR --out DIR`.

A protocol says which images of which official files are in-distribution and which are OOD. Each of
its sets is built into OUT/<set name>; one that is there already, from the same request, is kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from shards import cli
from shards.build import BuildRequest, build, plan
from shards.cli import UserError
from shards.manifest import Manifest
from shards.verify import verify_shards


@dataclass(frozen=True)
class NamedSet:
    """One set of a protocol."""

    name: str
    split: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Protocol:
    """A named split of one data set into in-distribution and OOD."""

    source: Literal["idx", "folder", "npy"]
    size_px: int
    classes: tuple[str, ...]
    """Name of each label of the official files."""
    sets: tuple[NamedSet, ...]


FASHION_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
FOOTWEAR = (5, 7, 9)

PROTOCOLS = {
    # Footwear against clothes and bags; an OOD set is one class of the test split.
    "fashion-footwear": Protocol(
        source="idx",
        size_px=28,
        classes=FASHION_CLASSES,
        sets=(
            NamedSet("in-dist-train", "train", FOOTWEAR),
            NamedSet("in-dist-test", "test", FOOTWEAR),
            *(
                NamedSet(name, "test", (label,))
                for label, name in enumerate(FASHION_CLASSES)
                if label not in FOOTWEAR
            ),
        ),
    ),
}


def requests(protocol: str, src: Path, out: Path) -> list[BuildRequest]:
    """What to build for each set of a protocol, from the official files in `src`.

    Raises:
        UserError: there is no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol is {protocol!r}, there are: {', '.join(PROTOCOLS)}")
    found = PROTOCOLS[protocol]
    return [
        BuildRequest(
            source=found.source,
            src=src,
            split=one.split,
            size_px=found.size_px,
            out=out / one.name,
            labels=one.labels,
            classes=found.classes,
            protocol=protocol,
        )
        for one in found.sets
    ]


def build_sets(protocol: str, src: Path, out: Path) -> list[tuple[Manifest, str]]:
    """Build the sets of a protocol that are not there yet.

    Returns:
        The manifest of each set, and "built" or "kept".

    Raises:
        UserError: a set is there but damaged or built from another request (then no set is built),
            or one cannot be built.
    """
    wanted = requests(protocol, src, out)
    kept = {request.out: _checked_existing(request) for request in wanted if request.out.exists()}
    return [
        (kept[request.out], "kept") if request.out in kept else (build(request), "built")
        for request in wanted
    ]


def _checked_existing(request: BuildRequest) -> Manifest:
    """The manifest of the set that is there, if `request` would build the same."""
    existing = verify_shards(request.out)
    planned = plan(request).manifest
    # These follow from the other fields, or are known only once a set is built.
    results = ("samples", "resize", "names_sha256", "shards")
    for field in dataclasses.fields(Manifest):
        there, asked = getattr(existing, field.name), getattr(planned, field.name)
        if field.name not in results and there != asked:
            raise UserError(
                f"{request.out}: exists with another {field.name} ({there}, not {asked}); "
                "remove it or name another output folder"
            )
    full_shards = existing.shards[:-1] or existing.shards
    if any(s.samples != min(request.shard_samples, existing.samples) for s in full_shards):
        raise UserError(
            f"{request.out}: exists with another shard_samples "
            f"({full_shards[0].samples}, not {request.shard_samples}); "
            "remove it or name another output folder"
        )
    return existing


@dataclass(frozen=True)
class SetsRequest:
    """Which protocol to build from where."""

    protocol: Literal["fashion-footwear"]
    """The named protocol."""
    src: Path
    """Folder of the official files."""
    out: Path
    """Folder that will hold one folder per set."""


def main(argv: Sequence[str] | None = None) -> None:
    """Build the sets of a protocol and print a table of them."""
    request = cli.parse(SetsRequest, argv, description="Build all shard sets of a protocol.")
    results = build_sets(request.protocol, request.src, request.out)
    table = Table("set", title=f"{request.protocol}: {request.out}")
    table.add_column("samples", justify="right")
    table.add_column("size")
    table.add_column("classes")
    table.add_column("state")
    for manifest, state in results:
        size = "x".join(str(length) for length in manifest.sample_shape)
        classes = ", ".join(manifest.classes[label] for label in manifest.labels)
        table.add_row(manifest.name, str(manifest.samples), size, classes, state)
    Console().print(table)


if __name__ == "__main__":
    cli.run(main)
