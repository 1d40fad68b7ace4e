"""Time the scores beside the matrix product that they need and beside other ways to compute them.

`python -m benchmarks.scorer` times all peers in one process, on the same features, which are
normally distributed around a few centres:

    mm, oneDNN  the cosines alone: float32 products of tiles by torch.mm, into one buffer, and by
                oneDNN (CPU only), each with the fastest of several tile shapes
    eq6         our scorer: Eq. 6 alone
    all         our scorer: Eq. 6, maximum cosine and k-NN in one pass
    chunked     Eq. 6 written directly: chunks of 1,000 test features against the whole bank
    sklearn     scikit-learn's cosine_similarity, then numpy's exp and mean (CPU only)
    faiss       k-NN alone: an exact faiss IndexFlatIP, built and searched (CPU only)

All peers use the same number of threads. The benchmark also shows the error of Eq. 6 against
float64, and the memory that all scores take above their inputs (on a CPU, in a separate process).
The last line is JSON. Ratios are medians over the rounds, with the smallest and the largest.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.options import ScorerOptions
from shards.terminal import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, time all peers and print the figures."""
    options = cli.parse(ScorerOptions, argv, description=__doc__)
    # Imported here, because torch takes seconds to import and --help needs none of it.
    from benchmarks.scorer_figures import print_figures

    print_figures(options)


if __name__ == "__main__":
    cli.run(main)
