"""Formats of the tables: Markdown, CSV, LaTeX, and text on a terminal."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from eval.results.tables import Cell, Sheet, Table
from shards.errors import printable

COLUMN_GAP = 2
"""Number of spaces between two columns on a terminal."""
LATEX = str.maketrans(
    {
        **{char: f"\\{char}" for char in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
        "\n": " ",
    }
)
"""Character -> its form in LaTeX, for characters that are special there."""


def write_sheet(folder: Path, sheet: Sheet) -> None:
    """Write table.md, table.csv and table.tex to an existing folder."""
    for ending, text in (
        ("md", to_markdown(sheet)),
        ("csv", to_csv(sheet)),
        ("tex", to_latex(sheet)),
    ):
        (folder / f"table.{ending}").write_text(text, encoding="utf-8", errors="surrogateescape")


def to_markdown(sheet: Sheet) -> str:
    """Return the tables in Markdown, each below its title, and the notes at the end.

    The best values are bold.
    """
    parts = []
    for table in sheet.tables:
        header = [table.corner, *map(_in_markdown, table.columns)]
        lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * len(table.columns)]
        for row in table.rows:
            cells = [
                f"**{_with_interval(cell)}**" if cell.is_best else _with_interval(cell)
                for cell in row.cells
            ]
            lines.append(f"| {_in_markdown(row.label)} | " + " | ".join(cells) + " |")
        parts.append(f"### {_in_markdown(table.title)}\n\n" + "\n".join(lines))
    parts.append("\n".join(f"- {_in_markdown(note)}" for note in sheet.notes))
    return "\n\n".join(parts) + "\n"


def to_csv(sheet: Sheet) -> str:
    """Return the tables as CSV, with one line per row.

    The first two columns are `table` and `row`. The lines `<row>, low` and `<row>, high` have the
    ends of the intervals. If the next table has other columns, an empty line and a new header come
    first.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header: list[str] = []
    for table in sheet.tables:
        if header != [*table.columns]:
            if header:
                writer.writerow([])
            header = [*table.columns]
            writer.writerow(["table", "row", *header])
        for row in table.rows:
            rows = {"": [cell.value for cell in row.cells]}
            if any(cell.low is not None for cell in row.cells):
                rows[", low"] = [cell.low for cell in row.cells]
                rows[", high"] = [cell.high for cell in row.cells]
            for suffix, values in rows.items():
                shown = [
                    "" if v is None else v if isinstance(v, int) else f"{v:.4f}" for v in values
                ]
                writer.writerow([table.title, row.label + suffix, *shown])
    return out.getvalue()


def to_latex(sheet: Sheet) -> str:
    """Return each table as a LaTeX `tabular`, which needs no package.

    Titles and notes are comments.
    """
    parts = []
    for table in sheet.tables:
        lines = [
            _in_comment(table.title),
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\hline",
            _latex_row([name.translate(LATEX) for name in (table.corner, *table.columns)]),
            r"\hline",
        ]
        for row in table.rows:
            texts = [(_with_interval(cell).translate(LATEX), cell.is_best) for cell in row.cells]
            cells = [rf"\textbf{{{text}}}" if is_best else text for text, is_best in texts]
            lines.append(_latex_row([row.label.translate(LATEX), *cells]))
        parts.append("\n".join([*lines, r"\hline", r"\end{tabular}"]))
    parts.append("\n".join(map(_in_comment, sheet.notes)))
    return "\n\n".join(parts) + "\n"


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Print the tables and the notes. A table that is too wide for the terminal is split."""
    for table in sheet.tables:
        console.print(Text(printable(table.title), style="bold"))
        width = max(len(line) for row in table.rows for cell in row.cells for line in _lines(cell))
        labels = max(len(text) for text in (table.corner, *(row.label for row in table.rows)))
        fit = max(1, (console.width - labels) // (width + COLUMN_GAP))
        for first in range(0, len(table.columns), fit):
            console.print(_rich_table(table, slice(first, first + fit)))
            console.print()
    for note in sheet.notes:
        console.print(Text(printable(note), style="dim"))


def _rich_table(table: Table, part: slice) -> RichTable:
    shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    shown.add_column(table.corner, no_wrap=True)
    for name in table.columns[part]:
        shown.add_column(Text(printable(name)), justify="right", overflow="fold")
    for row in table.rows:
        cells = []
        for cell in row.cells[part]:
            number, *interval = _lines(cell)
            text = Text(number, style="bold" if cell.is_best else "")
            for line in interval:
                text.append(f"\n{line}", style="dim")
            cells.append(text)
        shown.add_row(Text(printable(row.label)), *cells)
    return shown


def _lines(cell: Cell) -> list[str]:
    """Return the lines of a cell on a terminal: the number, then the interval if there is one."""
    return [cell.text, *([cell.interval] if cell.interval else [])]


def _with_interval(cell: Cell) -> str:
    return f"{cell.text} ({cell.interval})" if cell.interval else cell.text


def _in_markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _latex_row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _in_comment(text: str) -> str:
    return "% " + text.replace("\n", " ").replace("–", "--")
