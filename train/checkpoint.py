"""Checkpoints: `checkpoints/step-00001234/`, complete or not there, and never a pickle.

    networks.safetensors     student, teacher, centre
    optimizer.safetensors    moments and step counts
    state.json               step, optimizer groups, loader state, configuration, versions
    COMPLETE.json            size and sha256 of each of these, written last

A checkpoint is written beside its final name and renamed when it is whole. One that fails its
digests is passed over, aloud, for the one before it: neither safetensors nor torch notices a
flipped bit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from shards.cli import UserError
from shards.disk import sync
from train.config import RunConfig
from train.model import build_backbone
from train.run_folder import from_fields, to_fields
from train.state import TrainState, part_of

NETWORKS, OPTIMIZER, STATE = "networks.safetensors", "optimizer.safetensors", "state.json"
COMPLETE = "COMPLETE.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files have been verified."""

    directory: Path
    step: int
    sha256: str
    """Digest of COMPLETE.json, and through it of every file."""

    def networks(self, device: torch.device) -> dict[str, Tensor]:
        """Student, teacher and centre by name."""
        return load_file(self.directory / NETWORKS, device=str(device))

    def state(self) -> dict[str, Any]:
        """state.json."""
        return json.loads((self.directory / STATE).read_text())

    def restore(self, state: TrainState) -> dict[str, Any]:
        """Load everything into `state`; returns the loader's state."""
        device = state.centre.device
        values = self.state()
        optimizer = load_file(self.directory / OPTIMIZER, device=str(device))
        state.load(self.networks(device), optimizer, values["train"])
        return values["loader"]


def save_checkpoint(
    run: Path, state: TrainState, loader: dict[str, Any], config: RunConfig
) -> None:
    """Write the state of the run, then drop all but the newest `config.keep_checkpoints`."""
    final = run / "checkpoints" / f"step-{state.step:08d}"
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(_contiguous(state.network_tensors()), partial / NETWORKS)
    save_file(_contiguous(state.optimizer_tensors()), partial / OPTIMIZER)
    described = {
        "train": state.values(),
        "loader": loader,
        "config": to_fields(config),
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
    }
    (partial / STATE).write_text(json.dumps(described, indent=1) + "\n")
    digests = {name: _digest(partial / name) for name in (NETWORKS, OPTIMIZER, STATE)}
    (partial / COMPLETE).write_text(json.dumps(digests, indent=1) + "\n")
    for file in (*partial.iterdir(), partial):
        sync(file)
    if final.exists():
        # A step is saved twice only when the first copy was refused as damaged.
        shutil.rmtree(final)
    partial.rename(final)
    sync(final.parent)
    for old in _directories(run)[config.keep_checkpoints :]:
        shutil.rmtree(old)


def latest_checkpoint(run: Path) -> Checkpoint | None:
    """The newest checkpoint whose files are all as they were written; None if there is none."""
    for directory in _directories(run):
        fault = _fault(directory)
        if fault is None:
            digest = hashlib.sha256((directory / COMPLETE).read_bytes()).hexdigest()
            return Checkpoint(directory, int(directory.name.removeprefix("step-")), digest)
        print(f"warning: {directory} is passed over: {fault}", flush=True)
    return None


def _directories(run: Path) -> list[Path]:
    return sorted(run.glob("checkpoints/step-*"), reverse=True)


def _fault(directory: Path) -> str | None:
    try:
        digests = json.loads((directory / COMPLETE).read_text())
    except (OSError, ValueError) as error:
        return f"{COMPLETE} cannot be read ({error})"
    for name in (NETWORKS, OPTIMIZER, STATE):
        if not (directory / name).is_file():
            return f"{name} is missing"
        if digests.get(name) != _digest(directory / name):
            return f"{name} is not as it was written"
    return None


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


@dataclass(frozen=True)
class LoadedTeacher:
    """The network that is evaluated (paper, section 3.1)."""

    backbone: nn.Module
    """[n, 3, s, s] -> [n, width]; in evaluation mode."""
    config: RunConfig
    step: int
    sha256: str
    """Digest of the checkpoint."""
    manifests: dict[str, str]
    """Digest of the manifest of each stream that it was trained on: in-dist, aux."""


def load_teacher(run: Path, device: torch.device) -> LoadedTeacher:
    """The teacher's backbone from the newest whole checkpoint of `run`.

    Raises:
        UserError: there is no such folder, or no whole checkpoint in it.
    """
    if not run.is_dir():
        raise UserError(f"{run}: no such run (train one with train/main.py)")
    checkpoint = latest_checkpoint(run)
    if checkpoint is None:
        raise UserError(f"{run}: no complete checkpoint in it")
    state = checkpoint.state()
    config = from_fields(state["config"])
    backbone = build_backbone(config, device)
    backbone.load_state_dict(part_of(part_of(checkpoint.networks(device), "teacher"), "backbone"))
    return LoadedTeacher(
        backbone.eval(), config, checkpoint.step, checkpoint.sha256, state["loader"]["manifests"]
    )
