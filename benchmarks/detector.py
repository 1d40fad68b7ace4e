"""Time a detector with the ensemble beside the same detector with the teacher's Eq. 6 alone.

    python -m benchmarks.detector RUN --in-dist-train DIR --calibration DIR

Both score the same images on one CPU thread, round after round, from pixels to scores. The figures
are the CPU time of this process. The last line is JSON. Ratios are medians over the rounds, with
the smallest and the largest.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.options import DetectorOptions
from benchmarks.rounds import ratio, time_rounds
from eval.config import ENSEMBLE, EQ6
from shards.reader import ShardSet
from shards.terminal import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, time both detectors and print the figures.

    Raises:
        UserError: the run or a set is missing or damaged.
    """
    options = cli.parse(DetectorOptions, argv, description=__doc__)
    # Imported here, because torch takes seconds to import and --help needs none of it.
    import torch

    from eval.detector import Detector

    torch.set_num_threads(1)
    detectors = {
        score: Detector.load(
            options.run,
            in_dist_train=options.in_dist_train,
            calibration=options.calibration,
            device="cpu",
            score=score,
            num_threads=1,
        )
        for score in (EQ6, ENSEMBLE)
    }
    with ShardSet.open(options.calibration) as shards:
        pixels = shards.read(np.arange(min(options.images, len(shards))))

    def seconds_of(score: str) -> float:
        start_s = time.process_time()
        detectors[score].score_pixels(pixels)
        return time.process_time() - start_s

    for score in detectors:
        seconds_of(score)  # the first call also allocates memory
    seconds = time_rounds([EQ6, ENSEMBLE], seconds_of, options.rounds)
    figures = {
        "images": len(pixels),
        "members": [member.key for member in detectors[ENSEMBLE].ensemble.weighing],
        **ratio("cost_of_ensemble", seconds[ENSEMBLE], seconds[EQ6]),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    cli.run(main)
