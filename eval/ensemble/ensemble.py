"""An ensemble: the weighted sum of the z-scores of its members, tuned without one real outlier.

Held-out normal images are divided in two parts. The *tuning part* gives the moments of the z-scores
and, with synthetic outliers made of its images, the weights. The other part takes no part in any
choice, so that p-values and AUROC that are computed from it are valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eval.ensemble.members import FeaturesOf, Member, fit_members, member_scores
from eval.ensemble.sources import Source
from eval.ensemble.weights import Moments, weights_of
from eval.features.in_memory import ImagesInMemory
from eval.intervals import Interval
from eval.metrics import auroc_interval
from eval.outliers.contact_sheet import contact_sheet
from eval.outliers.tuning_images import SEED, TuningImages
from shards.errors import UserError

Float = NDArray[np.float64]
FEWEST_TUNING_IMAGES = 30
"""Smallest tuning part from which weights are computed. With fewer images all weights are equal."""


@dataclass(frozen=True)
class Ensemble:
    """A weighted sum of m members, or one score alone (m = 1)."""

    members: tuple[Member, ...]
    moments: Moments
    weights: Float
    """float64 [m], >= 0, with a sum of 1."""
    proxies: Mapping[str, tuple[Interval, ...]]
    """Family of synthetic outliers -> AUROC of each member between tuning images and outliers."""
    of_sum: Mapping[str, Interval]
    """Family -> AUROC of the weighted sum. The weights were chosen on the same images."""
    tuning: NDArray[np.uint8]
    """Images of the tuning part, uint8 [n, H, W, C]."""

    @property
    def tuning_images(self) -> int:
        """The number of images of the tuning part."""
        return len(self.tuning)

    def sheet(self) -> Image.Image:
        """Return a contact sheet of synthetic outliers: some tuning images, and each family."""
        return contact_sheet(self.tuning, SEED, self.tuning)

    @property
    def weighing(self) -> list[Member]:
        """The members with a weight above 0."""
        return [member for member, weight in zip(self.members, self.weights, strict=True) if weight]

    def terms(self, features_of: FeaturesOf) -> Float:
        """Return what each member with weight adds to the scores of N images.

        Args:
            features_of: features of the N images.

        Returns:
            float64 [N, k], a column for each of the k members of `weighing`. The score of an image
            is the sum of its row.
        """
        used = np.flatnonzero(self.weights)
        z = self.moments.of_members(used).z(member_scores(self.weighing, features_of))
        return z * self.weights[used]


def tuned(
    sources: Iterable[Source],
    of_bank: FeaturesOf,
    images: TuningImages,
    tell: Callable[[str], None],
    *,
    only: str | None = None,
) -> Ensemble:
    """Fit the members on the bank, and compute their moments and weights.

    Args:
        sources: sources of features, see `fit_members`.
        of_bank: features of the bank.
        images: the images of the tuning part, and the synthetic outliers that are made of them.
        tell: function that shows a line of text to the user.
        only: key of the one member to keep, without weights and moments. None for all members.

    Raises:
        UserError: there are fewer than 2 tuning images for an ensemble, no score can be fitted, or
            `only` is the key of no member.
    """
    if only is None and len(images.normal) < 2:
        raise UserError(
            f"{len(images.normal)} normal images are left to tune the ensemble, expected at least "
            "2; give more held-out images, or choose one score with --score"
        )
    everything = ImagesInMemory(images.everything)
    features: dict[str, Tensor] = {}

    def of_everything(source: Source) -> Tensor:
        if source.key not in features:
            ids = range(len(everything))
            features[source.key] = source.network.of_images(everything, ids)
        return features[source.key]

    def of_tuning(source: Source) -> Tensor:
        return of_everything(source)[: len(images.normal)]

    members = fit_members(sources, of_bank, of_tuning, tell)
    if only is not None:
        members = [member for member in members if member.key == only]
    if not members:
        raise UserError("no score can be fitted on the bank")
    scores = member_scores(members, of_everything)
    moments = Moments.none() if only else Moments.of(scores[: len(images.normal)])
    normal, *outliers = np.split(moments.z(scores), images.starts)
    is_turned = [len(member.parts) > 1 for member in members]
    weights = _weights(normal, outliers, is_turned, tell)
    return Ensemble(
        members=tuple(members),
        moments=moments,
        weights=weights,
        proxies={
            name: tuple(map(auroc_interval, normal.T, spoiled.T))
            for name, spoiled in zip(images.families, outliers, strict=True)
        },
        of_sum={
            name: auroc_interval(normal @ weights, spoiled @ weights)
            for name, spoiled in zip(images.families, outliers, strict=True)
        },
        tuning=images.normal,
    )


def _weights(
    normal: Float, outliers: Sequence[Float], is_turned: Sequence[bool], tell: Callable[[str], None]
) -> Float:
    members = normal.shape[1]
    if members > 1 and not outliers:
        tell("no synthetic outlier differs from its image, so all members have the same weight")
    elif members > 1 and not normal.any():
        tell(
            f"no score tells one of {len(normal)} tuning images from another (are they equal?), so "
            "all members have the same weight"
        )
    elif members > 1 and len(normal) < FEWEST_TUNING_IMAGES:
        tell(
            f"the ensemble is tuned on {len(normal)} images, fewer than {FEWEST_TUNING_IMAGES}, so "
            "all members have the same weight"
        )
    elif members > 1:
        return weights_of(normal, outliers, is_turned)
    return np.full(members, 1 / members)
