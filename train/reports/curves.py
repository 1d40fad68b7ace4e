"""RUN/curves.png: how a run learned, from its metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

PANELS: Mapping[str, Mapping[str, str]] = {
    "loss [nats]": {"positive": "L_pos", "negative_kl": "L_neg - ln K", "kl": "KL to the teacher"},
    "entropy [nats]": {
        "teacher_entropy": "teacher",
        "positive_entropy": "student, positives",
        "negative_entropy": "student, negatives",
    },
    "prototypes in use": {"occupied": "of K"},
    "spread of the features": {"spread": "0: all alike"},
}
"""Axis, and what it shows by its name in metrics.jsonl."""


def draw_curves(reports: Sequence[Mapping[str, Any]], prototypes: int, out: Path) -> None:
    """Draw the reports of a run, one or more lines of metrics.jsonl, as a PNG; dotted: ln K."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (label, lines) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for name, legend in lines.items():
            if name in reports[-1]:
                steps, values = _line(reports, name)
                only_one = "." if len(steps) == 1 else ""  # which makes no line
                axes.plot(steps, values, label=legend, linewidth=1.2, marker=only_one)
        if label.endswith("[nats]"):
            axes.axhline(math.log(prototypes), color="gray", linestyle=":", label="ln K")
        axes.set(xlabel="step", ylabel=label, ylim=(0, None))
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    for report in reports:
        for axes in figure.axes if report.get("warnings") else ():
            axes.axvline(report["step"], color="red", alpha=0.3, linewidth=0.8)
    figure.savefig(out, dpi=110)


def _line(reports: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values, without those of reports that had none."""
    found = [(report["step"], report[name]) for report in reports if report.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]
