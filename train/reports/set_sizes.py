"""Sets from which little or nothing can be learned: refused, or told before the first step."""

from __future__ import annotations

from shards.errors import UserError
from shards.reader import ShardSet
from shards.similarity.equal import all_equal
from train.config import RunConfig
from train.watch.collapse import looks_after_step

LITTLE = 600
"""Images of the sample from which a run of `auto` stayed 8 points below pixel cosine (README)."""
MOST_PASSES = 500
"""The paper's, over 50,000 images: nobody has tried more."""


def check_images(option: str, shards: ShardSet) -> None:
    """Refuse a set whose images are all the same one.

    Args:
        option: what the command line calls the set.
        shards: the set, open.

    Raises:
        UserError: it has one image, or all are equal pixel by pixel.
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
    """What the numbers of images and steps let expect, a line each; nothing where they will do.

    Args:
        config: the run.
        in_dist: number of training images.
        aux: number of auxiliary images, if there are any.
        steps_per_epoch: steps of a pass over the training images.
    """
    lines = []
    if in_dist <= LITTLE:
        lines.append(
            f"--in-dist has {in_dist:,} images: little to learn from ({LITTLE} images of the "
            "sample left a run below pixel cosine), so hold it against --baselines when scoring; "
            "thousands are good"
        )
    if config.epochs > MOST_PASSES:
        lines.append(
            f"each image is passed over {config.epochs:,} times; the paper's are {MOST_PASSES} "
            "times, of 50,000 images. More images do more than more passes"
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
            f"nobody will look for collapse: the health monitor begins after step {unseen:,}, and "
            f"the run has {config.epochs * steps_per_epoch:,}"
        )
    return lines
