"""T2: ranks under torchrun are killed, and torchrun starts them again.

The other ranks end within seconds. The run resumes from its last whole checkpoint, and ends with
the losses, tensors and sample ids of an undisturbed run, bit for bit.
"""

from __future__ import annotations

import collections
import os
import signal
import time
from pathlib import Path

from tests.faults.trainers import (
    Trainers,
    difference,
    ids_by_step,
    seconds_to_end,
    seen_once,
    steps_of,
)
from tests.faults.trial import Trial

RANKS, STEPS, INTERVAL = 2, 40, 10
OPTIONS = ("--epochs", "4", "--checkpoint-steps", str(INTERVAL))
WHO = ("rank 0", "rank 1", "launcher", "all", "rank 0 in a save")
ENDED_S = 10.0
"""Seconds that a surviving rank may take to end."""


def drill(trial: Trial) -> dict[str, object]:
    """Kill each rank, at different steps."""
    tally: collections.Counter[str] = collections.Counter()
    ended_s: list[float] = []
    lost: list[int] = []
    rng = trial.rng()
    with Trainers(trial.folder) as trainers:
        whole = trial.folder / "whole"
        running = trainers.start(whole.name, *OPTIONS, ranks=RANKS)
        status = running.wait()
        trial.expect(status == 0, f"undisturbed: exit status {status}: {running.output[-2000:]}")
        trial.expect("error" not in running.output, f"undisturbed: {running.output[-2000:]}")
        trial.expect(seen_once(ids_by_step(whole, RANKS), STEPS), "undisturbed: ids")
        for number in range(trial.count(5, 20)):
            who = WHO[number % len(WHO)]
            cut = trial.folder / f"cut-{number}"
            step = int(rng.integers(3, STEPS - 3))
            kill(trial, trainers, cut, who, step, ended_s)
            what = f"kill of {who} at step {step}, run {number}"
            lost.append(steps_again(cut))
            trial.expect(0 < lost[-1] <= 2 * INTERVAL, f"{what}: {lost[-1]} steps again")
            differs = difference(whole / "run", cut / "run", STEPS)
            same_ids = ids_by_step(whole, RANKS) == ids_by_step(cut, RANKS)
            trial.expect(same_ids, f"{what}: other sample ids")
            tally["bit_identical"] += same_ids and not differs
            trial.expect(not differs, f"{what}: {differs}")
            tally["kills"] += 1
    return {
        "kills": tally["kills"],
        "bit_identical": tally["bit_identical"],
        "survivors_end_s": round(max(ended_s), 2),
        "steps_lost_at_most": max(lost),
    }


def kill(
    trial: Trial, trainers: Trainers, cut: Path, who: str, step: int, ended_s: list[float]
) -> None:
    """Kill a rank, time the end of the others, and let the run finish."""
    what = f"kill of {who} at step {step}"
    faults: dict[str, object] = {"restarts": 2}
    rank = 1 if who == "rank 1" else 0
    fault = {"step": step, "rank": rank, "signal": signal.SIGKILL}
    if who == "rank 0 in a save":
        # Without restarts of torchrun, because each would be killed at that call again.
        faults = {"place": "write 6 half"}
    elif who == "launcher":
        faults["signals"] = [{**fault, "to": "launcher"}]
    elif who == "all":
        faults["signals"] = [{**fault, "signal": 0}]
    else:
        faults["signals"] = [fault]
    running = trainers.start(cut.name, *OPTIONS, ranks=RANKS, **faults)
    if who != "rank 0 in a save":
        sent_s = running.sent_s(0)
        pids = [running.pid_of(number) for number in range(RANKS)]
        if who == "all":
            for pid in (running.pid, *pids):
                os.kill(pid, signal.SIGKILL)
            sent_s = time.time()
        survivors = {"rank 0": pids[1:], "rank 1": pids[:1]}.get(who, pids)
        for pid in survivors:
            ended_s.append(seconds_to_end(pid, sent_s))
            trial.expect(ended_s[-1] < ENDED_S, f"{what}: a rank ended after {ended_s[-1]:.1f} s")
    status = running.wait()
    if who == "launcher":
        told = running.output.count("the launcher")
        trial.expect(told == RANKS, f"{what}: {told} ranks said why they end: {running.output}")
    if who in ("launcher", "all", "rank 0 in a save"):
        trial.expect(status != 0, f"{what}: exit status 0")
        running = trainers.start(cut.name, *OPTIONS, ranks=RANKS)
        status = running.wait()
    trial.expect(status == 0, f"{what}: exit status {status}: {running.output[-2000:]}")
    trial.expect("is skipped:" not in running.output, f"{what}: {running.output[-2000:]}")


def steps_again(cut: Path) -> int:
    """Return the number of steps that were computed twice."""
    steps = [note["step"] for note in steps_of(cut, 0) if "ids" in note]
    return len(steps) - len(set(steps))
