"""Differences between an engine's views and the reference, and the limits that they must keep.

All differences are in levels of 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limit:
    """The largest differences that pass, in levels; None = shown, but not judged."""

    mean: float | None = None
    view: float | None = None
    worst: float | None = None

    def __str__(self) -> str:
        """Return the limits as the table shows them."""
        limits = (self.mean, self.view, self.worst)
        if limits == (None, None, None):
            return "-"
        return " / ".join("-" if limit is None else f"{limit:g}" for limit in limits)


OPERATION = Limit(mean=0.5, worst=12)
DALI_RESIZE = Limit(mean=0.5, worst=16)
"""DALI's resize repeats the border pixel, where Pillow leaves weights out: this makes up to 14
levels beside a border."""
BLUR_MEAN = 0.6
BLUR = Limit(mean=BLUR_MEAN)
"""Pillow's blur is three box filters. It rounds and repeats the border for each of them."""
DALI_VIEW = Limit(mean=1.0)
"""DALI's jitter is two affine maps that clip once each; the reference clips four times."""
FLOAT_NOISE = 1e-3
"""Tolerance in levels: normalising a view and going back changes it by 1e-5."""
EXACT = Limit(mean=0, worst=0)
STATED = Limit()


@dataclass(frozen=True)
class Row:
    """One comparison: absolute differences over all views, in levels."""

    operation: str
    sources: str
    """Side and colours of the input images, and the side of the views where it differs."""
    engine: str
    mean: float
    view: float
    """Mean difference of the worst view, because an error in a rare case hardly changes `mean`."""
    worst: float
    """Largest difference of a single level."""
    mean_pillow: float | None
    """Mean difference from the reference that jitters with Pillow's own enhancers."""
    limit: Limit

    @property
    def passed(self) -> bool:
        """True if no limit is exceeded."""
        pairs = (
            (self.mean, self.limit.mean),
            (self.view, self.limit.view),
            (self.worst, self.limit.worst),
        )
        return all(limit is None or value <= limit + FLOAT_NOISE for value, limit in pairs)

    @property
    def verdict(self) -> str:
        """The word that the table shows: pass, FAIL, or stated where there is no limit."""
        if self.limit == STATED:
            return "stated"
        return "pass" if self.passed else "FAIL"


def difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Return the absolute differences of two arrays [B, s, s, C].

    Returns:
        The mean of all, the mean of the view that differs most, and the largest of one level.
    """
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    apart = np.abs(ours.astype(np.float32) - theirs)
    views = apart.mean((1, 2, 3))
    return float(views.mean()), float(views.max()), float(apart.max())
