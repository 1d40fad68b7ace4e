"""S3: two builders of one set at the same time, and a builder after one that was killed."""

from __future__ import annotations

import collections
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.cases import Outcome, Source, digests, jpeg_source
from tests.faults.trial import Trial
from tests.support.paths import ROOT
from tests.support.waiting import LIMIT_S, wait_until


def drill(trial: Trial) -> dict[str, object]:
    """Start two builders a little apart: one succeeds, the other waits, then is refused."""
    source = jpeg_source(trial.folder, count=1200, size_px=160, shard_samples=150)
    out = trial.folder / "sets" / "set"
    reference: dict[str, str] = {}
    tally: collections.Counter[str] = collections.Counter()
    for apart_s in trial.rng().uniform(0, 0.3, trial.count(8, 20)).tolist():
        first = _start(source, out)
        time.sleep(apart_s)
        outcomes = [_end(process) for process in (first, _start(source, out))]
        what = f"{apart_s:.3f} s apart: {outcomes}"
        winners = [outcome for outcome in outcomes if outcome.status == 0]
        losers = [outcome for outcome in outcomes if outcome.status]
        if trial.expect(len(winners) == 1 and losers[0].is_clean_failure, what):
            tally["one_built_one_refused"] += 1
            tally["refused_at_work"] += "is being built by process" in losers[0].output
            tally["refused_as_built"] += "exists already" in losers[0].output
            reference = reference or digests(out)
            trial.expect(digests(out) == reference, f"{what}: another set")
            trial.expect(_names(out.parent) == {"set"}, f"{what}: left {_names(out.parent)}")
        shutil.rmtree(out.parent, ignore_errors=True)
    trial.expect(
        tally["refused_at_work"] + tally["refused_as_built"] == tally["one_built_one_refused"],
        f"refusals do not say why: {dict(tally)}",
    )
    for _ in range(trial.count(3, 10)):
        first = _start(source, out)
        wait_until((out.parent / ".set.partial" / "set").is_dir, "the first builder is at work")
        first.kill()
        killed = _end(first)
        trial.expect(killed.status == -signal.SIGKILL, f"the first builder: {killed}")
        second = _end(_start(source, out))
        is_built = trial.expect(
            second.status == 0 and digests(out) == reference, f"after a killed builder: {second}"
        )
        tally["lock_of_a_killed_builder_taken"] += is_built
        shutil.rmtree(out.parent, ignore_errors=True)
    return {"pairs": trial.count(8, 20), **tally}


def _start(source: Source, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "shards.build", *source.argv(out)]
    both = subprocess.STDOUT
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=both, text=True)


def _end(process: subprocess.Popen[str]) -> Outcome:
    output, _ = process.communicate(timeout=LIMIT_S)
    return Outcome(process.returncode, output)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
