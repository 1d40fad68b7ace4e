"""What a drill is given: how much to do, where to work, and where to tell what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class Trial:
    """One run of one drill."""

    folder: Path
    """Empty; removed afterwards."""
    is_long: bool
    seed: int
    checks: int = 0
    failures: list[str] = field(default_factory=list)

    def count(self, short: int, long: int) -> int:
        """How many of something, in a short and in a long run."""
        return long if self.is_long else short

    def rng(self, stream: int = 0) -> np.random.Generator:
        """Random numbers that depend on the seed and `stream` alone."""
        return np.random.default_rng([self.seed, stream])

    def expect(self, holds: object, otherwise: str) -> bool:
        """Note a failure unless `holds`; `otherwise` says what was tried, so that it can be again.

        Returns:
            Whether it holds, to count by.
        """
        self.checks += 1
        if not holds:
            self.failures.append(otherwise)
        return bool(holds)


Drill = Callable[[Trial], dict[str, object]]
"""Tries everything, tells what failed by `Trial.expect`, and returns its figures by name."""
