"""S1: builds that are killed, at random moments and at each call that changes the disk.

After each kill there is nothing under the set's name, or the whole set; and a rerun finishes with
the bytes of a build that was not disturbed, without making a finished shard again. A power cut is a
kill that also takes half of every file that was not synced.
"""

from __future__ import annotations

import collections
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from shards.verify import verify_shards
from tests.faults.cases import Builder, Source, digests, jpeg_source, npy_source
from tests.faults.trial import Trial
from tests.support.commands import run_command
from tests.support.paths import ROOT


def drill(trial: Trial) -> dict[str, object]:
    """Kill builds of an array and of a folder of JPEGs with bad ones among them."""
    tally: collections.Counter[str] = collections.Counter()
    builder = Builder(trial.folder)
    sources = [npy_source(trial.folder), jpeg_source(trial.folder)]
    for source in sources:
        at_each_call(trial, builder, source, tally)
    large = trial.folder / "large"
    large.mkdir()
    # Long enough that most of the time is the build's and not the start of the interpreter.
    slow = jpeg_source(large, count=trial.count(1500, 3000), size_px=160, shard_samples=150)
    at_random(trial, builder, slow, tally)
    return {
        "random": trial.count(15, 50),
        **tally,
        "accepted_partial": tally["accepted_partial"],
        "unsynced_when_published": tally["unsynced_when_published"],
    }


def at_each_call(
    trial: Trial, builder: Builder, source: Source, tally: collections.Counter[str]
) -> None:
    """SIGKILL before each call and within each write, and power cuts; a short run tries a part."""
    whole = trial.folder / "whole" / "set"
    counts, log = builder.calls(source.argv(whole))
    reference = digests(whole)
    check_syncs(trial, source, whole, log, tally)
    shutil.rmtree(whole.parent)
    functions = [name for name in counts if name != "read"]
    places = [f"{name} {k + 1}" for name in functions for k in range(counts[name])]
    places += [f"write {k + 1} half" for k in range(counts["write"])]
    kill_stride = trial.count(1 if source.name == "npy" else 2, 1)
    cases = [("kill", place) for place in places[::kill_stride]]
    cases += [("power cut", place) for place in places[:: trial.count(4, 1)]]
    for number, (fault, place) in enumerate(cases):
        what = f"{source.name}: {fault} at {place}, listing {number}"
        out = trial.folder / "killed" / "set"
        # Folders are listed, and so removed, in another order each time.
        killed = builder.run(source.argv(out), place=place, fault=fault, listing_seed=number)
        if trial.expect(killed.status == -signal.SIGKILL, f"{what}: not reached: {killed}"):
            tally["at_crash_points" if fault == "kill" else "power_cuts"] += 1
            check_rerun(trial, builder, source, out, reference, what, tally)
        shutil.rmtree(out.parent, ignore_errors=True)


def check_syncs(
    trial: Trial, source: Source, out: Path, log: list[list[str]], tally: collections.Counter[str]
) -> None:
    """When the set gets its name, all its files and names are on the disk; then its own name."""
    renames = [i for i, (call, path) in enumerate(log) if call == "rename" and path.endswith("set")]
    trial.expect(len(renames) == 1, f"{source.name}: published by {len(renames)} renames")
    before, after = log[: renames[0]], log[renames[0] :]
    folder = before[-1][1]
    last: dict[str, dict[str, int]] = collections.defaultdict(lambda: collections.defaultdict(int))
    for i, (call, path) in enumerate(before):
        last[path][call] = i + 1
        last[os.path.dirname(path)]["change"] = i + 1 if call in ("open", "rename") else 0
    late = [name for name in os.listdir(out) if not _is_synced(last[f"{folder}/{name}"])]
    tally["unsynced_when_published"] += len(late)
    trial.expect(not late, f"{source.name}: published before {late} were synced")
    trial.expect(
        os.path.basename(folder) == "set" and last[folder]["fsync"] > last[folder]["change"],
        f"{source.name}: the names in {folder} were not synced before it was published",
    )
    trial.expect(
        ["fsync", str(out.parent)] in after, f"{source.name}: the set's name was not synced"
    )


