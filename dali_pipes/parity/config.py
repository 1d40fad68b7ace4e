"""The options of `python -m dali_pipes.parity`."""

from __future__ import annotations

from dataclasses import dataclass, fields

from shards.errors import UserError


@dataclass(frozen=True)
class ParityConfig:
    """The options of the comparison."""

    images: int = 64
    """Number of images per row of the table. Each image is made into a view with its own
    parameters."""
    draws: int = 20_000
    """Number of draws per distribution."""
    seed: int = 0
    """Seed of all random parameters."""

    def check(self) -> None:
        """Check that a comparison can be made with these values.

        Raises:
            UserError: A value is too small; the message names the field.
        """
        for field in fields(self):
            least = 0 if field.name == "seed" else 1
            value = getattr(self, field.name)
            if value < least:
                raise UserError(f"{field.name} is {value}, expected at least {least}")
