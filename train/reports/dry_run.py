"""The cost of a run, estimated from a few of its steps."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import torch
from torch import nn

from dali_pipes.loader import TrainLoader
from train.config import RunConfig
from train.run_folder import to_fields
from train.schedules import values_at
from train.state import TrainState
from train.step import train_step
from train.world import World

WARM_STEPS, TIMED_STEPS = 2, 3
"""The number of steps that are not timed, at the start, and the number of steps that are timed."""


def estimate(
    config: RunConfig, world: World, state: TrainState, student: nn.Module, loader: TrainLoader
) -> str:
    """Take a few steps and return the cost of the whole run as text; nothing is written."""
    per_epoch = loader.steps_per_epoch
    total_steps = config.epochs * per_epoch
    for number in range(WARM_STEPS + TIMED_STEPS):
        if number == WARM_STEPS:
            started_s = _now_s(world.device)
        values = values_at(config, state.step, per_epoch)
        train_step(config, world, state, student, next(loader), values)
    step_s = (_now_s(world.device) - started_s) / TIMED_STEPS
    if world.device.type == "cuda":
        where, peak_bytes = "torch's GPU memory a rank", torch.cuda.max_memory_allocated()
    else:
        where, peak_bytes = "memory a rank", _peak_bytes()
    parameters = [parameter for parameter in state.student.parameters() if parameter.requires_grad]
    # Two moments for each parameter. The optimizer has none for frozen prototypes yet.
    saved = [*state.network_tensors().values(), *parameters, *parameters]
    facts = {
        "student": f"{sum(parameter.numel() for parameter in parameters) / 1e6:.1f} million "
        "parameters",
        "steps": f"{total_steps} = {config.epochs} epochs x {per_epoch}",
        "ranks": f"{world.world_size}",
        "view engine": loader.engine,
        "step": f"{step_s:.3f} s = {config.global_batch / step_s:.0f} images/s (mean of "
        f"{TIMED_STEPS} steps, views included)",
        "time": f"{duration(total_steps * step_s)} in all",
        where: f"{peak_bytes / 1e9:.2f} GB at most so far",
        "checkpoint": f"{sum(tensor.nbytes for tensor in saved) / 1e6:.0f} MB; "
        f"{config.keep_checkpoints} are kept, and one more while it is written",
    }
    return "\n".join(
        [
            json.dumps(to_fields(config), indent=1),
            *(f"{name:<26} {fact}" for name, fact in facts.items()),
            "Nothing was written (--dry-run).",
        ]
    )


def duration(seconds: float) -> str:
    """Return a time as text for people: `45 s`, `12 min`, `3.5 h` or `2.1 days`."""
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 60 / 24:.1f} days"


def _peak_bytes() -> int:
    """Return the peak memory of this process. getrusage would include the memory of its parent."""
    status = Path("/proc/self/status").read_text()
    (peak_kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return 1024 * int(peak_kib)


def _now_s(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
