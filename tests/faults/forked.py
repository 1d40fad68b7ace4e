"""What a process that was forked for a job does, whichever server forked it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable


def in_child(body: Callable[[], object]) -> None:
    """Run what a forked process is for, and end it."""
    status = 1
    try:
        body()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(status)
