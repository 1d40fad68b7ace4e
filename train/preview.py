"""Draw the views that a run shows its network, as a picture.

    python -m train.preview RECIPE --in-dist SHARDS [--FIELD X] --out views.png
    python -m train.preview RUN --out views.png

In the first form the arguments are those of `train/main.py`, but `--out` is a PNG file. In the
second form RUN is the folder of a run. `dali_pipes.preview` draws the images, views and negatives.
The recipe `auto` chooses the same values as for training.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dali_pipes.preview import PreviewConfig, save_preview
from shards.errors import UserError
from shards.terminal import cli
from train.config import RunConfig
from train.config_checks import check_config
from train.recipes import RECIPES, parse_run
from train.run_folder import CONFIG, read_config


@dataclass(frozen=True)
class RunPreview:
    """Draw the views of a run."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run that train/main.py wrote."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.png")]
    """The PNG to write."""


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the views of a recipe or of a run.

    Raises:
        UserError: the command names neither a recipe nor a run, or the shards cannot be read.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    config, out = _of_run(argv) if _names_folder(argv) else _of_recipe(argv)
    save_preview(
        PreviewConfig(
            shards=config.in_dist,
            out=out,
            aux=config.aux,
            negatives=config.strategy,
            seed=config.seed,
            views=config.views,
            loader=config.loader,
        )
    )


def _names_folder(argv: Sequence[str]) -> bool:
    return bool(argv) and argv[0] not in RECIPES and Path(argv[0]).is_dir()


def _of_run(argv: Sequence[str]) -> tuple[RunConfig, Path]:
    if not (Path(argv[0]) / CONFIG).is_file():
        raise UserError(
            f"{argv[0]} is not a run; if it holds shards, name a recipe before them: "
            f"auto --in-dist {argv[0]}"
        )
    request = cli.parse(RunPreview, argv)
    return read_config(request.run), request.out


def _of_recipe(argv: Sequence[str]) -> tuple[RunConfig, Path]:
    config = parse_run(argv, prog="train.preview", description=__doc__)
    check_config(config)
    return config, config.out


if __name__ == "__main__":
    cli.run(main)
