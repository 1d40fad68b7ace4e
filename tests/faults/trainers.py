"""Tools for drills of the trainer: jobs in forked processes, and readers of a run's files."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shards.build import build
from shards.building.build_plan import BuildRequest
from tests.support.commands import server
from tests.support.fork_server import ForkServer
from tests.support.shard_cases import random_images
from tests.support.train_cases import tensors_of
from tests.support.waiting import wait_until

IMAGES, BATCH, EPOCH_STEPS = 120, 12, 10
TINY = (
    "--global-batch 12 --loader.threads 1 --log-steps 1 --keep-checkpoints 2 --epochs 20 "
    "--checkpoint-steps 20 --optim.warmup-epochs 0.5 --views.local-views 1 --views.global-px 14 "
    "--views.local-px 7 --model.width 12 --model.depth 2 --model.heads 2 --head.hidden 16 "
    "--head.bottleneck 8 --head.prototypes 16 --device cpu --stall-s 30"
).split()
"""Options of a run with steps of milliseconds: 10 steps an epoch, 200 in all."""


def image_set(folder: Path) -> Path:
    """Build the training set of the drills."""
    np.save(folder / "images.npy", random_images(IMAGES, 14))
    out = folder / "shards"
    build(
        BuildRequest(
            source="npy",
            src=folder / "images.npy",
            split="train",
            out=out,
            size_px=14,
            shard_samples=50,
        )
    )
    return out


class Trainers:
    """Starts trainers, one job at a time (see trainer_child.py)."""

    def __init__(self, folder: Path) -> None:
        """Start the server; jobs work in `folder`."""
        self._folder = folder
        self._shards = image_set(folder)

    def start(
        self, name: str, *options: str, ranks: int = 0, new_faults: bool = True, **faults: Any
    ) -> Running:
        """Start or resume the run `name`; `faults` as in trainer_child.py."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        if new_faults:
            for marker in folder.glob("signal-*"):
                marker.unlink()
        argv = ["demo-cpu", "--in-dist", str(self._shards), "--out", str(folder / "run"), *TINY]
        job: dict[str, Any] = {
            "entry": "tests.faults.trainer_child:train_in_drill",
            "argv": [*argv, *options],
            "ranks": ranks,
            "folder": str(folder),
            "output": str(folder / "output.txt"),
            **faults,
        }
        (folder / "output.txt").write_text("")
        return Running(folder, job["argv"], server().start(job), server())

    def __enter__(self) -> Trainers:
        """Return the trainers, for a `with` block."""
        return self

    def __exit__(self, *error: object) -> None:
        """End a job that nobody has waited for."""
        server().abandon()


class Running:
    """A running job: one process, or torchrun with its ranks."""

    def __init__(self, folder: Path, argv: list[str], pid: int, server: ForkServer) -> None:
        """Describe a job of the run in `folder`, with the command line `argv`."""
        self.folder, self.argv, self.pid, self._server = folder, argv, pid, server

    def wait(self) -> int:
        """Wait for it; return its exit status, or minus the number of the signal that ended it."""
        return self._server.wait()

    @property
    def output(self) -> str:
        """The text that all its processes have printed."""
        return (self.folder / "output.txt").read_text("utf-8", "replace")

    def pid_of(self, rank: int) -> int:
        """Return the process id of a rank."""
        return int((self.folder / f"pid-{rank}").read_text())

    def sent_s(self, number: int) -> float:
        """Wait until the job's signal `number` is sent; return the time, as by time.time()."""
        marker = self.folder / f"signal-{number}"
        return float(
            wait_until(
                lambda: marker.exists() and marker.read_text(), f"signal {number}: {self.output}"
            )
        )


def seconds_to_end(pid: int, since_s: float) -> float:
    """Wait until a process has ended; return the seconds since `since_s` (time.time())."""

    def has_ended() -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, IndexError):
            state = "gone"
        return state in ("gone", "Z", "X")

    wait_until(has_ended, f"the end of process {pid}")
    return time.time() - since_s


def losses(run: Path) -> list[tuple[int, float]]:
    """Return step and loss of each line of metrics.jsonl."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def ids_by_step(folder: Path, ranks: int = 1) -> dict[int, set[tuple[int, ...]]]:
    """Return the global batches that were started at each step, over all starts of the run.

    There should be one for each step. The parts of the ranks are joined in their order.
    """
    parts = [steps_of(folder, rank) for rank in range(ranks)]
    batches: dict[int, set[tuple[int, ...]]] = defaultdict(set)
    for rank, notes in enumerate(parts):
        width = BATCH // ranks
        for note in notes:
            if "ids" in note:
                batches[note["step"]].add((rank * width, *note["ids"]))
    return batches


def steps_of(folder: Path, rank: int) -> list[dict[str, Any]]:
    """Read the notes of a rank about its steps; a line that a kill has cut is left out."""
    lines = (folder / f"steps-{rank}.jsonl").read_text().splitlines()
    notes = []
    for line in lines:
        try:
            notes.append(json.loads(line))
        except ValueError:
            continue
    return notes


def difference(ours: Path, theirs: Path, step: int) -> str:
    """Name the first difference of two runs, a loss or a tensor of a checkpoint; empty if equal."""
    if losses(ours) != losses(theirs):
        pairs = zip(losses(ours), losses(theirs), strict=False)
        return f"losses {next((p for p in pairs if p[0] != p[1]), 'of other steps')}"
    here, there = tensors_of(ours, step), tensors_of(theirs, step)
    if here.keys() != there.keys():
        return f"tensors {here.keys() ^ there.keys()}"
    unequal = [name for name, value in here.items() if not _equal(value, there[name])]
    if unequal:
        return f"{unequal}"
    states = [
        json.loads((run / "checkpoints" / f"step-{step:08d}" / "state.json").read_text())
        for run in (ours, theirs)
    ]
    for name in ("train", "loader"):
        if states[0][name] != states[1][name]:
            return f"state.json: {name}"
    return ""


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return True if the bits are equal: a NaN equals itself, and 0 is not -0."""
    return a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()


def seen_once(batches: Mapping[int, set[tuple[int, ...]]], steps: int) -> bool:
    """Return True if each step had one batch, and each epoch had each image once."""
    if sorted(batches) != list(range(steps)):
        return False
    ids = [[i for part in batches[step] for i in part[1:]] for step in range(steps)]
    epochs = [ids[start : start + EPOCH_STEPS] for start in range(0, steps, EPOCH_STEPS)]
    return all(sorted(sum(epoch, [])) == list(range(IMAGES)) for epoch in epochs)
