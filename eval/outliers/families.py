"""The families of synthetic outliers: the ways in which a normal image is spoiled.

The strength of each family stands in its function. Lengths are shares of a side, so that a family
is as strong in small images as in large ones. Images have at least 8 px along each side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from eval.outliers.geometry import (
    place,
    quarter_turn,
    quarters,
    scale,
    swell,
    upside_down,
    warp,
)
from eval.outliers.levels import blur, brightness, channels, hue, noise
from eval.outliers.pictures import Picture
from eval.outliers.pieces import blot, half, paste, scratch

Spoil = Callable[[Picture, Picture, np.random.Generator], Picture]
"""A function (image, other, rng) -> spoiled image, all of one shape. `other` is another normal
image, of which some families take pieces. `rng` draws the parameters. The image and the other are
not changed."""


@dataclass(frozen=True)
class Family:
    """A family of synthetic outliers."""

    spoil: Spoil
    """The function that spoils an image."""
    about: str
    """What a detector sees if it tells these outliers from normal images. It completes the
    sentences "sees ..." and "does not see ..."."""
    needs_colour: bool = False
    """True if the family is defined only for RGB images."""


FAMILIES: Mapping[str, Family] = {
    "paste": Family(paste, "pieces of other images"),
    "half": Family(half, "halves of other images"),
    "quarters": Family(quarters, "exchanged quarters"),
    "warp": Family(warp, "bent shapes"),
    "swell": Family(swell, "swollen and shrunken parts"),
    "scratch": Family(scratch, "scratches"),
    "blot": Family(blot, "blots"),
    "upside-down": Family(upside_down, "images that are upside down"),
    "quarter-turn": Family(quarter_turn, "images that lie on their side"),
    "channels": Family(channels, "changes of colour", needs_colour=True),
    "hue": Family(hue, "changes of hue", needs_colour=True),
    "blur": Family(blur, "blur"),
    "noise": Family(noise, "noise"),
    "scale": Family(scale, "changes of scale"),
    "place": Family(place, "content in another place"),
    "brightness": Family(brightness, "changes of brightness"),
}
"""Name of a family -> the family."""
