"""The contract between loader and trainer: the views that a run asks for, and the batch of a step.

Legend: B images a rank, S negative branches, N local views, G and L the sides of a global and a
local view in pixels. A negative branch makes negative views of one set of images (`negatives.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shards.errors import UserError

if TYPE_CHECKING:  # command lines are parsed with this module, before torch is imported
    from torch import Tensor

GLOBAL_VIEWS = 2
"""Positive global views of an image (paper, section 4); a negative branch makes one."""

RGB_MEAN = (123.675, 116.28, 103.53)
RGB_STD = (58.395, 57.12, 57.375)
"""ImageNet's mean and standard deviation, in levels of 0..255. All views are normalised with them,
whatever the data set."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma (ITU-R 601, the same as Pillow's)."""

BLUR_MOST_PX = 20.0
"""Strongest blur of a view: its standard deviation in pixels."""

BLACK = tuple(-mean / std for mean, std in zip(RGB_MEAN, RGB_STD, strict=True))
WHITE = tuple((255 - mean) / std for mean, std in zip(RGB_MEAN, RGB_STD, strict=True))
"""Values of the levels 0 and 255 in a normalised view, by channel."""


@dataclass(frozen=True)
class ViewSpec:
    """Number and size of the views, and the ranges of the transformations T (DINO's).

    Values are drawn uniformly from a range. Scales are fractions of the image's area.
    Probabilities are per view.
    """

    global_px: int = 256
    """Side G of a global view, in pixels; evaluation uses this size too."""
    local_px: int = 128
    """Side L of a local view, in pixels."""
    local_views: int = 8
    """Number N of local views of an image, for positives and for each negative branch (paper,
    section 4)."""
    global_scale: tuple[float, float] = (0.4, 1.0)
    """Area of a global crop, as a fraction of the image's area."""
    local_scale: tuple[float, float] = (0.15, 0.4)
    """Area of a local crop, as a fraction of the image's area."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width of a crop divided by its height, log-uniform in this range."""
    flip_p: float = 0.5
    """Probability of a horizontal flip."""
    jitter_p: float = 0.8
    """Probability of colour jitter."""
    brightness: float = 0.4
    """The brightness factor is drawn from 1 -+ this value."""
    contrast: float = 0.4
    """The contrast factor, about the view's mean luma, is drawn from 1 -+ this value."""
    saturation: float = 0.2
    """The saturation factor is drawn from 1 -+ this value."""
    hue_deg: float = 36.0
    """The hue turns by an angle within -+ this value (36 = torchvision's 0.1 of a full turn)."""
    gray_p: float = 0.2
    """Probability that a view becomes gray."""
    blur_p: tuple[float, float, float] = (1.0, 0.1, 0.5)
    """Probability of Gaussian blur for the first global view, the second global view and the local
    views."""
    blur_sigma_px: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the blur, in pixels of the view."""
    solarize_p: float = 0.2
    """Probability of solarization (levels of 128 and more are inverted) in the second global
    view."""
    photometric_space: Literal["auto", "source", "view"] = "auto"
    """Place of jitter and blur. source = they act on the crop before its resize, which is faster
    when small images are enlarged (the blur is scaled with the crop). view = they act on the
    resized view. auto = source for images up to the size of a local view."""

    shift_space: Literal["view", "source"] = "view"
    """Place of the shifting transformation of negatives. view = it acts on the views, as in the
    authors' code; source = it acts on the whole images, before the crop."""

    def works_in_source_space(self, image_px: int) -> bool:
        """Return True if jitter and blur act before the resize, for images of this side."""
        if self.photometric_space == "auto":
            return image_px <= self.local_px
        return self.photometric_space == "source"

    def check(self) -> None:
        """Refuse values from which no view can be made.

        Raises:
            UserError: a value is out of range; the message names the field.
        """
        for field in ("global_px", "local_px"):
            if getattr(self, field) < 1:
                raise UserError(f"views.{field} is {getattr(self, field)}, expected at least 1")
        if self.local_views < 0:
            raise UserError(f"views.local_views is {self.local_views}, expected at least 0")
        for field in ("global_scale", "local_scale"):
            low, high = getattr(self, field)
            if not 0 < low <= high <= 1:
                raise UserError(f"views.{field} is {low} {high}, expected 0 < low <= high <= 1")
        for field, most in (("crop_ratio", 100.0), ("blur_sigma_px", BLUR_MOST_PX)):
            low, high = getattr(self, field)
            if not 0 < low <= high <= most:
                raise UserError(
                    f"views.{field} is {low} {high}, expected 0 < low <= high <= {most:g}"
                )
        for field in ("flip_p", "jitter_p", "gray_p", "blur_p", "solarize_p"):
            value = getattr(self, field)
            if not all(0 <= p <= 1 for p in (value if isinstance(value, tuple) else (value,))):
                raise UserError(f"views.{field} is {value}, expected 0..1")
        if not 0 <= self.hue_deg <= 180:
            raise UserError(f"views.hue_deg is {self.hue_deg}, expected 0..180")
        for field in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f"views.{field} is {getattr(self, field)}, expected 0..1")


@dataclass(frozen=True)
class Batch:
    """All views of one step on one rank, view-major, normalised, on the training device.

    Their dtype is the loader's, float32 or bfloat16. Their memory format is the engine's choice:
    contiguous or channels-last.

    The positive views come first, then the views of each negative branch in the strategy's order.
    So the student takes all views of one size in one forward pass without a copy.
    """

    step: int
    global_views: Tensor
    """[2 + S, B, 3, G, G]"""
    local_views: Tensor
    """[N * (1 + S), B, 3, L, L]"""
    in_dist_ids: Tensor
    """int64 [B] on the CPU: sample ids of the positive views (and of in-dist negatives)."""
    aux_ids: Tensor | None
    """int64 [B] on the CPU: sample ids of auxiliary negatives; None without an aux stream."""

    @property
    def negative_branches(self) -> int:
        """S, the number of negative branches."""
        return self.global_views.shape[0] - GLOBAL_VIEWS

    @property
    def local_positives(self) -> int:
        """N, the number of local views of an image."""
        return self.local_views.shape[0] // (1 + self.negative_branches)

    @property
    def pos_global(self) -> Tensor:
        """Positive global views, [2, B, 3, G, G]; the teacher sees these alone."""
        return self.global_views[:GLOBAL_VIEWS]

    @property
    def pos_local(self) -> Tensor:
        """Positive local views, [N, B, 3, L, L]."""
        return self.local_views[: self.local_positives]

    @property
    def neg_global(self) -> Tensor:
        """Negative global views, [S, B, 3, G, G]: one for each branch."""
        return self.global_views[GLOBAL_VIEWS:]

    @property
    def neg_local(self) -> Tensor:
        """Negative local views, [N * S, B, 3, L, L]: branch after branch."""
        return self.local_views[self.local_positives :]
