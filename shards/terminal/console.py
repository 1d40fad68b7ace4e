"""Rich's console for tables and progress.

It has its own file because some commands must not import Rich, which they do not need.
"""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from rich.console import Console


class Terminal(Console):
    """Rich's console, changed so that printing to a closed stream raises `BrokenPipeError`."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise `BrokenPipeError`, as `print` does. Rich itself would end the process.

        Raises:
            BrokenPipeError: Always.
        """
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
