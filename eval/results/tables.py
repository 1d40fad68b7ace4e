"""The tables of one scoring, in the layout of the paper's Tables 1 and 2, as plain containers.

    AUROC              rows = networks by the headline score, and what the paper has for them
    AUROC by score     rows = scores of the headline network
    all metrics        rows = metrics of the headline network and score, with their intervals

Columns are the OOD sets, `near` and `far` where the sets are grouped, the `mean` over the sets, and
`all`, the sets pooled. Values are in %, two decimals in print; the best of each column is marked,
and so is every other that prints the same number. `table_formats.py` writes and prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.audits.sample_sizes import sizes_that_say_little
from eval.metrics import METRICS
from eval.results import paper_tables
from eval.scores.all_scores import HEADLINE, label_of
from eval.sets.opening import ALL, BANK, MEAN, TEST

Results = Mapping[str, Any]
"""What `eval.results.collect.collect` makes, or results.json, loaded."""


@dataclass(frozen=True)
class Cell:
    """One number: a rate in %, or a count; None where there is none."""

    value: float | int | None
    low: float | None = None
    """Of its 95 % interval."""
    high: float | None = None
    is_best: bool = False
    is_difference: bool = False

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
        """Its 95 % interval, or ""."""
        return "" if self.low is None else f"{self.low:.2f}–{self.high:.2f}"


@dataclass(frozen=True)
class Row:
    """A label, and a cell for each column."""

    label: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """Rows of the same columns; `corner` says what the rows are."""

    title: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Sheet:
    """Tables, and what must be known to read them."""

    tables: Sequence[Table]
    notes: Sequence[str]


def sheet_of(results: Results) -> Sheet:
    """All tables of a scoring and their notes."""
    methods, headline = results["methods"], results["headline"]
    of_headline = methods[headline]["scores"]
    columns = list(of_headline[HEADLINE])
    label = methods[headline]["label"]
    networks = [
        Row(method["label"], metric_cells(method["scores"][HEADLINE], "auroc", columns))
        for method in methods.values()
    ]
    scores = [
        Row(label_of(score), metric_cells(found, "auroc", columns))
        for score, found in of_headline.items()
    ]
    metrics = [
        Row(shown, metric_cells(of_headline[HEADLINE], metric, columns))
        for metric, shown in METRICS.items()
    ]
    networks = [*with_best(networks), *_paper_rows(results, columns)]
    tables = [
        Table(f"AUROC in %, {label_of(HEADLINE)}", "method", columns, without_intervals(networks)),
        Table(f"AUROC in % of other scores, {label}", "score", columns, _plain_best(scores)),
        Table(f"All metrics in % and 95 % intervals, {label}", "metric", columns, metrics),
    ]
    return Sheet(tables, notes(results))


def metric_cells(found: Results, metric: str, columns: Sequence[str]) -> list[Cell]:
    """A metric of each column, in %, with its interval."""
    return [
        Cell(*(100 * found[column][metric][end] for end in ("value", "low", "high")))
        for column in columns
    ]


def with_best(rows: Sequence[Row]) -> list[Row]:
    """The rows with the highest number of each column marked, and all that print the same."""
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
    """The rows with bare numbers."""
    return [Row(r.label, [replace(c, low=None, high=None) for c in r.cells]) for r in rows]


def _plain_best(rows: Sequence[Row]) -> list[Row]:
    return without_intervals(with_best(rows))


# ------------------------------------------------------------------------------------- the paper


def in_dist_of(results: Results) -> str:
    """Name of the in-distribution test set."""
    return results["manifests"][TEST]["name"]


def paper_name_of(results: Results) -> str | None:
    """What the paper calls the run's negatives; None if it has no such row for these sets."""
    negatives = results["settings"].get("negatives")
    if results["protocol"] != paper_tables.PROTOCOL or negatives is None:
        return None
    name = paper_tables.name_of(negatives, results["settings"].get("aux") or "imagenet")
    known = paper_tables.OURS.get(paper_tables.data_set(in_dist_of(results)), {})
    return name if name in known else None


def paper_values(
    results: Results, columns: Sequence[str], row: paper_tables.Row | None
) -> list[float | None]:
    """What a row of the paper has for each column, in %: groups as the mean over their sets."""
    in_dist = in_dist_of(results)
    groups = {**results["groups"], MEAN: ood_sets(results), ALL: ()}
    found: list[float | None] = []
    for column in columns:
        values = [paper_tables.cell(in_dist, row, name) for name in groups.get(column, (column,))]
        known = [value for value in values if value is not None]
        found.append(sum(known) / len(known) if known and len(known) == len(values) else None)
    return found


