"""What a run reports: a progress line, metrics.jsonl and TensorBoard, from one dictionary a report.

Values of a step stay on the device and are summed there; the host waits for them only at a report.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from train.world import World

METRICS_FILE_NAME = "metrics.jsonl"


class Meters:
    """Collects the steps between two reports; only the main rank writes."""

    def __init__(
        self, run: Path, world: World, first_step: int, total_steps: int, global_batch: int
    ) -> None:
        """Continue the report of `run` from `first_step`: what a lost continuation wrote goes."""
        self._world = world
        self._step = first_step
        self._total_steps = total_steps
        self._global_batch = global_batch
        self._sums: Tensor | None = None
        self._steps = 0
        self._wait_s = 0.0
        self._since_s = time.perf_counter()
        if world.is_main:
            self._file = _reopen(run / METRICS_FILE_NAME, first_step)
            self._tensorboard = SummaryWriter(str(run / "tensorboard"), purge_step=first_step)
            self._progress = _progress_bar()
            self._task = self._progress.add_task("", total=total_steps, completed=first_step)
            self._progress.start()

    def add(self, values: Mapping[str, Tensor], wait_s: float) -> None:
        """Count one step: its values, scalars on the device, and the host's wait for its views.

        On a GPU the host runs ahead of the device, so a wait that the host does not see, because
        the device still has steps to do, costs nothing; one that it does see is reported.
        """
        self._names = list(values)
        stacked = torch.stack([value.detach() for value in values.values()])
        self._sums = stacked if self._sums is None else self._sums + stacked
        self._steps += 1
        self._step += 1
        self._wait_s += wait_s
        if self._world.is_main:
            self._progress.advance(self._task)

    def report(self, extra: Mapping[str, float]) -> dict[str, float]:
        """Means over the steps and ranks since the last report, written out; all ranks call it."""
        assert self._sums is not None
        means = self._world.mean(self._sums / self._steps).tolist()
        spent_s = time.perf_counter() - self._since_s
        rate = self._steps / spent_s
        values = {
            "step": self._step,
            **dict(zip(self._names, means, strict=True)),
            **extra,
            "images_per_s": rate * self._global_batch,
            "data_wait_pct": 100 * self._wait_s / spent_s,
            "eta_s": (self._total_steps - self._step) / rate,
        }
        self._sums, self._steps, self._wait_s = None, 0, 0.0
        self._since_s = time.perf_counter()
        if self._world.is_main:
            self._write(values)
        return values

    def pause(self, seconds: float) -> None:
        """Leave `seconds` spent on something else, a checkpoint, out of the rates."""
        self._since_s += seconds

    def close(self) -> None:
        """Finish the files and the progress bar."""
        if self._world.is_main:
            self._progress.stop()
            self._file.close()
            self._tensorboard.close()

    def _write(self, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()
        for name, value in values.items():
            if name != "step":
                self._tensorboard.add_scalar(name, value, self._step)
        line = progress_line(values)
        if self._progress.console.is_terminal:
            self._progress.update(self._task, description=line)
        else:
            eta = f"{values['eta_s'] / 60:.1f} min left"
            print(f"step {self._step}/{self._total_steps}  {line}  {eta}", flush=True)


def progress_line(values: Mapping[str, float]) -> str:
    """The values that a person watches."""
    negative = f"  L_neg-lnK {values['negative_kl']:.4f}" if "negative_kl" in values else ""
    return (
        f"loss {values['loss']:.4f}  L_pos {values['positive']:.4f}{negative}  "
        f"{values['images_per_s']:.0f} img/s  data wait {values['data_wait_pct']:.1f}%"
    )


def _progress_bar() -> Progress:
    console = Console()
    return Progress(
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _reopen(path: Path, first_step: int):
    """Open for appending, without the lines past `first_step` and those that were cut short."""
    kept = []
    if path.exists():
        for line in path.read_text().splitlines(keepends=True):
            with contextlib.suppress(ValueError):
                if json.loads(line)["step"] <= first_step and line.endswith("\n"):
                    kept.append(line)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept))
    partial.replace(path)
    return path.open("a")
