"""Time the training loader beside torchvision's transforms in a DataLoader, in images a second.

`python -m benchmarks.loader` times every peer once in each of several rounds. All peers make
normalised tensors on all cores: 2 global views of 256 px and 8 local views of 128 px, as in the
paper (torchvision's blur has a window of 9). The images are cut from the two photographs of
scikit-learn:

- 32 px, raw: the engine that `auto` chooses (`product`) and `dali`, in bfloat16 and float32;
  torchvision has the pixels in memory.
- 256 px, JPEG: the engine `dali` reads shards; torchvision has the files in memory, and Pillow
  decodes them.
- 32 px with the negatives of `combined`: 28 views of an image and an auxiliary image.
- Parts of DALI's work alone: reading, a resize of the same crops, and graphs that end after each
  stage (`benchmarks/loader_stages.py`).
- An auxiliary set as large as ImageNet's train split (1,281,167 raw 32 px images): the time to the
  first batch, and the memory that a process gains over more than one pass.

The JSON line has the medians of the ratios, with the smallest and the largest of each. A ratio
compares two peers in the same round.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from benchmarks.options import LoaderOptions
from shards.terminal import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, time all peers and print the figures."""
    options = cli.parse(LoaderOptions, argv, description=__doc__)
    # As in train/main.py: OpenMP threads that wait actively take the cores from other threads.
    # OpenMP reads the setting once, when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Imported after the setting, because it imports torch; and --help needs none of it.
    from benchmarks.loader_figures import print_figures

    print_figures(options)


if __name__ == "__main__":
    cli.run(main)
