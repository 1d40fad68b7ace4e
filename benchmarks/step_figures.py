"""The measurements of `benchmarks.step`: speeds, waits, memory and checkpoints."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timm
import torch

from benchmarks.images import image_set
from benchmarks.options import StepOptions
from benchmarks.rounds import chosen_peers, ratio, time_rounds
from benchmarks.step_peers import Peers
from train.objective import AUTOCAST
from train.world import pick_device

ROOT = Path(__file__).parents[1]
SAVE_STEPS = 3
"""Number of steps that are timed before a save, and again while the save is written."""
RATIOS = (
    ("overhead_vs_bare", "ours bf16", "bare bf16"),
    ("overhead_vs_bare_fp32", "ours fp32", "bare fp32"),
    ("overhead_vs_bare_fp16", "ours fp16", "bare fp16"),
    ("ratio_reference_step", "reference fp32", "ours bf16"),
    ("ratio_reference_step_fp32", "reference fp32", "ours fp32"),
    ("ratio_compiled", "ours bf16", "compiled bf16"),
    ("ratio_apex", "ours bf16", "apex bf16"),
)
"""Name of a ratio, and the two peers whose seconds are divided: the first by the second."""


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the rate of a large matrix product in FLOP/s, the best of ten."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best_s = math.inf
    for _ in range(10):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started_s = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best_s = min(best_s, time.perf_counter() - started_s)
    return 2 * side**3 / best_s


def run_trainer(shards: Path, out: Path, options: StepOptions, *words: str) -> str:
    """Run `train/main.py` and return what it prints."""
    command = [sys.executable, str(ROOT / "train" / "main.py"), "icann22-paper-cifar10"]
    command += ["--in-dist", str(shards), "--out", str(out), "--negatives", "rot-in"]
    command += ["--global-batch", str(options.batch), "--device", options.device, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def real_run(shards: Path, out: Path, options: StepOptions) -> dict[str, float]:
    """Run `train/main.py`, and return how long it waits for views according to its reports.

    The first two reports are left out.

    Returns:
        `data_wait_pct` and `data_wait_pct_max`: the median and the largest share of time, in %.
        `data_wait_steps`: the number of reports.
    """
    # A report waits for the device. Other steps on a GPU do not wait, so reports must be rare.
    steps, epochs = (50, 40) if pick_device(options.device).type == "cuda" else (1, 2)
    words = f"--log-steps {steps} --epochs {epochs} --optim.warmup-epochs 1".split()
    run_trainer(shards, out, options, *words)
    reports = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][2:]
    waits = [report["data_wait_pct"] for report in reports]
    return {
        "data_wait_pct": round(statistics.median(waits), 2),
        "data_wait_pct_max": round(max(waits), 2),
        "data_wait_steps": len(waits),
    }


def memory_of(shards: Path, out: Path, options: StepOptions) -> dict[str, float]:
    """Return the peak memory of a rank in GB, as `--dry-run` prints it, for three variants.

    The variants are the whole batch at once, micro-batches of one image, and recomputation.
    """
    variants = {
        "whole": (),
        "micro_batch_1": ("--micro-batch", "1"),
        "recompute": ("--model.recompute",),
    }
    found = {}
    for name, words in variants.items():
        told = run_trainer(shards, out, options, "--dry-run", *words)
        match = re.search(r"([\d.]+) GB at most", told)
        assert match, told
        found[name] = float(match[1])
    return found


def measure(options: StepOptions) -> dict[str, object]:
    """Return all figures by name."""
    results: dict[str, object] = {}
    device = pick_device(options.device)
    with tempfile.TemporaryDirectory() as folder, image_set(8 * options.batch) as shards:
        out = Path(folder)
        peers = Peers(shards, out / "peers", options)
        names = chosen_peers(options.peers, peers.steps)
        for name in names:  # the first step fills tables and caches
            peers.seconds(name)
        seconds = time_rounds(names, peers.seconds, options.rounds)
        for name, over, under in RATIOS:
            if over in seconds and under in seconds:
                results |= ratio(name, seconds[over], seconds[under])
        results["step_s"] = {n: round(statistics.median(s), 4) for n, s in seconds.items()}
        flops = peers.flops("ours bf16")
        for name in peers.states.keys() & seconds.keys():
            # The number for the plain step, because compiled kernels are not counted.
            rate = flops / statistics.median(seconds[name])
            results[f"tflops {name}"] = round(rate / 1e12, 3)
            best = matmul_rate(device, AUTOCAST[name.split()[-1]])
            results[f"fraction_of_matmul {name}"] = round(rate / best, 3)
            if device.type == "cuda":
                results[f"memory_gb {name}"] = round(peers.memory_gb(name), 2)
        results["host_waits_per_step"] = peers.waits("ours bf16")
        results["checkpoint"] = peers.save_cost("ours bf16", SAVE_STEPS)
        if not options.steps_only:
            results |= real_run(shards.directory, out / "run", options)
            results["memory_gb"] = memory_of(shards.directory, out / "dry", options)
    return results


def print_figures(options: StepOptions) -> None:
    """Measure everything, and print one line of JSON."""
    machine = {
        "load_before": round(os.getloadavg()[0], 2),
        "device": torch.cuda.get_device_name(0)
        if pick_device(options.device).type == "cuda"
        else "cpu",
        "cpus": os.cpu_count(),
        "versions": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
        },
    }
    results = measure(options)
    print(json.dumps({**results, "batch": options.batch, "rounds": options.rounds, **machine}))
