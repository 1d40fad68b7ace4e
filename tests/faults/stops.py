"""T3, T6: a run stops soon when it is asked to, and a rank that is stuck is named.

A stop loses no step: the run is resumed and ends as if it had not stopped, bit for bit.
"""

from __future__ import annotations

import collections
import os
import re
import signal
import socket

from tests.faults.trainers import Running, Trainers, difference, seconds_to_end, steps_of
from tests.faults.trial import Trial

STEPS = 40
OPTIONS = ("--epochs", "4", "--checkpoint-steps", "40")
STALL_S = 5.0
SENT = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP
TOLD = re.compile(
    r"error: rank (\d) at step (\d+): rank (\d) \(process (\d+) on (\S+)\) is not heard of for "
    r"\d+ s, last seen [a-z ]+ at step (\d+)"
)


def drill(trial: Trial) -> dict[str, object]:
    """Send each signal to a single process, to one of two ranks, and to torchrun."""
    tally: collections.Counter[str] = collections.Counter()
    stop_s: dict[str, list[float]] = collections.defaultdict(list)
    detect_s: list[float] = []
    rng = trial.rng()
    with Trainers(trial.folder) as trainers:
        for ranks in (0, 2):
            whole = trial.folder / f"whole-{ranks}"
            running = trainers.start(whole.name, *OPTIONS, ranks=ranks)
            trial.expect(running.wait() == 0, f"{ranks} ranks: {running.output[-2000:]}")
            cases = [(sent, "process") for sent in SENT]
            cases += [(signal.SIGTERM, "launcher")] if ranks else []
            for number, (sent, to) in enumerate(cases * trial.count(1, 5)):
                step, rank = int(rng.integers(2, STEPS - 3)), int(rng.integers(max(1, ranks)))
                cut = trial.folder / f"cut-{ranks}-{number}"
                fault = {"step": step, "rank": rank, "signal": sent, "to": to}
                running = trainers.start(cut.name, *OPTIONS, ranks=ranks, signals=[fault])
                what = f"{sent.name} to the {to} of rank {rank} of {ranks} at step {step}"
                key = "launcher" if to == "launcher" else f"{'rank' if ranks else 'process'}"
                stop_s[key].append(check_stop(trial, running, what, fault, ranks))
                running = trainers.start(cut.name, *OPTIONS, ranks=ranks)
                trial.expect(running.wait() == 0, f"{what}: then {running.output[-2000:]}")
                differs = difference(whole / "run", cut / "run", STEPS)
                steps = [note["step"] for note in steps_of(cut, 0) if "ids" in note]
                trial.expect(steps == list(range(STEPS)), f"{what}: steps {steps}")
                tally["bit_identical"] += trial.expect(not differs, f"{what}: {differs}")
                tally["stops"] += 1
        for number in range(trial.count(2, 6)):
            step = int(rng.integers(2, STEPS - 3))
            detect_s.append(check_stuck(trial, trainers, number % 2, step, f"stuck-{number}"))
    return {
        **tally,
        **{f"{key}_stops_s_at_most": round(max(values), 2) for key, values in stop_s.items()},
        "stuck": len(detect_s),
        "stall_s": STALL_S,
        "stuck_named_after_s_at_most": round(max(detect_s), 2),
    }


def check_stop(
    trial: Trial, running: Running, what: str, fault: dict[str, object], ranks: int
) -> float:
    """Check message, checkpoint and status; return the seconds until the process has ended."""
    sent_s = running.sent_s(0)
    pids = [running.pid_of(rank) for rank in range(max(1, ranks))]
    took_s = max(seconds_to_end(pid, sent_s) for pid in pids)
    status = running.wait()
    is_expected = (
        status == 75 if not ranks else (status != 0 if fault["to"] == "launcher" else not status)
    )
    trial.expect(is_expected, f"{what}: exit status {status}: {running.output[-2000:]}")
    (saved,) = [path.name for path in (running.folder / "run/checkpoints").iterdir()]
    step = int(saved.removeprefix("step-"))
    signal_name = signal.Signals(fault["signal"]).name
    trial.expect(f"{signal_name}: saving at the next step" in running.output, f"{what}: not said")
    trial.expect(
        f"stopped at step {step} of {STEPS}" in running.output, f"{what}: {running.output}"
    )
    last = {
        max(n["step"] for n in steps_of(running.folder, rank) if "ids" in n)
        for rank in range(len(pids))
    }
    trial.expect(last == {step - 1}, f"{what}: saved at {step}, the ranks were at {last}")
    slack = 4 if fault["to"] == "launcher" else 1
    trial.expect(step <= int(str(fault["step"])) + slack, f"{what}: only at step {step}")
    notes = (running.folder / "run" / "README.md").read_text()
    trial.expect("stopped before its end" in notes, f"{what}: {notes}")
    return took_s


def check_stuck(trial: Trial, trainers: Trainers, rank: int, step: int, name: str) -> float:
    """Stop a rank with SIGSTOP: the other names it and ends; return the seconds until then."""
    what = f"rank {rank} stopped at step {step}"
    fault = {"step": step, "rank": rank, "signal": signal.SIGSTOP}
    running = trainers.start(name, *OPTIONS, "--stall-s", str(STALL_S), ranks=2, signals=[fault])
    sent_s = running.sent_s(0)
    pid = running.pid_of(rank)
    took_s = seconds_to_end(running.pid_of(1 - rank), sent_s)
    os.kill(pid, signal.SIGKILL)  # torchrun would wait half a minute for it
    status = running.wait()
    trial.expect(status != 0, f"{what}: exit status 0")
    told = TOLD.search(running.output)
    if trial.expect(told, f"{what}: {running.output[-3000:]}"):
        *who, seen_step = told.groups()
        expected = [str(1 - rank), str(step), str(rank), str(pid), socket.gethostname()]
        # Its last beat may be a second old and name an earlier step.
        holds = who == expected and int(seen_step) <= step
        trial.expect(holds, f"{what}: told {told.groups()}")
    return took_s
