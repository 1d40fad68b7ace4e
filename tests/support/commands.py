"""Commands of the project, and functions on several ranks, in processes of their own."""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.support.fork_server import ForkServer, run_as_python
from tests.support.paths import ROOT
from tests.support.waiting import LIMIT_S


@functools.cache
def server() -> ForkServer:
    """The server of this test process."""
    started = ForkServer()
    atexit.register(started.close)
    return started


def run_job(entry: str, **job: Any) -> subprocess.CompletedProcess[str]:
    """Run a job of the fork server (see fork_server.py), in this process's environment."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("output", "errors")]
        paths = {"output": str(files[0]), "errors": str(files[1])}
        environment = {**os.environ, **job.pop("environment", {})}
        server().start({"entry": entry, "environment": environment, **paths, **job})
        status = server().wait()
        texts = (file.read_text(errors="replace") for file in files)
        return subprocess.CompletedProcess([entry], status, *texts)


def run_command(
    *arguments: object, ranks: int = 0, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` (a script, or `-m` and a module) in a forked process.

    With `ranks`, under torchrun. What has to hold before anything is imported is for `run_anew`.
    """
    return run_job(
        f"{__name__}:command",
        argv=[*map(str, arguments)],
        ranks=ranks,
        cwd=str(cwd),
        environment=dict(env or {}),
    )


def command(job: Mapping[str, Any]) -> None:
    """The entry of `run_command`: what Python does with these arguments."""
    run_as_python(job["argv"])


def run_anew(
    *arguments: object, ranks: int = 0, cwd: Path = ROOT, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command of this Python as a user starts it, under torchrun if there are `ranks`.

    It imports everything anew, which takes seconds. The project is not on its path.
    """
    launcher = [sys.executable]
    if ranks:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [*launcher, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def on_ranks(function: Callable[..., None], *arguments: Any, ranks: int) -> None:
    """Call `function(rank, *arguments)` in `ranks` processes, which are joined by gloo.

    The function is one of a module's own, and its arguments can be written as JSON.
    """
    with tempfile.TemporaryDirectory() as folder:
        ended = run_job(
            f"{__name__}:call",
            function=[function.__module__, function.__qualname__],
            arguments=arguments,
            ranks=ranks,
            cwd=folder,
        )
    assert ended.returncode == 0, ended.stderr


def call(job: Mapping[str, Any]) -> None:
    """The entry of `on_ranks`."""
    module, name = job["function"]
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        getattr(importlib.import_module(module), name)(dist.get_rank(), *job["arguments"])
    finally:
        dist.destroy_process_group()
