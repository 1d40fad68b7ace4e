"""Images a second of the training loader, against torchvision's transforms in a DataLoader.

`python -m benchmarks.loader`: in each round every peer has its turn, several times over; all make
normalised tensors on all cores, 2 global views of 256 px and 8 local ones of 128 px as in the paper
(torchvision's blur has a window of 9). The images are cut from scikit-learn's two photographs:

- 32 px, raw: the engine that is picked by itself (`product`) and `dali`, in bfloat16 and float32;
  torchvision has the pixels in memory.
- 256 px, JPEG: the engine `dali` from shards; torchvision has the files in memory, Pillow decodes.
- 32 px with the negatives of `combined`: 28 views of an image and an auxiliary one.
- What parts of DALI's work take alone: reading, a resize of the same crops, and graphs that end
  after each stage (`benchmarks/loader_stages.py`).
- An auxiliary set as large as ImageNet's train split (1,281,167 raw 32 px images): the time to the
  first batch, and the memory that a process gains over a pass and more of it.

The JSON line has the medians of the ratios, and of each its smallest and largest. A ratio is of
turns of one round.
"""

# ruff: noqa: E402  OpenMP reads its setting once, when torch is imported.

from __future__ import annotations

import os

# As in train/main.py: OpenMP threads that spin while they wait take the cores from the others.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nvidia.dali
import torch
import torchvision  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table

from benchmarks.loader_peers import (
    BATCH,
    CPU,
    CPUS,
    Peer,
    jpeg_set,
    our_peer,
    pieces,
    raw_set,
    torchvision_peer,
)
from benchmarks.loader_stages import (
    product_stage_us,
    reader_peers,
    resize_limit,
    stage_peers,
    stage_us,
)
from benchmarks.rounds import ratio
from benchmarks.shards import (
    BUILD_AND_MEASURE,
    IMAGENET_TRAIN_SAMPLES,
    ROOT,
    machine,
    measured,
    write_array,
)
from dali_pipes.batch import ViewSpec
from dali_pipes.loader import TrainLoader
from dali_pipes.step_plan import StreamOrder
from shards.reader import ShardSet
from shards.terminal import cli

RAW, JPEG, COMBINED = "32 px raw", "256 px JPEG", "32 px combined"
DALI_PEERS = ("dali bfloat16", "dali float32")
RAW_IMAGES, JPEG_IMAGES = 4096, 512
RAW_WINDOW_PX = 200
"""What a small image is a picture of, in pixels of the photograph."""
GROWTH_BATCH = 1024
GROWTH_FIRST_STEPS = 200
"""Steps before memory is looked at: what is made once is made then."""
START_REPEATS = 3
TARGETS = {
    "ratio_torchvision_32px": ">= 20",
    "ratio_torchvision_32px_dali": ">= 6",
    "ratio_torchvision_256px_jpeg": ">= 2.5",
    "ratio_torchvision_combined": ">= 20",
    "aux_start_s": "<= 3",
    "aux_growth_MB": "none",
}
Name = tuple[str, str]
"""Images, and what is made of them by whom."""


@dataclass(frozen=True)
class BenchConfig:
    """What to time."""

    repeats: int = 5
    """Rounds; each times every peer once."""
    seconds: float = 2.0
    """Shortest turn of a peer."""
    steps: int = 2000
    """Steps over which memory is looked at; 1252 are a pass over the auxiliary set."""
    skip_scale: bool = False
    """Leave the set of ImageNet's size out: it takes 8 GB of disk."""
    folder: Path | None = None
    """Where temporary files go; by default the system's place for them."""


