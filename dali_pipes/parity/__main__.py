"""Compare every view engine with Pillow and torchvision: `python -m dali_pipes.parity`.

Photographs go through each operation alone, through whole views and through the shifting
transformations. Every engine, and the reference, gets the same drawn parameters. The first table
has the differences in levels of 0..255; the second compares the distributions of the drawn
parameters with torchvision's. The last line of output is one JSON object. Exit status 1 means that
a row failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from dali_pipes.parity.config import ParityConfig
from shards.terminal import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Compare everything and print it; exit with status 1 if a row failed.

    Raises:
        UserError: a number is too small.
    """
    config = cli.parse(ParityConfig, argv, description=__doc__)
    config.check()
    # Imported here, because torch takes seconds to import and --help needs none of it.
    import torch

    from dali_pipes.parity import report
    from dali_pipes.parity.compare import compare_shifts, compare_views
    from dali_pipes.parity.distributions import compare_distributions
    from dali_pipes.parity.engines import engines
    from dali_pipes.parity.shifters import shifters

    devices = ["cpu", *(["gpu"] if torch.cuda.is_available() else [])]
    rows = [
        *compare_views(engines(devices), config),
        *compare_shifts(shifters(devices), config),
    ]
    distributions = compare_distributions(config.draws, config.seed)
    report.show(rows, distributions)
    result = report.as_json(rows, distributions)
    print(json.dumps(result))
    sys.exit(0 if result["passed"] else 1)


if __name__ == "__main__":
    cli.run(main)
