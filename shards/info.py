"""Show shard sets in readable form: `python -m shards.info DIR [DIR ...]`.

For one set, its manifest, the number of samples of each class, and the mean and standard deviation
of its pixels are shown; `--sheet FILE.png` draws its first samples. Several sets give a table with
one row each. A damaged set is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image
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
from shards.pixels.resize import to_image
from shards.pixels.sheet import draw_sheet, enlarged
from shards.reader import ShardSet
from shards.terminal import cli
from shards.terminal.console import Terminal
from shards.terminal.progress import ImageProgress

STATISTICS_SAMPLES = 10_000
BLOCK_BYTES = 8 << 20
"""Bytes of pixels that are held at a time."""
MAX_CLASS_ROWS = 40
"""Largest number of classes that are listed; more classes are summarised."""
FIRST = 5
"""Number of names, of rejects and of rarest classes that are shown."""
BAR_CHARACTERS = 30
DIGEST_CHARACTERS = 12
COLUMNS = 10
"""Pictures in a row of a sheet."""
MAX_SHEET_ROWS = 40
UNLABELLED_ROWS = 6
PICTURE_PX, MAX_PICTURE_PX = 96, 256
"""Images are enlarged up to the first size or reduced to the second, by a whole factor."""


@dataclass(frozen=True)
class InfoRequest:
    """The sets to show."""

    directories: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of shard sets."""
    sheet: Path | None = None
    """New PNG for the first samples of the set, by class if it is labelled."""


def class_counts(shards: ShardSet) -> np.ndarray:
    """Count the samples of each class: int64 [classes]; empty if the set is unlabelled."""
    if not shards.manifest.classes:
        return np.zeros(0, np.int64)
    labels = shards.labels(np.arange(len(shards)))
    return np.bincount(labels, minlength=len(shards.manifest.classes))


def pixel_statistics(shards: ShardSet) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and standard deviation of each channel over the first samples.

    Returns:
        Both float64 [C], in levels of 0..255, of up to `STATISTICS_SAMPLES` samples.
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
    # These are counts of levels, so no precision is lost in large sums.
    share = histogram / histogram.sum(axis=1, keepdims=True)
    levels = np.arange(256)
    mean = share @ levels
    return mean, np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))


def contact_sheet(shards: ShardSet) -> Image.Image:
    """Draw the first samples; a labelled set has a row for each of its first non-empty classes.

    Small images are enlarged by nearest neighbour, so that each pixel can be seen.
    """
    classes = shards.manifest.classes
    if not classes:
        ids = np.arange(min(len(shards), COLUMNS * UNLABELLED_ROWS))
        titles, rows = [], np.split(ids, ids[COLUMNS::COLUMNS])
    else:
        labels = shards.labels(np.arange(len(shards)))
        shown = np.flatnonzero(class_counts(shards))[:MAX_SHEET_ROWS].tolist()
        titles = [printable(classes[label]) for label in shown]
        rows = [np.flatnonzero(labels == label)[:COLUMNS] for label in shown]
    pictures = [[_picture(pixels) for pixels in shards.read(row)] for row in rows]
    return draw_sheet(pictures, row_titles=titles)


def _picture(pixels: np.ndarray) -> Image.Image:
    """Convert an image, uint8 [H,W,C], to a picture of a good size for a sheet."""
    image = to_image(pixels)
    longer = max(image.size)
    if longer > MAX_PICTURE_PX:
        return image.reduce(-(-longer // MAX_PICTURE_PX))
    return enlarged(image, max(1, PICTURE_PX // longer))


def describe(shards: ShardSet) -> RenderableType:
    """Describe one set in full."""
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
    """Describe several sets in a table of one row each, for a terminal of 80 characters."""
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
    """Return text without markup, because rich would interpret brackets in a user's names."""
    return Text(text, overflow="fold")


def _size(manifest: Manifest) -> str:
    colours = {1: "gray", 3: "RGB"}[manifest.channels]
    return f"{manifest.height_px} x {manifest.width_px} {colours}"


def _mega_bytes(manifest: Manifest) -> float:
    return sum(shard.bytes for shard in manifest.shards) / 1e6


def _understood(manifest: Manifest) -> list[str]:
    """Describe the rules for facts that image files do not state themselves."""
    lines = []
    if manifest.background:
        lines.append(f"laid on {manifest.background} where they are transparent")
    if manifest.intensity is not None:
        low, high = manifest.intensity
        lines.append(f"of more than 8 bits: {low:g} is black, {high:g} is white")
    return lines or ["no rule"]


def _source_sizes(shards: ShardSet) -> list[str]:
    """Describe the range of the image sizes before resizing."""
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
    """Show the number of samples of each class as bars, or a summary if there are many classes."""
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
    """Verify the sets (the fast check) and show them."""
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
