"""Runs the trainer's command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]

TINY = (
    "--global-batch 12 --epochs 2 --loader.threads 1 --log-steps 1 --checkpoint-epochs 1 "
    "--keep-checkpoints 9 --optim.warmup-epochs 0.5 --loss.negative-weight 0.3 "
    "--views.local-views 2 --model.width 24 --model.depth 2 --head.hidden 32 "
    "--head.bottleneck 16 --head.prototypes 32 --device cpu"
).split()
"""Options that make `demo-cpu` a matter of seconds on 120 images: 10 steps an epoch."""


def run_script(
    *command: str | Path, ranks: int = 0, cwd: Path = ROOT
) -> subprocess.CompletedProcess:
    """A command of this Python, under torchrun if `ranks`; the project is not on its path."""
    launcher = [sys.executable]
    if ranks:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [*launcher, *map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def train(in_dist: Path, out: Path, *options: str, ranks: int = 0) -> subprocess.CompletedProcess:
    """`train/main.py demo-cpu` with the tiny options, which `options` override."""
    return run_script(
        ROOT / "train" / "main.py", *command_line(in_dist, out, *options), ranks=ranks
    )


def command_line(in_dist: Path, out: Path, *options: str) -> list[str]:
    """The arguments of `train/main.py`."""
    return ["demo-cpu", "--in-dist", str(in_dist), "--out", str(out), *TINY, *options]


def tensors_of(run: Path, step: int) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {
        f"{name}:{key}": value
        for name in ("networks", "optimizer")
        for key, value in load_file(folder / f"{name}.safetensors").items()
    }
