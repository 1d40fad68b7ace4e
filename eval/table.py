"""The AUROC table of one scoring: rows = methods, columns = OOD sets and `all` of them.

Reads the dict that `eval.results.collect` makes (or results.json, loaded). AUROC in %, two
decimals; the best of each column is bold, and so is every other that prints the same number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval.results import METHODS, TEACHER
from eval.sets import ALL, BANK, TEST

Cell = tuple[str, bool]
"""What it says, and whether it is the best of its column."""
LABEL_WIDTH = max(map(len, METHODS.values()))
COLUMN_GAP = 2


def cells(results: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """Column names (OOD sets, then `all`), and per method its label and one cell a column."""
    per_method = {**results["baselines"], TEACHER: results["sets"]}
    columns = [name for name in results["sets"] if name != ALL] + [ALL]
    texts = {
        method: [f"{100 * per_method[method][name]['auroc']:.2f}" for name in columns]
        for method in METHODS
        if method in per_method
    }
    best = [max(column, key=float) for column in zip(*texts.values(), strict=True)]
    rows = [
        (METHODS[method], [(text, text == top) for text, top in zip(row, best, strict=True)])
        for method, row in texts.items()
    ]
    return columns, rows


def notes(results: Mapping[str, Any]) -> list[str]:
    """What must be known to read the table: the measure, the counts, the bank, the protocol."""
    counts = results["counts"]
    other = "" if results["bank_is_training_set"] else " (not those the run was trained on)"
    ood = [f"{name} {counts[name]:,}" for name in results["sets"] if name != ALL]
    return [
        "AUROC in %, OOD is the positive class, a higher score is more OOD.",
        f"In-distribution test images: {counts[TEST]:,}. "
        f"OOD images: {', '.join(ood)}; {ALL} {results['sets'][ALL]['samples']:,}.",
        f"Bank: {counts[BANK]:,} in-distribution training images{other}; tau {results['tau']:g}.",
        f"Protocol: {results['protocol']}. Checkpoint: step {results['checkpoint']['step']:,}.",
    ]


def to_markdown(results: Mapping[str, Any]) -> str:
    """The table and its notes as Markdown."""
    columns, rows = cells(results)
    lines = ["| method | " + " | ".join(map(_escape, columns)) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for label, row in rows:
        shown = [f"**{text}**" if best else text for text, best in row]
        lines.append(f"| {label} | " + " | ".join(shown) + " |")
    return "\n".join([*lines, "", *(f"- {_escape(note)}" for note in notes(results))]) + "\n"


def print_table(results: Mapping[str, Any], console: Console) -> None:
    """The same table and notes on the terminal, in several tables if it is too narrow for one."""
    columns, rows = cells(results)
    width = max(len(text) for _, row in rows for text, _ in row)
    fit = max(1, (console.width - LABEL_WIDTH) // (width + COLUMN_GAP))
    for first in range(0, len(columns), fit):
        part = slice(first, first + fit)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        table.add_column("method", no_wrap=True)
        for name in columns[part]:
            table.add_column(Text(name), justify="right", overflow="fold")
        for label, row in rows:
            shown = [Text(text, style="bold" if best else "") for text, best in row[part]]
            table.add_row(label, *shown)
        console.print(table)
        console.print()
    for note in notes(results):
        console.print(Text(note, style="dim"))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
