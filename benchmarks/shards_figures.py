"""The measurements of `benchmarks.shards`: rates of all peers, and the set of ImageNet's size."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.large_set import (
    BUILD_AND_MEASURE,
    IMAGENET_TRAIN_SAMPLES,
    SIZE_PX,
    measured,
    write_array,
)
from benchmarks.machine import CPUS, machine
from benchmarks.options import ShardsOptions
from benchmarks.rounds import ratio
from benchmarks.shards_peers import decode_only, plain_copy, serial_writer, write_jpegs
from shards.build import build
from shards.building.build_plan import BuildRequest

TARGETS = {
    "ratio_serial_writer": ">= 1.8",
    "fraction_of_decode_limit": ">= 0.93",
    "passthrough_MBps_fraction": ">= 0.5",
    "scale_peak_MB": "<= 500",
    "scale_open_s": "<= 3",
}
"""Figure -> the value that the project aims at."""
OPEN_AND_MEASURE = """
import json, sys, time
from pathlib import Path
from shards.reader import ShardSet
start_s = time.perf_counter()
ShardSet.open(Path(sys.argv[1]))
print(time.perf_counter() - start_s)
"""
"""A program that opens a set and prints how many seconds this takes."""


def time_scale(folder: Path, repeats: int) -> dict[str, float]:
    """Return the times to build and to open the set of ImageNet's size, and the peak memory."""
    array, out = folder / "images.npy", folder / "set"
    write_array(array, IMAGENET_TRAIN_SAMPLES)
    figures = measured(BUILD_AND_MEASURE, array, out)
    array.unlink()
    figures["scale_open_s"] = statistics.median(
        measured(OPEN_AND_MEASURE, out) for _ in range(repeats)
    )
    return {name: round(value, 2) for name, value in figures.items()}


def timed_s(work: Callable[[Path], object], folder: Path) -> float:
    """Return the seconds that `work` takes; it gets a new path in `folder` for its output.

    The output is removed afterwards.
    """
    out = folder / "out"
    start_s = time.perf_counter()
    work(out)
    seconds = time.perf_counter() - start_s
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink(missing_ok=True)
    os.sync()  # so that no peer waits for the writes of another
    return seconds


def print_figures(options: ShardsOptions) -> None:
    """Time all peers, and print a table and one line of JSON."""
    facts = machine()
    # The processes that only decode start before anything is timed.
    pool = multiprocessing.get_context("spawn").Pool(CPUS)
    with pool, tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        jpegs, array = folder / "jpegs", folder / "images.npy"
        jpegs.mkdir()
        mean_kb, mean_px = write_jpegs(jpegs, options.jpegs)
        paths = sorted(jpegs.iterdir())
        rows = options.array_mb * 1_000_000 // (SIZE_PX * SIZE_PX * 3)
        write_array(array, rows)
        mega_bytes = array.stat().st_size / 1e6

        def build_from(source: str, src: Path) -> Callable[[Path], object]:
            return lambda out: build(BuildRequest(source, src, size_px=SIZE_PX, out=out))

        images, mb = f"{options.jpegs} JPEGs, images/s", f"{mega_bytes:.0f} MB array, MB/s"
        peers: dict[tuple[str, str], tuple[float, Callable[[Path], object]]] = {
            (images, "shards.build"): (len(paths), build_from("folder", jpegs)),
            (images, "ShardWriter"): (len(paths), lambda out: serial_writer(paths, out)),
            (images, "decode only"): (
                len(paths),
                lambda out: sum(pool.imap_unordered(decode_only, paths, chunksize=8)),
            ),
            (mb, "shards.build"): (mega_bytes, build_from("npy", array)),
            (mb, "copy"): (mega_bytes, lambda out: plain_copy(array, out)),
            (mb, "copy, 2 digests"): (mega_bytes, lambda out: plain_copy(array, out, digests=2)),
        }
        pool.map(decode_only, paths)
        rates: dict[tuple[str, str], list[float]] = {peer: [] for peer in peers}
        for _ in range(options.repeats):
            for peer, (amount, work) in peers.items():
                rates[peer].append(amount / timed_s(work, folder))
        array.unlink()
        shutil.rmtree(jpegs)
        scale = {} if options.skip_scale else time_scale(folder, options.repeats)

    table = Table("what", "by", "median", "min", "max")
    for (what, by), values in rates.items():
        row = (statistics.median(values), min(values), max(values))
        table.add_row(what, by, *(f"{value:.0f}" for value in row))
    Console().print(table)
    print(
        f"JPEGs: {mean_kb:.0f} kB and {mean_px} px in the mean, crops and zooms of "
        "scikit-learn's two photographs"
    )
    figures: dict[str, object] = {}
    for name, ours, theirs in (
        ("ratio_serial_writer", (images, "shards.build"), (images, "ShardWriter")),
        ("fraction_of_decode_limit", (images, "shards.build"), (images, "decode only")),
        ("passthrough_MBps_fraction", (mb, "shards.build"), (mb, "copy")),
        ("fraction_of_digested_copy", (mb, "shards.build"), (mb, "copy, 2 digests")),
    ):
        figures |= ratio(name, rates[ours], rates[theirs])
    figures |= scale
    for name, target in TARGETS.items():
        if name in figures:
            print(f"{name}: {figures[name]}, aimed at {target}")
    medians = {
        "build_jpeg_img_s": rates[images, "shards.build"],
        "serial_writer_img_s": rates[images, "ShardWriter"],
        "decode_limit_img_s": rates[images, "decode only"],
        "build_array_MB_s": rates[mb, "shards.build"],
        "copy_MB_s": rates[mb, "copy"],
    }
    figures |= {name: round(statistics.median(values), 1) for name, values in medians.items()}
    figures |= {"repeats": options.repeats, "jpegs": options.jpegs, "jpeg_mean_kB": round(mean_kb)}
    print(json.dumps({**figures, "jpeg_mean_px": mean_px, "machine": facts}))
