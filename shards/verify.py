"""Checks a shard set before anything maps or reads it: `python -m shards.verify DIR [DIR ...]`.

The fast check reads the manifest, the indexes and two headers a tar: it finds any cut, any edit of
manifest, index or names, and tars that changed places. It does not read pixels; `--full` also
compares each tar's sha256, and so finds every flipped bit. Files that the manifest does not list
are ignored, for nothing reads them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from shards import cli
from shards.cli import UserError
from shards.index import Component, parse_index
from shards.manifest import NAMES_FILE_NAME, Manifest, Shard, read_manifest
from shards.writer import BLOCK_BYTES, LABEL, PIXELS, member_header, sample_key

Index = dict[str, Component]


def verify_shards(directory: Path, full: bool = False) -> Manifest:
    """Check a set and return its manifest.

    Args:
        directory: The set's folder.
        full: Also read all tars and compare their digests.

    Raises:
        UserError: anything is not as it was built; the message names the shard or the file.
    """
    return verify_and_index(directory, full)[0]


def verify_and_index(directory: Path, full: bool = False) -> tuple[Manifest, list[Index]]:
    """As `verify_shards`; also returns the checked index of each shard."""
    manifest = read_manifest(directory)
    indexes = []
    first_id = 0
    for number, shard in enumerate(manifest.shards):
        expected = shard_file(manifest.name, manifest.split, number)
        if shard.file != expected:
            raise UserError(f"{directory / shard.file}: shard {number} should be {expected}")
        indexes.append(_check_shard(directory, manifest, shard, first_id))
        if full and _sha256(directory / shard.file) != shard.sha256:
            raise UserError(f"{directory / shard.file}: its content changed since it was built")
        first_id += shard.samples
    if manifest.names_sha256:
        _check_names(directory / NAMES_FILE_NAME, manifest)
    return manifest, indexes


def shard_file(name: str, split: str, number: int) -> str:
    """The file name of shard `number` of a set."""
    return f"{name}-{split}-{number:05d}.tar"


def _check_shard(directory: Path, manifest: Manifest, shard: Shard, first_id: int) -> Index:
    tar_path, idx_path = directory / shard.file, directory / shard.idx_file
    tar_bytes = _regular_file_bytes(tar_path)
    _regular_file_bytes(idx_path)
    if tar_bytes != shard.bytes:
        raise UserError(f"{tar_path}: {tar_bytes} bytes, the manifest says {shard.bytes}")
    text = idx_path.read_bytes()
    if hashlib.sha256(text).hexdigest() != shard.idx_sha256:
        raise UserError(f"{idx_path}: not the index that was built for {shard.file}")
    index = parse_index(text.decode("utf-8", "replace"), idx_path)
    expected = [PIXELS, LABEL] if manifest.classes else [PIXELS]
    if list(index) != expected:
        raise UserError(f"{idx_path}: components {', '.join(index)}, not {', '.join(expected)}")
    keys = [sample_key(first_id + i) for i in range(shard.samples)]
    for extension, component in index.items():
        if component.names != tuple(f"{key}.{extension}" for key in keys):
            raise UserError(f"{idx_path}: not samples {first_id} to {first_id + len(keys) - 1}")
        ends = component.offsets + component.sizes
        if (component.offsets % BLOCK_BYTES).any() or (ends > tar_bytes).any():
            raise UserError(f"{idx_path}: points outside of the members of {shard.file}")
    sample_bytes = int(np.prod(manifest.sample_shape))
    if (index[PIXELS].sizes != sample_bytes).any():
        raise UserError(f"{idx_path}: samples of other than {sample_bytes} bytes")
    _check_first_and_last_header(tar_path, keys, index[PIXELS])
    return index


def _check_first_and_last_header(tar_path: Path, keys: list[str], pixels: Component) -> None:
    """Tars of raw samples have equal sizes, so a swapped one is known only by its keys."""
    with open(tar_path, "rb") as tar:
        for i in (0, len(keys) - 1):
            tar.seek(pixels.offsets[i] - BLOCK_BYTES)
            if tar.read(BLOCK_BYTES) != member_header(keys[i], PIXELS, int(pixels.sizes[i])):
                raise UserError(f"{tar_path}: sample {keys[i]} is not where its index says")


def _check_names(path: Path, manifest: Manifest) -> None:
    _regular_file_bytes(path)
    text = path.read_bytes()
    if hashlib.sha256(text).hexdigest() != manifest.names_sha256:
        raise UserError(f"{path}: its content changed since it was built")
    if text.count(b"\n") != manifest.samples:
        raise UserError(f"{path}: not one name for each of {manifest.samples} samples")


def _regular_file_bytes(path: Path) -> int:
    """The size of a file that is neither missing nor a link, a pipe or a folder."""
    try:
        status = os.lstat(path)
    except OSError as error:
        raise UserError(f"{path}: listed in the manifest, but {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: listed in the manifest, but not a regular file")
    return status.st_size


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class VerifyRequest:
    """Which sets to check, and how far."""

    directories: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of shard sets."""
    full: bool = False
    """Also read all tars and compare their sha256."""


def main(argv: Sequence[str] | None = None) -> None:
    """Check each set; one line for each that is as it was built."""
    request = cli.parse(VerifyRequest, argv, description="Check shard sets.")
    if not request.directories:
        raise UserError("no folder to verify was named")
    for directory in request.directories:
        manifest = verify_shards(directory, request.full)
        height, width, channels = manifest.sample_shape
        checked = "all bytes" if request.full else "sizes and indexes, not pixels"
        print(
            f"{directory}: ok, {manifest.samples} samples of {height}x{width}x{channels} "
            f"in {len(manifest.shards)} shards ({checked})"
        )


if __name__ == "__main__":
    cli.run(main)
