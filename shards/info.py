"""Show shard sets in readable form: `python -m shards.info DIR [DIR ...]`.

For one set, the command shows the manifest, the number of samples of each class, and the mean and
standard deviation of the pixels. `--sheet FILE.png` draws the first samples of the set. For several
sets, the command shows a table with one row per set. A damaged set is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich import box
from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shards.disk.publish import refuse_existing, write_new_file
from shards.errors import UserError, printable
from shards.format.json_lines import read_json_lines
from shards.manifest import REJECTS_FILE_NAME, Manifest
from shards.pixels.decode import encode
from shards.reader import ShardSet
from shards.set_sheet import contact_sheet
from shards.terminal import cli
from shards.terminal.console import Terminal
from shards.terminal.progress import ImageProgress

STATISTICS_SAMPLES = 10_000
"""The largest number of samples from which the mean and standard deviation are computed."""
BLOCK_BYTES = 8 << 20
"""The number of bytes of pixels that are in memory at a time."""
MAX_CLASS_ROWS = 40
"""The largest number of classes that are listed one by one. More classes are summarised."""
FIRST = 5
"""The number of entries that are shown of each long list: names, rejects, rarest classes."""
BAR_CHARACTERS = 30
DIGEST_CHARACTERS = 12


@dataclass(frozen=True)
class InfoRequest:
    """The sets to show."""

    directories: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of shard sets."""
    sheet: Path | None = None
    """PNG file to write, with the first samples of the set; a labelled set has one row per class.
    The file must not exist yet."""


def class_counts(shards: ShardSet) -> np.ndarray:
    """Return the number of samples of each class, int64 [classes]; empty if there are no labels."""
    if not shards.manifest.classes:
        return np.zeros(0, np.int64)
    labels = shards.labels(np.arange(len(shards)))
    return np.bincount(labels, minlength=len(shards.manifest.classes))


def pixel_statistics(shards: ShardSet) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and standard deviation of the pixels of each channel.

    Only the first `STATISTICS_SAMPLES` samples are read.

    Returns:
        The means, float64 [C], and the standard deviations, float64 [C], in levels of 0..255.
    """
    count = min(len(shards), STATISTICS_SAMPLES)
    channels = shards.manifest.channels
    block = max(1, BLOCK_BYTES // int(np.prod(shards.manifest.sample_shape)))
    histogram = np.zeros((channels, 256), np.int64)
    with ImageProgress(f"reading {shards.directory.name}", count) as progress:
        for first in range(0, count, block):
            pixels = shards.read(np.arange(first, min(first + block, count)))
            for channel in range(channels):
                levels = pixels[..., channel].reshape(-1)
                histogram[channel] += np.bincount(levels, minlength=256)
            progress.advance(len(pixels))
    # The histogram holds whole numbers, so no precision is lost in large sums.
    share = histogram / histogram.sum(axis=1, keepdims=True)
    levels = np.arange(256)
    mean = share @ levels
    return mean, np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))


def describe(shards: ShardSet) -> RenderableType:
    """Return all that is shown about one set, as a table that rich can print."""
    manifest = shards.manifest
    facts = {
        "set": [f"{manifest.name}, split {manifest.split}"],
        "folder": [str(shards.directory)],
        "protocol": [manifest.protocol or "none"],
        "samples": [f"{manifest.samples:,}"],
        "images": [f"{_size(manifest)} px, {manifest.encoding}"],
        "resize": [manifest.resize],
        "files": _understood(manifest),
        "original sizes": _source_sizes(shards),
        "source": _sources(manifest),
        "held to": [", ".join(f"published {check}" for check in manifest.checks) or "nothing"],
        "left out": _left_out(shards),
        "shuffle": [f"seed {manifest.shuffle_seed}"],
        "shards": [
            f"{len(manifest.shards)} of up to {manifest.shard_samples:,} samples, "
            f"{_mega_bytes(manifest):,.1f} MB"
        ],
        "pixels": _pixels(shards),
        "first names": shards.names()[:FIRST],
        "digest": [manifest.sha256[:DIGEST_CHARACTERS]],
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for title, lines in facts.items():
        table.add_row(title, _text("\n".join(printable(line) for line in lines)))
    return Group(table, _classes(shards)) if manifest.classes else table


def compact(sets: Sequence[ShardSet]) -> Table:
    """Return a table with one row per set; it fits a terminal that is 80 characters wide."""
    table = Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)
    table.add_column("set", overflow="fold")
    table.add_column("samples", justify="right", no_wrap=True)
    table.add_column("images", no_wrap=True)
    for column in ("classes", "MB", "left out"):
        table.add_column(column, justify="right", no_wrap=True)
    for shards in sets:
        manifest = shards.manifest
        shape = "x".join(map(str, manifest.sample_shape))
        belongs = ", ".join(filter(None, (manifest.split, manifest.protocol)))
        cells = (
            f"{printable(str(shards.directory))}\n{printable(belongs)}",
            f"{manifest.samples:,}",
            f"{shape} {manifest.encoding}\nresize {manifest.resize}",
            f"{len(manifest.classes):,}",
            f"{_mega_bytes(manifest):,.1f}",
            f"{manifest.rejects + manifest.excluded + sum(manifest.passed_over.values()):,}",
        )
        table.add_row(*map(_text, cells))
    return table


def _text(text: str) -> Text:
    """Return text that rich prints as it is: brackets in a user's names are not read as markup."""
    return Text(text, overflow="fold")


