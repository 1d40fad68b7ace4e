"""T7: pixels, a gradient or a loss are NaN or infinite on one rank of two.

Both ranks skip the step: only the number of the step changes. After more skips in a row than are
allowed the run ends, and each rank writes a file with the values that were not finite. No
checkpoint has a value that is not finite.
"""

from __future__ import annotations

import collections
import json
import math
from pathlib import Path

from tests.faults.trainers import Trainers, ids_by_step, seen_once, steps_of
from tests.faults.trial import Trial
from tests.support.train_cases import tensors_of

RANKS, STEPS, IN_A_ROW = 2, 20, 2
OPTIONS = (
    *("--epochs", "2", "--checkpoint-steps", "5", "--keep-checkpoints", "9"),
    *("--skips-in-a-row", str(IN_A_ROW)),
)
ONES = (4, 9, 10, 13)
"""Steps with a fault: the last before a checkpoint, and two in a row."""
GRADIENT = "backbone.blocks.0.mlp.fc1.weight"


def drill(trial: Trial) -> dict[str, object]:
    """Try each kind of fault with each value; a short run tries each kind once."""
    tally: collections.Counter[str] = collections.Counter()
    kinds = [(kind, value) for kind in ("pixels", "gradient", "loss") for value in ("nan", "inf")]
    with Trainers(trial.folder) as trainers:
        for kind, value in kinds if trial.is_long else (kinds[0], kinds[3], kinds[4]):
            for rank in range(trial.count(1, RANKS)):
                poison = {"kind": kind, "value": value, "rank": 1 - rank}
                some_steps(trial, trainers, poison, tally)
                to_the_end(trial, trainers, poison, tally)
    return dict(tally)


def some_steps(
    trial: Trial, trainers: Trainers, poison: dict, tally: collections.Counter[str]
) -> None:
    """The run continues as if the poisoned steps had not been taken."""
    what = f"{poison['value']} in {poison['kind']} on rank {poison['rank']}"
    name = "-".join(map(str, poison.values()))
    running = trainers.start(
        name, *OPTIONS, ranks=RANKS, digests=True, poison={**poison, "steps": ONES}
    )
    status = running.wait()
    trial.expect(status == 0, f"{what}: exit status {status}: {running.output[-2000:]}")
    done = [
        {note["done"]: note for note in steps_of(running.folder, rank) if "done" in note}
        for rank in range(RANKS)
    ]
    for step in range(STEPS):
        here, there = done[0][step], done[1][step]
        is_equal = here["after"] == there["after"] and here["counted"] == there["counted"]
        tally["steps_with_equal_ranks"] += trial.expect(is_equal, f"{what}: ranks at step {step}")
        trial.expect(here["finite"] and there["finite"], f"{what}: state after step {step}")
        is_skipped = here["counted"] == 0 and here["before"] == here["after"]
        if step in ONES:
            tally["skipped"] += trial.expect(is_skipped, f"{what}: step {step}: {here}")
        else:
            moves = here["counted"] == 1 and here["before"] != here["after"]
            trial.expect(moves, f"{what}: step {step} was skipped too: {here}")
    lines = [json.loads(line) for line in (running.folder / "run/metrics.jsonl").open()]
    skipped = [line["step"] - 1 for line in lines if line["skipped"]]
    trial.expect(skipped == list(ONES), f"{what}: metrics have skips at {skipped}")
    trial.expect(seen_once(ids_by_step(running.folder, RANKS), STEPS), f"{what}: ids")
    check_checkpoints(trial, what, running.folder / "run", (5, 10, 15, 20), tally)


def to_the_end(
    trial: Trial, trainers: Trainers, poison: dict, tally: collections.Counter[str]
) -> None:
    """The run ends when more steps in a row are skipped than allowed."""
    what = f"{poison['value']} in {poison['kind']} on rank {poison['rank']}, to the end"
    name = "-".join(map(str, poison.values())) + "-end"
    last = 6 + IN_A_ROW
    steps = tuple(range(6, last + 1))
    running = trainers.start(
        name, *OPTIONS, ranks=RANKS, digests=True, poison={**poison, "steps": steps, "stays": True}
    )
    status = running.wait()
    run, output = running.folder / "run", running.output
    trial.expect(status != 0, f"{what}: exit status 0")
    told = f"error: {IN_A_ROW + 1} steps in a row, up to {last}, were not finite"
    trial.expect(output.count(told) >= 1, f"{what}: {output[-2000:]}")
    trial.expect('train/main.py", line' not in output, f"{what}: {output[-2000:]}")
    for rank in range(RANKS):
        path = run / f"nonfinite-step-{last:08d}-rank-{rank}.json"
        if not trial.expect(path.is_file(), f"{what}: no file of rank {rank}"):
            continue
        found = json.loads(path.read_text())
        is_here = rank == poison["rank"]
        notes = {
            note["step"]: note["ids"] for note in steps_of(running.folder, rank) if "ids" in note
        }
        trial.expect(found["in_dist_ids"] == notes[last], f"{what}: ids of rank {rank}")
        views = found["views_not_finite"]["global"]
        seen_views = [[1, 2]] if is_here and poison["kind"] == "pixels" else []
        trial.expect(views == seen_views, f"{what}: rank {rank} names the views {views}")
        gradients = found["gradients_not_finite"]
        expected = [GRADIENT] if is_here and poison["kind"] == "gradient" else []
        if is_here and poison["kind"] != "gradient":
            trial.expect(GRADIENT in gradients, f"{what}: rank {rank} names {gradients}")
        else:
            trial.expect(gradients == expected, f"{what}: rank {rank} names {gradients}")
        losses = [float(value) for value in found["values"]["loss"]]
        is_bad = is_here and poison["kind"] != "gradient"
        trial.expect(all(map(math.isfinite, losses)) != is_bad, f"{what}: rank {rank}: {losses}")
        trial.expect(not found["weights_not_finite"], f"{what}: rank {rank}: weights")
        tally["forensic_files"] += 1
    check_checkpoints(trial, what, run, (5,), tally)


def check_checkpoints(
    trial: Trial, what: str, run: Path, steps: tuple[int, ...], tally: collections.Counter[str]
) -> None:
    """Check that the checkpoints are of these steps and finite."""
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    trial.expect(names == [f"step-{step:08d}" for step in steps], f"{what}: checkpoints {names}")
    for step in steps:
        bad = [k for k, tensor in tensors_of(run, step).items() if not tensor.isfinite().all()]
        tally["checkpoints"] += 1
        tally["checkpoints_not_finite"] += not trial.expect(not bad, f"{what}: {step}: {bad}")
