"""A request to stop a run: the current step is finished and saved, then the process ends."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

from shards.terminal import printing

STOPPED_EARLY = 75
"""Exit status of a run that was asked to stop before its end (EX_TEMPFAIL: try again)."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
"""Signals that ask a run to stop."""
SHOW_CURSOR = b"\x1b[?25h"


class StopRequest:
    """A request to stop the run, made by a signal or by closing stdout or stderr.

    The signals are SIGTERM (kill, torchrun), SIGUSR1 (Slurm's --signal), SIGINT (Ctrl-C; a second
    one ends the process at once) and SIGHUP (a terminal or connection is gone; not under nohup).
    """

    def __init__(self) -> None:
        """Install the signal handlers."""
        self.asked = False
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(printing.watched(self._nobody_reads))
        for number in SIGNALS:
            if number in (signal.SIGTERM, signal.SIGUSR1) or not _is_ignored(number):
                self._stack.callback(signal.signal, number, signal.signal(number, self._note))

    def close(self) -> None:
        """Restore the earlier signal handlers."""
        self._stack.close()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        told = f"{signal.Signals(number).name}: saving at the next step"
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)  # the system ends the process at the next one
            told += "; once more, and it ends at once"
        self._say(told, printing.STDOUT)

    def _nobody_reads(self, number: int) -> None:
        self.asked = True
        name = "stdout" if number == printing.STDOUT else "stderr"
        self._say(f"nobody reads {name} any more: saving at the next step", number)

    def _say(self, text: str, number: int) -> None:
        # Not print(): a signal may interrupt a print(), which cannot be called again inside itself.
        shown = SHOW_CURSOR if os.isatty(number) else b""
        with contextlib.suppress(OSError):
            os.write(number, shown + text.encode() + b"\n")


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN
