"""Train a detector: `train/main.py RECIPE --in-dist SHARDS --out RUN [--aux SHARDS] [--FIELD X]`.

The script runs as one process, or as the ranks of `torchrun --nproc-per-node N train/main.py ...`.
The same command resumes a run that was cut short. `--help` lists the recipes, `RECIPE --help` all
fields.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

here = Path(__file__).absolute().parent
sys.path[:] = [str(here.parent)] + [p for p in sys.path if p != str(here)]
# OpenMP threads that spin while they wait take CPU time from the loader's threads: with the default
# spin count a step took twice as long. OpenMP reads this variable when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from shards.terminal import cli
from train.config_checks import check_config
from train.recipes import parse_run


@cli.keeps("the same command resumes the run")
def main(argv: Sequence[str] | None = None) -> None:
    """Read and check the command, then train."""
    config = parse_run(argv, prog="train/main.py", description=__doc__)
    check_config(config)
    # Imported here because it imports torch, which takes seconds: `--help` and mistakes in the
    # command are answered without it.
    from train.training import run

    if status := run(config):
        sys.exit(status)


if __name__ == "__main__":
    cli.run(main)
