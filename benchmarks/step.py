"""Time a training step beside the bare network and a straightforward step.

`python -m benchmarks.step` times all peers in one process, on the same views of ViT-S/16 at 256 and
128 px (2 + 8 positive views, and 1 + 8 rotated negative views):

    bare        forward and backward of timm's ViT over the views, and nothing else
    ours        a whole step: the loader's views, student, teacher, head, loss, update, averages
    reference   a step as the authors' public code makes it, on given views (`authors_reference.py`
                of tests/support)

The benchmark also shows how long `train/main.py` waits for views, its memory with micro-batches and
with recomputation, the cost of a checkpoint, and how often a step waits for the device. The last
line is JSON. Ratios are medians over the rounds, with the smallest and the largest.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.options import StepOptions
from shards.terminal import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, time all peers and print the figures."""
    options = cli.parse(StepOptions, argv, description=__doc__)
    # Imported here, because torch takes seconds to import and --help needs none of it.
    from benchmarks.step_figures import print_figures

    print_figures(options)


if __name__ == "__main__":
    cli.run(main)
