"""The progress of a long job: a bar on a terminal, or one line per minute in a log file."""

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
    """Return a progress bar with the columns that all jobs have.

    The bar is disabled if `console` does not write to a terminal.

    Args:
        console: The console that the bar is drawn on.
        transient: True if the bar disappears when it stops.

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
    """Show the text `what` and a spinner on stderr while the block runs.

    Nothing is shown if stderr is not a terminal.
    """
    console = Terminal(stderr=True)
    spinner = "dots" if shows_unicode(sys.stderr) else "line"
    return (
        console.status(Text(what), spinner=spinner)
        if sys.stderr.isatty()
        else contextlib.nullcontext()
    )


class ImageProgress:
    """The progress of a job that processes images.

    It shows the number of images, the images per second, the remaining time and the number of
    rejected images.
    """

    def __init__(self, what: str, total: int) -> None:
        """Prepare the bar.

        Args:
            what: The job in a few words.
            total: The number of images of the job.
        """
        self._what, self._total = what, total
        self._done = self._skipped = 0
        self._start_s = self._line_s = time.monotonic()
        self._bar = progress_bar(Terminal(stderr=True), transient=True)
        self._task = self._bar.add_task(what, total=total, note="")

    def skip(self, images: int) -> None:
        """Count images that were processed before this job started.

        They are not counted in the images per second.
        """
        self._done += images
        self._skipped += images

    def advance(self, images: int, rejects: int = 0) -> None:
        """Count more images that are processed, and update the bar.

        Args:
            images: The number of images processed since the last call.
            rejects: The total number of images rejected so far.
        """
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
        """Show the progress bar."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the progress bar."""
        self._bar.stop()
