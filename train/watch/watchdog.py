"""The watchdog: it names the rank that is stuck, and ends the others.

A collective that waits for a rank does not say for which one. So a thread of each rank writes the
step and the phase of its rank into torchrun's store once a second. When its rank does not move, the
thread reads the entries of the other ranks.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import threading
import time
from dataclasses import dataclass

import torch.distributed as dist

from shards.errors import UserError
from shards.terminal import printing
from train.world import World

BEAT_S = 1.0
"""Seconds between two beats. At each beat the rank also checks that its parent process lives."""
SILENT_S = 2.5
"""Seconds without a new beat after which a process counts as stopped or gone."""


@dataclass(frozen=True)
class Beat:
    """The last message of a rank: its process, its step and what it is doing."""

    rank: int
    host: str
    process: int
    """The id of the process."""
    step: int
    doing: str
    """The phase of the step: `starting`, `waiting for views`, `computing` or `saving`."""
    moved_s: float
    """Seconds since the rank entered this phase."""
    number: int
    """Number of beats so far. It does not rise if the process is stopped or gone."""


class Watchdog:
    """The watchdog of one rank of a run under torchrun. Every rank must create one."""

    def __init__(self, world: World, stall_s: float) -> None:
        """Start to watch if torchrun started this process; otherwise do nothing.

        Stalls are looked for after the first step, which may take minutes to compile.

        Args:
            world: the ranks.
            stall_s: seconds that a rank may stay in one phase of a step (`Beat.doing`).

        Raises:
            UserError: the launcher is gone.
        """
        self._world, self._stall_s = world, stall_s
        self._first_step: int | None = None
        self._step, self._doing = 0, "starting"
        self._moved_at_s = time.monotonic()
        self._number = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if world.store is None:
            return
        self._store = dist.PrefixStore("watchdog", world.store)
        self._parent = os.getppid()
        self._host = socket.gethostname()
        try:
            # Before the first step, so that every rank has a beat when the first step is done.
            self._beat(0.0)
        except RuntimeError as error:
            raise UserError(f"the launcher's store cannot be reached: {error}") from error
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def at(self, step: int, doing: str) -> None:
        """Note what this rank is doing now; this costs nothing."""
        if self._first_step is None:
            self._first_step = step
        self._step, self._doing = step, doing
        self._moved_at_s = time.monotonic()

    def close(self) -> None:
        """Stop watching. This method may be called more than once."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        try:
            self._look_until_closed()
        except RuntimeError as error:
            if not self._closed.is_set():
                self._end(f"the launcher's store is gone, so this rank goes too ({error})")

    def _look_until_closed(self) -> None:
        # Early enough before `stall_s` to know which processes are silent.
        look_from_s = min(self._stall_s / 2, max(BEAT_S, self._stall_s - 10 * BEAT_S))
        # Number of each rank's last beat, and when it was first seen by the clock of this machine.
        seen: dict[int, tuple[int, float]] = {}
        watching_since_s = 0.0
        while not self._closed.wait(BEAT_S):
            if os.getppid() != self._parent:
                self._end("the launcher is gone, so this rank goes too")
            now_s = time.monotonic()
            still_s = now_s - self._moved_at_s
            self._beat(still_s)
            is_done_starting = self._first_step is not None and self._step > self._first_step
            if not is_done_starting or still_s < look_from_s:
                seen.clear()
                continue
            beats = self._beats()
            if not seen:
                watching_since_s = now_s
            for beat in beats:
                if seen.get(beat.rank, (0, 0.0))[0] != beat.number:
                    seen[beat.rank] = (beat.number, now_s)
            # On a busy machine the first look may be late, so silence needs SILENT_S of looking.
            if still_s >= self._stall_s and now_s - watching_since_s >= SILENT_S:
                self._end(culprit(beats, {r: now_s - at_s for r, (_, at_s) in seen.items()}))

    def _beat(self, still_s: float) -> None:
        self._number += 1
        ours = Beat(
            self._world.rank, self._host, os.getpid(), self._step, self._doing, still_s,
            self._number,
        )  # fmt: skip
        self._store.set(str(ours.rank), json.dumps(dataclasses.asdict(ours)))

    def _beats(self) -> list[Beat]:
        texts = self._store.multi_get([str(rank) for rank in range(self._world.world_size)])
        return [Beat(**json.loads(text)) for text in texts]

    def _end(self, why: str) -> None:
        rank, step = self._world.rank, self._step
        printing.tell(f"error: rank {rank} at step {step}: {why}")
        os._exit(1)


def culprit(beats: list[Beat], silent_s: dict[int, float]) -> str:
    """Describe the rank that the others wait for, or say that no rank has moved.

    It is the rank that has been silent longest. If none is silent, it is the rank that is furthest
    behind.

    Args:
        beats: the last beat of each rank.
        silent_s: rank -> seconds since the last beat of this rank was first seen.
    """
    quiet = [beat for beat in beats if silent_s.get(beat.rank, 0) >= SILENT_S]
    if quiet:
        beat = max(quiet, key=lambda beat: silent_s[beat.rank])
        heard = f"is not heard of for {silent_s[beat.rank]:.0f} s"
    else:
        # A rank that waits for another in a collective is `computing`, so that place comes last.
        places = [(beat.step, beat.doing == "computing") for beat in beats]
        if len(beats) > 1 and len(set(places)) == 1:
            return (
                f"no rank has moved for {min(beat.moved_s for beat in beats):.0f} s, all are "
                f"{beats[0].doing} at step {beats[0].step}; if steps may take that long, raise "
                "--stall-s"
            )
        beat = beats[places.index(min(places))]
        heard = f"has not moved for {beat.moved_s:.0f} s"
    return (
        f"rank {beat.rank} (process {beat.process} on {beat.host}) {heard}, "
        f"last seen {beat.doing} at step {beat.step}"
    )
