"""C5: a run that is training removes checkpoints, slowly, while another process reads them.

The reader always gets a whole checkpoint, and never an earlier step than before.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from unittest import mock

import torch

from shards.errors import UserError
from tests.faults.checkpoint_damage import CPU, tiny_run
from tests.faults.trial import Trial
from train.checkpoint import COMPLETE, Snapshot
from train.teacher import load_teacher


def drill(trial: Trial) -> dict[str, object]:
    """Save checkpoints, keeping one, while another thread loads them."""
    saves = trial.count(100, 500)
    config, state = tiny_run(trial.folder / "run", keep_checkpoints=1)

    def save(step: int) -> None:
        state.step = step
        for tensor in state.network_tensors().values():
            tensor.fill_(step)
        Snapshot.of(state, {"step": step, "manifests": {}}, config).write(config)

    save(1)
    finished = threading.Event()

    def save_all() -> None:
        try:
            for step in range(2, saves + 1):
                save(step)
        finally:
            finished.set()

    loads, last = 0, 0
    with mock.patch("train.checkpoint.shutil.rmtree", slowly_remove):
        writer = threading.Thread(target=save_all)
        writer.start()
        while not finished.is_set():
            try:
                loaded = load_teacher(trial.folder / "run", CPU)
            except (UserError, OSError) as error:
                trial.expect(False, f"load {loads}, after step {last}: {error}")
                continue
            tensors = loaded.backbone.state_dict().values()
            values = torch.cat([tensor.flatten() for tensor in tensors])
            holds = bool((values == loaded.step).all()) and loaded.step >= last
            trial.expect(holds, f"load {loads}: step {loaded.step} after {last}, values {values}")
            loads, last = loads + 1, loaded.step
        writer.join()
    left = [path.name for path in (trial.folder / "run" / "checkpoints").iterdir()]
    trial.expect(left == [f"step-{saves:08d}"], f"left: {left}")
    trial.expect(loads > saves // 20, f"only {loads} loads")
    return {"saves": saves, "loads": loads}


def slowly_remove(directory: Path) -> None:
    """Remove a checkpoint like a slow disk: COMPLETE.json last."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name == COMPLETE):
        time.sleep(0.003)
        path.unlink()
    directory.rmdir()
