"""A training in a forked process (tests/support/fork_server.py), with the faults of a job."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import train.reports.run_notes
import train.step
import train.training
import train.watch.nonfinite_report
from dali_pipes.batch import Batch
from dali_pipes.loader import TrainLoader
from shards.terminal import cli
from tests.faults.calls import Calls
from train.main import main as train_main
from train.state import TrainState

Job = Mapping[str, Any]


class SaveCalls(Calls):
    """Counts only the calls of saving: calls on checkpoints, and the removal of old ones."""

    def _note(self, function: str, path: object) -> bool:
        if "/checkpoints" in str(path) or function in ("unlink", "rmdir"):
            return super()._note(function, path)
        return False


def train_in_drill(job: Job) -> None:
    """Train as the command line does, with the faults of the job.

    If the job has a folder, write there `pid-RANK`, and `steps-RANK.jsonl` with the sample ids of
    each step that starts, and, if the job asks for them, digests of the tensors after each step.
    """
    sys.argv = ["train/main.py", *job["argv"]]
    # Drawing takes as long as twenty steps, and no drill looks at curves.png.
    train.reports.run_notes.draw_curves = lambda *_: None
    if "folder" not in job:
        cli.run(lambda: train_main(job["argv"]))
        return
    rank, folder = int(os.environ.get("RANK", 0)), Path(job["folder"])
    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    steps = (folder / f"steps-{rank}.jsonl").open("a")
    poison = Poison(job.get("poison"), rank)
    next_batch, real_step = TrainLoader.__next__, train.training.train_step

    def next_of_drill(loader: TrainLoader) -> Batch:
        batch = next_batch(loader)
        note = {"step": batch.step, "ids": batch.in_dist_ids.tolist(), "pid": os.getpid()}
        steps.write(json.dumps(note) + "\n")
        steps.flush()
        poison.put_into(batch)
        for number, fault in enumerate(job.get("signals", ())):
            if fault["rank"] == rank and batch.step >= fault["step"]:
                _signal_once(folder / f"signal-{number}", fault)
        return batch

    def step_of_drill(config: Any, world: Any, state: TrainState, *args: Any) -> Any:
        handle = poison.hook(state)
        before = _digest(state)
        result = real_step(config, world, state, *args)
        if handle:
            handle.remove()
        note = {
            "done": state.step - 1,
            "counted": result.counted.item(),
            "before": before,
            "after": _digest(state),
            "finite": all(bool(tensor.isfinite().all()) for _, tensor in _tensors(state)),
        }
        steps.write(json.dumps(note) + "\n")
        steps.flush()
        return result

    TrainLoader.__next__ = next_of_drill  # type: ignore[method-assign]
    if job.get("digests"):
        train.training.train_step = step_of_drill
        real_objective = train.step.objective
        for module in (train.step, train.watch.nonfinite_report):
            module.objective = lambda *args: poison.on_loss(*real_objective(*args))  # type: ignore[attr-defined]
    if rank == 0 and job.get("place"):
        SaveCalls(str(folder), job["place"], "kill").install()
    cli.run(lambda: train_main(job["argv"]))


def _signal_once(marker: Path, fault: Mapping[str, Any]) -> None:
    """Send a signal to this process or its launcher, unless an earlier start has sent it."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    pid = os.getppid() if fault.get("to") == "launcher" else os.getpid()

    def send() -> None:
        marker.write_text(str(time.time()))
        os.kill(pid, fault["signal"])

    if fault.get("delay_s"):
        threading.Timer(fault["delay_s"], send).start()
    else:
        send()


class Poison:
    """Puts a value that is not finite into some steps of one rank."""

    def __init__(self, request: Mapping[str, Any] | None, rank: int) -> None:
        request = request or {"kind": "none", "rank": 0, "steps": [], "value": "nan"}
        self._kind = request["kind"] if request["rank"] == rank else "none"
        self._value, self._steps = float(request["value"]), frozenset(request["steps"])
        self._stays = request.get("stays", False)
        self._is_due = False

    def put_into(self, batch: Batch) -> None:
        self._is_due = batch.step in self._steps
        if self._is_due and self._kind == "pixels":
            batch.global_views[1, 2, 0, 3, 3] = self._value

    def hook(self, state: TrainState) -> Any:
        """Poison the gradient of one weight; if it `stays`, also for the report at the end."""
        if not self._is_due or self._kind != "gradient":
            return None
        weight = dict(state.student.named_parameters())["backbone.blocks.0.mlp.fc1.weight"]
        self.weight_hook = weight.register_hook(lambda gradient: gradient * self._value)
        return None if self._stays and state.step == max(self._steps) else self.weight_hook

    def on_loss(self, loss: torch.Tensor, means: dict[str, torch.Tensor]) -> Any:
        if self._is_due and self._kind == "loss":
            loss = loss * self._value
            means = {**means, "loss": loss}
        return loss, means


def _digest(state: TrainState) -> str:
    """Return the digest of all tensors except the counts of skipped steps."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(state):
        if not name.startswith("scaler."):
            digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _tensors(state: TrainState) -> Iterator[tuple[str, torch.Tensor]]:
    yield from state.network_tensors().items()
    yield from state.optimizer_tensors().items()
