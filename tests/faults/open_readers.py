"""R4: a shard that is cut, replaced or removed while it is read.

A cut one is an error of one line that names it, never a signal, and the job runs again when the
shard is as it was. One that was replaced or removed is read on: an open file does not change.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.cases import Builder, npy_source
from tests.faults.trial import Trial
from tests.support.paths import ROOT
from tests.support.waiting import LIMIT_S

READ_ON = """
import hashlib, sys
from pathlib import Path
import numpy as np
from shards.terminal import cli
from shards.reader import ShardSet

def images(shards):
    if sys.argv[2] == "ShardSet":
        for i in range(len(shards)):
            yield shards.read(np.array([i]))
        return
    import torch
    from dali_pipes.batch import ViewSpec
    from dali_pipes.config import LoaderConfig
    from dali_pipes.eval_loader import EvalLoader
    from dali_pipes.loader import TrainLoader
    from dali_pipes.step_plan import StreamOrder
    cpu = torch.device("cpu")
    if sys.argv[2] == "EvalLoader":
        for _, batch in EvalLoader(shards, 6, 4, cpu):
            yield batch.numpy()
    else:
        views = ViewSpec(global_px=8, local_px=6, local_views=1)
        order, config = StreamOrder(4, 0), LoaderConfig("dali")
        loader = TrainLoader(shards, None, views, "none", order, cpu, config)
        for _ in range(loader.steps_per_epoch):
            yield next(loader).global_views.numpy()

def main():
    digest = hashlib.sha256()
    for i, image in enumerate(images(ShardSet.open(Path(sys.argv[1])))):
        digest.update(image.tobytes())
        if i == 1:
            print("reading", flush=True)
            sys.stdin.readline()
    print(digest.hexdigest(), flush=True)

cli.run(main)
"""
READERS = ("ShardSet", "EvalLoader", "TrainLoader")


def drill(trial: Trial) -> dict[str, object]:
    """Change the last shard of a set under each reader."""
    source = npy_source(trial.folder, count=60, shard_samples=20)
    out = trial.folder / "set"
    builder = Builder(trial.folder)
    outcome = builder.run(source.argv(out))
    assert outcome.status == 0, outcome
    tar = sorted(out.glob("*.tar"))[-1]
    whole = tar.read_bytes()
    figures: dict[str, int] = {"cut_is_an_error": 0, "read_on": 0, "runs_after_restore": 0}
    for reader in READERS:
        reference = _read(out, reader, lambda: None)
        trial.expect(reference[0] == 0, f"{reader}: {reference}")
        changes = _changes(tar, whole)
        if reader != "ShardSet" and not trial.is_long:
            changes = changes[:2] + changes[-2:-1]  # importing torch and DALI takes its time
        for name, change, is_cut in changes:
            status, printed, errors, seconds = _read(out, reader, change)
            what = f"{reader}, {name}: status {status}, {errors[-300:]!r}"
            if is_cut:
                is_told = (
                    status == 2
                    and errors.count("\n") == 1
                    and tar.name in errors
                    and "Traceback" not in errors
                )
                figures["cut_is_an_error"] += trial.expect(is_told, what)
                trial.expect(seconds < 10, f"{what}: only after {seconds:.0f} s")
            else:
                is_same = (status, printed) == reference[:2]
                figures["read_on"] += trial.expect(is_same, what)
            tar.unlink(missing_ok=True)
            tar.write_bytes(whole)
        restored = _read(out, reader, lambda: None)
        figures["runs_after_restore"] += trial.expect(
            restored[:2] == reference[:2], f"{reader}, restored: {restored}"
        )
    return dict(figures)


def _changes(tar: Path, whole: bytes) -> list[tuple[str, Callable[[], object], bool]]:
    def replace() -> None:
        other = tar.with_suffix(".new")
        other.write_bytes(bytes(len(whole)))
        os.rename(other, tar)

    return [
        ("cut to nothing", lambda: os.truncate(tar, 0), True),
        ("cut to half", lambda: os.truncate(tar, len(whole) // 2), True),
        ("cut to a part of a header", lambda: os.truncate(tar, 100), True),
        ("rewritten shorter", lambda: tar.write_bytes(whole[: len(whole) // 3]), True),
        ("replaced", replace, False),
        ("removed", tar.unlink, False),
    ]


def _read(out: Path, reader: str, change: Callable[[], object]) -> tuple[int, str, str, float]:
    """Read all of a set; `change` comes after the first images. Status, stdout, stderr, seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", READ_ON, str(out), reader],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    change()
    start_s = time.monotonic()
    try:
        printed, errors = process.communicate("\n", timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        printed, errors = process.communicate()
    return process.returncode, printed, errors, time.monotonic() - start_s
