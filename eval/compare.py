"""Comparison of several runs: Figures 2 and 3 of the paper, and a table like its Table 2.

    python -m eval.compare OUT --results A/results.json B/results.json ...

All runs must have scored the same sets. The folder OUT gets fig2.png, fig3.png and table.md, .csv
and .tex. The name of a run is the folder of its results.json. Numbers that a run lacks (for example
k-NN accuracy without labels) are left out of its row and of the figures.
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
from eval.results.output_folder import (
    EARLIER_FILE,
    TABLE_FILES,
    Output,
    check_replaceable,
    complete_folder,
)
from eval.results.table_formats import print_sheet, write_sheet
from eval.results.tables import (
    Cell,
    Row,
    Sheet,
    Table,
    auroc_cells,
    in_dist_of,
    notes_on_overlap,
    notes_on_sets,
    paper_name_of,
    paper_values,
    with_best,
    without_intervals,
)
from eval.scores.all_scores import HEADLINE, label_of
from eval.sets.opening import MEAN, NEAR
from shards.errors import UserError
from shards.terminal import cli
from shards.terminal.console import Terminal
from shards.terminal.mistakes import did_you_mean

FIGURE_2_FILE, FIGURE_3_FILE = "fig2.png", "fig3.png"
COMPARISON = Output(
    "OUT",
    "comparison",
    frozenset({FIGURE_2_FILE, FIGURE_3_FILE, *TABLE_FILES, EARLIER_FILE}),
    always=FIGURE_3_FILE,
)


@dataclass(frozen=True)
class CompareConfig:
    """Compare runs by their results.json: Figures 2 and 3 of the paper, and one table."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to write; an earlier comparison is replaced once the new one is complete."""
    results: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]")]
    """Files results.json of the runs, all with the same sets."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET [SET ...]")] = ()
    """OOD sets to draw, or near, far, mean, all; Figure 2 shows the first one. By default the first
    near set (or the first OOD set, if none is near) and the mean."""


def joint_sheet(runs: Sequence[Run]) -> Sheet:
    """Return tables of the AUROC of all runs, the paper's rows for their negatives, and probes."""
    first = runs[0].scoring
    columns = list(first.headline_columns)
    ours = [Row(run.name, auroc_cells(run.scoring.headline_columns, columns)) for run in runs]
    theirs = []
    for name in dict.fromkeys(paper_name_of(run.scoring) for run in runs):
        if name is not None:
            row = paper_tables.OURS[paper_tables.data_set(in_dist_of(first.provenance))][name]
            theirs.append(Row(f"paper, {name}", [*map(Cell, paper_values(first, columns, row))]))
    probes = ["k-NN accuracy", "occupied", "train vs test"]
    tables = [
        Table(f"AUROC in %, {label_of(HEADLINE)}", "run", columns, with_best(ours) + theirs),
        Table("Probes, in %, and occupied soft classes", "run", probes, _probe_rows(runs)),
    ]
    return Sheet(
        [Table(t.title, t.corner, t.columns, without_intervals(t.rows)) for t in tables],
        [
            *notes_on_sets(first),
            f"k-NN accuracy: {KNN}. train vs test: AUROC of in-distribution training against test "
            "images.",
            *_notes_on_gaps(runs),
            *(line for run in runs for line in _notes_on_run(run)),
        ],
    )


def _probe_rows(runs: Sequence[Run]) -> list[Row]:
    rows = []
    for run in runs:
        probes = run.scoring.probes
        cells = [
            Cell(None if run.knn_accuracy is None else 100 * run.knn_accuracy),
            Cell(probes.occupied.count if probes.occupied else None),
            Cell(100 * probes.sensitivity.value),
        ]
        rows.append(Row(run.name, cells))
    return rows


def _notes_on_run(run: Run) -> list[str]:
    provenance = run.scoring.provenance
    is_other = provenance.checkpoint and not provenance.bank_is_training_set
    other = ", the bank is not its training set" if is_other else ""
    shared = [f"{run.name}: {note}" for note in notes_on_overlap(provenance)]
    return [f"{run.name}: negatives {run.strategy}{other}, {run.path}.", *shared]


def _notes_on_gaps(runs: Sequence[Run]) -> list[str]:
    """Return the reasons for which runs lack a probe."""
    notes = []
    for probe, reason, lacking in (
        (
            "k-NN accuracy",
            "needs labels of the same classes in bank and test set",
            [run.name for run in runs if run.knn_accuracy is None],
        ),
        (
            "occupied",
            "needs the head of a run, with its training set as the bank",
            [run.name for run in runs if run.scoring.probes.occupied is None],
        ),
    ):
        if lacking:
            notes.append(f"{probe} {reason}; without: {', '.join(lacking)}.")
    return notes


def points(runs: Sequence[Run], columns: Sequence[str]) -> list[Point]:
    """Return the numbers of each run that the figures show.

    Raises:
        UserError: a column is not in the results.
    """
    known = runs[0].scoring.headline_columns
    for column in columns:
        if column not in known:
            hint = did_you_mean(column, known)
            raise UserError(f"--columns is {column}, there are: {', '.join(known)}{hint}")
    return [
        Point(
            name=run.name,
            strategy=run.strategy,
            auroc={column: run.scoring.headline_columns[column].auroc for column in columns},
            knn_accuracy=run.knn_accuracy,
            occupied=run.scoring.probes.occupied,
            sensitivity=run.scoring.probes.sensitivity,
        )
        for run in runs
    ]


@cli.keeps("--out is as it was")
def main(argv: Sequence[str] | None = None) -> None:
    """Read the scorings, compare them and write the folder.

    Raises:
        UserError: see `load_runs`, `points` and `check_replaceable`; nothing is written then.
    """
    config = cli.parse(CompareConfig, argv)
    check_replaceable(config.out, COMPARISON)
    runs = load_runs(config.results)
    first = (*runs[0].scoring.groups.get(NEAR, ()), *runs[0].scoring.ood_names)[0]
    shown = points(runs, config.columns or (first, MEAN))
    sheet = joint_sheet(runs)
    with complete_folder(config.out, COMPARISON) as folder:
        if any(run.scoring.probes.occupied for run in runs):
            save_figure_2(folder / FIGURE_2_FILE, shown)
        save_figure_3(folder / FIGURE_3_FILE, shown)
        write_sheet(folder, sheet)
    print_sheet(sheet, Terminal())


if __name__ == "__main__":
    cli.run(main)