def _is_synced(last: dict[str, int]) -> bool:
    return last["fsync"] > last["write"] > 0


def at_random(
    trial: Trial, builder: Builder, source: Source, tally: collections.Counter[str]
) -> None:
    """SIGKILL of the process group of `python -m shards.build`."""
    out = trial.folder / "random" / "set"
    start_s = time.monotonic()
    run = run_command("-m", "shards.build", *source.argv(out))
    seconds = time.monotonic() - start_s
    assert run.returncode == 0, run
    reference = digests(out)
    shutil.rmtree(out)
    rng = trial.rng()
    for _ in range(trial.count(15, 50)):
        moment_s = rng.uniform(0, seconds)
        command = [sys.executable, "-m", "shards.build", *source.argv(out)]
        silent = subprocess.DEVNULL
        process = subprocess.Popen(
            command, cwd=ROOT, start_new_session=True, stdout=silent, stderr=silent
        )
        time.sleep(moment_s)
        os.killpg(process.pid, signal.SIGKILL)
        tally["random_before_the_end"] += process.wait() == -signal.SIGKILL
        what = f"kill after {moment_s:.3f} of {seconds:.3f} s"
        check_rerun(trial, builder, source, out, reference, what, tally)
        shutil.rmtree(out.parent, ignore_errors=True)


def check_rerun(
    trial: Trial,
    builder: Builder,
    source: Source,
    out: Path,
    reference: dict[str, str],
    what: str,
    tally: collections.Counter[str],
) -> None:
    """What a kill left is nothing or whole, and the next build makes the set of it."""
    partial = out.parent / ".set.partial"
    if out.parent.exists():
        strays = set(os.listdir(out.parent)) - {out.name, partial.name}
        trial.expect(not strays, f"{what}: left {strays}")
    if out.exists():
        tally["already_published"] += 1
        is_whole = digests(out) == reference
        tally["accepted_partial"] += not is_whole
        trial.expect(is_whole, f"{what}: there is a set that is not whole")
        verify_shards(out, full=True)
        # Both things that a user may do now: build again, or remove the set and build again.
        copy = out.parent.parent / "copy"
        shutil.copytree(out.parent, copy)
        again = builder.run(source.argv(copy / "set"))
        is_kept = again.is_clean_failure and "exists" in again.output
        trial.expect(is_kept and digests(copy / "set") == reference, f"{what}: then {again}")
        trial.expect(os.listdir(copy) == ["set"], f"{what}: leftovers {os.listdir(copy)}")
        shutil.rmtree(copy)
        shutil.rmtree(out)
    notes = len([p for p in partial.glob("parts/*.json") if p.stat().st_size])
    before = _tars(partial / "set")
    again = builder.run(source.argv(out))
    is_same = again.status == 0 and digests(out) == reference
    tally["byte_identical_after_rerun"] += is_same
    if trial.expect(is_same, f"{what}: the rerun gave {again}"):
        taken_over = len(before.items() & _tars(out).items())
        tally["shards_finished_before"] += min(notes, len(before))
        tally["shards_taken_over"] += taken_over
        trial.expect(
            taken_over >= min(notes, len(before)),
            f"{what}: {notes} shards were finished, {taken_over} were taken over",
        )
        left = os.listdir(out.parent)
        trial.expect(left == ["set"], f"{what}: the rerun left {left}")


def _tars(folder: Path) -> dict[str, tuple[int, int]]:
    """The tars in a folder: a file that was not made again keeps its number and its time."""
    status = {path.name: path.stat() for path in folder.glob("*.tar")}
    return {name: (s.st_ino, s.st_mtime_ns) for name, s in status.items()}
