"""The contract of a shard set: one folder is one split of one data set at one resolution.

    manifest.json               written last; only files that the manifest lists are ever read
    <name>-<split>-00000.tar    USTAR; for each sample its image, `<key>.bin` (raw uint8 HWC),
                                `<key>.png` or `<key>.jpg`, followed in a labelled set by its label,
                                `<key>.cls` (an integer in ASCII)
    <name>-<split>-00000.idx    DALI index v1.2 of that tar
    names.jsonl                 line i is the name of sample i in its source
    rejects.jsonl               only if images were rejected: their names and the reasons
    sizes.bin                   only if images were resized: the size that each image had before
                                (`format/source_sizes.py`)

A build takes the images of the source that are selected and not excluded, and shuffles all of them,
so that neighbours in a tar are not of one class. The place of an image is its position in this
shuffled order. The key of an image is its place, written with nine digits. Names of the user's
files are metadata and never become keys. Shard k holds the places from k * shard_samples to
(k + 1) * shard_samples - 1. Images that are rejected leave gaps in the keys. The id of a sample is
its position among the samples that are stored, so ids have no gaps. All code outside of this
package refers to a sample by its id.

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
"""The largest number of samples in a set, because a key has nine digits."""
MAX_NUMBER = 2**64 - 1
"""The largest value of a seed, of a number of bytes, and of a count in `Manifest.passed_over`."""
MAX_SIZE_PX = 1024
"""The largest height and width of stored images."""
NAME = r"[A-Za-z0-9_-]{1,80}"
"""The regular expression that names of sets and names of splits must match."""
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
    """The sha256 of a file. For a folder, this is a sum modulo 2**256 over all images of the split,
    whether they are selected or not. Each image adds sha256(its name in the folder + a zero byte +
    the sha256 of its file)."""


@dataclass(frozen=True)
class Shard:
    """A tar of samples and its index file, which has the same name with the ending .idx."""

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

    The file manifest.json holds these fields and their digest, `~sha256`. A field whose value is
    its default is not written. So the digest of a set that was built before the field existed stays
    valid.
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
    """The form in which images are stored: "raw" = the pixels, uint8 [height, width, channels];
    "png" = PNG files; "jpg" = JPEG files."""
    resize: str
    """The name of the resize rule, from `shards.pixels.resize.RESIZES`; "none" if no image had to
    be resized."""
    classes: tuple[str, ...]
    """The class name of each label; empty if the set is unlabelled."""
    labels: tuple[int, ...]
    """The labels that were selected from the source; empty if all labels were taken."""
    sources: tuple[SourceFile, ...]
    checks: tuple[str, ...]
    """The checks against published values that the source passed. "md5" = the md5 of each file;
    "md5 of contents" = the md5 of each file or, where an archive was packed again, of the files
    inside the archive; "count" = the number of images."""
    excluded: int
    """The number of images that were left out because an exclusion list names them."""
    exclude_sha256: str
    """The sha256 of the exclusion list; "" if there was no list."""
    rejects: int
    """The number of images that could not be decoded."""
    rejects_sha256: str
    """The sha256 of rejects.jsonl; "" if there are no rejects."""
    shuffle_seed: int
    shard_samples: int
    """The number of places per shard, counted before bad images are rejected; the last shard may
    have fewer places."""
    names_sha256: str
    """The sha256 of names.jsonl."""
    shards: tuple[Shard, ...]
    sizes_sha256: str = ""
    """The sha256 of sizes.bin; "" if the set has no such file. This is so if no image was resized,
    or if the set was built before sizes were stored."""
    background: str = ""
    """The colour, #rrggbb, that replaces transparent pixels and fills the padding of `-pad` rules.
    It is "" if the source holds plain pixels and nothing was padded, or if the set was built before
    transparency was supported."""
    intensity: tuple[float, float] | None = None
    """The two values that became black (0) and white (255) in image files of more than 8 bits that
    do not state their own range; None if the request did not give these values."""
    component: str = ""
    """The file extension of the member of each WebDataset sample that is the image, such as jpg or
    left.png; "" if the request did not name one."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """Reason -> the number of entries of the source that were not used as images for this reason.
    """

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """The shape of a decoded sample: height, width, channels."""
        return self.height_px, self.width_px, self.channels

    @property
    def extensions(self) -> tuple[str, ...]:
        """The file extensions of the members that a sample has in its tar.

        The first is the extension of the image. A labelled set has a second one, for the label.
        """
        return (EXTENSIONS[self.encoding], *((LABEL,) if self.classes else ()))

    @property
    def sha256(self) -> str:
        """The digest of all fields, which identifies the set.

        The fields hold the digests of the tars, so this digest also depends on every sample.
        """
        fields = json.dumps(self.to_fields(), sort_keys=True)
        return hashlib.sha256(fields.encode()).hexdigest()

    def to_fields(self) -> dict[str, Any]:
        """Return the fields for manifest.json; a field whose value is its default is left out."""
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
"""Field name -> default value, for the fields that manifest.json may leave out."""


def shard_file(name: str, split: str, number: int) -> str:
    """Return the file name of the tar with shard number `number` of the set `name`."""
    return f"{name}-{split}-{number:05d}.tar"