def start_peers(folder: Path) -> tuple[dict[Name, Peer], ShardSet]:
    """All peers by name, and the set of raw images."""
    spec = ViewSpec()
    pixels, aux_pixels = (pieces(RAW_IMAGES, RAW_WINDOW_PX, 32, seed) for seed in (0, 1))
    raw, aux = raw_set(folder, "raw", pixels), raw_set(folder, "aux", aux_pixels)
    jpeg, files = jpeg_set(folder, "jpeg", pieces(JPEG_IMAGES, 256, 256, seed=2))
    # First those that fork, while this process has no threads of DALI's or OpenMP's.
    peers = {
        (RAW, "torchvision"): torchvision_peer(pixels, spec),
        (JPEG, "torchvision"): torchvision_peer(files, spec),
        (COMBINED, "torchvision"): torchvision_peer(pixels, spec, aux_pixels),
    }
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        peers[RAW, f"auto {name}"] = our_peer(raw, spec, "auto", dtype)
        peers[RAW, f"dali {name}"] = our_peer(raw, spec, "dali", dtype)
        peers[JPEG, f"auto {name}"] = our_peer(jpeg, spec, "auto", dtype)
    peers[COMBINED, "auto bfloat16"] = our_peer(raw, spec, "auto", torch.bfloat16, aux)
    for images, shards in ((RAW, raw), (JPEG, jpeg)):
        peers[images, "only resize"] = resize_limit(shards, spec)
        for stage, peer in stage_peers(shards, spec).items():
            peers[images, f"until {stage}"] = peer
    for (reader, kind), peer in reader_peers(raw, jpeg).items():
        peers[kind, f"read by {reader}"] = peer
    return peers, raw


# --- the auxiliary set of ImageNet's size ---


def time_to_first_batch(aux: Path, in_dist: Path) -> float:
    """Seconds from opening the sets to the first batch of the paper's views."""
    start_s = time.perf_counter()
    order = StreamOrder(BATCH, seed=0)
    sets = ShardSet.open(in_dist), ShardSet.open(aux)
    next(TrainLoader(*sets, ViewSpec(), "rot", order, CPU, dtype=torch.bfloat16))
    return time.perf_counter() - start_s


def growth_mb(aux: Path, in_dist: Path, steps: int) -> float:
    """Memory gained over `steps` steps of tiny views, which are quick to make."""
    spec = ViewSpec(global_px=16, local_views=0, global_scale=(0.02, 0.04))
    order = StreamOrder(GROWTH_BATCH, seed=0)
    loader = TrainLoader(ShardSet.open(in_dist), ShardSet.open(aux), spec, "rot", order, CPU)
    resident_mb = []
    for count in (GROWTH_FIRST_STEPS, steps):
        for _ in range(count):
            next(loader)
        status = Path("/proc/self/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+)", status)
        assert match
        resident_mb.append(int(match[1]) * 1024 / 1e6)
    return resident_mb[1] - resident_mb[0]


def measured_here(function: str, *arguments: object) -> float:
    """What a function of this module gives in a process of its own."""
    code = (
        "import sys; from pathlib import Path, PosixPath; from benchmarks import loader; "
        f"print(loader.{function}{arguments!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True
    )
    return float(done.stdout)


def time_scale(folder: Path, in_dist: Path, steps: int) -> dict[str, float]:
    """Build the large set and train on it, as far as the loader is concerned."""
    array, aux = folder / "large.npy", folder / "large"
    write_array(array, IMAGENET_TRAIN_SAMPLES)
    measured(BUILD_AND_MEASURE, array, aux)
    array.unlink()
    starts_s = [measured_here("time_to_first_batch", aux, in_dist) for _ in range(START_REPEATS)]
    return {
        "aux_start_s": round(statistics.median(starts_s), 2),
        "aux_growth_MB": round(measured_here("growth_mb", aux, in_dist, steps), 1),
        "aux_growth_samples": steps * GROWTH_BATCH,
    }


# --- all ---


def best_dali(rates: dict[Name, list[float]]) -> str:
    """The faster of the engine `dali`'s dtypes, of raw images."""
    return max(DALI_PEERS, key=lambda by: statistics.median(rates[RAW, by]))


