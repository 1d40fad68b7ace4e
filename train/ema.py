"""Moving averages: the teacher, and running means. A skipped step leaves them as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float, finite: Tensor) -> None:
    """Set the parameters theta_t <- m theta_t + (1 - m) theta_s (paper, Eq. 2), if `finite`.

    theta_t and theta_s are the parameters of teacher and student, and m is `momentum`. If the bool
    scalar `finite` is false, nothing changes.
    """
    ours: list[Tensor] = list(teacher.parameters())
    weights = [(1 - momentum) * finite] * len(ours)
    torch._foreach_lerp_(ours, list(student.parameters()), weights)


@torch.no_grad()
def follow(running: Tensor, value: Tensor, momentum: float, finite: Tensor) -> None:
    """Set running <- m running + (1 - m) value, in place, if the bool scalar `finite` is true.

    m is `momentum`.
    """
    running.copy_(torch.where(finite, torch.lerp(value, running, momentum), running))
