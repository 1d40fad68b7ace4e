"""A request to stop from outside: the step at hand is finished and saved, then the process ends."""

from __future__ import annotations

import os
import signal
from types import FrameType

STOPPED_EARLY = 75
"""Exit status of a run that was asked to stop before its end (EX_TEMPFAIL: call again)."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Listens to SIGTERM (kill, torchrun) and SIGUSR1 (Slurm's --signal)."""

    def __init__(self) -> None:
        """Start to listen."""
        self.asked = False
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def close(self) -> None:
        """Leave the signals to who had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        # Not by print, which must not be called again while it is at work.
        os.write(1, f"{signal.Signals(number).name}: saving at the next step\n".encode())
