"""Checkpoints: folders `checkpoints/step-00001234/`, complete or absent, and without pickles.

    networks.safetensors     student, teacher, centre and other moving averages, scale of the loss
    optimizer.safetensors    moments and step counts
    state.json               step, optimizer groups, loader state, configuration, versions
    COMPLETE.json            size and SHA-256 digest of each of these files, written last

A thread writes a checkpoint under a temporary name, while the next steps are computed, and renames
it when all files are on the disk. A checkpoint with a wrong digest is skipped with a warning, and
the checkpoint before it is used: neither safetensors nor torch notices a flipped bit. If all are
damaged, the run is refused instead of started again. Values that are not finite are never written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from shards.disk.file_system import naming
from shards.disk.publish import move_folder, partial_folder, publish_folder, sync
from shards.errors import UserError
from train.config import RunConfig
from train.run_folder import first_difference, from_fields, to_fields
from train.state import TrainState

NETWORKS, OPTIMIZER, STATE = "networks.safetensors", "optimizer.safetensors", "state.json"
COMPLETE = "COMPLETE.json"
NAME = re.compile(r"step-\d{8,}")
ABSENT = (FileNotFoundError, NotADirectoryError)
"""Errors that mean that a checkpoint is damaged. Other errors, for example of a network drive or a
permission, say nothing about the files."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files have been verified."""

    directory: Path
    """The folder of the checkpoint."""
    step: int
    """The number of steps that were done."""
    sha256: str
    """SHA-256 digest of COMPLETE.json, which has the digests of all files."""

    def networks(self, device: torch.device) -> dict[str, Tensor]:
        """Read the tensors of `TrainState.network_tensors` onto `device`."""
        return load_file(self.directory / NETWORKS, device=str(device))

    def state(self) -> dict[str, Any]:
        """Read state.json."""
        return json.loads((self.directory / STATE).read_text())

    def other_versions(self) -> str:
        """Name the libraries whose versions differ from those that wrote the checkpoint.

        Returns:
            Their names with both versions, in one line; empty if there are none.
        """
        theirs = self.state()["versions"]
        return ", ".join(
            f"{name} {theirs.get(name)} (here {ours})"
            for name, ours in _versions().items()
            if theirs.get(name) != ours
        )

    def restore(self, config: RunConfig, state: TrainState) -> dict[str, Any]:
        """Load this checkpoint into `state`, which `TrainState.start` built for `config`.

        Returns:
            The state of the loader.

        Raises:
            UserError: the checkpoint belongs to another run, another version of oodino wrote it, or
                its files belong to different steps because the folder was renamed or assembled.
        """
        device = state.centre.device
        values = self.state()
        # A run with --elastic may have changed these fields before this checkpoint or after it.
        lenient = dataclasses.replace(config, elastic=True)
        difference = first_difference(lenient, from_fields(values["config"]))
        if difference:
            raise UserError(f"{self.directory} is of another run: {difference}; move it away")
        steps = self.step, values["train"]["step"], values["loader"]["step"]
        if len(set(steps)) > 1:
            raise UserError(
                f"{self.directory} has networks of step {steps[1]} and views of step {steps[2]}, "
                f"expected {steps[0]} as in its name"
            )
        optimizer = load_file(self.directory / OPTIMIZER, device=str(device))
        try:
            state.load(self.networks(device), optimizer, values["train"])
        except UserError as error:
            raise UserError(
                f"{self.directory}: {error}; another version of oodino or timm wrote it"
            ) from error
        return values["loader"]


