"""The error that a user can mend, and the form of values in its message."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec


class UserError(Exception):
    """A mistake in a command, a file or a folder that the user can mend.

    The message is one line that names the field or file, its value, and what was expected. A
    command line prints it without a traceback and exits with status 2.
    """


def printable(text: str) -> str:
    """Return the text with a backslash escape for each character that a terminal cannot show."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def few(values: Sequence[object], most: int = 5) -> str:
    """Return the first values as text: `3, 5, 8 and 12 more`."""
    more = len(values) - most
    return ", ".join(map(str, values[:most])) + (f" and {more:,} more" if more > 0 else "")


def check_installed(extra: str, *packages: str) -> None:
    """Refuse to go on without the packages of an extra of this project.

    Raises:
        UserError: One is not installed; the message says how to install it.
    """
    for name in packages:
        if find_spec(name) is None:
            raise UserError(
                f"{name} is not installed: pip install {name}, or with this project: "
                f"pip install -e .[{extra}]"
            )
