"""RUN/README.md and its picture: what was run, how it ended, how to go on and to score with it."""

from __future__ import annotations

import json
import shlex
import sys

from train.config import RunConfig
from train.curves import draw_curves
from train.meters import METRICS_FILE_NAME
from train.state import TrainState
from train.world import World

CURVES = "curves.png"
SHOWN = (
    "loss positive negative_kl teacher_entropy kl occupied spread skipped images_per_s "
    "data_wait_pct"
).split()
"""Values of the last report that the notes show."""


def write_notes(config: RunConfig, world: World, state: TrainState, total_steps: int) -> None:
    """Write, or replace, the files."""
    draw_curves(config.out / METRICS_FILE_NAME, config.head.prototypes, config.out / CURVES)
    path = config.out / "README.md"
    partial = path.with_suffix(".partial")
    partial.write_text(notes(config, world, state, total_steps))
    partial.replace(path)


def notes(config: RunConfig, world: World, state: TrainState, total_steps: int) -> str:
    """The text, in Markdown."""
    reports = (config.out / METRICS_FILE_NAME).read_text().splitlines()
    last = json.loads(reports[-1])
    warnings = [text for line in reports for text in json.loads(line).get("warnings", ())]
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
    ranks = f"--nproc-per-node {world.world_size} " if world.world_size > 1 else ""
    launcher = f"torchrun {ranks}" if ranks else "python "
    rows = [
        ("images", f"`{config.in_dist}`" + (f", auxiliary `{config.aux}`" if config.aux else "")),
        ("negatives", negatives),
        ("network", f"{network}; {config.head.prototypes} prototypes"),
        ("views", f"{config.views.global_px} and {config.views.local_px} px"),
        ("steps", f"{state.step} of {total_steps}, {config.global_batch} images each"),
        ("ranks", f"{world.world_size} ({world.device.type}, {config.precision})"),
        *((name, f"{last[name]:.4g}") for name in SHOWN if last.get(name) is not None),
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
            f"![Curves]({CURVES})",
            "",
            "## Warnings of the health monitor",
            "",
            *([f"- {text}" for text in dict.fromkeys(warnings)] or ["None."]),
            "",
            "## Score with it",
            "",
            f"    python eval/score.py {shlex.quote(str(config.out))} "
            f"--in-dist-train {shlex.quote(str(config.in_dist))} --in-dist-test DIR "
            f"--ood DIR [DIR ...] --out DIR",
            "",
            "## Made by" if finished else "## Go on with",
            "",
            f"    {launcher}{shlex.join(sys.argv)}",
            "",
        ]
    )
