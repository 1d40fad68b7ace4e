"""The contract of a shard set: one directory = one split of one data set at one resolution.

    manifest.json               written last; nothing that it does not list is ever read
    <name>-<split>-00000.tar    USTAR; per sample its image, `<key>.bin` (raw uint8 HWC),
                                `<key>.png` or `<key>.jpg`, and when the set is labelled `<key>.cls`
                                (ASCII integer), next to each other
    <name>-<split>-00000.idx    DALI index v1.2 of that tar
    names.jsonl                 line i is the name of sample i in its source
    rejects.jsonl               when images were rejected: their names and the reasons
    sizes.bin                   when images were resized: what size each had (see
                                `format/source_sizes.py`)

The images of the source, less those that were not selected or excluded, are shuffled globally when
the set is built, so neighbours are not of one class. A sample's key is its place in that order, in
nine digits; names of the user's files are metadata and never become keys. Shard k holds the places
from k * shard_samples on. A sample's id, by which all else calls it, is its position among the
samples that are there: its key, less the number of images that were rejected before it.
The same input gives the same bytes. A published set is never changed in place.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.disk import read_text
from shards.errors import UserError
from shards.json_types import check_types
from shards.pixels.levels import is_colour, is_intensity
from shards.pixels.resize import RESIZES

FORMAT_VERSION = 2
MAX_SAMPLES = 10**9
"""A key has nine digits."""
MAX_NUMBER = 2**64 - 1
"""Bytes, counts of what is no image, and the seed."""
MAX_SIZE_PX = 1024
"""Height and width of the stored images."""
NAME = r"[A-Za-z0-9_-]{1,80}"
"""What the name of a set, and of its split, is made of."""
FILE_NAME = "manifest.json"
MAX_BYTES = 256 << 20
"""Of a manifest's file: an entry of a shard has 0.3 KB."""
NAMES_FILE_NAME = "names.jsonl"
REJECTS_FILE_NAME = "rejects.jsonl"
SIZES_FILE_NAME = "sizes.bin"
EXTENSIONS = {"raw": "bin", "png": "png", "jpg": "jpg"}
"""Encoding -> extension of the image in a tar."""
LABEL = "cls"
"""Extension of the label in a tar."""


@dataclass(frozen=True)
class SourceFile:
    """A file or folder that the samples came from."""

    file: str
    bytes: int
    sha256: str
    """Of a file its digest. Of a folder the sum, modulo 2**256, over the images of the split,
    selected or not, of sha256(name in the folder, a zero byte, sha256 of the file)."""


@dataclass(frozen=True)
class Shard:
    """One tar and its index (same name, ending .idx)."""

    file: str
    samples: int
    bytes: int
    sha256: str
    idx_sha256: str

    @property
    def idx_file(self) -> str:
        """The name of the DALI index beside the tar."""
        return Path(self.file).with_suffix(".idx").name