def _paper_rows(results: Results, columns: Sequence[str]) -> list[Row]:
    """The paper's row for the run's negatives, the difference to it, and the paper's baselines."""
    if results["protocol"] != paper_tables.PROTOCOL:
        return []
    in_dist = paper_tables.data_set(in_dist_of(results))
    if in_dist not in paper_tables.OURS:
        return []
    rows = []
    name = paper_name_of(results)
    if name is not None:
        there = paper_values(results, columns, paper_tables.OURS[in_dist][name])
        found = results["methods"][results["headline"]]["scores"][HEADLINE]
        difference = [
            Cell(
                None if value is None else 100 * found[column]["auroc"]["value"] - value,
                is_difference=True,
            )
            for column, value in zip(columns, there, strict=True)
        ]
        rows.append(Row(f"paper, {name}", [*map(Cell, there)]))
        rows.append(Row("difference to it", difference))
    for method, row in paper_tables.BASELINES[in_dist].items():
        rows.append(Row(f"paper, {method}", [*map(Cell, paper_values(results, columns, row))]))
    return rows


# ------------------------------------------------------------------------------------- the notes


def ood_sets(results: Results) -> list[str]:
    """The OOD sets, in the order of the columns."""
    return [name for name in results["counts"] if name not in (BANK, TEST)]


def notes(results: Results) -> list[str]:
    """What must be known to read the tables: measures, sets, bank, checkpoint, probes."""
    is_other = results["checkpoint"] and not results["bank_is_training_set"]
    other = " (not those the run was trained on)" if is_other else ""
    step = f" Checkpoint: step {results['checkpoint']['step']:,}." if results["checkpoint"] else ""
    found = [
        *notes_on_sets(results),
        *notes_on_overlap(results),
        f"Bank: {results['counts'][BANK]:,} in-distribution training images{other}; "
        f"tau {results['tau']:g}.{step}",
    ]
    if paper_name_of(results):
        found.append("The paper's means are over the same sets; its other rows are of Table 1.")
    if results.get("probes"):
        label = results["methods"][results["headline"]]["label"]
        found.append(f"{label}: {'; '.join(_probe_texts(results['probes']))}.")
    return found


def notes_on_sets(results: Results) -> list[str]:
    """Sizes that say little, measures, protocol, counts and groups."""
    counts = results["counts"]
    ood = ood_sets(results)
    groups = [f" {group}: {', '.join(names)}." for group, names in results["groups"].items()]
    hopeless, little = sizes_that_say_little(counts, results.get("equal_images", ()))
    return [
        *(f"{line}." for line in [*hopeless, *little]),
        "OOD is the positive class, a higher score is more OOD; FPR95 is the share of "
        "in-distribution images above the threshold that at least 95 % of OOD images reach.",
        f"Protocol: {results['protocol']}. In-distribution test images: {counts[TEST]:,}. "
        f"OOD images: {', '.join(f'{name} {counts[name]:,}' for name in ood)}; "
        f"{ALL} {sum(counts[name] for name in ood):,}.",
        f"{MEAN} is over the sets, {ALL} has their images in one.{''.join(groups)}",
        "95 % intervals are of the choice of images alone: what another training run (another "
        "seed) would change is not in them and may be more.",
    ]


def notes_on_overlap(results: Results) -> list[str]:
    """Images that sets share with each other, or with what the run was trained on."""
    shared = [f"{count:,} in both {sets}" for sets, count in results.get("overlap", {}).items()]
    return [f"Images that sets share (--allow-overlap): {'; '.join(shared)}."] if shared else []


def _probe_texts(probes: Results) -> list[str]:
    texts = []
    if probes.get("knn_accuracy"):
        each = [f"{name} {100 * value:.2f} %" for name, value in probes["knn_accuracy"].items()]
        texts.append(f"k-NN accuracy {', '.join(each)}")
    if "linear_probe" in probes:
        texts.append(f"linear probe {100 * probes['linear_probe']:.2f} %")
    if "occupied" in probes:
        texts.append(
            f"occupied soft classes {probes['occupied']['count']:,} of {probes['occupied']['of']:,}"
        )
    if "sensitivity" in probes:
        value, low, high = (100 * probes["sensitivity"][end] for end in ("value", "low", "high"))
        texts.append(f"AUROC of train against test {value:.2f} % ({low:.2f}–{high:.2f})")
    return texts
