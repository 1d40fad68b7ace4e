"""Builds a shard set: `python -m shards.build --source idx --src DIR --split train ...`.

source -> selection by label -> seeded global shuffle -> resize -> tars, indexes, names, manifest.
The same request gives the same bytes with any number of workers.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from shards import cli
from shards.cli import UserError
from shards.manifest import FORMAT_VERSION, Manifest, Shard
from shards.sources import Sample, Source
from shards.sources.folder import FolderSource
from shards.sources.idx import IdxSource
from shards.sources.npy import NpySource
from shards.verify import shard_file
from shards.writer import ShardWriter, publishing, refuse_existing, write_manifest, write_names

CHUNK_SAMPLES = 64
"""Samples that are decoded at a time, and so held in memory."""
MAX_SIZE_PX = 1024


@dataclass(frozen=True)
class BuildRequest:
    """What to build from what."""

    source: Literal["idx", "folder", "npy"]
    """Format of the source: IDX files of the MNIST family, image files, or one .npy array."""
    src: Path
    """The folder (idx, folder) or the file (npy)."""
    size_px: int
    """Height and width of the stored images, pixels, 1 to 1024 (aspect ratio not kept)."""
    out: Path
    """The set's folder; must not exist yet."""
    split: str = "train"
    """Name of the split; for idx "train" or "test" says which official files are read."""
    labels: tuple[int, ...] = ()
    """Take only images with these labels, which they keep; by default all."""
    channels: Literal[1, 3] | None = None
    """1 (gray) or 3 (RGB); by default what the source has (folder: 3)."""
    name: str = ""
    """Name of the set, for its files; by default that of the output folder."""
    seed: int = 0
    """Seed of the global shuffle."""
    shard_samples: int = 10_000
    """Samples per tar."""
    workers: int = len(os.sched_getaffinity(0))
    """Threads that decode and resize; by default one per CPU."""
    class_folders: bool = False
    """folder: the first-level folders are the classes; by default the set is unlabelled."""
    classes: tuple[str, ...] = ()
    """idx: name of each label; by default its number."""
    protocol: str = ""
    """The named protocol that the set belongs to, if any."""


@dataclass(frozen=True)
class Plan:
    """A checked request: what will be stored, in which order."""

    source: Source
    order: np.ndarray
    """Index into the source of each sample, by id: int64 [samples]."""
    manifest: Manifest
    """All that is known before decoding: without `resize`, `names_sha256` and `shards`."""


def plan(request: BuildRequest) -> Plan:
    """Open the source, check the request against it and choose the samples' order.

    Raises:
        UserError: a field is out of range, the source cannot be read, or it has no such sample.
    """
    if not 1 <= request.size_px <= MAX_SIZE_PX:
        raise UserError(f"size_px is {request.size_px}, expected 1 to {MAX_SIZE_PX}")
    for field in ("shard_samples", "workers"):
        if getattr(request, field) < 1:
            raise UserError(f"{field} is {getattr(request, field)}, expected at least 1")
    if request.seed < 0:
        raise UserError(f"seed is {request.seed}, expected at least 0")
    name = request.name or re.sub(r"[^A-Za-z0-9_-]+", "-", request.out.absolute().name).strip("-")
    for field, value in (("name", name), ("split", request.split)):
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", value):
            raise UserError(f"{field} is {value!r}, expected 1 to 80 of A-Z a-z 0-9 _ -")
    source = _open_source(request)
    selected = np.arange(len(source))
    if request.labels:
        if source.labels is None:
            raise UserError(f"labels are {request.labels}, {request.src} is unlabelled")
        unknown = sorted(set(request.labels) - set(range(len(source.classes))))
        if unknown:
            raise UserError(f"labels {unknown} unknown, {request.src} has {len(source.classes)}")
        selected = selected[np.isin(source.labels, request.labels)]
    if not len(selected):
        raise UserError(f"{request.src}: no images with labels {request.labels}")
    order = np.random.default_rng(request.seed).permutation(selected)
    channels = request.channels or source[int(order[0])].pixels.shape[2]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        split=request.split,
        protocol=request.protocol,
        samples=len(order),
        height_px=request.size_px,
        width_px=request.size_px,
        channels=channels,
        encoding="raw",
        resize="",
        classes=source.classes,
        labels=tuple(sorted(set(request.labels))),
        sources=source.files(),
        shuffle_seed=request.seed,
        names_sha256="",
        shards=(),
    )
    return Plan(source, order, manifest)


