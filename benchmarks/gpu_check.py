"""Check everything that only a GPU can show, in one run: `make gpu-check`.

The command compares the views that both engines make on the GPU with those that they make on the
CPU, for several strategies. It checks that a loader resumes with the same views, takes training
steps in every precision, compares the scores with those of the CPU, and times the loader, a step
and the scorer. The last line is JSON. The exit status is 1 if a check failed, and 2 without a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.options import GpuCheckOptions
from shards.terminal import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Run the checks and print their results.

    Raises:
        UserError: there is no GPU.
    """
    cli.parse(GpuCheckOptions, argv, description=__doc__)
    # Imported here, because torch takes seconds to import and --help needs none of it.
    from benchmarks.gpu_checks import run_checks

    run_checks()


if __name__ == "__main__":
    cli.run(main)
