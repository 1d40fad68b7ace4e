"""Comparison of several runs: Figures 2 and 3 of the paper, and a table like its Table 2.

    python -m eval.compare OUT --results A/results.json B/results.json ...

All runs must have scored the same sets. The folder OUT gets fig2.png, fig3.png and table.md, .csv
and .tex. The name of a run is the folder of its results.json. Numbers that a run lacks (for example
k-NN accuracy without labels) are left out of its row and of the figures. The steps are in
`eval/results/comparison.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eval.results.output_folder import COMPARISON, check_replaceable
from shards.terminal import cli


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


@cli.keeps("--out is as it was")
def main(argv: Sequence[str] | None = None) -> None:
    """Read the scorings, compare them and write the folder.

    Raises:
        UserError: see `write_comparison` and `check_replaceable`; nothing is written then.
    """
    config: CompareConfig = cli.parse(CompareConfig, argv)
    check_replaceable(config.out, COMPARISON)
    # Imported here, because torch takes seconds to import: --help and mistakes answer before.
    from eval.results.comparison import write_comparison

    write_comparison(config.out, config.results, config.columns)


if __name__ == "__main__":
    cli.run(main)
