"""How fast and how large a build of shards is, against the plain ways to do the same work.

`python -m benchmarks.shards`: in each round every peer has its turn, several times over.

- JPEG files of ImageNet-like sizes to raw 32 px: `shards.build` on all cores; one process that
  decodes and resizes by Pillow and writes by webdataset's ShardWriter; and as the limit one process
  a core that decodes and resizes only, its start not counted.
- An array of 32 px images to shards: `shards.build`; a plain copy of the array, synced; and a copy
  with the sha256 of what is read and of what is written, which a build computes too.
- A synthetic set as large as ImageNet's train split (1,281,167 raw 32 px images), built once in a
  process of its own and opened in fresh ones.

A build is timed whole: plan, digests, syncs and the rename too. All sources are in the page cache.
The JSON line has the medians of the ratios, and of each its smallest and largest.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import webdataset
from PIL import Image, features
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images

from benchmarks.rounds import ratio
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.terminal import cli
from shards.terminal.environment import usable_cpus

ROOT = Path(__file__).resolve().parent.parent
CPUS = usable_cpus()
SIZE_PX = 32
IMAGENET_TRAIN_SAMPLES = 1_281_167
COPY_BLOCK_BYTES = 1 << 20
TARGETS = {
    "ratio_serial_writer": ">= 1.8",
    "fraction_of_decode_limit": ">= 0.93",
    "passthrough_MBps_fraction": ">= 0.5",
    "scale_peak_MB": "<= 500",
    "scale_open_s": "<= 3",
}


@dataclass(frozen=True)
class BenchConfig:
    """What to time."""

    repeats: int = 7
    """Rounds; each times every peer once."""
    jpegs: int = 1600
    """JPEG files."""
    array_mb: int = 600
    """Size of the array that is passed through, MB."""
    skip_scale: bool = False
    """Leave the set of ImageNet's size out: it takes 10 GB of disk."""
    folder: Path | None = None
    """Where temporary files go; by default the system's place for them."""


# --- JPEG files ---


def write_jpegs(folder: Path, count: int) -> tuple[float, str]:
    """Write files that differ in crop, zoom, turn and size; returns mean kB and mean dimensions.

    Widths, heights and bytes are about those of ImageNet: mostly 500 x 375, a third of other
    sizes, upright and large ones among them.
    """
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    sizes = [(500, 375)] * 6 + [(375, 500), (500, 333), (400, 300), (640, 480)]
    shapes = []
    for i in range(count):
        width, height = sizes[rng.integers(len(sizes))]
        photograph = photographs[i % 2]
        zoom = rng.uniform(1.0, 2.0)
        scale = min(photograph.width / width, photograph.height / height) / zoom
        crop_width, crop_height = width * scale, height * scale
        left = rng.uniform(0, photograph.width - crop_width)
        top = rng.uniform(0, photograph.height - crop_height)
        box = (left, top, left + crop_width, top + crop_height)
        image = photograph.resize((width, height), Image.Resampling.BICUBIC, box)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image.save(folder / f"{i:05d}.jpg", quality=int(rng.integers(95, 99)))
        shapes.append((width, height))
    mean_kb = sum(path.stat().st_size for path in folder.iterdir()) / count / 1e3
    return mean_kb, " x ".join(f"{mean:.0f}" for mean in np.mean(shapes, axis=0))


def small_image(path: Path) -> np.ndarray:
    """An image decoded and resized by Pillow, as a plain script does it."""
    with Image.open(path) as image:
        small = image.convert("RGB").resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)
    return np.asarray(small)


def decode_only(path: Path) -> int:
    """What a process of the limit does with a file."""
    return small_image(path).size


def serial_writer(paths: Sequence[Path], out: Path) -> None:
    """One process: decode, resize, webdataset's ShardWriter."""
    out.mkdir()
    with webdataset.ShardWriter(f"{out}/set-%05d.tar", maxcount=10_000, verbose=0) as writer:
        for i, path in enumerate(paths):
            writer.write({"__key__": f"{i:09d}", "bin": small_image(path).tobytes()})


# --- an array ---


