"""T1, C1: a run is killed, at random moments and at the calls of a save, and resumes.

It ends with the losses, tensors and sample ids of an undisturbed run, bit for bit. No kill costs
more than the steps since the last checkpoint.
"""

from __future__ import annotations

import collections
import signal
from pathlib import Path

from tests.faults.trainers import (
    Running,
    Trainers,
    difference,
    ids_by_step,
    losses,
    seen_once,
    steps_of,
)
from tests.faults.trial import Trial

STEPS, INTERVAL = 200, 20
CALLS = {"mkdir": 1, "open": 4, "write": 4, "fsync": 7, "rename": 2, "unlink": 4, "rmdir": 1}
"""Number of disk calls of a save that removes an old checkpoint."""
RUNS = (("bf16", ()), ("fp16", ("--precision", "fp16")))
"""Options of the runs; the loss scale of float16 moves in the first steps."""


def drill(trial: Trial) -> dict[str, object]:
    """Kill runs many times over."""
    tally: collections.Counter[str] = collections.Counter()
    lost = [0]
    runs, kills_each = trial.count(2, 4), 8
    with Trainers(trial.folder) as trainers:
        for number in range(runs):
            name, options = RUNS[number % len(RUNS)]
            whole = trial.folder / f"{name}-whole"
            if not whole.exists():
                running = trainers.start(whole.name, *options)
                status = running.wait()
                trial.expect(status == 0, f"{name}: exit status {status}: {running.output[-800:]}")
                counted = seen_once(ids_by_step(whole), STEPS)
                trial.expect(counted, f"{name}: an epoch that does not have each image once")
            cut = trial.folder / f"{name}-{number}"
            kill_over_and_over(trial, trainers, cut, options, number, kills_each, tally, lost)
            compare(trial, whole, cut, tally)
    return {
        "kills": tally["kills"],
        "in_a_save": tally["in_a_save"],
        "steps": STEPS,
        "runs": runs,
        "runs_bit_identical": tally["bit_identical"],
        "batches_checked": tally["batches"],
        "steps_lost_at_most": max(lost),
    }


def kill_over_and_over(
    trial: Trial,
    trainers: Trainers,
    cut: Path,
    options: tuple[str, ...],
    number: int,
    kills: int,
    tally: collections.Counter[str],
    lost: list[int],
) -> None:
    """Train with that many kills, half of them within a save; then train to the end."""
    rng = trial.rng(number)
    for kill in range(kills):
        # Kills are spread over the run, so that each start gets further.
        step = int((kill + rng.uniform(0.1, 0.9)) * (STEPS - INTERVAL) / kills)
        is_in_save = (kill + number) % 2 == 1
        place = ""
        if is_in_save:
            call = str(rng.choice(list(CALLS)))
            half = " half" if call == "write" and rng.integers(2) else ""
            # A call of the first or second save of this start.
            place = f"{call} {rng.integers(1, 2 * CALLS[call] + 1)}{half}"
        what = f"{cut.name}, kill {kill}: " + (place or f"step {step}")
        faults = {"place": place} if is_in_save else {
            "signals": [
                {"step": step, "rank": 0, "signal": signal.SIGKILL, "delay_s": rng.uniform(0, 0.05)}
            ]
        }  # fmt: skip
        running = trainers.start(cut.name, *options, **faults)
        status = running.wait()
        if trial.expect(status == -signal.SIGKILL, f"{what}: not reached: {status}"):
            tally["kills"] += 1
            tally["in_a_save"] += is_in_save
        check_start(trial, running, what, lost)
    running = trainers.start(cut.name, *options)
    status = running.wait()
    trial.expect(status == 0, f"{cut.name}: the last start ended with {status}")
    check_start(trial, running, f"{cut.name}, last start", lost)


def check_start(trial: Trial, running: Running, what: str, lost: list[int]) -> None:
    """Check the output for tracebacks and damaged checkpoints; count steps computed again."""
    holds = "Traceback" not in running.output and "is skipped:" not in running.output
    trial.expect(holds, f"{what}: {running.output[-800:]}")
    notes = [note for note in steps_of(running.folder, 0) if "ids" in note]
    again = 0
    for before, after in zip(notes, notes[1:], strict=False):
        if after["pid"] != before["pid"]:
            again = before["step"] + 1 - after["step"]
    lost.append(again)
    # A save is written while the next steps are computed.
    trial.expect(again <= 2 * INTERVAL, f"{what}: {again} steps were lost")


def compare(trial: Trial, whole: Path, cut: Path, tally: collections.Counter[str]) -> None:
    """Compare the killed run with the undisturbed one."""
    differs = difference(whole / "run", cut / "run", STEPS)
    steps = [step for step, _ in losses(cut / "run")]
    trial.expect(steps == list(range(1, STEPS + 1)), f"{cut.name}: metrics of steps {steps}")
    same_ids = ids_by_step(whole) == ids_by_step(cut)
    trial.expect(same_ids, f"{cut.name}: other sample ids than those of the whole run")
    tally["batches"] += len([note for note in steps_of(cut, 0) if "ids" in note])
    if trial.expect(not differs, f"{cut.name} is not the whole run: {differs}"):
        tally["bit_identical"] += same_ids
    left = sorted(path.name for path in (cut / "run" / "checkpoints").iterdir())
    expected = [f"step-{STEPS - INTERVAL:08d}", f"step-{STEPS:08d}"]
    trial.expect(left == expected, f"{cut.name}: the checkpoints are {left}")
