"""Runs that end early: on request, stuck, or without their launcher; and the lock of a run.

Trainers are forked (tests/faults/trainer_child.py), except where a test starts the real command.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from shards.errors import UserError
from shards.terminal import cli
from tests.faults.trainers import (
    Trainers,
    difference,
    ids_by_step,
    seconds_to_end,
    seen_once,
    steps_of,
)
from tests.support.paths import ROOT
from tests.support.train_cases import command_line
from tests.support.waiting import LIMIT_S
from train.main import main
from train.run_folder import locked_run
from train.watch.stop_request import StopRequest
from train.watch.watchdog import Beat, Watchdog, culprit
from train.world import World

pytestmark = pytest.mark.slow

STEPS = 20
OPTIONS = ("--epochs", "2", "--checkpoint-steps", "20")


@pytest.fixture(scope="module")
def trainers(tmp_path_factory: pytest.TempPathFactory):
    with Trainers(tmp_path_factory.mktemp("stop")) as trainers:
        yield trainers


@pytest.fixture(scope="module")
def whole(trainers) -> dict[int, Path]:
    """Train undisturbed runs, by number of ranks."""
    runs = {}
    for ranks in (0, 2):
        running = trainers.start(f"whole-{ranks}", *OPTIONS, ranks=ranks)
        assert running.wait() == 0, running.output
        assert "rror" not in running.output and "Traceback" not in running.output
        assert seen_once(ids_by_step(running.folder, max(1, ranks)), STEPS)
        runs[ranks] = running.folder
    return runs


@pytest.fixture(autouse=True)
def _handlers():
    """Restore the signal handlers of this process, because `main` may leave its own."""
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def stopped_and_gone_on(trainers, whole, name: str, ranks: int, fault: dict, status: int) -> None:
    running = trainers.start(name, *OPTIONS, ranks=ranks, signals=[fault])
    ended = running.wait()
    assert ended == status if status >= 0 else ended != 0, running.output
    sent = signal.Signals(fault["signal"]).name
    assert f"{sent}: saving at the next step" in running.output
    (saved,) = [path.name for path in (running.folder / "run" / "checkpoints").iterdir()]
    step = int(saved.removeprefix("step-"))
    if fault.get("to") != "launcher":
        assert step == fault["step"] + 1
    assert f"stopped at step {step} of 20; the same command resumes it\n" in running.output
    for rank in range(max(1, ranks)):
        assert max(note["step"] for note in steps_of(running.folder, rank)) == step - 1
    notes = (running.folder / "run" / "README.md").read_text()
    assert "stopped before its end" in notes and "## Go on with" in notes
    running = trainers.start(name, *OPTIONS, ranks=ranks)
    assert running.wait() == 0 and f"at step {step} of 20" in running.output, running.output
    assert difference(whole[ranks] / "run", running.folder / "run", STEPS) == ""
    assert ids_by_step(whole[ranks], max(1, ranks)) == ids_by_step(running.folder, max(1, ranks))


ASKING = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP]


@pytest.mark.parametrize("sent", ASKING)
def test_a_process_that_is_asked_to_stop_saves_and_goes_on_bit_for_bit(trainers, whole, sent):
    fault = {"step": 7, "rank": 0, "signal": sent}
    stopped_and_gone_on(trainers, whole, f"one-{sent}", 0, fault, status=75)


@pytest.mark.parametrize("sent", [signal.SIGUSR1, signal.SIGINT])
def test_all_ranks_stop_at_the_step_at_which_one_is_asked_to(trainers, whole, sent):
    fault = {"step": 7, "rank": 1, "signal": sent}
    stopped_and_gone_on(trainers, whole, f"two-{sent}", 2, fault, status=0)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_all_ranks_stop_when_torchrun_is_asked_to(trainers, whole, sent) -> None:
    fault = {"step": 7, "rank": 1, "signal": sent, "to": "launcher"}
    stopped_and_gone_on(trainers, whole, f"launcher-{sent}", 2, fault, status=-1)


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_run_whose_output_nobody_reads_any_more_saves_and_ends(trainers, whole, ranks) -> None:
    name = f"unread-{ranks}"
    folder = whole[0].parent / name
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    files = {"output": str(folder / "pipe"), "errors": str(folder / "output.txt")}
    running = trainers.start(name, *OPTIONS, ranks=ranks, **files)
    with open(folder / "pipe") as output:
        while not output.readline().startswith("step 2/"):
            pass
    ended = running.wait()
    assert ended == (0 if ranks else 75), running.output
    assert "nobody reads stdout any more: saving at the next step\n" in running.output
    assert "Traceback" not in running.output and "rror" not in running.output
    (saved,) = [path.name for path in (folder / "run" / "checkpoints").iterdir()]
    step = int(saved.removeprefix("step-"))
    # Text that could not be written to stdout is on stderr.
    assert f"stopped at step {step} of 20; the same command resumes it\n" in running.output
    running = trainers.start(name, *OPTIONS, ranks=ranks)
    assert running.wait() == 0 and f"at step {step} of 20" in running.output, running.output
    assert difference(whole[ranks] / "run", folder / "run", STEPS) == ""


def test_a_run_that_ignores_hangups_goes_on() -> None:
    """A run that nohup started ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopRequest()
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.asked
        stop.close()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_ends_it_at_once(trainers) -> None:
    faults = [{"step": step, "rank": 0, "signal": signal.SIGINT} for step in (7, 7)]
    running = trainers.start("twice", *OPTIONS, signals=faults)
    assert running.wait() == -signal.SIGINT
    assert "SIGINT: saving at the next step; once more, and it ends at once\n" in running.output
    assert "stopped at" not in running.output


