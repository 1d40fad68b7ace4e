"""C1: one save of a checkpoint, killed at each call that changes the disk.

After any kill, the newest checkpoint that loads is the previous or the new one, with the saved
values, and the next save leaves only its own checkpoint. A power cut is a kill that also loses what
was not synced: half of a file, or the names of files.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import gc
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from shards.errors import UserError
from tests.faults.calls import Calls, path_after_rename
from tests.faults.checkpoint_damage import tiny_run
from tests.faults.trial import Trial
from tests.support.fork_server import in_child
from train.checkpoint import Checkpoint, CheckpointWriter, latest_checkpoint
from train.state import TrainState

END = "its end"
"""The place after the last call, where the save has returned."""


def drill(trial: Trial) -> dict[str, object]:
    """Kill a save, check the checkpoints, save again; from each state that a save may find."""
    saves = Saves(trial)
    for name, (prepare, before, step) in saves.situations().items():
        saves.clear()
        prepare()
        shutil.copytree(saves.run, saves.found)
        counts = saves.undisturbed(step, name)
        places = [f"{call} {k + 1}" for call, number in counts.items() for k in range(number)]
        places += [f"write {k + 1} half" for k in range(counts["write"])]
        cases = [("kill", place) for place in [*places, END]]
        cases += [("power cut", place) for place in [*places[:: trial.count(2, 1)], END]]
        for fault, place in cases:
            saves.try_one(name, before, step, fault, place)
        shutil.rmtree(saves.found)
    return {
        "at_crash_points": saves.tally["kill"],
        "power_cuts": saves.tally["power cut"],
        "left_the_old": saves.tally["old"],
        "left_the_new": saves.tally["new"],
        "neither": saves.tally["neither"],
    }


class Disk(Calls):
    """The calls of a save, with a power cut that also undoes renames that were not synced.

    A rename onto an existing name is not undone.
    """

    def __init__(self, folder: Path, place: str, fault: str) -> None:
        """Watch the disk; files that a cut takes are moved to `folder`/lost."""
        super().__init__(str(folder), place, fault)
        self._lost = folder / "lost"
        self._names: list[tuple[str, str]] = []
        """Name before ("" for a new entry) and name now, in the order of the calls."""

    def _note(self, function: str, path: object) -> bool:
        is_here = super()._note(function, path)
        if function in ("open", "mkdir") and not os.path.lexists(str(path)):
            self._names.append(("", str(path)))
        return is_here

    def _moved(self, old: str, new: str) -> None:
        super()._moved(old, new)
        self._names.append((old, new))

    def _synced(self, path: str) -> None:
        """Note that the names of a folder are on the disk: its renames cannot be undone."""
        super()._synced(path)
        pending: list[tuple[str, str]] = []
        for old, new in self._names:
            if os.path.dirname(new) != path:
                pending.append((old, new))
            elif old:
                pending = [
                    (path_after_rename(a, old, new), path_after_rename(b, old, new))
                    for a, b in pending
                ]
        self._names = pending

    def _lose_unsynced(self) -> None:
        super()._lose_unsynced()
        for number, (old, new) in enumerate(reversed(self._names)):
            if os.path.lexists(new):
                self._real["rename"](new, old or f"{self._lost}/{number}")


class Saves:
    """A run that keeps one checkpoint, and saves of its steps in forked processes."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.run, self.found = trial.folder / "run", trial.folder / "found"
        self._config, self._state = tiny_run(self.run, keep_checkpoints=1)
        self._loaded = TrainState.start(self._config, torch.device("cpu"))
        self._log = trial.folder / "calls.json"
        self.tally: collections.Counter[str] = collections.Counter()

    def situations(self) -> dict[str, tuple[Callable[[], object], int | None, int]]:
        """Return the states that a save may find: how to make it, its newest step, step to save."""
        return {
            "first": (lambda: None, None, 1),
            "next": (lambda: self.save(1), 1, 2),
            "after a kill while writing": (lambda: self.killed_at("rename 1"), 1, 2),
            "after a kill while removing": (lambda: self.killed_at("unlink 2"), 2, 3),
            "over a damaged one": (self.damaged, 1, 2),
        }

    def killed_at(self, place: str) -> None:
        """Save step 1, and let the save of step 2 be killed."""
        self.save(1)
        status = self.in_child(2, "kill", place)
        self.trial.expect(status == -signal.SIGKILL, f"{place} of step 2: not reached: {status}")

    def damaged(self) -> None:
        """Save steps 1 and 2, and damage the second."""
        for step in (1, 2):
            self.save(step, keep_checkpoints=2)
        (self.run / "checkpoints" / "step-00000002" / "state.json").write_text("{}")

    def clear(self) -> None:
        """Make an empty run without lost files."""
        for folder in (self.run, self.trial.folder / "lost"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def undisturbed(self, step: int, name: str) -> dict[str, int]:
        """Count the calls of a save that change the disk."""
        status = self.in_child(step, "", "")
        self.trial.expect(status == 0, f"{name}: the save ended with {status}")
        counts = json.loads(self._log.read_text())
        return {call: number for call, number in counts.items() if call != "read"}

    def try_one(self, name: str, before: int | None, step: int, fault: str, place: str) -> None:
        """Break one save, check what is left, save the next step."""
        what = f"{name}: {fault} at {place}"
        self.clear()
        shutil.copytree(self.found, self.run, dirs_exist_ok=True)
        status = self.in_child(step, fault, place)
        if self.trial.expect(status == -signal.SIGKILL, f"{what}: not reached: {status}"):
            self.tally[fault] += 1
        # A kill without a power cut never leaves an incomplete folder with a checkpoint's name.
        is_silent = fault == "kill" and name != "over a damaged one"
        left = self.whole_step(what, self.newest(what, is_silent))
        allowed = (step,) if place == END else (before, step)
        if self.trial.expect(left in allowed, f"{what}: step {left} is left, not one of {allowed}"):
            self.tally["new" if left == step else "old"] += 1
        else:
            self.tally["neither"] += 1
        try:
            self.save(step + 1)
        except (OSError, UserError) as error:
            self.trial.expect(False, f"{what}: then {error!r}")
            return
        found = self.newest(f"{what}, then saved", is_silent=True)
        holds = found is not None and found.step == step + 1
        self.trial.expect(holds, f"{what}: then {found} instead of step {step + 1}")
        names = {path.name for path in (self.run / "checkpoints").iterdir()}
        names -= {f"step-{step:08d}.refused"}  # the damaged checkpoint is kept
        self.trial.expect(names == {f"step-{step + 1:08d}"}, f"{what}: then there are {names}")

    def save(self, step: int, **changes: Any) -> None:
        """Save a step as a run does, and wait until it is written."""
        fill(self._state, step)
        writer = CheckpointWriter(dataclasses.replace(self._config, **changes))
        writer.save(self._state, loader_at(step))
        writer.close()

    def in_child(self, step: int, fault: str, place: str) -> int:
        """Save a step in a forked process with a fault; return its status, or minus the signal."""

        def body() -> None:
            gc.disable()  # the collector would touch, and so copy, all memory of the process
            calls = Disk(self.trial.folder, "" if place == END else place, fault)
            calls.install()
            self.save(step)
            if place == END:
                calls.die()
            self._log.write_text(json.dumps(dict(calls.counts)))

        pid = os.fork()
        if not pid:
            in_child(body)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def newest(self, what: str, is_silent: bool) -> Checkpoint | None:
        """Return the newest checkpoint, found by the code under test."""
        with contextlib.redirect_stdout(io.StringIO()) as said:
            try:
                found = latest_checkpoint(self.run)
            except UserError as error:
                self.trial.expect(False, f"{what}: {error}")
                found = None
        self.trial.expect(not (is_silent and said.getvalue()), f"{what}: {said.getvalue()}")
        return found

    def whole_step(self, what: str, found: Checkpoint | None) -> int | None:
        """Load a checkpoint, check its values, and return its step."""
        if found is None:
            return None
        fill(self._loaded, 0)
        loader = found.restore(self._config, self._loaded)
        fill(self._state, found.step)
        theirs, ours = tensors(self._loaded), tensors(self._state)
        unequal = [name for name in ours if not torch.equal(ours[name], theirs[name])]
        self.trial.expect(
            not unequal and theirs.keys() == ours.keys(), f"{what}: step {found.step}: {unequal}"
        )
        rest = json.dumps([loader, self._loaded.values()])
        holds = rest == json.dumps([loader_at(found.step), self._state.values()])
        self.trial.expect(holds, f"{what}: step {found.step} has {rest}")
        return found.step


def loader_at(step: int) -> dict[str, Any]:
    """Return the state of a loader at a step."""
    return {"step": step, "manifests": {"in-dist": f"digest {step}"}}


@torch.no_grad()
def fill(state: TrainState, step: int) -> None:
    """Fill a state with values that are a function of the step."""
    generator = torch.Generator().manual_seed(step)
    for tensor in tensors(state).values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    for group in state.optimizer.param_groups:
        group["lr"] = step / 100
    state.step = step


def tensors(state: TrainState) -> dict[str, torch.Tensor]:
    """Return all values of a state, by name."""
    return {**state.network_tensors(), **state.optimizer_tensors()}
