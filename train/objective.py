"""The loss of a micro-batch (paper, Eq. 3-5), and its metrics.

Legend: S negative branches, N local views, B images of a rank, b images of a micro-batch,
K prototypes, G and L sides of a global and a local view, d feature length.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from dali_pipes.batch import GLOBAL_VIEWS, Batch
from dali_pipes.transfer import to_device
from shards.order import rank_slice
from train.config import RunConfig
from train.losses import (
    entropy,
    negative_loss,
    positive_loss,
    positive_terms,
    student_log_p,
    teacher_p,
)
from train.metrics import (
    KL,
    LOSS,
    NEGATIVE_ENTROPY,
    NEGATIVE_KL,
    POSITIVE,
    POSITIVE_ENTROPY,
    TEACHER_ENTROPY,
)
from train.networks.stochastic_depth import draw_branch_scales
from train.schedules import StepValues
from train.state import TrainState
from train.world import World

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
"""Value of `RunConfig.precision` -> data type of the matrix products of the networks."""
CENTRE, TEACHER_P, DIRECTION = "centre", "teacher_p", "direction"
"""Names of the means that `objective` returns besides the metrics. The first two are for moving
averages, and the metric `spread` is computed from the third."""


@dataclass(frozen=True)
class MicroBatch:
    """All views of a micro-batch, which is a part of the images of a rank."""

    global_views: Tensor
    """The global views, [2 + S, b, 3, G, G]. The two positive views come first."""
    local_views: Tensor
    """The local views, [N (1 + S), b, 3, L, L]. The N positive views come first."""
    scales: tuple[Tensor | None, Tensor | None]
    """The factors of stochastic depth on the branches of the student's blocks: one tensor for the
    global views and one for the local views, each of shape [depth, 2, views x b]. None means that
    all factors are 1."""
    first: int
    """Position of the first image in the rank's batch."""
    rank_images: int
    """B, the number of images in the rank's batch."""

    @property
    def images(self) -> int:
        """The number b of images in the micro-batch."""
        return self.global_views.shape[1]

    @property
    def share(self) -> float:
        """The fraction b / B of the rank's batch that this micro-batch has."""
        return self.images / self.rank_images

    @property
    def is_last(self) -> bool:
        """True if this is the last micro-batch of the rank's batch."""
        return self.first + self.images == self.rank_images

    def gradient_sync(self, student: nn.Module) -> contextlib.AbstractContextManager:
        """Return a context for the backward pass.

        Within this context, gradients are averaged over the ranks only if this is the last
        micro-batch.
        """
        if isinstance(student, DistributedDataParallel) and not self.is_last:
            return student.no_sync()
        return contextlib.nullcontext()


def micro_batches(
    config: RunConfig, world: World, step: int, batch: Batch, depth: int
) -> Iterator[MicroBatch]:
    """Cut the batch of a rank into parts of `config.micro_batch` images. 0 means a single part.

    Args:
        config: the run.
        world: the ranks.
        step: number of the step, for stochastic depth.
        batch: all views of the rank's images.
        depth: the student's `scaled_blocks`.
    """
    images = batch.global_views.shape[1]
    globals_ = len(batch.global_views)
    scales = draw_branch_scales(
        depth,
        config.model.drop_path,
        globals_ + len(batch.local_views),
        config.global_batch,
        config.seed,
        step,
    )
    first = rank_slice(config.global_batch, world.rank, world.world_size).start
    device = batch.global_views.device
    size = config.micro_batch or images
    for start in range(0, images, size):
        part = slice(start, min(start + size, images))
        ours: tuple[Tensor | None, Tensor | None] = (None, None)
        if scales is not None:
            here = scales[..., first + part.start : first + part.stop]
            here = to_device(here.contiguous(), device)
            ours = (here[:, :, :globals_].flatten(2), here[:, :, globals_:].flatten(2))
        yield MicroBatch(
            batch.global_views[:, part],
            batch.local_views[:, part],
            ours,
            first=start,
            rank_images=images,
        )


