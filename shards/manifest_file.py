"""The file manifest.json: how it is written, read and checked.

Every value is checked when the file is read, so all code may rely on the ranges of the fields of a
`Manifest`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from shards.disk.reading import read_text
from shards.errors import UserError
from shards.json_types import check_types, from_json
from shards.manifest import (
    DEFAULTS,
    EXTENSIONS,
    FILE_NAME,
    FORMAT_VERSION,
    MAX_NUMBER,
    MAX_SAMPLES,
    MAX_SIZE_PX,
    NAME,
    Manifest,
)
from shards.pixels.levels import is_colour, is_intensity
from shards.pixels.resize import RESIZES

MAX_BYTES = 256 << 20
"""The largest size of a manifest file that is read, in bytes; each shard takes about 300 bytes."""


def to_json(manifest: Manifest) -> str:
    """Return the text of manifest.json; equal manifests give equal texts.

    The last key, `~sha256`, holds the digest of all other fields.
    """
    fields = {**manifest.to_fields(), "~sha256": manifest.sha256}
    return json.dumps(fields, indent=1, sort_keys=True) + "\n"


def read_manifest(directory: Path) -> Manifest:
    """Read the file manifest.json in `directory` and check its values.

    The tars are not checked here, but in `shards.verify`.

    Raises:
        UserError: The folder or the manifest is missing; a field is missing, unknown, of the wrong
            type or inconsistent with other fields; or the file was edited since the set was built.
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


def _from_fields(fields: Any) -> Manifest:
    if not isinstance(fields, dict):
        raise ValueError(f"expected an object, got {type(fields).__name__}")
    if fields.get("format_version") != FORMAT_VERSION:
        version = fields.get("format_version")
        raise ValueError(f"format_version is {version!r:.80}, expected {FORMAT_VERSION}")
    sha256 = fields.pop("~sha256")
    check_types(Manifest, fields)
    for name, default in DEFAULTS.items():
        if name in fields and fields[name] == default:
            raise ValueError(f"{name} is {default!r}, its default, which is never written")
    manifest = from_json(Manifest, fields)
    _check_ranges(manifest)
    _check_together(manifest)
    if manifest.sha256 != sha256:
        raise ValueError("it was edited or damaged: its fields do not match its own sha256")
    return manifest


def _check_ranges(manifest: Manifest) -> None:
    """Check that every field has a value that a build can have written.

    Raises:
        ValueError: A value is out of range. The message names the field and what is expected.
    """

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
    """Check that fields do not contradict each other.

    Raises:
        ValueError: Two fields contradict each other. The message names them.
    """
    if not manifest.shards:
        raise ValueError("shards is empty")
    if len({shard.file for shard in manifest.shards}) < len(manifest.shards):
        raise ValueError("shards lists a file twice")
    if (held := sum(shard.samples for shard in manifest.shards)) != manifest.samples:
        raise ValueError(f"samples is {manifest.samples}, but its shards hold {held}")
    for count, name, text in (
        ("rejects", "rejects_sha256", manifest.rejects_sha256),
        ("excluded", "exclude_sha256", manifest.exclude_sha256),
    ):
        if getattr(manifest, count) and not text:
            raise ValueError(f"{count} is {getattr(manifest, count)}, but {name} is empty")
    if sorted(set(manifest.labels)) != list(manifest.labels):
        raise ValueError(f"labels are {list(manifest.labels)!r:.80}, expected ascending ones")
    if manifest.sizes_sha256 and manifest.resize == "none":
        raise ValueError("sizes_sha256 is set, but resize is none")
