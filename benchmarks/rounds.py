"""Peers that take turns in one process, and the ratios of what they took."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from shards.errors import UserError


def chosen(asked: Sequence[str], known: Iterable[str]) -> list[str]:
    """The peers of `--peers`, or all.

    Raises:
        UserError: there is no such peer.
    """
    names = list(known)
    for name in asked:
        if name not in names:
            raise UserError(f"--peers has {name!r}, there are: {', '.join(names)}")
    return list(asked) or names


def in_turn(
    names: Sequence[str], seconds_of: Callable[[str], float], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each peer in each round, said as they come."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name, found in seconds.items():
            found.append(seconds_of(name))
        shown = "  ".join(f"{name} {found[-1]:.2f}" for name, found in seconds.items())
        print(f"round {number + 1}/{rounds}, seconds: {shown}", flush=True)
    return seconds


def ratio(name: str, over: Sequence[float], under: Sequence[float]) -> dict[str, object]:
    """`name`, the median over the rounds, and `name_min_max`."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return {
        name: round(statistics.median(ratios), 3),
        f"{name}_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
    }
