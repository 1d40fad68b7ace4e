"""What all command lines of the project share: how a mistake of the user is told."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in a command, a file or a folder that the user can mend.

    The message is one line that names the field or file, its value, and what was expected. A
    command line prints it without a traceback and exits with status 2.
    """


def run(main: Callable[[], object]) -> None:
    """Call `main`; a `UserError` is one line on stderr and exit status 2.

    So is what the system refuses (a full disk, a missing permission): its message names the file.
    """
    try:
        main()
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)
