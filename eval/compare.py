"""Comparison of several runs: Figures 2 and 3 of the paper, and a table like its Table 2.

    python -m eval.compare OUT --results A/results.json B/results.json ...

All runs must have scored the same sets. The command writes fig2.png, fig3.png, table.md, table.csv
and table.tex to the folder OUT. The name of a run is the name of the folder that holds its
results.json. A number that a run lacks (for example k-NN accuracy without labels) is left out of
its row and of the figures. The steps are in `eval/results/comparison.py`.
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
    """Compare runs that were scored: Figures 2 and 3 of the paper, and one table."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Output folder. If it holds an earlier comparison, that comparison is replaced once the new
    one is complete."""
    results: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]")]
    """Paths of the runs' results.json files. All runs must have scored the same sets."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET [SET ...]")] = ()
    """Columns to draw: names of OOD sets, or near, far, mean, all. Figure 2 shows only the first
    column. The default is the first near set (or the first OOD set, if none is near) and the mean.
    """


@cli.keeps("--out is as it was")
def main(argv: Sequence[str] | None = None) -> None:
    """Read the results of the runs, compare them and write the output folder.

    Raises:
        UserError: see `write_comparison` and `check_replaceable`. Nothing is written then.
    """
    config: CompareConfig = cli.parse(CompareConfig, argv)
    check_replaceable(config.out, COMPARISON)
    # Imported here, so that --help and wrong options need not wait seconds for torch.
    from eval.results.comparison import write_comparison

    write_comparison(config.out, config.results, config.columns)


if __name__ == "__main__":
    cli.run(main)
