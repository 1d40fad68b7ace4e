"""The contract between the loader and the trainer: what views are asked for, and what a step gets.

Legend: B images a rank, S negative sources, N local views, G and L the sides of a global and a
local view in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shards.errors import UserError

if TYPE_CHECKING:  # command lines are parsed with this module, before torch is imported
    from torch import Tensor

GLOBAL_VIEWS = 2
"""Positive global views of an image (paper, section 4); a negative source has one."""

RGB_MEAN = (123.675, 116.28, 103.53)
RGB_STD = (58.395, 57.12, 57.375)
"""ImageNet's statistics in levels of 0..255; views are normalised with them whatever the data."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma (ITU-R 601, as in Pillow)."""

BLUR_MOST_PX = 20.0
"""Strongest blur of a view, as a deviation."""

BLACK = tuple(-mean / std for mean, std in zip(RGB_MEAN, RGB_STD, strict=True))
WHITE = tuple((255 - mean) / std for mean, std in zip(RGB_MEAN, RGB_STD, strict=True))
"""Levels 0 and 255 in a normalised view, by channel."""


@dataclass(frozen=True)
class ViewSpec:
    """How many views, how large, and the ranges of the transformations T (method: DINO's).

    Ranges are uniform. Scales are fractions of the image's area. Probabilities are per view.
    """

    global_px: int = 256
    """Side G of a global view, in pixels; also the size that evaluation uses."""
    local_px: int = 128
    """Side L of a local view, in pixels."""
    local_views: int = 8
    """N, of the positive images and of each negative source (paper, section 4)."""
    global_scale: tuple[float, float] = (0.4, 1.0)
    """Area of a global crop."""
    local_scale: tuple[float, float] = (0.15, 0.4)
    """Area of a local crop."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of a crop, log-uniform."""
    flip_p: float = 0.5
    """Probability of a horizontal flip."""
    jitter_p: float = 0.8
    """Probability of colour jitter."""
    brightness: float = 0.4
    """The brightness factor is drawn from 1 -+ this."""
    contrast: float = 0.4
    """The contrast factor, about the view's mean luma, is drawn from 1 -+ this."""
    saturation: float = 0.2
    """The saturation factor is drawn from 1 -+ this."""
    hue_deg: float = 36.0
    """The hue turns by an angle within -+ this (torchvision's 0.1 of a full turn)."""
    gray_p: float = 0.2
    """Probability of losing all colour."""
    blur_p: tuple[float, float, float] = (1.0, 0.1, 0.5)
    """Probability of Gaussian blur: first global view, second global view, local views."""
    blur_sigma_px: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the blur, in pixels of the view."""
    solarize_p: float = 0.2
    """Probability of inverting levels of 128 and more, in the second global view."""
    photometric_space: Literal["auto", "source", "view"] = "auto"
    """Whether jitter and blur act on the crop before its resize (fewer pixels to touch when a small
    source is enlarged; the blur is scaled with the crop) or on the resized view."""

    shift_space: Literal["view", "source"] = "view"
    """Whether the transformation of a negative source acts on its views (as the authors' code) or
    on its images, before the crop."""

    def works_in_source_space(self, source_px: int) -> bool:
        """Whether jitter and blur act before the resize, for sources of this side."""
        if self.photometric_space == "auto":
            return source_px <= self.local_px
        return self.photometric_space == "source"

    def check(self) -> None:
        """Refuse values that no view can be made from.

        Raises:
            UserError: names the field and its value.
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

    They are of the loader's dtype, float32 or bfloat16. How their pixels lie in memory is the
    engine's choice: channel after channel, or all channels of a pixel together.

    The positive views come first, then those of each negative source in the strategy's order, so
    that the student takes all views of one size in one forward pass without a copy.
    """

    step: int
    global_views: Tensor
    """[2 + S, B, 3, G, G]"""
    local_views: Tensor
    """[N * (1 + S), B, 3, L, L]"""
    in_dist_ids: Tensor
    """int64 [B] on the CPU: the images behind the positive views (and in-dist negatives)."""
    aux_ids: Tensor | None
    """int64 [B] on the CPU: the images behind auxiliary negatives; None without an aux stream."""

    @property
    def negative_sources(self) -> int:
        """S."""
        return self.global_views.shape[0] - GLOBAL_VIEWS

    @property
    def local_positives(self) -> int:
        """N."""
        return self.local_views.shape[0] // (1 + self.negative_sources)

    @property
    def pos_global(self) -> Tensor:
        """[2, B, 3, G, G]: what the teacher sees."""
        return self.global_views[:GLOBAL_VIEWS]

    @property
    def pos_local(self) -> Tensor:
        """[N, B, 3, L, L]."""
        return self.local_views[: self.local_positives]

    @property
    def neg_global(self) -> Tensor:
        """[S, B, 3, G, G]: one view a source."""
        return self.global_views[GLOBAL_VIEWS:]

    @property
    def neg_local(self) -> Tensor:
        """[N * S, B, 3, L, L]: source after source."""
        return self.local_views[self.local_positives :]
