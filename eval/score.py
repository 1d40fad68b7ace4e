"""Score a training run: AUROC of a test set against OOD sets, or decisions on single images.

    python eval/score.py RUN --in-dist-train DIR --in-dist-test DIR --ood DIR [DIR ...] --out DIR
    python eval/score.py RUN --in-dist-train DIR --in-dist-test DIR --images FOLDER --out DIR
    python eval/score.py --features FILE.npz [FILE.npz ...] --out DIR

The first command writes results.json, tables, figures, report.html and scores/<set>.csv. The second
command writes scores.csv with p-values and decisions. The third command writes the same files as
the first, but reads feature files and no images. The options are in `eval/config.py`. The steps of
the first and the third command are in `eval/score_sets.py`; the steps of the second are in
`eval/score_images.py`. Under torchrun, the images and the bank are divided over the ranks.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Python puts the folder of a script first on sys.path. The repository's root must be there.
here = Path(__file__).absolute().parent
sys.path[:] = [str(here.parent)] + [p for p in sys.path if p != str(here)]

from collections.abc import Sequence

from eval.config import ImagesConfig, ScoreConfig
from eval.results.output_folder import check_replaceable
from shards.terminal import cli


@cli.keeps("--out is as it was; features that were finished are kept")
def main(argv: Sequence[str] | None = None) -> None:
    """Score the sets or images that the command names, and write the output folder.

    Raises:
        UserError: an option, a set, the run or the output folder is wrong. Nothing is written then.
    """
    options: ScoreConfig = cli.parse(ScoreConfig, argv)
    config = options.chosen()
    check_replaceable(config.out)
    command = sys.argv[1:] if argv is None else list(argv)
    # Imported here, so that --help and wrong options need not wait seconds for torch.
    if isinstance(config, ImagesConfig):
        from eval.score_images import score_images

        score_images(config, command)
    else:
        from eval.score_sets import score_sets

        score_sets(config, command)


if __name__ == "__main__":
    cli.run(main)
