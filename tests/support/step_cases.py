"""Training steps with networks of a few thousand weights, on views of noise."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from dali_pipes.batch import Batch, ViewSpec
from train.config import CompatConfig, HeadConfig, ModelConfig, RunConfig
from train.config_checks import check_config
from train.recipes import RECIPES
from train.schedules import values_at
from train.state import TrainState
from train.step import StepResult, train_step
from train.world import World

CPU = torch.device("cpu")
ALONE = World(rank=0, world_size=1, device=CPU)
STEPS_PER_EPOCH = 2


def tiny_run(**changes: Any) -> RunConfig:
    """Return a small run like the authors', without quirks: four epochs, all schedules move.

    The learning rate is large and the clipping tight, so that every part of a step has an effect.
    `changes` are fields of the run, or of a part of it: `loss__norm="sum"`.
    """
    config = RECIPES["icann22-code-cifar10"]()
    config = dataclasses.replace(
        config,
        in_dist=Path("in-dist"),
        out=Path("out"),
        epochs=4,
        global_batch=5,
        seed=3,
        views=ViewSpec(global_px=16, local_px=8, local_views=2),
        model=ModelConfig(patch_px=4, width=12, depth=2, heads=2, drop_path=0.0),
        head=HeadConfig(prototypes=32, hidden=16, bottleneck=8),
        compat=CompatConfig(),
        optim=dataclasses.replace(config.optim, lr_base=0.5, warmup_epochs=1, clip_norm=0.05),
    )
    for name, value in changes.items():
        part, _, field = name.partition("__")
        if field:
            value = dataclasses.replace(getattr(config, part), **{field: value})
        config = dataclasses.replace(config, **{part: value})
    check_config(config)
    return config


def random_batch(config: RunConfig, step: int, sources: int = 1) -> Batch:
    """Return views of noise, different at every step, in the default dtype."""
    torch.manual_seed(1000 + step)
    spec, images = config.views, config.global_batch
    return Batch(
        step=step,
        global_views=torch.randn(2 + sources, images, 3, spec.global_px, spec.global_px),
        local_views=torch.randn(
            spec.local_views * (1 + sources), images, 3, spec.local_px, spec.local_px
        ),
        in_dist_ids=torch.arange(images),
        aux_ids=None,
    )


def take_step(config: RunConfig, state: TrainState, batch: Batch) -> StepResult:
    """Take the next step, in a single process."""
    values = values_at(config, state.step, STEPS_PER_EPOCH)
    return train_step(config, ALONE, state, state.student, batch, values)


def plain_feature(vit: VisionTransformer, views: Tensor, scales: Tensor | None = None) -> Tensor:
    """Return the class token after all blocks on all tokens, each branch scaled for each view."""
    if scales is None:
        return vit(views)
    hidden = vit._pos_embed(vit.patch_embed(views))
    for block, of_block in zip(vit.blocks, scales, strict=True):
        attention, mlp = of_block.to(views.dtype)[:, :, None, None]
        hidden = hidden + attention * block.attn(block.norm1(hidden))
        hidden = hidden + mlp * block.mlp(block.norm2(hidden))
    return vit.norm(hidden)[:, 0]


def run_steps(config: RunConfig, steps: int, sources: int = 1) -> TrainState:
    """Take the first steps of a run and return its state."""
    state = TrainState.start(config, CPU)
    for step in range(steps):
        take_step(config, state, random_batch(config, step, sources))
    return state
