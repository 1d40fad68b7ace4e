"""The contract of a shard set: one folder is one split of one data set at one resolution.

    manifest.json               written last; a file that it does not list is never read
    <name>-<split>-00000.tar    USTAR; for each sample its image, `<key>.bin` (raw uint8 HWC),
                                `<key>.png` or `<key>.jpg`, followed in a labelled set by its label,
                                `<key>.cls` (an integer in ASCII)
    <name>-<split>-00000.idx    DALI index v1.2 of that tar
    names.jsonl                 line i is the name of sample i in its source
    rejects.jsonl               only if images were rejected: their names and the reasons
    sizes.bin                   only if images were resized: the size of each one before
                                (`format/source_sizes.py`)

A build takes the images of the source that were selected and not excluded, and shuffles all of
them, so that neighbours in a tar are not of one class. The place of an image in this order, written
with nine digits, is its key. Names of the user's files are metadata and never become keys. Shard k
holds the places from k * shard_samples on. Rejected images leave gaps in the keys. The id of a
sample has no gaps: it is the position among the samples that are there, and all code outside of
this package refers to a sample by its id.

The same input gives the same bytes. A finished set is never changed in place.
`manifest_file.py` writes, reads and checks manifest.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT_VERSION = 2
MAX_SAMPLES = 10**9
"""The most samples of a set: a key has nine digits."""
MAX_NUMBER = 2**64 - 1
"""The largest seed, number of bytes, and count of entries that were passed over."""
MAX_SIZE_PX = 1024
"""The largest height and width of stored images."""
NAME = r"[A-Za-z0-9_-]{1,80}"
"""The pattern of the name of a set, and of the name of a split."""
FILE_NAME = "manifest.json"
NAMES_FILE_NAME = "names.jsonl"
REJECTS_FILE_NAME = "rejects.jsonl"
SIZES_FILE_NAME = "sizes.bin"
EXTENSIONS = {"raw": "bin", "png": "png", "jpg": "jpg"}
"""Encoding -> file extension of the image in a tar."""
LABEL = "cls"
"""File extension of the label in a tar."""


@dataclass(frozen=True)
class SourceFile:
    """A file or folder that the samples came from."""

    file: str
    bytes: int
    sha256: str
    """The digest of a file. The digest of a folder is the sum modulo 2**256, over all images of the
    split, selected or not, of sha256(name in the folder, a zero byte, sha256 of the file)."""


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
    """The contents and the origin of a shard set.

    manifest.json has these fields and the digest of them, `~sha256`. A field that has a default
    here is not written while it is at its default, so that the digests of sets that were built
    before the field existed stay valid.
    """

    format_version: int
    name: str
    split: str
    protocol: str
    """The named protocol that the set belongs to, or "" for a set of the user's own."""
    source: str
    """The format of the source: a name in `shards.sources.registry.FORMATS`."""
    samples: int
    height_px: int
    width_px: int
    channels: int
    """1 (gray) or 3 (RGB)."""
    encoding: str
    """The form of a stored image: "raw" = uint8, height x width x channels; "png"; "jpg"."""
    resize: str
    """"none", or a rule in `shards.pixels.resize.RESIZES`."""
    classes: tuple[str, ...]
    """The class name of each label; empty when the set is unlabelled."""
    labels: tuple[int, ...]
    """The labels that were selected from the source; empty = all."""
    sources: tuple[SourceFile, ...]
    checks: tuple[str, ...]
    """The published facts that the source agrees with: "md5" of its files, or "md5 of contents" if
    one or more of them were packed anew; "count" of images."""
    excluded: int
    """The number of images that an exclusion list left out."""
    exclude_sha256: str
    """The digest of that list, or ""."""
    rejects: int
    """The number of images that could not be decoded."""
    rejects_sha256: str
    """The digest of rejects.jsonl, or "" when there are none."""
    shuffle_seed: int
    shard_samples: int
    """The number of places of the order in each shard; the last shard may have fewer."""
    names_sha256: str
    """The digest of names.jsonl."""
    shards: tuple[Shard, ...]
    sizes_sha256: str = ""
    """The digest of sizes.bin, or "" if there is none: no image was resized, or the set was built
    before sizes were kept."""
    background: str = ""
    """The colour, #rrggbb, behind transparent image files and in the padding of `-pad` rules. "" if
    the source holds pixels and nothing was padded, or if the set was built before transparency was
    supported."""
    intensity: tuple[float, float] | None = None
    """The values that became 0 and 255 in image files of more than 8 bits that do not state their
    own range; None if no rule was given."""
    component: str = ""
    """The component of a WebDataset source that was taken for the image, or "" for the plain one
    that each sample has."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """Entries of the source that were not taken for images: reason -> count."""

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height_px, self.width_px, self.channels

    @property
    def extensions(self) -> tuple[str, ...]:
        """The file extensions of a sample in its tar: the image and, when labelled, the label."""
        return (EXTENSIONS[self.encoding], *((LABEL,) if self.classes else ()))

    @property
    def sha256(self) -> str:
        """The digest of all fields, and through them of every sample: the identity of the set."""
        fields = json.dumps(self.to_fields(), sort_keys=True)
        return hashlib.sha256(fields.encode()).hexdigest()

    def to_fields(self) -> dict[str, Any]:
        """Return the fields as JSON has them, without those that are at their default."""
        fields = dataclasses.asdict(self)
        return {
            name: value
            for name, value in fields.items()
            if name not in DEFAULTS or value != DEFAULTS[name]
        }


DEFAULTS = {
    one.name: {} if one.default is dataclasses.MISSING else one.default
    for one in dataclasses.fields(Manifest)
    if one.default is not one.default_factory
}
"""The value of each field that manifest.json may leave out."""


def shard_file(name: str, split: str, number: int) -> str:
    """Return the file name of shard `number` of a set."""
    return f"{name}-{split}-{number:05d}.tar"
