"""How long a test waits for another process: against hanging alone, for a busy machine is slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT_S = 900.0


def wait_until(condition: Callable[[], T], what: str, every_s: float = 0.005) -> T:
    """Wait until `condition` gives something true; what it gives.

    Raises:
        TimeoutError: it does not; names `what`.
    """
    until_s = time.monotonic() + LIMIT_S
    while not (found := condition()):
        if time.monotonic() > until_s:
            raise TimeoutError(what)
        time.sleep(every_s)
    return found