def objective(
    config: RunConfig,
    state: TrainState,
    student: nn.Module,
    part: MicroBatch,
    values: StepValues,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the loss of a micro-batch, and means over its images for reports and averages.

    Returns:
        The loss, and the means by name: the metrics LOSS to NEGATIVE_ENTROPY of
        `train/metrics.py`, each []; CENTRE, the value that the centre moves to, [1, K]; TEACHER_P,
        the teacher's mean response to each prototype, [K]; DIRECTION, the mean of the teacher's
        features at unit length, [d].
    """
    # ---- forward: the student takes all views, the teacher the positive global ones ------------
    sources = len(part.global_views) - GLOBAL_VIEWS
    locals_ = len(part.local_views) // (1 + sources)
    sizes = 2 if len(part.local_views) else 1  # backbones do not accept zero views
    views = [part.global_views.flatten(0, 1), part.local_views.flatten(0, 1)]
    device_type = part.global_views.device.type
    dtype = AUTOCAST[config.precision]
    with torch.autocast(device_type, dtype, enabled=dtype != torch.float32):
        logits, _ = student(views[:sizes], part.scales[:sizes])
        with torch.no_grad():
            of_teacher, features = state.teacher(
                [part.global_views[:GLOBAL_VIEWS].flatten(0, 1)], [None]
            )
    temp = config.loss.student_temp
    log_p = [student_log_p(out, temp).unflatten(0, (-1, part.images)) for out in logits]
    of_global, of_local = log_p[0], log_p[1] if sizes == 2 else log_p[0][:0]  # [views, b, K]
    teacher = of_teacher[0].unflatten(0, (GLOBAL_VIEWS, part.images))  # [2, b, K]

    # ---- loss ---------------------------------------------------------------------------------
    positives = torch.cat([of_global[:GLOBAL_VIEWS], of_local[:locals_]])
    q = teacher_p(teacher, state.centre, values.teacher_temp)
    positive = positive_loss(positives, q)
    sums = config.loss.norm == "sum"
    loss = positive * (positive_terms(positives, q) if sums else 1)
    measured: dict[str, Tensor] = {}
    with torch.no_grad():
        measured[TEACHER_ENTROPY.key] = torch.special.entr(q).sum(-1).mean()
        measured[KL.key] = positive - measured[TEACHER_ENTROPY.key]
        measured[POSITIVE_ENTROPY.key] = entropy(positives)
    if sources:
        negatives = torch.cat([of_global[GLOBAL_VIEWS:], of_local[locals_:]])
        negative = negative_loss(negatives)
        weight = values.negative_weight * negative_share(config, state)
        loss = loss + weight * negative * (len(negatives) if sums else 1)
        with torch.no_grad():
            measured[NEGATIVE_KL.key] = negative - math.log(config.head.prototypes)
            measured[NEGATIVE_ENTROPY.key] = entropy(negatives)
    if config.compat.loss_x1_5 and sources == 1:
        loss = 1.5 * loss

    # ---- values for the moving averages ---------------------------------------------------------
    if config.compat.centre_first_rows:
        # Two rows of the rank's batch: weighted by `share`, the parts sum to the mean of the rows.
        rows = teacher[0, : max(0, 2 - part.first)]
        centre = rows.sum(0, keepdim=True) / (min(2, part.rank_images) * part.share)
    else:
        centre = teacher.mean((0, 1)).unsqueeze(0)
    return loss, {
        LOSS.key: loss,
        POSITIVE.key: positive,
        **measured,
        CENTRE: centre,
        TEACHER_P: q.mean((0, 1)),
        DIRECTION: functional.normalize(features.float(), dim=-1).mean(0),
    }


def negative_share(config: RunConfig, state: TrainState) -> Tensor | float:
    """Return the factor that lambda is multiplied by.

    It is 1 - L_pos / ln K with `loss.negative_adaptive`, and 1 without it.
    """
    if not config.loss.negative_adaptive:
        return 1.0
    return (1 - state.positive / math.log(config.head.prototypes)).clamp(0, 1)
