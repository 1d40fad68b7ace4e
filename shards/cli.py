"""What all command lines of the project share: how a mistake of the user is told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro


class UserError(Exception):
    """A mistake in a command, a file or a folder that the user can mend.

    The message is one line that names the field or file, its value, and what was expected. A
    command line prints it without a traceback and exits with status 2.
    """


def parse(kind: Any, argv: Sequence[str] | None, **options: Any) -> Any:
    """Fill `kind`, a dataclass, from the command line by tyro, whose other `options` are passed on.

    Raises:
        UserError: an option that `kind` does not have.
    """
    value, unknown = tyro.cli(kind, args=argv, return_unknown_args=True, **options)
    if unknown:
        raise UserError(f"unknown option {unknown[0]}; --help shows those that there are")
    return value


def printable(text: str) -> str:
    """The text with what a terminal would obey, or cannot show, as a backslash escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def few(values: Sequence[object], most: int = 5) -> str:
    """The first of the values: `3, 5, 8 and 12 more`."""
    more = len(values) - most
    return ", ".join(map(str, values[:most])) + (f" and {more:,} more" if more > 0 else "")


def run(main: Callable[[], object]) -> None:
    """Call `main`; a `UserError` is one line on stderr and exit status 2.

    So is what the system refuses (a full disk, a missing permission): its message names the file.
    """
    try:
        main()
    except (UserError, OSError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)
        sys.exit(2)
    except MemoryError:
        print("error: out of memory", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)
