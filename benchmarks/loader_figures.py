"""The measurements of `benchmarks.loader`: rates of all peers, stages and ratios."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

import nvidia.dali
import torch
import torchvision  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table

from benchmarks.loader_peers import (
    CPUS,
    Peer,
    jpeg_set,
    our_peer,
    pieces,
    raw_set,
    torchvision_peer,
)
from benchmarks.loader_scale import time_scale
from benchmarks.loader_stages import (
    product_stage_us,
    reader_peers,
    resize_limit,
    stage_peers,
    stage_us,
)
from benchmarks.machine import machine
from benchmarks.options import LoaderOptions
from benchmarks.rounds import ratio
from dali_pipes.batch import ViewSpec
from shards.reader import ShardSet

RAW, JPEG, COMBINED = "32 px raw", "256 px JPEG", "32 px combined"
DALI_PEERS = ("dali bfloat16", "dali float32")
RAW_IMAGES, JPEG_IMAGES = 4096, 512
RAW_WINDOW_PX = 200
"""Side of the piece of a photograph that becomes a small image, in pixels."""
TARGETS = {
    "ratio_torchvision_32px": ">= 20",
    "ratio_torchvision_32px_dali": ">= 6",
    "ratio_torchvision_256px_jpeg": ">= 2.5",
    "ratio_torchvision_combined": ">= 20",
    "aux_start_s": "<= 3",
    "aux_growth_MB": "none",
}
"""Figure -> the value that the project aims at."""
Name = tuple[str, str]
"""The name of a peer in two parts: the images that it reads, and what makes views of them."""


def start_peers(folder: Path) -> tuple[dict[Name, Peer], ShardSet]:
    """Return all peers by name, and the set of raw images."""
    spec = ViewSpec()
    pixels, aux_pixels = (pieces(RAW_IMAGES, RAW_WINDOW_PX, 32, seed) for seed in (0, 1))
    raw, aux = raw_set(folder, "raw", pixels), raw_set(folder, "aux", aux_pixels)
    jpeg, files = jpeg_set(folder, "jpeg", pieces(JPEG_IMAGES, 256, 256, seed=2))
    # The peers that fork come first, before this process has threads of DALI or OpenMP.
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


def best_dali(rates: dict[Name, list[float]]) -> str:
    """Return the faster of `DALI_PEERS` for raw images, by the median of its rates."""
    return max(DALI_PEERS, key=lambda by: statistics.median(rates[RAW, by]))


def ratios_of(rates: dict[Name, list[float]]) -> dict[str, object]:
    """Return the median, the smallest and the largest of each ratio of two peers' rates.

    `rates` are the images per second of each peer, one number for each round.
    """
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


def print_figures(options: LoaderOptions) -> None:
    """Time all peers, and print tables and one line of JSON."""
    facts = machine()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        peers, raw = start_peers(folder)
        rates: dict[Name, list[float]] = {name: [] for name in peers}
        for _ in range(options.repeats):
            for name, peer in peers.items():
                rates[name].append(peer.images_per_s(options.seconds))
        peers.clear()
        product_us = product_stage_us(raw, ViewSpec(), torch.bfloat16, options.repeats)
        scale = {} if options.skip_scale else time_scale(folder, raw.directory, options.steps)

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
        "repeats": options.repeats,
    }
    print(json.dumps(figures))
