"""One step of the method: views -> loss -> gradients -> vote of the ranks -> update.

The host never waits for the device here, except with apex, whose step the device cannot skip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dali_pipes.batch import Batch
from train.config import RunConfig
from train.ema import follow, update_teacher
from train.loss_scale import all_finite
from train.metrics import OCCUPIED, POSITIVE, SPREAD
from train.networks.batch_norm import RunningStatistics
from train.objective import CENTRE, DIRECTION, TEACHER_P, micro_batches, objective
from train.optim import apply_schedule, clip_each, gradients_of, step_where
from train.schedules import StepValues
from train.state import TrainState, seed_step
from train.world import World

POSITIVE_MOMENTUM = 0.9
"""Momentum of the running mean of L_pos. An adaptive lambda depends on this mean."""
USAGE_MOMENTUM = 0.99
"""Momentum of the running mean of the response to each prototype. The number of prototypes in use
is counted from this mean."""


@dataclass(frozen=True)
class StepResult:
    """The results of a step, as float32 tensors on the device, equal on all ranks."""

    values: Mapping[str, Tensor]
    """Key of a metric (`train/metrics.py`) -> scalar tensor, the mean over the images of all ranks.
    The value is 0 if the step was skipped."""
    counted: Tensor
    """Scalar tensor: 0 if the step was skipped, otherwise 1."""
    control: Tensor
    """Tensor of two values. The first is more than 0 if any rank was asked to stop. The second is
    the number of steps in a row that were skipped."""


def train_step(
    config: RunConfig,
    world: World,
    state: TrainState,
    student: nn.Module,
    batch: Batch,
    values: StepValues,
    asked_to_stop: bool = False,
) -> StepResult:
    """Take one step of training: update `state` in place.

    Args:
        config: the run.
        world: the ranks.
        state: the state before the step.
        student: `state.student`, or the module that wraps it.
        batch: the views of this rank.
        values: the scheduled values of the step.
        asked_to_stop: whether this rank was asked to stop; all ranks see it in the result.
    """
    state.student.train()
    seed_step(config.seed, state.step, world.rank)
    apply_schedule(state.optimizer, values)
    means: dict[str, Tensor] = {}
    statistics = RunningStatistics(state.student, state.teacher)
    depth = state.student.scaled_blocks
    for part in micro_batches(config, world, state.step, batch, depth):
        with part.gradient_sync(student):
            loss, measured = objective(config, state, student, part, values)
            (loss * (part.share * state.scaler.scale)).backward()
        for name, value in measured.items():
            means[name] = means.get(name, 0) + part.share * value.detach()

    # ---- vote: the step counts if it is finite everywhere --------------------------------------
    gradients = gradients_of(state.student)
    state.scaler.unscale(gradients)
    norms = clip_each(gradients, config.optim.clip_norm)
    ours = all_finite([norms, *means.values()]).float()
    asked = torch.full_like(ours, float(asked_to_stop))
    ballot = [ours, asked, *means.values()]
    voted = world.mean(torch.cat([item.flatten() for item in ballot]))
    finite = voted[0] == 1
    shapes = [value.shape for value in means.values()]
    parts = voted[2:].split([shape.numel() for shape in shapes])
    means = {k: v.view(s) for k, v, s in zip(means, parts, shapes, strict=True)}

    # ---- update -------------------------------------------------------------------------------
    if values.last_layer_frozen:
        for parameter in state.student.head.prototypes.parameters():
            parameter.grad = None
    step_where(state.optimizer, finite)
    state.optimizer.zero_grad()  # gradients become None, also with apex
    update_teacher(state.teacher, state.student, values.ema_momentum, finite)
    follow(state.centre, means.pop(CENTRE), config.loss.centre_momentum, finite)
    follow(state.usage, means.pop(TEACHER_P), USAGE_MOMENTUM, finite)
    follow(state.positive, means[POSITIVE.key], POSITIVE_MOMENTUM, finite)
    statistics.restore_unless(finite)
    state.scaler.update(finite)
    state.step += 1

    means[SPREAD.key] = 1 - means.pop(DIRECTION).square().sum()
    means[OCCUPIED.key] = (state.usage > 1 / config.head.prototypes).sum().float()
    return StepResult(
        values={name: torch.where(finite, value, 0) for name, value in means.items()},
        counted=finite.float(),
        control=torch.stack([voted[1], state.scaler.skips_in_a_row]),
    )
