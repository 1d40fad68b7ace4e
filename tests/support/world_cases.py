"""Stand-ins for ranks, without a process group."""

from __future__ import annotations

from dataclasses import dataclass, field

from shards.errors import UserError
from train.world import World


@dataclass(frozen=True)
class OneOfTwo(World):
    """A rank that compares each value with the first value that this object got for it."""

    seen: dict[str, str] = field(default_factory=dict)

    def check_equal(self, what: str, value: str) -> None:
        if self.seen.setdefault(what, value) != value:
            raise UserError(f"{what} differs")
