"""The rounds of a benchmark. In a round, all peers are timed once, one after the other."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from shards.errors import UserError


def chosen_peers(asked: Sequence[str], known: Iterable[str]) -> list[str]:
    """Return the peers of the option `--peers`, or all known peers if it names none.

    Raises:
        UserError: a peer is unknown.
    """
    names = list(known)
    for name in asked:
        if name not in names:
            raise UserError(f"--peers has {name!r}, expected some of {', '.join(names)}")
    return list(asked) or names


def time_rounds(
    names: Sequence[str], seconds_of: Callable[[str], float], rounds: int
) -> dict[str, list[float]]:
    """Time every peer once in each round, and print each round.

    Args:
        names: names of the peers.
        seconds_of: a function that runs the peer of a name once and returns its seconds.
        rounds: number of rounds.

    Returns:
        The seconds of each peer, one number for each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name, found in seconds.items():
            found.append(seconds_of(name))
        shown = "  ".join(f"{name} {found[-1]:.2f}" for name, found in seconds.items())
        print(f"round {number + 1}/{rounds}, seconds: {shown}", flush=True)
    return seconds


def ratio(name: str, over: Sequence[float], under: Sequence[float]) -> dict[str, object]:
    """Return the ratio `over` / `under` of two peers, which is computed in each round.

    Returns:
        `name` -> the median over the rounds; `name`_min_max -> the smallest and the largest ratio.
    """
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return {
        name: round(statistics.median(ratios), 3),
        f"{name}_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
    }
