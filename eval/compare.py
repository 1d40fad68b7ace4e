"""Several runs beside each other: Figures 2 and 3 of the paper, and a table like its Table 2.

    python -m eval.compare OUT --results A/results.json B/results.json ...

All must have scored the same sets. Writes fig2.png, fig3.png and table.md, .csv, .json and .tex
as the folder OUT. A run is called by the folder of its results.json. What it does not have, as
k-NN accuracy without labels, is left out of its row and of the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eval.results import paper_tables
from eval.results.compare_figures import KNN, Point, save_figure_2, save_figure_3
from eval.results.compare_runs import Run, load_runs
from eval.results.output_folder import TABLE_FILES, Output, check_replaceable, complete_folder
from eval.results.table_formats import print_sheet, write_sheet
from eval.results.tables import (
    Cell,
    Row,
    Sheet,
    Table,
    in_dist_of,
    metric_cells,
    notes_on_overlap,
    notes_on_sets,
    ood_sets,
    paper_name_of,
    paper_values,
    with_best,
    without_intervals,
)
from eval.scores.all_scores import HEADLINE, label_of
from eval.sets.opening import MEAN
from shards.errors import UserError
from shards.terminal import cli
from shards.terminal.console import Terminal
from shards.terminal.mistakes import did_you_mean

FIGURE_2_FILE, FIGURE_3_FILE = "fig2.png", "fig3.png"
COMPARISON = Output(
    "OUT",
    "comparison",
    frozenset({FIGURE_2_FILE, FIGURE_3_FILE, *TABLE_FILES}),
    always=FIGURE_3_FILE,
)


@dataclass(frozen=True)
class CompareConfig:
    """Compare runs by their results.json: Figures 2 and 3 of the paper, and one table."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to write; one of an earlier comparison is replaced once the new one is complete."""
    results: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]")]
    """results.json of each run, all of the same sets."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET [SET ...]")] = ()
    """OOD sets, or near, far, mean, all, to draw; Figure 2 has the first. By default the first near
    set (without one, the first of all) and the mean."""


def joint_sheet(runs: Sequence[Run]) -> Sheet:
    """AUROC of all runs, the paper's rows for their negatives, and the runs' probes."""
    columns = list(runs[0].found)
    ours = [Row(run.name, metric_cells(run.found, "auroc", columns)) for run in runs]
    theirs = []
    for name in dict.fromkeys(paper_name_of(run.results) for run in runs):
        if name is not None:
            row = paper_tables.OURS[paper_tables.data_set(in_dist_of(runs[0].results))][name]
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
            *_notes_on_gaps(runs),
            *(line for run in runs for line in _notes_on_run(run)),
        ],
    )


def _probe_rows(runs: Sequence[Run]) -> list[Row]:
    rows = []
    for run in runs:
        cells = [
            Cell(None if run.knn_accuracy is None else 100 * run.knn_accuracy),
            Cell(run.occupied["count"] if run.occupied else None),
            Cell(100 * run.sensitivity["value"]),
        ]
        rows.append(Row(run.name, cells))
    return rows


def _notes_on_run(run: Run) -> list[str]:
    results = run.results
    is_other = results["checkpoint"] and not results["bank_is_training_set"]
    other = ", bank not the set that it was trained on" if is_other else ""
    shared = [f"{run.name}: {note}" for note in notes_on_overlap(results)]
    return [f"{run.name}: negatives {run.strategy}{other}, {run.path}.", *shared]


def _notes_on_gaps(runs: Sequence[Run]) -> list[str]:
    """Why a run lacks a probe."""
    notes = []
    for probe, reason, lacking in (
        (
            "k-NN accuracy",
            "needs bank and test set with labels of the same classes",
            [run.name for run in runs if run.knn_accuracy is None],
        ),
        (
            "occupied",
            "needs a run's head, and the set that it was trained on as the bank",
            [run.name for run in runs if run.occupied is None],
        ),
    ):
        if lacking:
            notes.append(f"{probe} {reason}; without: {', '.join(lacking)}.")
    return notes


def points(runs: Sequence[Run], columns: Sequence[str]) -> list[Point]:
    """What the figures show of each run.

    Raises:
        UserError: a column is not in the results.
    """
    for column in columns:
        if column not in runs[0].found:
            hint = did_you_mean(column, runs[0].found)
            raise UserError(f"--columns is {column}, there are: {', '.join(runs[0].found)}{hint}")
    return [
        Point(
            run.name,
            run.strategy,
            {column: run.found[column]["auroc"] for column in columns},
            run.knn_accuracy,
            run.occupied,
            run.sensitivity,
        )
        for run in runs
    ]


@cli.keeps("--out is as it was")
def main(argv: Sequence[str] | None = None) -> None:
    """Read, compare and write.

    Raises:
        UserError: see `load_runs`, `points` and `check_replaceable`; nothing is written then.
    """
    config = cli.parse(CompareConfig, argv)
    check_replaceable(config.out, COMPARISON)
    runs = load_runs(config.results)
    first = (*runs[0].results["groups"].get("near", ()), *ood_sets(runs[0].results))[0]
    shown = points(runs, config.columns or (first, MEAN))
    sheet = joint_sheet(runs)
    with complete_folder(config.out, COMPARISON) as folder:
        if any(run.occupied for run in runs):
            save_figure_2(folder / FIGURE_2_FILE, shown)
        save_figure_3(folder / FIGURE_3_FILE, shown)
        write_sheet(folder, sheet)
    print_sheet(sheet, Terminal())


if __name__ == "__main__":
    cli.run(main)
