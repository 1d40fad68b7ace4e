"""The loader's time to the first batch and memory growth, with a set of ImageNet's size."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.large_set import (
    BUILD_AND_MEASURE,
    IMAGENET_TRAIN_SAMPLES,
    ROOT,
    measured,
    write_array,
)
from benchmarks.loader_peers import BATCH, CPU
from dali_pipes.batch import ViewSpec
from dali_pipes.loader import TrainLoader
from dali_pipes.step_plan import StreamOrder
from shards.reader import ShardSet

GROWTH_BATCH = 1024
GROWTH_FIRST_STEPS = 200
"""Number of steps before memory is measured for the first time. Memory that is allocated only once
is allocated by then."""
START_REPEATS = 3


def time_to_first_batch(aux: Path, in_dist: Path) -> float:
    """Return the seconds from opening the sets to the first batch of the paper's views."""
    start_s = time.perf_counter()
    order = StreamOrder(BATCH, seed=0)
    sets = ShardSet.open(in_dist), ShardSet.open(aux)
    next(TrainLoader(*sets, ViewSpec(), "rot", order, CPU, dtype=torch.bfloat16))
    return time.perf_counter() - start_s


def growth_mb(aux: Path, in_dist: Path, steps: int) -> float:
    """Return the memory in MB gained over `steps` steps of tiny views, which are quick to make."""
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
    """Call a function of this module in a separate process, and return its result."""
    code = (
        "import sys; from pathlib import Path, PosixPath; from benchmarks import loader_scale; "
        f"print(loader_scale.{function}{arguments!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True
    )
    return float(done.stdout)


def time_scale(folder: Path, in_dist: Path, steps: int) -> dict[str, float]:
    """Build the large set, and measure the loader with it.

    Returns:
        `aux_start_s`: the seconds to the first batch. `aux_growth_MB`: the memory gained over
        `steps` steps. `aux_growth_samples`: the number of auxiliary images in these steps.
    """
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
