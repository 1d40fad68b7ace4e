"""Mistakes of a user, and how values stand in a message."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """A mistake in a command, a file or a folder that the user can mend.

    The message is one line that names the field or file, its value, and what was expected. A
    command line prints it without a traceback and exits with status 2.
    """


def printable(text: str) -> str:
    """The text with what a terminal would obey, or cannot show, as a backslash escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def few(values: Sequence[object], most: int = 5) -> str:
    """The first of the values: `3, 5, 8 and 12 more`."""
    more = len(values) - most
    return ", ".join(map(str, values[:most])) + (f" and {more:,} more" if more > 0 else "")
