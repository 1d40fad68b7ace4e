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
    """The network that is evaluated (paper, section 3.1)."""

    backbone: nn.Module
    """[n, 3, s, s] -> [n, width]; in evaluation mode."""
    head: Head
    """[n, width] -> logits [n, K]."""
    centre: Tensor
    """What is subtracted from the teacher's logits: float32 [1, K]."""
    config: RunConfig
    step: int
    sha256: str
    """Digest of the checkpoint."""
    manifests: dict[str, str]
    """Digest of the manifest of each stream that it was trained on: in-dist, aux."""


def load_teacher(run: Path, device: torch.device) -> LoadedTeacher:
    """The teacher from the newest whole checkpoint of `run`.

    Raises:
        UserError: there is no such folder, or no whole checkpoint in it.
        OSError: see `latest_checkpoint`.
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
            # A run that goes on has removed it meanwhile, and has a newer one.
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
