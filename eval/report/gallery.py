"""The images of the report, stored in the page itself, each with its nearest training images.

Small images are kept pixel by pixel (PNG). Larger images are reduced and stored as JPEG.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eval.scores.neighbours import nearest
from eval.sets.opening import BANK
from shards.errors import printable
from shards.pixels.resize import to_image
from shards.reader import ShardSet

SHOWN = 6
"""Largest number of images that are shown at each end of a set's scores."""
NEIGHBOURS = 5
"""Number of nearest training images that are shown for each image."""
SMALL_PX = 64
"""Largest side in pixels of an image that is shown pixel by pixel."""
THUMBNAIL_PX = 112
"""Longest side in pixels of a reduced image. A screen with double pixel density shows it at 56 px.
"""
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Picture:
    """An image that is stored in the page."""

    uri: str
    """The image as a data URI."""
    is_small: bool
    """True if the image was not reduced and has all its pixels."""


@dataclass(frozen=True)
class Sample:
    """An image of a set, with facts about it."""

    picture: Picture
    id: int
    name: str
    """Name of the image in its source."""
    of_class: str
    """Name of the class of the image. "" if the set has no labels."""
    value: float
    """Score of the image. If the image is shown as a neighbour of another image, the cosine between
    the two."""
    neighbours: tuple[Sample, ...] = ()
    """The nearest training images, beginning with the nearest."""


@dataclass(frozen=True)
class Ends:
    """The images at the two ends of a set's scores."""

    most: list[Sample]
    """Images with the highest scores, in descending order."""
    least: list[Sample]
    """Images with the lowest scores, in ascending order."""


def picture(image: Image.Image) -> Picture:
    """Return an image as a data URI. An image of more than `SMALL_PX` is reduced."""
    is_small = max(image.size) <= SMALL_PX
    data = io.BytesIO()
    if is_small:
        image.save(data, "PNG", optimize=True)
    else:
        image = image.copy()
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
        image.save(data, "JPEG", quality=JPEG_QUALITY)
    kind = "png" if is_small else "jpeg"
    return Picture(
        f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}", is_small
    )


class Gallery:
    """Reads the images to show. The image names of a set are read only once."""

    def __init__(self, sets: Mapping[str, ShardSet], features: Mapping[str, Tensor] | None) -> None:
        """Store the sets from which images are shown.

        Args:
            sets: name -> set, for the bank and the sets that were scored.
            features: features of each set, float32 [N, d]. None if no neighbours are shown.
        """
        self._sets = sets
        self._features = features
        self._names: dict[str, list[str]] = {}

    def ends(
        self, name: str, scores: NDArray[np.float64], ids: NDArray[np.int64] | None = None
    ) -> Ends:
        """Return the images with the highest and the images with the lowest scores.

        No image is in both lists. Images with equal scores are in the order of their ids.

        Args:
            name: name of the set.
            scores: float64 [N]. A higher score means more OOD.
            ids: ids of the N images, int64. None for all images of the set.
        """
        ids = np.arange(len(scores)) if ids is None else ids
        count = min(SHOWN, -(-len(scores) // 2))
        order = np.argsort(scores, kind="stable")
        most = np.argsort(-scores, kind="stable")[:count]
        least = order[: min(count, len(scores) - count)]
        return Ends(*(self._scored(name, ids[rows], scores[rows]) for rows in (most, least)))

    def _scored(
        self, name: str, ids: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> list[Sample]:
        near: Iterable[tuple[Sample, ...]] = [()] * len(ids)
        if self._features is not None and len(ids):
            bank = self._features[BANK]
            shown = self._features[name][torch.from_numpy(ids)]
            cosines, found = nearest(shown, bank, min(NEIGHBOURS, len(bank)), (name, BANK))
            rows = zip(found.cpu().numpy(), cosines.cpu().numpy(), strict=True)
            near = [tuple(self._samples(BANK, *row)) for row in rows]
        return self._samples(name, ids, scores, near)

    def _samples(
        self,
        name: str,
        ids: NDArray[np.int64],
        values: NDArray[np.floating],
        neighbours: Iterable[tuple[Sample, ...]] | None = None,
    ) -> list[Sample]:
        shards = self._sets[name]
        if name not in self._names:
            self._names[name] = shards.names()
        names = self._names[name]
        classes: Sequence[str] = [""] * len(ids)
        if shards.manifest.classes:
            classes = [shards.manifest.classes[label] for label in shards.labels(ids)]
        return [
            Sample(
                picture(to_image(pixels)), int(i), printable(names[i]), of_class, float(value), near
            )
            for pixels, i, of_class, value, near in zip(
                shards.read(ids),
                ids,
                classes,
                values,
                neighbours or [()] * len(ids),
                strict=True,
            )
        ]