@dataclass(frozen=True)
class Manifest:
    """What a shard set holds and where it came from; its file also has its digest, `~sha256`."""

    format_version: int
    name: str
    split: str
    protocol: str
    """The named protocol that the set belongs to, or "" for a set of the user's own."""
    source: str
    """Format of the source: a name in `shards.sources.registry.FORMATS`."""
    samples: int
    height_px: int
    width_px: int
    channels: int
    """1 (gray) or 3 (RGB)."""
    encoding: str
    """How an image is stored: "raw" = uint8, height x width x channels; "png"; "jpg"."""
    resize: str
    """"none", or a rule in `shards.pixels.resize.RESIZES`."""
    classes: tuple[str, ...]
    """Class name of each label; empty when the set is unlabelled."""
    labels: tuple[int, ...]
    """The labels that were selected from the source; empty = all."""
    sources: tuple[SourceFile, ...]
    checks: tuple[str, ...]
    """What the source was held to, as published: "md5" of its files, or "md5 of contents" where one
    or more were packed anew; "count"."""
    excluded: int
    """Images that an exclusion list left out."""
    exclude_sha256: str
    """Digest of that list, or ""."""
    rejects: int
    """Images that could not be decoded."""
    rejects_sha256: str
    """Digest of rejects.jsonl, or "" when there are none."""
    shuffle_seed: int
    shard_samples: int
    """Places of the order in each shard but the last."""
    names_sha256: str
    """Digest of names.jsonl."""
    shards: tuple[Shard, ...]
    # The file of a manifest has no field that is at its default here, so that the digests of sets
    # that were built before there was such a field stay what they are.
    sizes_sha256: str = ""
    """Digest of sizes.bin, or "" where there is none: no image was resized, or the set was built
    before sizes were kept."""
    background: str = ""
    """The colour, #rrggbb, on which transparent image files were laid and to which `-pad` rules
    padded; "" where the source holds pixels and nothing was padded, or the set was built before
    transparency was understood."""
    intensity: tuple[float, float] | None = None
    """The values that became 0 and 255 in image files of more than 8 bits that do not state their
    own range; None where no rule was given."""
    component: str = ""
    """Of a WebDataset source: the component that was taken for the image, or "" for the plain one
    that each sample has."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """Entries of the source that were not taken for images: reason -> count, by reason."""

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height_px, self.width_px, self.channels

    @property
    def extensions(self) -> tuple[str, ...]:
        """The components of each sample in its tar: the image and, when labelled, the label."""
        return (EXTENSIONS[self.encoding], *((LABEL,) if self.classes else ()))

    @property
    def sha256(self) -> str:
        """Digest of all fields, and through them of every sample: the set's identity."""
        fields = json.dumps(_to_fields(self), sort_keys=True)
        return hashlib.sha256(fields.encode()).hexdigest()


def to_json(manifest: Manifest) -> str:
    """The manifest as text, its own digest last; the same manifest gives the same text."""
    fields = _to_fields(manifest)
    return json.dumps({**fields, "~sha256": manifest.sha256}, indent=1, sort_keys=True) + "\n"


def shard_file(name: str, split: str, number: int) -> str:
    """The file name of shard `number` of a set."""
    return f"{name}-{split}-{number:05d}.tar"


def read_manifest(directory: Path) -> Manifest:
    """Read and check `directory`/manifest.json (the tars are checked by `shards.verify`).

    Raises:
        UserError: the folder or the manifest is missing, or a field is missing, unknown, of the
            wrong type, inconsistent with the others or edited since the set was built.
    """
    path = directory / FILE_NAME
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder of shards (build it with `make shards`)")
    if not path.is_file():
        raise UserError(f"{path}: missing; {directory} is not a finished shard set")
    try:
        return _from_fields(json.loads(read_text(path, MAX_BYTES)))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: not a manifest of format {FORMAT_VERSION}: {error}") from error


def _to_fields(manifest: Manifest) -> dict[str, Any]:
    fields = dataclasses.asdict(manifest)
    for name, default in _OPTIONAL.items():
        if fields[name] == default:
            del fields[name]
    return fields


_OPTIONAL = {
    one.name: {} if one.default is dataclasses.MISSING else one.default
    for one in dataclasses.fields(Manifest)
    if one.default is not one.default_factory
}
"""The value of each field that a manifest need not have."""


def _from_fields(fields: Any) -> Manifest:
    if not isinstance(fields, dict):
        raise ValueError(f"expected an object, got {type(fields).__name__}")
    if fields.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"format_version is {fields.get('format_version')!r}")
    sha256 = fields.pop("~sha256")
    check_types(Manifest, fields)
    for name, default in _OPTIONAL.items():
        if name in fields and fields[name] == default:
            raise ValueError(f"{name} is {default!r}, which no manifest states")
    if (intensity := fields.get("intensity")) is not None:
        fields["intensity"] = tuple(intensity)
    manifest = Manifest(
        **{
            **fields,
            "classes": tuple(fields["classes"]),
            "labels": tuple(fields["labels"]),
            "checks": tuple(fields["checks"]),
            "sources": tuple(SourceFile(**source) for source in fields["sources"]),
            "shards": tuple(Shard(**shard) for shard in fields["shards"]),
        }
    )
    _check_ranges(manifest)
    _check_together(manifest)
    if manifest.sha256 != sha256:
        raise ValueError("it was edited or damaged: its fields do not match its own sha256")
    return manifest


