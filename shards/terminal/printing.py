"""What is printed, and to whom: a terminal that lacks characters, a reader who goes away."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from shards.errors import printable

STDOUT, STDERR = 1, 2


def prepare() -> None:
    """Make the streams of this process such that printing never fails for what is printed.

    A character that the encoding lacks comes out as a backslash escape. Where a stream is closed,
    files that are opened later must not get its number, and so what is printed.
    """
    with contextlib.suppress(OSError):
        while (handle := os.open(os.devnull, os.O_RDWR)) <= STDERR:
            os.set_inheritable(handle, True)
        os.close(handle)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def shows_unicode(stream: TextIO) -> bool:
    """Whether all characters can be shown."""
    return (stream.encoding or "").lower().startswith("utf")


def tell(text: str) -> None:
    """Print a line on stderr, made printable; that nobody reads it is no error."""
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)


def flush() -> None:
    """Flush stdout.

    Raises:
        OSError: it cannot be written; names it.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        error.filename = "stdout"
        raise


def finish() -> None:
    """Flush stdout; what cannot be goes nowhere, or Python would fail at its end once more."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, STDOUT)
            os.close(nowhere)


class Watched:
    """A stream whose reader may go away, which is told to `lost` and is no error."""

    def __init__(self, stream: TextIO, lost: Callable[[], object]) -> None:
        """Of `sys.stdout` or `sys.stderr`; `lost` has to see to it that writing works again."""
        self._stream, self._lost = stream, lost

    def write(self, text: str) -> int:
        """Write, if there is somebody who reads."""
        try:
            return self._stream.write(text)
        except OSError:
            self._lost()
            return len(text)

    def flush(self) -> None:
        """Flush, if there is somebody who reads."""
        try:
            self._stream.flush()
        except OSError:
            self._lost()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)


@contextlib.contextmanager
def watched(lost: Callable[[int], object]) -> Iterator[None]:
    """Meanwhile, that nobody reads stdout (1) or stderr (2) any more is told to `lost`, once.

    What is printed there from then on goes to the other one, or nowhere.
    """
    before = sys.stdout, sys.stderr
    gone: set[int] = set()

    def lose(number: int) -> None:
        other = STDOUT + STDERR - number
        target = other if number not in gone and other not in gone else None
        handle = os.open(os.devnull, os.O_WRONLY) if target is None else os.dup(target)
        os.dup2(handle, number)
        os.close(handle)
        if number not in gone:
            gone.add(number)
            lost(number)

    sys.stdout = cast(TextIO, Watched(sys.stdout, lambda: lose(STDOUT)))
    sys.stderr = cast(TextIO, Watched(sys.stderr, lambda: lose(STDERR)))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