def ratios_of(rates: dict[Name, list[float]]) -> dict[str, object]:
    """The median, smallest and largest of each ratio."""
    theirs = "torchvision"
    figures: dict[str, object] = {}
    for name, images, ours, other in (
        ("ratio_torchvision_32px", RAW, "auto bfloat16", theirs),
        ("ratio_torchvision_32px_float32", RAW, "auto float32", theirs),
        ("ratio_torchvision_32px_dali", RAW, best_dali(rates), theirs),
        ("ratio_torchvision_32px_dali_float32", RAW, "dali float32", theirs),
        ("ratio_torchvision_256px_jpeg", JPEG, "auto bfloat16", theirs),
        ("ratio_torchvision_256px_jpeg_float32", JPEG, "auto float32", theirs),
        ("ratio_torchvision_combined", COMBINED, "auto bfloat16", theirs),
        ("resize_limit_fraction", RAW, best_dali(rates), "only resize"),
        ("resize_limit_fraction_256px_jpeg", JPEG, "auto bfloat16", "only resize"),
    ):
        figures |= ratio(name, rates[images, ours], rates[images, other])
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Time the peers in turn and print what came out."""
    config = cli.parse(BenchConfig, argv, description=__doc__)
    facts = machine()
    with tempfile.TemporaryDirectory(dir=config.folder) as temporary:
        folder = Path(temporary)
        peers, raw = start_peers(folder)
        rates: dict[Name, list[float]] = {name: [] for name in peers}
        for _ in range(config.repeats):
            for name, peer in peers.items():
                rates[name].append(peer.images_per_s(config.seconds))
        peers.clear()
        product_us = product_stage_us(raw, ViewSpec(), torch.bfloat16, config.repeats)
        scale = {} if config.skip_scale else time_scale(folder, raw.directory, config.steps)

    table = Table("images", "by", "images/s, median", "min", "max")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        row = (statistics.median(values), min(values), max(values))
        table.add_row(*name, *(f"{value:.0f}" for value in row))
    Console().print(table)

    stages: dict[str, dict[str, float]] = {}
    for key, images, whole in (
        ("dali_32px_raw", RAW, best_dali(rates)),
        ("dali_256px_jpeg", JPEG, "auto bfloat16"),
    ):
        until = {
            by.removeprefix("until "): rate
            for (of, by), rate in medians.items()
            if of == images and by.startswith("until ")
        }
        stages[key] = stage_us(until, medians[images, whole])
    stages["product_32px_raw"] = product_us
    table = Table("stages", "microseconds an image")
    for key, of_stage in stages.items():
        table.add_row(key, ", ".join(f"{stage} {us:.0f}" for stage, us in of_stage.items()))
    Console().print(table)

    figures: dict[str, object] = {**ratios_of(rates), **scale}
    for figure, target in TARGETS.items():
        if figure in figures:
            print(f"{figure}: {figures[figure]}, aimed at {target}")
    figures["dtype"] = {
        "auto": "bfloat16, or as a name says",
        "dali at 32 px": best_dali(rates).removeprefix("dali "),
        "torchvision": "float32",
    }
    figures["stage_us"] = stages
    for reader in ("dali", "ours"):
        figures[f"reader_{reader}_img_s"] = {
            kind: round(medians[kind, f"read by {reader}"]) for kind in ("32px_raw", "256px_jpeg")
        }
    figures["reader_resident_img_s"] = round(medians["32px_raw", "read by resident"])
    figures["img_s"] = {
        f"{images} {by}": round(rate, 1)
        for (images, by), rate in medians.items()
        if not by.startswith(("until ", "read by "))
    }
    versions = {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "dali": nvidia.dali.__version__,
        **{name: facts[name] for name in ("python", "pillow", "numpy")},
    }
    figures |= {
        "cpus": CPUS,
        "cpu_model": facts["cpu"],
        "versions": versions,
        "load_before": facts["load_before"],
        "repeats": config.repeats,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    cli.run(main)
