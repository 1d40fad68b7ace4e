"""Rich's console for tables and progress, apart from what every command needs."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from rich.console import Console


class Terminal(Console):
    """Rich's console; that nobody reads it any more is an error as of any other `print`."""

    def on_broken_pipe(self) -> NoReturn:
        """Rich would end the process, with status 1."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
