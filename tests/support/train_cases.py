"""The trainer's command line with a tiny network, and the tensors that it writes."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import torch
from safetensors.torch import load_file

from tests.support.commands import run_command

TINY = (
    "--global-batch 12 --epochs 2 --loader.threads 1 --log-steps 1 --checkpoint-steps 10 "
    "--keep-checkpoints 9 --optim.warmup-epochs 0.5 --loss.negative-weight 0.3 "
    "--views.local-views 2 --model.width 24 --model.depth 2 --head.hidden 32 "
    "--head.bottleneck 16 --head.prototypes 32 --device cpu"
).split()
"""Options with which `demo-cpu` takes seconds on 120 images: 10 steps an epoch."""


def train(in_dist: Path, out: Path, *options: str, ranks: int = 0) -> CompletedProcess[str]:
    """`train/main.py demo-cpu` with the tiny options, which `options` override."""
    return run_command("train/main.py", *command_line(in_dist, out, *options), ranks=ranks)


def command_line(in_dist: Path, out: Path, *options: str) -> list[str]:
    """Return the arguments of `train/main.py`."""
    return ["demo-cpu", "--in-dist", str(in_dist), "--out", str(out), *TINY, *options]


def tensors_of(run: Path, step: int) -> dict[str, torch.Tensor]:
    """Read all tensors of a checkpoint."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {
        f"{name}:{key}": value
        for name in ("networks", "optimizer")
        for key, value in load_file(folder / f"{name}.safetensors").items()
    }
