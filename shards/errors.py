"""The error class for mistakes that a user can correct, and helpers to write its messages."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec


class UserError(Exception):
    """A mistake in a command, a file or a folder that the user can correct.

    The message is one line that names the field or file, its value, and what was expected. A
    command prints the message without a traceback and exits with status 2.
    """


def printable(text: str) -> str:
    """Return `text` with each unprintable character replaced by its backslash escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def few(values: Sequence[object], most: int = 5) -> str:
    """Return the first `most` values as text, and the number of the others: `3, 5 and 12 more`."""
    more = len(values) - most
    return ", ".join(map(str, values[:most])) + (f" and {more:,} more" if more > 0 else "")


def check_installed(extra: str, *packages: str) -> None:
    """Check that packages of an optional extra of this project are installed.

    Args:
        extra: The name of the extra, as in `pip install -e .[extra]`.
        packages: The names of the packages, which are also their import names.

    Raises:
        UserError: A package is not installed; the message says how to install it.
    """
    for name in packages:
        if find_spec(name) is None:
            raise UserError(
                f"{name} is not installed: pip install {name}, or with this project: "
                f"pip install -e .[{extra}]"
            )
