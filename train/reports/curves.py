"""RUN/curves.png: the metrics of a run over its steps."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from shards.disk.publish import replace_file
from train.metrics import NATS, PANELS, Metric


def draw_curves(reports: Sequence[Mapping[str, Any]], prototypes: int, out: Path) -> None:
    """Draw the metrics of a run as a PNG. A dotted line shows ln K, red lines show warnings.

    Args:
        reports: lines of metrics.jsonl, at least one.
        prototypes: the number K of prototypes.
        out: the PNG file to write.
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (title, metrics) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for metric in metrics:
            if metric.key in reports[-1]:
                steps, values = line_of(reports, metric)
                marker = "." if len(steps) == 1 else ""  # one point makes no line
                axes.plot(steps, values, label=metric.label, linewidth=1.2, marker=marker)
        if metrics[0].unit == NATS:
            axes.axhline(math.log(prototypes), color="gray", linestyle=":", label="ln K")
        axes.set(xlabel="step", ylabel=title, ylim=(0, None))
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    for report in reports:
        for axes in figure.axes if report.get("warnings") else ():
            axes.axvline(report["step"], color="red", alpha=0.3, linewidth=0.8)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    replace_file(out, [png.getvalue()])


def line_of(
    reports: Sequence[Mapping[str, Any]], metric: Metric
) -> tuple[list[float], list[float]]:
    """Return the steps and the values of the reports that have this metric."""
    key = metric.key
    found = [(report["step"], report[key]) for report in reports if report.get(key) is not None]
    return [step for step, _ in found], [value for _, value in found]
