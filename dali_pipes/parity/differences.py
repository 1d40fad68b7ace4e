"""The differences between an engine's views and the reference, and the limits for them.

All differences are in levels of 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limit:
    """The largest differences that are allowed, in levels of 0..255.

    The fields are limits for the fields of `Row` with the same names. None means that there is no
    limit, and that the difference is only shown.
    """

    mean: float | None = None
    view: float | None = None
    worst: float | None = None

    def __str__(self) -> str:
        """Return the three limits as the table shows them, such as "0.5 / - / 12"."""
        limits = (self.mean, self.view, self.worst)
        if limits == (None, None, None):
            return "-"
        return " / ".join("-" if limit is None else f"{limit:g}" for limit in limits)


OPERATION = Limit(mean=0.5, worst=12)
"""The limit for any other operation alone."""
DALI_RESIZE = Limit(mean=0.5, worst=16)
"""The limit for a resize with DALI. Beyond the border, DALI repeats the border pixel, while Pillow
leaves weights out. This makes differences of up to 14 levels near a border."""
BLUR_MEAN = 0.6
BLUR = Limit(mean=BLUR_MEAN)
"""The limit for a blur. Pillow's blur consists of three box filters. Each filter rounds its result
and repeats the border pixels, so the blur differs from one with a single kernel."""
DALI_VIEW = Limit(mean=1.0)
"""The limit for a whole view of the engine `dali`. Its jitter consists of two affine maps and clips
after each of them, while the reference clips four times."""
FLOAT_NOISE = 1e-3
"""The tolerance when a difference is compared with a limit, in levels. Normalising a view and
undoing the normalisation changes it by 1e-5."""
EXACT = Limit(mean=0, worst=0)
"""The limit for shifts that only move pixels: no difference is allowed."""
STATED = Limit()
"""A limit that allows everything: the differences are only shown, not judged."""


@dataclass(frozen=True)
class Row:
    """The result of one comparison: absolute differences over all views, in levels of 0..255."""

    operation: str
    sources: str
    """The side and colours of the input images, and the side of the views if it is another."""
    engine: str
    mean: float
    """The mean difference over all views."""
    view: float
    """The mean difference of the view that differs most. It shows an error in a rare case, which
    would hardly change `mean`."""
    worst: float
    """The largest difference of a single level."""
    mean_pillow: float | None
    """The mean difference from the reference that uses Pillow's enhancers for the jitter; None if
    it was not computed."""
    limit: Limit

    @property
    def passed(self) -> bool:
        """True if no difference exceeds its limit."""
        pairs = (
            (self.mean, self.limit.mean),
            (self.view, self.limit.view),
            (self.worst, self.limit.worst),
        )
        return all(limit is None or value <= limit + FLOAT_NOISE for value, limit in pairs)

    @property
    def verdict(self) -> str:
        """The verdict that the table shows: "pass", "FAIL", or "stated" if there is no limit."""
        if self.limit == STATED:
            return "stated"
        return "pass" if self.passed else "FAIL"


def difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Return the absolute differences between two arrays of views, [B, s, s, C].

    Returns:
        The mean difference of all views, the mean difference of the view that differs most, and the
        largest difference of a single level.
    """
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    apart = np.abs(ours.astype(np.float32) - theirs)
    views = apart.mean((1, 2, 3))
    return float(views.mean()), float(views.max()), float(apart.max())
