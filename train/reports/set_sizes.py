"""Checks of the number of images: sets that teach nothing are refused, small sets get a warning."""

from __future__ import annotations

from shards.errors import UserError
from shards.reader import ShardSet
from shards.similarity.equal import all_equal
from train.config import RunConfig
from train.watch.collapse import looks_after_step

LITTLE = 600
"""Largest number of images with a warning. A run of `auto` on 600 images of the sample stayed 8
points of AUROC below the baseline of cosine similarity between pixels (README)."""
MOST_PASSES = 500
"""Largest number of epochs without a warning: the paper's, over 50,000 images."""


def check_images(option: str, shards: ShardSet) -> None:
    """Refuse a set whose images are all equal.

    Args:
        option: the option of the command line that names the set.
        shards: the open set.

    Raises:
        UserError: the set has one image, or all its images are equal pixel by pixel.
    """
    if all_equal(len(shards), shards.read):
        what = "one image" if len(shards) == 1 else f"{len(shards):,} images, all equal"
        raise UserError(
            f"{option} {shards.directory}: has {what}: there is nothing to learn; take a set of "
            "different images"
        )


def told_of_sizes(
    config: RunConfig, in_dist: int, aux: int | None, steps_per_epoch: int
) -> list[str]:
    """Return a line of warning for each number of images or steps that is unusual.

    Args:
        config: the run.
        in_dist: number of training images.
        aux: number of auxiliary images; None without them.
        steps_per_epoch: number of steps of a pass over the training images.
    """
    lines = []
    if in_dist <= LITTLE:
        lines.append(
            f"--in-dist has {in_dist:,} images: little to learn from (with {LITTLE} images of the "
            "sample a run stayed below pixel cosine), so compare it with --baselines when scoring; "
            "use thousands of images if you can"
        )
    if config.epochs > MOST_PASSES:
        lines.append(
            f"the run has {config.epochs:,} epochs; the paper has {MOST_PASSES}, over 50,000 "
            "images. More images help more than more epochs"
        )
    if steps_per_epoch == 1:
        lines.append(
            f"a batch of {config.global_batch:,} is a whole pass over the {in_dist:,} images"
            + ("" if in_dist == config.global_batch else ", and leaves some out")
        )
    if config.head.prototypes > in_dist:
        lines.append(
            f"there are more prototypes ({config.head.prototypes:,}) than images ({in_dist:,}): "
            "lower --head.prototypes"
        )
    if aux is not None and aux < config.global_batch:
        lines.append(
            f"--aux has {aux:,} images, fewer than the batch of {config.global_batch:,}: every "
            "step sees some of them more than once"
        )
    unseen = looks_after_step(config, steps_per_epoch)
    if config.epochs * steps_per_epoch <= unseen:
        lines.append(
            f"collapse will not be looked for: the health monitor begins after step {unseen:,}, "
            f"and the run has {config.epochs * steps_per_epoch:,} steps"
        )
    return lines
