"""report.html: one scoring on one page, which needs a browser and no network connection.

The page shows the headline and the facts that speak against it, the tables, and the curves. For
each set it shows the images with the highest and the lowest scores, with their nearest training
images. Training, shortcuts and provenance follow. Style, drawings and images are in the file. There
are no scripts, and the page has a content security policy that forbids to load or run anything.
Every text from outside (names of files, classes, folders) is escaped.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from torch import Tensor

from dali_pipes.view_sheets import Column
from eval.audits.shortcuts import ALONE, STATISTICS, is_shortcut
from eval.report import figures, text
from eval.report.findings import Watch, findings
from eval.report.gallery import Gallery, Picture, picture
from eval.results.collect import Scores
from eval.results.scoring import Scoring
from eval.results.tables import sheet_of, table_of_scores
from eval.sets.opening import MEAN, TEST
from shards.reader import ShardSet
from train.metrics import NATS, PANELS, Metric
from train.reports.curves import line_of

TEMPLATE = "page.html.jinja"
LEARNING_RATE = {"learning rate": (Metric("lr", label=""),)}
"""Panel of the learning rate, in the form of `PANELS`."""
ROC_CORNER = 0.25
"""Side of the upper left part of the ROC curves, in [0, 1]. This part is drawn a second time,
enlarged."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that a report shows. The page leaves out a part if its data is missing."""

    scoring: Scoring
    scores: Scores
    """Scores of the headline: in-dist-test, then each OOD set."""
    test_ids: NDArray[np.int64] | None = None
    """Ids of the test images in `scores`, int64 [n]. None for all images of the test set."""
    sets: Mapping[str, ShardSet]
    """The open shard sets: the bank and the sets of `scores`. Empty if there are only features."""
    features: Mapping[str, Tensor] | None = None
    """Features of each set in `sets` from the headline's network, float32 [N, d], on one device.
    None if no neighbours are shown."""
    reports: Sequence[Mapping[str, Any]] = ()
    """Lines of the run's metrics.jsonl."""
    unseen_steps: int | None = None
    """The last step at which the monitor did not look for collapse (`train/watch/collapse.py`).
    None if it is not known."""
    run_config: Mapping[str, Any] | None = None
    """Content of the run's config.json. None if no run was scored."""
    views: Sequence[Column] = field(default_factory=list)
    """Views and negatives as the network saw them in training. See `eval.report.views`."""


@dataclass(frozen=True)
class Panel:
    """One chart of the training."""

    label: str
    chart: Markup
    legend: Sequence[tuple[str, str]]
    """CSS class and meaning of each line."""


def write_report(path: Path, data: ReportData) -> None:
    """Write the page. Equal data gives equal bytes.

    Raises:
        UserError: an image cannot be read.
    """
    # The name of a folder may hold bytes that are not valid UTF-8.
    path.write_text(page(data), encoding="utf-8", errors="backslashreplace")


def page(data: ReportData) -> str:
    """Return the page as text.

    Raises:
        UserError: see `write_report`.
    """
    environment = Environment(
        loader=PackageLoader("eval.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": text.percent,
        "between": text.between,
        "score": text.score_text,
        "column": text.column_label,
    }
    scoring = data.scoring
    names, columns = scoring.ood_names, scoring.headline_columns
    gallery = Gallery(data.sets, data.features)
    lowest = min(column.auroc.low for column in columns.values())
    edges = figures.histogram_edges(data.scores)
    shortcuts = scoring.shortcuts or {}
    return environment.get_template(TEMPLATE).render(
        scoring=scoring,
        provenance=scoring.provenance,
        columns=columns,
        headline=columns[MEAN].auroc,
        labels={column: text.column_label(column) for column in columns},
        meaning=text.meaning(scoring),
        sight=text.sight_rows(scoring.ensemble),
        found=findings(scoring, data.reports, data.unseen_steps),
        names=names,
        scale_start=min(0.9, math.floor(10 * lowest) / 10),
        tables=sheet_of(scoring).tables[:-1],
        more_tables=[
            table_of_scores(scoring, key)
            for key, method in scoring.methods.items()
            if key != scoring.headline and len(method.scores) > 1
        ],
        rocs=[figures.roc_chart(data.scores, part) for part in (1, ROC_CORNER)],
        legend=[(figures.line_class(i), name) for i, name in enumerate(names)],
        histograms=[
            (
                name,
                figures.histogram(
                    f"Scores of {name} and of in-distribution test images",
                    edges,
                    data.scores[TEST],
                    data.scores[name],
                ),
            )
            for name in names
        ],
        ends={
            name: gallery.ends(name, scores, data.test_ids if name == TEST else None)
            for name, scores in data.scores.items()
            if data.sets
        },
        has_neighbours=data.features is not None,
        training=training_panels(data.reports, data.run_config),
        last_report=data.reports[-1] if data.reports else None,
        watch=Watch.of(data.reports, data.unseen_steps),
        views=view_rows(data.views),
        shortcuts=shortcuts,
        statistics={
            key: statistic
            for key, statistic in STATISTICS.items()
            if any(key in found for found in shortcuts.values())
        },
        alone=ALONE,
        is_shortcut=is_shortcut,
        probes=text.probe_facts(scoring.probes, scoring.counts[TEST]),
        facts=text.provenance_facts(scoring),
        command=shlex.join(["python", "eval/score.py", *scoring.command]),
        config=json.dumps(data.run_config, indent=1) if data.run_config is not None else None,
        test=TEST,
    )


def training_panels(
    reports: Sequence[Mapping[str, Any]], run_config: Mapping[str, Any] | None
) -> list[Panel]:
    """Return the charts of the training. Metrics that no report has are left out.

    Args:
        reports: lines of the run's metrics.jsonl.
        run_config: content of the run's config.json. None if it is not known.
    """
    warned = [report["step"] for report in reports if report.get("warnings")]
    ln_k = math.log(run_config["head"]["prototypes"]) if run_config else None
    panels = []
    for label, metrics in {**PANELS, **LEARNING_RATE}.items():
        lines: list[Any] = []
        legend: list[tuple[str, str]] = []
        for metric in metrics:
            steps, values = (np.array(part, np.float64) for part in line_of(reports, metric))
            finite = np.isfinite(values)
            if finite.any():
                legend.append((figures.line_class(len(lines)), metric.label))
                lines.append((steps[finite], values[finite]))
        if lines:
            level = ln_k if metrics[0].unit == NATS else None
            if level is not None:
                legend.append(("guide", f"ln K = {level:.2f}"))
            chart = figures.training_chart(label, lines, warned, level)
            panels.append(Panel(label, chart, legend))
    return panels


def view_rows(columns: Sequence[Column]) -> tuple[list[str], list[list[Picture]]]:
    """Return titles of the columns of views, and rows of pictures, one row per image."""
    pictures = [[picture(image) for image in images] for _, images in columns]
    return [title for title, _ in columns], [list(row) for row in zip(*pictures, strict=True)]