def _check_ranges(manifest: Manifest) -> None:
    """Refuse a value that no build can have written; whoever reads a set may rely on that."""

    def refuse_unless(holds: bool, name: str, value: object, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} is {value!r:.80}, expected {expected}")

    def number(name: str, value: int, least: int, most: int = MAX_SAMPLES) -> None:
        refuse_unless(least <= value <= most, name, value, f"{least} to {most}")

    def digest(name: str, value: str, may_be_empty: bool = False) -> None:
        is_digest = re.fullmatch("[0-9a-f]{64}", value) is not None
        refuse_unless(
            is_digest or (may_be_empty and not value), name, value, "the hex digits of a sha256"
        )

    def one_of(name: str, value: object, values: tuple[object, ...]) -> None:
        refuse_unless(value in values, name, value, ", ".join(map(str, values)))

    for name, text in (("name", manifest.name), ("split", manifest.split)):
        refuse_unless(re.fullmatch(NAME, text) is not None, name, text, f"to match {NAME}")
    number("samples", manifest.samples, 1)
    number("height_px", manifest.height_px, 1, MAX_SIZE_PX)
    number("width_px", manifest.width_px, 1, MAX_SIZE_PX)
    one_of("channels", manifest.channels, (1, 3))
    one_of("encoding", manifest.encoding, tuple(EXTENSIONS))
    one_of("resize", manifest.resize, ("none", *RESIZES))
    for label in manifest.labels:
        number("labels", label, 0, len(manifest.classes) - 1)
    for source in manifest.sources:
        number(f"bytes of source {source.file!r}", source.bytes, 0, MAX_NUMBER)
        digest(f"sha256 of source {source.file!r}", source.sha256)
    number("excluded", manifest.excluded, 0)
    digest("exclude_sha256", manifest.exclude_sha256, may_be_empty=True)
    number("rejects", manifest.rejects, 0)
    digest("rejects_sha256", manifest.rejects_sha256, may_be_empty=True)
    number("shuffle_seed", manifest.shuffle_seed, 0, MAX_NUMBER)
    number("shard_samples", manifest.shard_samples, 1)
    digest("names_sha256", manifest.names_sha256)
    for shard in manifest.shards:
        is_tar = re.fullmatch(f"{NAME}-{NAME}-[0-9]{{5,}}\\.tar", shard.file) is not None
        refuse_unless(is_tar, "shard file", shard.file, "the name of a tar in this folder")
        number(f"samples of {shard.file}", shard.samples, 1)
        number(f"bytes of {shard.file}", shard.bytes, 1, MAX_NUMBER)
        digest(f"sha256 of {shard.file}", shard.sha256)
        digest(f"idx_sha256 of {shard.file}", shard.idx_sha256)
    digest("sizes_sha256", manifest.sizes_sha256, may_be_empty=True)
    background, intensity = manifest.background, manifest.intensity
    refuse_unless(not background or is_colour(background), "background", background, "#rrggbb")
    refuse_unless(
        intensity is None or is_intensity(*intensity),
        "intensity",
        intensity,
        "two numbers, the lower first",
    )
    for reason, count in manifest.passed_over.items():
        number(f"passed_over {reason!r}", count, 1, MAX_NUMBER)


def _check_together(manifest: Manifest) -> None:
    """Refuse fields that contradict each other."""
    if not manifest.shards:
        raise ValueError("shards is empty")
    if len({shard.file for shard in manifest.shards}) < len(manifest.shards):
        raise ValueError("shards has one file twice")
    if sum(shard.samples for shard in manifest.shards) != manifest.samples:
        raise ValueError(f"samples is {manifest.samples}, its shards hold another number")
    for count, name, text in (
        ("rejects", "rejects_sha256", manifest.rejects_sha256),
        ("excluded", "exclude_sha256", manifest.exclude_sha256),
    ):
        if getattr(manifest, count) and not text:
            raise ValueError(f"{count} is {getattr(manifest, count)}, but {name} is empty")
    if sorted(set(manifest.labels)) != list(manifest.labels):
        raise ValueError(f"labels are {list(manifest.labels)!r:.80}, expected ascending ones")
    if manifest.sizes_sha256 and manifest.resize == "none":
        raise ValueError("it has sizes_sha256, though none of its images was resized")
