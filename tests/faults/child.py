"""A build in a forked process (see fork_server.py), with the faults that its job asks for."""

from __future__ import annotations

import json
import os
import random
import resource
from pathlib import Path
from typing import Any

from shards import build
from shards.terminal import cli
from tests.faults.calls import Calls


def run(job: dict[str, Any]) -> None:
    """Build as the command line does, with the faults that `job` asks for."""
    if job.get("listing_seed") is not None:
        _shuffle_listings(job["listing_seed"])
    if job.get("file_limit_bytes") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit_bytes"],) * 2)
    calls = Calls(os.path.dirname(job["output"]), job.get("place", ""), job.get("fault", ""))
    calls.install()
    try:
        cli.run(lambda: build.main(job["argv"]))
    finally:
        if job.get("log"):
            found = {"counts": calls.counts, "log": calls.log}
            Path(job["log"]).write_text(json.dumps(found))


def _shuffle_listings(seed: int) -> None:
    """Let folders be listed in a random order, as on another file system."""
    real, rng = os.scandir, random.Random(seed)

    class Shuffled:
        def __init__(self, path: Any = ".") -> None:
            with real(path) as entries:
                self._entries = list(entries)
            rng.shuffle(self._entries)

        def __iter__(self) -> Any:
            return iter(self._entries)

        def __next__(self) -> Any:
            if not self._entries:
                raise StopIteration
            return self._entries.pop()

        def __enter__(self) -> Shuffled:
            return self

        def __exit__(self, *error: object) -> None:
            self.close()

        def close(self) -> None:
            self._entries = []

    os.scandir = Shuffled  # type: ignore[assignment,misc]
