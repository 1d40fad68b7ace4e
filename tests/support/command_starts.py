"""Start commands of the project as `python COMMAND` does, and tell what each one printed.

    python -m tests.support.command_starts < COMMANDS > STARTS

COMMANDS is a list of command lines in JSON, STARTS a list of the fields of `Start`. Each command
runs in a fork of this process, which costs less than a new process. This process has imported the
light packages that every command needs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy  # noqa: F401 (for the forks, like the next three)
import PIL.Image  # noqa: F401
import rich.table  # noqa: F401
import tyro  # noqa: F401

from tests.support.fork_server import in_child, run_as_python


@dataclass(frozen=True)
class Start:
    """One command that ran until it ended."""

    status: int
    """Exit status."""
    output: str
    """The text that it printed, to stdout and stderr."""
    packages: list[str]
    """Names of the top-level packages that it had imported at the end."""


def start(command: list[str], folder: Path) -> Start:
    """Run a command in a fork; what it tells passes through files in `folder`."""
    output, packages = folder / "output", folder / "packages"

    def body() -> None:
        with output.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        try:
            run_as_python(command)
        finally:
            names = {name.partition(".")[0] for name in sys.modules}
            packages.write_text(json.dumps(sorted(names)))

    child = os.fork()
    if child == 0:
        in_child(body)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Start(status, output.read_text(), json.loads(packages.read_text()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        starts = [asdict(start(command, Path(name))) for command in json.load(sys.stdin)]
    json.dump(starts, sys.stdout)
