"""The objective (paper, Eq. 3-5), in float32. Legend: V views, B images, K prototypes."""

from __future__ import annotations

import torch
from torch import Tensor

from train.world import World


def positive_loss(
    student: Tensor, teacher: Tensor, centre: Tensor, student_temp: float, teacher_temp: float
) -> Tensor:
    """L_pos (Eq. 3): cross-entropy of every pair of a teacher's view and another student's view.

    A mean over the pairs and the batch, as in DINO's code. With q the teacher's and p the student's
    probabilities, sum_{g != v} q_g . log p_v = (sum_g q_g) . (sum_v log p_v) - sum_g q_g . log p_g.

    Args:
        student: logits [V, B, K]; its first views are the teacher's.
        teacher: logits [G, B, K].
        centre: [1, K], subtracted from the teacher's logits.
        student_temp: tau_s.
        teacher_temp: tau_t.
    """
    log_p = (student / student_temp).log_softmax(-1)
    q = ((teacher - centre) / teacher_temp).softmax(-1)
    same_view = (q * log_p[: len(q)]).sum((0, -1))
    all_pairs = (q.sum(0) * log_p.sum(0)).sum(-1)
    pairs = len(q) * (len(log_p) - 1)
    return (same_view - all_pairs).mean() / pairs


def negative_loss(student: Tensor, student_temp: float) -> Tensor:
    """L_neg (Eq. 4): cross-entropy to the uniform distribution, a mean over views and batch.

    Its minimum is ln K. `student`: logits [V, B, K].
    """
    return -(student / student_temp).log_softmax(-1).mean()


@torch.no_grad()
def update_centre(centre: Tensor, teacher: Tensor, momentum: float, world: World) -> None:
    """Move `centre` [1, K] towards the mean teacher logits of all views, images and ranks."""
    mean = world.mean(teacher.flatten(0, 1).mean(0, keepdim=True))
    centre.lerp_(mean, 1 - momentum)
