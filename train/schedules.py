"""Schedules: values that change during a run, as functions of the step (as in DINO)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from train.config import RunConfig


@dataclass(frozen=True)
class StepValues:
    """The scheduled values of one step."""

    lr: float
    """The learning rate."""
    weight_decay: float
    ema_momentum: float
    """The momentum m of the teacher (paper, Eq. 2)."""
    teacher_temp: float
    """The temperature tau_t of the teacher."""
    negative_weight: float
    """The weight lambda of the negatives (paper, Eq. 5)."""
    last_layer_frozen: bool
    """True while the prototypes do not learn."""


def values_at(config: RunConfig, step: int, steps_per_epoch: int) -> StepValues:
    """Return the scheduled values of `step`, which is counted from 0."""
    optim, loss = config.optim, config.loss
    total_steps = config.epochs * steps_per_epoch
    epoch = step // steps_per_epoch
    return StepValues(
        lr=cosine(
            step,
            total_steps,
            optim.lr_base * config.global_batch / 256,
            optim.lr_end,
            warmup_steps=round(optim.warmup_epochs * steps_per_epoch),
        ),
        weight_decay=cosine(step, total_steps, optim.weight_decay_start, optim.weight_decay_end),
        ema_momentum=cosine(step, total_steps, optim.ema_momentum_start, 1.0),
        teacher_temp=loss.teacher_temp_start
        + (loss.teacher_temp_end - loss.teacher_temp_start) * epoch / max(1, config.epochs - 1),
        negative_weight=loss.negative_weight
        * min(1.0, (step + 1) / max(1.0, loss.negative_warmup_epochs * steps_per_epoch)),
        last_layer_frozen=step < optim.freeze_last_layer_epochs * steps_per_epoch,
    )


def cosine(step: int, total_steps: int, start: float, end: float, warmup_steps: int = 0) -> float:
    """Return the value at `step`: linear from 0 to `start` in the warm-up, then cosine to `end`."""
    if step < warmup_steps:
        return start * step / max(1, warmup_steps - 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
