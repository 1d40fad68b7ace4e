"""Write the images on which the ensemble is tuned, so that another program can compute features.

    python -m eval.spoil --in-dist-test DIR --out FILE.npz

The file has two arrays. `images`, uint8 [N, H, W, C], are the tuning images of the test set and the
synthetic outliers that are made of them. `family`, text [N], is the family of each one, or
`normal`. With the features of these images as the array `synthetic-outliers`, float [N, d], a file
of `eval/score.py --features` takes part in the ensemble.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.config import Folder
from eval.outliers.tuning_images import TuningImages, tuning_part
from shards.disk.publish import refuse_existing, write_new_file
from shards.errors import UserError
from shards.reader import ShardSet
from shards.terminal import cli


@dataclass(frozen=True)
class SpoilOptions:
    """Write the images on which the ensemble of a test set is tuned.

    They are normal images, and synthetic outliers that are made of them. With features of these
    images, a file of eval/score.py --features takes part in the ensemble.
    """

    in_dist_test: Folder
    """Shard set of in-distribution test images, as in eval/score.py."""
    out: Path
    """The .npz file that is written. It must not exist."""


@cli.keeps("nothing was written")
def main(argv: Sequence[str] | None = None) -> None:
    """Write the file.

    Raises:
        UserError: the set is missing, damaged or has one image, or `out` exists or is no .npz.
    """
    options = cli.parse(SpoilOptions, argv)
    if options.out.suffix != ".npz":
        raise UserError(f"--out is {options.out}, expected a name that ends in .npz")
    refuse_existing(options.out)
    with ShardSet.open(options.in_dist_test) as shards:
        tuning, evaluation = tuning_part(np.arange(len(shards)))
        if not len(evaluation):
            raise UserError(
                f"--in-dist-test: {options.in_dist_test} has too few images: {len(tuning)}"
            )
        images = TuningImages.read(shards, tuning)
    file = io.BytesIO()
    np.savez_compressed(file, images=images.everything, family=np.array(images.names))
    write_new_file(options.out, [file.getvalue()])
    print(
        f"{options.out}: {len(images.normal):,} normal images, and synthetic outliers of "
        f"{len(images.families)} families, {len(images.everything):,} images in all"
    )


if __name__ == "__main__":
    cli.run(main)
