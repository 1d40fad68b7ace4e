"""What a detector sees: its AUROC on each family of synthetic outliers, in words and as a table."""

from __future__ import annotations

from collections.abc import Mapping

from eval.intervals import Interval
from eval.outliers.families import FAMILIES

SEES_FROM, BLIND_BELOW = 0.8, 0.6
"""AUROC from which a detector sees a family, and below which it does not see it."""


def useless(sight: Mapping[str, Interval]) -> str | None:
    """Return a warning if a detector sees no family of synthetic outliers, otherwise None.

    Args:
        sight: family -> AUROC of the detector.
    """
    if not sight or any(auroc.value >= BLIND_BELOW for auroc in sight.values()):
        return None
    return (
        f"This detector is useless: it sees none of {len(sight)} kinds of synthetic outliers "
        f"(AUROC below {100 * BLIND_BELOW:.0f} % on each)"
    )


def in_words(sight: Mapping[str, Interval]) -> list[str]:
    """Return sentences, without a full stop, that say what a detector sees and what it does not.

    Args:
        sight: family -> AUROC of the detector.
    """
    kinds: dict[str, list[str]] = {"sees": [], "hardly sees": [], "does not see": []}
    for name, auroc in sorted(sight.items(), key=lambda item: -item[1].value):
        seen = auroc.value >= BLIND_BELOW
        kind = ("sees" if auroc.value >= SEES_FROM else "hardly sees") if seen else "does not see"
        kinds[kind].append(FAMILIES[name].about)
    return [f"It {kind} {_listed(what)}" for kind, what in kinds.items() if what]


def as_table(sight: Mapping[str, Interval]) -> list[str]:
    """Return one line per family: its name, and the AUROC in % with its 95 % interval."""
    return [
        f"{name:14} {100 * auroc.value:6.2f}  ({100 * auroc.low:.2f} to {100 * auroc.high:.2f})"
        for name, auroc in sight.items()
    ]


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
