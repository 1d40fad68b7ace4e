"""The tables of one scoring, in the layout of the paper's Tables 1 and 2.

    all scores         rows = the ensemble, its members and the scores of other networks, sorted
    AUROC              rows = networks with Eq. 6, and the numbers of the paper
    AUROC by score     rows = scores of the headline's network
    all metrics        rows = metrics of the headline's network and score, with their intervals

The columns are the OOD sets; `near` and `far` if the sets are grouped; `mean`, the mean over the
sets; and `all`, the result of all sets pooled into one. Values are in % and are printed with two
decimals. The best value of each column is marked. Values that are printed as the same number as the
best value are marked too. `table_formats.py` writes and prints the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from eval.config import ENSEMBLE, EQ6
from eval.intervals import Interval
from eval.metrics import Metrics
from eval.results import paper_tables
from eval.results.notes import notes
from eval.results.scoring import Provenance, Scoring
from eval.scores.all_scores import label_of
from eval.sets.opening import ALL, MEAN, TEST

SYNTHETIC, WEIGHT = "synthetic", "weight"
"""Columns of the table of members: mean AUROC on synthetic outliers, and weight in the ensemble."""


@dataclass(frozen=True)
class Cell:
    """One number of a table: a rate in %, or a count."""

    value: float | int | None
    """The number. None if there is no number; the cell then shows a dash."""
    low: float | None = None
    """Lower end of the 95 % interval. None if the interval is not shown."""
    high: float | None = None
    """Upper end of the 95 % interval. None if the interval is not shown."""
    is_best: bool = False
    is_difference: bool = False
    """True if the value is a difference. A difference is printed with its sign."""

    @property
    def text(self) -> str:
        """The number as it is printed."""
        if self.value is None:
            return "–"
        if isinstance(self.value, int):
            return f"{self.value:,}"
        return f"{self.value:+.2f}" if self.is_difference else f"{self.value:.2f}"

    @property
    def interval(self) -> str:
        """The 95 % interval as it is printed. "" if it is not shown."""
        return "" if self.low is None else f"{self.low:.2f}–{self.high:.2f}"


@dataclass(frozen=True)
class Row:
    """A row of a table: a label, and one cell per column."""

    label: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """A table. All rows have the same columns."""

    title: str
    corner: str
    """Text in the upper left corner, above the row labels."""
    columns: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Sheet:
    """Tables, with notes that a reader needs to understand the tables."""

    tables: Sequence[Table]
    notes: Sequence[str]


def sheet_of(scoring: Scoring) -> Sheet:
    """Return all tables of a scoring, with their notes."""
    columns = list(scoring.headline_columns)
    networks = [
        Row(method.label, auroc_cells(method.scores[EQ6], columns))
        for method in scoring.methods.values()
    ]
    metrics = [scoring.headline_columns[column].labelled for column in columns]
    networks = [*with_best(networks), *_paper_rows(scoring, columns)]
    tables = [
        *([table_of_members(scoring)] if scoring.ensemble else []),
        Table(f"AUROC in %, {label_of(EQ6)}", "method", columns, without_intervals(networks)),
        table_of_scores(scoring, scoring.headline),
        Table(
            f"All metrics in % and 95 % intervals, {scoring.headline_label}",
            "metric",
            columns,
            [Row(label, [_cell(each[label]) for each in metrics]) for label in metrics[0]],
        ),
    ]
    return Sheet(tables, notes(scoring, has_paper_rows=bool(paper_name_of(scoring))))


def table_of_members(scoring: Scoring) -> Table:
    """Return a table of the AUROC of the ensemble and of all other scores, the best one first.

    The columns `synthetic` (mean AUROC on synthetic outliers) and `weight` have values of members
    only. The rows of other networks rest on all test images, the others on the evaluation part.
    """
    facts = scoring.ensemble
    assert facts is not None
    own = {name: metrics.auroc.value for name, metrics in scoring.headline_columns.items()}
    seen = [auroc.value for auroc in facts.sight.values()]
    found: list[tuple[str, Mapping[str, float], float | None, float | None]] = [
        (ENSEMBLE, own, sum(seen) / len(seen) if seen else None, 1.0),
        *((m.label, m.aurocs, m.proxy_auroc, m.weight) for m in facts.members.values()),
    ]
    for key, method in scoring.methods.items():
        for score, columns in method.scores.items():
            if f"{key}/{score}" not in facts.members:
                aurocs = {name: metrics.auroc.value for name, metrics in columns.items()}
                found.append((f"{method.label}, {label_of(score)}", aurocs, None, None))
    found.sort(key=lambda row: -row[1][ALL])
    rows = []
    for label, of_columns, synthetic, weight in found:
        of_sets = [of_columns[name] for name in scoring.ood_names]
        rates = [of_columns[ALL], synthetic, weight, *of_sets]
        cells = [Cell(None if rate is None else 100 * rate) for rate in rates]
        rows.append(Row(label, cells))
    title = "AUROC in % of all scores, sorted by all sets pooled"
    return Table(title, "score", [ALL, SYNTHETIC, WEIGHT, *scoring.ood_names], with_best(rows))


def table_of_scores(scoring: Scoring, network: str) -> Table:
    """Return a table of the AUROC of one network, with one row per score.

    Args:
        scoring: the scoring.
        network: key of the network.
    """
    method = scoring.methods[network]
    columns = list(scoring.headline_columns)
    rows = [
        Row(label_of(score), auroc_cells(found, columns)) for score, found in method.scores.items()
    ]
    title = f"AUROC in % of other scores, {method.label}"
    return Table(title, "score", columns, without_intervals(with_best(rows)))


def auroc_cells(found: Mapping[str, Metrics], columns: Sequence[str]) -> list[Cell]:
    """Return one cell per column: the AUROC in %, with its interval."""
    return [_cell(found[column].auroc) for column in columns]


def _cell(rate: Interval) -> Cell:
    return Cell(100 * rate.value, 100 * rate.low, 100 * rate.high)


def with_best(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the best cells of each column marked.

    The best cells are all cells that are printed as the highest number of the column.
    """
    columns = zip(*([cell.text for cell in row.cells] for row in rows), strict=True)
    best = [max(texts, key=lambda text: -1 if text == "–" else float(text)) for texts in columns]
    return [
        Row(
            row.label,
            [
                replace(cell, is_best=cell.value is not None and cell.text == top)
                for cell, top in zip(row.cells, best, strict=True)
            ],
        )
        for row in rows
    ]


