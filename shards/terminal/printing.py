"""Printing that does not fail on a closed stream, or on a terminal that lacks some characters."""

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
    """Prepare stdin, stdout and stderr so that every text can be printed.

    A character that the encoding of a stream does not have is printed as a backslash escape. If the
    process was started with a closed stream, the stream is opened on /dev/null. Otherwise a file
    that is opened later would get the descriptor of the stream, and receive the printed text.
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
    """True if the encoding of the stream has all characters, as UTF-8 does."""
    return (stream.encoding or "").lower().startswith("utf")


def tell(text: str) -> None:
    """Print a line on stderr. Unprintable characters are escaped.

    If stderr is closed, nothing happens.
    """
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)


def flush() -> None:
    """Flush stdout.

    Raises:
        OSError: stdout cannot be written. The file name in the error is "stdout".
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        error.filename = "stdout"
        raise


def finish() -> None:
    """Flush stdout, and discard its text if this fails.

    If the text were kept, Python would try again at the end of the process, and fail again.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, STDOUT)
            os.close(nowhere)


class Watched:
    """A stream that calls a function, and raises no error, when the reader has closed it."""

    def __init__(self, stream: TextIO, lost: Callable[[], object]) -> None:
        """Wrap a stream.

        Args:
            stream: stdout or stderr.
            lost: The function to call when writing fails. It must make writing possible again.
        """
        self._stream, self._lost = stream, lost

    def write(self, text: str) -> int:
        """Write a text to the stream, and call `lost` if the stream is closed."""
        try:
            return self._stream.write(text)
        except OSError:
            self._lost()
            return len(text)

    def flush(self) -> None:
        """Flush the stream, and call `lost` if the stream is closed."""
        try:
            self._stream.flush()
        except OSError:
            self._lost()

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the wrapped stream."""
        return getattr(self._stream, name)


@contextlib.contextmanager
def watched(lost: Callable[[int], object]) -> Iterator[None]:
    """Let the block go on when the reader of stdout or stderr closes the stream.

    Text for a closed stream then goes to the other stream, or is discarded if both streams are
    closed.

    Args:
        lost: A function that is called once per closed stream, with 1 for stdout or 2 for stderr.
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
