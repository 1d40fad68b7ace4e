"""The steps of `python -m eval.compare`: tables and figures of several scorings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from eval.config import EQ6
from eval.results import paper_tables
from eval.results.compare_figures import save_figure_2, save_figure_3
from eval.results.compare_runs import KNN, Run, load_runs
from eval.results.notes import notes_on_overlap, notes_on_sets
from eval.results.output_folder import (
    COMPARISON,
    FIGURE_2_FILE,
    FIGURE_3_FILE,
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
    paper_name_of,
    paper_values,
    with_best,
    without_intervals,
)
from eval.scores.all_scores import label_of
from eval.sets.opening import MEAN, NEAR
from shards.errors import UserError
from shards.terminal.console import Terminal
from shards.terminal.mistakes import did_you_mean


def joint_sheet(runs: Sequence[Run]) -> Sheet:
    """Return the tables of a comparison: the AUROC of all runs, and their probes.

    The paper's rows for the negatives of the runs are added.
    """
    first = runs[0].scoring
    columns = list(first.eq6_columns)
    ours = [Row(run.name, auroc_cells(run.scoring.eq6_columns, columns)) for run in runs]
    theirs = []
    for name in dict.fromkeys(paper_name_of(run.scoring) for run in runs):
        if name is not None:
            row = paper_tables.OURS[paper_tables.data_set(in_dist_of(first.provenance))][name]
            theirs.append(Row(f"paper, {name}", [*map(Cell, paper_values(first, columns, row))]))
    probes = ["k-NN accuracy", "occupied", "train vs test"]
    tables = [
        Table(f"AUROC in %, {label_of(EQ6)}", "run", columns, with_best(ours) + theirs),
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
    """Return notes that say why runs lack a probe."""
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


def _check_columns(columns: Sequence[str], known: Collection[str]) -> None:
    for column in columns:
        if column not in known:
            hint = did_you_mean(column, known)
            raise UserError(f"--columns is {column}, there are: {', '.join(known)}{hint}")


def write_comparison(out: Path, results: Sequence[Path], columns: Sequence[str]) -> None:
    """Compare scorings, write the output folder and print the tables.

    Args:
        out: output folder.
        results: paths of the runs' results.json files. All runs must have scored the same sets.
        columns: columns to draw. If empty, they are the first near set (or the first OOD set, if
            none is near) and the mean.

    Raises:
        UserError: see `load_runs`; or a column is not in the results. Nothing is written then.
    """
    runs = load_runs(results)
    first = (*runs[0].scoring.groups.get(NEAR, ()), *runs[0].scoring.ood_names)[0]
    columns = columns or (first, MEAN)
    _check_columns(columns, runs[0].scoring.eq6_columns)
    sheet = joint_sheet(runs)
    with complete_folder(out, COMPARISON) as folder:
        if any(run.scoring.probes.occupied for run in runs):
            save_figure_2(folder / FIGURE_2_FILE, runs, columns[0])
        save_figure_3(folder / FIGURE_3_FILE, runs, columns)
        write_sheet(folder, sheet)
    print_sheet(sheet, Terminal())
