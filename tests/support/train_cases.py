"""Runs the trainer's command line in processes of their own."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.support.waiting import LIMIT_S

ROOT = Path(__file__).parents[2]

TINY = (
    "--global-batch 12 --epochs 2 --loader.threads 1 --log-steps 1 --checkpoint-steps 10 "
    "--keep-checkpoints 9 --optim.warmup-epochs 0.5 --loss.negative-weight 0.3 "
    "--views.local-views 2 --model.width 24 --model.depth 2 --head.hidden 32 "
    "--head.bottleneck 16 --head.prototypes 32 --device cpu"
).split()
"""Options that make `demo-cpu` a matter of seconds on 120 images: 10 steps an epoch."""


def run_script(
    *command: str | Path, ranks: int = 0, cwd: Path = ROOT
) -> subprocess.CompletedProcess:
    """A command of this Python, under torchrun if `ranks`; the project is not on its path."""
    launcher = [sys.executable]
    if ranks:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [*launcher, *map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


class TrainerServer:
    """Starts trainers by forking a process that has them imported (tests/faults/trainer_child.py).

    One job at a time.
    """

    def __init__(self) -> None:
        """Start it; that takes as long as importing torch."""
        self._job = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.trainer_child"],
            cwd=ROOT,
            # One thread: those that torch would start for more are missing behind a fork.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, job: dict[str, Any]) -> int:
        """Start a job; the number of its process."""
        assert self._process.stdin is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        self._job = self._answer()
        return self._job

    def wait(self) -> int:
        """The exit status of the job; minus the number of the signal that ended it."""
        status = self._answer()
        self._job = 0
        return status

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the server, and a job that nobody has waited for: it may be a stopped one."""
        if self._job:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._job, signal.SIGKILL)
        self._process.communicate()


@functools.cache
def _server() -> TrainerServer:
    server = TrainerServer()
    atexit.register(server.close)
    return server


def train(in_dist: Path, out: Path, *options: str, ranks: int = 0) -> subprocess.CompletedProcess:
    """`train/main.py demo-cpu` with the tiny options, which `options` override; forked."""
    argv = command_line(in_dist, out, *options)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("output", "errors")]
        job = {"argv": argv, "ranks": ranks, "output": str(files[0]), "errors": str(files[1])}
        _server().start(job)
        status = _server().wait()
        return subprocess.CompletedProcess(argv, status, *(file.read_text() for file in files))


def train_for_real(
    in_dist: Path, out: Path, *options: str, ranks: int = 0
) -> subprocess.CompletedProcess:
    """The same, started as a user does."""
    return run_script(
        ROOT / "train" / "main.py", *command_line(in_dist, out, *options), ranks=ranks
    )


def command_line(in_dist: Path, out: Path, *options: str) -> list[str]:
    """The arguments of `train/main.py`."""
    return ["demo-cpu", "--in-dist", str(in_dist), "--out", str(out), *TINY, *options]


def tensors_of(run: Path, step: int) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {
        f"{name}:{key}": value
        for name in ("networks", "optimizer")
        for key, value in load_file(folder / f"{name}.safetensors").items()
    }
