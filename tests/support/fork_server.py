"""A process that has the project imported and forks one for each job: a start costs no seconds.

`python -m tests.support.fork_server` reads jobs, one JSON line each, and answers each with the
number of the process and, when that has ended, with its status. A job runs `entry`, a function
`module:name` that gets the job; with `ranks`, torchrun forks that many, and starts everything else
as it does for a user. Nothing is computed before a fork: torch's threads would be missing after it.

    {"entry": "tests.support.commands:command", "ranks": 0, "cwd": ..., "environment": {...},
     "output": path, "errors": path, ...}
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

Job = Mapping[str, Any]
IMPORTED = (
    "eval.detector eval.score_images eval.score_sets eval.onnx_export.bank_compression "
    "shards.info shards.overlap shards.sets shards.verify torch.distributed.run train.training "
    "dali_pipes.product.engine"
).split()
"""Modules that a child finds imported. DALI and onnxruntime are not among them, because they start
threads."""
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class ForkServer:
    """A server, and the job that it runs: one at a time."""

    def __init__(self) -> None:
        """Start it; that takes as long as importing torch."""
        self._job = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server"],
            cwd=ROOT,
            # One thread: those that torch would start for more are missing after a fork.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, job: Job) -> int:
        """Start a job; returns the number of its process."""
        assert self._process.stdin is not None
        umask = os.umask(0)
        os.umask(umask)
        print(json.dumps({**job, "umask": umask}), file=self._process.stdin, flush=True)
        self._job = self._answer()
        return self._job

    def wait(self) -> int:
        """Wait for the job; returns its exit status, or minus the signal that ended it."""
        status = self._answer()
        self._job = 0
        return status

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def abandon(self) -> None:
        """Kill a job that nobody has waited for: it may be a stopped one."""
        if self._job:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._job, signal.SIGKILL)
            self.wait()

    def close(self) -> None:
        """End the server and its job."""
        self.abandon()
        self._process.communicate()


# ---- in the server ---------------------------------------------------------------------------


def main() -> None:
    """Serve until there are no more jobs."""
    # DALI cannot be imported meanwhile, which shows that none of these modules needs it.
    dali = dict.fromkeys(("nvidia", "nvidia.dali"))
    sys.modules.update(dali)  # type: ignore[arg-type]
    for module in IMPORTED:
        importlib.import_module(module)
    for name in dali:
        del sys.modules[name]
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if not pid:
            in_child(lambda job=job: _start(job))
        _answer(pid)
        _, status = os.waitpid(pid, 0)
        _answer(os.waitstatus_to_exitcode(status))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def in_child(body: Callable[[], object]) -> None:
    """Run `body` in a forked process, and end the process as Python ends one."""
    status = 1
    try:
        body()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(status)


def run_as_python(arguments: Sequence[str]) -> None:
    """Do in this process what `python ARGUMENTS` does with a script, or with `-m` and a module."""
    first, *rest = arguments
    if first == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        sys.modules.pop(rest[0], None)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [first, *rest], str(Path(first).absolute().parent)
        runpy.run_path(first, run_name="__main__")


def _start(job: Job) -> None:
    """Run a job in this process, or torchrun with its ranks."""
    os.setsid()
    # Whoever runs the tests in the background lets them ignore these.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in ((1, job["output"]), (2, job.get("errors", job["output"]))):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(job.get("cwd", ROOT))
    os.umask(job["umask"])
    tempfile.tempdir = None  # which may be known from another environment
    if "environment" in job:
        os.environ.clear()
        os.environ.update(job["environment"], OMP_NUM_THREADS="1")
    module, _, name = job["entry"].partition(":")
    entry = getattr(importlib.import_module(module), name)
    if not job.get("ranks"):
        entry(job)
        return

    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    forked = functools.partial(_Forked, lambda: entry(job))
    subprocess_handler.Popen = forked  # type: ignore[misc,assignment]
    torchrun.main(
        ["--standalone", f"--nproc-per-node={job['ranks']}"]
        + [f"--max-restarts={job.get('restarts', 0)}", job["entry"]]
    )


class _Forked:
    """What torchrun uses of `subprocess.Popen`, with a fork for a start."""

    def __init__(
        self, body: Callable[[], object], args: object, env: Mapping[str, str], **_: object
    ) -> None:
        self.args, self.returncode = args, None
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            os.closerange(3, 4096)  # torchrun's sockets, whose end would not be seen otherwise
            for number in HANDLED:
                signal.signal(number, signal.SIG_DFL)
            os.environ.clear()
            os.environ.update(env)
            in_child(body)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 1e9) -> int | None:
        until_s = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < until_s:
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


if __name__ == "__main__":
    main()