def without_intervals(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the intervals removed from their cells."""
    return [Row(r.label, [replace(c, low=None, high=None) for c in r.cells]) for r in rows]


# ------------------------------------------------------------------------------------- the paper


def in_dist_of(provenance: Provenance) -> str:
    """Return the name of the in-distribution test set from its manifest."""
    return provenance.manifests[TEST].name


def paper_name_of(scoring: Scoring) -> str | None:
    """Return the paper's name of the run's negatives. None if the paper has no row for them."""
    training = scoring.settings.training
    if scoring.provenance.protocol != paper_tables.PROTOCOL or training is None:
        return None
    name = paper_tables.name_of(training.negatives, training.aux or "imagenet")
    in_dist = paper_tables.data_set(in_dist_of(scoring.provenance))
    return name if name in paper_tables.OURS.get(in_dist, {}) else None


def paper_values(
    scoring: Scoring, columns: Sequence[str], row: paper_tables.Row | None
) -> list[float | None]:
    """Return the values of a row of the paper in %, one value per column.

    The value of a group of sets is the mean over the sets. It is None if the paper lacks the value
    of a set.

    Args:
        scoring: the scoring, which defines the groups.
        columns: names of the columns.
        row: the row. None if the paper has no row.
    """
    in_dist = in_dist_of(scoring.provenance)
    groups = {**scoring.groups, MEAN: scoring.ood_names, ALL: ()}
    found: list[float | None] = []
    for column in columns:
        values = [paper_tables.cell(in_dist, row, name) for name in groups.get(column, (column,))]
        known = [value for value in values if value is not None]
        found.append(sum(known) / len(known) if known and len(known) == len(values) else None)
    return found


def _paper_rows(scoring: Scoring, columns: Sequence[str]) -> list[Row]:
    """Return the rows from the paper, which stand below the measured rows.

    They are the paper's row for the run's negatives, the difference between the run and that row,
    and the paper's baselines. Empty if the paper has no numbers for these sets.
    """
    if scoring.provenance.protocol != paper_tables.PROTOCOL:
        return []
    in_dist = paper_tables.data_set(in_dist_of(scoring.provenance))
    if in_dist not in paper_tables.OURS:
        return []
    rows = []
    name = paper_name_of(scoring)
    if name is not None:
        there = paper_values(scoring, columns, paper_tables.OURS[in_dist][name])
        difference = [
            Cell(
                None if value is None else 100 * scoring.eq6_columns[column].auroc.value - value,
                is_difference=True,
            )
            for column, value in zip(columns, there, strict=True)
        ]
        rows.append(Row(f"paper, {name}", [*map(Cell, there)]))
        rows.append(Row("difference to it", difference))
    for method, row in paper_tables.BASELINES[in_dist].items():
        rows.append(Row(f"paper, {method}", [*map(Cell, paper_values(scoring, columns, row))]))
    return rows
