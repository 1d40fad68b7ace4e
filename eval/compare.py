"""Several runs beside each other: Figures 2 and 3 of the paper, and a table like its Table 2.

    python -m eval.compare OUT --results A/results.json B/results.json ...

All must have scored the same sets. Writes fig2.png, fig3.png and table.md, .csv, .json and .tex
into OUT. A run is called by the folder of its results.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from eval import paper
from eval.compare_figures import KNN, Point, save_figure_2, save_figure_3
from eval.scores import HEADLINE, label_of
from eval.sets import MEAN
from eval.table import (
    Cell,
    Row,
    Sheet,
    Table,
    in_dist_of,
    metric_cells,
    notes_on_sets,
    ood_sets,
    paper_name_of,
    paper_values,
    with_best,
    without_intervals,
)
from eval.table_formats import print_sheet, write_sheet
from shards import cli
from shards.cli import UserError

FORMAT_VERSION = 2


@dataclass(frozen=True)
class CompareConfig:
    """Compare runs by their results.json: Figures 2 and 3 of the paper, and one table."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to write into."""
    results: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]")]
    """results.json of each run, all of the same sets."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET [SET ...]")] = ()
    """OOD sets, or near, far, mean, all, to draw; Figure 2 has the first. By default the first near
    set (without one, the first of all) and the mean."""


@dataclass(frozen=True)
class Run:
    """One results.json."""

    name: str
    path: Path
    results: dict[str, Any]

    @property
    def found(self) -> dict[str, Any]:
        """Column -> metrics of the headline network by the headline score."""
        return self.results["methods"][self.results["headline"]]["scores"][HEADLINE]

    @property
    def strategy(self) -> str:
        """The negatives, or the run's name where nothing is known of them."""
        return self.results["settings"].get("negatives") or self.name


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """Read the files and make sure that they can stand beside each other.

    Raises:
        UserError: there is none; one is no results.json of this version, or lacks a probe; sets or
            tau differ between two. Names the files.
    """
    if not paths:
        raise UserError("--results: expected at least one results.json")
    folders = [path.absolute().parent for path in paths]
    runs = []
    for path, folder in zip(paths, folders, strict=True):
        is_alone = [other.name for other in folders].count(folder.name) == 1
        name = folder.name if is_alone else f"{folder.parent.name}/{folder.name}"
        runs.append(Run(name, path, _load(path)))
    for run in runs[1:]:
        _check_equal(runs[0], run)
    return runs


def _load(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--results {path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--results {path}: cannot be read ({error})") from None
    version = results.get("format_version") if isinstance(results, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"--results {path}: format_version is {version}, expected {FORMAT_VERSION}; score the "
            "run again"
        )
    probes = results["probes"]
    for name, is_there, remedy in (
        ("occupied", "occupied" in probes, "it needs a run's head"),
        ("sensitivity", "sensitivity" in probes, "score the run again"),
        (f"knn_accuracy {KNN}", KNN in probes.get("knn_accuracy", {}), "it needs labelled sets"),
    ):
        if not is_there:
            raise UserError(f"--results {path}: has no probe {name}; {remedy}")
    return results


def _check_equal(one: Run, other: Run) -> None:
    for field in ("protocol", "tau", "counts", "groups"):
        here, there = one.results[field], other.results[field]
        if here != there:
            raise UserError(
                f"--results: {field} differs: {here} in {one.path}, {there} in {other.path}"
            )
    for name, manifest in one.results["manifests"].items():
        if other.results["manifests"][name] != manifest:
            raise UserError(f"--results: {name} is another set in {other.path} than in {one.path}")


def joint_sheet(runs: Sequence[Run]) -> Sheet:
    """AUROC of all runs, the paper's rows for their negatives, and the runs' probes."""
    columns = list(runs[0].found)
    ours = [Row(run.name, metric_cells(run.found, "auroc", columns)) for run in runs]
    theirs = []
    for name in dict.fromkeys(paper_name_of(run.results) for run in runs):
        if name is not None:
            row = paper.OURS[paper.data_set(in_dist_of(runs[0].results))][name]
            values = paper_values(runs[0].results, columns, row)
            theirs.append(Row(f"paper, {name}", [*map(Cell, values)]))
    probes = ["k-NN accuracy", "occupied", "train vs test"]
    tables = [
        Table(f"AUROC in %, {label_of(HEADLINE)}", "run", columns, with_best(ours) + theirs),
        Table("Probes, in %, occupied soft classes in number", "run", probes, _probe_rows(runs)),
    ]
    return Sheet(
        [Table(t.title, t.corner, t.columns, without_intervals(t.rows)) for t in tables],
        [
            *notes_on_sets(runs[0].results),
            f"k-NN accuracy: {KNN}. train vs test: AUROC of in-distribution training against test "
            "images.",
            *(f"{run.name}: negatives {run.strategy}, {run.path}." for run in runs),
        ],
    )


def _probe_rows(runs: Sequence[Run]) -> list[Row]:
    rows = []
    for run in runs:
        probes = run.results["probes"]
        cells = [
            Cell(100 * probes["knn_accuracy"][KNN]),
            Cell(probes["occupied"]["count"]),
            Cell(100 * probes["sensitivity"]["value"]),
        ]
        rows.append(Row(run.name, cells))
    return rows


def points(runs: Sequence[Run], columns: Sequence[str]) -> list[Point]:
    """What the figures show of each run.

    Raises:
        UserError: a column is not in the results.
    """
    for column in columns:
        if column not in runs[0].found:
            raise UserError(f"--columns is {column}, there are: {', '.join(runs[0].found)}")
    return [
        Point(
            run.name,
            run.strategy,
            {column: run.found[column]["auroc"] for column in columns},
            run.results["probes"]["knn_accuracy"][KNN],
            run.results["probes"]["occupied"]["count"],
            run.results["probes"]["occupied"]["of"],
            run.results["probes"]["sensitivity"],
        )
        for run in runs
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Read, compare and write.

    Raises:
        UserError: see `load_runs` and `points`.
    """
    config = cli.parse(CompareConfig, argv)
    runs = load_runs(config.results)
    first = (*runs[0].results["groups"].get("near", ()), *ood_sets(runs[0].results))[0]
    shown = points(runs, config.columns or (first, MEAN))
    sheet = joint_sheet(runs)
    config.out.mkdir(parents=True, exist_ok=True)
    save_figure_2(config.out / "fig2.png", shown)
    save_figure_3(config.out / "fig3.png", shown)
    write_sheet(config.out, sheet)
    print_sheet(sheet, Console())


if __name__ == "__main__":
    cli.run(main)