def test_the_real_command_stops_with_status_75(gray_dir, tmp_path) -> None:
    command = [sys.executable, str(ROOT / "train" / "main.py")]
    command += command_line(gray_dir, tmp_path / "run", "--epochs", "50")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while not process.stdout.readline().startswith("step 2/"):
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 75 and not err
    assert "SIGTERM: saving at the next step" in out and "the same command resumes it" in out
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert (saved / "COMPLETE.json").is_file()


def test_a_stopped_rank_is_named_and_the_other_ends(trainers) -> None:
    fault = {"step": 7, "rank": 1, "signal": signal.SIGSTOP}
    running = trainers.start("stuck", *OPTIONS, "--stall-s", "4", ranks=2, signals=[fault])
    sent_s, pid = running.sent_s(0), running.pid_of(1)
    seconds_to_end(running.pid_of(0), sent_s)
    os.kill(pid, signal.SIGKILL)
    assert running.wait() != 0
    told = (
        rf"error: rank 0 at step 7: rank 1 \(process {pid} on {re.escape(socket.gethostname())}\) "
    )
    # Its last beat may be a second old and name an earlier step.
    told += r"is not heard of for \d+ s, last seen [a-z ]+ at step [0-7]\n"
    assert re.search(told, running.output), running.output


def test_ranks_end_with_their_launcher_and_the_run_can_go_on(trainers, whole) -> None:
    fault = {"step": 7, "rank": 0, "signal": signal.SIGKILL, "to": "launcher"}
    running = trainers.start("orphans", *OPTIONS, ranks=2, signals=[fault])
    sent_s = running.sent_s(0)
    pids = [running.pid_of(rank) for rank in range(2)]
    running.wait()
    again = trainers.start("orphans", *OPTIONS, ranks=2, new_faults=False)
    for pid in pids:
        seconds_to_end(pid, sent_s)
    assert again.wait() == 0, again.output
    assert difference(whole[2] / "run", again.folder / "run", STEPS) == ""


