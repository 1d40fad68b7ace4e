"""Rich's console for tables and progress; a file of its own, because not all commands need Rich."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from rich.console import Console


class Terminal(Console):
    """Rich's console, on which a closed stream raises the same error as at any other `print`."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise, where Rich would end the process with status 1."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
