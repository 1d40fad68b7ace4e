"""The contract between loader and trainer: the views that a run asks for, and the batch of a step.

Legend: B images per rank, S negative branches, N local views per image, G the side of a global view
and L the side of a local view in pixels. A negative branch makes negative views of one image per
position in the batch (`negatives.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shards.errors import UserError

if TYPE_CHECKING:  # command lines are parsed with this module, before torch is imported
    from torch import Tensor

GLOBAL_VIEWS = 2
"""The number of positive global views per image (paper, section 4). A negative branch makes one
global view per image."""

RGB_MEAN = (123.675, 116.28, 103.53)
RGB_STD = (58.395, 57.12, 57.375)
"""The mean and standard deviation of ImageNet's pixels per channel, in levels of 0..255. The views
of every data set are normalised with these values."""

LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in the luma (ITU-R 601; Pillow uses the same weights)."""

BLUR_MOST_PX = 20.0
"""The largest standard deviation of the blur of a view, in pixels."""

BLACK = tuple(-mean / std for mean, std in zip(RGB_MEAN, RGB_STD, strict=True))
WHITE = tuple((255 - mean) / std for mean, std in zip(RGB_MEAN, RGB_STD, strict=True))
"""The values that the levels 0 and 255 have in a normalised view, per channel."""


@dataclass(frozen=True)
class ViewSpec:
    """The number and size of the views, and the ranges of DINO's random transformations T.

    A value is drawn uniformly from its range, if nothing else is stated. Probabilities are per
    view.
    """

    global_px: int = 256
    """Side of a global view, in pixels. Evaluation uses images of this size too."""
    local_px: int = 128
    """Side of a local view, in pixels."""
    local_views: int = 8
    """Number of positive local views per image, and also of negative local views per image and
    negative branch (paper, section 4)."""
    global_scale: tuple[float, float] = (0.4, 1.0)
    """Area of a global crop, as a fraction of the image's area."""
    local_scale: tuple[float, float] = (0.15, 0.4)
    """Area of a local crop, as a fraction of the image's area."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width of a crop divided by its height; its logarithm is drawn uniformly."""
    flip_p: float = 0.5
    """Probability of a horizontal flip."""
    jitter_p: float = 0.8
    """Probability of colour jitter."""
    brightness: float = 0.4
    """Half width of the range of the brightness factor, which is drawn from 1 - this value to 1 +
    this value."""
    contrast: float = 0.4
    """Half width of the range of the contrast factor, which is drawn from 1 - this value to 1 +
    this value. The factor scales the differences from the view's mean luma."""
    saturation: float = 0.2
    """Half width of the range of the saturation factor, which is drawn from 1 - this value to 1 +
    this value."""
    hue_deg: float = 36.0
    """Largest angle by which the hue is turned in either direction, in degrees. 36 is torchvision's
    0.1 of a full turn."""
    gray_p: float = 0.2
    """Probability that a view becomes gray."""
    blur_p: tuple[float, float, float] = (1.0, 0.1, 0.5)
    """Probabilities of Gaussian blur: for the first global view, for the second global view, and
    for local views."""
    blur_sigma_px: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the blur, in pixels of the view."""
    solarize_p: float = 0.2
    """Probability of solarization in the second global view. Solarization inverts levels of 128 and
    more."""
    photometric_space: Literal["auto", "source", "view"] = "auto"
    """Place at which colour jitter and blur act. source = on the crop before it is resized, which
    is faster if small images are enlarged (the blur is scaled accordingly); view = on the resized
    view; auto = source for images that are at most as large as a local view, and view for others.
    """

    shift_space: Literal["view", "source"] = "view"
    """Place at which the shifting transformation of negatives acts. view = on the views, as in the
    authors' code; source = on the whole image, before the crop."""

    def works_in_source_space(self, image_px: int) -> bool:
        """Return True if jitter and blur act before the resize, for images of side `image_px`."""
        if self.photometric_space == "auto":
            return image_px <= self.local_px
        return self.photometric_space == "source"

    def check(self) -> None:
        """Check that views can be made with these values.

        Raises:
            UserError: A value is out of range; the message names the field.
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
    """All views of one training step on one rank, normalised, on the training device.

    The first axis of a tensor of views counts the views, and the second axis counts the images. The
    positive views come first. The views of each negative branch follow, in the order of the
    strategy. So the student can take all views of one size in one forward pass, without a copy.

    The dtype of the views is float32 or bfloat16, as the loader was told. Their memory format,
    contiguous or channels-last, depends on the engine.
    """

    step: int
    global_views: Tensor
    """All global views, [2 + S, B, 3, G, G]."""
    local_views: Tensor
    """All local views, [N * (1 + S), B, 3, L, L]."""
    in_dist_ids: Tensor
    """int64 [B] on the CPU: the ids of the in-distribution samples, from which the positive views
    (and in-distribution negatives) are made."""
    aux_ids: Tensor | None
    """int64 [B] on the CPU: the ids of the auxiliary samples, from which auxiliary negatives are
    made. None if the run has no auxiliary set."""

    @property
    def negative_branches(self) -> int:
        """The number of negative branches, S."""
        return self.global_views.shape[0] - GLOBAL_VIEWS

    @property
    def local_positives(self) -> int:
        """The number of positive local views per image, N."""
        return self.local_views.shape[0] // (1 + self.negative_branches)

    @property
    def pos_global(self) -> Tensor:
        """The positive global views, [2, B, 3, G, G]. The teacher sees only these views."""
        return self.global_views[:GLOBAL_VIEWS]

    @property
    def pos_local(self) -> Tensor:
        """The positive local views, [N, B, 3, L, L]."""
        return self.local_views[: self.local_positives]

    @property
    def neg_global(self) -> Tensor:
        """The negative global views, [S, B, 3, G, G], one view per branch."""
        return self.global_views[GLOBAL_VIEWS:]

    @property
    def neg_local(self) -> Tensor:
        """The negative local views, [N * S, B, 3, L, L]. Each branch has N adjacent views."""
        return self.local_views[self.local_positives :]
