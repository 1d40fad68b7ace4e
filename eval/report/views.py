"""Views and negatives of a run, as its network sees them, for the report."""

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


def views_of_run(config: RunConfig, in_dist: ShardSet, aux: ShardSet | None) -> list[Column]:
    """Of `IMAGES` images the source, all views, and all views of the negatives, in columns.

    Args:
        config: of the run.
        in_dist: the images that it was trained on.
        aux: the auxiliary images, if its negatives are made of them.

    Raises:
        UserError: the sets do not fit the run, or cannot be read.
    """
    order = StreamOrder(global_batch=min(IMAGES, len(in_dist)), seed=config.seed)
    reads = dataclasses.replace(config.loader, reader="stream")  # a few images, not all
    cpu = torch.device("cpu")
    loader = TrainLoader(in_dist, aux, config.views, config.strategy, order, cpu, reads)
    with contextlib.closing(loader):
        batch = next(loader)
    source = in_dist.read(batch.in_dist_ids.numpy())
    return view_columns(source, batch, parse_negatives(config.strategy))
