"""Runs the drills: a line each as they end, then one line of JSON with all figures.

Exit status 1 when any drill found a failure.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.errors import UserError
from shards.terminal import cli
from tests.faults.trial import Drill, Trial

DRILLS = (
    "kills",
    "disk_faults",
    "builders",
    "reproducible",
    "names",
    "mutants",
    "rejects",
    "damage",
    "epochs",
    "open_readers",
    "health",
    "checkpoint_damage",
    "checkpoint_readers",
    "save_phases",
    "training_kills",
    "training_ranks",
    "world_changes",
    "stops",
    "not_finite",
    "scoring",
)
"""Names of the drills, in the order in which they run: the drill X is `tests.faults.X.drill`."""
SHOWN_FAILURES = 10


@dataclass(frozen=True)
class DrillRequest:
    """Which drills, and how much of each."""

    long: bool = False
    """The large counts: half an hour rather than six minutes."""
    only: tuple[str, ...] = ()
    """Names of drills; by default all."""
    seed: int = 0
    """Of everything that is drawn."""


def drill_of(name: str) -> Drill:
    """Import a drill; only then, because most of them need torch, which takes seconds to import."""
    return importlib.import_module(f"tests.faults.{name}").drill


def run_drill(drill: Drill, request: DrillRequest) -> tuple[dict[str, object], Trial]:
    """The figures of a drill, with its number of failures and its seconds; and the trial."""
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="oodino-faults-") as folder:
        trial = Trial(Path(folder).resolve(), request.long, request.seed)
        try:
            figures = drill(trial)
        except Exception:
            # What no drill reckons with is a failure too, and the other drills go on.
            figures = {}
            trial.failures.append(traceback.format_exc())
    seconds = round(time.monotonic() - start_s, 1)
    return {**figures, "failures": len(trial.failures), "seconds": seconds}, trial


def main(argv: Sequence[str] | None = None) -> None:
    """Run the drills that were asked for."""
    request = cli.parse(DrillRequest, argv, description=__doc__)
    unknown = set(request.only) - set(DRILLS)
    if unknown:
        raise UserError(f"no drill {min(unknown)!r}, there are: {', '.join(DRILLS)}")
    results: dict[str, object] = {}
    failures, start_s = 0, time.monotonic()
    print(f"{'drill':<18}{'checks':>8}  {'result':<10}{'seconds':>8}", flush=True)
    for name in request.only or DRILLS:
        figures, trial = run_drill(drill_of(name), request)
        results[name] = figures
        failures += len(trial.failures)
        result = f"{len(trial.failures)} failed" if trial.failures else "ok"
        print(f"{name:<18}{trial.checks:>8}  {result:<10}{figures['seconds']:>8}", flush=True)
        for failure in trial.failures[:SHOWN_FAILURES]:
            print(f"  {failure}", flush=True)
    seconds = round(time.monotonic() - start_s)
    print(json.dumps({**results, "failures": failures, "seconds": seconds}))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    cli.run(main)
