"""Printing that does not fail: on terminals that lack characters, and on closed streams."""

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
    """Prepare stdout and stderr so that no text makes printing fail.

    A character that the encoding lacks is printed as a backslash escape. If a stream is closed, its
    number is taken here, so that no file opened later gets the number and receives the prints.
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
    """True if the stream can show all characters."""
    return (stream.encoding or "").lower().startswith("utf")


def tell(text: str) -> None:
    """Print a line on stderr, made printable. A closed stderr is not an error."""
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)


def flush() -> None:
    """Flush stdout.

    Raises:
        OSError: It cannot be written; the file name of the error is "stdout".
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        error.filename = "stdout"
        raise


def finish() -> None:
    """Flush stdout. If that fails, discard its text, because Python would fail again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, STDOUT)
            os.close(nowhere)


class Watched:
    """A stream whose reader may close it; then `lost` is called, and there is no error."""

    def __init__(self, stream: TextIO, lost: Callable[[], object]) -> None:
        """Watch `stream`, which is stdout or stderr; `lost` must make writing possible again."""
        self._stream, self._lost = stream, lost

    def write(self, text: str) -> int:
        """Write, and call `lost` if the stream is closed."""
        try:
            return self._stream.write(text)
        except OSError:
            self._lost()
            return len(text)

    def flush(self) -> None:
        """Flush, and call `lost` if the stream is closed."""
        try:
            self._stream.flush()
        except OSError:
            self._lost()

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the stream."""
        return getattr(self._stream, name)


@contextlib.contextmanager
def watched(lost: Callable[[int], object]) -> Iterator[None]:
    """Watch stdout and stderr in a block, and call `lost` once for each that its reader closes.

    `lost` gets 1 for stdout and 2 for stderr. Later prints to a closed stream go to the other one,
    or nowhere if both are closed.
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
