"""The reports of a run: as progress line, as line of metrics.jsonl, and for TensorBoard.

The values of a step stay on the device and are summed there. The host waits for them only when it
reports.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from shards.disk.file_system import naming
from shards.disk.publish import replace_file
from shards.terminal.console import Terminal
from shards.terminal.progress import progress_bar
from train.config import RunConfig
from train.metrics import (
    DATA_WAIT_PCT,
    ETA_S,
    IMAGES_PER_S,
    LOSS,
    NEGATIVE_KL,
    OCCUPIED,
    POSITIVE,
    SKIPPED,
    SPREAD,
    TEACHER_ENTROPY,
)
from train.state import TrainState
from train.step import StepResult
from train.watch.collapse import Health
from train.world import World

METRICS_FILE_NAME = "metrics.jsonl"


class Meters:
    """The values of the steps since the last report, and the files of the reports.

    Only the main rank writes files.
    """

    def __init__(
        self, config: RunConfig, world: World, state: TrainState, total_steps: int
    ) -> None:
        """Continue the reports from `state.step`. Remove later reports, whose steps were lost."""
        self._world = world
        self._step = state.step
        self._total_steps = total_steps
        self._global_batch = config.global_batch
        self._names: list[str] = []
        self._told: set[str] = set()
        self._start_window()
        if world.is_main:
            self._path = config.out / METRICS_FILE_NAME
            self._file = _reopen(self._path, state.step)
            self._tensorboard = SummaryWriter(
                str(config.out / "tensorboard"), purge_step=state.step + 1
            )
            self._progress = progress_bar(Terminal(), transient=False)
            self._task = self._progress.add_task(
                "step", total=total_steps, completed=state.step, note=""
            )
            self._progress.start()

    def _start_window(self) -> None:
        self._sums: Tensor | float = 0.0
        self._steps = 0
        self._wait_s = 0.0
        self._since_s = time.perf_counter()

    def add(self, result: StepResult, wait_s: float) -> None:
        """Add one step, and the time that the host waited for its views.

        On a GPU the host runs ahead of the device. A wait costs nothing while the device still has
        steps to do; the host's own wait is what is reported.
        """
        self._names = list(result.values)
        self._sums = self._sums + torch.stack([result.counted, *result.values.values()])
        self._steps += 1
        self._step += 1
        self._wait_s += wait_s
        if self._world.is_main:
            self._progress.advance(self._task)

    def report(self, extra: Mapping[str, float], health: Health) -> None:
        """Write the means since the last report, over the steps that were not skipped."""
        assert isinstance(self._sums, Tensor)
        counted, *sums = self._sums.tolist()
        spent_s = time.perf_counter() - self._since_s
        rate = self._steps / spent_s
        values = {
            "step": self._step,
            **{
                name: value / counted if counted else math.nan
                for name, value in zip(self._names, sums, strict=True)
            },
            **extra,
            SKIPPED.key: self._steps - counted,
            IMAGES_PER_S.key: rate * self._global_batch,
            DATA_WAIT_PCT.key: 100 * self._wait_s / spent_s,
            ETA_S.key: (self._total_steps - self._step) / rate,
        }
        self._start_window()
        if self._world.is_main:
            self._write(values, health.look(values))

    def close(self) -> None:
        """Finish the files and the progress bar."""
        if self._world.is_main:
            self._progress.stop()
            self._file.close()
            self._tensorboard.close()

    def _write(self, values: Mapping[str, float], warnings: Mapping[str, str]) -> None:
        line = {**values, "warnings": warnings} if warnings else values
        # NaN, which a report without a finite step has, is not valid JSON.
        finite = {k: None if v != v else v for k, v in line.items()}
        with naming(self._path):
            self._file.write(json.dumps(finite) + "\n")
            self._file.flush()
        for name, value in values.items():
            if name != "step":
                self._tensorboard.add_scalar(name, value, self._step)
        for kind, text in warnings.items():
            self._tensorboard.add_text(f"warnings/{kind}", text, self._step)
            if kind not in self._told:  # only when it appears
                self._progress.console.print(f"warning: step {self._step}: {text}", soft_wrap=True)
        self._told = set(warnings)
        shown = progress_line(values)
        if self._progress.disable:
            eta = f"{values[ETA_S.key] / 60:.1f} min left"
            print(f"step {self._step}/{self._total_steps}  {shown}  {eta}", flush=True)
        else:
            self._progress.update(self._task, note=shown)


def reports_of(path: Path) -> list[dict[str, Any]]:
    """Read the reports in a metrics.jsonl. An incomplete last line is left out.

    A run that is training, or was killed, may have written a part of its last line.
    """
    reports = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        with contextlib.suppress(ValueError):
            report = json.loads(line)
            if line.endswith("\n"):
                reports.append(report)
    return reports


def progress_line(values: Mapping[str, float]) -> str:
    """Return the values that a person watches, as one line of text."""
    negative = ""
    if NEGATIVE_KL.key in values:
        negative = f"  L_neg-lnK {values[NEGATIVE_KL.key]:.4f}"
    return (
        f"loss {values[LOSS.key]:.4f}  L_pos {values[POSITIVE.key]:.4f}{negative}  "
        f"H_t {values[TEACHER_ENTROPY.key]:.2f}  spread {values[SPREAD.key]:.2f}  "
        f"prototypes {values[OCCUPIED.key]:.0f}  "
        f"{values[IMAGES_PER_S.key]:.0f} img/s  data wait {values[DATA_WAIT_PCT.key]:.1f}%"
    )


def _reopen(path: Path, first_step: int):
    """Open a metrics.jsonl to append, without incomplete lines and lines after `first_step`."""
    kept = [report for report in reports_of(path) if report["step"] <= first_step]
    replace_file(path, [(json.dumps(report) + "\n").encode() for report in kept])
    return path.open("a")
