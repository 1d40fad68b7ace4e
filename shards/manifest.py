"""The contract of a shard set: one directory = one split of one data set at one resolution.

    manifest.json               written last; nothing that it does not list is ever read
    <name>-<split>-00000.tar    USTAR; per sample its image, `<key>.bin` (raw uint8 HWC),
                                `<key>.png` or `<key>.jpg`, and when the set is labelled `<key>.cls`
                                (ASCII integer), next to each other
    <name>-<split>-00000.idx    DALI index v1.2 of that tar
    names.jsonl                 line i is the name of sample i in its source
    rejects.jsonl               when images were rejected: their names and the reasons
    sizes.bin                   when images were resized: what size each had (see `shards.sizes`)

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.cli import UserError

FORMAT_VERSION = 2
FILE_NAME = "manifest.json"
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
    """"none", or a rule in `shards.resize.RESIZES`."""
    classes: tuple[str, ...]
    """Class name of each label; empty when the set is unlabelled."""
    labels: tuple[int, ...]
    """The labels that were selected from the source; empty = all."""
    sources: tuple[SourceFile, ...]
    checks: tuple[str, ...]
    """What the source was held to: "md5", "count" (as published)."""
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
    sizes_sha256: str = ""
    """Digest of sizes.bin, or "" where there is none: no image was resized, or the set was built
    before sizes were kept. The file of a manifest does not have the field then, as those of such
    sets do not, so that their digests stay what they are."""

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
        return _from_fields(json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: not a manifest of format {FORMAT_VERSION}: {error}") from error


def _to_fields(manifest: Manifest) -> dict[str, Any]:
    fields = dataclasses.asdict(manifest)
    if not manifest.sizes_sha256:
        del fields["sizes_sha256"]
    return fields


def _from_fields(fields: dict[str, Any]) -> Manifest:
    if not isinstance(fields, dict):
        raise ValueError(f"expected an object, got {type(fields).__name__}")
    if fields.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"format_version is {fields.get('format_version')!r}")
    sha256 = fields.pop("~sha256")
    for name in ("classes", "labels", "checks", "sources", "shards"):
        if not isinstance(fields[name], list):
            raise ValueError(f"{name} is {fields[name]!r}, expected a list")
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
    for field in dataclasses.fields(Manifest):
        kind = {"int": int, "str": str}.get(str(field.type))
        value = getattr(manifest, field.name)
        if kind is not None and type(value) is not kind:
            raise ValueError(f"{field.name} is {value!r}, expected {field.type}")
    for shard in manifest.shards:
        if Path(shard.file).name != shard.file or not shard.file.endswith(".tar"):
            raise ValueError(f"shard file {shard.file!r} is not the name of a tar in this folder")
    if sum(shard.samples for shard in manifest.shards) != manifest.samples:
        raise ValueError(f"samples is {manifest.samples}, its shards hold another number")
    if manifest.encoding not in EXTENSIONS:
        raise ValueError(f"encoding is {manifest.encoding!r}, expected {', '.join(EXTENSIONS)}")
    if "sizes_sha256" in fields and (not manifest.sizes_sha256 or manifest.resize == "none"):
        raise ValueError("it has sizes_sha256, though none of its images was resized")
    if manifest.shard_samples < 1 or not manifest.shards:
        raise ValueError(f"{len(manifest.shards)} shards of {manifest.shard_samples} samples")
    if manifest.channels not in (1, 3) or min(manifest.sample_shape) < 1:
        raise ValueError(f"height, width, channels are {manifest.sample_shape}")
    if manifest.sha256 != sha256:
        raise ValueError("it was edited or damaged: its fields do not match its own sha256")
    return manifest
