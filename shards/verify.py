"""Check that shard sets are as they were built: `python -m shards.verify DIR [DIR ...]`.

There are two checks. The fast check runs whenever a set is opened, before DALI or the reader uses
its files. It reads the manifest, the indexes, the lists (names, rejects, sizes) and two headers of
each tar. It finds files that became shorter, edits of the manifest, of an index or of a list, and
tars of the set that were exchanged. It does not read images. The full check (`--full`) also
compares the sha256 of each tar, which finds every flipped bit.

Files that the manifest does not list are ignored, because they are never read.
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

from shards.disk.reading import file_sha256
from shards.errors import UserError
from shards.format.index import Component, Index, parse_index
from shards.format.source_sizes import parse_sizes
from shards.format.tar import BLOCK_BYTES, END, member_headers, padded, sample_key
from shards.manifest import (
    NAMES_FILE_NAME,
    REJECTS_FILE_NAME,
    SIZES_FILE_NAME,
    Manifest,
    Shard,
    shard_file,
)
from shards.manifest_file import read_manifest
from shards.terminal import cli

MAX_IDX_LINE_BYTES = 128
"""The largest length of a line in an index, in bytes; a line lists at most an image and a label."""
MAX_SIZES_BYTES = 64
"""The largest number of bytes per sample in a sizes.bin; a longer file is refused before it is
read. An intact file has about 8 bytes per sample."""


def verify_shards(directory: Path, full: bool = False) -> Manifest:
    """Check a shard set and return its manifest.

    Args:
        directory: The folder of the set.
        full: If True, also read all tars and compare their sha256.

    Raises:
        UserError: A file is missing or has changed since the set was built; the message names the
            file.
    """
    return verify_and_index(directory, full)[0]


def verify_and_index(directory: Path, full: bool = False) -> tuple[Manifest, list[Index]]:
    """Check a shard set as `verify_shards` does; return its manifest and the index of each shard.

    Raises:
        UserError: A file is missing or has changed since the set was built; the message names the
            file.
    """
    manifest = read_manifest(directory)
    indexes: list[Index] = []
    for shard in manifest.shards:
        index = _check_shard(directory, manifest, shard)
        number = int(index.keys[0]) // manifest.shard_samples
        expected = shard_file(manifest.name, manifest.split, number)
        if shard.file != expected:
            raise UserError(f"{directory / shard.file}: its samples belong in {expected}")
        if indexes and index.keys[0] <= indexes[-1].keys[-1]:
            raise UserError(f"{directory / shard.file}: not in its place in the manifest")
        if full and file_sha256(directory / shard.file) != shard.sha256:
            raise UserError(f"{directory / shard.file}: its content changed since it was built")
        indexes.append(index)
    _check_list(directory / NAMES_FILE_NAME, manifest.names_sha256, manifest.samples)
    if manifest.rejects:
        _check_list(directory / REJECTS_FILE_NAME, manifest.rejects_sha256, manifest.rejects)
    if manifest.sizes_sha256:
        path = directory / SIZES_FILE_NAME
        if _regular_file_bytes(path) > MAX_SIZES_BYTES * (manifest.samples + 1):
            raise UserError(f"{path}: too long for {manifest.samples} samples")
        parse_sizes(_unchanged(path, manifest.sizes_sha256), manifest.samples, path)
    return manifest, indexes


def _check_shard(directory: Path, manifest: Manifest, shard: Shard) -> Index:
    tar_path, idx_path = directory / shard.file, directory / shard.idx_file
    tar_bytes = _regular_file_bytes(tar_path)
    idx_bytes = _regular_file_bytes(idx_path)
    if tar_bytes != shard.bytes:
        raise UserError(f"{tar_path}: {tar_bytes} bytes, the manifest says {shard.bytes}")
    if idx_bytes > MAX_IDX_LINE_BYTES * (shard.samples + 1):
        raise UserError(f"{idx_path}: {idx_bytes} bytes, too many for {shard.samples} samples")
    text = idx_path.read_bytes()
    if hashlib.sha256(text).hexdigest() != shard.idx_sha256:
        raise UserError(f"{idx_path}: not the index that was built for {shard.file}")
    index = parse_index(text.decode("utf-8", "replace"), idx_path)
    if tuple(index.components) != manifest.extensions:
        there, expected = ", ".join(index.components), ", ".join(manifest.extensions)
        raise UserError(f"{idx_path}: components {there}, expected {expected}")
    keys = index.keys
    first_place = keys[0] // manifest.shard_samples * manifest.shard_samples
    in_order = (np.diff(keys) > 0).all() and keys[-1] < first_place + manifest.shard_samples
    if len(keys) != shard.samples or not in_order:
        raise UserError(f"{idx_path}: not {shard.samples} samples of one shard, in order")
    _check_places(idx_path, tar_bytes, list(index.components.values()))
    image = index.components[manifest.extensions[0]]
    sample_bytes = int(np.prod(manifest.sample_shape))
    if manifest.encoding == "raw" and (image.sizes != sample_bytes).any():
        raise UserError(f"{idx_path}: has images of other than {sample_bytes} bytes")
    _check_first_and_last_header(tar_path, manifest.extensions[0], keys, image)
    return index


def _check_places(idx_path: Path, tar_bytes: int, components: list[Component]) -> None:
    """Check that the members in an index fill the whole tar, one after the other, without gaps.

    Args:
        idx_path: The index, for the error message.
        tar_bytes: The size of the tar.
        components: The offsets and sizes of all images, and in a labelled set those of all labels.

    Raises:
        UserError: The offsets and sizes do not fit each other or the size of the tar.
    """
    sizes = np.stack([component.sizes for component in components], axis=1)  # [samples, components]
    offsets = np.stack([component.offsets for component in components], axis=1)
    # This is checked first, because a sum of very large sizes could overflow.
    too_large = (sizes > tar_bytes).any()
    ends = np.cumsum(BLOCK_BYTES + padded(sizes)).reshape(sizes.shape)
    if too_large or (offsets != ends - padded(sizes)).any() or ends[-1, -1] != tar_bytes - len(END):
        raise UserError(f"{idx_path}: points elsewhere than at the members of its tar")


def _check_first_and_last_header(
    tar_path: Path, extension: str, keys: np.ndarray, images: Component
) -> None:
    """Check that the first and the last image in a tar have the keys that the index lists.

    This finds two tars that were exchanged: tars of raw samples have the same size, so the size
    alone does not find them.

    Raises:
        UserError: A header in the tar is not as expected.
    """
    ends = [0, len(keys) - 1]
    headers = member_headers(keys[ends], extension, images.sizes[ends])
    with open(tar_path, "rb") as tar:
        for i, header in zip(ends, headers, strict=True):
            tar.seek(images.offsets[i] - BLOCK_BYTES)
            if tar.read(BLOCK_BYTES) != header.tobytes():
                key = sample_key(keys[i])
                raise UserError(f"{tar_path}: sample {key} is not where its index says")


def _check_list(path: Path, sha256: str, lines: int) -> None:
    _regular_file_bytes(path)
    digest, count = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            count += block.count(b"\n")
    _check_digest(path, digest.hexdigest(), sha256)
    if count != lines:
        raise UserError(f"{path}: {count} lines, expected {lines}")


def _unchanged(path: Path, sha256: str) -> bytes:
    """Return the content of a file after checking its sha256.

    Raises:
        UserError: The file has another sha256.
    """
    data = path.read_bytes()
    _check_digest(path, hashlib.sha256(data).hexdigest(), sha256)
    return data


def _check_digest(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise UserError(f"{path}: its content changed since it was built")


def _regular_file_bytes(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        UserError: The file is missing, or it is a link, a pipe or a folder.
    """
    try:
        status = os.lstat(path)
    except OSError as error:
        raise UserError(f"{path}: listed in the manifest, but {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: listed in the manifest, but not a regular file")
    return status.st_size


@dataclass(frozen=True)
class VerifyRequest:
    """The sets to check, and the depth of the check."""

    directories: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of shard sets."""
    full: bool = False
    """Also read all tars and compare their sha256 (slow, but finds every changed bit)."""


def main(argv: Sequence[str] | None = None) -> None:
    """Check the sets one after the other; print a line for each intact set, stop at a damaged set.

    Raises:
        UserError: No folder is named, or a set is damaged.
    """
    request = cli.parse(VerifyRequest, argv, description="Check shard sets.")
    if not request.directories:
        raise UserError("no folder to verify was named")
    for directory in request.directories:
        manifest = verify_shards(directory, request.full)
        height, width, channels = manifest.sample_shape
        checked = "all bytes" if request.full else "sizes and indexes, not images"
        print(
            f"{directory}: ok, {manifest.samples} samples of {height}x{width}x{channels} "
            f"in {len(manifest.shards)} shards ({checked})"
        )


if __name__ == "__main__":
    cli.run(main)
