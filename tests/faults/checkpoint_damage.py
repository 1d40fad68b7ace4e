"""C2: flipped bits and cuts in every file of the newest checkpoint.

Each causes a warning, and the checkpoint before it is used. A long run tries every bit of
COMPLETE.json.
"""

from __future__ import annotations

import collections
import contextlib
import io
from pathlib import Path
from typing import Any

import torch

from dali_pipes.batch import ViewSpec
from tests.faults.trial import Trial
from train.checkpoint import Snapshot, latest_checkpoint
from train.config import HeadConfig, ModelConfig, RunConfig
from train.state import TrainState

CPU = torch.device("cpu")


def drill(trial: Trial) -> dict[str, object]:
    """Damage a file, look for the newest checkpoint, repair the file; for many kinds of damage."""
    run = trial.folder / "run"
    config, state = tiny_run(run)
    for step in (1, 2):
        state.step = step
        Snapshot.of(state, {"step": step, "manifests": {}}, config).write(config)
    newest = run / "checkpoints" / "step-00000002"
    rng, tally = trial.rng(), collections.Counter()
    for path in sorted(newest.iterdir()):
        whole = path.read_bytes()
        bits = rng.choice(8 * len(whole), min(8 * len(whole), trial.count(40, 240)), replace=False)
        if path.name == "COMPLETE.json" and trial.is_long:
            bits = range(8 * len(whole))
        for bit in map(int, bits):
            broken = bytearray(whole)
            broken[bit // 8] ^= 1 << bit % 8
            path.write_bytes(broken)
            tally["flips"] += refused(trial, run, newest, f"{path.name}: bit {bit} flipped")
        for length in {
            0,
            len(whole) - 1,
            *rng.integers(0, len(whole), trial.count(8, 40)).tolist(),
        }:
            path.write_bytes(whole[:length])
            tally["cuts"] += refused(trial, run, newest, f"{path.name}: cut to {length}")
        path.write_bytes(whole + b"\n")
        tally["grown"] += refused(trial, run, newest, f"{path.name}: a line longer")
        path.unlink()
        tally["gone"] += refused(trial, run, newest, f"{path.name}: gone")
        path.write_bytes(whole)
        found = latest_checkpoint(run)
        trial.expect(found and found.step == 2, f"{path.name}: mended and yet refused")
    return {"tried": trial.checks - 4, "refused": sum(tally.values()), **tally}


def tiny_run(out: Path, **changes: Any) -> tuple[RunConfig, TrainState]:
    """Return a run with small checkpoints, and a state with moments of the optimizer."""
    config = RunConfig(
        in_dist=Path("unused"),
        out=out,
        views=ViewSpec(global_px=8, local_px=4),
        model=ModelConfig(patch_px=4, width=4, depth=1, heads=2),
        head=HeadConfig(prototypes=4, hidden=4, bottleneck=4),
        **changes,
    )
    state = TrainState.start(config, CPU)
    for parameter in state.student.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    return config, state


def refused(trial: Trial, run: Path, newest: Path, what: str) -> bool:
    """Check that the newest checkpoint is skipped with a warning and the one before is used."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        found = latest_checkpoint(run)
    aloud = said.getvalue().startswith(f"warning: {newest} is skipped: ")
    holds = found is not None and found.step == 1 and aloud
    return trial.expect(holds, f"{what}: used {found}; said {said.getvalue()!r}")
