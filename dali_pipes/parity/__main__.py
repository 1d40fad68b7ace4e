"""The command `python -m dali_pipes.parity`."""

from __future__ import annotations

from dali_pipes.parity.compare import main
from shards.terminal import cli

if __name__ == "__main__":
    cli.run(main)
