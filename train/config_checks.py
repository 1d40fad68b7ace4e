"""Checks of a configuration: the range of each field, and fields that must fit together.

The data, the machine and a network of timm may forbid a run too. This is checked where each of them
is opened.
"""

from __future__ import annotations

import math
import operator

from dali_pipes.negatives import parse_negatives
from shards.errors import UserError
from train.config import ModelConfig, RunConfig

RANGES = (
    (
        "epochs global_batch log_steps checkpoint_steps keep_checkpoints skips_in_a_row stall_s "
        "model.patch_px model.width model.depth model.heads head.hidden head.bottleneck "
        "head.layers loss.student_temp loss.teacher_temp_start "
        "loss.teacher_temp_end",
        lambda value: 0 < value < math.inf,
        "more than 0",
    ),
    (
        "seed micro_batch loss.negative_weight loss.negative_warmup_epochs optim.lr_base "
        "optim.lr_end optim.warmup_epochs optim.weight_decay_start optim.weight_decay_end "
        "optim.clip_norm optim.freeze_last_layer_epochs",
        lambda value: 0 <= value < math.inf,
        "at least 0",
    ),
    (
        "loss.centre_momentum optim.ema_momentum_start",
        lambda value: 0 <= value <= 1,
        "0..1",
    ),
    ("head.prototypes", lambda value: value > 1, "at least 2"),
    ("seed", lambda value: value < 1 << 63, "less than 2^63"),
    ("model.drop_path", lambda value: 0 <= value < 1, "0..1, less than 1"),
)
"""Names of fields, separated by spaces; the test of their values; the range in words."""


def check_config(config: RunConfig) -> None:
    """Refuse a configuration that cannot run.

    Raises:
        UserError: a field has a bad value, or two fields do not fit together; the message names
            them and what is expected.
    """
    config.views.check()
    config.loader.check()
    parse_negatives(config.strategy)
    for names, accepts, expected in RANGES:
        for name in names.split():
            value = operator.attrgetter(name)(config)
            if not accepts(value):
                raise UserError(f"{name} is {value}, expected {expected}")
    if config.model.name == "vit":
        _check_vit(config)
    else:
        _check_no_dino_switches(config)
        _check_default_sizes(config.model)
    if config.elastic and config.compat.centre_first_rows:
        raise UserError(
            "elastic is on, but compat.centre_first_rows takes rows of each rank's batch, so that "
            "the centre depends on the number of ranks; switch one of them off"
        )
    if config.optim.warmup_epochs >= config.epochs:
        raise UserError(
            f"optim.warmup_epochs is {config.optim.warmup_epochs}, expected less than epochs "
            f"{config.epochs}"
        )


def _check_vit(config: RunConfig) -> None:
    model = config.model
    for name in ("global_px", "local_px"):
        side_px = getattr(config.views, name)
        if side_px % model.patch_px:
            raise UserError(
                f"views.{name} is {side_px}, not a multiple of model.patch_px {model.patch_px}"
            )
    if model.width % model.heads:
        raise UserError(
            f"model.width is {model.width}, not a multiple of model.heads {model.heads}"
        )


def _check_no_dino_switches(config: RunConfig) -> None:
    names = [n for n in ("dino_positions", "dino_class_token") if getattr(config.compat, n)]
    if names:
        told = ", ".join(f"compat.{name} is on" for name in names)
        options = " ".join(f"--compat.no-{name.replace('_', '-')}" for name in names)
        raise UserError(
            f"{told}, which only model.name vit has, and model.name is {config.model.name}; set "
            f"{options}"
        )


def _check_default_sizes(model: ModelConfig) -> None:
    """Refuse sizes other than the defaults, because a network of timm has its own."""
    usual = ModelConfig()
    changed = [
        name
        for name in ("patch_px", "width", "depth", "heads")
        if getattr(model, name) != getattr(usual, name)
    ]
    if changed:
        told = ", ".join(f"model.{name} is {getattr(model, name)}" for name in changed)
        options = " ".join(
            f"--model.{name.replace('_', '-')} {getattr(usual, name)}" for name in changed
        )
        raise UserError(
            f"{told}, but model.name {model.name} has sizes of its own; leave them at {options}"
        )
