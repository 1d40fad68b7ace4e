"""Time a build of shards beside plain ways to do the same work.

`python -m benchmarks.shards` times every peer once in each of several rounds:

- JPEG files of ImageNet-like sizes to raw 32 px: `shards.build` on all cores; one process that
  decodes and resizes with Pillow and writes with webdataset's ShardWriter; and, as the limit, one
  process per core that only decodes and resizes. The start of these processes is not counted.
- An array of 32 px images to shards: `shards.build`; a plain copy of the array, synced; and a copy
  with the sha256 of the bytes that are read and written, which a build computes too.
- A synthetic set as large as ImageNet's train split (1,281,167 raw 32 px images): it is built once
  in a separate process and opened in new ones.

The time of a build includes its plan, digests, syncs and the rename. All input files are in the
page cache. The JSON line has the medians of the ratios, with the smallest and the largest of each.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.options import ShardsOptions
from shards.terminal import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, time all peers and print the figures."""
    options = cli.parse(ShardsOptions, argv, description=__doc__)
    # Imported here, because scikit-learn takes seconds to import and --help needs none of it.
    from benchmarks.shards_figures import print_figures

    print_figures(options)


if __name__ == "__main__":
    cli.run(main)