def test_a_process_without_a_launcher_has_no_watchdog(monkeypatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    before = threading.active_count()
    watchdog = Watchdog(World(0, 1, torch.device("cpu")), 1)
    watchdog.at(0, "computing")
    assert threading.active_count() == before
    watchdog.close()
    watchdog.close()


def beat(rank: int, step: int, doing: str, moved_s: float = 9.0) -> Beat:
    return Beat(rank, f"host-{rank}", 100 + rank, step, doing, moved_s, 3)


def test_who_is_waited_for_is_named() -> None:
    computing = [beat(rank, 5, "computing") for rank in range(4)]
    silent = {0: 1.0, 1: 0.0, 2: 6.0, 3: 1.0}
    assert culprit(computing, silent) == (
        "rank 2 (process 102 on host-2) is not heard of for 6 s, last seen computing at step 5"
    )
    loading = [*computing[:3], beat(3, 5, "waiting for views", 8.0)]
    assert culprit(loading, {}) == (
        "rank 3 (process 103 on host-3) has not moved for 8 s, "
        "last seen waiting for views at step 5"
    )
    behind = [beat(0, 6, "saving"), beat(1, 5, "computing"), beat(2, 6, "waiting for views")]
    assert culprit(behind, {}).startswith("rank 1 (")
    saving = [beat(0, 6, "saving"), beat(1, 6, "computing")]
    assert culprit(saving, {}).startswith("rank 0 (")
    assert culprit(computing, {}) == (
        "no rank has moved for 9 s, all are computing at step 5; "
        "if steps may take that long, raise --stall-s"
    )


def test_a_rank_that_looks_late_watches_before_it_names_another(monkeypatch) -> None:
    """On a busy machine the first look may come after `stall_s`."""

    class Told(Exception):
        pass

    def end(why: str) -> None:
        raise Told(why)

    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr("train.watch.watchdog.BEAT_S", 0.01)
    monkeypatch.setattr("train.watch.watchdog.SILENT_S", 0.2)
    watchdog = Watchdog(World(0, 2, torch.device("cpu")), 5)
    watchdog.at(6, "computing")
    watchdog.at(7, "computing")
    watchdog._moved_at_s -= 100
    watchdog._parent = os.getppid()
    looks = iter(range(10**6))
    monkeypatch.setattr(watchdog, "_beat", lambda still_s: None)
    monkeypatch.setattr(watchdog, "_end", end)
    # The other rank sends no more beats.
    monkeypatch.setattr(
        watchdog,
        "_beats",
        lambda: [
            dataclasses.replace(beat(0, 7, "computing"), number=next(looks)),
            beat(1, 7, "computing"),
        ],
    )
    with pytest.raises(Told, match=r"^rank 1 \(process 101 on host-1\) is not heard of for 0 s"):
        watchdog._look_until_closed()


# ---- the folder of a run -----------------------------------------------------------------------


def test_a_second_process_on_a_run_is_refused_and_the_first_named(trainers, whole) -> None:
    fault = {"step": 7, "rank": 0, "signal": signal.SIGSTOP}
    running = trainers.start("locked", *OPTIONS, signals=[fault])
    running.sent_s(0)
    pid, run = running.pid_of(0), running.folder / "run"
    with pytest.raises(UserError) as refused, locked_run(run, wait_s=0.3):
        pass
    assert str(refused.value) == (
        f"{run} is being trained by process {pid} on {socket.gethostname()}"
    )
    assert (run / "lock").read_text() == f"process {pid} on {socket.gethostname()}\n"
    # It waits for a while, because ranks of a killed launcher take a moment to end.
    threading.Timer(0.5, lambda: os.kill(pid, signal.SIGKILL)).start()
    with locked_run(run, wait_s=LIMIT_S):
        assert (run / "lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    running.wait()
    again = trainers.start("locked", *OPTIONS)
    assert again.wait() == 0, again.output
    assert difference(whole[0] / "run", run, STEPS) == ""


def refusal(command: list[str], capsys) -> str:
    """Return the message with which the trainer refuses to train, in this process."""
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: main(command))
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


def test_a_micro_batch_and_compiling_change_the_order_of_sums(
    gray_dir, trainers, whole, tmp_path, capsys
) -> None:
    run = tmp_path / "run"
    fault = {"step": 7, "rank": 0, "signal": signal.SIGTERM}
    running = trainers.start("micro", *OPTIONS, signals=[fault])
    assert running.wait() == 75
    shutil.copytree(running.folder / "run", run)
    config = (run / "config.json").read_bytes()
    command = [*running.argv, "--out", str(run)]
    micro = ["--micro-batch", "4"]
    assert "micro_batch is 4 now and 0 there (allow it with --elastic)" in refusal(
        [*command, *micro], capsys
    )
    assert "compile is True now and False there (allow it with --elastic)" in refusal(
        [*command, "--compile"], capsys
    )
    assert "seed is 1 now and 0 there; choose" in refusal(
        [*command, "--seed", "1", "--elastic"], capsys
    )
    assert (run / "config.json").read_bytes() == config
    main([*command, *micro, "--elastic"])
    assert "at step 8 of 20" in capsys.readouterr().out
    assert (run / "checkpoints" / "step-00000020").is_dir()


def test_a_dry_run_says_what_a_run_would_take_and_writes_nothing(gray_dir, tmp_path, capsys):
    began_s = time.monotonic()
    main([*command_line(gray_dir, tmp_path / "run"), "--dry-run"])
    took_s = time.monotonic() - began_s
    said = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    facts = dict(re.findall(r"^(\S.*?)  +(\S.*)$", said, re.MULTILINE))
    assert facts["steps"] == "20 = 2 epochs x 10" and facts["ranks"] == "1"
    assert facts.keys() >= {"student", "step", "time", "memory a rank", "checkpoint"}
    assert '"global_batch": 12,' in said and said.endswith("Nothing was written (--dry-run).\n")
    step_s = float(re.match(r"([\d.]+) s", facts["step"])[1])
    assert 0 < 3 * step_s < took_s  # without the two warm-up steps