def _size(manifest: Manifest) -> str:
    colours = {1: "gray", 3: "RGB"}[manifest.channels]
    return f"{manifest.height_px} x {manifest.width_px} {colours}"


def _mega_bytes(manifest: Manifest) -> float:
    return sum(shard.bytes for shard in manifest.shards) / 1e6


def _understood(manifest: Manifest) -> list[str]:
    """Describe the rules of the build for transparent pixels and for more than 8 bits per value."""
    lines = []
    if manifest.background:
        lines.append(f"laid on {manifest.background} where they are transparent")
    if manifest.intensity is not None:
        low, high = manifest.intensity
        lines.append(f"of more than 8 bits: {low:g} is black, {high:g} is white")
    return lines or ["no rule"]


def _source_sizes(shards: ShardSet) -> list[str]:
    """Describe the smallest and largest size that the images had before they were resized."""
    sizes = shards.source_sizes(np.arange(len(shards)))
    if sizes is None:
        return ["not known (the set was built before they were kept)"]
    (height, width), (top_height, top_width) = sizes.min(axis=0), sizes.max(axis=0)
    if (height, width) == (top_height, top_width):
        return [f"all {height} x {width} px"]
    return [f"{height} to {top_height} px high, {width} to {top_width} px wide"]


def _sources(manifest: Manifest) -> list[str]:
    labels = ", ".join(map(str, manifest.labels))
    return [
        f"format {manifest.source}" + (f", labels {labels} only" if labels else ""),
        *(
            f"{file.file}: {file.bytes:,} bytes, sha256 {file.sha256[:DIGEST_CHARACTERS]}"
            for file in manifest.sources
        ),
    ]


def _left_out(shards: ShardSet) -> list[str]:
    manifest = shards.manifest
    lines = []
    if manifest.excluded:
        sha256 = manifest.exclude_sha256[:DIGEST_CHARACTERS]
        lines.append(f"{manifest.excluded:,} on an exclusion list (sha256 {sha256})")
    if manifest.rejects:
        lines.append(f"{manifest.rejects:,} that could not be decoded ({REJECTS_FILE_NAME}):")
        rejects = read_json_lines(shards.directory / REJECTS_FILE_NAME, dict, FIRST)
        lines += [f"  {reject.get('name')}: {reject.get('reason')}" for reject in rejects]
    if manifest.passed_over:
        lines.append(f"{sum(manifest.passed_over.values()):,} entries that were passed over:")
        lines += [f"  {reason}: {count:,}" for reason, count in manifest.passed_over.items()]
    return lines or ["nothing"]


def _pixels(shards: ShardSet) -> list[str]:
    mean, deviation = pixel_statistics(shards)
    count = min(len(shards), STATISTICS_SAMPLES)
    return [
        f"mean {', '.join(f'{level:.1f}' for level in mean)} of 0..255 (first {count:,} samples)",
        f"standard deviation {', '.join(f'{level:.1f}' for level in deviation)}",
    ]


def _classes(shards: ShardSet) -> RenderableType:
    """Return a table with the number of samples of each class and a bar for this number.

    If there are more than `MAX_CLASS_ROWS` classes, the table has only the rarest classes.
    """
    manifest = shards.manifest
    labels = np.array(manifest.labels or range(len(manifest.classes)))
    counts = class_counts(shards)[labels]
    rows = np.arange(len(labels))
    title = "classes"
    if len(labels) > MAX_CLASS_ROWS:
        rows = np.argsort(counts, kind="stable")[:FIRST]
        title = (
            f"{len(labels):,} classes of {counts.min():,} to {counts.max():,} samples, "
            f"median {np.median(counts):,.0f}; the rarest:"
        )
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("label", justify="right")
    table.add_column("class")
    table.add_column("samples", justify="right")
    table.add_column("")
    for label, count in zip(labels[rows].tolist(), counts[rows].tolist(), strict=True):
        bar = Bar(size=max(1, int(counts.max())), begin=0, end=count, width=BAR_CHARACTERS)
        table.add_row(str(label), _text(printable(manifest.classes[label])), f"{count:,}", bar)
    return table


def _check_sheet(request: InfoRequest) -> None:
    if request.sheet is None:
        return
    if len(request.directories) != 1:
        raise UserError(f"sheet shows one set, {len(request.directories)} were named")
    if request.sheet.suffix.lower() != ".png":
        raise UserError(f"sheet is {request.sheet}, expected the name of a .png")
    refuse_existing(request.sheet)


def main(argv: Sequence[str] | None = None) -> None:
    """Check the sets without reading all tars, and show them."""
    request = cli.parse(InfoRequest, argv, description="Show shard sets.")
    if not request.directories:
        raise UserError("no folder of a shard set was named")
    _check_sheet(request)
    with contextlib.ExitStack() as stack:
        sets = [stack.enter_context(ShardSet.open(path)) for path in request.directories]
        Terminal().print(describe(sets[0]) if len(sets) == 1 else compact(sets))
        if request.sheet is not None:
            write_new_file(request.sheet, [encode(contact_sheet(sets[0]), "png")])
            print(f"{request.sheet}: the first samples")


if __name__ == "__main__":
    cli.run(main)
