"""Checkpoints: `checkpoints/step-00001234/`, complete or not there, and never a pickle.

    networks.safetensors     student, teacher, centre and other moving averages, scale of the loss
    optimizer.safetensors    moments and step counts
    state.json               step, optimizer groups, loader state, configuration, versions
    COMPLETE.json            size and sha256 of each of these, written last

A checkpoint is written beside its final name and renamed when it is whole, by a thread of its own:
the next steps are computed meanwhile. One that fails its digests is passed over, aloud, for the one
before it: neither safetensors nor torch notices a flipped bit. If all fail, a run is not begun
anew in their place. None holds a value that is not finite.
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

from shards.disk.publish import move_folder, partial_folder, publish_folder, sync
from shards.errors import UserError
from train.config import RunConfig
from train.run_folder import first_difference, from_fields, to_fields
from train.state import TrainState

NETWORKS, OPTIMIZER, STATE = "networks.safetensors", "optimizer.safetensors", "state.json"
COMPLETE = "COMPLETE.json"
NAME = re.compile(r"step-\d{8,}")
ABSENT = (FileNotFoundError, NotADirectoryError)
"""Errors that tell of damage; others, of a network or a permission, tell nothing of the files."""


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

    def other_versions(self) -> str:
        """Which of the libraries that wrote it have other versions here; empty if none has."""
        theirs = self.state()["versions"]
        return ", ".join(
            f"{name} {theirs.get(name)} (here {ours})"
            for name, ours in _versions().items()
            if theirs.get(name) != ours
        )

    def restore(self, config: RunConfig, state: TrainState) -> dict[str, Any]:
        """Load everything into `state`, that of `config`; returns the loader's state.

        Raises:
            UserError: it is of another run, or another version of oodino wrote it; or its parts
                are of different steps: the folder was renamed or put together.
        """
        device = state.centre.device
        values = self.state()
        # With --elastic what that allows may have changed on the way, and since.
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
    """Saves the state of a run as it is at a step, and writes it while the run goes on."""

    def __init__(self, config: RunConfig) -> None:
        """Write into the run of `config`."""
        self._config = config
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, state: TrainState, loader: dict[str, Any]) -> None:
        """Copy the state and start to write it, once the checkpoint before it is written.

        Raises:
            UserError: a value is not finite.
            OSError: the one before could not be written.
        """
        self.wait()
        snapshot = Snapshot.of(state, loader, self._config)
        self._writing = self._thread.submit(snapshot.write, self._config)

    def wait(self) -> None:
        """Return when what was saved is on the disk.

        Raises:
            OSError: it could not be written.
        """
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def check(self) -> None:
        """Raise what `wait` would, if that is known already."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def close(self) -> None:
        """Write what was saved."""
        self._thread.shutdown()
        self.wait()


@dataclass(frozen=True)
class Snapshot:
    """A copy of everything that a checkpoint holds, in the host's memory."""

    step: int
    networks: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    described: dict[str, Any]

    @classmethod
    def of(cls, state: TrainState, loader: dict[str, Any], config: RunConfig) -> Snapshot:
        """Copy the state.

        Raises:
            UserError: names a tensor with a value that is not finite.
        """
        networks, optimizer = state.network_tensors(), state.optimizer_tensors()
        tensors = {**networks, **optimizer}
        finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()
        if not all(finite):
            name = list(tensors)[finite.index(False)]
            raise UserError(
                f"{name} is not finite at step {state.step}: no checkpoint is written of that; "
                f"those in {config.out} are from before"
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
        """Write a checkpoint, then drop all but the newest `config.keep_checkpoints`."""
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
                (partial / name).write_bytes(data)
        # A step is saved twice only when the first copy was refused as damaged. The last refused
        # copy of a step is kept, because a user may rescue parts of it.
        refused = final.with_name(f"{final.name}.refused")
        if final.exists() and refused.exists():
            _remove(refused)
        publish_folder(partial, final, replaced=refused)
        # Those of later steps were refused as damaged when the run went on from before them.
        older = [path for path in _directories(config.out) if path.name <= final.name]
        for old in older[config.keep_checkpoints :]:
            _remove(old)


def _remove(directory: Path) -> None:
    """Take the name first: who reads it finds all of it, or nothing."""
    nameless = directory.with_name(f".{directory.name}.removed")
    move_folder(directory, nameless)
    shutil.rmtree(nameless)


def latest_checkpoint(run: Path) -> Checkpoint | None:
    """The newest checkpoint whose files are all as they were written; None if there are none.

    Raises:
        UserError: there are some, all damaged: a run must not begin anew in their place.
        OSError: a file is there and cannot be read, which may be over soon.
    """
    looked_at: list[Path] | None = None
    refused: dict[Path, str] = {}
    # Again while there are others: a run that goes on replaces them as they are read.
    while (directories := _directories(run)) != looked_at:
        refused.clear()
        for directory in directories:
            found = _verified(directory)
            if isinstance(found, Checkpoint):
                return found
            if directory.exists():
                print(f"warning: {directory} is passed over: {found}", flush=True)
                refused[directory] = found
        looked_at = directories
    if refused:
        newest, reason = next(iter(refused.items()))
        raise UserError(
            f"{newest.parent}: no checkpoint of {len(refused)} is whole (in {newest.name} "
            f"{reason}); move them away to start anew"
        )
    return None


def _directories(run: Path) -> list[Path]:
    names = [path for path in run.glob("checkpoints/step-*") if NAME.fullmatch(path.name)]
    return sorted(names, reverse=True)


def _verified(directory: Path) -> Checkpoint | str:
    """The checkpoint in a directory, or what is wrong with it."""
    try:
        written = (directory / COMPLETE).read_bytes()
        digests = json.loads(written)
    except (*ABSENT, ValueError) as error:
        return f"{COMPLETE} cannot be read ({error})"
    # Byte for byte, so that it needs no digest of its own.
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
