"""Compare every view engine with Pillow and torchvision: `python -m dali_pipes.parity`.

Views of photographs are made with each operation alone, with all operations together, and with the
shifting transformations. Every engine and the reference get the same parameters. The first table
shows the differences in levels of 0..255. The second table compares the distributions of the drawn
parameters with torchvision's. The last line of output is one JSON object. Exit status 1 means that
a row of a table failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from dali_pipes.parity.config import ParityConfig
from shards.terminal import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Make all comparisons and print the results. Exit with status 1 if a row failed, otherwise 0.

    Raises:
        UserError: An option has a value that is too small.
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
