"""The report of a run that ends because its steps are not finite: one file for each rank."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from dali_pipes.batch import Batch
from shards.disk.publish import replace_file
from train.config import RunConfig
from train.objective import micro_batches, objective
from train.optim import gradients_of
from train.schedules import StepValues
from train.state import TrainState, seed_step
from train.world import World


def describe_skipped(
    config: RunConfig, world: World, state: TrainState, batch: Batch, values: StepValues
) -> str:
    """Compute the last step again, on each rank by itself, and write which values are not finite.

    Skipped steps change nothing, so all of them had the same networks. On a GPU the host reads
    results some steps late; the step that is computed again is then the last one that was started.

    Returns:
        The message that ends the run.
    """
    found = _look(config, world, state, batch, values)
    path = config.out / f"nonfinite-step-{batch.step:08d}-rank-{world.rank}.json"
    replace_file(path, [(json.dumps(found, indent=1) + "\n").encode()])
    return (
        f"{config.skips_in_a_row + 1} steps in a row, up to {batch.step}, were not finite and were "
        f"skipped; {path} lists what was not finite; the last checkpoint is from before that. Try "
        "a lower --optim.lr-base, or --precision fp32"
    )


def _look(
    config: RunConfig, world: World, state: TrainState, batch: Batch, values: StepValues
) -> dict[str, Any]:
    measured: dict[str, list[float]] = {}
    seed_step(config.seed, batch.step, world.rank)
    depth = state.student.scaled_blocks
    for part in micro_batches(config, world, batch.step, batch, depth):
        loss, means = objective(config, state, state.student, part, values)
        (loss * state.scaler.scale).backward()
        for name, value in means.items():
            if value.ndim == 0:
                measured.setdefault(name, []).append(value.item())
    bad_gradients = [
        name
        for name, parameter in state.student.named_parameters()
        if parameter.grad is not None and not _is_finite(parameter.grad)
    ]
    tensors = state.network_tensors()
    return {
        "step": batch.step,
        "rank": world.rank,
        "in_dist_ids": batch.in_dist_ids.tolist(),
        "aux_ids": None if batch.aux_ids is None else batch.aux_ids.tolist(),
        "views_not_finite": {
            "global": _places(batch.global_views),
            "local": _places(batch.local_views),
        },
        "values": {name: [repr(value) for value in found] for name, found in measured.items()},
        "gradients_not_finite": bad_gradients,
        "gradients": len(gradients_of(state.student)),
        "weights_not_finite": [n for n, tensor in tensors.items() if not _is_finite(tensor)],
        "scale": state.scaler.scale.item(),
        "schedule": vars(values),
    }


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _places(views: Tensor) -> list[list[int]]:
    """Return the pair [view, image] of each view with a value that is not finite."""
    return (~views.isfinite().flatten(2).all(-1)).nonzero().tolist()
