"""Reading a checkpoint cannot run code: an audit hook forbids everything that could.

An audit hook cannot be removed, so each read is done in a forked process that has all imports.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from shards.errors import UserError
from tests.faults.checkpoint_damage import CPU, tiny_run
from tests.support.fork_server import in_child
from train.checkpoint import Snapshot, latest_checkpoint
from train.teacher import load_teacher

FORBIDDEN = (
    "pickle.find_class", "marshal.loads", "compile", "exec", "import", "ctypes.dlopen",
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect",
)  # fmt: skip
FILES = ("networks.safetensors", "optimizer.safetensors", "state.json", "COMPLETE.json")


class Payload:
    """A payload that creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.marker}",)


def events_in(body: Callable[[], object]) -> list[str]:
    """Run `body` in a forked process that forbids events; return the events that it tried.

    The process runs it twice, the first time without the hook, because modules may be imported
    late. It fails if `body` fails.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:

        def watched() -> None:
            signal.alarm(120)
            body()
            events: list[str] = []
            is_armed = True

            def forbid(event: str, _: object) -> None:
                if is_armed and event in FORBIDDEN:
                    events.append(event)
                    raise RuntimeError(f"{event} while a checkpoint is read")

            sys.addaudithook(forbid)
            try:
                body()
            finally:
                is_armed = False
                os.write(writing, json.dumps(events).encode())

        in_child(watched)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    events = json.loads(told) if told else []
    assert status == 0 or events, f"ended with {status}"
    return events


@pytest.fixture
def run(tmp_path: Path) -> Path:
    config, state = tiny_run(tmp_path / "run")
    state.step = 3
    Snapshot.of(state, {"step": 3, "manifests": {}}, config).write(config)
    return config.out


def put_pickle(run: Path, name: str) -> Path:
    """Put a payload in place of a file of the checkpoint; return the path that it would create."""
    marker = run.with_name("ran")
    payload = pickle.dumps(Payload(marker))
    (run / "checkpoints" / "step-00000003" / name).write_bytes(payload)
    return marker


def resume(run: Path) -> None:
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None and checkpoint.step == 3
    config, state = tiny_run(run)
    checkpoint.restore(config, state)
    assert state.step == 3


def score(run: Path) -> None:
    assert load_teacher(run, CPU).step == 3


def test_nothing_runs_when_a_checkpoint_is_loaded(run) -> None:
    assert events_in(lambda: resume(run)) == []
    assert events_in(lambda: score(run)) == []


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_in_the_place_of_a_file_is_passed_over_and_does_not_run(run, name) -> None:
    marker = put_pickle(run, name)

    def refused() -> None:
        with pytest.raises(UserError, match="none of 1 checkpoints is whole"):
            latest_checkpoint(run)
        with pytest.raises(UserError, match="none of 1 checkpoints is whole"):
            load_teacher(run, CPU)

    assert events_in(refused) == [] and not marker.exists()


@pytest.mark.parametrize("name", FILES[:-1])
def test_a_pickle_with_its_right_digest_does_not_run_either(run, name) -> None:
    marker = put_pickle(run, name)
    folder = run / "checkpoints" / "step-00000003"
    data, digests = (folder / name).read_bytes(), json.loads((folder / FILES[-1]).read_text())
    digests[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / FILES[-1]).write_text(json.dumps(digests, indent=1) + "\n")

    def refused() -> None:
        assert latest_checkpoint(run) is not None
        with pytest.raises((UserError, SafetensorError, ValueError)):
            resume(run)

    assert events_in(refused) == [] and not marker.exists()


@pytest.mark.parametrize(
    ("event", "body"),
    [
        ("pickle.find_class", lambda: pickle.loads(pickle.dumps(json.dumps))),
        ("os.system", lambda: os.system("true")),
        ("subprocess.Popen", lambda: subprocess.run(["true"])),
        ("compile", lambda: exec("1")),
    ],
)
def test_what_is_forbidden_is_noticed(event, body) -> None:
    with pytest.raises(AssertionError, match=event):
        assert events_in(body) == []
