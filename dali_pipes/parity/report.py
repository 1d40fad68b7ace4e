"""The result of the comparison as two tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from dali_pipes.parity.differences import Row
from dali_pipes.parity.distributions import Distribution
from shards.terminal.console import Terminal


def show(rows: Sequence[Row], distributions: Sequence[Distribution]) -> None:
    """Print the table of differences and the table of distributions."""
    console = Terminal(width=140)
    table = Table("operation", "sources", "engine", title="Differences in levels of 0..255")
    for heading in ("mean", "worst view", "max", "limits", "verdict", "mean to Pillow's"):
        table.add_column(heading, justify="right")
    for row in rows:
        pillow = "-" if row.mean_pillow is None else f"{row.mean_pillow:.2f}"
        table.add_row(
            *(row.operation, row.sources, row.engine),
            *(f"{row.mean:.2f}", f"{row.view:.2f}", f"{row.worst:.0f}"),
            *(str(row.limit), row.verdict, pillow),
        )
    console.print(table)
    table = Table("drawn", "test", title="Draws against torchvision's")
    for heading in ("ours, mean", "expected", "statistic", "p", "verdict"):
        table.add_column(heading, justify="right")
    for one in distributions:
        numbers = (f"{number:.4g}" for number in (one.ours, one.theirs, one.statistic, one.p))
        table.add_row(one.quantity, one.test, *numbers, "pass" if one.passed else "FAIL")
    console.print(table)


def as_json(rows: Sequence[Row], distributions: Sequence[Distribution]) -> dict[str, object]:
    """Return the JSON object that the command prints as its last line."""
    return {
        "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
        "draws": [{**asdict(one), "passed": one.passed} for one in distributions],
        "passed": all(row.passed for row in rows) and all(one.passed for one in distributions),
    }
