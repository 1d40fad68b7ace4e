"""Views and negatives of a run for the report, as the network sees them in training."""

from __future__ import annotations

import contextlib
import dataclasses

import torch

from dali_pipes.loader import TrainLoader
from dali_pipes.negatives import parse_negatives
from dali_pipes.step_plan import StreamOrder
from dali_pipes.view_sheets import Column, view_columns
from shards.reader import ShardSet
from train.config import RunConfig

IMAGES = 4
"""Number of images whose views are shown."""


def views_of_run(config: RunConfig, in_dist: ShardSet, aux: ShardSet | None) -> list[Column]:
    """Return columns of images: the source images, each view, and each view of the negatives.

    Each column has `IMAGES` images.

    Args:
        config: configuration of the run.
        in_dist: training images of the run.
        aux: auxiliary images. None if the negatives are not made from auxiliary images.

    Raises:
        UserError: the sets do not fit the run, or cannot be read.
    """
    order = StreamOrder(global_batch=min(IMAGES, len(in_dist)), seed=config.seed)
    # Only a few images are read, not the whole set.
    reads = dataclasses.replace(config.loader, reader="stream")
    cpu = torch.device("cpu")
    loader = TrainLoader(in_dist, aux, config.views, config.strategy, order, cpu, reads)
    with contextlib.closing(loader):
        batch = next(loader)
    source = in_dist.read(batch.in_dist_ids.numpy())
    return view_columns(source, batch, parse_negatives(config.strategy))
