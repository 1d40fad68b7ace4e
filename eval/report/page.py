"""report.html: one scoring in one page that needs nothing but a browser, and no network.

The headline with what speaks against it, the tables, the curves, images at both ends of each set
with their nearest training images, the training, the shortcuts, and what the numbers are of. Style,
drawings and images are in the file; there are no scripts, and the page forbids itself to load or to
run anything. Every text of the user's (names of files, classes, folders) is escaped.
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
from torch import Tensor

from dali_pipes.view_sheets import Column
from eval.audits.shortcuts import ALONE, STATISTICS, is_shortcut
from eval.metrics import METRICS
from eval.report import charts, text
from eval.report.findings import findings, health
from eval.report.gallery import Gallery, Picture, picture
from eval.results.collect import Scores
from eval.results.tables import Row, Table, metric_cells, sheet_of, with_best, without_intervals
from eval.scores.all_scores import HEADLINE, label_of
from eval.sets.opening import TEST
from shards.reader import ShardSet
from train.metrics import NATS, PANELS, Metric
from train.watch.collapse import looked_for_collapse

TEMPLATE = "page.html.jinja"
LEARNING_RATE = {"learning rate": (Metric("lr", label=""),)}
ROC_CORNER = 25
"""Side of what is drawn again, larger, in %."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that a report shows; what is left out of the optional parts is left out of the page."""

    results: Mapping[str, Any]
    """The content of results.json; see `eval.results.collect.collect`."""
    scores: Scores
    """Of the headline's network, Eq. 6: in-dist-test, then each OOD set."""
    sets: Mapping[str, ShardSet]
    """The bank and the sets of `scores`, open; empty where only features are there."""
    features: Mapping[str, Tensor] | None = None
    """Of the headline's network, of each of `sets`: float32 [N, d], on one device."""
    reports: Sequence[Mapping[str, Any]] = ()
    """Lines of the run's metrics.jsonl."""
    unseen_steps: int | None = None
    """The last step at which collapse was not looked for (`train/watch/collapse.py`); None if that
    is not known."""
    run_config: Mapping[str, Any] | None = None
    """The content of the run's config.json."""
    views: Sequence[Column] = field(default_factory=list)
    """Views and negatives as the network saw them; see `eval.report.views`."""


def write_report(path: Path, data: ReportData) -> None:
    """Write the page; the same data give the same bytes.

    Raises:
        UserError: an image cannot be read.
    """
    # A name of a folder may hold bytes that are no text.
    path.write_text(page(data), encoding="utf-8", errors="backslashreplace")


def page(data: ReportData) -> str:
    """The page as text.

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
    }
    results = data.results
    has_looked, looked = False, "Whether the health monitor looked is not known"
    if data.reports and data.unseen_steps is not None:
        last_step = data.reports[-1]["step"]
        has_looked = last_step > data.unseen_steps
        looked = looked_for_collapse(data.unseen_steps, last_step)
    names = text.ood_names(results)
    gallery = Gallery(data.sets, data.features)
    in_dist = data.scores[TEST]
    ood = [data.scores[name] for name in names]
    lowest = min(column["auroc"]["low"] for column in text.headline_columns(results).values())
    edges = charts.histogram_edges(list(data.scores.values()))
    ends = {name: gallery.ends(name, data.scores[name]) for name in data.scores if data.sets}
    return environment.get_template(TEMPLATE).render(
        results=results,
        headline=text.headline_columns(results),
        headline_label=results["methods"][results["headline"]]["label"],
        headline_score=label_of(HEADLINE),
        labels={column: text.column_label(column) for column in text.headline_columns(results)},
        meaning=text.meaning(results),
        found=findings(results, data.reports, data.unseen_steps),
        names=names,
        metrics=METRICS,
        interval_bar=charts.interval_bar,
        scale_start=min(0.9, math.floor(10 * lowest) / 10),
        tables=sheet_of(results).tables[:2],
        more_tables=score_tables(results),
        rocs=[charts.roc_chart(in_dist, ood, part) for part in (100, ROC_CORNER)],
        legend=[(charts.swatch(charts.kind_of(i)), name) for i, name in enumerate(names)],
        histograms=[
            (
                name,
                charts.histogram(
                    f"Scores of {name} and of in-distribution test images",
                    edges,
                    in_dist,
                    data.scores[name],
                ),
            )
            for name in names
        ],
        ends=ends,
        has_neighbours=data.features is not None,
        training=training_panels(data.reports, data.run_config),
        last_report=data.reports[-1] if data.reports else None,
        views=view_rows(data.views),
        statistics={
            key: statistic
            for key, statistic in STATISTICS.items()
            if any(key in found for found in results.get("shortcuts", {}).values())
        },
        alone=ALONE,
        is_shortcut=is_shortcut,
        probes=text.probe_facts(results.get("probes", {}), results["counts"][TEST]),
        facts=text.provenance(results),
        health=health(data.reports),
        looked=looked,
        has_looked=has_looked,
        command=shlex.join(["python", "eval/score.py", *results.get("command", [])]),
        config=json.dumps(data.run_config, indent=1) if data.run_config is not None else None,
        test=TEST,
    )


def score_tables(results: Mapping[str, Any]) -> list[Table]:
    """AUROC by each score, a table for each network but the headline's that has several."""
    columns = list(text.headline_columns(results))
    tables = []
    for key, method in results["methods"].items():
        if key == results["headline"] or len(method["scores"]) == 1:
            continue
        rows = [
            Row(label_of(score), metric_cells(found, "auroc", columns))
            for score, found in method["scores"].items()
        ]
        title = f"AUROC in % of other scores, {method['label']}"
        tables.append(Table(title, "score", columns, without_intervals(with_best(rows))))
    return tables


def training_panels(
    reports: Sequence[Mapping[str, Any]], run_config: Mapping[str, Any] | None
) -> list[tuple[str, Markup, list[tuple[Markup, str]]]]:
    """Of each panel of the training its label, its chart, and its legend (swatch, what it is)."""
    warned = [report["step"] for report in reports if report.get("warnings")]
    ln_k = math.log(run_config["head"]["prototypes"]) if run_config else None
    panels = []
    for label, metrics in {**PANELS, **LEARNING_RATE}.items():
        lines: list[Any] = []
        legend: list[tuple[Markup, str]] = []
        for metric in metrics:
            key = metric.key
            found = [(r["step"], r[key]) for r in reports if r.get(key) is not None]
            finite = np.array([pair for pair in found if math.isfinite(pair[1])], np.float64)
            if len(finite):
                legend.append((charts.swatch(charts.kind_of(len(lines))), metric.label))
                lines.append((finite[:, 0], finite[:, 1]))
        if lines:
            level = ln_k if metrics[0].unit == NATS else None
            if level is not None:
                legend.append((charts.swatch("guide"), f"ln K = {level:.2f}"))
            panels.append((label, charts.training_chart(label, lines, warned, level), legend))
    return panels


def view_rows(columns: Sequence[Column]) -> tuple[list[str], list[list[Picture]]]:
    """Titles of the columns of views, and the pictures by row, one row an image."""
    pictures = [[picture(image) for image in images] for _, images in columns]
    return [title for title, _ in columns], [list(row) for row in zip(*pictures, strict=True)]
