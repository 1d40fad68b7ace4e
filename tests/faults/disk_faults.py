"""S2: disks that are full, fail, take a part of a write, or hold files of a limited size.

A build then fails with one line that says so, leaves nothing under the set's name (or, when the
fault comes after the rename, the whole set), spares what stands beside it, and makes the same bytes
when it is called again without the fault.
"""

from __future__ import annotations

import collections
import shutil
import subprocess
from pathlib import Path

from tests.faults.cases import Builder, Outcome, Source, digests, jpeg_source, npy_source
from tests.faults.trial import Trial

WRITES = ("open", "write", "mkdir")
"""Calls that need room on the disk."""
TMPFS_KB = (64, 256, 512)


def drill(trial: Trial) -> dict[str, object]:
    """Let each call of a build fail in turn; then real limits of the system."""
    tally: collections.Counter[str] = collections.Counter()
    builder = Builder(trial.folder)
    place = trial.folder / "beside"
    for source, stride in (
        (npy_source(trial.folder), 1),
        (jpeg_source(trial.folder), trial.count(5, 1)),
    ):
        other = place / "other"
        counts, _ = builder.calls(source.argv(other, name="set"))
        reference = digests(other)
        run = _Runs(trial, builder, source, place, reference, tally)
        for fault, functions in (
            ("ENOSPC", (*WRITES, "rename")),
            ("EIO", ("write", "fsync", "rename", "unlink", "rmdir", "read")),
        ):
            # A read of every image of a folder is one too many.
            numbered = [
                f"{name} {k + 1}" for name in functions for k in range(min(counts[name], 40))
            ]
            for where in numbered[::stride]:
                run.fails(f"{fault} at {where}", fault, place=where, fault=fault)
        for k in range(0, counts["write"], stride):
            run.short_write(f"write {k + 1}")
        largest = max(path.stat().st_size for path in other.iterdir())
        for limit in trial.rng().integers(0, largest, trial.count(10, 50)).tolist():
            run.fails(f"file limit of {limit} bytes", "RLIMIT_FSIZE", file_limit_bytes=limit)
        run.small_disks(trial.folder / "mount")
        shutil.rmtree(place)
    return dict(tally)


class _Runs:
    """Builds of one source beside a set that is there already."""

    def __init__(
        self,
        trial: Trial,
        builder: Builder,
        source: Source,
        place: Path,
        reference: dict[str, str],
        tally: collections.Counter[str],
    ) -> None:
        self.trial, self.builder, self.source = trial, builder, source
        self.place, self.reference, self.tally = place, reference, tally

    def fails(self, what: str, kind: str, **faults: object) -> None:
        """A build with a fault fails as it should, and one without it then succeeds."""
        outcome = self.builder.run(self.source.argv(self.place / "set"), **faults)
        self.tally[kind] += 1
        is_removal = str(faults.get("place")).startswith(("unlink", "rmdir"))
        self.check(f"{self.source.name}: {what}", self.place / "set", outcome, is_removal)

    def check(self, what: str, out: Path, outcome: Outcome, may_succeed: bool = False) -> None:
        """After a build with a fault: its end, what it left, and a build without the fault."""
        trial = self.trial
        # What is not removed once the set is published is no failure.
        published = (
            outcome.status == 0 and out.exists() and (" at unlink" in what or " at rmdir" in what)
        )
        clean = trial.expect(outcome.is_clean_failure or published, f"{what}: {outcome}")
        self.tally["clean_failures"] += clean
        if (self.place / "other").exists():
            spared = digests(self.place / "other") == self.reference
            trial.expect(spared, f"{what}: the set beside it changed")
        if out.exists():
            self.tally["already_published"] += 1
            trial.expect(digests(out) == self.reference, f"{what}: there is a set, not whole")
            shutil.rmtree(out)
        again = self.builder.run(self.source.argv(out))
        is_same = again.status == 0 and digests(out) == self.reference
        self.tally["byte_identical_after_rerun"] += is_same
        trial.expect(is_same, f"{what}: the rerun gave {again}")
        trial.expect(not (out.parent / ".set.partial").exists(), f"{what}: the rerun left a folder")
        shutil.rmtree(out, ignore_errors=True)

    def short_write(self, where: str) -> None:
        """A write that takes a part only is no error: the rest follows."""
        out = self.place / "set"
        outcome = self.builder.run(self.source.argv(out), place=where, fault="short")
        is_same = outcome.status == 0 and digests(out) == self.reference
        self.tally["short_writes"] += self.trial.expect(
            is_same, f"{self.source.name}: short {where}: {outcome}"
        )
        shutil.rmtree(out, ignore_errors=True)

    def small_disks(self, mount: Path) -> None:
        """A file system of its own that is really full, and then made larger."""
        mount.mkdir(exist_ok=True)
        for size_kb in TMPFS_KB:
            options = ["-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(mount)]
            if subprocess.run(["mount", *options], capture_output=True).returncode:
                self.tally["tmpfs_not_permitted"] += 1
                return
            try:
                outcome = self.builder.run(self.source.argv(mount / "set"))
                subprocess.run(["mount", "-o", "remount,size=64m", str(mount)], check=True)
                self.tally["tmpfs"] += 1
                what = f"{self.source.name}: disk of {size_kb} kB"
                self.check(what, mount / "set", outcome)
                self.trial.expect("No space" in outcome.output, f"{what}: {outcome}")
            finally:
                subprocess.run(["umount", str(mount)], check=True)
