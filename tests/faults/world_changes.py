"""T4: a run resumes within an epoch with another number of ranks (`--elastic`).

Its global batches have the same sample ids as an undisturbed run of one rank.
"""

from __future__ import annotations

import signal

from tests.faults.trainers import Trainers, ids_by_step, losses, seen_once
from tests.faults.trial import Trial

OPTIONS = ("--epochs", "4", "--checkpoint-steps", "10", "--precision", "fp32", "--elastic")
STEPS = 40
PARTS = ((2, 7), (1, 14), (4, 26), (2, STEPS))
"""Number of ranks, and the step at which they are asked to stop, never the end of an epoch."""
TOLERANCE = 1e-5
"""Relative tolerance of losses, because sums have another order."""


def drill(trial: Trial) -> dict[str, object]:
    """Train with two ranks, then one, four and two."""
    with Trainers(trial.folder) as trainers:
        running = trainers.start("whole", *OPTIONS)
        status = running.wait()
        trial.expect(status == 0, f"one rank: exit status {status}: {running.output[-800:]}")
        whole = ordered(ids_by_step(running.folder))
        trial.expect(seen_once(ids_by_step(running.folder), STEPS), "one rank: ids")
        reference = losses(running.folder / "run")
        found: dict[int, list[int]] = {}
        for number, (ranks, stop) in enumerate(PARTS):
            what = f"{ranks} ranks to step {stop}"
            faults = {}
            if stop < STEPS:
                # Only one rank is asked, a different one each time.
                fault = {"step": stop - 1, "rank": number % ranks, "signal": signal.SIGUSR1}
                faults["signals"] = [fault]
            running = trainers.start(
                "changed", *OPTIONS, ranks=0 if ranks == 1 else ranks, **faults
            )
            status = running.wait()
            expected = 75 if ranks == 1 and stop < STEPS else 0
            trial.expect(status == expected, f"{what}: status {status}: {running.output[-2000:]}")
            batches = ordered(ids_by_step(running.folder, ranks))
            for path in running.folder.glob("steps-*.jsonl"):
                path.unlink()
            trial.expect(not found.keys() & batches.keys(), f"{what}: steps again")
            found.update(batches)
            trial.expect(max(found) == stop - 1, f"{what}: stopped after step {max(found)}")
    same = sum(found.get(step) == whole[step] for step in range(STEPS))
    trial.expect(same == STEPS, f"{same} of {STEPS} global batches are those of one rank")
    ours = losses(running.folder / "run")
    trial.expect([s for s, _ in ours] == [s for s, _ in reference], f"metrics of steps {ours}")
    worst = max(abs(a - b) / abs(b) for (_, a), (_, b) in zip(ours, reference, strict=True))
    trial.expect(worst < TOLERANCE, f"losses differ by {worst:.1e}")
    return {
        "ranks": [ranks for ranks, _ in PARTS],
        "batches": STEPS,
        "batches_the_same": same,
        "loss_differs_at_most": float(f"{worst:.1e}"),
    }


def ordered(batches: dict[int, set[tuple[int, ...]]]) -> dict[int, list[int]]:
    """Return the sample ids of the global batch of each step, joined over the ranks."""
    return {
        step: [i for part in sorted(parts) for i in part[1:]] for step, parts in batches.items()
    }
