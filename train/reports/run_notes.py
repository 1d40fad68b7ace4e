"""README.md, curves.png and command.json of a run: settings, last metrics, commands to go on."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from shards.disk.publish import replace_file
from train.config import RunConfig
from train.launch import read_launch
from train.metrics import (
    DATA_WAIT_PCT,
    IMAGES_PER_S,
    KL,
    LOSS,
    NEGATIVE_KL,
    OCCUPIED,
    POSITIVE,
    SKIPPED,
    SPREAD,
    TEACHER_ENTROPY,
)
from train.reports.curves import draw_curves
from train.reports.meters import METRICS_FILE_NAME, reports_of
from train.run_folder import README, write_command
from train.state import TrainState
from train.watch.collapse import looked_for_collapse, looks_after_step
from train.world import World

CURVES = "curves.png"
SHOWN = (
    *(LOSS, POSITIVE, NEGATIVE_KL, TEACHER_ENTROPY, KL, OCCUPIED, SPREAD, SKIPPED),
    *(IMAGES_PER_S, DATA_WAIT_PCT),
)
"""Metrics of the last report that the notes show."""


def write_notes(config: RunConfig, world: World, state: TrainState, total_steps: int) -> None:
    """Write or replace README.md, curves.png and command.json in the folder of the run."""
    reports = reports_of(config.out / METRICS_FILE_NAME)
    if reports:
        draw_curves(reports, config.head.prototypes, config.out / CURVES)
    command = command_words(world)
    write_command(config.out, command)
    text = notes(config, world, state, total_steps, reports, command)
    replace_file(config.out / README, [text.encode(errors="surrogateescape")])


def command_words(world: World) -> list[str]:
    """Return the words of the shell command that started this process and the other ranks."""
    if not world.under_torchrun:
        return ["python", *sys.argv]
    launch = read_launch()
    words = ["torchrun", "--nproc-per-node", str(launch.local_world_size)]
    if launch.machines > 1:
        words += ["--nnodes", str(launch.machines)]
        words += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "HOST:PORT"]
    return [*words, *sys.argv]


def notes(
    config: RunConfig,
    world: World,
    state: TrainState,
    total_steps: int,
    reports: Sequence[Mapping[str, Any]],
    command: Sequence[str],
) -> str:
    """Return the text of README.md, in Markdown."""
    last = reports[-1] if reports else {}
    told: dict[str, list[tuple[int, str]]] = {}
    for report in reports:
        for kind, text in report.get("warnings", {}).items():
            told.setdefault(kind, []).append((report["step"], text))
    warnings = [
        f"- {kind}, {len(found)} times from step {found[0][0]} to {found[-1][0]}: {found[-1][1]}"
        for kind, found in told.items()
    ]
    last_step = last.get("step", 0)
    unseen = looks_after_step(config, total_steps // config.epochs)
    looked = looked_for_collapse(unseen, last_step) + "."
    if not warnings and last_step > unseen:
        looked = f"None. {looked}"
    model = config.model
    network = (
        f"ViT, {model.depth} blocks of width {model.width}, patches of {model.patch_px} px"
        if model.name == "vit"
        else model.name
    )
    negatives = config.strategy + (
        f", lambda {config.loss.negative_weight:g}" if config.strategy != "none" else ""
    )
    finished = state.step == total_steps
    rows = [
        ("images", f"`{config.in_dist}`" + (f", auxiliary `{config.aux}`" if config.aux else "")),
        ("negatives", negatives),
        ("network", f"{network}; {config.head.prototypes} prototypes"),
        ("views", f"{config.views.global_px} and {config.views.local_px} px"),
        ("steps", f"{state.step} of {total_steps}, {config.global_batch} images each"),
        ("ranks", f"{world.world_size} ({world.device.type}, {config.precision})"),
        *((m.key, f"{last[m.key]:.4g}") for m in SHOWN if last.get(m.key) is not None),
    ]
    return "\n".join(
        [
            f"# A run of oodino, {'finished' if finished else 'stopped before its end'}",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows),
            "",
            "The values are means over the last report's steps; `metrics.jsonl` has all of them, "
            "`config.json` every setting.",
            "",
            *([f"![Curves]({CURVES})", ""] if reports else []),
            "## Warnings of the health monitor",
            "",
            *([*warnings, ""] if warnings else []),
            looked,
            "",
            "## Score with it",
            "",
            f"    python eval/score.py {shlex.quote(str(config.out))} "
            f"--in-dist-train {shlex.quote(str(config.in_dist))} "
            f"--in-dist-test {shlex.quote(str(config.in_dist_test or 'DIR'))} "
            f"--ood DIR [DIR ...] --out DIR",
            "",
            "## Made by" if finished else "## Go on with",
            "",
            f"    {shlex.join(command)}",
            "",
        ]
    )