def write_array(path: Path, count: int) -> None:
    """An .npy of random images, written in blocks: it may be larger than the memory."""
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (10_000, SIZE_PX, SIZE_PX, 3), np.uint8)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *block.shape[1:])}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, len(block)):
            # Each block differs from the others at little cost.
            file.write((block[: count - start] ^ np.uint8(start // len(block) % 256)).data)


def plain_copy(source: Path, copy: Path, digests: int = 0) -> None:
    """Read, write, sync; computing so many sha256 of it all."""
    sums = [hashlib.sha256() for _ in range(digests)]
    with open(source, "rb", buffering=0) as read, open(copy, "xb", buffering=0) as written:
        while block := read.read(COPY_BLOCK_BYTES):
            for one in sums:
                one.update(block)
            written.write(block)
        os.fsync(written.fileno())


# --- the set of ImageNet's size ---

BUILD_AND_MEASURE = """
import json, re, sys, time
from pathlib import Path
from shards.build import build
from shards.building.build_plan import BuildRequest
start_s = time.perf_counter()
build(BuildRequest("npy", Path(sys.argv[1]), size_px=32, out=Path(sys.argv[2])))
build_s = time.perf_counter() - start_s
kib = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps({"scale_build_s": build_s, "scale_peak_MB": kib * 1024 / 1e6}))
"""
"""The peak is not `ru_maxrss`: that of a child starts at its parent's."""
OPEN_AND_MEASURE = """
import json, sys, time
from pathlib import Path
from shards.reader import ShardSet
start_s = time.perf_counter()
ShardSet.open(Path(sys.argv[1]))
print(time.perf_counter() - start_s)
"""


def measured(code: str, *arguments: Path) -> Any:
    """What `code`, run in a process of its own, prints as JSON."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def time_scale(folder: Path, repeats: int) -> dict[str, float]:
    """Build and open the set of ImageNet's size."""
    array, out = folder / "images.npy", folder / "set"
    write_array(array, IMAGENET_TRAIN_SAMPLES)
    figures = measured(BUILD_AND_MEASURE, array, out)
    array.unlink()
    figures["scale_open_s"] = statistics.median(
        measured(OPEN_AND_MEASURE, out) for _ in range(repeats)
    )
    return {name: round(value, 2) for name, value in figures.items()}


# --- all ---


def timed_s(work: Callable[[Path], object], folder: Path) -> float:
    """How long `work` takes with a new output path in `folder`; what it wrote is removed."""
    out = folder / "out"
    start_s = time.perf_counter()
    work(out)
    seconds = time.perf_counter() - start_s
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink(missing_ok=True)
    os.sync()  # so that no peer waits for what another one wrote
    return seconds


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((li.split(": ")[1] for li in info.splitlines() if "model name" in li), "")
    return {
        "cpu": model or platform.processor(),
        "cpus": CPUS,
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "pillow": PIL.__version__,
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "numpy": np.__version__,
        "webdataset": webdataset.__version__,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Time the peers in turn and print what came out."""
    config = cli.parse(BenchConfig, argv, description=__doc__)
    facts = machine()
    # The limit's processes: made before anything else, so that their start is not timed.
    pool = multiprocessing.get_context("spawn").Pool(CPUS)
    with pool, tempfile.TemporaryDirectory(dir=config.folder) as temporary:
        folder = Path(temporary)
        jpegs, array = folder / "jpegs", folder / "images.npy"
        jpegs.mkdir()
        mean_kb, mean_px = write_jpegs(jpegs, config.jpegs)
        paths = sorted(jpegs.iterdir())
        rows = config.array_mb * 1_000_000 // (SIZE_PX * SIZE_PX * 3)
        write_array(array, rows)
        mega_bytes = array.stat().st_size / 1e6

        def build_from(source: str, src: Path) -> Callable[[Path], object]:
            return lambda out: build(BuildRequest(source, src, size_px=SIZE_PX, out=out))

        images, mb = f"{config.jpegs} JPEGs, images/s", f"{mega_bytes:.0f} MB array, MB/s"
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
        for _ in range(config.repeats):
            for peer, (amount, work) in peers.items():
                rates[peer].append(amount / timed_s(work, folder))
        array.unlink()
        shutil.rmtree(jpegs)
        scale = {} if config.skip_scale else time_scale(folder, config.repeats)

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
    figures |= {"repeats": config.repeats, "jpegs": config.jpegs, "jpeg_mean_kB": round(mean_kb)}
    print(json.dumps({**figures, "jpeg_mean_px": mean_px, "machine": facts}))


if __name__ == "__main__":
    cli.run(main)
