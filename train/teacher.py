"""The teacher of a run, as evaluation uses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from shards.errors import UserError
from train.checkpoint import latest_checkpoint
from train.config import RunConfig
from train.networks.backbone import build_backbone, feature_width
from train.networks.head import Head
from train.run_folder import from_fields
from train.state import part_of


@dataclass(frozen=True)
class LoadedTeacher:
    """The teacher of a run: the network that is evaluated (paper, section 3.1)."""

    backbone: nn.Module
    """The backbone, in evaluation mode: views [n, 3, s, s] -> features [n, width]."""
    head: Head
    """The projection head, in evaluation mode: features [n, width] -> logits [n, K]."""
    centre: Tensor
    """The centre that is subtracted from the logits: float32 [1, K]."""
    config: RunConfig
    """The configuration of the run."""
    step: int
    """The step of the checkpoint."""
    sha256: str
    """SHA-256 digest of the checkpoint."""
    manifests: dict[str, str]
    """SHA-256 digests of the manifests of the training sets, by stream: in-dist, aux."""


def load_teacher(run: Path, device: torch.device) -> LoadedTeacher:
    """Load the teacher from the newest whole checkpoint of `run`.

    Raises:
        UserError: there is no such folder, or it has no whole checkpoint.
        OSError: a file exists and cannot be read.
    """
    if not run.is_dir():
        raise UserError(f"{run}: no such run (train one with train/main.py)")
    while True:
        checkpoint = latest_checkpoint(run)
        if checkpoint is None:
            raise UserError(f"{run}: no complete checkpoint in it")
        try:
            state, networks = checkpoint.state(), checkpoint.networks(device)
            break
        except FileNotFoundError:
            if checkpoint.directory.exists():
                raise
            # The run is still training: it has removed this checkpoint and has a newer one.
    config = from_fields(state["config"])
    weights = part_of(networks, "teacher")
    backbone = build_backbone(config.model, config.views.global_px, device, compat=config.compat)
    backbone.load_state_dict(part_of(weights, "backbone"))
    head = Head(feature_width(backbone), config.head).to(device)
    head.load_state_dict(part_of(weights, "head"))
    return LoadedTeacher(
        backbone=backbone.eval(),
        head=head.eval(),
        centre=networks["centre"],
        config=config,
        step=checkpoint.step,
        sha256=checkpoint.sha256,
        manifests=state["loader"]["manifests"],
    )
