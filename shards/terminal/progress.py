"""The progress of a long job: a bar on a terminal, a line each minute elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from shards.terminal.console import Terminal
from shards.terminal.printing import shows_unicode

LINE_EVERY_S = 60.0
BAR_CHARACTERS = 20


def progress_bar(console: Terminal, *, transient: bool) -> Progress:
    """Return a bar with the columns that all jobs have; it is disabled away from a terminal.

    Args:
        console: The stream that it is drawn on.
        transient: The bar disappears at its end.

    Returns:
        A bar whose tasks have a description, a total and a field `note`.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR_CHARACTERS),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
        disable=not console.file.isatty(),
    )


def waiting(what: str) -> contextlib.AbstractContextManager[object]:
    """Show on a terminal, while the block runs, what is being waited for."""
    console = Terminal(stderr=True)
    spinner = "dots" if shows_unicode(sys.stderr) else "line"
    return (
        console.status(Text(what), spinner=spinner)
        if sys.stderr.isatty()
        else contextlib.nullcontext()
    )


class ImageProgress:
    """Counts images; shows images/s, the time that is left and the number of rejects."""

    def __init__(self, what: str, total: int) -> None:
        """Describe a job in a few words, and give the number of its images."""
        self._what, self._total = what, total
        self._done = self._skipped = 0
        self._start_s = self._line_s = time.monotonic()
        self._bar = progress_bar(Terminal(stderr=True), transient=True)
        self._task = self._bar.add_task(what, total=total, note="")

    def skip(self, images: int) -> None:
        """Count images that need no work any more."""
        self._done += images
        self._skipped += images

    def advance(self, images: int, rejects: int = 0) -> None:
        """Count images that are done; `rejects` is the number of rejects so far."""
        self._done += images
        now_s = time.monotonic()
        rate = (self._done - self._skipped) / max(now_s - self._start_s, 1e-9)
        note = f"{rate:,.0f} images/s" + (f", {rejects} rejects" if rejects else "")
        self._bar.update(self._task, completed=self._done, note=note)
        if self._bar.disable and now_s - self._line_s >= LINE_EVERY_S:
            self._line_s = now_s
            left_min = (self._total - self._done) / max(rate, 1e-9) / 60
            print(
                f"{self._what}: {self._done} of {self._total}, {note}, {left_min:.0f} min left",
                file=sys.stderr,
                flush=True,
            )

    def __enter__(self) -> ImageProgress:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the bar."""
        self._bar.stop()