def build(request: BuildRequest) -> Manifest:
    """Build the set and return its manifest; `request.out` appears whole or not at all.

    Raises:
        UserError: the output exists, the request does not fit the source, an image cannot be
            decoded, or the system refuses to write.
    """
    refuse_existing(request.out)
    planned = plan(request)
    resize = "pillow-bicubic" if request.source == "folder" else "none"
    names: list[str] = []
    shards: list[Shard] = []
    with (
        publishing(request.out) as folder,
        ThreadPool(request.workers) as pool,
        _progress() as progress,
    ):
        task = progress.add_task(planned.manifest.name, total=len(planned.order))
        for first_id in range(0, len(planned.order), request.shard_samples):
            ids = planned.order[first_id : first_id + request.shard_samples]
            file = shard_file(planned.manifest.name, planned.manifest.split, len(shards))
            writer = ShardWriter(folder, file, first_id)
            try:
                for sample, pixels in _fitted(planned, ids, pool):
                    if sample.pixels.shape[:2] != pixels.shape[:2]:
                        resize = "pillow-bicubic"
                    if sample.name is not None:
                        names.append(sample.name)
                    writer.add(pixels, sample.label)
                    progress.advance(task)
                shards.append(writer.finish())
            finally:
                writer.abandon()
        manifest = dataclasses.replace(
            planned.manifest,
            resize=resize,
            names_sha256=write_names(folder, names) if names else "",
            shards=tuple(shards),
        )
        write_manifest(folder, manifest)
    return manifest


def fit(pixels: np.ndarray, size_px: int, channels: int) -> np.ndarray:
    """An image in the channels and at the size of the set.

    Args:
        pixels: uint8 [H,W,1] or [H,W,3].
        size_px: Height and width of the result.
        channels: 1 (RGB -> gray by ITU-R 601 luma) or 3 (gray is repeated).

    Returns:
        uint8 [size_px,size_px,channels]; Pillow's bicubic resize, unless the size is right already.
    """
    if pixels.shape == (size_px, size_px, channels):
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image = image.convert({1: "L", 3: "RGB"}[channels])
    if image.size != (size_px, size_px):
        image = image.resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size_px, size_px, channels)


def _fitted(
    planned: Plan, indexes: np.ndarray, pool: ThreadPool
) -> Iterator[tuple[Sample, np.ndarray]]:
    """Decoded samples and their stored pixels, in order, a chunk in memory at a time."""
    size_px, _, channels = planned.manifest.sample_shape

    def load(index: int) -> tuple[Sample, np.ndarray]:
        sample = planned.source[index]
        return sample, fit(sample.pixels, size_px, channels)

    for start in range(0, len(indexes), CHUNK_SAMPLES):
        yield from pool.map(load, indexes[start : start + CHUNK_SAMPLES].tolist())


def _open_source(request: BuildRequest) -> Source:
    if request.classes and request.source != "idx":
        raise UserError(f"classes are for idx sources, source is {request.source}")
    if request.class_folders and request.source != "folder":
        raise UserError(f"class_folders is for folder sources, source is {request.source}")
    if request.source == "idx":
        return IdxSource(request.src, request.split, request.classes)
    if request.source == "npy":
        return NpySource(request.src)
    return FolderSource(request.src, request.class_folders, request.channels or 3)


def _progress() -> Progress:
    """A bar on a terminal, nothing elsewhere."""
    return Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Build one set and print one line about it."""
    request = cli.parse(BuildRequest, argv, description="Build a shard set.")
    manifest = build(request)
    height, width, channels = manifest.sample_shape
    mega_bytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    print(
        f"{request.out}: {manifest.samples} samples of {height}x{width}x{channels} "
        f"in {len(manifest.shards)} shards, {mega_bytes:.1f} MB"
    )


if __name__ == "__main__":
    cli.run(main)
