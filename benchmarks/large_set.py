"""A synthetic set as large as ImageNet's train split, built in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SIZE_PX = 32
IMAGENET_TRAIN_SAMPLES = 1_281_167

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
"""A program that builds a set and prints its time and peak memory. It does not use `ru_maxrss`,
which a child process inherits from its parent."""


def write_array(path: Path, count: int) -> None:
    """Write an .npy file of `count` random images in blocks. It may be larger than the memory."""
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (10_000, SIZE_PX, SIZE_PX, 3), np.uint8)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *block.shape[1:])}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, len(block)):
            # The exclusive or makes the blocks differ, at little cost.
            file.write((block[: count - start] ^ np.uint8(start // len(block) % 256)).data)


def measured(code: str, *arguments: Path) -> Any:
    """Run `code` in a separate process, and return what it prints as JSON."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)
