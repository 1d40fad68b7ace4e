"""The options of `python -m dali_pipes.parity`."""

from __future__ import annotations

from dataclasses import dataclass, fields

from shards.errors import UserError


@dataclass(frozen=True)
class ParityConfig:
    """The size of the comparison."""

    images: int = 64
    """Number of photographs in each row of the table; each has its own parameters."""
    draws: int = 20_000
    """Number of draws for each distribution."""
    seed: int = 0
    """Seed of all random parameters."""

    def check(self) -> None:
        """Refuse numbers with which nothing can be compared.

        Raises:
            UserError: a number is too small; the message names it.
        """
        for field in fields(self):
            least = 0 if field.name == "seed" else 1
            value = getattr(self, field.name)
            if value < least:
                raise UserError(f"{field.name} is {value}, expected at least {least}")