class CheckpointWriter:
    """A writer that copies the state of a run at a step, and writes the copy during later steps."""

    def __init__(self, config: RunConfig) -> None:
        """Prepare to write into `config.out`."""
        self._config = config
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, state: TrainState, loader: dict[str, Any]) -> None:
        """Wait until the previous checkpoint is written, copy the state, and start to write it.

        Raises:
            UserError: a value is not finite.
            OSError: the previous checkpoint could not be written.
        """
        self.wait()
        snapshot = Snapshot.of(state, loader, self._config)
        self._writing = self._thread.submit(snapshot.write, self._config)

    def wait(self) -> None:
        """Return when the last saved checkpoint is on the disk.

        Raises:
            OSError: the checkpoint could not be written.
        """
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def check(self) -> None:
        """Raise the error of the last save, if that save has failed by now. This does not wait."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def close(self) -> None:
        """Wait until the last save is finished, and end the thread."""
        self._thread.shutdown()
        self.wait()


@dataclass(frozen=True)
class Snapshot:
    """A copy of everything that a checkpoint holds, in the host's memory."""

    step: int
    """The number of steps that were done."""
    networks: dict[str, Tensor]
    """The content of networks.safetensors."""
    optimizer: dict[str, Tensor]
    """The content of optimizer.safetensors."""
    described: dict[str, Any]
    """The content of state.json."""

    @classmethod
    def of(cls, state: TrainState, loader: dict[str, Any], config: RunConfig) -> Snapshot:
        """Copy the state of a run and of its loader.

        Raises:
            UserError: a tensor has a value that is not finite; the message names the tensor.
        """
        networks, optimizer = state.network_tensors(), state.optimizer_tensors()
        tensors = {**networks, **optimizer}
        finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()
        if not all(finite):
            name = list(tensors)[finite.index(False)]
            raise UserError(
                f"{name} is not finite at step {state.step}, so no checkpoint is written; the "
                f"checkpoints in {config.out} are from before that"
            )
        return cls(
            state.step,
            _copies(networks),
            _copies(optimizer),
            {
                "train": state.values(),
                "loader": loader,
                "config": to_fields(config),
                "versions": _versions(),
            },
        )

    def write(self, config: RunConfig) -> None:
        """Write this copy as a checkpoint, then keep only the newest `config.keep_checkpoints`."""
        final = config.out / "checkpoints" / f"step-{self.step:08d}"
        for leftover in final.parent.glob(".step-*"):
            shutil.rmtree(leftover)
        contents = {
            NETWORKS: safetensors.torch.save(self.networks),
            OPTIMIZER: safetensors.torch.save(self.optimizer),
            STATE: (json.dumps(self.described, indent=1) + "\n").encode(),
        }
        contents[COMPLETE] = _complete({name: _digest(data) for name, data in contents.items()})
        with partial_folder(final) as partial:
            sync(config.out)  # The first checkpoint adds the folder of checkpoints to it.
            for name, data in contents.items():
                with naming(partial / name):
                    (partial / name).write_bytes(data)
        # A step is saved twice only when the first copy was refused as damaged. The last refused
        # copy of a step is kept, because a user may rescue parts of it.
        refused = final.with_name(f"{final.name}.refused")
        if final.exists() and refused.exists():
            _remove(refused)
        publish_folder(partial, final, replaced=refused)
        # Later steps do not count: they were skipped as damaged when the run resumed before them.
        older = [path for path in _directories(config.out) if path.name <= final.name]
        for old in older[config.keep_checkpoints :]:
            _remove(old)


def _remove(directory: Path) -> None:
    """Remove a checkpoint: rename it first, so that a reader finds all of it or nothing."""
    nameless = directory.with_name(f".{directory.name}.removed")
    move_folder(directory, nameless)
    shutil.rmtree(nameless)


def latest_checkpoint(run: Path) -> Checkpoint | None:
    """Return the newest checkpoint whose files are undamaged. None if the run has no checkpoint.

    Raises:
        UserError: all checkpoints are damaged. The run must not start again from the beginning.
        OSError: a file exists and cannot be read now, for example from a network drive.
    """
    looked_at: list[Path] | None = None
    refused: dict[Path, str] = {}
    # Look again as long as the folders change: a run that is training replaces them meanwhile.
    while (directories := _directories(run)) != looked_at:
        refused.clear()
        for directory in directories:
            found = _verified(directory)
            if isinstance(found, Checkpoint):
                return found
            if directory.exists():
                print(f"warning: {directory} is skipped: {found}", flush=True)
                refused[directory] = found
        looked_at = directories
    if refused:
        newest, reason = next(iter(refused.items()))
        raise UserError(
            f"{newest.parent}: none of {len(refused)} checkpoints is whole (in {newest.name} "
            f"{reason}); move them away to start again"
        )
    return None


def _directories(run: Path) -> list[Path]:
    names = [path for path in run.glob("checkpoints/step-*") if NAME.fullmatch(path.name)]
    return sorted(names, reverse=True)


def _verified(directory: Path) -> Checkpoint | str:
    """Return the checkpoint in a folder, or a text that says what is wrong with it."""
    try:
        written = (directory / COMPLETE).read_bytes()
        digests = json.loads(written)
    except (*ABSENT, ValueError) as error:
        return f"{COMPLETE} cannot be read ({error})"
    # Compared byte for byte, because COMPLETE.json has no digest of its own.
    if not isinstance(digests, dict) or written != _complete(digests):
        return f"{COMPLETE} is not as it was written"
    for name in (NETWORKS, OPTIMIZER, STATE):
        try:
            data = (directory / name).read_bytes()
        except ABSENT as error:
            return f"{name} cannot be read ({error})"
        if digests.get(name) != _digest(data):
            return f"{name} is not as it was written"
    step = int(directory.name.removeprefix("step-"))
    return Checkpoint(directory, step, hashlib.sha256(written).hexdigest())


def _complete(digests: dict[str, Any]) -> bytes:
    return (json.dumps(digests, indent=1) + "\n").encode()


def _digest(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _versions() -> dict[str, str]:
    return {"torch": str(torch.__version__), "timm": timm.__version__}


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.to("cpu", memory_format=torch.contiguous_format, copy=True)
        for name, tensor in tensors.items()
    }
